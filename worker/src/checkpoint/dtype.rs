//! Element types as they are stored.

use candle_core::DType;

/// The type of a stored element, little endian. Merging reads the three floats of 4 and 2 bytes; the others
/// are carried along unchanged when a model is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// One byte, 0 or 1.
    Bool,
    /// Unsigned, 1 byte.
    U8,
    /// Signed, 1 byte.
    I8,
    /// Signed, 2 bytes.
    I16,
    /// Signed, 4 bytes.
    I32,
    /// Signed, 8 bytes.
    I64,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of a binary32.
    Bf16,
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary64.
    F64,
}

impl Dtype {
    const ALL: [Dtype; 10] = [
        Dtype::Bool,
        Dtype::U8,
        Dtype::I8,
        Dtype::I16,
        Dtype::I32,
        Dtype::I64,
        Dtype::F16,
        Dtype::Bf16,
        Dtype::F32,
        Dtype::F64,
    ];

    /// Bytes of one element.
    pub fn width(self) -> usize {
        match self {
            Dtype::Bool | Dtype::U8 | Dtype::I8 => 1,
            Dtype::I16 | Dtype::F16 | Dtype::Bf16 => 2,
            Dtype::I32 | Dtype::F32 => 4,
            Dtype::I64 | Dtype::F64 => 8,
        }
    }

    /// The name that safetensors headers use.
    pub fn name(self) -> &'static str {
        match self {
            Dtype::Bool => "BOOL",
            Dtype::U8 => "U8",
            Dtype::I8 => "I8",
            Dtype::I16 => "I16",
            Dtype::I32 => "I32",
            Dtype::I64 => "I64",
            Dtype::F16 => "F16",
            Dtype::Bf16 => "BF16",
            Dtype::F32 => "F32",
            Dtype::F64 => "F64",
        }
    }

    /// The type of that safetensors name, if it is one of those read here.
    pub fn from_name(name: &str) -> Option<Dtype> {
        Dtype::ALL.into_iter().find(|d| d.name() == name)
    }

    /// Whether merging can read it: f32, f16 or bf16.
    pub fn mergeable(self) -> bool {
        matches!(self, Dtype::F32 | Dtype::F16 | Dtype::Bf16)
    }

    /// The same type in candle, where candle has it.
    pub fn candle(self) -> Option<DType> {
        match self {
            Dtype::U8 | Dtype::Bool => Some(DType::U8),
            Dtype::I64 => Some(DType::I64),
            Dtype::F16 => Some(DType::F16),
            Dtype::Bf16 => Some(DType::BF16),
            Dtype::F32 => Some(DType::F32),
            Dtype::F64 => Some(DType::F64),
            Dtype::I8 | Dtype::I16 | Dtype::I32 => None,
        }
    }
}

/// Bytes of a tensor of that shape and type, or nothing when the product overflows.
pub(crate) fn size_bytes(shape: &[usize], dtype: Dtype) -> Option<(usize, usize)> {
    let elements = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
    Some((elements, elements.checked_mul(dtype.width())?))
}
