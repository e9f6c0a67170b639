//! `sce`: task vectors selected by variance, weighted by energy, with elected signs.
//!
//! Of the elements over which the sources' task vectors vary at all, the share `select_topk` with the largest variance
//! stays. Each source's weight is its mean square among those of all (equal weights when all are tiny). Signs are elected
//! by the unweighted sum; what agrees is averaged by weight, the divisor being at least 1e-6.
//! Source: `mergekit/merge_methods/sce.py`.

use super::compute::{Put, blocks, each_block, map, zip};
use super::delta::Delta;
use super::mask::{Mask, Order};
use super::reduce::{self, Columns};
use super::task::{elect, sum_columns};
use super::values::{Compute, round_all};
use super::{Checked, Input};
use crate::merge::block::{BLOCK, Block};
use rayon::prelude::*;
use std::path::Path;

/// Weights whose sum is below this are all the same.
const TINY_SUM: f64 = 1e-6;
/// Least divisor.
const LEAST: f32 = 1e-6;

pub(super) fn merge(checked: &Checked, base: &Input, put: Put) {
    let compute = checked.call.compute;
    let sources: Vec<Delta> =
        checked.others.iter().map(|(input, _)| Delta::whole(input, base, compute)).collect();
    let share = checked.shared.number("select_topk").unwrap_or(1.0);
    let mut tensor = Tensor { compute, base, sources, kept: None };
    if share < 1.0 {
        tensor.kept = Some(tensor.select(checked.call.spill, checked.elements, share));
    }
    let weights = tensor.weights(checked.elements, checked.call.threads);
    let columns = Columns::new(compute, weights.len(), checked.elements);
    let least = compute.round(LEAST);
    each_block(
        checked,
        put,
        || (blocks(1), blocks(2 * weights.len()), blocks(1)),
        |(base_block, blocks, divisors), first, out| {
            let base_block = &mut base_block[0][..out.len()];
            base.values.read(compute, first, base_block);
            if weights.is_empty() {
                out.copy_from_slice(base_block);
                return;
            }
            let (terms, shares) = blocks.split_at_mut(weights.len());
            tensor.read(base_block, first, terms);
            sum_columns(compute, &columns, first, terms, out);
            elect(out, terms, &weights, shares);
            for (term, share) in terms.iter_mut().zip(shares.iter()) {
                zip(compute, &mut term[..out.len()], share, |x, w| x * w);
            }
            sum_columns(compute, &columns, first, terms, out);
            let divisors = &mut divisors[0][..out.len()];
            sum_columns(compute, &columns, first, shares, divisors);
            zip(compute, out, divisors, |x, d| x / d.max(least));
            zip(compute, out, base_block, |x, b| b + x);
        },
    );
}

struct Tensor<'a> {
    compute: Compute,
    base: &'a Input<'a>,
    sources: Vec<Delta<'a>>,
    kept: Option<Mask>,
}

impl Tensor<'_> {
    fn read(&self, base: &[f32], first: usize, terms: &mut [Block]) {
        for (source, term) in self.sources.iter().zip(terms) {
            let term = &mut term[..base.len()];
            source.read(base, first, term);
            if let Some(kept) = &self.kept {
                kept.apply(first, term);
            }
        }
    }

    /// Which elements vary most.
    fn select(&self, spill: Option<&Path>, elements: usize, share: f64) -> Mask {
        let variances = |first: usize, out: &mut [f32]| {
            let mut terms = blocks(self.sources.len());
            let mut base = [0.0; BLOCK];
            let base = &mut base[..out.len()];
            self.base.values.read(self.compute, first, base);
            self.read(base, first, &mut terms);
            variances(&terms, out);
            round_all(self.compute, out);
        };
        let varying: usize = (0..elements.div_ceil(BLOCK))
            .into_par_iter()
            .map(|b| {
                let mut block = [0.0; BLOCK];
                let block = &mut block[..(elements - b * BLOCK).min(BLOCK)];
                variances(b * BLOCK, block);
                block.iter().filter(|x| **x != 0.0).count()
            })
            .sum();
        // torch multiplies a count by a number in float32.
        let count = if share <= 0.0 { 0 } else { (varying as f32 * share as f32) as usize };
        Mask::ranks(elements, spill, self.compute, variances, |_, _, _| false, (0, count), Order::Largest)
    }

    /// Each source's share of the energy.
    fn weights(&self, elements: usize, threads: usize) -> Vec<f32> {
        let means: Vec<f32> = (0..self.sources.len())
            .into_par_iter()
            .map(|s| {
                let squares = |first: usize, out: &mut [f32]| {
                    let mut base = [0.0; BLOCK];
                    let base = &mut base[..out.len()];
                    self.base.values.read(self.compute, first, base);
                    self.sources[s].read(base, first, out);
                    if let Some(kept) = &self.kept {
                        kept.apply(first, out);
                    }
                    map(self.compute, out, |x| x * x);
                };
                // torch takes the mean of 16-bit numbers in float32; it splits only a sum that is the only one.
                let threads = if self.sources.len() == 1 { threads } else { 1 };
                let sum = reduce::sum(Compute::F32, threads, elements, &squares);
                self.compute.round(sum / elements as f32)
            })
            .collect();
        let sum = f64::from(self.compute.round(reduce::short(self.compute, &means)));
        let equal = self.compute.round(1.0 / means.len() as f32);
        let weight = |mean: f32| match sum.abs() < TINY_SUM {
            true => equal,
            false => self.compute.round(mean / sum as f32),
        };
        means.into_iter().map(weight).collect()
    }
}

/// The variance of each column of `terms`, by Welford's recurrence in float64.
fn variances(terms: &[Block], out: &mut [f32]) {
    for (i, out) in out.iter_mut().enumerate() {
        let (mut mean, mut squares) = (0.0f64, 0.0f64);
        for (n, term) in terms.iter().enumerate() {
            let x = f64::from(term[i]);
            let from_old = x - mean;
            mean += from_old / (n + 1) as f64;
            squares += from_old * (x - mean);
        }
        *out = (squares / terms.len() as f64) as f32;
    }
}
