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

/// Arithmetic in float32.
pub(super) const SINGLE: u8 = 0;
/// In float16, as long as no stored number is beyond a [`limit_of`].
pub(super) const HALF: u8 = 1;
/// In float16, whatever the numbers.
pub(super) const ANY_HALF: u8 = 2;

/// The powers of two of the largest stored numbers, as bits.
#[derive(Clone, Copy)]
struct Reach(__m512i);

impl Reach {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    fn new() -> Reach {
        Reach(_mm512_setzero_si512())
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    fn within(self, limit: u32) -> bool {
        _mm512_cmpge_epu32_mask(self.0, _mm512_set1_epi32(limit as i32)) == 0
    }
}

/// The bits of a power of two: of stored numbers below it, every number on the way to the merge is below 2¹⁵, and so rounds to a finite
/// number of float16.
fn limit_of<const ARITHMETIC: u8, S>(shares: &[Share<S>], scale: f32) -> u32 {
    if ARITHMETIC != HALF {
        return u32::MAX;
    }
    // Twice a stored number, rescaled, weighted and summed, and what rounding adds; then that scaled, and a base.
    let most = |share: &Share<S>| 2.0 / share.keep * share.weight.abs().max(1.0);
    let sum: f32 = shares.iter().map(most).sum();
    let limit = 32_768.0 / (1.1 * (sum * scale.abs().max(1.0) + 1.0));
    // Below, what rounding adds would have to be reckoned with: nothing passes.
    if limit >= 1.0 / 1024.0 { limit.to_bits() & EXPONENT } else { 0 }
}

/// Bits of a float32 number that are its power of two.
const EXPONENT: u32 = 0x7f80_0000;

/// What an operation leaves: see [`super::super::round`]. Of what becomes zero, the sign may be lost.
///
/// The float16 number nearest to x is x + c − c, where c is 1.5 · 2¹³ times the power of two of x, or of 2⁻¹⁴ where that is larger: then the
/// last bit of c's float32 is as much as the last bit of x's float16. The instructions for it take twice as long.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn round<const ARITHMETIC: u8>(x: __m512) -> __m512 {
    match ARITHMETIC {
        SINGLE => x,
        HALF => {
            const LEAST: i32 = 0x3880_0000;
            const TIMES: i32 = 13 << 23 | 1 << 22;
            let power = _mm512_max_epu32(power(x), _mm512_set1_epi32(LEAST));
            let c = _mm512_castsi512_ps(_mm512_add_epi32(power, _mm512_set1_epi32(TIMES)));
            _mm512_sub_ps(_mm512_add_ps(x, c), c)
        }
        _ => {
            const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
            let rounded = _mm512_cvtph_ps(_mm512_cvtps_ph::<NEAREST>(x));
            // What is no number stays which it was.
            _mm512_mask_mov_ps(rounded, _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x), x)
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn power(x: __m512) -> __m512i {
    _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(EXPONENT as i32))
}

/// The same of a stored number.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn round_stored<const ARITHMETIC: u8>(x: __m512, reach: &mut Reach) -> __m512 {
    if ARITHMETIC == HALF {
        reach.0 = _mm512_max_epu32(reach.0, power(x));
    }
    round::<ARITHMETIC>(x)
}

/// The same with the sign of a zero.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn round_with_sign<const ARITHMETIC: u8>(x: __m512) -> __m512 {
    let rounded = round::<ARITHMETIC>(x);
    if ARITHMETIC != HALF {
        return rounded;
    }
    // Of the first all but the sign, of the second the sign.
    const CHOSEN: i32 = 0xD8;
    let (rounded, x) = (_mm512_castps_si512(rounded), _mm512_castps_si512(x));
    _mm512_castsi512_ps(_mm512_ternarylogic_epi32::<CHOSEN>(rounded, x, _mm512_set1_epi32(i32::MIN)))
}

