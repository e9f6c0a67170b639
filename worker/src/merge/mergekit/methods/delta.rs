//! Task vectors, made sparse.
//!
//! Four ways to thin a task vector τ out, each keeping about the share `density` of its elements:
//! - **magnitude** (`ties`): the max(1, ⌊density · n⌋) largest;
//! - **outliers** (`breadcrumbs`): the ⌊density · n⌋ largest but for the ⌊gamma · n⌋ very largest, of which fewer
//!   go where too little would stay;
//! - **random** (`dare_*`): each with probability `density`;
//! - **ranked** (`della*`): each with a probability that rises from `density − epsilon` to `density + epsilon` with
//!   its rank of magnitude within its row.
//!
//! With `rescale`, what stays is multiplied by Σ|τ| before ÷ Σ|τ| after, unless either is below 1e-7. The masks of the last
//! two are computed in float32 where the type is float16. Source: `mergekit/sparsify.py`.

use super::error::{MethodError, Result};
use super::mask::{Mask, Order};
use super::parameters::Settled;
#[cfg(target_arch = "x86_64")]
use super::reduce::Lanes;
use super::reduce::{self, Rows};
use super::values::{Compute, round_inline};
#[cfg(target_arch = "x86_64")]
use super::wide::{self, Source};
use super::{Call, Input, Method};
#[cfg(target_arch = "x86_64")]
use crate::merge::avx512::Stored;
use crate::merge::block::BLOCK;
use crate::merge::field::Key;
use crate::merge::simd::widest;
use common::recipe::Mask as Masks;

/// Norms below this are not divided by.
const TINY_NORM: f32 = 1e-7;

/// The task vector of one source: m − b, thinned out.
pub(super) struct Delta<'a> {
    input: &'a Input<'a>,
    base: &'a Input<'a>,
    compute: Compute,
    pub(super) kept: Kept,
    /// The type of mask and scale.
    pub(super) work: Compute,
    scale: Option<f32>,
}

pub(super) enum Kept {
    All,
    Nothing,
    Some(Mask),
}

