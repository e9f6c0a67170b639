//! The exact global trim: the magnitude of given rank among all elements of a source's task vector.
//!
//! The **rule**: with N elements over all tensors that the base names (zeros from DARE and from tensors that the
//! source lacks included) and `k = ⌊r · N⌋`, the threshold t is the magnitude of rank k, counted from 0 in rising
//! order, and elements with `|τ| < t` become zero. Elements equal to t stay, so at most k are zeroed. `k = N`
//! zeroes all, `k = 0` none.
//!
//! **How**: no sort. A sample of the blocks gives a histogram over the upper 16 of the 31 magnitude bits, hence a
//! window of bins in which the rank almost surely lies; one pass over everything counts what lies below the
//! window and tells all values inside it apart. Should the rank lie elsewhere after all, the histogram is
//! taken over everything and the pass repeated with the one bin that matters. The sample never changes the result.

use super::block::BLOCK;
use super::error::Result;
use super::flat::Flat;
use super::paper::{Scratch, magnitudes, tally};
use std::sync::atomic::AtomicBool;

/// Bits that the first histogram leaves out.
const LOW_BITS: u32 = 15;
const BINS: usize = 1 << 16;
/// One block in this many is sampled. A prime, so that no tensor's row length is in step with it.
const STRIDE: usize = 61;
/// Models below this size are counted in full at once.
const SAMPLE_FROM_ELEMENTS: u64 = 8 << 20;
/// Half the window's width as a share of all elements. Wide, for neighbouring elements are alike.
const MARGIN: f64 = 0.004;
/// A window of more bins than this is not worth its memory (8 MiB a source and thread, touched only where
/// values lie).
const WINDOW_BINS: usize = 32;

/// The most memory that the search for one source's threshold takes on one thread, in a model of so many elements.
pub fn scratch_bytes(elements: u64) -> u64 {
    let bins = if elements < SAMPLE_FROM_ELEMENTS { 1 } else { WINDOW_BINS as u64 };
    ((BINS as u64) + (bins << LOW_BITS)) * size_of::<u64>() as u64
}

/// What is asked of one source.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Query {
    /// Position of the source in the recipe.
    pub(crate) source: usize,
    /// Rank from 0, below the number of elements.
    pub(crate) rank: u64,
}

/// The number of elements to trim: `⌊rate · elements⌋`.
pub(crate) fn rank(rate: f64, elements: u64) -> u64 {
    ((rate * elements as f64).floor() as u64).min(elements)
}

/// For each query the bits of the magnitude of its rank.
pub(crate) fn thresholds(flat: &Flat, queries: &[Query], stop: &AtomicBool) -> Result<Vec<u32>> {
    let mut found = vec![None; queries.len()];
    if flat.elements >= SAMPLE_FROM_ELEMENTS {
        round(flat, queries, &mut found, STRIDE, MARGIN, stop)?;
    }
    round(flat, queries, &mut found, 1, 0.0, stop)?;
    Ok(found.into_iter().map(|f| f.expect("a full histogram always holds the rank")).collect())
}

/// Tries to answer the queries that are still open from a histogram of one block in `stride`.
fn round(
    flat: &Flat,
    queries: &[Query],
    found: &mut [Option<u32>],
    stride: usize,
    margin: f64,
    stop: &AtomicBool,
) -> Result<()> {
    let open: Vec<usize> = (0..queries.len()).filter(|&q| found[q].is_none()).collect();
    if open.is_empty() {
        return Ok(());
    }
    let asked: Vec<Query> = open.iter().map(|&q| queries[q]).collect();
    let coarse = coarse(flat, &asked, stride, stop)?;
    let windows: Vec<Option<Window>> = asked
        .iter()
        .zip(&coarse)
        .map(|(query, bins)| Window::around(query.rank, flat.elements, bins, margin))
        .collect();
    let kept: Vec<usize> = (0..open.len()).filter(|&i| windows[i].is_some()).collect();
    let searched: Vec<(Query, Window)> = kept.iter().filter_map(|&i| Some((asked[i], windows[i]?))).collect();
    for (&i, bits) in kept.iter().zip(fine(flat, &searched, stop)?) {
        found[open[i]] = bits;
    }
    Ok(())
}

