//! Elementwise passes over a tensor: blocks in the first-level cache, tasks over chunks, every thread at work.

use super::values::{Compute, round_inline};
use crate::merge::block::{BLOCK, Block, CHUNK};
use rayon::prelude::*;

/// Working memory of one task: `n` blocks.
pub(super) fn blocks(n: usize) -> Vec<Block> {
    vec![[0.0; BLOCK]; n]
}

/// Computes every element of a tensor, block by block. `compute` fills a block from what it knows of the elements
/// from an index on; its first argument is a task's working memory, made by `scratch`.
pub(super) fn each_block<S: Send>(
    elements: usize,
    scratch: impl Fn() -> S + Sync,
    compute: impl Fn(&mut S, usize, &mut [f32]) + Sync,
) -> Vec<f32> {
    let mut out = vec![0.0; elements];
    out.par_chunks_mut(CHUNK).enumerate().for_each(|(c, chunk)| {
        let mut scratch = scratch();
        for (b, block) in chunk.chunks_mut(BLOCK).enumerate() {
            compute(&mut scratch, c * CHUNK + b * BLOCK, block);
        }
    });
    out
}

/// `f` of each element, rounded to the type: one elementwise operation of torch.
#[inline(always)]
pub(super) fn map(compute: Compute, values: &mut [f32], f: impl Fn(f32) -> f32) {
    values.iter_mut().for_each(|x| *x = f(*x));
    round_inline(compute, values);
}

/// As [`map`], with the element of the same place in `others` as the second operand.
#[inline(always)]
pub(super) fn zip(compute: Compute, values: &mut [f32], others: &[f32], f: impl Fn(f32, f32) -> f32) {
    values.iter_mut().zip(others).for_each(|(x, y)| *x = f(*x, *y));
    round_inline(compute, values);
}
