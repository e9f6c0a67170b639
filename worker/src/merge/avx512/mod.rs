//! What kernels by hand for AVX-512 have in common: sixteen elements a vector, read from where they are stored.

mod mask;

pub(crate) use mask::draw;

use super::block::{BLOCK, Elements};
use super::simd::Level;
use crate::checkpoint::Dtype;
use std::arch::x86_64::*;
use std::sync::LazyLock;

/// Elements of a vector.
pub(crate) const LANES: usize = 16;
/// Vectors of a block.
pub(crate) const VECTORS: usize = BLOCK / LANES;

/// One bit per element of a block, set where it is kept.
pub(crate) type Kept = [u16; VECTORS];

/// Whether the processor at hand has what the kernels are compiled for.
#[inline]
pub(crate) fn here() -> bool {
    static HERE: LazyLock<bool> = LazyLock::new(|| {
        let bits = is_x86_feature_detected!("bmi2") && is_x86_feature_detected!("popcnt");
        bits && Level::here() == Level::Avx512
    });
    *HERE
}

/// The stored elements of one block.
#[derive(Clone, Copy)]
pub(crate) enum Stored<'a> {
    Bf16(&'a [[u8; 2 * LANES]; VECTORS]),
    F16(&'a [[u8; 2 * LANES]; VECTORS]),
    F32(&'a [[u8; 4 * LANES]; VECTORS]),
}

impl<'a> Stored<'a> {
    /// `None` where they do not follow each other in the file, or fill no block.
    #[inline(always)]
    pub(crate) fn of(elements: &Elements<'a>, first: usize) -> Option<Stored<'a>> {
        let (bytes, dtype) = elements.whole_block(first)?;
        match dtype {
            Dtype::Bf16 => Some(Stored::Bf16(bytes.as_chunks().0.try_into().ok()?)),
            Dtype::F16 => Some(Stored::F16(bytes.as_chunks().0.try_into().ok()?)),
            Dtype::F32 => Some(Stored::F32(bytes.as_chunks().0.try_into().ok()?)),
            _ => None,
        }
    }

    /// The vector of that number, widened to f32, which is exact.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub(crate) fn widen(self, v: usize) -> __m512 {
        match self {
            Stored::Bf16(vectors) => {
                let bits = _mm512_cvtepu16_epi32(halves(&vectors[v]));
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits))
            }
            Stored::F16(vectors) => _mm512_cvtph_ps(halves(&vectors[v])),
            Stored::F32(vectors) => {
                // SAFETY: 64 bytes are read from a reference to as many; the load asks for no alignment.
                #[expect(unsafe_code, reason = "the instruction takes an address")]
                unsafe {
                    _mm512_loadu_ps(vectors[v].as_ptr().cast())
                }
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn halves(bytes: &[u8; 2 * LANES]) -> __m256i {
    // SAFETY: 32 bytes are read from a reference to as many; the load asks for no alignment.
    #[expect(unsafe_code, reason = "the instruction takes an address")]
    unsafe {
        _mm256_loadu_si256(bytes.as_ptr().cast())
    }
}

/// Reads a vector of numbers.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
pub(crate) fn load(numbers: &[f32; LANES]) -> __m512 {
    // SAFETY: 64 bytes are read from a reference to as many; the load asks for no alignment.
    #[expect(unsafe_code, reason = "the instruction takes an address")]
    unsafe {
        _mm512_loadu_ps(numbers.as_ptr())
    }
}

/// Writes a vector of numbers.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
pub(crate) fn store(out: &mut [f32; LANES], numbers: __m512) {
    // SAFETY: 64 bytes are written to a reference to as many; the store asks for no alignment.
    #[expect(unsafe_code, reason = "the instruction takes an address")]
    unsafe {
        _mm512_storeu_ps(out.as_mut_ptr(), numbers)
    }
}