/// `m − b` where it is kept by the mask, else +0: steps 1 and 2, in float16 also step 4.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn delta<const ARITHMETIC: u8, S: Vectors>(
    share: &Share<S>,
    base: __m512,
    v: usize,
    reach: &mut Reach,
) -> __m512 {
    // SAFETY: this function is compiled for the features.
    let (model, own) = unsafe { (share.model.widen(v), share.base.map(|own| own.widen(v))) };
    if ARITHMETIC == SINGLE {
        return _mm512_maskz_sub_ps(share.kept[v], model, own.unwrap_or(base));
    }
    let own = match own {
        Some(own) => round_stored::<ARITHMETIC>(own, reach),
        None => base,
    };
    let model = round_stored::<ARITHMETIC>(model, reach);
    let mut delta = round::<ARITHMETIC>(_mm512_sub_ps(model, own));
    if share.keep != 1.0 {
        delta = round::<ARITHMETIC>(_mm512_div_ps(delta, _mm512_set1_ps(share.keep)));
    }
    _mm512_maskz_mov_ps(share.kept[v], delta)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn magnitude(x: __m512) -> __m512i {
    _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(MAGNITUDE as i32))
}

/// What survives of a source's vector, rescaled where anything was dropped: steps 1 to 4.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn survivor<const ARITHMETIC: u8, const RESCALED: bool, S: Vectors>(
    share: &Share<S>,
    base: __m512,
    v: usize,
    reach: &mut Reach,
) -> __m512 {
    let delta = delta::<ARITHMETIC, S>(share, base, v, reach);
    let survives = _mm512_cmpge_epu32_mask(magnitude(delta), _mm512_set1_epi32(share.threshold as i32));
    if RESCALED && ARITHMETIC == SINGLE {
        _mm512_maskz_div_ps(survives, delta, _mm512_set1_ps(share.keep))
    } else {
        _mm512_maskz_mov_ps(survives, delta)
    }
}

/// Asks for the vector of that number of the next block, of base and sources.
#[inline(always)]
fn prefetch<S: Vectors>(base: S, shares: &[Share<S>], v: usize) {
    base.prefetch_next(v);
    for share in shares {
        share.model.prefetch_next(v);
        if let Some(own) = share.base {
            own.prefetch_next(v);
        }
    }
}

/// The base's vector of that number.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn of_base<const ARITHMETIC: u8, S: Vectors>(base: S, v: usize, reach: &mut Reach) -> __m512 {
    // SAFETY: this function is compiled for the features.
    let base = unsafe { base.widen(v) };
    if ARITHMETIC == HALF {
        reach.0 = _mm512_max_epu32(reach.0, power(base));
    }
    round_with_sign::<ARITHMETIC>(base)
}

/// Vectors that a kernel works on together: each rounding waits for the one before, and vectors do not wait for each other. In
/// float32 the processor sees far enough ahead by itself.
const fn together(arithmetic: u8) -> usize {
    if arithmetic == SINGLE { 1 } else { 2 }
}

/// Steps 1 to 6 for a block of the first `N` shares. As of all kernels here, `None` where numbers are too large for the arithmetic.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
pub(super) fn merge<const N: usize, const ARITHMETIC: u8, const RESCALED: bool, S: Vectors>(
    base: S,
    shares: &[Share<S>; MOST],
    whole: Whole,
    out: &mut Block,
) -> Option<()> {
    let mut reach = Reach::new();
    let limit = limit_of::<ARITHMETIC, S>(&shares[..N], whole.scale);
    let (outs, _) = out.as_chunks_mut::<LANES>();
    if together(ARITHMETIC) == 1 {
        for (v, out) in outs.iter_mut().enumerate() {
            prefetch(base, &shares[..N], v);
            let [merged] = merged::<N, 1, RESCALED, ARITHMETIC, S>(base, shares, whole, v, &mut reach);
            store(out, merged);
        }
    } else {
        for (pair, [one, two]) in outs.as_chunks_mut().0.iter_mut().enumerate() {
            prefetch(base, &shares[..N], 2 * pair);
            prefetch(base, &shares[..N], 2 * pair + 1);
            let merged = merged::<N, 2, RESCALED, ARITHMETIC, S>(base, shares, whole, 2 * pair, &mut reach);
            store(one, merged[0]);
            store(two, merged[1]);
        }
    }
    reach.within(limit).then_some(())
}

