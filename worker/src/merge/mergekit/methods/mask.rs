//! One bit an element: which elements of a task vector stay.

use super::reduce::Fill;
use super::sort::{self, Item};
use crate::merge::block::{BLOCK, CHUNK};
use crate::merge::field::{self, Key};
use crate::merge::simd::widest;
use rayon::prelude::*;
use std::sync::atomic::{AtomicU64, Ordering};

const WORD: usize = 64;
/// Magnitude bits that the first histogram leaves to the second.
const LOW_BITS: u32 = 15;

/// Bytes of an element that is sorted.
pub(super) const ITEM_BYTES: u64 = size_of::<Item>() as u64;

/// Bytes of a mask.
pub(super) fn bits_bytes(elements: usize) -> u64 {
    (elements.div_ceil(WORD) * size_of::<u64>()) as u64
}

/// A bit for each element of a tensor.
pub(super) struct Mask(Vec<u64>);

impl Mask {
    /// A mask whose bits are what `keep` makes of the elements from an index on, a block at a time.
    fn of_blocks(elements: usize, keep: impl Fn(usize, &mut [bool]) + Sync) -> Mask {
        let mut bits = vec![0u64; elements.div_ceil(WORD)];
        bits.par_chunks_mut(CHUNK / WORD).enumerate().for_each(|(c, chunk)| {
            let mut kept = [false; BLOCK];
            for (b, words) in chunk.chunks_mut(BLOCK / WORD).enumerate() {
                let first = c * CHUNK + b * BLOCK;
                let kept = &mut kept[..(elements - first).min(BLOCK)];
                keep(first, kept);
                for (word, kept) in words.iter_mut().zip(kept.chunks(WORD)) {
                    *word = kept.iter().rev().fold(0, |word, &k| word << 1 | u64::from(k));
                }
            }
        });
        Mask(bits)
    }

    /// Elements that are kept with one probability: those whose number in the field is at least `1 − p`.
    pub(super) fn random(elements: usize, key: Key, probability: f32) -> Mask {
        let limit = drop_limit(probability);
        Mask::of_blocks(elements, |first, kept| {
            drawn(key, first as u64, limit, kept);
        })
    }

    /// As [`Mask::random`] along lines of `length` elements, `stride` apart: `probabilities` writes those of one line from
    /// its magnitude bits.
    pub(super) fn random_lines(
        elements: usize,
        key: Key,
        (length, stride): (usize, usize),
        magnitudes: Fill,
        probabilities: impl Fn(&[u32], &mut [f32]) + Sync,
    ) -> Mask {
        let bits: Vec<AtomicU64> = (0..elements.div_ceil(WORD)).map(|_| AtomicU64::new(0)).collect();
        let lines = elements.checked_div(length).unwrap_or(0);
        (0..lines).into_par_iter().for_each(|line| {
            let first = line / stride * stride * length + line % stride;
            let mut keys = vec![0; length];
            read_line(first, stride, magnitudes, &mut keys);
            let mut chances = vec![0.0; length];
            probabilities(&keys, &mut chances);
            let mut word = [0];
            let mut words = vec![0; if stride == 1 { length } else { 0 }];
            field::words(key, first as u64, &mut words);
            for (i, chance) in chances.iter().enumerate() {
                let element = first + i * stride;
                let drawn = match words.get(i) {
                    Some(drawn) => *drawn,
                    None => {
                        field::words(key, element as u64, &mut word);
                        word[0]
                    }
                };
                if drawn >> 8 >= drop_limit(*chance) {
                    bits[element / WORD].fetch_or(1 << (element % WORD), Ordering::Relaxed);
                }
            }
        });
        Mask(bits.into_iter().map(AtomicU64::into_inner).collect())
    }

