//! Numbers → what they are ranked by.
//!
//! Keys are magnitude bits, in the order in which torch compares: any NaN above everything else, and equal to any other.
//! Numbers of sixteen bits have keys of sixteen.

use super::super::values::Compute;
use crate::merge::block::{BLOCK, CHUNK};
use crate::merge::simd::widest;
use half::f16;
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;
use std::sync::{Mutex, PoisonError};

/// The keys of all elements of a tensor.
pub(in super::super) enum Keys {
    /// Of sixteen-bit numbers.
    Narrow(Vec<u16>),
    /// Of float32.
    Wide(Vec<u32>),
}

impl Keys {
    /// Keys in the order of the magnitudes of `elements` numbers of the type, or of falling ones. `numbers` writes them from
    /// an index on.
    pub(in super::super) fn of(
        elements: usize,
        compute: Compute,
        falling: bool,
        numbers: impl Fn(usize, &mut [f32]) + Sync,
    ) -> Keys {
        match compute {
            Compute::F32 => Keys::Wide(all(elements, numbers, |x, keys| f32_keys(x, falling, keys))),
            Compute::Bf16 => Keys::Narrow(all(elements, numbers, |x, keys| bf16_keys(x, falling, keys))),
            Compute::F16 => Keys::Narrow(all(elements, numbers, |x, keys| f16_keys(x, falling, keys))),
        }
    }
}

fn all<K: super::Key + Default>(
    elements: usize,
    numbers: impl Fn(usize, &mut [f32]) + Sync,
    key: impl Fn(&[f32], &mut [K]) + Sync,
) -> Vec<K> {
    let mut keys = K::kept().take(elements);
    // What is in it from before is overwritten.
    keys.resize(elements, K::default());
    keys.par_chunks_mut(CHUNK).enumerate().for_each(|(c, keys)| {
        let mut block = [0.0; BLOCK];
        for (b, keys) in keys.chunks_mut(BLOCK).enumerate() {
            let block = &mut block[..keys.len()];
            numbers(c * CHUNK + b * BLOCK, block);
            key(block, keys);
        }
    });
    keys
}

/// Room for keys that was used before, for tensors that follow: a system clears memory that it gives, which took an eighth of the time of
/// `ties` to a folder.
#[derive(Debug)]
pub(in super::super) struct Kept<K>(Mutex<Vec<Vec<K>>>);

/// What is not kept: of larger tensors a model has two, and ranking two at once is not done either ([`super::super::delta::at_once`]).
const LARGEST_KEPT: usize = 256 << 20;
/// Room that is kept, as many tensors as are ranked at once on few threads.
const MOST_KEPT: usize = 4;

impl<K> Kept<K> {
    pub(super) const fn new() -> Kept<K> {
        Kept(Mutex::new(Vec::new()))
    }

    /// Room for so many keys, with others in it. Where none is large enough, all of it goes, so that no more is held than is ranked.
    pub(super) fn take(&self, keys: usize) -> Vec<K> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match kept.iter().position(|room| room.capacity() >= keys) {
            Some(fits) => kept.swap_remove(fits),
            None => {
                kept.clear();
                Vec::with_capacity(keys)
            }
        }
    }

    /// Takes room back.
    pub(super) fn give(&self, room: Vec<K>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if room.capacity() * size_of::<K>() <= LARGEST_KEPT && kept.len() < MOST_KEPT {
            kept.push(room);
        }
    }
}

/// Where room for keys is kept.
pub(in super::super) trait Room: Sized + 'static {
    fn kept() -> &'static Kept<Self>;
}

impl Room for u16 {
    fn kept() -> &'static Kept<u16> {
        static KEPT: Kept<u16> = Kept::new();
        &KEPT
    }
}

impl Room for u32 {
    fn kept() -> &'static Kept<u32> {
        static KEPT: Kept<u32> = Kept::new();
        &KEPT
    }
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
