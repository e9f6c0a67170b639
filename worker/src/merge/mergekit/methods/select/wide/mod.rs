//! The same by AVX-512: 64 keys are compared by two or four instructions, and those of two bytes move in whole registers, listed by
//! compression and put in their places by expansion.

#![expect(unsafe_code, reason = "instructions that only some processors have")]

mod partition;
mod undo;

use super::Key;
use super::partition::{Keys, WORD, plain};
use partition::{Words, by_words};
use std::arch::x86_64::*;

/// Whether this processor has the instructions.
#[inline]
pub(super) fn here() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vbmi2")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("popcnt")
        && is_x86_feature_detected!("lzcnt")
}

/// Whether this processor has the instructions that portable code is compiled for beside those of any.
#[inline]
fn avx2() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("popcnt")
        && is_x86_feature_detected!("lzcnt")
}

/// Its functions are only called inlined into those that name the instructions, after [`here`] has said that they are there.
struct Wide;

macro_rules! key {
    ($key:ty, $partition:ident, $compiled:ident) => {
        #[target_feature(enable = "avx512f,avx512bw,avx512vbmi2,bmi1,bmi2,popcnt,lzcnt")]
        fn $partition(keys: &mut [$key], first: usize, moved: &mut [u64]) -> usize {
            by_words(keys, first, moved)
        }

        #[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt")]
        fn $compiled(keys: &mut [$key], first: usize, moved: &mut [u64]) -> usize {
            plain(keys, first, moved)
        }

        impl Key for $key {
            fn partition_wide(keys: &mut [$key], first: usize, moved: &mut [u64]) -> Option<usize> {
                // SAFETY: the processor has every instruction that the function names.
                here().then(|| unsafe { $partition(keys, first, moved) })
            }

            fn partition_compiled(keys: &mut [$key], first: usize, moved: &mut [u64]) -> Option<usize> {
                // SAFETY: as above.
                avx2().then(|| unsafe { $compiled(keys, first, moved) })
            }
        }
    };
}

key!(u16, partition_u16, compiled_u16);
key!(u32, partition_u32, compiled_u32);

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi2,bmi1,bmi2,popcnt,lzcnt")]
fn undo_wide(marks: &mut [u64], moved: &[u64]) {
    undo::by_words(marks, moved);
}

pub(super) fn undo(marks: &mut [u64], moved: &[u64]) {
    assert!(here(), "asked for first");
    // SAFETY: the processor has every instruction that the function names.
    unsafe { undo_wide(marks, moved) }
}

/// The `count` lowest set bits.
#[inline(always)]
fn lowest(bits: u64, count: u32) -> u64 {
    scatter(if count >= 64 { u64::MAX } else { (1 << count) - 1 }, bits)
}

/// The bits of `from` at the places that are set, side by side from the lowest on; above them nothing.
#[inline(always)]
fn gather(from: u64, places: u64) -> u64 {
    // SAFETY: see `Wide`.
    unsafe { _pext_u64(from, places) }
}

/// The lowest bits of `bits`, each at the next place that is set.
#[inline(always)]
fn scatter(bits: u64, places: u64) -> u64 {
    // SAFETY: see `Wide`.
    unsafe { _pdep_u64(bits, places) }
}

/// Keys of a register.
const LANES: usize = 32;

impl Words<u16> for Wide {
    #[inline(always)]
    fn at_least(keys: &Keys<u16>, pivot: u16) -> u64 {
        // SAFETY: see `Wide`.
        unsafe {
            let pivot = _mm512_set1_epi16(pivot as i16);
            both(load(keys).map(|keys| _mm512_cmpge_epu16_mask(keys, pivot)))
        }
    }

    #[inline(always)]
    fn at_most(keys: &Keys<u16>, pivot: u16) -> u64 {
        // SAFETY: see `Wide`.
        unsafe {
            let pivot = _mm512_set1_epi16(pivot as i16);
            both(load(keys).map(|keys| _mm512_cmple_epu16_mask(keys, pivot)))
        }
    }

    #[inline(always)]
    fn list_rising(keys: &Keys<u16>, bits: u64, list: &mut Keys<u16>) {
        let (low, high) = (bits as u32, (bits >> LANES) as u32);
        // SAFETY: see `Wide`.
        unsafe {
            let [a, b] = load(keys);
            store(list, 0, _mm512_maskz_compress_epi16(low, a));
            store(list, low.count_ones(), _mm512_maskz_compress_epi16(high, b));
        }
    }

