//! The same by AVX-512: 64 keys are compared by two or four instructions, and what is exchanged moves in whole registers,
//! listed by compression, and taken from the list's end and spread by expansion.

#![expect(unsafe_code, reason = "instructions that only some processors have")]

use super::Key;
use super::partition::{self, Bits, GROUP, Keys, Plain, Words, by_groups};
use super::undo::{self, Scatter};
use std::arch::x86_64::*;
use std::mem::MaybeUninit;

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
        fn $partition(keys: &mut [$key], moved: &mut [u64]) -> usize {
            by_groups::<$key, Wide>(keys, moved)
        }

        #[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt")]
        fn $compiled(keys: &mut [$key], moved: &mut [u64]) -> usize {
            by_groups::<$key, Plain>(keys, moved)
        }

        impl Key for $key {
            fn partition_wide(keys: &mut [$key], moved: &mut [u64]) -> Option<usize> {
                // SAFETY: the processor has every instruction that the function names.
                here().then(|| unsafe { $partition(keys, moved) })
            }

            fn partition_compiled(keys: &mut [$key], moved: &mut [u64]) -> Option<usize> {
                // SAFETY: as above.
                avx2().then(|| unsafe { $compiled(keys, moved) })
            }
        }
    };
}

key!(u16, partition_u16, compiled_u16);
key!(u32, partition_u32, compiled_u32);

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi2,bmi1,bmi2,popcnt,lzcnt")]
fn undo_wide(marks: &mut [u64], first: usize, moved: &[u64]) {
    undo::by_words::<Wide>(marks, first, moved);
}

pub(super) fn undo(marks: &mut [u64], first: usize, moved: &[u64]) {
    assert!(here(), "asked for first");
    // SAFETY: the processor has every instruction that the function names.
    unsafe { undo_wide(marks, first, moved) }
}

impl Scatter for Wide {
    #[inline(always)]
    fn lowest(bits: u64, count: u32) -> u64 {
        let ones = if count >= 64 { u64::MAX } else { (1 << count) - 1 };
        // SAFETY: see `Wide`.
        unsafe { _pdep_u64(ones, bits) }
    }

    #[inline(always)]
    fn exchange(low: &mut u64, from: u64, high: &mut u64, to: u64, count: u32) {
        if count == 0 {
            return;
        }
        // SAFETY: see `Wide`.
        unsafe {
            let turned = |bits: u64| bits.reverse_bits() >> (64 - count);
            let (lower, upper) = (turned(_pext_u64(*low, from)), turned(_pext_u64(*high, to)));
            *low = *low & !from | _pdep_u64(upper, from);
            *high = *high & !to | _pdep_u64(lower, to);
        }
    }
}

/// Keys of a register.
const LANES: usize = 32;

impl Words<u16> for Wide {
    #[inline(always)]
    fn at_least(keys: &Keys<u16>, pivot: u16) -> u64 {
        // SAFETY: see `Wide`.
        unsafe {
            let [a, b] = load(keys);
            let pivot = _mm512_set1_epi16(pivot as i16);
            u64::from(_mm512_cmpge_epu16_mask(a, pivot))
                | u64::from(_mm512_cmpge_epu16_mask(b, pivot)) << LANES
        }
    }

    #[inline(always)]
    fn at_most(keys: &Keys<u16>, pivot: u16) -> u64 {
        // SAFETY: see `Wide`.
        unsafe {
            let [a, b] = load(keys);
            let pivot = _mm512_set1_epi16(pivot as i16);
            u64::from(_mm512_cmple_epu16_mask(a, pivot))
                | u64::from(_mm512_cmple_epu16_mask(b, pivot)) << LANES
        }
    }

    #[inline(always)]
    fn lowest(bits: u64, count: u32) -> u64 {
        <Wide as Scatter>::lowest(bits, count)
    }

