//! The random field of DARE: one number in [0, 1) per element, a pure function of key and index.
//!
//! The generator is Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3",
//! SC'11; checked with the vectors of their Random123 library). To restate it elsewhere:
//!
//! - **Key**: 64 bits, the first 8 bytes (little endian) of BLAKE3's derive-key mode.
//!   [`Mask::Independent`]: context [`INDEPENDENT`], material = seed (u64, little endian), byte length of the
//!   source's name (u64, little endian), the source's name, the tensor's name, both UTF-8.
//!   [`Mask::Shared`]: context [`SHARED`], material = seed. Key word 0 is the lower half.
//! - **Counter** of element i (row-major within its tensor): `(c mod 2³², c ÷ 2³², 0, 0)` with `c = ⌊i/4⌋`.
//! - **Word** of element i: output word `i mod 4`. The number is `u = ⌊word / 2⁸⌋ · 2⁻²⁴`.
//! - The element is **dropped** at rate p exactly when `u < p`, that is when `⌊word / 2⁸⌋ < ⌈p · 2²⁴⌉`. So raising
//!   p only ever drops more; 0 drops nothing, 1 everything.
//!
//! Two sources of one name share a mask. Source of the two kinds of keys: DARE as published (arXiv 2311.03099)
//! and JRadiEvo's released code, which uses one mask for all (with torch's generator, not this one).

use super::block::BLOCK;
use common::recipe::Mask;

/// Derive-key context of masks that differ by source and tensor.
pub const INDEPENDENT: &str = "jradievo merge 2025 DARE mask, independent";
/// Derive-key context of the mask that all sources and tensors share.
pub const SHARED: &str = "jradievo merge 2025 DARE mask, shared";

pub(crate) const MULTIPLIER: [u64; 2] = [0xD251_1F53, 0xCD9E_8D57];
pub(crate) const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
pub(crate) const ROUNDS: usize = 10;
const LOW: u64 = 0xFFFF_FFFF;

/// What selects one field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key(pub [u32; 2]);

impl Key {
    /// The key for one tensor of one source.
    pub fn new(mask: Mask, seed: u64, source: &str, tensor: &str) -> Key {
        let mut hasher = match mask {
            Mask::Independent => blake3::Hasher::new_derive_key(INDEPENDENT),
            Mask::Shared => blake3::Hasher::new_derive_key(SHARED),
        };
        hasher.update(&seed.to_le_bytes());
        if mask == Mask::Independent {
            hasher.update(&(source.len() as u64).to_le_bytes());
            hasher.update(source.as_bytes());
            hasher.update(tensor.as_bytes());
        }
        let digest = hasher.finalize();
        let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| digest.as_bytes()[at + i]));
        Key([word(0), word(4)])
    }
}

/// The bound below which `word >> 8` means that the element is dropped at rate `p` in [0, 1].
pub fn drop_limit(p: f64) -> u32 {
    // Exact: a product with a power of two does not round.
    (p * f64::from(1 << 24)).ceil() as u32
}

/// The bound at which everything is dropped.
pub(crate) const DROP_ALL: u32 = 1 << 24;

/// The words of `out.len()` consecutive elements from element `first` on; `first` is any index.
/// The plain entry for tests and tools; merging fills whole blocks.
pub fn words(key: Key, first: u64, out: &mut [u32]) {
    let mut four = [0; 4];
    for (n, (i, out)) in (first..).zip(out).enumerate() {
        let (counter, lane) = (i / 4, (i % 4) as usize);
        if n == 0 || lane == 0 {
            four = philox([counter as u32, (counter >> 32) as u32, 0, 0], key.0);
        }
        *out = four[lane];
    }
}

/// One application of Philox4x32-10, as in the paper. The statement that [`fill`] must equal.
fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..ROUNDS {
        let p0 = u64::from(counter[0]) * MULTIPLIER[0];
        let p1 = u64::from(counter[2]) * MULTIPLIER[1];
        counter = [
            (p1 >> 32) as u32 ^ counter[1] ^ key[0],
            p1 as u32,
            (p0 >> 32) as u32 ^ counter[3] ^ key[1],
            p0 as u32,
        ];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    counter
}