/// A range of magnitude bits, never including zero.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Window {
    from: u32,
    width: u32,
}

impl Window {
    /// The bins that hold the ranks within `margin` of `rank`, judged by a histogram of a part of all elements.
    fn around(rank: u64, elements: u64, bins: &[u64], margin: f64) -> Option<Window> {
        let sampled: u64 = bins.iter().sum();
        let bin_of = |rank: u64| {
            let mut below = 0;
            bins.iter().position(|&n| {
                below += n;
                rank < below
            })
        };
        let at = |share: f64| ((share * sampled as f64).max(0.0) as u64).min(sampled.saturating_sub(1));
        let share = rank as f64 / elements as f64;
        // Without a margin the histogram is complete and ranks are exact, which a share may not be.
        let (low, high) = match margin > 0.0 {
            true => (bin_of(at(share - margin))?, bin_of(at(share + margin))?),
            false => (bin_of(rank)?, bin_of(rank)?),
        };
        let from = (low as u32) << LOW_BITS;
        let end = (high as u32 + 1) << LOW_BITS;
        (high - low < WINDOW_BINS).then(|| Window { from: from.max(1), width: end - from.max(1) })
    }
}

/// Per query the histogram of the upper bits over one block in `stride`.
fn coarse(flat: &Flat, queries: &[Query], stride: usize, stop: &AtomicBool) -> Result<Vec<Vec<u64>>> {
    let state = || (flat.scratch_for_one(), vec![vec![0u64; BINS]; queries.len()]);
    let states = flat.walk(stop, state, |(scratch, counts), tensor, spans| {
        let mut bits = [0u32; BLOCK];
        for span in spans.filter(|s| s.number.is_multiple_of(stride)) {
            for (query, counts) in queries.iter().zip(counts.iter_mut()) {
                let Some(term) = tensor.terms.iter().find(|t| t.source == query.source) else {
                    counts[0] += span.count as u64;
                    continue;
                };
                magnitudes(scratch, tensor.base, term, span.first, span.count, &mut bits);
                bits[..span.count].iter().for_each(|b| counts[(b >> LOW_BITS) as usize] += 1);
            }
        }
    })?;
    let mut total = vec![vec![0u64; BINS]; queries.len()];
    for (_, counts) in states {
        total.iter_mut().flatten().zip(counts.into_iter().flatten()).for_each(|(t, c)| *t += c);
    }
    Ok(total)
}

/// What one thread counts for one query.
struct Count {
    below: u64,
    inside: Vec<u64>,
}

/// Per query the magnitude of its rank, where that lies in its window (or is zero).
fn fine(flat: &Flat, searched: &[(Query, Window)], stop: &AtomicBool) -> Result<Vec<Option<u32>>> {
    if searched.is_empty() {
        return Ok(vec![]);
    }
    let empty = || -> Vec<Count> {
        searched.iter().map(|(_, w)| Count { below: 0, inside: vec![0; w.width as usize] }).collect()
    };
    let state = || (flat.scratch_for_one(), empty());
    let states: Vec<(Scratch, Vec<Count>)> = flat.walk(stop, state, |(scratch, counts), tensor, spans| {
        for span in spans {
            for ((query, window), count) in searched.iter().zip(counts.iter_mut()) {
                let Some(term) = tensor.terms.iter().find(|t| t.source == query.source) else {
                    count.below += span.count as u64;
                    continue;
                };
                let span = (span.first, span.count);
                count.below += tally(scratch, tensor.base, term, span, window.from, &mut count.inside);
            }
        }
    })?;
    let mut total: Vec<Count> = empty();
    for (_, counts) in states {
        for (total, count) in total.iter_mut().zip(counts) {
            total.below += count.below;
            total.inside.iter_mut().zip(count.inside).for_each(|(t, c)| *t += c);
        }
    }
    Ok(searched.iter().zip(total).map(|((query, window), count)| count.answer(query.rank, *window)).collect())
}

