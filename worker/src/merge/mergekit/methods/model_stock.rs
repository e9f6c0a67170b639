//! `model_stock`: the models' average, drawn towards the base by the mean cosine c between their task vectors.
//!
//! With n models the average's share is `n c / (1 + (n − 1) c)`, 0 where the divisor vanishes. The tensor is one
//! vector, or with `filter_wise` each row. Source: `mergekit/merge_methods/model_stock.py`.

use super::compute::{Put, blocks, each_block, map, zip};
use super::reduce::{self, Columns};
use super::values::{Compute, round_all};
use super::{Checked, Input};
use crate::merge::block::BLOCK;
use rayon::prelude::*;

/// Least product of two norms to divide by.
const LEAST_NORMS: f32 = 1e-6;
/// A divisor below this vanishes.
const VANISHES: f32 = 1e-6;

pub(super) fn merge(checked: &Checked, base: &Input, put: Put) {
    let compute = checked.call.compute;
    let length = match checked.call.shape {
        [_, .., last] if checked.shared.holds("filter_wise") => *last,
        _ => checked.elements,
    };
    let rows = Rows {
        compute,
        base,
        models: checked.others.iter().map(|(input, _)| *input).collect(),
        count: checked.elements.checked_div(length).unwrap_or(0),
        length,
        threads: checked.call.threads,
    };
    let shares = rows.shares();
    let n = rows.models.len() as f32;
    each_block(
        checked,
        put,
        || blocks(2),
        |scratch, first, out| {
            let [base_block, model] = scratch.as_mut_slice() else { return };
            let (base_block, model) = (&mut base_block[..out.len()], &mut model[..out.len()]);
            base.values.read(compute, first, base_block);
            out.fill(0.0);
            for input in &rows.models {
                input.values.read(compute, first, model);
                zip(compute, out, model, |sum, m| sum + m);
            }
            map(compute, out, |sum| sum / n);
            for (i, (average, b)) in out.iter_mut().zip(base_block).enumerate() {
                let share = shares[(first + i) / length];
                let rest = compute.round(1.0 - share);
                *average = compute.round(share * *average) + compute.round(rest * *b);
            }
            round_all(compute, out);
        },
    );
}

/// The vectors that a tensor consists of.
struct Rows<'a> {
    compute: Compute,
    base: &'a Input<'a>,
    models: Vec<&'a Input<'a>>,
    count: usize,
    length: usize,
    threads: usize,
}

impl Rows<'_> {
    fn offset(&self, model: usize, first: usize, out: &mut [f32]) {
        let mut base = [0.0; BLOCK];
        let base = &mut base[..out.len()];
        self.base.values.read(self.compute, first, base);
        self.models[model].values.read(self.compute, first, out);
        out.iter_mut().zip(base).for_each(|(x, b)| *x -= *b);
        round_all(self.compute, out);
    }

    /// As how many threads torch reduces a row: it splits a reduction only if it is the only one.
    fn threads(&self) -> usize {
        if self.count == 1 { self.threads } else { 1 }
    }

    /// The average's share in each row.
    fn shares(&self) -> Vec<f32> {
        let n = self.models.len();
        let pairs: Vec<(usize, usize)> = (0..n).flat_map(|a| (a + 1..n).map(move |b| (a, b))).collect();
        let columns = Columns::new(Compute::F32, pairs.len(), self.count);
        let share = |row: usize| {
            let norms: Vec<f32> = (0..n)
                .into_par_iter()
                .map(|m| {
                    let fill = |first: usize, out: &mut [f32]| self.offset(m, first, out);
                    let start = row * self.length;
                    self.compute.round(reduce::norm(self.compute, self.threads(), start, self.length, &fill))
                })
                .collect();
            let cosines: Vec<f32> =
                pairs.par_iter().map(|&(a, b)| self.cosine(row, (a, b), norms[a] * norms[b])).collect();
            // torch takes the mean of 16-bit numbers in float32.
            let mean = self.compute.round(columns.sum(row, |pair| cosines[pair]) / pairs.len() as f32);
            self.share(mean)
        };
        (0..self.count).into_par_iter().map(share).collect()
    }

    fn cosine(&self, row: usize, (a, b): (usize, usize), norms: f32) -> f32 {
        let products = |first: usize, out: &mut [f32]| {
            let first = row * self.length + first;
            let mut other = [0.0; BLOCK];
            let other = &mut other[..out.len()];
            self.offset(a, first, out);
            self.offset(b, first, other);
            zip(self.compute, out, other, |x, y| x * y);
        };
        let dot = reduce::sum(self.compute, self.threads(), self.length, &products);
        let norms = self.compute.round(norms).max(self.compute.round(LEAST_NORMS));
        self.compute.round(dot / norms).clamp(-1.0, 1.0)
    }

    fn share(&self, cosine: f32) -> f32 {
        let n = self.models.len() as f32;
        let round = |x: f32| self.compute.round(x);
        let divisor = round(1.0 + round((n - 1.0) * cosine));
        match divisor.abs() < round(VANISHES) {
            true => 0.0,
            false => round(round(n * cosine) / divisor),
        }
    }
}
