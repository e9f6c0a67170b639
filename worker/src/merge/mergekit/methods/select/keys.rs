//! Numbers → what they are ranked by.
//!
//! Keys are magnitude bits, in the order in which torch compares: any NaN above everything else, and equal to any other.
//! Numbers of sixteen bits have keys of sixteen.

use super::super::values::Compute;
use super::room::Room;
use crate::merge::block::{BLOCK, CHUNK};
use crate::merge::simd::widest;
use half::f16;
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;
use std::path::Path;

/// The keys of all elements of a tensor.
pub(in super::super) enum Keys {
    /// Of sixteen-bit numbers.
    Narrow(Room<u16>),
    /// Of float32.
    Wide(Room<u32>),
}

impl Keys {
    /// Keys in the order of the magnitudes of `elements` numbers of the type, or of falling ones. `numbers` writes them from
    /// an index on; `by_hand` writes keys of bfloat16 numbers at once, where it can.
    pub(in super::super) fn of(
        elements: usize,
        spill: Option<&Path>,
        compute: Compute,
        falling: bool,
        numbers: impl Fn(usize, &mut [f32]) + Sync,
        by_hand: impl Fn(usize, &mut [u16]) -> bool + Sync,
    ) -> Keys {
        fn not_at_once<K>(_: usize, _: &mut [K]) -> bool {
            false
        }
        match compute {
            Compute::F32 => {
                Keys::Wide(all(elements, spill, not_at_once, numbers, |x, keys| f32_keys(x, falling, keys)))
            }
            Compute::Bf16 => {
                Keys::Narrow(all(elements, spill, by_hand, numbers, |x, keys| bf16_keys(x, falling, keys)))
            }
            Compute::F16 => {
                Keys::Narrow(all(elements, spill, not_at_once, numbers, |x, keys| f16_keys(x, falling, keys)))
            }
        }
    }
}

fn all<K: super::Key>(
    elements: usize,
    spill: Option<&Path>,
    at_once: impl Fn(usize, &mut [K]) -> bool + Sync,
    numbers: impl Fn(usize, &mut [f32]) + Sync,
    key: impl Fn(&[f32], &mut [K]) + Sync,
) -> Room<K> {
    // What is in it from before is overwritten.
    let mut keys = Room::take(elements, spill);
    keys.par_chunks_mut(CHUNK).enumerate().for_each(|(c, keys)| {
        let mut block = [0.0; BLOCK];
        for (b, keys) in keys.chunks_mut(BLOCK).enumerate() {
            let first = c * CHUNK + b * BLOCK;
            if at_once(first, keys) {
                continue;
            }
            let block = &mut block[..keys.len()];
            numbers(first, block);
            key(block, keys);
        }
    });
    keys
}

/// Magnitude bits of a float32.
#[inline(always)]
pub(in super::super) fn magnitude_bits(x: f32) -> u32 {
    if x.is_nan() { 0x7fff_ffff } else { x.to_bits() & 0x7fff_ffff }
}

widest! {
    fn f32_keys(numbers: &[f32], falling: bool, keys: &mut [u32]) {
        let turn = if falling { 0x7fff_ffff } else { 0 };
        keys.iter_mut().zip(numbers).for_each(|(key, x)| *key = magnitude_bits(*x) ^ turn);
    }
}

widest! {
    fn bf16_keys(numbers: &[f32], falling: bool, keys: &mut [u16]) {
        let turn = if falling { 0x7fff } else { 0 };
        keys.iter_mut().zip(numbers).for_each(|(key, x)| *key = (magnitude_bits(*x) >> 16) as u16 ^ turn);
    }
}

fn f16_keys(numbers: &[f32], falling: bool, keys: &mut [u16]) {
    let turn = if falling { 0x7fff } else { 0 };
    let mut halves = [f16::ZERO; BLOCK];
    let halves = &mut halves[..numbers.len()];
    halves.convert_from_f32_slice(numbers);
    for (key, x) in keys.iter_mut().zip(halves) {
        *key = if x.is_nan() { 0x7fff } else { x.to_bits() & 0x7fff } ^ turn;
    }
}
