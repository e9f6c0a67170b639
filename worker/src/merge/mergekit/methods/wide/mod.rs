//! Task vectors by hand for AVX-512: the portable kernels beside this are the statement, and this must give the same bits.
//!
//! Compiled from arrays, each step of a block passes through memory; here sixteen elements of all sources stay in registers
//! from the stored bytes to the sum. What does not fit is left to the portable kernels: more than [`MOST`] sources, elements that
//! are stored in another type than the arithmetic's or in another order, and the last, shorter block of a tensor. Where the processor
//! rounds to bfloat16 itself, thirty-two such numbers are worked on together (`brain`).

#![expect(unsafe_code, reason = "functions compiled for features that are looked for first")]

mod brain;
mod kernel;
#[cfg(test)]
mod tests;

use super::reduce::Lanes;
use super::values::Compute;
pub(super) use crate::merge::avx512::here;
use crate::merge::avx512::{self, Brain, Kept, LANES, Stored, VECTORS};
use crate::merge::block::{BLOCK, Block};
use crate::merge::field::{DROP_ALL, Key};
pub(super) use brain::Brains;

/// Sources whose elements are kept in registers together.
pub(super) const MOST: usize = 8;

/// Words of the mask of a block.
pub(super) type Words = [u64; BLOCK / 64];

/// One source's share of a block.
#[derive(Clone, Copy)]
pub(super) struct Source<'a, S = Stored<'a>> {
    pub(super) model: S,
    pub(super) kept: Option<&'a Words>,
    pub(super) scale: Option<f32>,
    pub(super) weight: f32,
}

impl<'a> Source<'a> {
    /// The same where all its elements are bfloat16 numbers.
    fn brain(&self) -> Option<Source<'a, Brain<'a>>> {
        let Source { model, kept, scale, weight } = *self;
        Some(Source { model: model.brain()?, kept, scale, weight })
    }
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

/// Calls the kernel for the number of sources.
macro_rules! for_as_many {
    ($type:ident; $base:expr, $sources:expr, $rest:expr, $out:expr) => {
        // SAFETY: whoever uses this has asked `here`.
        unsafe {
            match $sources.len() {
                1 => kernel::merge::<$type, 1, _>($base, $sources, $rest, $out),
                2 => kernel::merge::<$type, 2, _>($base, $sources, $rest, $out),
                3 => kernel::merge::<$type, 3, _>($base, $sources, $rest, $out),
                4 => kernel::merge::<$type, 4, _>($base, $sources, $rest, $out),
                5 => kernel::merge::<$type, 5, _>($base, $sources, $rest, $out),
                6 => kernel::merge::<$type, 6, _>($base, $sources, $rest, $out),
                7 => kernel::merge::<$type, 7, _>($base, $sources, $rest, $out),
                _ => kernel::merge::<$type, MOST, _>($base, $sources, $rest, $out),
            }
        }
    };
}

/// One block of a merge; false, with nothing done, where the processor lacks the instructions, there are too many sources, or numbers
/// are not stored as those of the type.
pub(super) fn merge(compute: Compute, base: Stored, sources: &[Source], rest: Rest, out: &mut Block) -> bool {
    if !here() || !(1..=MOST).contains(&sources.len()) {
        return false;
    }
    match compute {
        Compute::F32 => for_as_many!(F32; base, sources, rest, out),
        Compute::F16 => for_as_many!(F16; base, sources, rest, out),
        Compute::Bf16 => {
            let (Some(base), Some(one)) = (base.brain(), sources[0].brain()) else { return false };
            let mut brains = [one; MOST];
            for (place, source) in brains.iter_mut().zip(sources).skip(1) {
                let Some(brain) = source.brain() else { return false };
                *place = brain;
            }
            for_as_many!(BF16; base, &brains[..sources.len()], rest, out);
        }
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
    let (vectors, pairs) = (count / LANES, work != Compute::F32);
    // SAFETY: `here` has found the features that the functions are compiled for.
    unsafe {
        match compute {
            Compute::F32 => kernel::add_magnitudes::<F32, _>(base, source, vectors, pairs, all, kept),
            Compute::F16 => kernel::add_magnitudes::<F16, _>(base, source, vectors, pairs, all, kept),
            Compute::Bf16 => {
                let (Some(base), Some(source)) = (base.brain(), source.brain()) else { return false };
                if pairs && brain::add_magnitudes(base, &source, vectors / 2, all, kept) {
                    return true;
                }
                kernel::add_magnitudes::<BF16, _>(base, &source, vectors, pairs, all, kept);
            }
        }
    }
    true
}

/// What the elements of a block of a task vector in bfloat16 are ranked by ([`super::select::Keys`]), of falling magnitudes if asked
/// for; false, with nothing done, where it does not fit.
pub(super) fn keys(base: Stored, model: Stored, falling: bool, out: &mut [u16]) -> bool {
    let (Ok(out), Some(base), Some(model)) =
        (<&mut [u16; BLOCK]>::try_from(out), base.brain(), model.brain())
    else {
        return false;
    };
    if !here() {
        return false;
    }
    let turn = if falling { 0x7fff } else { 0 };
    if !brain::keys(base, model, turn, out) {
        // SAFETY: `here` has found the features that the function is compiled for.
        unsafe { kernel::keys(base, model, turn, out) };
    }
    true
}

/// A block of a task vector; false, with nothing done, where it does not fit.
pub(super) fn difference(compute: Compute, base: Stored, model: Stored, out: &mut [f32]) -> bool {
    let Ok(out) = <&mut Block>::try_from(out) else { return false };
    if !here() {
        return false;
    }
    // SAFETY: `here` has found the features that the functions are compiled for.
    unsafe {
        match compute {
            Compute::F32 => kernel::difference::<F32, _>(base, model, out),
            Compute::F16 => kernel::difference::<F16, _>(base, model, out),
            Compute::Bf16 => {
                let (Some(base), Some(model)) = (base.brain(), model.brain()) else { return false };
                kernel::difference::<BF16, _>(base, model, out);
            }
        }
    }
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