    /// The elements whose place is in `from..to` once `keys`, below 2³¹, are sorted: from the smallest, or from the
    /// largest when `descending`. Equal ones come in the order that `ties` leaves them in.
    pub(super) fn ranks(
        elements: usize,
        keys: impl Fn(usize, &mut [u32]) + Sync,
        (from, to): (usize, usize),
        ties: Ties,
    ) -> Mask {
        let (from, to) = (from.min(elements), to.min(elements));
        let [low, high] = [from, to].map(|rank| Bound::find(elements, &keys, rank));
        if low.clean() && high.clean() {
            return Mask::of_keys(elements, &keys, |key| low.key <= key && key < high.key);
        }
        // Positions beyond 2³² do not fit an item: such a tensor keeps the first of equals.
        let Ok(_) = u32::try_from(elements) else { return Mask::first_of_equals(elements, &keys, low, high) };
        let mut items: Vec<Item> = vec![(0, 0); elements];
        items.par_chunks_mut(BLOCK).enumerate().for_each(|(b, items)| {
            let mut block = [0; BLOCK];
            let block = &mut block[..items.len()];
            keys(b * BLOCK, block);
            for (i, (item, key)) in items.iter_mut().zip(block).enumerate() {
                *item = (*key, (b * BLOCK + i) as u32);
            }
        });
        match ties {
            Ties::Sorted => sort::split(&mut items, &[from, to]),
            Ties::Selected => sort::smallest(&mut items, to),
        }
        // Only of those that equal a bound their order decides.
        let mut mask = Mask::of_keys(elements, &keys, |key| low.key < key && key < high.key);
        for (_, i) in items[from..to.max(from)].iter().filter(|(key, _)| *key == low.key || *key == high.key)
        {
            mask.0[*i as usize / WORD] |= 1 << (i % WORD as u32);
        }
        mask
    }

    fn of_keys(
        elements: usize,
        keys: &(impl Fn(usize, &mut [u32]) + Sync),
        keep: impl Fn(u32) -> bool + Sync,
    ) -> Mask {
        Mask::of_blocks(elements, |first, kept| {
            let mut block = [0; BLOCK];
            let block = &mut block[..kept.len()];
            keys(first, block);
            kept.iter_mut().zip(block).for_each(|(k, key)| *k = keep(*key));
        })
    }

    fn first_of_equals(
        elements: usize,
        keys: &(impl Fn(usize, &mut [u32]) + Sync),
        low: Bound,
        high: Bound,
    ) -> Mask {
        let mut bits = vec![0u64; elements.div_ceil(WORD)];
        let (mut at_low, mut at_high) = (low.below, high.below);
        let mut block = [0; BLOCK];
        for first in (0..elements).step_by(BLOCK) {
            let block = &mut block[..(elements - first).min(BLOCK)];
            keys(first, block);
            for (i, key) in (first..).zip(block) {
                let place = |bound: Bound, seen: &mut usize| {
                    let equal = *key == bound.key;
                    let after = *key > bound.key || (equal && *seen >= bound.rank);
                    *seen += usize::from(equal);
                    after
                };
                if place(low, &mut at_low) && !place(high, &mut at_high) {
                    bits[i / WORD] |= 1 << (i % WORD);
                }
            }
        }
        Mask(bits)
    }

    /// Sets to zero what is not kept, as a product with 0 does: a number that is not finite becomes NaN, and a
    /// negative one −0.
    pub(super) fn apply(&self, first: usize, values: &mut [f32]) {
        apply(self, first, values);
    }

    /// The same within a kernel.
    #[inline(always)]
    pub(super) fn apply_inline(&self, first: usize, values: &mut [f32]) {
        if !first.is_multiple_of(WORD) {
            for (i, x) in (first..).zip(values) {
                *x *= (self.0[i / WORD] >> (i % WORD) & 1) as f32;
            }
            return;
        }
        const HALF: usize = WORD / 2;
        let halves = self.0[first / WORD..].iter().flat_map(|w| [*w as u32, (*w >> HALF) as u32]);
        for (bits, values) in halves.zip(values.chunks_mut(HALF)) {
            for (i, x) in (0u32..).zip(values) {
                *x *= (bits >> i & 1) as f32;
            }
        }
    }
}

widest! {
    fn drawn(key: Key, first: u64, limit: u32, kept: &mut [bool]) {
        let mut words = [0; BLOCK];
        field::fill(key, first, &mut words);
        kept.iter_mut().zip(&words).for_each(|(k, w)| *k = w >> 8 >= limit);
    }
}

widest! {
    fn apply(mask: &Mask, first: usize, values: &mut [f32]) {
        mask.apply_inline(first, values);
    }
}

/// How an algorithm of torch's orders equal elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ties {
    /// `torch.argsort`.
    Sorted,
    /// `torch.topk`, which looks for the first places only.
    Selected,
}