/// Some vectors of it.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn merged<const N: usize, const W: usize, const RESCALED: bool, const ARITHMETIC: u8, S: Vectors>(
    base: S,
    shares: &[Share<S>; MOST],
    whole: Whole,
    v: usize,
    reach: &mut Reach,
) -> [__m512; W] {
    let zeros = [_mm512_setzero_ps(); W];
    let one = _mm512_set1_ps(1.0);
    let scale = _mm512_set1_ps(whole.scale);
    let sign = _mm512_set1_ps(-0.0);
    let tie = _mm512_set1_ps(whole.tie);
    // Where a tie elects no sign, nothing agrees with it.
    let elects_in_ties = if whole.tie == 0.0 { 0 } else { u16::MAX };
    let mut bases = zeros;
    for (w, place) in bases.iter_mut().enumerate() {
        *place = of_base::<ARITHMETIC, S>(base, v + w, reach);
    }
    let mut taus = [zeros; N];
    let mut sums = zeros;
    for (s, (taus, share)) in taus.iter_mut().zip(shares).enumerate() {
        for w in 0..W {
            taus[w] = survivor::<ARITHMETIC, RESCALED, S>(share, bases[w], v + w, reach);
        }
        for w in 0..W {
            sums[w] = _mm512_add_ps(sums[w], taus[w]);
            // The first is a float16 number already.
            if s > 0 {
                sums[w] = round::<ARITHMETIC>(sums[w]);
            }
        }
    }
    let (mut elected, mut elects) = (zeros, [0; W]);
    for w in 0..W {
        let even = _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(sums[w], zeros[w]);
        elected[w] = _mm512_and_ps(_mm512_mask_mov_ps(sums[w], even, tie), sign);
        elects[w] = elects_in_ties | !even;
    }
    let (mut totals, mut counts) = (zeros, zeros);
    for (s, (taus, share)) in taus.iter().zip(shares).enumerate() {
        for w in 0..W {
            let tau = taus[w];
            let agrees =
                _mm512_mask_cmp_ps_mask::<_CMP_GT_OQ>(elects[w], _mm512_xor_ps(tau, elected[w]), zeros[w]);
            let weighted = round::<ARITHMETIC>(_mm512_mul_ps(_mm512_set1_ps(share.weight), tau));
            totals[w] = _mm512_mask_add_ps(totals[w], agrees, totals[w], weighted);
            if s > 0 {
                totals[w] = round::<ARITHMETIC>(totals[w]);
            }
            counts[w] = _mm512_mask_add_ps(counts[w], agrees, counts[w], one);
        }
    }
    let mut merged = bases;
    for w in 0..W {
        let agreed = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(counts[w], zeros[w]);
        let mean = _mm512_maskz_div_ps(agreed, totals[w], counts[w]);
        let step = _mm512_mul_ps(scale, round_with_sign::<ARITHMETIC>(mean));
        let step = round_with_sign::<ARITHMETIC>(step);
        let moved = _mm512_mask_add_ps(bases[w], agreed, bases[w], step);
        let moved = round_with_sign::<ARITHMETIC>(moved);
        let broken = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(sums[w], sums[w]);
        merged[w] = _mm512_mask_mov_ps(moved, broken, sums[w]);
    }
    merged
}

/// The sum of the signs of a block's sums: steps 1 to 5.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,popcnt")]
pub(super) fn signs<const N: usize, const ARITHMETIC: u8, const RESCALED: bool, S: Vectors>(
    base: S,
    shares: &[Share<S>; MOST],
) -> Option<i64> {
    let mut reach = Reach::new();
    let zero = _mm512_setzero_ps();
    let limit = limit_of::<ARITHMETIC, S>(&shares[..N], 1.0);
    let (mut up, mut down) = (0, 0);
    let mut count = |sum| {
        up += _mm512_cmp_ps_mask::<_CMP_GT_OQ>(sum, zero).count_ones();
        down += _mm512_cmp_ps_mask::<_CMP_LT_OQ>(sum, zero).count_ones();
    };
    for v in (0..VECTORS).step_by(together(ARITHMETIC)) {
        prefetch(base, &shares[..N], v);
        if together(ARITHMETIC) == 1 {
            let [sum] = summed::<N, 1, RESCALED, ARITHMETIC, S>(base, shares, v, &mut reach);
            count(sum);
        } else {
            prefetch(base, &shares[..N], v + 1);
            let [one, two] = summed::<N, 2, RESCALED, ARITHMETIC, S>(base, shares, v, &mut reach);
            count(one);
            count(two);
        }
    }
    reach.within(limit).then(|| i64::from(up) - i64::from(down))
}

