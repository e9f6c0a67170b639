//! The same by AVX-512: 64 keys are compared by two or four instructions, and what is exchanged moves in whole registers,
//! gathered by compression, turned round, and spread by expansion.

#![expect(unsafe_code, reason = "instructions that only some processors have")]

use super::Key;
use super::partition::{Word, Words, by_words};
use super::undo::{self, Scatter};
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

/// Its functions are only called inlined into those that name the instructions, after [`here`] has said that they are there.
struct Wide;

macro_rules! key {
    ($key:ty, $partition:ident) => {
        #[target_feature(enable = "avx512f,avx512bw,avx512vbmi2,bmi1,bmi2,popcnt,lzcnt")]
        fn $partition(keys: &mut [$key], moved: &mut [u64]) -> usize {
            by_words::<$key, Wide>(keys, moved)
        }

        impl Key for $key {
            fn partition_wide(keys: &mut [$key], moved: &mut [u64]) -> usize {
                assert!(here(), "asked for first");
                // SAFETY: the processor has every instruction that the function names.
                unsafe { $partition(keys, moved) }
            }
        }
    };
}

key!(u16, partition_u16);
key!(u32, partition_u32);

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
    fn extract(bits: u64, mask: u64) -> u64 {
        // SAFETY: see `Wide`.
        unsafe { _pext_u64(bits, mask) }
    }

    #[inline(always)]
    fn deposit(bits: u64, mask: u64) -> u64 {
        // SAFETY: see `Wide`.
        unsafe { _pdep_u64(bits, mask) }
    }
}

#[inline(always)]
fn lowest(bits: u64, count: u32) -> u64 {
    let ones = if count >= 64 { u64::MAX } else { (1 << count) - 1 };
    Wide::deposit(ones, bits)
}

impl Words<u16> for Wide {
    #[inline(always)]
    fn at_least(keys: &[u16; 64], pivot: u16) -> u64 {
        // SAFETY: see `Wide`; the loads are within the array.
        unsafe {
            let [a, b] = load16(keys);
            let pivot = _mm512_set1_epi16(pivot as i16);
            u64::from(_mm512_cmpge_epu16_mask(a, pivot)) | u64::from(_mm512_cmpge_epu16_mask(b, pivot)) << 32
        }
    }

    #[inline(always)]
    fn at_most(keys: &[u16; 64], pivot: u16) -> u64 {
        // SAFETY: see `Wide`; the loads are within the array.
        unsafe {
            let [a, b] = load16(keys);
            let pivot = _mm512_set1_epi16(pivot as i16);
            u64::from(_mm512_cmple_epu16_mask(a, pivot)) | u64::from(_mm512_cmple_epu16_mask(b, pivot)) << 32
        }
    }

    #[inline(always)]
    fn lowest(bits: u64, count: u32) -> u64 {
        lowest(bits, count)
    }

    #[inline(always)]
    fn exchange(words: &mut [[u16; 64]], low: Word, high: Word) {
        let lower = Turned::of(&words[low.at], low.bits);
        let upper = Turned::of(&words[high.at], high.bits);
        upper.spread(&mut words[low.at], low.bits);
        lower.spread(&mut words[high.at], high.bits);
    }
}

/// # Safety
/// See [`Wide`].
#[inline(always)]
unsafe fn load16(keys: &[u16; 64]) -> [__m512i; 2] {
    // SAFETY: 64 keys are two registers.
    unsafe { [_mm512_loadu_epi16(keys.as_ptr().cast()), _mm512_loadu_epi16(keys.as_ptr().add(32).cast())] }
}

/// Some of 64 keys in falling order of their places, with room behind so that whole registers may be read.
struct Turned {
    keys: [u16; 128],
    from: usize,
}

impl Turned {
    #[inline(always)]
    fn of(keys: &[u16; 64], bits: u64) -> Turned {
        let mut rising = [0u16; 96];
        let mut turned = Turned { keys: [0; 128], from: 64 - bits.count_ones() as usize };
        let (a_bits, b_bits) = (bits as u32, (bits >> 32) as u32);
        // SAFETY: see `Wide`. What is written and read begins at most at place 32 of 96 and at 96 of 128, and is 32 keys.
        unsafe {
            let [a, b] = load16(keys);
            let a = _mm512_maskz_compress_epi16(a_bits, a);
            let b = _mm512_maskz_compress_epi16(b_bits, b);
            _mm512_storeu_epi16(rising.as_mut_ptr().cast(), a);
            _mm512_storeu_epi16(rising.as_mut_ptr().add(a_bits.count_ones() as usize).cast(), b);
            let back = _mm512_sub_epi16(_mm512_set1_epi16(31), iota());
            let first = _mm512_permutexvar_epi16(back, _mm512_loadu_epi16(rising.as_ptr().cast()));
            let second = _mm512_permutexvar_epi16(back, _mm512_loadu_epi16(rising.as_ptr().add(32).cast()));
            _mm512_storeu_epi16(turned.keys.as_mut_ptr().cast(), second);
            _mm512_storeu_epi16(turned.keys.as_mut_ptr().add(32).cast(), first);
        }
        turned
    }

    /// Puts them where the bits are, as many as there are.
    #[inline(always)]
    fn spread(&self, keys: &mut [u16; 64], bits: u64) {
        let (a_bits, b_bits) = (bits as u32, (bits >> 32) as u32);
        let (from, next) = (self.from, self.from + a_bits.count_ones() as usize);
        debug_assert!(next <= 96);
        // SAFETY: see `Wide`. `from` is at most 64 and `next` at most 96, so 32 keys from there are within the 128.
        unsafe {
            let [a, b] = load16(keys);
            let a =
                _mm512_mask_expand_epi16(a, a_bits, _mm512_loadu_epi16(self.keys.as_ptr().add(from).cast()));
            let b =
                _mm512_mask_expand_epi16(b, b_bits, _mm512_loadu_epi16(self.keys.as_ptr().add(next).cast()));
            _mm512_storeu_epi16(keys.as_mut_ptr().cast(), a);
            _mm512_storeu_epi16(keys.as_mut_ptr().add(32).cast(), b);
        }
    }
}

/// # Safety
/// See [`Wide`].
#[inline(always)]
unsafe fn iota() -> __m512i {
    const PLACES: [u16; 32] = {
        let mut places = [0; 32];
        let mut i = 0;
        while i < 32 {
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
    fn at_least(keys: &[u32; 64], pivot: u32) -> u64 {
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
    fn at_most(keys: &[u32; 64], pivot: u32) -> u64 {
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
        lowest(bits, count)
    }

    #[inline(always)]
    fn exchange(words: &mut [[u32; 64]], low: Word, high: Word) {
        super::partition::exchange(words, low, high);
    }
}
