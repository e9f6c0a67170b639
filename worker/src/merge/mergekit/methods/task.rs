//! Base plus weighted task vectors: `task_arithmetic`, `ties`, `dare_*`, `della*` and `breadcrumbs*`.
//!
//! Each task vector is thinned out as the method says and multiplied by its weight. The methods that elect signs add up, per
//! element, those whose sign is that of the sum of all (positive for a sum of zero); with `normalize` the result is
//! divided by the sum of the weights that took part, 1 for zero. The others add all and divide by the sum of all
//! weights. Then comes `lambda`, then the base. Source: `mergekit/merge_methods/generalized_task_arithmetic.py`.
//!
//! One pass over the elements does all of it; what a trim or a mask needs to know of the whole tensor is found before.

#[cfg(target_arch = "x86_64")]
use super::compute::Bytes;
use super::compute::{Put, blocks, each_block_or, map, zip};
use super::delta::Delta;
use super::error::Result;
use super::parameters::Settled;
use super::reduce::{self, Columns};
use super::select::at_once;
use super::values::{Compute, round_inline};
#[cfg(target_arch = "x86_64")]
use super::wide::{self, Brains, MOST, Rest, Source};
use super::{Checked, Input, Method};
#[cfg(target_arch = "x86_64")]
use crate::merge::avx512::Stored;
use crate::merge::block::{BLOCK, Block};
use crate::merge::simd::widest;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

pub(super) fn merge(method: Method, checked: &Checked, base: &Input, put: Put) -> Result<()> {
    let deltas = thinned(method, checked, base)?;
    let rule = Rule::new(method, checked);
    #[cfg(target_arch = "x86_64")]
    let brains = Narrow::new(base, &deltas, &rule);
    each_block_or(
        checked,
        put,
        |first, out| {
            #[cfg(target_arch = "x86_64")]
            return brains.as_ref().is_some_and(|brains| brains.block(first, out).is_some());
            #[cfg(not(target_arch = "x86_64"))]
            false
        },
        || (blocks(1), blocks(2 * deltas.len())),
        |(base_block, blocks), first, out| {
            #[cfg(target_arch = "x86_64")]
            if wide_block(base, &deltas, &rule, first, out) {
                return;
            }
            merge_block(base, &deltas, &rule, &mut base_block[0], blocks, first, out);
        },
    );
    Ok(())
}

/// [`merge_block`] by hand; false, with nothing done, where the block does not fit.
#[cfg(target_arch = "x86_64")]
pub(super) fn wide_block(base: &Input, deltas: &[Delta], rule: &Rule, first: usize, out: &mut [f32]) -> bool {
    let Ok(block) = out.try_into() else { return false };
    with_stored(base, deltas, rule, first, |stored, sources| {
        wide::merge(rule.compute, stored, sources, rule.rest(), block).then_some(())
    })
    .is_some()
}

/// Calls `merge` with what kernels by hand read of the block of elements from `first` on; `None` where they do not fit.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn with_stored<R>(
    base: &Input,
    deltas: &[Delta],
    rule: &Rule,
    first: usize,
    merge: impl FnOnce(Stored, &[Source]) -> Option<R>,
) -> Option<R> {
    if deltas.is_empty() || deltas.len() > MOST || !rule.columns_are_plain(first + BLOCK) {
        return None;
    }
    let stored = base.values.block(rule.compute, first)?;
    let source = |s: usize| deltas[s].source(first, rule.weights[s]);
    // What lies beyond the last is never looked at.
    let mut sources = [source(0)?; MOST];
    for (s, place) in sources.iter_mut().enumerate().take(deltas.len()).skip(1) {
        *place = source(s)?;
    }
    merge(stored, &sources[..deltas.len()])
}

/// A merge of bfloat16 numbers whose blocks are made as such.
#[cfg(target_arch = "x86_64")]
pub(super) struct Narrow<'a> {
    base: &'a Input<'a>,
    deltas: &'a [Delta<'a>],
    rule: &'a Rule,
    brains: Brains,
}

#[cfg(target_arch = "x86_64")]
impl<'a> Narrow<'a> {
    /// `None` where no kernel does that.
    pub(super) fn new(base: &'a Input<'a>, deltas: &'a [Delta<'a>], rule: &'a Rule) -> Option<Narrow<'a>> {
        if rule.compute != Compute::Bf16 {
            return None;
        }
        let factors: Vec<(Option<f32>, f32)> =
            deltas.iter().map(Delta::rescaling).zip(rule.weights.iter().copied()).collect();
        let brains = Brains::new(&factors, rule.rest())?;
        Some(Narrow { base, deltas, rule, brains })
    }

    /// [`merge_block`] as bytes of bfloat16 numbers, and how many vectors of it asked for more care; `None`, with nothing done, where the
    /// block does not fit.
    pub(super) fn block(&self, first: usize, out: &mut Bytes) -> Option<usize> {
        let Narrow { base, deltas, rule, brains } = self;
        with_stored(base, deltas, rule, first, |stored, sources| brains.merge(stored, sources, out))
    }
}