impl Count {
    fn answer(&self, rank: u64, window: Window) -> Option<u32> {
        if rank < self.below {
            // Only zeros lie below a window that starts at the smallest magnitude.
            return (window.from == 1).then_some(0);
        }
        let mut below = self.below;
        let bin = self.inside.iter().position(|&n| {
            below += n;
            rank < below
        });
        bin.map(|i| window.from + i as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::super::block::Elements;
    use super::super::field::Key;
    use super::super::flat::Tensor;
    use super::super::paper::{Rule, Term};
    use super::*;
    use crate::checkpoint::Dtype;
    use common::recipe::Arithmetic;

    fn check(values: &[f32], ranks: &[u64], stride: usize, margin: f64) -> usize {
        let zeros = vec![0u8; values.len() * 4];
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let rule = Rule { weight: 1.0, drop: 0, keep: 1.0, threshold: 0 };
        let model = Elements::new(&bytes, Dtype::F32);
        let terms = vec![Term { source: 3, rule, key: Key([0; 2]), model, base: None, drawn: None }];
        let base = Elements::new(&zeros, Dtype::F32);
        let flat = Flat::new(vec![Tensor { base, elements: values.len(), terms }], Arithmetic::Float32);
        let mut sorted: Vec<u32> = values.iter().map(|v| v.abs().to_bits()).collect();
        sorted.sort_unstable();
        let queries: Vec<Query> = ranks.iter().map(|&rank| Query { source: 3, rank }).collect();
        let mut found = vec![None; ranks.len()];
        round(&flat, &queries, &mut found, stride, margin, &AtomicBool::new(false)).unwrap();
        for (rank, bits) in ranks.iter().zip(&found) {
            assert!(bits.is_none_or(|b| b == sorted[*rank as usize]), "rank {rank}: {bits:?}");
        }
        found.iter().flatten().count()
    }

    fn noise(n: usize) -> Vec<f32> {
        let mut words = vec![0; n];
        super::super::field::words(Key([1, 2]), 0, &mut words);
        words.iter().map(|&w| (w as f32 / u32::MAX as f32 - 0.5).powi(3)).collect()
    }

    #[test]
    fn equals_a_sort() {
        let ranks = [0, 1, 17, 35_000, 69_998, 69_999];
        assert_eq!(check(&noise(70_000), &ranks, 1, 0.0), ranks.len());
        let ties: Vec<f32> = noise(70_000).iter().map(|v| (v * 40.0).round() / 40.0).collect();
        assert_eq!(check(&ties, &ranks, 1, 0.0), ranks.len());
    }

    #[test]
    fn holds_for_the_extremes() {
        assert_eq!(check(&[0.0; 5000], &[0, 4999], 1, 0.0), 2);
        let odd = [0.0, -0.0, f32::NAN, f32::INFINITY, f32::MIN_POSITIVE / 2.0, 65504.0, -1e-45, f32::MAX];
        let ranks: Vec<u64> = (0..8).collect();
        assert_eq!(check(&odd, &ranks, 1, 0.0), 8);
    }

    #[test]
    fn a_sample_finds_the_same_or_nothing() {
        let values: Vec<f32> = noise(2_000_000).iter().map(|v| v.cbrt()).collect();
        // Near zero a share of the elements spans too many octaves for a window.
        let ranks = [10_000, 1_000_000, 1_900_000];
        assert_eq!(check(&values, &ranks, STRIDE, MARGIN), 2);
        // Sorted values make the sample of a few blocks useless; it must not answer wrongly.
        let mut sorted = noise(200_000);
        sorted.sort_by(|a, b| a.abs().total_cmp(&b.abs()));
        check(&sorted, &[0, 100_000, 199_999], 191, MARGIN);
    }

    #[test]
    fn ranks_round_down() {
        assert_eq!((rank(0.0, 10), rank(0.29, 10), rank(1.0, 10)), (0, 2, 10));
    }
}
