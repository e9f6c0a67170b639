//! `nuslerp`: along the great circle between two models or, with a base, two task vectors.
//!
//! The way to go is the second's share of the weights (half of it when they cancel out). The tensor is one vector
//! (`nuslerp_flatten`), or a vector for each row, or for each column (`nuslerp_row_wise`). Parallel vectors are interpolated
//! linearly. Source: `mergekit/merge_methods/nuslerp.py`.

use super::compute::{Put, blocks, each_block};
use super::reduce::{self, Columns};
use super::trig::{acos, sin};
use super::values::{Compute, round_all};
use super::{Checked, Input};
use crate::merge::block::BLOCK;
use rayon::prelude::*;

/// Weights whose sum is below this cancel out.
const CANCEL: f64 = 1e-6;
/// Least norm that a vector is divided by.
const LEAST_NORM: f32 = 1e-7;
/// Squared sines up to this make vectors parallel.
const PARALLEL: f32 = 1e-16;
/// Columns that are added up side by side.
const STRIPE: usize = 256;

pub(super) fn merge(checked: &Checked, put: Put) {
    let [(first, a), (second, b), ..] = checked.others.as_slice() else { return };
    let [a, b] = [a, b].map(|p| p.number("weight").unwrap_or_default());
    let t = if (a + b).abs() < CANCEL { 0.5 } else { b / (a + b) };
    let compute = checked.call.compute;
    let pair = Pair { compute, base: checked.base, models: [first, second] };
    let vectors = Vectors::of(checked);
    let arcs = vectors.arcs(&pair, t, checked.call.threads);
    each_block(
        checked,
        put,
        || blocks(2),
        |scratch, first, out| {
            let [second, base] = scratch.as_mut_slice() else { return };
            let second = &mut second[..out.len()];
            pair.read(0, first, out);
            pair.read(1, first, second);
            for (i, (x, y)) in out.iter_mut().zip(second).enumerate() {
                let arc = &arcs[vectors.of_element(first + i)];
                let sum = compute.round(compute.round(arc.from * *x) + compute.round(arc.to * *y));
                *x = compute.round(sum / arc.divisor);
            }
            if let Some(of) = checked.base {
                let base = &mut base[..out.len()];
                of.values.read(compute, first, base);
                out.iter_mut().zip(base).for_each(|(x, b)| *x += *b);
                round_all(compute, out);
            }
        },
    );
}

/// The two vectors: models or task vectors.
struct Pair<'a> {
    compute: Compute,
    base: Option<&'a Input<'a>>,
    models: [&'a Input<'a>; 2],
}

impl Pair<'_> {
    fn read(&self, which: usize, first: usize, out: &mut [f32]) {
        self.models[which].values.read(self.compute, first, out);
        if let Some(base) = self.base {
            let mut block = [0.0; BLOCK];
            let block = &mut block[..out.len()];
            base.values.read(self.compute, first, block);
            out.iter_mut().zip(block).for_each(|(x, b)| *x -= *b);
            round_all(self.compute, out);
        }
    }

    /// The products of the elements of both vectors, each divided by its norm.
    fn products(&self, norms: impl Fn(usize) -> [f32; 2], first: usize, out: &mut [f32]) {
        let mut second = [0.0; BLOCK];
        let second = &mut second[..out.len()];
        self.read(0, first, out);
        self.read(1, first, second);
        for (i, (x, y)) in out.iter_mut().zip(second).enumerate() {
            let [a, b] = norms(i);
            *x = self.compute.round(*x / a) * self.compute.round(*y / b);
        }
        round_all(self.compute, out);
    }
}

/// Bytes that each vector of a tensor takes.
pub(super) const ARC_BYTES: u64 = size_of::<Arc>() as u64;

/// How to go from one vector to the other: `(from · x + to · y) / divisor`.
#[derive(Clone, Copy)]
struct Arc {
    from: f32,
    to: f32,
    divisor: f32,
}

