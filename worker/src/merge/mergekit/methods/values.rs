//! The numbers of an input, read in blocks and rounded to the type in which the arithmetic happens.

use super::error::{MethodError, Result};
use crate::checkpoint::Dtype;
#[cfg(target_arch = "x86_64")]
use crate::merge::avx512::Stored;
use crate::merge::block::{BLOCK, Elements, bf16_bits};
use crate::merge::simd::widest;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

/// The type in which a merge computes: each operation gives a number of this type, rounded once from the exact
/// (or, for sums, the float32) result. mergekit computes in the type that its `dtype` names, else in the one
/// to which the stored types promote: two different 16-bit types, or any with float32, give float32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compute {
    /// float32.
    F32,
    /// bfloat16.
    Bf16,
    /// float16.
    F16,
}

impl Compute {
    /// The type of the arithmetic for tensors stored so: mergekit's, when its configuration names none. `None` for
    /// no tensors and for types that cannot be merged.
    pub fn promoted(stored: impl IntoIterator<Item = Dtype>) -> Option<Compute> {
        stored.into_iter().try_fold(None, |so_far, dtype| {
            let own = match dtype {
                Dtype::F32 => Compute::F32,
                Dtype::Bf16 => Compute::Bf16,
                Dtype::F16 => Compute::F16,
                _ => return None,
            };
            Some(Some(so_far.map_or(own, |seen| if seen == own { own } else { Compute::F32 })))
        })?
    }

    /// The type as it is stored.
    pub fn stored(self) -> Dtype {
        match self {
            Compute::F32 => Dtype::F32,
            Compute::F16 => Dtype::F16,
            Compute::Bf16 => Dtype::Bf16,
        }
    }

    /// The nearest number of the type, ties to even.
    #[inline(always)]
    pub fn round(self, x: f32) -> f32 {
        match self {
            Compute::F32 => x,
            Compute::Bf16 => bf16::from_f32(x).to_f32(),
            Compute::F16 => f16::from_f32(x).to_f32(),
        }
    }
}

/// The elements of one input tensor in row-major order, where they lie.
#[derive(Clone, Copy)]
pub struct Values<'a>(Held<'a>);

#[derive(Clone, Copy)]
enum Held<'a> {
    Stored(Elements<'a>, usize),
    Float(&'a [f32]),
}

impl<'a> Values<'a> {
    /// Elements as a checkpoint stores them, little-endian, at any alignment.
    ///
    /// # Errors
    /// [`MethodError::Dtype`] for a type that cannot be merged.
    pub fn stored(bytes: &'a [u8], dtype: Dtype) -> Result<Values<'a>> {
        if !dtype.mergeable() {
            return Err(MethodError::Dtype { dtype: dtype.name() });
        }
        Ok(Values(Held::Stored(Elements::new(bytes, dtype), bytes.len() / dtype.width())))
    }

    /// Elements in memory.
    pub fn float(values: &'a [f32]) -> Values<'a> {
        Values(Held::Float(values))
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        match self.0 {
            Held::Stored(_, elements) => elements,
            Held::Float(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes the elements from `first` on, at most a block of them, rounded to `compute`.
    pub(super) fn read(&self, compute: Compute, first: usize, out: &mut [f32]) {
        read(self, compute, first, out);
    }

    /// The same within a kernel.
    #[inline(always)]
    pub(super) fn read_inline(&self, compute: Compute, first: usize, out: &mut [f32]) {
        match self.0 {
            Held::Stored(elements, _) => elements.widen_slice(first, out),
            Held::Float(values) => out.copy_from_slice(&values[first..first + out.len()]),
        }
        // Stored numbers of the type itself are what they are.
        if self.stored_as(compute) {
            return;
        }
        round_inline(compute, out);
    }

    /// The block of elements from `first` on, where they can be read as numbers of the type without rounding.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(super) fn block(&self, compute: Compute, first: usize) -> Option<Stored<'a>> {
        match self.0 {
            Held::Stored(elements, _) if compute == Compute::F32 || self.stored_as(compute) => {
                Stored::of(&elements, first)
            }
            _ => None,
        }
    }

    #[inline(always)]
    fn stored_as(&self, compute: Compute) -> bool {
        match (self.0, compute) {
            (Held::Stored(elements, _), Compute::Bf16) => elements.dtype() == Dtype::Bf16,
            (Held::Stored(elements, _), Compute::F16) => elements.dtype() == Dtype::F16,
            _ => false,
        }
    }
}

widest! {
    fn read(values: &Values<'_>, compute: Compute, first: usize, out: &mut [f32]) {
        values.read_inline(compute, first, out);
    }
}

widest! {
    /// Rounds each number to the type.
    pub(super) fn round_all(compute: Compute, values: &mut [f32]) {
        round_inline(compute, values);
    }
}

/// The same within a kernel.
#[inline(always)]
pub(super) fn round_inline(compute: Compute, values: &mut [f32]) {
    match compute {
        Compute::F32 => {}
        Compute::Bf16 => {
            values.iter_mut().for_each(|x| *x = f32::from_bits(u32::from(bf16_bits(*x)) << 16));
        }
        Compute::F16 => {
            let mut rounded = [f16::ZERO; BLOCK];
            for values in values.chunks_mut(BLOCK) {
                let rounded = &mut rounded[..values.len()];
                rounded.convert_from_f32_slice(values);
                rounded.convert_to_f32_slice(values);
            }
        }
    }
}
