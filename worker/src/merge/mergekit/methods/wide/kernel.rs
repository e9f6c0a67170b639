//! The kernels: sixteen elements of every source at a time, each operation rounded as the portable ones round it.

#![expect(
    unsafe_code,
    reason = "vectors are read by functions that are inlined into those compiled for features"
)]

use super::{BF16, F16, Lanes, MOST, Rest, Source, Words};
use crate::merge::avx512::{LANES, Vectors, load, store};
use crate::merge::block::{BLOCK, Block};
use std::arch::x86_64::*;

/// The nearest numbers of the type.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn round<const TYPE: u8>(x: __m512) -> __m512 {
    match TYPE {
        BF16 => {
            let bits = _mm512_castps_si512(x);
            // To nearest, and of two as near to the even one. A NaN stays one: all that is calculated with are numbers of the type, so
            // that a NaN's lower half is empty and what is added to it carries nothing.
            let odd = _mm512_test_epi32_mask(bits, _mm512_set1_epi32(1 << 16));
            let rounded = _mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff));
            let rounded = _mm512_mask_add_epi32(rounded, odd, rounded, _mm512_set1_epi32(1));
            _mm512_castsi512_ps(_mm512_and_si512(rounded, _mm512_set1_epi32(0xffff_0000_u32 as i32)))
        }
        F16 => _mm512_cvtph_ps(_mm512_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x)),
        _ => x,
    }
}

/// A vector of a mask.
#[inline(always)]
fn part(words: &Words, v: usize) -> u16 {
    (words[v / 4] >> (LANES * (v % 4))) as u16
}

/// Times 1 where the bit is set, times 0 elsewhere.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn keep(bits: u16, x: __m512) -> __m512 {
    _mm512_mul_ps(x, _mm512_maskz_mov_ps(bits, _mm512_set1_ps(1.0)))
}

/// The vector of that number of a task vector, thinned out, rescaled and weighted.
///
/// What is not kept is multiplied by 0 here as there, so that a number that is not finite becomes NaN. Or, `QUICK`, it is left
/// out, and `poison` becomes NaN where such a number was met, kept or not.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn term<const TYPE: u8, const QUICK: bool, S: Vectors>(
    source: &Source<S>,
    base: __m512,
    v: usize,
    poison: &mut __m512,
) -> __m512 {
    // SAFETY: this function is compiled for the features.
    let model = unsafe { source.model.widen(v) };
    let mut x = round::<TYPE>(_mm512_sub_ps(model, base));
    if let Some(words) = source.kept {
        let bits = part(words, v);
        if QUICK {
            *poison = _mm512_fmadd_ps(x, _mm512_setzero_ps(), *poison);
            x = _mm512_maskz_mov_ps(bits, x);
        } else {
            x = keep(bits, x);
        }
    }
    if let Some(scale) = source.scale {
        x = round::<TYPE>(_mm512_mul_ps(x, _mm512_set1_ps(scale)));
    }
    round::<TYPE>(_mm512_mul_ps(x, _mm512_set1_ps(source.weight)))
}

/// The sum of the terms whose sign is elected, and of the weights that took part.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn elected<const N: usize, const QUICK: bool, S: Vectors>(
    terms: &[__m512; N],
    sources: &[Source<S>; N],
    sum: __m512,
) -> (__m512, __m512) {
    let zero = _mm512_setzero_ps();
    let (mut total, mut weights) = (zero, zero);
    let down = _mm512_cmp_ps_mask::<_CMP_NGE_UQ>(sum, zero);
    let sign = _mm512_maskz_mov_ps(down, _mm512_set1_ps(-0.0));
    for (term, source) in terms.iter().zip(sources) {
        let agrees = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(_mm512_xor_ps(*term, sign), zero);
        let weight = _mm512_set1_ps(source.weight);
        if QUICK {
            // Zeros of either sign add nothing to sums that begin with +0.
            total = _mm512_mask_add_ps(total, agrees, total, *term);
            weights = _mm512_mask_add_ps(weights, agrees, weights, weight);
        } else {
            total = _mm512_add_ps(total, keep(agrees, *term));
            weights = _mm512_add_ps(weights, keep(agrees, weight));
        }
    }
    (total, weights)
}

/// One vector of the result; `QUICK`, it may only be used while the second stays zero in every place.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn vector<const TYPE: u8, const N: usize, const QUICK: bool, S: Vectors>(
    base: S,
    sources: &[Source<S>; N],
    rest: &Rest,
    v: usize,
) -> (__m512, __m512) {
    let zero = _mm512_setzero_ps();
    // SAFETY: this function is compiled for the features.
    let base = unsafe { base.widen(v) };
    let mut poison = zero;
    let mut terms = [zero; N];
    let mut sum = zero;
    for (term, source) in terms.iter_mut().zip(sources) {
        *term = self::term::<TYPE, QUICK, S>(source, base, v, &mut poison);
        sum = _mm512_add_ps(sum, *term);
    }
    sum = round::<TYPE>(sum);
    // A sum of terms of which one is not finite is not finite either.
    poison = _mm512_fmadd_ps(sum, zero, poison);
    match rest.divisor {
        Some(divisor) if rest.normalize => {
            sum = round::<TYPE>(_mm512_div_ps(sum, _mm512_set1_ps(divisor)));
        }
        Some(_) => {}
        None => {
            let (total, weights) = elected::<N, QUICK, S>(&terms, sources, sum);
            sum = round::<TYPE>(total);
            if rest.normalize {
                let weights = round::<TYPE>(weights);
                let none = _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(weights, zero);
                let weights = _mm512_mask_mov_ps(weights, none, _mm512_set1_ps(1.0));
                sum = round::<TYPE>(_mm512_div_ps(sum, weights));
            }
        }
    }
    if let Some(lambda) = rest.lambda {
        sum = round::<TYPE>(_mm512_mul_ps(sum, _mm512_set1_ps(lambda)));
    }
    (round::<TYPE>(_mm512_add_ps(base, sum)), poison)
}

