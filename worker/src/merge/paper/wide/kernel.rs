//! The kernels: sixteen elements of every source at a time, in the order of operations of the portable ones.

#![expect(
    unsafe_code,
    reason = "vectors are read by functions that are inlined into those compiled for features"
)]

use super::super::{MAGNITUDE, Whole};
use super::{MOST, Share};
use crate::merge::avx512::{LANES, VECTORS, Vectors, store};
use crate::merge::block::{BLOCK, Block};
use std::arch::x86_64::*;

/// `m − b` where it is kept by the mask, else +0: steps 1 and 2.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn delta<S: Vectors>(share: &Share<S>, base: __m512, v: usize) -> __m512 {
    // SAFETY: this function is compiled for the features.
    let (model, own) = unsafe { (share.model.widen(v), share.base.map(|own| own.widen(v))) };
    _mm512_maskz_sub_ps(share.kept[v], model, own.unwrap_or(base))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn magnitude(x: __m512) -> __m512i {
    _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(MAGNITUDE as i32))
}

/// What survives of a source's vector, rescaled where anything was dropped: steps 1 to 4.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn survivor<const RESCALED: bool, S: Vectors>(share: &Share<S>, base: __m512, v: usize) -> __m512 {
    let delta = delta(share, base, v);
    let survives = _mm512_cmpge_epu32_mask(magnitude(delta), _mm512_set1_epi32(share.threshold as i32));
    if RESCALED {
        _mm512_maskz_div_ps(survives, delta, _mm512_set1_ps(share.keep))
    } else {
        _mm512_maskz_mov_ps(survives, delta)
    }
}

/// The base's vector of that number. The same vector of the next block is asked for, of base and sources.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn begin<S: Vectors>(base: S, shares: &[Share<S>], v: usize) -> __m512 {
    base.prefetch_next(v);
    for share in shares {
        share.model.prefetch_next(v);
        if let Some(own) = share.base {
            own.prefetch_next(v);
        }
    }
    // SAFETY: this function is compiled for the features.
    unsafe { base.widen(v) }
}

/// Steps 1 to 6 for a block of the first `N` shares.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
pub(super) fn merge<const N: usize, const RESCALED: bool, S: Vectors>(
    base: S,
    shares: &[Share<S>; MOST],
    whole: Whole,
    out: &mut Block,
) {
    let zero = _mm512_setzero_ps();
    let one = _mm512_set1_ps(1.0);
    let scale = _mm512_set1_ps(whole.scale);
    let sign = _mm512_set1_ps(-0.0);
    let tie = _mm512_set1_ps(whole.tie);
    // Where a tie elects no sign, nothing agrees with it.
    let elects_in_ties = if whole.tie == 0.0 { 0 } else { u16::MAX };
    for (v, out) in out.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
        let base = begin(base, &shares[..N], v);
        let mut tau = [zero; N];
        let mut sum = zero;
        for (tau, share) in tau.iter_mut().zip(shares) {
            *tau = survivor::<RESCALED, S>(share, base, v);
            sum = _mm512_add_ps(sum, *tau);
        }
        let even = _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(sum, zero);
        let elected = _mm512_and_ps(_mm512_mask_mov_ps(sum, even, tie), sign);
        let elects = elects_in_ties | !even;
        let (mut total, mut count) = (zero, zero);
        for (tau, share) in tau.iter().zip(shares) {
            let agrees = _mm512_mask_cmp_ps_mask::<_CMP_GT_OQ>(elects, _mm512_xor_ps(*tau, elected), zero);
            let weighted = _mm512_mul_ps(_mm512_set1_ps(share.weight), *tau);
            total = _mm512_mask_add_ps(total, agrees, total, weighted);
            count = _mm512_mask_add_ps(count, agrees, count, one);
        }
        let agreed = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(count, zero);
        let mean = _mm512_maskz_div_ps(agreed, total, count);
        let moved = _mm512_mask_add_ps(base, agreed, base, _mm512_mul_ps(scale, mean));
        let broken = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(sum, sum);
        let merged = _mm512_mask_mov_ps(moved, broken, sum);
        store(out, merged);
    }
}

/// The sum of the signs of a block's sums: steps 1 to 5.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,popcnt")]
pub(super) fn signs<const N: usize, const RESCALED: bool, S: Vectors>(
    base: S,
    shares: &[Share<S>; MOST],
) -> i64 {
    let zero = _mm512_setzero_ps();
    let (mut up, mut down) = (0, 0);
    for v in 0..VECTORS {
        let base = begin(base, &shares[..N], v);
        let mut sum = zero;
        for share in &shares[..N] {
            sum = _mm512_add_ps(sum, survivor::<RESCALED, S>(share, base, v));
        }
        up += _mm512_cmp_ps_mask::<_CMP_GT_OQ>(sum, zero).count_ones();
        down += _mm512_cmp_ps_mask::<_CMP_LT_OQ>(sum, zero).count_ones();
    }
    i64::from(up) - i64::from(down)
}

/// Of the magnitudes of a block, as bits, how many are below `from`; those from there on are counted in `inside`, one
/// by one as far as it reaches: steps 1 and 2.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,popcnt")]
pub(super) fn tally<S: Vectors>(base: S, share: &Share<S>, from: u32, inside: &mut [u64]) -> u64 {
    let width = u32::try_from(inside.len()).unwrap_or(u32::MAX);
    let (low, width) = (_mm512_set1_epi32(from as i32), _mm512_set1_epi32(width as i32));
    // Those inside are gathered without a branch, which could not be foretold, and counted afterwards.
    let (mut below, mut found, mut gathered) = (0, 0, [0u32; BLOCK + LANES]);
    for v in 0..VECTORS {
        let bits = magnitude(delta(share, begin(base, std::slice::from_ref(share), v), v));
        below += _mm512_cmplt_epu32_mask(bits, low).count_ones();
        let above = _mm512_sub_epi32(bits, low);
        let is_inside = _mm512_cmplt_epu32_mask(above, width);
        if let Some(room) = gathered.get_mut(found..found + LANES) {
            let first = _mm512_maskz_compress_epi32(is_inside, above);
            // SAFETY: 64 bytes are written to a slice of as many; the store asks for no alignment.
            unsafe { _mm512_storeu_si512(room.as_mut_ptr().cast(), first) };
        }
        found += is_inside.count_ones() as usize;
    }
    for bin in &gathered[..found] {
        if let Some(bin) = inside.get_mut(*bin as usize) {
            *bin += 1;
        }
    }
    u64::from(below)
}

/// The bits of the magnitudes of a block: steps 1 and 2.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
pub(super) fn magnitudes<S: Vectors>(base: S, share: &Share<S>, out: &mut [u32; BLOCK]) {
    for (v, out) in out.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
        let bits = magnitude(delta(share, begin(base, std::slice::from_ref(share), v), v));
        // SAFETY: 64 bytes are written to a reference to as many; the store asks for no alignment.
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), bits) };
    }
}
