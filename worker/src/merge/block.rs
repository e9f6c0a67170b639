//! Blocks of elements: widened to f32 from where a file is mapped, narrowed to the type of the result.
//!
//! All arithmetic of a merge happens on blocks that fit into the first-level cache. Bytes are read and written
//! as bytes, so nothing depends on the alignment of mapped data.

use super::simd::{prefetch, widest};
use super::vocabulary::RowMap;
use crate::checkpoint::{Dtype, Strided};
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use half::{bf16, f16};

/// Elements of a block. Six blocks of f32 and the stored bytes fit into 32 KiB.
pub(crate) const BLOCK: usize = 1024;

/// Elements that one task works through: small enough to balance threads, large enough to cost nothing to
/// schedule. A multiple of [`BLOCK`].
pub(crate) const CHUNK: usize = 64 * BLOCK;

/// A block of numbers.
pub(crate) type Block = [f32; BLOCK];

/// The stored elements of one tensor.
#[derive(Clone, Copy)]
pub(crate) struct Elements<'a> {
    bytes: &'a [u8],
    dtype: Dtype,
    /// Where the tensor is to be seen with other rows than it is stored with.
    rows: Option<Rows<'a>>,
    /// Where the elements are not stored in row-major order.
    strided: Option<&'a Strided>,
}

/// Rows in another order, some of them missing.
#[derive(Clone, Copy)]
struct Rows<'a> {
    map: &'a RowMap,
    /// Elements of a row.
    columns: usize,
}

impl Rows<'_> {
    /// Calls `each` with every piece of a row among the `count` elements from `first` on: its place among them, its
    /// length, and the stored element that it begins with, if the row is stored.
    fn pieces(&self, first: usize, count: usize, mut each: impl FnMut(usize, usize, Option<usize>)) {
        let mut at = 0;
        while at < count {
            let (row, column) = ((first + at) / self.columns, (first + at) % self.columns);
            let length = (self.columns - column).min(count - at);
            each(at, length, self.map.get(row).map(|r| r * self.columns + column));
            at += length;
        }
    }
}

