//! JRadiEvo's merge, one block of elements at a time.
//!
//! In: the base's elements and those of each source ([`Term`]). Out: `b + λ · mean` (steps 1 to 6 below) in one
//! pass without a temporary larger than a block. The global quantities, each source's trim threshold and the
//! sign for ties, are arguments here; `trim.rs` and `prepare.rs` find them.
//! Source: arXiv 2411.09933 and its authors' code.
//!
//! All arithmetic is f32, each operation rounded once, sums in the order of the sources, so a restatement of
//! these lines in any language gives the same bits. Or ([`Scratch`] made so) it is float16, as the authors': see below.
//!
//! 1. `τ = m − b`, from the source's own base where it has one.
//! 2. Dropped elements become +0 (see `field.rs`).
//! 3. Elements with `|τ| < t` become +0. `t` is found on, and compared with, τ *before* rescaling: dividing all of
//!    a source by one number keeps the order, and so rounding cannot merge or part neighbours.
//! 4. Survivors are divided by `1 − p`, rounded to f32.
//! 5. The sign of `Σ τ`, unweighted, is elected; where that sum is zero, the model-wide sign.
//!    `Σ w τ` over the non-zero τ of that sign, divided by their count.
//! 6. `b + λ · mean`.
//!
//! An element without any agreeing τ keeps the base's value, bit for bit, −0 included. A −0 counts as zero. A sum
//! that is NaN (a NaN in a source, or infinities of both signs) gives NaN; a NaN that was dropped does nothing.
//! A row that a source, or its own base, has none for (`vocabulary.rs`) has τ = 0.
//!
//! **In float16** stored values are rounded to float16 first, and so is the outcome of every operation: `m − b`; `/ (1 − p)`;
//! each addition of the sum that elects; `w τ`; each addition of those; `/ count`; `λ · mean`; `b +`. The numbers `1 − p`, `w`
//! and `λ` themselves are f32, as PyTorch's operators of a float16 tensor and a number take them. Survivors are rescaled
//! *before* the trim, whose threshold is thus a float16 and may tie more of them. Two things are not the authors': the
//! threshold is exact where theirs is bisected (22 halvings of [0, 64], and no magnitude may reach 64), and what is
//! dropped or trimmed is +0, where multiplying by a mask would leave −0, or NaN for an infinity.

#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod wide;

use super::block::{BLOCK, Elements};
use super::field::{self, Key};
use super::masks::{Drawn, Kept};
use super::simd::widest;
use common::recipe::Arithmetic;
use std::sync::Arc;

/// Bits of a word of a mask.
const WORD: usize = u16::BITS as usize;

/// The bits of an f32 without its sign.
const MAGNITUDE: u32 = 0x7fff_ffff;

/// What an operation leaves: `x` itself, or in float16 `x` rounded to it.
#[inline(always)]
fn round<const F16: bool>(x: f32) -> f32 {
    if F16 { f16_nearest(x) } else { x }
}

/// The float16 nearest to `x`, ties to even, without branches so that it vectorises. Operations on float16 numbers
/// that are rounded to f32 and then by this are rounded as if once: 24 bits are at least twice 11 and two more.
#[inline(always)]
fn f16_nearest(x: f32) -> f32 {
    const INFINITY: u32 = 0x7f80_0000;
    /// 2^-14, the smallest normal float16, and 2^16, which is beyond the largest.
    const NORMAL: u32 = 0x3880_0000;
    const BEYOND: u32 = 0x4780_0000;
    let magnitude = x.to_bits() & MAGNITUDE;
    let normal = magnitude.wrapping_add(0xfff + (magnitude >> 13 & 1)) & !0x1fff;
    // Between a half and one f32 has float16's smallest step, 2^-24.
    let small = ((f32::from_bits(magnitude) + 0.5) - 0.5).to_bits();
    let rounded = if magnitude < NORMAL { small } else { normal };
    let bounded = if rounded >= BEYOND { INFINITY } else { rounded };
    let bits = if magnitude > INFINITY { magnitude } else { bounded };
    f32::from_bits(bits | x.to_bits() & !MAGNITUDE)
}

/// `x / k` of two f32, rounded once, given `1 / k` as f64: a product takes half the time of a division.
///
/// The product errs by less than 2^-52 of itself. A boundary between two f32 is M · 2^c with an odd M of at most 25 bits; the
/// quotient of X · 2^a and K · 2^b, of 24 bits each, differs from it by at least one part in M · K < 2^49, and is never equal
/// to it, since M would have to divide X. So both round to the same side.
#[inline(always)]
fn times_inverse(x: f32, inverse: f64) -> f32 {
    (f64::from(x) * inverse) as f32
}

