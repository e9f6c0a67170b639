//! Task vectors by hand for AVX-512: the portable kernels beside this are the statement, and this must give the same bits.
//!
//! Compiled from arrays, each step of a block passes through memory; here sixteen elements of all sources stay in registers
//! from the stored bytes to the sum. What does not fit is left to the portable kernels: more than [`MOST`] sources, elements that
//! are stored in another type than the arithmetic's or in another order, and the last, shorter block of a tensor.

#![expect(unsafe_code, reason = "functions compiled for features that are looked for first")]

mod kernel;
#[cfg(test)]
mod tests;

use super::reduce::Lanes;
use super::values::Compute;
use crate::merge::avx512::{self, Kept, LANES, Stored, VECTORS, here};
use crate::merge::block::{BLOCK, Block};
use crate::merge::field::{DROP_ALL, Key};

/// Sources whose elements are kept in registers together.
pub(super) const MOST: usize = 8;

/// Words of the mask of a block.
pub(super) type Words = [u64; BLOCK / 64];

/// One source's share of a block.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) model: Stored<'a>,
    pub(super) kept: Option<&'a Words>,
    pub(super) scale: Option<f32>,
    pub(super) weight: f32,
}

/// What is done with the sum; see [`super::task`].
#[derive(Clone, Copy)]
pub(super) struct Rest {
    pub(super) divisor: Option<f32>,
    pub(super) normalize: bool,
    pub(super) lambda: Option<f32>,
}

const F32: u8 = 0;
const BF16: u8 = 1;
const F16: u8 = 2;

/// Calls a kernel for a type.
macro_rules! for_type {
    ($compute:expr, $call:ident $(, $count:literal)*; $($argument:expr),*) => {
        // SAFETY: whoever uses this has asked `here`.
        unsafe {
            match $compute {
                Compute::F32 => kernel::$call::<F32 $(, $count)*>($($argument),*),
                Compute::Bf16 => kernel::$call::<BF16 $(, $count)*>($($argument),*),
                Compute::F16 => kernel::$call::<F16 $(, $count)*>($($argument),*),
            }
        }
    };
}

/// One block of a merge; false, with nothing done, where the processor lacks the instructions or there are too many sources.
pub(super) fn merge(compute: Compute, base: Stored, sources: &[Source], rest: Rest, out: &mut Block) -> bool {
    if !here() {
        return false;
    }
    match sources.len() {
        1 => for_type!(compute, merge, 1; base, sources, rest, out),
        2 => for_type!(compute, merge, 2; base, sources, rest, out),
        3 => for_type!(compute, merge, 3; base, sources, rest, out),
        4 => for_type!(compute, merge, 4; base, sources, rest, out),
        5 => for_type!(compute, merge, 5; base, sources, rest, out),
        6 => for_type!(compute, merge, 6; base, sources, rest, out),
        7 => for_type!(compute, merge, 7; base, sources, rest, out),
        MOST => for_type!(compute, merge, 8; base, sources, rest, out),
        _ => return false,
    }
    true
}

/// Adds the magnitudes of the `count` elements of a task vector from the beginning of a block on, all of them and what its mask
/// keeps, to the lanes of [`super::reduce`] for sums of numbers of the type `work`; false, with nothing done, where they do not fit.
pub(super) fn add_magnitudes(
    compute: Compute,
    work: Compute,
    base: Stored,
    source: &Source,
    count: usize,
    [all, kept]: &mut [Lanes; 2],
) -> bool {
    let fits = count <= BLOCK && count.is_multiple_of(4 * LANES);
    if !fits || !here() {
        return false;
    }
    let pairs = work != Compute::F32;
    for_type!(compute, add_magnitudes; base, source, count / LANES, pairs, all, kept);
    true
}

/// A block of a task vector; false, with nothing done, where it does not fit.
pub(super) fn difference(compute: Compute, base: Stored, model: Stored, out: &mut [f32]) -> bool {
    let Ok(out) = <&mut Block>::try_from(out) else { return false };
    if !here() {
        return false;
    }
    for_type!(compute, difference; base, model, out);
    true
}

/// The bits of a block that are kept, by [`crate::merge::field`]; false, with nothing done, where the processor lacks the instructions.
pub(super) fn draw(key: Key, first: u64, drop: u32, words: &mut [u64]) -> bool {
    let Ok(words) = <&mut Words>::try_from(words) else { return false };
    if !here() {
        return false;
    }
    if drop >= DROP_ALL {
        words.fill(0);
        return true;
    }
    let mut kept: Kept = [0; VECTORS];
    // SAFETY: `here` has found the features that the function is compiled for.
    unsafe { avx512::draw(key, first, drop, &mut kept) };
    for (word, parts) in words.iter_mut().zip(kept.as_chunks::<{ 64 / LANES }>().0) {
        *word = parts.iter().rev().fold(0, |word, part| word << LANES | u64::from(*part));
    }
    true
}