impl<'a> Elements<'a> {
    /// `dtype` must be mergeable, which the caller has checked to give a better message.
    pub(crate) fn new(bytes: &'a [u8], dtype: Dtype) -> Elements<'a> {
        assert!(dtype.mergeable(), "only float32, float16 and bfloat16 reach the kernels");
        Elements { bytes, dtype, rows: None, strided: None }
    }

    /// The same for elements that lie in another order.
    pub(crate) fn in_order(self, strided: Option<&'a Strided>) -> Elements<'a> {
        Elements { strided, ..self }
    }

    /// The same seen through a map of rows of `columns` elements, which is at least 1. The map must not lead beyond
    /// the stored rows.
    pub(crate) fn with_rows(self, map: &'a RowMap, columns: usize) -> Elements<'a> {
        Elements { rows: Some(Rows { map, columns }), ..self }
    }

    /// Writes the `count` elements from `first` on as f32, which is exact; zeros stand for missing rows and fill
    /// the rest of the block.
    #[inline(always)]
    pub(crate) fn widen(&self, first: usize, count: usize, out: &mut Block) {
        let (out, rest) = out.split_at_mut(count);
        rest.fill(0.0);
        self.widen_slice(first, out);
    }

    /// As [`Elements::widen`], for all of a slice of at most [`BLOCK`] elements.
    #[inline(always)]
    pub(crate) fn widen_slice(&self, first: usize, out: &mut [f32]) {
        match self.rows {
            None => self.stored(first, out),
            Some(rows) => self.widen_rows(rows, first, out),
        }
    }

    /// Asks for the elements from `first` on that follow each other as they are stored, as far as there are any.
    #[inline(always)]
    pub(crate) fn prefetch(&self, first: usize, count: usize) {
        let width = self.dtype.width();
        let end = self.bytes.len().min((first + count) * width);
        if let Some(bytes) = self.bytes.get(first * width..end) {
            prefetch(bytes);
        }
    }

    /// The block of stored elements from `first` on, where they follow each other in the file and there are so many.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(crate) fn whole_block(&self, first: usize) -> Option<(&'a [u8], Dtype)> {
        if self.rows.is_some() || self.strided.is_some() {
            return None;
        }
        let width = self.dtype.width();
        Some((self.bytes.get(first * width..(first + BLOCK) * width)?, self.dtype))
    }

    /// Stored elements from `first` on.
    #[inline(always)]
    fn stored(&self, first: usize, out: &mut [f32]) {
        let (width, count) = (self.dtype.width(), out.len());
        if let Some(strided) = self.strided {
            return self.widen_strided(strided, first, out);
        }
        self.widen_bytes(&self.bytes[first * width..(first + count) * width], out);
    }

    // Few torch files hold transposed weights, so this stays out of the kernels' way.
    #[inline(never)]
    fn widen_strided(&self, strided: &Strided, first: usize, out: &mut [f32]) {
        let mut bytes = [0; BLOCK * 4];
        let bytes = &mut bytes[..out.len() * self.dtype.width()];
        strided.gather(self.bytes, self.dtype.width(), first, bytes);
        self.widen_bytes(bytes, out);
    }

    /// As many elements as `out` has.
    #[inline(always)]
    fn widen_bytes(&self, bytes: &[u8], out: &mut [f32]) {
        let count = out.len();
        match self.dtype {
            Dtype::F32 => {
                for (out, b) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
                    *out = f32::from_le_bytes(*b);
                }
            }
            Dtype::Bf16 => {
                for (out, b) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *out = f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16);
                }
            }
            // `new` admits no other type.
            _ => {
                let mut bits = [0u16; BLOCK];
                for (bits, b) in bits.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *bits = u16::from_le_bytes(*b);
                }
                bits[..count].reinterpret_cast::<f16>().convert_to_f32_slice(out);
            }
        }
    }

    // Two of a model's tensors at most have mapped rows, so this stays out of the kernels' way.
    #[inline(never)]
    fn widen_rows(&self, rows: Rows, first: usize, out: &mut [f32]) {
        rows.pieces(first, out.len(), |at, length, stored| match stored {
            Some(stored) => self.stored(stored, &mut out[at..at + length]),
            None => out[at..at + length].fill(0.0),
        });
    }

    /// Puts zeros where the block's rows are missing.
    #[inline(always)]
    pub(crate) fn clear_missing(&self, first: usize, count: usize, out: &mut Block) {
        if let Some(rows) = self.rows {
            clear(rows, first, &mut out[..count]);
        }
    }

    /// The type that the elements are stored in.
    pub(crate) fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// All stored bytes, where the tensor's rows are the stored ones and in their order.
    #[cfg(any(feature = "cuda", test))]
    pub(crate) fn plain_bytes(&self) -> Option<&'a [u8]> {
        (self.rows.is_none() && self.strided.is_none()).then_some(self.bytes)
    }

    /// The stored bytes of `count` elements from `first` on in the order in which the rows are seen; zeros for missing
    /// rows. `out` is overwritten.
    #[cfg(any(feature = "cuda", test))]
    pub(crate) fn gather(&self, first: usize, count: usize, out: &mut Vec<u8>) {
        let width = self.dtype.width();
        out.clear();
        out.resize(count * width, 0);
        let copy = |stored: usize, out: &mut [u8]| match self.strided {
            Some(strided) => strided.gather(self.bytes, width, stored, out),
            None => out.copy_from_slice(&self.bytes[stored * width..][..out.len()]),
        };
        let Some(rows) = self.rows else { return copy(first, out) };
        rows.pieces(first, count, |at, length, stored| {
            if let Some(stored) = stored {
                copy(stored, &mut out[at * width..][..length * width]);
            }
        });
    }

    /// Where rows are matched: elements of a row, and which rows are missing.
    #[cfg(any(feature = "cuda", test))]
    pub(crate) fn missing_rows(&self) -> Option<(usize, Vec<bool>)> {
        let Rows { map, columns } = self.rows?;
        Some((columns, (0..map.len()).map(|row| map.get(row).is_none()).collect()))
    }

    /// Takes what is missing of `count` elements from `other`, whose rows are as the map shows them.
    pub(crate) fn fill_missing(&self, first: usize, count: usize, other: Elements, out: &mut Block) {
        if let Some(rows) = self.rows {
            rows.pieces(first, count, |at, length, stored| {
                if stored.is_none() {
                    other.stored(first + at, &mut out[at..at + length]);
                }
            });
        }
    }
}

