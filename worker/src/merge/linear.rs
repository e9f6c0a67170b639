//! The weighted average of models: `Σ w m / Σ w`, no base, no task vectors.
//!
//! All arithmetic is f32 in the order of the sources: each product and its addition are rounded once together
//! (fused), the divisor is a plain f32 sum, the division rounds again. That is what mergekit's function does on
//! a CPU, bit for bit. Rows of a vocabulary that a model lacks are the base's. Source: `mergekit/merge_methods/linear.py` of mergekit 0.1.5, with `normalize`.

use super::block::{BLOCK, Block, Elements};
use super::simd::widest;

/// One source's share of one tensor.
pub(crate) struct Share<'a> {
    pub(crate) weight: f32,
    pub(crate) model: Elements<'a>,
    /// What stands in for rows that the model lacks.
    pub(crate) base: Elements<'a>,
}

/// Working memory of one task.
pub(crate) struct Scratch {
    sum: Block,
    model: Block,
}

impl Scratch {
    pub(crate) fn new() -> Scratch {
        Scratch { sum: [0.0; BLOCK], model: [0.0; BLOCK] }
    }

    #[inline(always)]
    fn merge(&mut self, shares: &[Share], total: f32, first: usize, count: usize) {
        // Starting from −0 keeps a −0 that all sources share.
        self.sum.fill(-0.0);
        for share in shares {
            share.model.widen(first, count, &mut self.model);
            share.model.fill_missing(first, count, share.base, &mut self.model);
            for (sum, model) in self.sum.iter_mut().zip(&self.model) {
                *sum = share.weight.mul_add(*model, *sum);
            }
        }
        self.sum.iter_mut().for_each(|sum| *sum /= total);
    }

    /// What [`merge`] left.
    pub(crate) fn merged(&self, count: usize) -> &[f32] {
        &self.sum[..count]
    }
}

widest! {
    /// Averages one block: `count` elements from `first` on, found in [`Scratch::merged`].
    pub(crate) fn merge(scratch: &mut Scratch, shares: &[Share], total: f32, first: usize, count: usize) {
        scratch.merge(shares, total, first, count);
    }
}
