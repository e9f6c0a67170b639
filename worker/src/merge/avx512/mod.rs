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

pub(crate) use super::masks::Kept;

/// Whether the processor at hand has what the kernels are compiled for.
#[inline]
pub(crate) fn here() -> bool {
    static HERE: LazyLock<bool> = LazyLock::new(|| {
        let bits = is_x86_feature_detected!("bmi2") && is_x86_feature_detected!("popcnt");
        bits && Level::here() == Level::Avx512
    });
    *HERE
}

/// What kernels read a block's stored elements from. They are compiled for each kind of it, so that no vector asks for its type.
pub(crate) trait Vectors: Copy {
    /// The vector of that number, widened to f32, which is exact.
    ///
    /// # Safety
    /// The processor has what [`here`] asks for.
    #[expect(unsafe_code, reason = "to be inlined into functions that are compiled for features")]
    unsafe fn widen(self, v: usize) -> __m512;

    /// Asks for the vector of that number in the block after this one, where that is the next one in memory. Hardware follows a
    /// stream only to the end of its page, and a merge reads half a page of each of its models in turn. One by one between the
    /// vectors of this block: the processor waits for no more than some ten at a time, and calculates meanwhile.
    fn prefetch_next(self, v: usize);
}

/// Elements of a block that are bfloat16 numbers.
#[derive(Clone, Copy)]
pub(crate) struct Brain<'a>(&'a [[u8; 2 * LANES]; VECTORS]);

impl Brain<'_> {
    /// The stored words of vectors `2 · pair` and `2 · pair + 1`, which follow each other.
    #[inline(always)]
    pub(crate) fn pair(&self, pair: usize) -> &[[u8; 2 * LANES]; 2] {
        let (pairs, _) = self.0.as_chunks();
        &pairs[pair]
    }
}

/// Elements of a block, of any type.
#[derive(Clone, Copy)]
pub(crate) enum Stored<'a> {
    Bf16(Brain<'a>),
    F16(&'a [[u8; 2 * LANES]; VECTORS]),
    F32(&'a [[u8; 4 * LANES]; VECTORS]),
}

impl<'a> Stored<'a> {
    /// `None` where they do not follow each other in the file, or fill no block.
    #[inline(always)]
    pub(crate) fn of(elements: &Elements<'a>, first: usize) -> Option<Stored<'a>> {
        let (bytes, dtype) = elements.whole_block(first)?;
        match dtype {
            Dtype::Bf16 => Some(Stored::Bf16(Brain(bytes.as_chunks().0.try_into().ok()?))),
            Dtype::F16 => Some(Stored::F16(bytes.as_chunks().0.try_into().ok()?)),
            Dtype::F32 => Some(Stored::F32(bytes.as_chunks().0.try_into().ok()?)),
            _ => None,
        }
    }

    /// The same where they are bfloat16 numbers.
    #[inline(always)]
    pub(crate) fn brain(self) -> Option<Brain<'a>> {
        match self {
            Stored::Bf16(brain) => Some(brain),
            _ => None,
        }
    }
}

#[expect(
    unsafe_code,
    reason = "the instructions take addresses, or are such that have to be looked for first"
)]
impl Vectors for Brain<'_> {
    #[inline(always)]
    unsafe fn widen(self, v: usize) -> __m512 {
        // SAFETY: 32 bytes are read from a reference to as many; the load asks for no alignment. The caller has found the features.
        unsafe {
            let bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256(self.0[v].as_ptr().cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits))
        }
    }

    #[inline(always)]
    fn prefetch_next(self, v: usize) {
        prefetch_next(self.0, v);
    }
}

#[expect(
    unsafe_code,
    reason = "the instructions take addresses, or are such that have to be looked for first"
)]
impl Vectors for Stored<'_> {
    #[inline(always)]
    unsafe fn widen(self, v: usize) -> __m512 {
        // SAFETY: as many bytes are read as a reference leads to; loads ask for no alignment. The caller has found the features.
        unsafe {
            match self {
                Stored::Bf16(brain) => brain.widen(v),
                Stored::F16(vectors) => _mm512_cvtph_ps(_mm256_loadu_si256(vectors[v].as_ptr().cast())),
                Stored::F32(vectors) => _mm512_loadu_ps(vectors[v].as_ptr().cast()),
            }
        }
    }

    #[inline(always)]
    fn prefetch_next(self, v: usize) {
        match self {
            Stored::Bf16(brain) => brain.prefetch_next(v),
            Stored::F16(vectors) => prefetch_next(vectors, v),
            Stored::F32(vectors) => prefetch_next(vectors, v),
        }
    }
}

/// Asks for what lies a block behind the vector of that number, once for each line of the cache.
#[inline(always)]
fn prefetch_next<const WIDTH: usize>(vectors: &[[u8; WIDTH]; VECTORS], v: usize) {
    const LINE: usize = 64;
    if WIDTH >= LINE || v.is_multiple_of(LINE / WIDTH) {
        let at = vectors.as_ptr().wrapping_add(VECTORS + v);
        // SAFETY: a prefetch reads nothing that the program could see and cannot fault, whatever the address.
        #[expect(unsafe_code, reason = "the instruction takes an address")]
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(at.cast())
        };
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