/// How one source takes part, the same for all its tensors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rule {
    /// Factor `w` in the mean.
    pub(crate) weight: f32,
    /// [`field::drop_limit`] of the drop rate.
    pub(crate) drop: u32,
    /// `1 − p`.
    pub(crate) keep: f32,
    /// Bits of the magnitude below which elements are trimmed; zero trims nothing. Bits of magnitudes sort as
    /// their values do, and NaNs above all.
    pub(crate) threshold: u32,
}

/// Rounds a block of stored values to the type that operations round to.
#[inline(always)]
fn cast<const F16: bool>(block: &mut [f32; BLOCK]) {
    if F16 {
        block.iter_mut().for_each(|x| *x = f16_nearest(*x));
    }
}

/// One source's share of one tensor.
pub(crate) struct Term<'a> {
    /// Position of the source in the recipe.
    pub(crate) source: usize,
    pub(crate) rule: Rule,
    pub(crate) key: Key,
    pub(crate) model: Elements<'a>,
    /// The source's own base, where it is not the recipe's.
    pub(crate) base: Option<Elements<'a>>,
    /// The mask, where it is kept.
    pub(crate) drawn: Option<Arc<Drawn>>,
}

impl Term<'_> {
    /// The mask of the block of `count` elements from `first` on, where it is kept.
    #[inline]
    fn kept(&self, first: usize, count: usize) -> Option<&Kept> {
        if count == BLOCK { self.drawn.as_ref()?.block(first) } else { None }
    }
}

/// Elements that are summed up while all sources are gone through. Measured: 32 and 64 are equal, at 16 the
/// compiler unrolls instead of vectorising and a merge takes four times as long.
const STRIP: usize = 64;

/// A block with a gap behind it. Blocks that follow each other directly would lie 4096 bytes apart, and
/// processors take a load for dependent on a store when the lower 12 bits of their addresses agree.
#[derive(Clone)]
#[repr(C, align(64))]
struct Spaced<T> {
    block: [T; BLOCK],
    gap: [T; STRIP],
}

impl<T: Copy + Default> Spaced<T> {
    fn new() -> Spaced<T> {
        Spaced { block: [T::default(); BLOCK], gap: [T::default(); STRIP] }
    }
}

/// Working memory of one task, reused for all its blocks.
pub(crate) struct Scratch {
    base: Spaced<f32>,
    /// A source's own base.
    own: Spaced<f32>,
    words: Spaced<u32>,
    /// The key and first element that `words` hold, so that a shared mask is drawn once for all sources.
    drawn: Option<(Key, usize)>,
    /// One block of τ per term.
    tau: Vec<Spaced<f32>>,
    merged: Spaced<f32>,
    f16: bool,
    #[cfg(target_arch = "x86_64")]
    masks: wide::Masks,
}

impl Scratch {
    /// For tensors of at most `terms` sources, in this arithmetic.
    pub(crate) fn new(terms: usize, arithmetic: Arithmetic) -> Scratch {
        Scratch {
            f16: arithmetic == Arithmetic::Float16,
            base: Spaced::new(),
            own: Spaced::new(),
            words: Spaced::new(),
            drawn: None,
            tau: vec![Spaced::new(); terms],
            merged: Spaced::new(),
            #[cfg(target_arch = "x86_64")]
            masks: wide::Masks::new(terms),
        }
    }

    /// What [`merge`] left.
    pub(crate) fn merged(&self, count: usize) -> &[f32] {
        &self.merged.block[..count]
    }

    /// Steps 1 and 2 for all terms, in float16 also step 4.
    #[inline(always)]
    fn deltas<const F16: bool>(&mut self, base: Elements, terms: &[Term], first: usize, count: usize) {
        base.widen(first, count, &mut self.base.block);
        base.prefetch(first + BLOCK, BLOCK);
        cast::<F16>(&mut self.base.block);
        for (s, term) in terms.iter().enumerate() {
            self.delta::<F16>(term, s, first, count);
        }
    }

