//! Element types as they are stored.
//!
//! All types are known that safetensors has, by name and width, so that a tensor which nobody asks for keeps no file from
//! being read. Source: enum `Dtype` of the safetensors crate, 0.8.

use candle_core::DType;

/// Types in one line each: name here, name in safetensors headers, bits of an element.
macro_rules! dtypes {
    ($($(#[$doc:meta])* $variant:ident $name:literal $bits:literal,)*) => {
        /// The type of a stored element, little endian. Merging reads the three floats of 4 and 2 bytes; the others
        /// are carried along unchanged when a model is written, and refused by name where their values are needed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Dtype { $($(#[$doc])* $variant,)* }

        impl Dtype {
            const ALL: &[Dtype] = &[$(Dtype::$variant),*];

            /// The name that safetensors headers use.
            pub fn name(self) -> &'static str {
                match self { $(Dtype::$variant => $name,)* }
            }

            /// Bits of one element.
            fn bits(self) -> usize {
                match self { $(Dtype::$variant => $bits,)* }
            }
        }
    };
}

dtypes! {
    /// One byte, 0 or 1.
    Bool "BOOL" 8,
    /// Unsigned, 1 byte.
    U8 "U8" 8,
    /// Signed, 1 byte.
    I8 "I8" 8,
    /// Unsigned, 2 bytes.
    U16 "U16" 16,
    /// Signed, 2 bytes.
    I16 "I16" 16,
    /// Unsigned, 4 bytes.
    U32 "U32" 32,
    /// Signed, 4 bytes.
    I32 "I32" 32,
    /// Unsigned, 8 bytes.
    U64 "U64" 64,
    /// Signed, 8 bytes.
    I64 "I64" 64,
    /// A float of 4 bits, two in a byte.
    F4 "F4" 4,
    /// A float of 6 bits with 2 of exponent.
    F6E2M3 "F6_E2M3" 6,
    /// A float of 6 bits with 3 of exponent.
    F6E3M2 "F6_E3M2" 6,
    /// A float of 8 bits with 5 of exponent.
    F8E5M2 "F8_E5M2" 8,
    /// The same without infinities and negative zero.
    F8E5M2Fnuz "F8_E5M2FNUZ" 8,
    /// A float of 8 bits with 4 of exponent.
    F8E4M3 "F8_E4M3" 8,
    /// The same without infinities and negative zero.
    F8E4M3Fnuz "F8_E4M3FNUZ" 8,
    /// An exponent alone.
    F8E8M0 "F8_E8M0" 8,
    /// IEEE 754 binary16.
    F16 "F16" 16,
    /// The upper half of a binary32.
    Bf16 "BF16" 16,
    /// IEEE 754 binary32.
    F32 "F32" 32,
    /// IEEE 754 binary64.
    F64 "F64" 64,
    /// Two binary32.
    C64 "C64" 64,
}

impl Dtype {
    /// Bytes of one element; 1 where several share a byte.
    pub fn width(self) -> usize {
        self.bits().div_ceil(8)
    }

    /// The type of that safetensors name, if it is one of those read here.
    pub fn from_name(name: &str) -> Option<Dtype> {
        Dtype::ALL.iter().copied().find(|d| d.name() == name)
    }

    /// Whether merging can read it: f32, f16 or bf16.
    pub fn mergeable(self) -> bool {
        matches!(self, Dtype::F32 | Dtype::F16 | Dtype::Bf16)
    }

    /// The same type in candle, where candle has it.
    pub fn candle(self) -> Option<DType> {
        match self {
            Dtype::U8 | Dtype::Bool => Some(DType::U8),
            Dtype::U32 => Some(DType::U32),
            Dtype::I64 => Some(DType::I64),
            Dtype::F16 => Some(DType::F16),
            Dtype::Bf16 => Some(DType::BF16),
            Dtype::F32 => Some(DType::F32),
            Dtype::F64 => Some(DType::F64),
            _ => None,
        }
    }
}

/// Elements and bytes of a tensor of that shape and type, or nothing when a product overflows or the elements do not
/// fill their last byte.
pub(crate) fn size_bytes(shape: &[usize], dtype: Dtype) -> Option<(usize, usize)> {
    let elements = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
    let bytes = match dtype.bits() {
        bits if bits % 8 == 0 => elements.checked_mul(bits / 8)?,
        bits => elements.checked_mul(bits).filter(|n| n % 8 == 0)? / 8,
    };
    Some((elements, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names and widths are those of the safetensors crate.
    #[test]
    fn knows_what_safetensors_knows() {
        use safetensors::Dtype as Theirs;
        let theirs = [
            Theirs::BOOL,
            Theirs::F4,
            Theirs::F6_E2M3,
            Theirs::F6_E3M2,
            Theirs::U8,
            Theirs::I8,
            Theirs::F8_E5M2,
            Theirs::F8_E4M3,
            Theirs::F8_E8M0,
            Theirs::I16,
            Theirs::U16,
            Theirs::F16,
            Theirs::BF16,
            Theirs::I32,
            Theirs::U32,
            Theirs::F32,
            Theirs::C64,
            Theirs::F64,
            Theirs::I64,
            Theirs::U64,
        ];
        for their in theirs {
            let name = serde_json::to_value(their).unwrap();
            let ours = Dtype::from_name(name.as_str().unwrap());
            assert_eq!(ours.map(Dtype::bits), Some(their.bitsize()), "{name}");
        }
        assert_eq!(Dtype::from_name("F3"), None);
    }

    #[test]
    fn small_elements_share_bytes() {
        assert_eq!(size_bytes(&[3, 2], Dtype::F4), Some((6, 3)));
        assert_eq!(size_bytes(&[3], Dtype::F4), None);
        assert_eq!(size_bytes(&[4], Dtype::F6E2M3), Some((4, 3)));
        assert_eq!(size_bytes(&[2, 2], Dtype::C64), Some((4, 32)));
        assert_eq!(size_bytes(&[usize::MAX, 2], Dtype::U8), None);
        assert_eq!(size_bytes(&[usize::MAX], Dtype::F4), None);
    }
}
