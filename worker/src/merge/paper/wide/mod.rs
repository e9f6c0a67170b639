//! The paper's merge by hand for AVX-512: the portable kernels of the module above are the statement, and this must give
//! the same bits, any NaN for a NaN (`tests.rs`).
//!
//! Compiled from arrays, each step of a block passes through memory; here sixteen elements of all sources stay in registers
//! from the stored bytes to the sum, and a mask of DARE is sixteen bits instead of sixteen words. Measured
//! (docs/BENCHMARKS.md): three fifths of the time.
//!
//! What does not fit is left to the portable kernels: more than [`MOST`] sources, rows that are mapped, elements in another order, and
//! the last, shorter block of a tensor.

mod kernel;
#[cfg(test)]
mod tests;

use super::{Scratch, Term, Whole};
use crate::merge::avx512::{Brain, Kept, Stored, VECTORS, draw, here};
use crate::merge::block::{BLOCK, Elements};
use crate::merge::field::Key;

/// Sources whose elements are kept in registers together.
pub(super) const MOST: usize = 8;

/// One source's share of a block.
#[derive(Clone, Copy)]
struct Share<'a, S> {
    model: S,
    base: Option<S>,
    kept: &'a Kept,
    /// [`super::Rule`], in the order of its use.
    threshold: u32,
    keep: f32,
    weight: f32,
}

impl<'a> Share<'a, Stored<'a>> {
    /// The same where all its elements are bfloat16 numbers.
    fn brain(self) -> Option<Share<'a, Brain<'a>>> {
        let Share { model, base, kept, threshold, keep, weight } = self;
        let base = match base {
            Some(own) => Some(own.brain()?),
            None => None,
        };
        Some(Share { model: model.brain()?, base, kept, threshold, keep, weight })
    }
}

/// Masks that were drawn last, by term.
#[derive(Clone)]
pub(super) struct Masks {
    kept: Vec<Kept>,
    drawn: Vec<Option<(Key, usize, u32)>>,
}

impl Masks {
    pub(super) fn new(terms: usize) -> Masks {
        Masks { kept: vec![[u16::MAX; VECTORS]; terms], drawn: vec![None; terms] }
    }

    /// Draws the mask of a term, unless it is there: for this term already, or for another of the same key and rate.
    fn draw(&mut self, s: usize, term: &Term, first: usize) {
        let wanted = (term.rule.drop > 0).then_some((term.key, first, term.rule.drop));
        if self.drawn[s] == wanted && (wanted.is_some() || self.kept[s][0] == u16::MAX) {
            return;
        }
        let Some((key, first, drop)) = wanted else {
            (self.kept[s], self.drawn[s]) = ([u16::MAX; VECTORS], None);
            return;
        };
        match self.drawn[..s].iter().position(|d| *d == wanted) {
            Some(same) => self.kept[s] = self.kept[same],
            // SAFETY: `here` has found the features that the function is compiled for.
            #[expect(unsafe_code, reason = "a function compiled for features that were found")]
            None => unsafe { draw(key, first as u64, drop, &mut self.kept[s]) },
        }
        self.drawn[s] = wanted;
    }
}

/// What a kernel works on, where the block fits.
#[derive(Clone, Copy)]
struct Ready<'a, S> {
    base: S,
    shares: [Share<'a, S>; MOST],
}

impl<'a> Ready<'a, Stored<'a>> {
    /// The same where all elements are bfloat16 numbers.
    fn brain(&self) -> Option<Ready<'a, Brain<'a>>> {
        let mut shares = [self.shares[0].brain()?; MOST];
        for (place, share) in shares.iter_mut().zip(&self.shares).skip(1) {
            *place = share.brain()?;
        }
        Some(Ready { base: self.base.brain()?, shares })
    }
}

fn ready<'a>(
    masks: &'a mut Masks,
    base: &'a Elements,
    terms: &'a [Term],
    first: usize,
    count: usize,
) -> Option<Ready<'a, Stored<'a>>> {
    if !here() || count != BLOCK || !(1..=MOST).contains(&terms.len()) {
        return None;
    }
    let stored = Stored::of(base, first)?;
    for (s, term) in terms.iter().enumerate() {
        Stored::of(&term.model, first)?;
        if term.kept(first, count).is_none() {
            masks.draw(s, term, first);
        }
    }
    let masks = &*masks;
    let share = |s: usize| {
        let term = &terms[s];
        let own = term.base.as_ref();
        Some(Share {
            model: Stored::of(&term.model, first)?,
            base: match own {
                Some(own) => Some(Stored::of(own, first)?),
                None => None,
            },
            kept: term.kept(first, count).unwrap_or(&masks.kept[s]),
            threshold: term.rule.threshold,
            keep: term.rule.keep,
            weight: term.rule.weight,
        })
    };
    // What lies beyond the last term is never looked at.
    let mut shares = [share(0)?; MOST];
    for (place, s) in shares.iter_mut().zip(0..terms.len()).skip(1) {
        *place = share(s)?;
    }
    Some(Ready { base: stored, shares })
}

