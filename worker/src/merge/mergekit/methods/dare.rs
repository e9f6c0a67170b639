//! DARE's mask, and the sums that rescale what it keeps, in one pass: what is drawn while a task vector comes from memory takes hardly
//! any time of its own.

use super::delta::Delta;
use super::mask::{Mask, drop_limit};
use super::reduce::{self, Lanes, Rows};
use super::values::Compute;
use super::wide::{self, Source};
use crate::merge::block::BLOCK;
use crate::merge::field::{self, Key};
use std::sync::atomic::{AtomicU64, Ordering};

const WORD: usize = 64;

/// A mask as [`Mask::random`], and the sums of magnitudes of all elements and of those that are kept, as torch computes them with one
/// thread. `None`, with nothing done, where that is no faster: where blocks are not read by hand, or sums are not made of whole ones.
pub(super) fn drawn_and_summed(delta: &Delta, key: Key, probability: f32) -> Option<(Mask, [f32; 2])> {
    let elements = delta.elements();
    if delta.work != Compute::Bf16 || elements < BLOCK || delta.stored(0).is_none() || !wide::here() {
        return None;
    }
    let bits = (0..elements.div_ceil(WORD)).map(|_| AtomicU64::new(0)).collect();
    let drawing = Drawing { delta, key, limit: drop_limit(probability), bits };
    let sums = reduce::sums(delta.work, 1, elements, &drawing);
    Some((Mask::of(drawing.bits.into_iter().map(AtomicU64::into_inner).collect()), sums))
}

struct Drawing<'a> {
    delta: &'a Delta<'a>,
    key: Key,
    limit: u32,
    bits: Vec<AtomicU64>,
}

impl Rows<2> for Drawing<'_> {
    fn fill(&self, first: usize, [all, kept]: [&mut [f32]; 2]) {
        self.delta.difference(first, all);
        let mut words = [0; BLOCK];
        let words = &mut words[..all.len()];
        field::words(self.key, first as u64, words);
        for (i, ((all, kept), word)) in (first..).zip(all.iter_mut().zip(kept).zip(words)) {
            let stays = *word >> 8 >= self.limit;
            self.bits[i / WORD].fetch_or(u64::from(stays) << (i % WORD), Ordering::Relaxed);
            // As a product with 0, of which what is not finite becomes NaN.
            *kept = (*all * f32::from(u8::from(stays))).abs();
            *all = all.abs();
        }
    }

    fn add(&self, first: usize, count: usize, round: usize, lanes: &mut [Lanes; 2]) {
        let mut words = [0; BLOCK / WORD];
        let whole = count == BLOCK && first.is_multiple_of(BLOCK);
        if whole
            && let Some((base, model)) = self.delta.stored(first)
            && wide::draw(self.key, first as u64, self.limit, &mut words)
        {
            let source = Source { model, kept: Some(&words), scale: None, weight: 1.0 };
            if wide::add_magnitudes(Compute::Bf16, self.delta.work, base, &source, count, lanes) {
                let bits = &self.bits[first / WORD..];
                bits.iter().zip(words).for_each(|(bits, word)| bits.store(word, Ordering::Relaxed));
                return;
            }
        }
        self.add_filled(first, count, round, lanes);
    }
}
