//! Task vectors of bfloat16 numbers, thirty-two elements at a time, for processors that round to such numbers with one instruction.
//!
//! What a kernel for sixteen float32 numbers spends most of its time with is rounding. Here
//! - **differences** are rounded two vectors at once. The instruction takes the tiniest numbers (below 2⁻¹²⁶) for zero;
//! - **products** are looked up. Rounding commutes with powers of two, so that a number times its scale, rounded, times its weight,
//!   rounded, is a matter of its seven bits of mantissa ([`Term`]): a table of 128 bytes, which one instruction reads;
//! - **quotients** are products with the reciprocal. For bfloat16 numbers t and d, t ÷ d is never halfway between two such
//!   numbers: with integers t, d < 2⁸ and an odd m of nine bits, t·2ᵏ = m·d asks for more than eight bits. It is away from there by
//!   2⁻¹⁷ of its value at least, and the product with a rounded reciprocal is off by less than 2⁻²²: both round to the same number;
//! - **divisors** of four sources and fewer, the sums of the weights that took part, are a table of sixteen numbers.
//!
//! All of this holds within [`FACTORS`] and [`DIFFERENCES`], so that nothing on the way to the result is too small or too large
//! for a normal number. Vectors with other numbers, be they infinite, no numbers or tiny, are noticed and done by the kernels beside
//! this, and merges with other factors altogether.

mod kernel;
#[cfg(test)]
mod tests;

use super::super::compute::Bytes;
use super::{MOST, Rest, Source, Words};
use crate::merge::avx512::{self, Brain, Stored};
use crate::merge::block::{BLOCK, bf16_bits};
use std::ops::RangeInclusive;
use std::sync::LazyLock;

/// Magnitudes of scales, weights, lambda, and of divisors as far as they are not sums of weights.
const FACTORS: RangeInclusive<f32> = 1.0 / 1024.0..=1024.0;
/// Magnitudes of differences that are not zero, as bits of bfloat16: 2⁻⁶⁸ to 2⁴⁰. The result of the least after a scale, a weight, sums
/// (whose terms are multiples of 2⁻⁷ of the least), a division by eight weights and lambda is 2⁻¹¹⁸ at least, and what is left where
/// it and a base nearly cancel is a multiple of 2⁻¹²⁶.
const DIFFERENCES: RangeInclusive<u16> = (127 - 68) << 7..=(127 + 40) << 7;
/// Sources whose divisors are looked up.
const TABLED: usize = 4;

/// Whether the processor at hand has what the kernels are compiled for.
pub(super) fn here() -> bool {
    static HERE: LazyLock<bool> = LazyLock::new(|| {
        let brains = is_x86_feature_detected!("avx512bf16") && is_x86_feature_detected!("avx512vbmi");
        brains && avx512::here()
    });
    *HERE
}

/// What a number is multiplied by, as a table over mantissas.
struct Term {
    /// By how much more than the mantissa the bits of the product rise from mantissa 0 on, plus [`Term::MOST`].
    steps: [u8; 128],
    /// What the bits of a product are above those of the number and its step, with the sign.
    shift: u16,
}

impl Term {
    /// The largest mantissa: the product rises by 128 over all of them, so that no step is below 0 or above 255.
    const MOST: u16 = 127;

    fn new(scale: Option<f32>, weight: f32) -> Option<Term> {
        let fits = |factor: f32| FACTORS.contains(&factor.abs());
        if !fits(weight) || !scale.is_none_or(fits) {
            return None;
        }
        const ONE: u16 = 0x3f80;
        let product = |mantissa: u16| {
            let number = round(f32::from_bits(u32::from(ONE | mantissa) << 16) * scale.unwrap_or(1.0));
            bf16_bits(number * weight)
        };
        let least = product(0);
        let step = |mantissa: usize| {
            let mantissa = mantissa as u16;
            u8::try_from(product(mantissa).wrapping_sub(least) + Term::MOST - mantissa).ok()
        };
        let mut steps = [0; 128];
        for (mantissa, place) in steps.iter_mut().enumerate() {
            *place = step(mantissa)?;
        }
        Some(Term { steps, shift: least.wrapping_sub(ONE).wrapping_sub(Term::MOST) })
    }
}

/// What the sum of a vector is divided by.
enum Quotient {
    One,
    /// The reciprocal of one number for all.
    Constant(f32),
    /// The reciprocals of the sums of the weights that took part, bit by bit.
    Table([f32; 1 << TABLED]),
    /// Those sums have to be divided by.
    Weights,
}