    #[inline(always)]
    fn list_falling(keys: &Keys<u16>, bits: u64, list: &mut Keys<u16>) {
        let (low, high) = (bits as u32, (bits >> LANES) as u32);
        // SAFETY: see `Wide`.
        unsafe {
            let [a, b] = load(keys);
            store(list, 0, turned(_mm512_maskz_compress_epi16(high, b), high.count_ones()));
            store(list, high.count_ones(), turned(_mm512_maskz_compress_epi16(low, a), low.count_ones()));
        }
    }

    #[inline(always)]
    fn put_rising(keys: &mut Keys<u16>, bits: u64, list: &Keys<u16>) {
        let (low, high) = (bits as u32, (bits >> LANES) as u32);
        // SAFETY: see `Wide`.
        unsafe {
            let [a, b] = load(keys);
            store(keys, 0, _mm512_mask_expand_epi16(a, low, load_at(list, 0)));
            store(keys, LANES as u32, _mm512_mask_expand_epi16(b, high, load_at(list, low.count_ones())));
        }
    }

    #[inline(always)]
    fn put_falling(keys: &mut Keys<u16>, bits: u64, list: &Keys<u16>) {
        let (low, high) = (bits as u32, (bits >> LANES) as u32);
        let (in_low, in_high) = (low.count_ones(), high.count_ones());
        // SAFETY: see `Wide`.
        unsafe {
            let [a, b] = load(keys);
            store(keys, 0, _mm512_mask_expand_epi16(a, low, turned(load_at(list, in_high), in_low)));
            store(keys, LANES as u32, _mm512_mask_expand_epi16(b, high, turned(load_at(list, 0), in_high)));
        }
    }
}

/// One word of the bits of two registers.
#[inline(always)]
fn both([low, high]: [u32; 2]) -> u64 {
    u64::from(low) | u64::from(high) << LANES
}

/// # Safety
/// See [`Wide`].
#[inline(always)]
unsafe fn load(keys: &Keys<u16>) -> [__m512i; 2] {
    // SAFETY: as above.
    unsafe { [load_at(keys, 0), load_at(keys, LANES as u32)] }
}

/// The register of keys from a place on.
///
/// # Safety
/// See [`Wide`]; `at` is at most 32.
#[inline(always)]
unsafe fn load_at(keys: &Keys<u16>, at: u32) -> __m512i {
    debug_assert!(at as usize <= WORD - LANES);
    // SAFETY: 64 keys are two registers.
    unsafe { _mm512_loadu_epi16(keys.as_ptr().add(at as usize).cast()) }
}

/// Writes a register of keys from a place on.
///
/// # Safety
/// As [`load_at`].
#[inline(always)]
unsafe fn store(keys: &mut Keys<u16>, at: u32, register: __m512i) {
    debug_assert!(at as usize <= WORD - LANES);
    // SAFETY: 64 keys are two registers.
    unsafe { _mm512_storeu_epi16(keys.as_mut_ptr().add(at as usize).cast(), register) }
}

/// The first `count` keys in reverse.
///
/// # Safety
/// See [`Wide`].
#[inline(always)]
unsafe fn turned(keys: __m512i, count: u32) -> __m512i {
    // SAFETY: as above.
    unsafe {
        let last = _mm512_set1_epi16(count as i16 - 1);
        _mm512_permutexvar_epi16(_mm512_sub_epi16(last, iota()), keys)
    }
}

/// # Safety
/// See [`Wide`].
#[inline(always)]
unsafe fn iota() -> __m512i {
    const PLACES: [u16; LANES] = {
        let mut places = [0; LANES];
        let mut i = 0;
        while i < LANES {
            places[i] = i as u16;
            i += 1;
        }
        places
    };
    // SAFETY: 32 numbers are a register.
    unsafe { _mm512_loadu_epi16(PLACES.as_ptr().cast()) }
}

impl Words<u32> for Wide {
    #[inline(always)]
    fn at_least(keys: &Keys<u32>, pivot: u32) -> u64 {
        keys.as_chunks::<16>().0.iter().rev().fold(0, |bits, keys| {
            // SAFETY: see `Wide`; sixteen keys are a register.
            let some = unsafe {
                let keys = _mm512_loadu_epi32(keys.as_ptr().cast());
                _mm512_cmpge_epu32_mask(keys, _mm512_set1_epi32(pivot as i32))
            };
            bits << 16 | u64::from(some)
        })
    }

