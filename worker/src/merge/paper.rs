//! JRadiEvo's merge, one block of elements at a time.
//!
//! In: the base's elements and those of each source ([`Term`]). Out: `b + λ · mean` (steps 1 to 6 below) in one
//! pass without a temporary larger than a block. The global quantities, each source's trim threshold and the
//! sign for ties, are arguments here; `trim.rs` and `prepare.rs` find them.
//! Source: arXiv 2411.09933 and its authors' code.
//!
//! All arithmetic is f32, each operation rounded once, sums in the order of the sources, so a restatement of
//! these lines in any language gives the same bits.
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

use super::block::{BLOCK, Elements};
use super::field::{self, Key};
use super::simd::widest;

/// The bits of an f32 without its sign.
const MAGNITUDE: u32 = 0x7fff_ffff;

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

/// One source's share of one tensor.
pub(crate) struct Term<'a> {
    /// Position of the source in the recipe.
    pub(crate) source: usize,
    pub(crate) rule: Rule,
    pub(crate) key: Key,
    pub(crate) model: Elements<'a>,
    /// The source's own base, where it is not the recipe's.
    pub(crate) base: Option<Elements<'a>>,
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
}

impl Scratch {
    /// For tensors of at most `terms` sources.
    pub(crate) fn new(terms: usize) -> Scratch {
        Scratch {
            base: Spaced::new(),
            own: Spaced::new(),
            words: Spaced::new(),
            drawn: None,
            tau: vec![Spaced::new(); terms],
            merged: Spaced::new(),
        }
    }

    /// What [`merge`] left.
    pub(crate) fn merged(&self, count: usize) -> &[f32] {
        &self.merged.block[..count]
    }

    /// Steps 1 and 2 for all terms.
    #[inline(always)]
    fn deltas(&mut self, base: Elements, terms: &[Term], first: usize, count: usize) {
        base.widen(first, count, &mut self.base.block);
        for (s, term) in terms.iter().enumerate() {
            self.delta(term, s, first, count);
        }
    }

    /// Steps 1 and 2 into `tau[s]`; `self.base` holds the recipe's base.
    #[inline(always)]
    fn delta(&mut self, term: &Term, s: usize, first: usize, count: usize) {
        let tau = &mut self.tau[s].block;
        term.model.widen(first, count, tau);
        let base = match term.base {
            Some(own) => {
                own.widen(first, count, &mut self.own.block);
                &self.own.block
            }
            None => &self.base.block,
        };
        if term.rule.drop == 0 {
            for (tau, base) in tau.iter_mut().zip(base) {
                *tau -= base;
            }
            return;
        }
        if self.drawn != Some((term.key, first)) {
            field::fill(term.key, first as u64, &mut self.words.block);
            self.drawn = Some((term.key, first));
        }
        for ((tau, base), word) in tau.iter_mut().zip(base).zip(&self.words.block) {
            let delta = *tau - base;
            *tau = if word >> 8 < term.rule.drop { 0.0 } else { delta };
        }
    }

    /// Steps 3 and 4 for one strip of all terms, left in `tau`, and the sum of step 5.
    #[inline(always)]
    fn survivors(&mut self, terms: &[Term], strip: usize) -> [f32; STRIP] {
        let mut sum = [0.0; STRIP];
        for (term, tau) in terms.iter().zip(&mut self.tau) {
            let Rule { threshold, keep, .. } = term.rule;
            let tau = &mut tau.block.as_chunks_mut::<STRIP>().0[strip];
            for (tau, sum) in tau.iter_mut().zip(&mut sum) {
                let kept = if tau.to_bits() & MAGNITUDE < threshold { 0.0 } else { *tau };
                *tau = kept / keep;
                *sum += *tau;
            }
        }
        sum
    }

    /// The sum of the elected signs.
    #[inline(always)]
    fn signs(&mut self, terms: &[Term]) -> i64 {
        let mut total = [0i32; STRIP];
        for strip in 0..BLOCK / STRIP {
            // What lies beyond the last element is 0 − 0 from every source and counts nothing.
            for (total, sum) in total.iter_mut().zip(self.survivors(terms, strip)) {
                *total += i32::from(sum > 0.0) - i32::from(sum < 0.0);
            }
        }
        total.iter().map(|&t| i64::from(t)).sum()
    }

    /// Steps 3 to 6 into `merged`.
    #[inline(always)]
    fn elect(&mut self, terms: &[Term], whole: Whole) {
        for strip in 0..BLOCK / STRIP {
            let sum = self.survivors(terms, strip);
            let sign: [f32; STRIP] = std::array::from_fn(|i| {
                let elected = if sum[i] < 0.0 { -1.0 } else { whole.tie };
                if sum[i] > 0.0 { 1.0 } else { elected }
            });
            let (mut total, mut count) = ([0.0; STRIP], [0.0; STRIP]);
            for (term, tau) in terms.iter().zip(&self.tau) {
                let tau = &tau.block.as_chunks::<STRIP>().0[strip];
                for i in 0..STRIP {
                    let agrees = tau[i] * sign[i] > 0.0;
                    total[i] += if agrees { term.rule.weight * tau[i] } else { 0.0 };
                    count[i] += if agrees { 1.0 } else { 0.0 };
                }
            }
            let base = &self.base.block.as_chunks::<STRIP>().0[strip];
            let merged = &mut self.merged.block.as_chunks_mut::<STRIP>().0[strip];
            for i in 0..STRIP {
                let moved = base[i] + whole.scale * (total[i] / count[i]);
                let chosen = if count[i] > 0.0 { moved } else { base[i] };
                merged[i] = if sum[i].is_nan() { sum[i] } else { chosen };
            }
        }
    }
}

widest! {
    /// The bits of |τ| of one block after steps 1 and 2: what a trim ranks. Zeros follow the last element.
    pub(crate) fn magnitudes(scratch: &mut Scratch, base: Elements, term: &Term, first: usize, count: usize, out: &mut [u32; BLOCK]) {
        scratch.deltas(base, std::slice::from_ref(term), first, count);
        for (bits, tau) in out.iter_mut().zip(&scratch.tau[0].block) {
            *bits = tau.to_bits() & MAGNITUDE;
        }
    }
}

widest! {
    /// Adds to `total` the sum of one block's elected signs, ties counting nothing.
    pub(crate) fn signs(scratch: &mut Scratch, base: Elements, terms: &[Term], first: usize, count: usize, total: &mut i64) {
        scratch.deltas(base, terms, first, count);
        *total += scratch.signs(terms);
    }
}

widest! {
    /// Merges one block: `count` elements from `first` on, found in [`Scratch::merged`].
    pub(crate) fn merge(scratch: &mut Scratch, base: Elements, terms: &[Term], whole: Whole, first: usize, count: usize) {
        scratch.deltas(base, terms, first, count);
        scratch.elect(terms, whole);
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