/// Calls a kernel for the arithmetic, the elements at hand, and whether any of the terms is rescaled.
macro_rules! call {
    ($kernel:ident, $f16:expr, $ready:expr, $terms:expr, $($argument:expr),*) => {{
        let ready = $ready;
        // Dividing by 1 changes nothing. In float16 each term tells for itself.
        let rescaled = !$f16 && $terms.iter().any(|term| term.rule.keep != 1.0);
        match ($f16, rescaled, ready.brain()) {
            (true, _, Some(brain)) => for_as_many!($kernel, HALF, false, brain, $terms, $($argument),*)
                .or_else(|| for_as_many!($kernel, ANY_HALF, false, ready, $terms, $($argument),*)),
            (true, _, None) => for_as_many!($kernel, HALF, false, ready, $terms, $($argument),*)
                .or_else(|| for_as_many!($kernel, ANY_HALF, false, ready, $terms, $($argument),*)),
            (_, true, Some(brain)) => for_as_many!($kernel, SINGLE, true, brain, $terms, $($argument),*),
            (_, false, Some(brain)) => for_as_many!($kernel, SINGLE, false, brain, $terms, $($argument),*),
            (_, true, None) => for_as_many!($kernel, SINGLE, true, ready, $terms, $($argument),*),
            (_, false, None) => for_as_many!($kernel, SINGLE, false, ready, $terms, $($argument),*),
        }
    }};
}

/// Calls it for the number of sources.
macro_rules! for_as_many {
    ($kernel:ident, $arithmetic:ident, $rescaled:literal, $ready:expr, $terms:expr, $($argument:expr),*) => {{
        let Ready { base, shares } = $ready;
        // SAFETY: `ready` has found the features that the kernels are compiled for.
        #[expect(unsafe_code, reason = "functions compiled for features that were found")]
        unsafe {
            match $terms.len() {
                1 => kernel::$kernel::<1, { kernel::$arithmetic }, $rescaled, _>(base, &shares, $($argument),*),
                2 => kernel::$kernel::<2, { kernel::$arithmetic }, $rescaled, _>(base, &shares, $($argument),*),
                3 => kernel::$kernel::<3, { kernel::$arithmetic }, $rescaled, _>(base, &shares, $($argument),*),
                4 => kernel::$kernel::<4, { kernel::$arithmetic }, $rescaled, _>(base, &shares, $($argument),*),
                5 => kernel::$kernel::<5, { kernel::$arithmetic }, $rescaled, _>(base, &shares, $($argument),*),
                6 => kernel::$kernel::<6, { kernel::$arithmetic }, $rescaled, _>(base, &shares, $($argument),*),
                7 => kernel::$kernel::<7, { kernel::$arithmetic }, $rescaled, _>(base, &shares, $($argument),*),
                _ => kernel::$kernel::<MOST, { kernel::$arithmetic }, $rescaled, _>(base, &shares, $($argument),*),
            }
        }
    }};
}

/// Calls a kernel that looks at one source.
macro_rules! for_one {
    ($kernel:ident, $f16:expr, $ready:expr, $($argument:expr),*) => {{
        let ready = $ready;
        // SAFETY: `ready` has found the features that the kernels are compiled for.
        #[expect(unsafe_code, reason = "functions compiled for features that were found")]
        unsafe {
            use kernel::{$kernel, ANY_HALF, HALF, SINGLE};
            match ($f16, ready.brain()) {
                (false, Some(brain)) => $kernel::<SINGLE, _>(brain.base, &brain.shares[0], $($argument),*),
                (false, None) => $kernel::<SINGLE, _>(ready.base, &ready.shares[0], $($argument),*),
                (true, Some(brain)) => $kernel::<HALF, _>(brain.base, &brain.shares[0], $($argument),*)
                    .or_else(|| $kernel::<ANY_HALF, _>(ready.base, &ready.shares[0], $($argument),*)),
                (true, None) => $kernel::<HALF, _>(ready.base, &ready.shares[0], $($argument),*)
                    .or_else(|| $kernel::<ANY_HALF, _>(ready.base, &ready.shares[0], $($argument),*)),
            }
        }
    }};
}

/// As [`super::merge`]; false, with nothing done, where the block does not fit.
pub(super) fn merge(
    scratch: &mut Scratch,
    base: Elements,
    terms: &[Term],
    whole: Whole,
    first: usize,
    count: usize,
) -> bool {
    let Scratch { masks, merged, f16, .. } = scratch;
    let Some(ready) = ready(masks, &base, terms, first, count) else { return false };
    call!(merge, *f16, ready, terms, whole, &mut merged.block).is_some()
}

/// As [`super::signs`]; `None` where the block does not fit.
pub(super) fn signs(
    scratch: &mut Scratch,
    base: Elements,
    terms: &[Term],
    first: usize,
    count: usize,
) -> Option<i64> {
    let ready = ready(&mut scratch.masks, &base, terms, first, count)?;
    call!(signs, scratch.f16, ready, terms,)
}

/// As [`super::magnitudes`]; false, with nothing done, where the block does not fit.
pub(super) fn magnitudes(
    scratch: &mut Scratch,
    base: Elements,
    term: &Term,
    first: usize,
    count: usize,
    out: &mut [u32; BLOCK],
) -> bool {
    let Scratch { masks, f16, .. } = scratch;
    let Some(ready) = ready(masks, &base, std::slice::from_ref(term), first, count) else {
        return false;
    };
    for_one!(magnitudes, *f16, ready, out).is_some()
}

/// As [`super::tally`]; `None`, with nothing counted, where the block does not fit.
pub(super) fn tally(
    scratch: &mut Scratch,
    base: Elements,
    term: &Term,
    (first, count): (usize, usize),
    from: u32,
    inside: &mut [u64],
) -> Option<u64> {
    let Scratch { masks, f16, .. } = scratch;
    let ready = ready(masks, &base, std::slice::from_ref(term), first, count)?;
    for_one!(tally, *f16, ready, from, inside)
}
