//! Elementwise passes over a tensor: blocks in the first-level cache, tasks over chunks, every thread at work.

use super::Checked;
use super::values::{Compute, round_inline};
use crate::checkpoint::Dtype;
use crate::merge::block::{BLOCK, Block, CHUNK, narrow_bytes};
use rayon::prelude::*;

/// Working memory of one task: `n` blocks.
pub(super) fn blocks(n: usize) -> Vec<Block> {
    vec![[0.0; BLOCK]; n]
}

/// Bytes of a merged tensor that are made at once, so that how much is held does not depend on how large tensors are.
pub const PIECE_BYTES: usize = 8 << 20;

/// Takes a merged tensor, piece by piece: makes room for so many bytes, has them written, and takes them. Who has no use for more of it
/// need not have them written.
pub type Put<'a> = &'a mut dyn FnMut(usize, &mut dyn FnMut(&mut [u8]));

/// Computes every element of a merged tensor, block by block, as bytes of the type that it is wanted in. `compute` fills a block
/// from what it knows of the elements from an index on; its first argument is a task's working memory, made by `scratch`.
pub(super) fn each_block<S: Send>(
    checked: &Checked,
    put: Put,
    scratch: impl Fn() -> S + Sync,
    compute: impl Fn(&mut S, usize, &mut [f32]) + Sync,
) {
    each_block_or(checked, put, |_, _| false, scratch, compute);
}

/// A whole block as bytes of bfloat16 numbers.
pub(super) type Bytes = [u8; 2 * BLOCK];

/// As [`each_block`], where whole blocks may be had as bfloat16 numbers: `brains` fills one, or says that it cannot.
pub(super) fn each_block_or<S: Send>(
    checked: &Checked,
    put: Put,
    brains: impl Fn(usize, &mut Bytes) -> bool + Sync,
    scratch: impl Fn() -> S + Sync,
    compute: impl Fn(&mut S, usize, &mut [f32]) + Sync,
) {
    let (output, width) = (checked.output, checked.output.width());
    let fill = |from: usize, out: &mut [u8]| {
        out.par_chunks_mut(CHUNK * width).enumerate().for_each(|(c, chunk)| {
            let mut scratch = scratch();
            let mut merged = [0.0; BLOCK];
            for (b, bytes) in chunk.chunks_mut(BLOCK * width).enumerate() {
                let first = from + c * CHUNK + b * BLOCK;
                if output == Dtype::Bf16
                    && let Ok(block) = <&mut Bytes>::try_from(&mut *bytes)
                    && brains(first, block)
                {
                    continue;
                }
                let merged = &mut merged[..bytes.len() / width];
                compute(&mut scratch, first, merged);
                narrow_bytes(merged, output, bytes);
            }
        });
    };
    let piece = PIECE_BYTES / width;
    for from in (0..checked.elements).step_by(piece) {
        put(piece.min(checked.elements - from) * width, &mut |out| fill(from, out));
    }
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