    /// The same of one term into `tau[s]`; `self.base` holds the recipe's base.
    #[inline(always)]
    fn delta<const F16: bool>(&mut self, term: &Term, s: usize, first: usize, count: usize) {
        let tau = &mut self.tau[s].block;
        term.model.widen(first, count, tau);
        term.model.prefetch(first + BLOCK, BLOCK);
        let base = match term.base {
            Some(own) => {
                own.widen(first, count, &mut self.own.block);
                cast::<F16>(&mut self.own.block);
                &self.own.block
            }
            None => &self.base.block,
        };
        if term.rule.drop == 0 {
            for (tau, base) in tau.iter_mut().zip(base) {
                *tau = round::<F16>(round::<F16>(*tau) - base);
            }
        } else if let Some(kept) = term.kept(first, count) {
            // As words first and without a choice, so that both loops vectorise.
            let words = self.words.block.as_chunks_mut::<WORD>().0;
            for (out, word) in words.iter_mut().zip(kept) {
                for (lane, out) in (0..).zip(out) {
                    *out = (u32::from(*word) >> lane & 1).wrapping_neg();
                }
            }
            self.drawn = None;
            for ((tau, base), mask) in tau.iter_mut().zip(base).zip(&self.words.block) {
                let delta = round::<F16>(round::<F16>(*tau) - base);
                let scaled = if F16 { round::<F16>(delta / term.rule.keep) } else { delta };
                *tau = f32::from_bits(scaled.to_bits() & mask);
            }
        } else {
            if self.drawn != Some((term.key, first)) {
                field::fill(term.key, first as u64, &mut self.words.block);
                self.drawn = Some((term.key, first));
            }
            for ((tau, base), word) in tau.iter_mut().zip(base).zip(&self.words.block) {
                let delta = round::<F16>(round::<F16>(*tau) - base);
                let scaled = if F16 { round::<F16>(delta / term.rule.keep) } else { delta };
                *tau = if word >> 8 < term.rule.drop { 0.0 } else { scaled };
            }
        }
        term.model.clear_missing(first, count, tau);
        if let Some(own) = term.base {
            own.clear_missing(first, count, tau);
        }
    }

    /// Steps 3 and 4 (in float16 step 3 alone) for one strip of all terms, left in `tau`, and the sum of step 5.
    #[inline(always)]
    fn survivors<const F16: bool>(&mut self, terms: &[Term], strip: usize) -> [f32; STRIP] {
        let mut sum = [0.0; STRIP];
        for (term, tau) in terms.iter().zip(&mut self.tau) {
            let Rule { threshold, keep, .. } = term.rule;
            let inverse = f64::from(keep).recip();
            let tau = &mut tau.block.as_chunks_mut::<STRIP>().0[strip];
            for (tau, sum) in tau.iter_mut().zip(&mut sum) {
                let kept = if tau.to_bits() & MAGNITUDE < threshold { 0.0 } else { *tau };
                *tau = if F16 { kept } else { times_inverse(kept, inverse) };
                *sum = round::<F16>(*sum + *tau);
            }
        }
        sum
    }

    /// The sum of the elected signs.
    #[inline(always)]
    fn signs<const F16: bool>(&mut self, terms: &[Term]) -> i64 {
        let mut total = [0i32; STRIP];
        for strip in 0..BLOCK / STRIP {
            // What lies beyond the last element is 0 − 0 from every source and counts nothing.
            for (total, sum) in total.iter_mut().zip(self.survivors::<F16>(terms, strip)) {
                *total += i32::from(sum > 0.0) - i32::from(sum < 0.0);
            }
        }
        total.iter().map(|&t| i64::from(t)).sum()
    }

    /// Steps 3 to 6 into `merged`.
    #[inline(always)]
    fn elect<const F16: bool>(&mut self, terms: &[Term], whole: Whole) {
        for strip in 0..BLOCK / STRIP {
            let sum = self.survivors::<F16>(terms, strip);
            let sign: [f32; STRIP] = std::array::from_fn(|i| {
                let elected = if sum[i] < 0.0 { -1.0 } else { whole.tie };
                if sum[i] > 0.0 { 1.0 } else { elected }
            });
            let (mut total, mut count) = ([0.0; STRIP], [0.0; STRIP]);
            for (term, tau) in terms.iter().zip(&self.tau) {
                let tau = &tau.block.as_chunks::<STRIP>().0[strip];
                for i in 0..STRIP {
                    let agrees = tau[i] * sign[i] > 0.0;
                    let share = if agrees { round::<F16>(term.rule.weight * tau[i]) } else { 0.0 };
                    total[i] = round::<F16>(total[i] + share);
                    count[i] += if agrees { 1.0 } else { 0.0 };
                }
            }
            let base = &self.base.block.as_chunks::<STRIP>().0[strip];
            let merged = &mut self.merged.block.as_chunks_mut::<STRIP>().0[strip];
            for i in 0..STRIP {
                let mean = round::<F16>(total[i] / count[i]);
                let moved = round::<F16>(base[i] + round::<F16>(whole.scale * mean));
                let chosen = if count[i] > 0.0 { moved } else { base[i] };
                merged[i] = if sum[i].is_nan() { sum[i] } else { chosen };
            }
        }
    }
}

