//! DARE's masks from the random field of `field.rs`, as bits.
//!
//! A vector holds eight counters of Philox, each 32-bit word of their states in the lower half of a 64-bit lane; the upper halves
//! hold anything, since the multiplication reads only the lower ones.

use super::{Kept, LANES, VECTORS};
use crate::merge::block::BLOCK;
use crate::merge::field::{DROP_ALL, Key, MULTIPLIER, ROUNDS, WEYL};
use std::arch::x86_64::*;

/// Vectors of eight counters side by side: a round waits for the multiplications of the one before, and these are independent.
const SIDE: usize = 4;
/// Words that they make, as vectors of elements.
const MADE: usize = SIDE * 8 * 4 / LANES;

/// Sets the bit of each element of the block from element `first` on, a multiple of [`BLOCK`], whose word is at least `drop · 2⁸`.
///
/// Two of the counter's words are 0 and one is the same for a whole block, so that of the first two rounds little is left.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi2")]
pub(crate) fn draw(key: Key, first: u64, drop: u32, out: &mut Kept) {
    assert!(first.is_multiple_of(BLOCK as u64) && drop < DROP_ALL, "a block and a share of it");
    const { assert!((1_u64 << 34).is_multiple_of(BLOCK as u64), "the upper word changes between blocks") };
    let limit = _mm512_set1_epi32((drop << 8) as i32);
    let multiplier = MULTIPLIER.map(|m| _mm512_set1_epi64(m as i64));
    let word = |round: usize, w: usize| key.0[w].wrapping_add(WEYL[w].wrapping_mul(round as u32));
    let same = |word: u32| _mm512_set1_epi64(i64::from(word));
    let mut keys = [[_mm512_setzero_si512(); 2]; ROUNDS];
    for (round, keys) in keys.iter_mut().enumerate() {
        *keys = [same(word(round, 0)), same(word(round, 1))];
    }
    // What the first round makes of the words that all have.
    let upper = u64::from(((first / 4) >> 32) as u32 ^ word(0, 0)) * MULTIPLIER[0];
    let (upper_product, upper_key) = (same(upper as u32), same((upper >> 32) as u32 ^ word(1, 1)));
    let lanes = _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7);
    let (groups, _) = out.as_chunks_mut::<MADE>();
    for (g, out) in groups.iter_mut().enumerate() {
        let from = first / 4 + (g * SIDE * 8) as u64;
        let mut c0 = [_mm512_setzero_si512(); SIDE];
        let [mut c1, mut c2, mut c3] = [c0; 3];
        for v in 0..SIDE {
            let counter = _mm512_add_epi64(_mm512_set1_epi64((from + 8 * v as u64) as i64), lanes);
            let p = _mm512_mul_epu32(counter, multiplier[0]);
            let q = _mm512_mul_epu32(_mm512_xor_si512(_mm512_srli_epi64::<32>(p), keys[0][1]), multiplier[1]);
            c0[v] = _mm512_xor_si512(_mm512_srli_epi64::<32>(q), keys[1][0]);
            c1[v] = q;
            c2[v] = _mm512_xor_si512(p, upper_key);
            c3[v] = upper_product;
        }
        for [k0, k1] in &keys[2..] {
            for v in 0..SIDE {
                let p0 = _mm512_mul_epu32(c0[v], multiplier[0]);
                let p1 = _mm512_mul_epu32(c2[v], multiplier[1]);
                c0[v] = xor(_mm512_srli_epi64::<32>(p1), c1[v], *k0);
                c1[v] = p1;
                c2[v] = xor(_mm512_srli_epi64::<32>(p0), c3[v], *k1);
                c3[v] = p0;
            }
        }
        for v in 0..SIDE {
            // Words 0 and 1 of each counter beside each other, and words 2 and 3.
            let low = _mm512_mask_shuffle_epi32::<0xA0>(c0[v], 0xAAAA, c1[v]);
            let high = _mm512_mask_shuffle_epi32::<0xA0>(c2[v], 0xAAAA, c3[v]);
            let low = u32::from(_mm512_cmpge_epu32_mask(low, limit));
            let high = u32::from(_mm512_cmpge_epu32_mask(high, limit));
            let bits = _pdep_u32(low, 0x3333_3333) | _pdep_u32(high, 0xCCCC_CCCC);
            out[2 * v] = bits as u16;
            out[2 * v + 1] = (bits >> 16) as u16;
        }
    }
    const { assert!(VECTORS.is_multiple_of(MADE)) };
}

/// `a ⊕ b ⊕ c`.
#[inline]
#[target_feature(enable = "avx512f")]
fn xor(a: __m512i, b: __m512i, c: __m512i) -> __m512i {
    _mm512_ternarylogic_epi64::<0x96>(a, b, c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merge::field::{drop_limit, words};

    #[test]
    fn bits_are_those_of_the_plain_statement() {
        if !super::super::here() {
            return;
        }
        let key = Key([0xdead_beef, 7]);
        // The last starts make the counter's second word non-zero.
        for first in [0, BLOCK as u64, (1 << 34) - BLOCK as u64, 1 << 34, (7 << 34) + 5 * BLOCK as u64] {
            let mut plain = vec![0; BLOCK];
            words(key, first, &mut plain);
            for rate in [1e-7, 0.3, 0.5, 0.999_999_9] {
                let drop = drop_limit(rate);
                let mut kept = [0; VECTORS];
                // SAFETY: `here` has found the features.
                #[expect(unsafe_code, reason = "a function compiled for features that were found")]
                unsafe {
                    draw(key, first, drop, &mut kept)
                };
                for (i, word) in plain.iter().enumerate() {
                    let bit = kept[i / LANES] >> (i % LANES) & 1 == 1;
                    assert_eq!(bit, word >> 8 >= drop, "element {i} from {first} at {rate}");
                }
            }
        }
    }
}