/// What is known of a merge before its first block.
pub(in super::super) struct Brains {
    terms: Vec<Term>,
    rest: Rest,
    quotient: Quotient,
}

impl Brains {
    /// For sources of these scales and weights; `None` where the kernels of this module do not do.
    pub(in super::super) fn new(sources: &[(Option<f32>, f32)], rest: Rest) -> Option<Brains> {
        if !here() || !(1..=MOST).contains(&sources.len()) {
            return None;
        }
        let weights: Vec<f32> = sources.iter().map(|(_, weight)| *weight).collect();
        let brain = |x: f32| round(x) == x;
        if !weights.iter().copied().all(brain) || !rest.lambda.is_none_or(|l| FACTORS.contains(&l.abs())) {
            return None;
        }
        let terms =
            sources.iter().map(|(scale, weight)| Term::new(*scale, *weight)).collect::<Option<_>>()?;
        let quotient = match rest.divisor {
            _ if !rest.normalize => Quotient::One,
            Some(1.0) => Quotient::One,
            Some(divisor) if brain(divisor) && FACTORS.contains(&divisor.abs()) => {
                Quotient::Constant(1.0 / divisor)
            }
            Some(_) => return None,
            None if weights.len() <= TABLED => Quotient::Table(reciprocals(&weights)),
            None => Quotient::Weights,
        };
        Some(Brains { terms, rest, quotient })
    }

    /// One block of the merge, as bytes of bfloat16 numbers, and how many of its vectors asked for more care; `None`, with nothing done,
    /// where numbers are not stored as such.
    pub(in super::super) fn merge(&self, base: Stored, sources: &[Source], out: &mut Bytes) -> Option<usize> {
        let (base, one) = (base.brain()?, sources.first()?.brain()?);
        if sources.len() != self.terms.len() {
            return None;
        }
        let mut brains = [one; MOST];
        for (place, source) in brains.iter_mut().zip(sources).skip(1) {
            *place = source.brain()?;
        }
        let sources = &brains[..sources.len()];
        // SAFETY: `here` has found the features that the functions are compiled for, or there would be no `Brains`.
        unsafe {
            match sources.len() {
                1 => kernel::merge::<1>(self, base, sources, out),
                2 => kernel::merge::<2>(self, base, sources, out),
                3 => kernel::merge::<3>(self, base, sources, out),
                4 => kernel::merge::<4>(self, base, sources, out),
                5 => kernel::merge::<5>(self, base, sources, out),
                6 => kernel::merge::<6>(self, base, sources, out),
                7 => kernel::merge::<7>(self, base, sources, out),
                _ => kernel::merge::<MOST>(self, base, sources, out),
            }
        }
    }
}

/// One by the sum of those weights whose bits are set, 1 for none. Sums of factors of eight bits are multiples of 2⁻¹⁷, and so not too
/// small for what this module says.
fn reciprocals(weights: &[f32]) -> [f32; 1 << TABLED] {
    std::array::from_fn(|bits| {
        let takes_part = |s: usize| bits >> s & 1 == 1;
        let sum: f32 = weights.iter().enumerate().filter(|(s, _)| takes_part(*s)).map(|(_, w)| w).sum();
        let sum = round(sum);
        if sum == 0.0 { 1.0 } else { 1.0 / sum }
    })
}

fn round(x: f32) -> f32 {
    f32::from_bits(u32::from(bf16_bits(x)) << 16)
}

/// As [`super::add_magnitudes`], for lanes that take up pairs of bfloat16 numbers; false, with nothing done, where a number asks for
/// more care or the processor for other kernels.
pub(super) fn add_magnitudes(
    base: Brain,
    source: &Source<Brain>,
    pairs: usize,
    all: &mut super::Lanes,
    kept: &mut super::Lanes,
) -> bool {
    // SAFETY: `here` has found the features that the function is compiled for.
    here() && unsafe { kernel::add_magnitudes(base, source, pairs, all, kept) }
}

/// As [`super::keys`], with `turn` exchanged; false, with `out` as it may be, where a number asks for more care or the processor for other
/// kernels.
pub(super) fn keys(base: Brain, model: Brain, turn: u16, out: &mut [u16; BLOCK]) -> bool {
    // SAFETY: `here` has found the features that the function is compiled for.
    here() && unsafe { kernel::keys(base, model, turn, out) }
}
