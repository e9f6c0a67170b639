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

use super::block::{BLOCK, Block, Elements};
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

/// Working memory of one task, reused for all its blocks.
pub(crate) struct Scratch {
    base: Block,
    /// A source's own base, later the elected signs.
    side: Block,
    words: [u32; BLOCK],
    /// The key and first element that `words` hold, so that a shared mask is drawn once for all sources.
    drawn: Option<(Key, usize)>,
    sum: Block,
    total: Block,
    count: Block,
    tau: Vec<Block>,
}

impl Scratch {
    /// For tensors of at most `terms` sources.
    pub(crate) fn new(terms: usize) -> Scratch {
        Scratch {
            base: [0.0; BLOCK],
            side: [0.0; BLOCK],
            words: [0; BLOCK],
            drawn: None,
            sum: [0.0; BLOCK],
            total: [0.0; BLOCK],
            count: [0.0; BLOCK],
            tau: vec![[0.0; BLOCK]; terms],
        }
    }

    /// Steps 1 and 2 for `count` elements from `first` on, as bits of |τ|: what a trim ranks. Zeros follow.
    #[inline(always)]
    fn magnitudes(
        &mut self,
        base: Elements,
        term: &Term,
        first: usize,
        count: usize,
        out: &mut [u32; BLOCK],
    ) {
        base.widen(first, count, &mut self.base);
        self.drop(term, 0, first, count);
        for (bits, tau) in out.iter_mut().zip(&self.tau[0]) {
            *bits = tau.to_bits() & MAGNITUDE;
        }
    }

    /// Steps 1 to 4 and the sum of step 5.
    #[inline(always)]
    fn deltas(&mut self, base: Elements, terms: &[Term], first: usize, count: usize) {
        base.widen(first, count, &mut self.base);
        self.sum.fill(0.0);
        for (s, term) in terms.iter().enumerate() {
            self.drop(term, s, first, count);
            let Rule { threshold, keep, .. } = term.rule;
            for (tau, sum) in self.tau[s].iter_mut().zip(&mut self.sum) {
                let kept = if tau.to_bits() & MAGNITUDE < threshold { 0.0 } else { *tau };
                *tau = kept / keep;
                *sum += *tau;
            }
        }
    }

    /// Steps 1 and 2 into `tau[s]`; `self.base` holds the recipe's base.
    #[inline(always)]
    fn drop(&mut self, term: &Term, s: usize, first: usize, count: usize) {
        let tau = &mut self.tau[s];
        term.model.widen(first, count, tau);
        let base = match term.base {
            Some(own) => {
                own.widen(first, count, &mut self.side);
                &self.side
            }
            None => &self.base,
        };
        if term.rule.drop == 0 {
            for (tau, base) in tau.iter_mut().zip(base) {
                *tau -= base;
            }
            return;
        }
        if self.drawn != Some((term.key, first)) {
            field::fill(term.key, first as u64, &mut self.words);
            self.drawn = Some((term.key, first));
        }
        for ((tau, base), word) in tau.iter_mut().zip(base).zip(&self.words) {
            let delta = *tau - base;
            *tau = if word >> 8 < term.rule.drop { 0.0 } else { delta };
        }
    }

    /// The sum of the elected signs of `count` elements from `first` on, ties counting nothing.
    #[inline(always)]
    fn signs(&mut self, base: Elements, terms: &[Term], first: usize, count: usize) -> i64 {
        self.deltas(base, terms, first, count);
        // What lies beyond `count` is 0 − 0 from every source and counts nothing.
        let total: i32 = self.sum.iter().map(|&s| i32::from(s > 0.0) - i32::from(s < 0.0)).sum();
        total.into()
    }

    /// All steps, leaving the merged values in `sum`.
    #[inline(always)]
    fn merge(&mut self, base: Elements, terms: &[Term], whole: Whole, first: usize, count: usize) {
        self.deltas(base, terms, first, count);
        for (sign, &sum) in self.side.iter_mut().zip(&self.sum) {
            let elected = if sum < 0.0 { -1.0 } else { whole.tie };
            *sign = if sum > 0.0 { 1.0 } else { elected };
        }
        self.total.fill(0.0);
        self.count.fill(0.0);
        for (term, tau) in terms.iter().zip(&self.tau) {
            let weight = term.rule.weight;
            for i in 0..BLOCK {
                let agrees = tau[i] * self.side[i] > 0.0;
                self.total[i] += if agrees { weight * tau[i] } else { 0.0 };
                self.count[i] += if agrees { 1.0 } else { 0.0 };
            }
        }
        for i in 0..BLOCK {
            let moved = self.base[i] + whole.scale * (self.total[i] / self.count[i]);
            let merged = if self.count[i] > 0.0 { moved } else { self.base[i] };
            self.sum[i] = if self.sum[i].is_nan() { self.sum[i] } else { merged };
        }
    }

    /// What [`merge`] left.
    pub(crate) fn merged(&self, count: usize) -> &[f32] {
        &self.sum[..count]
    }
}

widest! {
    /// The bits of |τ| of one block after steps 1 and 2: what a trim ranks. Zeros follow the last element.
    pub(crate) fn magnitudes(scratch: &mut Scratch, base: Elements, term: &Term, first: usize, count: usize, out: &mut [u32; BLOCK]) {
        scratch.magnitudes(base, term, first, count, out);
    }
}

widest! {
    /// Adds to `total` the sum of one block's elected signs, ties counting nothing.
    pub(crate) fn signs(scratch: &mut Scratch, base: Elements, terms: &[Term], first: usize, count: usize, total: &mut i64) {
        *total += scratch.signs(base, terms, first, count);
    }
}

widest! {
    /// Merges one block: `count` elements from `first` on, found in [`Scratch::merged`].
    pub(crate) fn merge(scratch: &mut Scratch, base: Elements, terms: &[Term], whole: Whole, first: usize, count: usize) {
        scratch.merge(base, terms, whole, first, count);
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