impl Arc {
    fn new(compute: Compute, t: f64, cosine: f32) -> Arc {
        let cosine = compute.round(cosine).clamp(-1.0, 1.0);
        let squared_sine = compute.round(1.0 - compute.round(cosine * cosine));
        let (rest, t) = ((1.0 - t) as f32, t as f32);
        if squared_sine <= compute.round(PARALLEL) {
            return Arc { from: rest, to: t, divisor: 1.0 };
        }
        let angle = acos(compute, cosine);
        let part = |share: f32| sin(compute, compute.round(share * angle));
        Arc { from: part(rest), to: part(t), divisor: sin(compute, angle) }
    }
}

/// How a tensor divides into vectors.
enum Vectors {
    /// `count` stretches of `length` elements.
    Rows { count: usize, length: usize },
    /// `count` vectors of `length` elements, each `count` apart from the last.
    Columns { count: usize, length: usize },
}

impl Vectors {
    fn of(checked: &Checked) -> Vectors {
        let (elements, shape) = (checked.elements, checked.call.shape);
        let by_column = checked.shared.holds("nuslerp_row_wise");
        match shape {
            [length, _, ..] if by_column && !checked.shared.holds("nuslerp_flatten") => {
                Vectors::Columns { count: elements.checked_div(*length).unwrap_or(0), length: *length }
            }
            [_, .., length] if !checked.shared.holds("nuslerp_flatten") => {
                Vectors::Rows { count: elements.checked_div(*length).unwrap_or(0), length: *length }
            }
            _ => Vectors::Rows { count: 1, length: elements },
        }
    }

    #[inline(always)]
    fn of_element(&self, element: usize) -> usize {
        match self {
            Vectors::Rows { count: 1, .. } => 0,
            Vectors::Rows { length, .. } => element / length,
            Vectors::Columns { count, .. } => element % count,
        }
    }

    fn arcs(&self, pair: &Pair, t: f64, threads: usize) -> Vec<Arc> {
        let compute = pair.compute;
        match *self {
            Vectors::Rows { count, length } => {
                // torch splits a reduction only if it is the only one.
                let threads = if count == 1 { threads } else { 1 };
                let arc = |row: usize| {
                    let start = row * length;
                    let norms = [0, 1].map(|which| {
                        let fill = |first: usize, out: &mut [f32]| pair.read(which, first, out);
                        least(compute, reduce::norm(compute, threads, start, length, &fill))
                    });
                    let fill = |first: usize, out: &mut [f32]| pair.products(|_| norms, start + first, out);
                    Arc::new(compute, t, reduce::sum(compute, threads, length, &fill))
                };
                (0..count).into_par_iter().map(arc).collect()
            }
            // One column is one row.
            Vectors::Columns { count: 1, length } => {
                Vectors::Rows { count: 1, length }.arcs(pair, t, threads)
            }
            Vectors::Columns { count, length } => {
                let columns = Columns::new(compute, length, count);
                let stripe = |stripe: usize| {
                    let first = stripe * STRIPE;
                    let cosines = cosines(pair, &columns, length, count, first..count.min(first + STRIPE));
                    cosines.into_iter().map(|c| Arc::new(compute, t, c)).collect::<Vec<_>>()
                };
                (0..count.div_ceil(STRIPE)).into_par_iter().flat_map_iter(stripe).collect()
            }
        }
    }
}

fn least(compute: Compute, norm: f32) -> f32 {
    compute.round(norm).max(compute.round(LEAST_NORM))
}

/// The cosines of the columns in `range`, not rounded yet.
fn cosines(
    pair: &Pair,
    columns: &Columns,
    length: usize,
    count: usize,
    range: std::ops::Range<usize>,
) -> Vec<f32> {
    let width = range.len();
    let mut block = [0.0; BLOCK];
    let block = &mut block[..width];
    let norms: [Vec<f32>; 2] = [0, 1].map(|which| {
        let mut sums = vec![0.0; width];
        for row in 0..length {
            pair.read(which, row * count + range.start, block);
            match length {
                1 => sums.copy_from_slice(block),
                _ => reduce::square_columns(&mut sums, block),
            }
        }
        let norm = |x: f32| if length == 1 { x.abs() } else { x.sqrt() };
        sums.into_iter().map(|x| least(pair.compute, norm(x))).collect()
    });
    columns.sums(range.clone(), |row, sums| {
        pair.products(|i| [norms[0][i], norms[1][i]], row * count + range.start, block);
        sums.iter_mut().zip(block.iter()).for_each(|(sum, x)| *sum += x);
    })
}