/// Counters computed side by side: as many as keep the widest registers busy.
const GROUP: usize = 16;

/// The words of the block of elements that starts at `first`, a multiple of 4.
///
/// Each 32-bit state word sits in a 64-bit lane whose upper half may hold anything: the multiplication masks
/// it away, which is free because the vector instruction reads only the lower halves.
#[inline(always)]
pub(crate) fn fill(key: Key, first: u64, out: &mut [u32; BLOCK]) {
    debug_assert!(first.is_multiple_of(4));
    let (groups, _) = out.as_chunks_mut::<{ 4 * GROUP }>();
    for (g, out) in groups.iter_mut().enumerate() {
        let base = first / 4 + (g * GROUP) as u64;
        let mut c0: [u64; GROUP] = std::array::from_fn(|j| base + j as u64);
        let mut c1: [u64; GROUP] = std::array::from_fn(|j| (base + j as u64) >> 32);
        let mut c2 = [0u64; GROUP];
        let mut c3 = [0u64; GROUP];
        let [mut k0, mut k1] = key.0;
        for _ in 0..ROUNDS {
            for j in 0..GROUP {
                let p0 = (c0[j] & LOW) * MULTIPLIER[0];
                let p1 = (c2[j] & LOW) * MULTIPLIER[1];
                c0[j] = (p1 >> 32) ^ c1[j] ^ u64::from(k0);
                c1[j] = p1;
                c2[j] = (p0 >> 32) ^ c3[j] ^ u64::from(k1);
                c3[j] = p0;
            }
            k0 = k0.wrapping_add(WEYL[0]);
            k1 = k1.wrapping_add(WEYL[1]);
        }
        for j in 0..GROUP {
            out[4 * j] = c0[j] as u32;
            out[4 * j + 1] = c1[j] as u32;
            out[4 * j + 2] = c2[j] as u32;
            out[4 * j + 3] = c3[j] as u32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merge::simd::widest;

    widest! {
        fn fill_widest(key: Key, first: u64, out: &mut [u32; BLOCK]) {
            fill(key, first, out);
        }
    }

    /// Source: Random123 1.14, `tests/kat_vectors`, lines `philox4x32 10`.
    #[test]
    fn known_answers() {
        let check = |counter, key, expected| assert_eq!(philox(counter, key), expected);
        check([0; 4], [0; 2], [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
        check([u32::MAX; 4], [u32::MAX; 2], [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]);
        check(
            [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
            [0xa4093822, 0x299f31d0],
            [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
        );
    }

    #[test]
    fn blocks_equal_the_plain_statement() {
        let key = Key([0xdead_beef, 7]);
        // The last start makes the counter's second word non-zero.
        for first in [0, BLOCK as u64, (1 << 34) + 64] {
            let mut block = [0; BLOCK];
            let mut plain = vec![0; BLOCK];
            words(key, first, &mut plain);
            fill(key, first, &mut block);
            assert_eq!(block[..], plain);
            block.fill(0);
            fill_widest(key, first, &mut block);
            assert_eq!(block[..], plain);
        }
    }

    #[test]
    fn the_edge_rates_are_exact() {
        assert_eq!((drop_limit(0.0), drop_limit(1.0), drop_limit(0.5)), (0, DROP_ALL, 1 << 23));
        assert_eq!(drop_limit(f64::MIN_POSITIVE), 1);
    }

    #[test]
    fn keys_tell_sources_and_tensors_apart() {
        let key = |mask, source, tensor| Key::new(mask, 42, source, tensor);
        let independent = key(Mask::Independent, "ab", "c");
        assert_ne!(independent, key(Mask::Independent, "a", "bc"));
        assert_ne!(independent, Key::new(Mask::Independent, 43, "ab", "c"));
        assert_eq!(key(Mask::Shared, "x", "y"), key(Mask::Shared, "z", "w"));
    }
}