impl<'a> Delta<'a> {
    /// All of the task vector.
    pub(super) fn whole(input: &'a Input<'a>, base: &'a Input<'a>, compute: Compute) -> Delta<'a> {
        Delta { input, base, compute, kept: Kept::All, work: compute, scale: None }
    }

    /// As `method` thins it out, with the parameters of the input.
    pub(super) fn sparse(
        method: Method,
        call: &Call,
        input: &'a Input<'a>,
        base: &'a Input<'a>,
        settled: &Settled,
        rescale: bool,
    ) -> Result<Delta<'a>> {
        let mut delta = Delta::whole(input, base, call.compute);
        let Some(density) = settled.number("density").filter(|d| *d < 1.0) else { return Ok(delta) };
        let elements = input.values.len();
        let size = |share: f64| (share * elements as f64) as usize;
        let key = Key::new(Masks::Independent, call.seed, input.source, call.tensor);
        match method {
            Method::Ties => {
                if density <= 0.0 || elements == 0 {
                    delta.kept = Kept::Nothing;
                    return Ok(delta);
                }
                let ranks = (0, size(density).max(1));
                delta.kept = Kept::Some(delta.ranked(call, ranks, Order::Falling));
            }
            Method::Breadcrumbs | Method::BreadcrumbsTies => {
                let gamma = settled.number("gamma").unwrap_or_default();
                for (parameter, value) in [("density", density), ("gamma", gamma)] {
                    if value < 0.0 {
                        return Err(refused(parameter, value, "a number of at least 0"));
                    }
                }
                let keep = size(density);
                let from = elements.saturating_sub(keep).saturating_sub(size(gamma));
                delta.kept = Kept::Some(delta.ranked(call, (from, from + keep), Order::Rising));
            }
            Method::DareLinear | Method::DareTies => {
                if density < 0.0 {
                    return Err(refused("density", density, "a number of at least 0"));
                }
                delta.work = work(call.compute);
                let probability = delta.work.round(density as f32);
                #[cfg(target_arch = "x86_64")]
                if rescale
                    && call.threads <= 1
                    && let Some((mask, sums)) = super::dare::drawn_and_summed(&delta, key, probability)
                {
                    (delta.kept, delta.scale) = (Kept::Some(mask), delta.rescaled(sums));
                    return Ok(delta);
                }
                delta.kept = Kept::Some(Mask::random(elements, key, probability));
            }
            Method::Della | Method::DellaLinear => {
                let epsilon = settled.number("epsilon").unwrap_or_default();
                if density <= 0.0 {
                    delta.kept = Kept::Nothing;
                    return Ok(delta);
                }
                if density + epsilon >= 1.0 || density - epsilon <= 0.0 {
                    return Err(refused(
                        "epsilon",
                        epsilon,
                        "a number with density ± epsilon between 0 and 1",
                    ));
                }
                delta.work = work(call.compute);
                let work = delta.work;
                let fill = |first: usize, out: &mut [f32]| delta.difference(first, out);
                let chances =
                    |keys: &[u32], chances: &mut [f32]| ranked(work, density, epsilon, keys, chances);
                let mask = Mask::random_lines(elements, key, lines(call.shape), &fill, chances);
                delta.kept = Kept::Some(mask);
            }
            _ => return Ok(delta),
        }
        if rescale {
            delta.scale = delta.norm_kept(call.threads);
        }
        Ok(delta)
    }

    fn ranked(&self, call: &Call, ranks: (usize, usize), order: Order) -> Mask {
        let elements = self.input.values.len();
        Mask::ranks(
            elements,
            call.spill,
            self.compute,
            |first, out| self.difference(first, out),
            |falling, first, keys| self.keys(falling, first, keys),
            ranks,
            order,
        )
    }

    /// The source's elements less the base's.
    pub(super) fn difference(&self, first: usize, out: &mut [f32]) {
        #[cfg(target_arch = "x86_64")]
        if let Some((base, model)) = self.stored(first)
            && wide::difference(self.compute, base, model, out)
        {
            return;
        }
        difference(self, first, out);
    }

    /// What these elements are ranked by, by hand; false, with nothing done, where that cannot be.
    fn keys(&self, falling: bool, first: usize, keys: &mut [u16]) -> bool {
        #[cfg(target_arch = "x86_64")]
        if self.compute == Compute::Bf16 {
            return self.stored(first).is_some_and(|(base, model)| wide::keys(base, model, falling, keys));
        }
        let _ = (falling, first, keys);
        false
    }

    #[inline(always)]
    fn difference_inline(&self, first: usize, out: &mut [f32]) {
        let mut base = [0.0; BLOCK];
        let base = &mut base[..out.len()];
        self.base.values.read_inline(self.compute, first, base);
        self.read_against(base, first, out);
    }

    #[inline(always)]
    fn read_against(&self, base: &[f32], first: usize, out: &mut [f32]) {
        self.input.values.read_inline(self.compute, first, out);
        out.iter_mut().zip(base).for_each(|(x, b)| *x -= b);
        round_inline(self.compute, out);
    }

    pub(super) fn elements(&self) -> usize {
        self.input.values.len()
    }

    /// The base's and the source's block of elements from `first` on, where kernels by hand can read both.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(super) fn stored(&self, first: usize) -> Option<(Stored<'_>, Stored<'_>)> {
        Some((self.base.values.block(self.compute, first)?, self.input.values.block(self.compute, first)?))
    }

    /// What is kept is multiplied by, if by anything.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn rescaling(&self) -> Option<f32> {
        self.scale.filter(|_| matches!(self.kept, Kept::Some(_)))
    }

    /// What a kernel by hand reads of the block of elements from `first` on, given each element's weight; `None` where it has to be
    /// read by [`Delta::read`].
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(super) fn source(&self, first: usize, weight: f32) -> Option<Source<'_>> {
        let kept = match &self.kept {
            Kept::Nothing => return None,
            Kept::All => None,
            Kept::Some(mask) => Some(mask.block(first)?),
        };
        Some(Source {
            model: self.input.values.block(self.compute, first)?,
            kept,
            scale: self.rescaling(),
            weight,
        })
    }

    /// Writes the elements from `first` on, at most a block of them, given the base's.
    pub(super) fn read(&self, base: &[f32], first: usize, out: &mut [f32]) {
        read(self, base, first, out);
    }

    /// The same within a kernel.
    #[inline(always)]
    pub(super) fn read_inline(&self, base: &[f32], first: usize, out: &mut [f32]) {
        match &self.kept {
            Kept::Nothing => out.fill(0.0),
            Kept::All => self.read_against(base, first, out),
            Kept::Some(mask) => {
                self.read_against(base, first, out);
                mask.apply_inline(first, out);
                if let Some(scale) = self.scale {
                    out.iter_mut().for_each(|x| *x *= scale);
                    // What the mask's own type is, the tensor's is no wider.
                    round_inline(self.compute, out);
                }
            }
        }
    }

    /// What gives the kept elements the sum of magnitudes of all.
    fn norm_kept(&self, threads: usize) -> Option<f32> {
        let Kept::Some(mask) = &self.kept else { return None };
        let sums = reduce::sums(self.work, threads, self.elements(), &Magnitudes { delta: self, mask });
        self.rescaled(sums)
    }

    /// The same, given the sums of magnitudes of all and of the kept elements.
    fn rescaled(&self, [before, after]: [f32; 2]) -> Option<f32> {
        let tiny = self.work.round(TINY_NORM);
        (!(before < tiny || after < tiny)).then(|| self.work.round(before / after))
    }
}

