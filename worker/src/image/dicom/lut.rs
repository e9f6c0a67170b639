//! Lookup tables as DICOM stores them (PS3.3 C.11.1.1, C.11.2.1.1, C.7.6.3.1.5).

use super::Problem;
use super::syntax::Encoding;

/// A table as the file has it.
#[derive(Default)]
pub(super) struct RawLut {
    /// Descriptor: number of entries, first input value, bits of an entry.
    pub(super) descriptor: Option<[u16; 3]>,
    /// Whether the descriptor was written as signed; none where the encoding does not say.
    pub(super) signed: Option<bool>,
    /// The entries' bytes, and whether they were written as words (OW) rather than bytes (OB).
    pub(super) data: Option<(Vec<u8>, bool)>,
}

/// A table ready for use.
pub(super) struct Lut {
    first: f64,
    entries: Vec<u16>,
    bits: u32,
}

impl RawLut {
    /// Checks the table; `signed` decides where the encoding left the first value's sign open. None if there is none.
    pub(super) fn ready(&self, name: &str, signed: bool, encoding: Encoding) -> Result<Option<Lut>, Problem> {
        let (Some([count, first, bits]), Some((data, words))) = (self.descriptor, &self.data) else {
            return match (self.descriptor, &self.data) {
                (None, None) => Ok(None),
                _ => {
                    Err(format!("{name} has a descriptor without data, or data without a descriptor").into())
                }
            };
        };
        let count = if count == 0 { 1 << 16 } else { usize::from(count) };
        let bits = u32::from(bits);
        if !(8..=16).contains(&bits) {
            return Err(format!("{name} has entries of {bits} bits; 8 to 16 are possible").into());
        }
        let entries: Vec<u16> = if data.len() >= 2 * count {
            data.chunks_exact(2).take(count).map(|pair| encoding.word([pair[0], pair[1]])).collect()
        } else if bits == 8 && data.len() >= count {
            // Eight-bit entries may be packed two to a word; in big endian the pair's order is that of the word.
            let swap = usize::from(*words && encoding == Encoding::ExplicitBig);
            (0..count).map(|i| data.get(i ^ swap).copied().map_or(0, u16::from)).collect()
        } else {
            return Err(format!("{name} has fewer entries than its descriptor says ({count})").into());
        };
        let first = if self.signed.unwrap_or(signed) { f64::from(first as i16) } else { f64::from(first) };
        Ok(Some(Lut { first, entries, bits }))
    }
}

impl Lut {
    /// The entry of an input value: the nearest end's beyond the table, fractions cut off.
    pub(super) fn get(&self, value: f64) -> u16 {
        // The cast saturates at zero; the table has at least one entry.
        let index = ((value - self.first) as usize).min(self.entries.len() - 1);
        self.entries[index]
    }

    /// The largest value that an entry can have.
    pub(super) fn full(&self) -> f64 {
        f64::from((1u32 << self.bits) - 1)
    }
}