#[inline(never)]
fn clear(rows: Rows, first: usize, out: &mut [f32]) {
    rows.pieces(first, out.len(), |at, length, stored| {
        if stored.is_none() {
            out[at..at + length].fill(0.0);
        }
    });
}

/// A type that a merge can be rounded to: `f32`, [`half::f16`] or [`half::bf16`].
pub trait Element: Copy + Send + Sync + sealed::Sealed {
    /// Rounds each number to nearest, ties to even. Both slices have one length.
    #[doc(hidden)]
    fn narrow(from: &[f32], to: &mut [Self]);
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for half::f16 {}
    impl Sealed for half::bf16 {}
}

impl Element for f32 {
    #[inline(always)]
    fn narrow(from: &[f32], to: &mut [f32]) {
        to.copy_from_slice(from);
    }
}

impl Element for f16 {
    #[inline(always)]
    fn narrow(from: &[f32], to: &mut [f16]) {
        to.convert_from_f32_slice(from);
    }
}

impl Element for bf16 {
    #[inline(always)]
    fn narrow(from: &[f32], to: &mut [bf16]) {
        round_bf16(from, to.reinterpret_cast_mut());
    }
}

widest! {
    fn round_bf16(from: &[f32], to: &mut [u16]) {
        for (to, from) in to.iter_mut().zip(from) {
            *to = bf16_bits(*from);
        }
    }
}

widest! {
    fn bytes_bf16(from: &[f32], to: &mut [u8]) {
        for (to, from) in to.as_chunks_mut::<2>().0.iter_mut().zip(from) {
            *to = bf16_bits(*from).to_le_bytes();
        }
    }
}

/// Rounds to nearest even without branches, so that it vectorises. A NaN stays a NaN.
#[inline(always)]
pub(crate) fn bf16_bits(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    let quiet = bits | 0x0040_0000;
    ((if x.is_nan() { quiet } else { rounded }) >> 16) as u16
}