/// Magnitudes of all, and of what a mask keeps.
pub(super) struct Magnitudes<'a> {
    pub(super) delta: &'a Delta<'a>,
    pub(super) mask: &'a Mask,
}

impl Rows<2> for Magnitudes<'_> {
    fn fill(&self, first: usize, [all, kept]: [&mut [f32]; 2]) {
        magnitudes(self.delta, self.mask, first, all, kept);
    }

    #[cfg(target_arch = "x86_64")]
    fn add(&self, first: usize, count: usize, round: usize, lanes: &mut [Lanes; 2]) {
        if !self.add_wide(first, count, lanes) {
            self.add_filled(first, count, round, lanes);
        }
    }
}

impl Magnitudes<'_> {
    /// [`Rows::add`] by hand; false, with nothing done, where the block does not fit.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn add_wide(&self, first: usize, count: usize, lanes: &mut [Lanes; 2]) -> bool {
        let Delta { base, compute, work, .. } = self.delta;
        let (Some(source), Some(block)) = (self.delta.source(first, 1.0), base.values.block(*compute, first))
        else {
            return false;
        };
        wide::add_magnitudes(*compute, *work, block, &source, count, lanes)
    }
}

widest! {
    pub(super) fn difference(delta: &Delta<'_>, first: usize, out: &mut [f32]) {
        delta.difference_inline(first, out);
    }
}

widest! {
    fn read(delta: &Delta<'_>, base: &[f32], first: usize, out: &mut [f32]) {
        delta.read_inline(base, first, out);
    }
}

widest! {
    fn magnitudes(delta: &Delta<'_>, mask: &Mask, first: usize, all: &mut [f32], kept: &mut [f32]) {
        delta.difference_inline(first, all);
        kept.copy_from_slice(all);
        mask.apply_inline(first, kept);
        all.iter_mut().for_each(|x| *x = x.abs());
        kept.iter_mut().for_each(|x| *x = x.abs());
    }
}

/// float16 masks are drawn in float32.
fn work(compute: Compute) -> Compute {
    if compute == Compute::F16 { Compute::F32 } else { compute }
}

fn refused(parameter: &'static str, value: f64, takes: &'static str) -> MethodError {
    MethodError::Value { parameter, value: value.to_string(), takes }
}

/// Length and stride of the lines within which magnitudes are ranked: the second dimension, or the only one.
pub(super) fn lines(shape: &[usize]) -> (usize, usize) {
    match shape {
        [] => (1, 1),
        [n] => (*n, 1),
        [_, n, rest @ ..] => (*n, rest.iter().product()),
    }
}

/// The probability of each element of a line to be kept.
fn ranked(work: Compute, density: f64, epsilon: f64, keys: &[u32], chances: &mut [f32]) {
    let rank = |i: usize| work.round(work.round(i as f32) + 1.0);
    let (least, most) = (rank(0), rank(keys.len() - 1));
    let range = work.round(most - least);
    let from = work.round((density - epsilon) as f32);
    let chance = |i: usize| {
        // One element has no rank among others.
        let share =
            if range > 0.0 { work.round(work.round(rank(i) - least) / range).clamp(0.0, 1.0) } else { 0.5 };
        let more = work.round(work.round(share * 2.0) * epsilon as f32);
        work.round(from + more)
    };
    let mut items: Vec<super::sort::Item> = keys.iter().copied().zip(0..).collect();
    super::sort::sort(&mut items);
    for (i, (_, element)) in items.into_iter().enumerate() {
        chances[element as usize] = chance(i);
    }
}