/// The order of falling magnitude, as a rising one.
pub(super) fn descending(key: u32) -> u32 {
    !key & 0x7fff_ffff
}

/// Magnitude bits, in the order in which torch compares: any NaN above everything else, and equal to any other.
pub(super) fn magnitude_bits(x: f32) -> u32 {
    if x.is_nan() { 0x7fff_ffff } else { x.to_bits() & 0x7fff_ffff }
}

fn drop_limit(probability: f32) -> u32 {
    field::drop_limit((1.0 - f64::from(probability)).clamp(0.0, 1.0))
}

fn read_line(first: usize, stride: usize, magnitudes: Fill, keys: &mut [u32]) {
    let mut block = [0.0; BLOCK];
    let a_block = if stride == 1 { BLOCK } else { 1 };
    for (b, keys) in keys.chunks_mut(a_block).enumerate() {
        let block = &mut block[..keys.len()];
        magnitudes(first + b * a_block * stride, block);
        keys.iter_mut().zip(block).for_each(|(key, x)| *key = magnitude_bits(*x));
    }
}

/// Where a rank falls among sorted keys.
#[derive(Clone, Copy, Debug)]
struct Bound {
    rank: usize,
    /// The key at that place; above all keys at the end.
    key: u32,
    /// How many keys are smaller.
    below: usize,
}

impl Bound {
    /// Two passes: a histogram of the upper bits, then one of the lower bits of the keys in the bin of the rank.
    fn find(elements: usize, keys: &(impl Fn(usize, &mut [u32]) + Sync), rank: usize) -> Bound {
        if rank == elements {
            return Bound { rank, key: u32::MAX, below: elements };
        }
        if rank == 0 {
            return Bound { rank, key: 0, below: 0 };
        }
        const LOW: u32 = (1 << LOW_BITS) - 1;
        let (coarse, seen) = histogram(elements, keys, |key| Some(key >> LOW_BITS));
        let (bin, below) = bin_of(&coarse, rank);
        // Differences of bfloat16 all have the same lower bits: none.
        if (seen.any ^ seen.all) & LOW == 0 {
            return Bound { rank, key: bin << LOW_BITS | seen.all & LOW, below };
        }
        let (fine, _) = histogram(elements, keys, |key| (key >> LOW_BITS == bin).then_some(key & LOW));
        let (low, within) = bin_of(&fine, rank - below);
        Bound { rank, key: bin << LOW_BITS | low, below: below + within }
    }

    fn clean(&self) -> bool {
        self.rank == self.below
    }
}

fn bin_of(counts: &[usize], rank: usize) -> (u32, usize) {
    let mut below = 0;
    for (bin, count) in (0..).zip(counts) {
        if rank < below + count {
            return (bin, below);
        }
        below += count;
    }
    unreachable!("the histogram counts every key, and the rank is below their number")
}

/// The bits that any key has, and those that all have.
#[derive(Clone, Copy)]
struct Seen {
    any: u32,
    all: u32,
}

fn histogram(
    elements: usize,
    keys: &(impl Fn(usize, &mut [u32]) + Sync),
    bin: impl Fn(u32) -> Option<u32> + Sync,
) -> (Vec<usize>, Seen) {
    let empty = || (vec![0usize; 1 << 16], Seen { any: 0, all: u32::MAX });
    (0..elements.div_ceil(CHUNK))
        .into_par_iter()
        .with_min_len(elements.div_ceil(CHUNK).div_ceil(4 * rayon::current_num_threads()).max(1))
        .fold(empty, |(mut counts, mut seen), chunk| {
            let mut block = [0; BLOCK];
            let end = elements.min((chunk + 1) * CHUNK);
            for first in (chunk * CHUNK..end).step_by(BLOCK) {
                let block = &mut block[..(end - first).min(BLOCK)];
                keys(first, block);
                seen.any = block.iter().fold(seen.any, |any, key| any | key);
                seen.all = block.iter().fold(seen.all, |all, key| all & key);
                block.iter().filter_map(|key| bin(*key)).for_each(|bin| counts[bin as usize] += 1);
            }
            (counts, seen)
        })
        .reduce(empty, |(mut a, x), (b, y)| {
            a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
            (a, Seen { any: x.any | y.any, all: x.all & y.all })
        })
}