/// Sums of some vectors.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn summed<const N: usize, const W: usize, const RESCALED: bool, const ARITHMETIC: u8, S: Vectors>(
    base: S,
    shares: &[Share<S>; MOST],
    v: usize,
    reach: &mut Reach,
) -> [__m512; W] {
    let mut bases = [_mm512_setzero_ps(); W];
    let mut sums = bases;
    for (w, place) in bases.iter_mut().enumerate() {
        *place = of_base::<ARITHMETIC, S>(base, v + w, reach);
    }
    for (s, share) in shares[..N].iter().enumerate() {
        for w in 0..W {
            let tau = survivor::<ARITHMETIC, RESCALED, S>(share, bases[w], v + w, reach);
            sums[w] = _mm512_add_ps(sums[w], tau);
            if s > 0 {
                sums[w] = round::<ARITHMETIC>(sums[w]);
            }
        }
    }
    sums
}

/// The magnitudes of one vector, as bits.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn ranked<const ARITHMETIC: u8, S: Vectors>(
    base: S,
    share: &Share<S>,
    v: usize,
    reach: &mut Reach,
) -> __m512i {
    let base = of_base::<ARITHMETIC, S>(base, v, reach);
    magnitude(delta::<ARITHMETIC, S>(share, base, v, reach))
}

/// Of the magnitudes of a block, as bits, how many are below `from`; those from there on are counted in `inside`, one
/// by one as far as it reaches: steps 1 and 2, in float16 also step 4.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,popcnt")]
pub(super) fn tally<const ARITHMETIC: u8, S: Vectors>(
    base: S,
    share: &Share<S>,
    from: u32,
    inside: &mut [u64],
) -> Option<u64> {
    let mut reach = Reach::new();
    let limit = limit_of::<ARITHMETIC, S>(std::slice::from_ref(share), 1.0);
    let width = u32::try_from(inside.len()).unwrap_or(u32::MAX);
    let (low, width) = (_mm512_set1_epi32(from as i32), _mm512_set1_epi32(width as i32));
    // Those inside are gathered without a branch, which could not be foretold, and counted afterwards.
    let (mut below, mut found, mut gathered) = (0, 0, [0u32; BLOCK + LANES]);
    for v in 0..VECTORS {
        prefetch(base, std::slice::from_ref(share), v);
        let bits = ranked::<ARITHMETIC, S>(base, share, v, &mut reach);
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
    if !reach.within(limit) {
        return None;
    }
    for bin in &gathered[..found] {
        if let Some(bin) = inside.get_mut(*bin as usize) {
            *bin += 1;
        }
    }
    Some(u64::from(below))
}

/// The bits of the magnitudes of a block: steps 1 and 2, in float16 also step 4.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
pub(super) fn magnitudes<const ARITHMETIC: u8, S: Vectors>(
    base: S,
    share: &Share<S>,
    out: &mut [u32; BLOCK],
) -> Option<()> {
    let mut reach = Reach::new();
    let limit = limit_of::<ARITHMETIC, S>(std::slice::from_ref(share), 1.0);
    for (v, out) in out.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
        prefetch(base, std::slice::from_ref(share), v);
        let bits = ranked::<ARITHMETIC, S>(base, share, v, &mut reach);
        // SAFETY: 64 bytes are written to a reference to as many; the store asks for no alignment.
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), bits) };
    }
    reach.within(limit).then_some(())
}

/// Numbers rounded with the sign of a zero.
#[cfg(test)]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
pub(super) fn rounded<const ARITHMETIC: u8>(numbers: &[f32; LANES]) -> [f32; LANES] {
    let mut out = [0.0; LANES];
    store(&mut out, round_with_sign::<ARITHMETIC>(crate::merge::avx512::load(numbers)));
    out
}