    #[inline(always)]
    fn exchange(low: &mut [Keys<u16>; GROUP], from: &Bits, high: &mut [Keys<u16>; GROUP], to: &Bits) {
        // SAFETY: see `Wide`. Either list gets the keys of a group at most, and as many are read as have been appended.
        unsafe {
            let (mut lower, mut upper) = (List::new(), List::new());
            for (keys, bits) in low.iter().zip(from) {
                lower.append(keys, *bits);
            }
            for (keys, bits) in high.iter().zip(to) {
                upper.append(keys, *bits);
            }
            debug_assert_eq!(lower.end, upper.end);
            for (keys, bits) in low.iter_mut().zip(from) {
                upper.spread(keys, *bits);
            }
            for (keys, bits) in high.iter_mut().zip(to) {
                lower.spread(keys, *bits);
            }
        }
    }
}

/// # Safety
/// See [`Wide`].
#[inline(always)]
unsafe fn load(keys: &Keys<u16>) -> [__m512i; 2] {
    // SAFETY: 64 keys are two registers.
    unsafe { [_mm512_loadu_epi16(keys.as_ptr().cast()), _mm512_loadu_epi16(keys.as_ptr().add(LANES).cast())] }
}

/// Keys of a group in rising order of their places, behind a register of nothing.
struct List {
    keys: [MaybeUninit<u16>; LANES + GROUP * 64 + LANES],
    end: usize,
    back: __m512i,
}

impl List {
    /// # Safety
    /// See [`Wide`].
    #[inline(always)]
    unsafe fn new() -> List {
        let mut keys = [MaybeUninit::uninit(); LANES + GROUP * 64 + LANES];
        // SAFETY: there is room for a register.
        unsafe {
            _mm512_storeu_epi16(keys.as_mut_ptr().cast(), _mm512_setzero_si512());
            List { keys, end: LANES, back: _mm512_sub_epi16(_mm512_set1_epi16(31), iota()) }
        }
    }

    /// Appends the keys whose bits are set.
    ///
    /// # Safety
    /// See [`Wide`]; no more than the keys of a group may be appended, so that a register always has room behind them.
    #[inline(always)]
    unsafe fn append(&mut self, keys: &Keys<u16>, bits: u64) {
        // SAFETY: as above.
        unsafe {
            let [a, b] = load(keys);
            for (keys, bits) in [(a, bits as u32), (b, (bits >> LANES) as u32)] {
                debug_assert!(self.end + LANES <= self.keys.len());
                let keys = _mm512_maskz_compress_epi16(bits, keys);
                _mm512_storeu_epi16(self.keys.as_mut_ptr().add(self.end).cast(), keys);
                self.end += bits.count_ones() as usize;
            }
        }
    }

    /// Takes as many keys from the end as bits are set, and puts the last of them where the first bit is, and so on.
    ///
    /// # Safety
    /// See [`Wide`]; there must be as many.
    #[inline(always)]
    unsafe fn spread(&mut self, keys: &mut Keys<u16>, bits: u64) {
        // SAFETY: the list begins with a register that may be read before the keys; 64 keys are two registers.
        unsafe {
            let mut halves = load(keys);
            for (half, bits) in halves.iter_mut().zip([bits as u32, (bits >> LANES) as u32]) {
                debug_assert!(self.end >= LANES + bits.count_ones() as usize);
                let last = _mm512_loadu_epi16(self.keys.as_ptr().add(self.end - LANES).cast());
                *half = _mm512_mask_expand_epi16(*half, bits, _mm512_permutexvar_epi16(self.back, last));
                self.end -= bits.count_ones() as usize;
            }
            _mm512_storeu_epi16(keys.as_mut_ptr().cast(), halves[0]);
            _mm512_storeu_epi16(keys.as_mut_ptr().add(LANES).cast(), halves[1]);
        }
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
    fn lowest(bits: u64, count: u32) -> u64 {
        <Wide as Scatter>::lowest(bits, count)
    }

    #[inline(always)]
    fn exchange(low: &mut [Keys<u32>; GROUP], from: &Bits, high: &mut [Keys<u32>; GROUP], to: &Bits) {
        partition::exchange(low, from, high, to);
    }
}