/// The same with the care that numbers take that are not finite.
#[cold]
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
pub(super) fn careful<const TYPE: u8, const N: usize, S: Vectors>(
    base: S,
    sources: &[Source<S>; N],
    rest: &Rest,
    v: usize,
) -> __m512 {
    vector::<TYPE, N, false, S>(base, sources, rest, v).0
}

/// One block: base plus the mixed terms of the first `N` sources.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
pub(super) fn merge<const TYPE: u8, const N: usize, S: Vectors>(
    base: S,
    sources: &[Source<S>],
    rest: Rest,
    out: &mut Block,
) {
    const { assert!(N <= MOST) };
    let Some(sources) = sources.first_chunk::<N>() else { return };
    for (v, out) in out.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
        base.prefetch_next(v);
        sources.iter().for_each(|source| source.model.prefetch_next(v));
        let (mut merged, poison) = vector::<TYPE, N, true, S>(base, sources, &rest, v);
        if _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(poison, poison) != 0 {
            merged = careful::<TYPE, N, S>(base, sources, &rest, v);
        }
        store(out, merged);
    }
}

/// The vector of that number of a task vector; of the next block, it is asked for.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn task_vector<const TYPE: u8, S: Vectors>(base: S, model: S, v: usize) -> __m512 {
    base.prefetch_next(v);
    model.prefetch_next(v);
    // SAFETY: this function is compiled for the features.
    let (model, base) = unsafe { (model.widen(v), base.widen(v)) };
    round::<TYPE>(_mm512_sub_ps(model, base))
}

/// Adds the magnitudes of so many vectors of a task vector, and of what the mask keeps of them, to the lanes of four registers of
/// eight: one after the other, or, with `pairs`, of sixteen numbers the two that are eight apart.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
pub(super) fn add_magnitudes<const TYPE: u8, S: Vectors>(
    base: S,
    source: &Source<S>,
    vectors: usize,
    pairs: bool,
    all: &mut Lanes,
    kept: &mut Lanes,
) {
    let mut sums = [lanes(all), lanes(kept)];
    for v in (0..vectors / 4 * 4).step_by(4) {
        let [mut of_all, mut of_kept] = [[_mm512_setzero_ps(); 4]; 2];
        for (v, (all, kept)) in (v..).zip(of_all.iter_mut().zip(&mut of_kept)) {
            let x = task_vector::<TYPE, S>(base, source.model, v);
            *all = _mm512_abs_ps(x);
            *kept = _mm512_abs_ps(source.kept.map_or(x, |words| keep(part(words, v), x)));
        }
        for ([low, high], [a, b, c, d]) in sums.iter_mut().zip([of_all, of_kept]) {
            if pairs {
                *low = _mm512_add_ps(*low, halves_added(a, b));
                *high = _mm512_add_ps(*high, halves_added(c, d));
            } else {
                *low = _mm512_add_ps(_mm512_add_ps(*low, a), c);
                *high = _mm512_add_ps(_mm512_add_ps(*high, b), d);
            }
        }
    }
    for (lanes, sums) in [all, kept].into_iter().zip(sums) {
        for (lanes, sum) in lanes.as_chunks_mut().0.iter_mut().zip(sums) {
            store(lanes, sum);
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn lanes(lanes: &Lanes) -> [__m512; 2] {
    let [low, high] = lanes.as_chunks().0 else { unreachable!("two registers") };
    [load(low), load(high)]
}

/// The lower half of each plus its upper half, side by side.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn halves_added(a: __m512, b: __m512) -> __m512 {
    _mm512_add_ps(_mm512_shuffle_f32x4::<0x44>(a, b), _mm512_shuffle_f32x4::<0xEE>(a, b))
}

/// The magnitudes of a block of a task vector as bits of bfloat16, any NaN above everything else, with `turn` exchanged.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
pub(super) fn keys<S: Vectors>(base: S, model: S, turn: u16, out: &mut [u16; BLOCK]) {
    let most = _mm512_set1_epi32(0x7fff_ffff);
    let turn = _mm256_set1_epi16(turn as i16);
    for (v, out) in out.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
        let bits = _mm512_and_si512(_mm512_castps_si512(task_vector::<BF16, S>(base, model, v)), most);
        let none = _mm512_cmpgt_epi32_mask(bits, _mm512_set1_epi32(0x7f80_0000));
        let bits = _mm512_mask_mov_epi32(bits, none, most);
        let keys = _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(bits));
        // SAFETY: 32 bytes are written to a reference to as many; the store asks for no alignment.
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), _mm256_xor_si256(keys, turn)) };
    }
}

/// A block of a task vector.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
pub(super) fn difference<const TYPE: u8, S: Vectors>(base: S, model: S, out: &mut Block) {
    for (v, out) in out.as_chunks_mut().0.iter_mut().enumerate() {
        store(out, task_vector::<TYPE, S>(base, model, v));
    }
}