widest! {
    /// One block of elements, in working memory.
    pub(super) fn merge_block(
        base: &Input<'_>,
        deltas: &[Delta<'_>],
        rule: &Rule,
        base_block: &mut Block,
        blocks: &mut [Block],
        first: usize,
        out: &mut [f32],
    ) {
        let compute = rule.compute;
        let base_block = &mut base_block[..out.len()];
        base.values.read_inline(compute, first, base_block);
        for ((delta, weight), block) in deltas.iter().zip(&rule.weights).zip(blocks.iter_mut()) {
            let block = &mut block[..out.len()];
            delta.read_inline(base_block, first, block);
            map(compute, block, |x| x * weight);
        }
        if deltas.is_empty() {
            out.copy_from_slice(base_block);
            return;
        }
        rule.mix(first, blocks, out);
        zip(compute, out, base_block, |x, b| b + x);
    }
}

/// The task vectors as the method thins them out. So many are in work at a time and no more: a thread that waits for the others' part
/// of one would else begin another, and how much memory ranking takes would be left to chance.
pub(super) fn thinned<'a>(method: Method, checked: &'a Checked, base: &'a Input) -> Result<Vec<Delta<'a>>> {
    let rescale = checked.shared.holds("rescale");
    let others = &checked.others;
    let found: Vec<OnceLock<Result<Delta>>> = others.iter().map(|_| OnceLock::new()).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some((input, settled)) = others.get(place) else { return };
            let _ = found[place].set(Delta::sparse(method, checked.call, input, base, settled, rescale));
        }
    };
    rayon::scope(|scope| {
        for _ in 0..at_once(checked.elements, checked.call.compute, rayon::current_num_threads()) {
            scope.spawn(|_| work());
        }
    });
    // Whoever took a place has filled it.
    found.into_iter().filter_map(OnceLock::into_inner).collect()
}

/// Whether the method elects signs.
fn elects(method: Method) -> bool {
    matches!(method, Method::Ties | Method::DareTies | Method::Della | Method::BreadcrumbsTies)
}

/// What a sum without election is divided by.
fn divisor(method: Method, compute: Compute, weights: &[f32]) -> Option<f32> {
    let sum = compute.round(reduce::short(compute, weights));
    let tiny = compute.round(1e-8);
    (!elects(method)).then_some(if sum.abs() < tiny { 1.0 } else { sum })
}

/// How weighted task vectors become one.
pub(super) struct Rule {
    compute: Compute,
    weights: Vec<f32>,
    columns: Columns,
    /// Set for the methods that do not elect signs.
    divisor: Option<f32>,
    normalize: bool,
    lambda: Option<f32>,
}

impl Rule {
    pub(super) fn new(method: Method, checked: &Checked) -> Rule {
        let compute = checked.call.compute;
        let weight = |settled: &Settled| settled.number("weight").unwrap_or_default() as f32;
        let weights: Vec<f32> =
            checked.others.iter().map(|(_, settled)| compute.round(weight(settled))).collect();
        Rule {
            compute,
            columns: Columns::new(compute, weights.len(), checked.elements),
            divisor: divisor(method, compute, &weights),
            normalize: checked.shared.holds("normalize"),
            lambda: checked.shared.number("lambda").filter(|l| *l != 1.0).map(|l| l as f32),
            weights,
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn rest(&self) -> Rest {
        Rest { divisor: self.divisor, normalize: self.normalize, lambda: self.lambda }
    }

    /// Whether the columns up to `end` are added up plainly.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn columns_are_plain(&self, end: usize) -> bool {
        self.columns.plain(end)
    }

    /// Mixes the task vectors in the first half of `blocks` into `out`; the second half is working memory.
    #[inline(always)]
    fn mix(&self, first: usize, blocks: &mut [Block], out: &mut [f32]) {
        let (terms, weights) = blocks.split_at_mut(self.weights.len());
        sum_columns(self.compute, &self.columns, first, terms, out);
        match self.divisor {
            Some(divisor) if self.normalize => map(self.compute, out, |x| x / divisor),
            Some(_) => {}
            None => {
                elect(out, terms, &self.weights, weights);
                sum_columns(self.compute, &self.columns, first, terms, out);
                if self.normalize {
                    let mut divisors = [0.0; BLOCK];
                    let divisors = &mut divisors[..out.len()];
                    sum_columns(self.compute, &self.columns, first, weights, divisors);
                    zip(self.compute, out, divisors, |x, d| x / if d == 0.0 { 1.0 } else { d });
                }
            }
        }
        if let Some(lambda) = self.lambda {
            map(self.compute, out, |x| x * lambda);
        }
    }
}

/// Sets the terms whose sign is not that of `sums` to zero (by a product, as [`super::mask::Mask::apply`]), and writes
/// each term's weight where it takes part and zero where not.
#[inline(always)]
pub(super) fn elect(sums: &[f32], terms: &mut [Block], each: &[f32], weights: &mut [Block]) {
    for ((term, weight), out) in terms.iter_mut().zip(each).zip(weights) {
        for ((x, sum), out) in term.iter_mut().zip(sums).zip(out) {
            let agrees = if *sum >= 0.0 { *x > 0.0 } else { *x < 0.0 };
            let agrees = f32::from(u8::from(agrees));
            *x *= agrees;
            *out = weight * agrees;
        }
    }
}

/// The sum of each column of `terms`, from element `first` on, rounded to the type.
#[inline(always)]
pub(super) fn sum_columns(
    compute: Compute,
    columns: &Columns,
    first: usize,
    terms: &[Block],
    out: &mut [f32],
) {
    if columns.plain(first + out.len()) {
        out.fill(0.0);
        for term in terms {
            out.iter_mut().zip(term).for_each(|(sum, x)| *sum += x);
        }
    } else {
        for (i, out) in out.iter_mut().enumerate() {
            *out = columns.sum(first + i, |t| terms[t][i]);
        }
    }
    round_inline(compute, out);
}