    #[inline(always)]
    fn at_most(keys: &Keys<u32>, pivot: u32) -> u64 {
        keys.as_chunks::<16>().0.iter().rev().fold(0, |bits, keys| {
            // SAFETY: see `Wide`; sixteen keys are a register.
            let some = unsafe {
                let keys = _mm512_loadu_epi32(keys.as_ptr().cast());
                _mm512_cmple_epu32_mask(keys, _mm512_set1_epi32(pivot as i32))
            };
            bits << 16 | u64::from(some)
        })
    }

    #[inline(always)]
    fn list_rising(keys: &Keys<u32>, bits: u64, list: &mut Keys<u32>) {
        let mut at = 0;
        for quarter in 0..QUARTERS {
            let here = part(bits, quarter);
            // SAFETY: see `Wide`.
            unsafe { store_wide(list, at, _mm512_maskz_compress_epi32(here, load_wide(keys, quarter * 16))) };
            at += here.count_ones() as usize;
        }
    }

    #[inline(always)]
    fn list_falling(keys: &Keys<u32>, bits: u64, list: &mut Keys<u32>) {
        let mut at = 0;
        for quarter in (0..QUARTERS).rev() {
            let (here, count) = (part(bits, quarter), part(bits, quarter).count_ones());
            // SAFETY: see `Wide`.
            unsafe {
                let keys = _mm512_maskz_compress_epi32(here, load_wide(keys, quarter * 16));
                store_wide(list, at, turned_wide(keys, count));
            }
            at += count as usize;
        }
    }

    #[inline(always)]
    fn put_rising(keys: &mut Keys<u32>, bits: u64, list: &Keys<u32>) {
        let mut at = 0;
        for quarter in 0..QUARTERS {
            let here = part(bits, quarter);
            // SAFETY: see `Wide`.
            unsafe {
                let old = load_wide(keys, quarter * 16);
                store_wide(keys, quarter * 16, _mm512_mask_expand_epi32(old, here, load_wide(list, at)));
            }
            at += here.count_ones() as usize;
        }
    }

    #[inline(always)]
    fn put_falling(keys: &mut Keys<u32>, bits: u64, list: &Keys<u32>) {
        let mut at = 0;
        for quarter in (0..QUARTERS).rev() {
            let (here, count) = (part(bits, quarter), part(bits, quarter).count_ones());
            // SAFETY: see `Wide`.
            unsafe {
                let old = load_wide(keys, quarter * 16);
                let new = turned_wide(load_wide(list, at), count);
                store_wide(keys, quarter * 16, _mm512_mask_expand_epi32(old, here, new));
            }
            at += count as usize;
        }
    }
}

/// Registers of a word of keys of four bytes.
const QUARTERS: usize = 4;

/// The bits of one of them.
#[inline(always)]
fn part(bits: u64, quarter: usize) -> u16 {
    (bits >> (16 * quarter)) as u16
}

/// # Safety
/// See [`Wide`]; `at` is at most 48.
#[inline(always)]
unsafe fn load_wide(keys: &Keys<u32>, at: usize) -> __m512i {
    debug_assert!(at <= WORD - 16);
    // SAFETY: 64 keys are four registers.
    unsafe { _mm512_loadu_epi32(keys.as_ptr().add(at).cast()) }
}

/// # Safety
/// As [`load_wide`].
#[inline(always)]
unsafe fn store_wide(keys: &mut Keys<u32>, at: usize, register: __m512i) {
    debug_assert!(at <= WORD - 16);
    // SAFETY: 64 keys are four registers.
    unsafe { _mm512_storeu_epi32(keys.as_mut_ptr().add(at).cast(), register) }
}

/// The first `count` keys in reverse.
///
/// # Safety
/// See [`Wide`].
#[inline(always)]
unsafe fn turned_wide(keys: __m512i, count: u32) -> __m512i {
    // SAFETY: as above.
    unsafe {
        let places = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        let last = _mm512_set1_epi32(count as i32 - 1);
        _mm512_permutexvar_epi32(_mm512_sub_epi32(last, places), keys)
    }
}