/// As [`Element::narrow`], to little-endian bytes of a mergeable type.
#[inline(always)]
pub(crate) fn narrow_bytes(from: &[f32], dtype: Dtype, to: &mut [u8]) {
    match dtype {
        Dtype::F32 => {
            for (to, from) in to.as_chunks_mut::<4>().0.iter_mut().zip(from) {
                *to = from.to_le_bytes();
            }
        }
        Dtype::Bf16 => bytes_bf16(from, to),
        _ => {
            let mut rounded = [f16::ZERO; BLOCK];
            rounded[..from.len()].convert_from_f32_slice(from);
            for (to, from) in to.as_chunks_mut::<2>().0.iter_mut().zip(rounded) {
                *to = from.to_le_bytes();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_16_bit_value_survives() {
        for (dtype, is_bf16) in [(Dtype::F16, false), (Dtype::Bf16, true)] {
            let all: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
            // An odd start: mapped data may lie anywhere.
            let shifted: Vec<u8> = std::iter::once(0).chain(all.iter().copied()).collect();
            let elements = Elements::new(&shifted[1..], dtype);
            for first in (0..65536).step_by(BLOCK) {
                let mut wide = [0.0; BLOCK];
                elements.widen(first, BLOCK, &mut wide);
                let mut back = [0; 2 * BLOCK];
                narrow_bytes(&wide, dtype, &mut back);
                for (i, (w, b)) in wide.iter().zip(back.as_chunks::<2>().0).enumerate() {
                    let bits = (first + i) as u16;
                    let plain =
                        if is_bf16 { bf16::from_bits(bits).to_f32() } else { f16::from_bits(bits).to_f32() };
                    assert!(plain.is_nan() && w.is_nan() || (plain == *w && u16::from_le_bytes(*b) == bits));
                }
            }
        }
    }

    #[test]
    fn bf16_rounds_as_the_half_crate() {
        let mut x = 1u32;
        for _ in 0..100_000 {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let value = f32::from_bits(x);
            let expected = bf16::from_f32(value);
            let found = bf16::from_bits(bf16_bits(value));
            assert!(found == expected || found.is_nan() && expected.is_nan(), "{value:e}");
        }
        // Halfway between two bf16 numbers, above an even and above an odd one.
        let halfway = [0x3f80_8000, 0x3f81_8000].map(f32::from_bits);
        for edge in [0.0f32, -0.0, f32::INFINITY, f32::MAX, f32::MIN_POSITIVE].into_iter().chain(halfway) {
            assert_eq!(bf16_bits(edge), bf16::from_f32(edge).to_bits(), "{edge}");
        }
    }

    #[test]
    fn rows_may_be_seen_in_another_order() {
        let stored: Vec<f32> = (0..15).map(|i| i as f32).collect();
        let bytes_of = |stored: &[f32]| -> Vec<u8> { stored.iter().flat_map(|v| v.to_le_bytes()).collect() };
        let bytes = bytes_of(&stored);
        // Five stored rows of three: the output's rows are 4, none, 0.
        let tokens = |list: &[(&str, u32)]| list.iter().map(|(t, n)| (t.to_string(), *n)).collect();
        let map =
            RowMap::align(&tokens(&[("a", 0), ("b", 1), ("c", 2)]), 3, &tokens(&[("a", 4), ("c", 0)]), 5);
        let plain = Elements::new(&bytes, Dtype::F32);
        let mapped = plain.with_rows(&map, 3);
        let mut out = [7.0; BLOCK];
        mapped.widen(1, 7, &mut out);
        assert_eq!(out[..8], [13.0, 14.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
        mapped.fill_missing(1, 7, plain, &mut out);
        assert_eq!(out[..8], [13.0, 14.0, 3.0, 4.0, 5.0, 0.0, 1.0, 0.0]);
        mapped.clear_missing(1, 7, &mut out);
        assert_eq!(out[..8], [13.0, 14.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
        let mut bytes = Vec::new();
        mapped.gather(1, 7, &mut bytes);
        let numbers: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        assert_eq!(numbers, out[..7]);
        assert_eq!(mapped.missing_rows(), Some((3, vec![false, true, false])));
        assert_eq!((plain.missing_rows(), plain.plain_bytes()), (None, Some(&bytes_of(&stored)[..])));
    }

    #[test]
    fn a_short_block_is_padded_with_zeros() {
        let mut out = [7.0; BLOCK];
        Elements::new(&[0, 0, 0x80, 0x3f], Dtype::F32).widen(0, 1, &mut out);
        assert_eq!((out[0], out[1], out[BLOCK - 1]), (1.0, 0.0, 0.0));
    }

    #[test]
    fn elements_in_another_order_are_read_as_if_they_were_in_order() {
        // A transposed matrix of 3 rows and 700 columns, longer than a block: element (r, c) lies at c · 3 + r.
        let value = |r: usize, c: usize| (r * 1000 + c) as f32;
        let stored: Vec<u8> = (0..700 * 3).flat_map(|i| value(i % 3, i / 3).to_le_bytes()).collect();
        let strided = Strided::new(vec![3, 700], vec![1, 3]);
        let elements = Elements::new(&stored, Dtype::F32).in_order(Some(&strided));
        for first in [0, 1, 699, 700, 1076] {
            let mut out = [0.0; BLOCK];
            elements.widen(first, BLOCK, &mut out);
            let expected: Vec<f32> = (first..first + BLOCK).map(|i| value(i / 700, i % 700)).collect();
            assert_eq!(out[..], expected[..], "{first}");
        }
        // Rows in another order on top of it.
        let map = RowMap::cut(4, 3);
        let mut out = [1.0; 5];
        elements.with_rows(&map, 700).widen_slice(2 * 700 + 697, &mut out);
        assert_eq!(out, [value(2, 697), value(2, 698), value(2, 699), 0.0, 0.0]);
    }
}
