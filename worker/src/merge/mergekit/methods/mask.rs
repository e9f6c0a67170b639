//! One bit an element: which elements of a task vector stay.

use super::reduce::Fill;
use super::select::{self, Keys, magnitude_bits};
use super::values::Compute;
use crate::merge::block::{BLOCK, CHUNK};
use crate::merge::field::{self, Key};
use crate::merge::simd::widest;
use rayon::prelude::*;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

const WORD: usize = 64;

/// Bytes of a mask.
pub(super) fn bits_bytes(elements: usize) -> u64 {
    (elements.div_ceil(WORD) * size_of::<u64>()) as u64
}

/// A bit for each element of a tensor.
#[cfg_attr(test, derive(PartialEq))]
pub(super) struct Mask(Vec<u64>);

impl Mask {
    /// Of these bits.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn of(bits: Vec<u64>) -> Mask {
        Mask(bits)
    }

    /// Elements that are kept with one probability: those whose number in the field is at least `1 − p`.
    pub(super) fn random(elements: usize, key: Key, probability: f32) -> Mask {
        let limit = drop_limit(probability);
        let mut bits = vec![0u64; elements.div_ceil(WORD)];
        bits.par_chunks_mut(BLOCK / WORD).with_min_len(CHUNK / BLOCK).enumerate().for_each(|(b, words)| {
            let first = b * BLOCK;
            #[cfg(target_arch = "x86_64")]
            if elements - first >= BLOCK && super::wide::draw(key, first as u64, limit, words) {
                return;
            }
            let mut kept = [false; BLOCK];
            let kept = &mut kept[..(elements - first).min(BLOCK)];
            drawn(key, first as u64, limit, kept);
            for (word, kept) in words.iter_mut().zip(kept.chunks(WORD)) {
                *word = kept.iter().rev().fold(0, |word, &k| word << 1 | u64::from(k));
            }
        });
        Mask(bits)
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

    /// The elements whose place is in `from..to` once all are sorted by magnitude, given what writes them from an index on as
    /// numbers of the type, and what writes their keys by hand if it can, of falling magnitudes if told so. In the folder `spill` files may lie that are needed for it.
    pub(super) fn ranks(
        elements: usize,
        spill: Option<&Path>,
        compute: Compute,
        numbers: impl Fn(usize, &mut [f32]) + Sync,
        by_hand: impl Fn(bool, usize, &mut [u16]) -> bool + Sync,
        (from, to): (usize, usize),
        order: Order,
    ) -> Mask {
        let to = to.min(elements);
        let ranks = (from.min(to), to);
        let falling = order != Order::Rising;
        let by_hand = |first: usize, keys: &mut [u16]| by_hand(falling, first, keys);
        let keys = Keys::of(elements, spill, compute, falling, numbers, by_hand);
        Mask(match (keys, order) {
            (Keys::Narrow(keys), Order::Largest) => select::selected(keys, to),
            (Keys::Wide(keys), Order::Largest) => select::selected(keys, to),
            (Keys::Narrow(keys), _) => select::sorted(keys, ranks),
            (Keys::Wide(keys), _) => select::sorted(keys, ranks),
        })
    }

    /// The bits of the block of elements from `first` on, if there are so many and they begin with a word.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(super) fn block(&self, first: usize) -> Option<&[u64; BLOCK / WORD]> {
        if !first.is_multiple_of(WORD) {
            return None;
        }
        self.0.get(first / WORD..)?.first_chunk()
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
    pub(super) fn drawn(key: Key, first: u64, limit: u32, kept: &mut [bool]) {
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

/// What comes first, and how an algorithm of torch's orders equal elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// `torch.argsort`: the smallest first.
    Rising,
    /// The same, the largest first.
    Falling,
    /// `torch.topk`, which looks for the first places only: the largest.
    Largest,
}

pub(super) fn drop_limit(probability: f32) -> u32 {
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
