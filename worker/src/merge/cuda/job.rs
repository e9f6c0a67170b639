//! What one launch is told: the structures of `paper.cuh`, field by field.

use crate::checkpoint::Dtype;
use crate::merge::paper::{Rule, Whole};
use common::recipe::Arithmetic;

/// Sources that a kernel can merge. A launch's arguments have to stay below 4 KiB.
pub(crate) const MOST_TERMS: usize = 24;

/// Bins of the upper half of the magnitude's bits, and of the lower.
pub(crate) const UPPER_BINS: usize = 1 << 16;
pub(crate) const LOWER_BINS: usize = 1 << LOWER_BITS;
pub(crate) const LOWER_BITS: u32 = 15;

/// One source's part in a launch. Addresses are 0 where there is nothing.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct JobTerm {
    pub(super) model: u64,
    pub(super) own: u64,
    pub(super) absent: u64,
    pub(super) counts: u64,
    pub(super) model_type: u32,
    pub(super) own_type: u32,
    pub(super) drop: u32,
    pub(super) threshold: u32,
    pub(super) weight: f32,
    pub(super) keep: f32,
    pub(super) key: [u32; 2],
    pub(super) from: u32,
    pub(super) shift: u32,
    pub(super) bins: u32,
    pub(super) unused: u32,
}

/// The argument of every kernel.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Job {
    pub(super) base: u64,
    pub(super) out: u64,
    pub(super) first: u64,
    pub(super) count: u64,
    pub(super) columns: u64,
    pub(super) base_type: u32,
    pub(super) stored_type: u32,
    pub(super) out_type: u32,
    pub(super) half: u32,
    pub(super) terms: u32,
    pub(super) scale: f32,
    pub(super) tie: f32,
    pub(super) unused: u32,
    pub(super) term: [JobTerm; MOST_TERMS],
}

/// The number by which kernels know a type.
pub(super) fn type_number(dtype: Dtype) -> u32 {
    match dtype {
        Dtype::F16 => 1,
        Dtype::Bf16 => 2,
        // Nothing else reaches a merge.
        _ => 0,
    }
}

impl JobTerm {
    pub(super) fn new(rule: Rule, key: [u32; 2]) -> JobTerm {
        let Rule { weight, drop, keep, threshold } = rule;
        JobTerm { weight, drop, keep, threshold, key, ..JobTerm::default() }
    }
}

impl Job {
    /// A job without addresses for tensors of so many sources, as a survey needs it.
    pub(super) fn new(terms: usize, arithmetic: Arithmetic) -> Job {
        let half = u32::from(arithmetic == Arithmetic::Float16);
        Job { terms: terms as u32, half, columns: 1, ..Job::default() }
    }

    /// The same for merging: rounded to `stored`, written as `out`.
    pub(super) fn merging(self, whole: Whole, stored: Dtype, out: Dtype) -> Job {
        let (stored_type, out_type) = (type_number(stored), type_number(out));
        Job { scale: whole.scale, tie: whole.tie, stored_type, out_type, ..self }
    }

    /// Number of the sources.
    pub(super) fn terms(&self) -> usize {
        self.terms as usize
    }
}