/// The bits of |τ| of one block as a trim ranks them: after steps 1 and 2, in float16 also 4. Zeros follow the last
/// element.
pub(crate) fn magnitudes(
    scratch: &mut Scratch,
    base: Elements,
    term: &Term,
    first: usize,
    count: usize,
    out: &mut [u32; BLOCK],
) {
    #[cfg(target_arch = "x86_64")]
    if wide::magnitudes(scratch, base, term, first, count, out) {
        return;
    }
    portable_magnitudes(scratch, base, term, first, count, out);
}

widest! {
    fn portable_magnitudes(scratch: &mut Scratch, base: Elements, term: &Term, first: usize, count: usize, out: &mut [u32; BLOCK]) {
        match scratch.f16 {
            false => scratch.deltas::<false>(base, std::slice::from_ref(term), first, count),
            true => scratch.deltas::<true>(base, std::slice::from_ref(term), first, count),
        }
        for (bits, tau) in out.iter_mut().zip(&scratch.tau[0].block) {
            *bits = tau.to_bits() & MAGNITUDE;
        }
    }
}

/// Of the magnitudes of one block that a trim ranks, as bits, the number below `from`; those from there on are counted in
/// `inside`, one by one as far as it reaches.
pub(crate) fn tally(
    scratch: &mut Scratch,
    base: Elements,
    term: &Term,
    (first, count): (usize, usize),
    from: u32,
    inside: &mut [u64],
) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if let Some(below) = wide::tally(scratch, base, term, (first, count), from, inside) {
        return below;
    }
    let mut below = 0;
    portable_tally(scratch, base, term, (first, count), from, inside, &mut below);
    below
}

widest! {
    fn portable_tally(
        scratch: &mut Scratch,
        base: Elements,
        term: &Term,
        span: (usize, usize),
        from: u32,
        inside: &mut [u64],
        below: &mut u64,
    ) {
        let (first, count) = span;
        match scratch.f16 {
            false => scratch.deltas::<false>(base, std::slice::from_ref(term), first, count),
            true => scratch.deltas::<true>(base, std::slice::from_ref(term), first, count),
        }
        let bits: [u32; BLOCK] = std::array::from_fn(|i| scratch.tau[0].block[i].to_bits() & MAGNITUDE);
        let found: u32 = bits.iter().map(|&b| u32::from(b < from)).sum();
        // The zeros that pad a short block were counted too.
        *below = u64::from(found) - (BLOCK - count) as u64;
        let width = u32::try_from(inside.len()).unwrap_or(u32::MAX);
        // Few elements lie inside: whole runs are passed over by one comparison of vectors.
        for run in bits.as_chunks::<32>().0 {
            if run.iter().fold(false, |any, b| any | (b.wrapping_sub(from) < width)) {
                for b in run {
                    if let Some(bin) = inside.get_mut(b.wrapping_sub(from) as usize) {
                        *bin += 1;
                    }
                }
            }
        }
    }
}

/// Adds to `total` the sum of one block's elected signs, ties counting nothing.
pub(crate) fn signs(
    scratch: &mut Scratch,
    base: Elements,
    terms: &[Term],
    first: usize,
    count: usize,
    total: &mut i64,
) {
    #[cfg(target_arch = "x86_64")]
    if let Some(signs) = wide::signs(scratch, base, terms, first, count) {
        *total += signs;
        return;
    }
    portable_signs(scratch, base, terms, first, count, total);
}

widest! {
    fn portable_signs(scratch: &mut Scratch, base: Elements, terms: &[Term], first: usize, count: usize, total: &mut i64) {
        if scratch.f16 {
            scratch.deltas::<true>(base, terms, first, count);
            *total += scratch.signs::<true>(terms);
        } else {
            scratch.deltas::<false>(base, terms, first, count);
            *total += scratch.signs::<false>(terms);
        }
    }
}

/// Merges one block: `count` elements from `first` on, found in [`Scratch::merged`].
pub(crate) fn merge(
    scratch: &mut Scratch,
    base: Elements,
    terms: &[Term],
    whole: Whole,
    first: usize,
    count: usize,
) {
    #[cfg(target_arch = "x86_64")]
    if wide::merge(scratch, base, terms, whole, first, count) {
        return;
    }
    portable_merge(scratch, base, terms, whole, first, count);
}

widest! {
    fn portable_merge(scratch: &mut Scratch, base: Elements, terms: &[Term], whole: Whole, first: usize, count: usize) {
        if scratch.f16 {
            scratch.deltas::<true>(base, terms, first, count);
            scratch.elect::<true>(terms, whole);
        } else {
            scratch.deltas::<false>(base, terms, first, count);
            scratch.elect::<false>(terms, whole);
        }
    }
}

/// What a merge applies to the whole model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Whole {
    /// Factor λ.
    pub(crate) scale: f32,
    /// The sign of elements whose sum is zero: 1, −1, or 0 where none is elected.
    pub(crate) tie: f32,
}
