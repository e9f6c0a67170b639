//! Recognises DICOM and its transfer syntax (PS3.10 section 7, PS3.5 annex A).

use std::io::{Cursor, Read};

use dicom_encoding::TransferSyntax;
use dicom_transfer_syntax_registry::entries;
use flate2::read::DeflateDecoder;

use super::super::Limits;
use super::Problem;

/// As many bytes as [`recognise`] wants to see.
pub(in super::super) const HEAD_BYTES: u64 = 132;
/// The most that file meta information may take. Real ones have a few hundred bytes.
const META_BYTES: u64 = 1 << 20;

/// How a file begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Start {
    /// 128 bytes of anything, then `DICM`: the standard form.
    Preamble,
    /// File meta information at once, as some archives store it.
    Meta,
    /// A bare data set in this encoding.
    DataSet(Encoding),
}

/// How attributes are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Encoding {
    /// Implicit VR, little endian.
    Implicit,
    /// Explicit VR, little endian.
    Explicit,
    /// Explicit VR, big endian.
    ExplicitBig,
}

impl Encoding {
    /// The same in dicom-rs.
    pub(super) fn transfer_syntax(self) -> TransferSyntax {
        match self {
            Encoding::Implicit => entries::IMPLICIT_VR_LITTLE_ENDIAN.erased(),
            Encoding::Explicit => entries::EXPLICIT_VR_LITTLE_ENDIAN.erased(),
            Encoding::ExplicitBig => entries::EXPLICIT_VR_BIG_ENDIAN.erased(),
        }
    }

    /// Two bytes as a number.
    pub(super) fn word(self, bytes: [u8; 2]) -> u16 {
        match self {
            Encoding::ExplicitBig => u16::from_be_bytes(bytes),
            Encoding::Implicit | Encoding::Explicit => u16::from_le_bytes(bytes),
        }
    }
}

/// How frames are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    /// Plain values.
    Native,
    /// Run lengths (PS3.5 annex G).
    Rle,
    /// JPEG: baseline, extended, or lossless.
    Jpeg,
    /// JPEG 2000 part 1.
    Jpeg2000,
}

/// A transfer syntax as far as reading goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Syntax {
    /// How attributes are written.
    pub(super) encoding: Encoding,
    /// Whether the data set is deflated as a whole.
    pub(super) deflated: bool,
    /// How frames are packed.
    pub(super) packing: Packing,
}

impl Syntax {
    const fn plain(encoding: Encoding) -> Self {
        Syntax { encoding, deflated: false, packing: Packing::Native }
    }

    fn from_uid(uid: &str) -> Result<Self, Problem> {
        let packed = |packing| Ok(Syntax { encoding: Encoding::Explicit, deflated: false, packing });
        let refuse = |what: &str| {
            let remedy = "convert it to Explicit VR Little Endian, JPEG lossless or JPEG 2000";
            Err(Problem::Reason(format!("{what} is not supported; {remedy}")))
        };
        match uid {
            "1.2.840.10008.1.2" => Ok(Syntax::plain(Encoding::Implicit)),
            "1.2.840.10008.1.2.1" => Ok(Syntax::plain(Encoding::Explicit)),
            "1.2.840.10008.1.2.1.99" => Ok(Syntax { deflated: true, ..Syntax::plain(Encoding::Explicit) }),
            "1.2.840.10008.1.2.2" => Ok(Syntax::plain(Encoding::ExplicitBig)),
            "1.2.840.10008.1.2.4.50"
            | "1.2.840.10008.1.2.4.51"
            | "1.2.840.10008.1.2.4.57"
            | "1.2.840.10008.1.2.4.70" => packed(Packing::Jpeg),
            "1.2.840.10008.1.2.4.80" | "1.2.840.10008.1.2.4.81" => refuse("JPEG-LS"),
            "1.2.840.10008.1.2.4.90" | "1.2.840.10008.1.2.4.91" => packed(Packing::Jpeg2000),
            "1.2.840.10008.1.2.4.110" | "1.2.840.10008.1.2.4.111" | "1.2.840.10008.1.2.4.112" => {
                refuse("JPEG XL")
            }
            "1.2.840.10008.1.2.4.201" | "1.2.840.10008.1.2.4.202" | "1.2.840.10008.1.2.4.203" => {
                refuse("High-Throughput JPEG 2000")
            }
            "1.2.840.10008.1.2.5" => packed(Packing::Rle),
            // A transfer syntax says nothing of a patient; anything that does not look like one is not repeated.
            other if other.len() <= 64 && other.bytes().all(|b| b.is_ascii_digit() || b == b'.') => {
                refuse(&format!("transfer syntax {other}"))
            }
            _ => Err("the transfer syntax is not a UID".into()),
        }
    }
}

/// Says how a file that begins with these bytes is to be read as DICOM, or nothing if it is not DICOM.
pub(in super::super) fn recognise(head: &[u8]) -> Option<Start> {
    if head.get(128..132) == Some(b"DICM") {
        return Some(Start::Preamble);
    }
    let &[a, b, c, d, e, f, g, h] = head.get(..8)?.first_chunk()?;
    let vr = [b"UL", b"CS", b"UI", b"DA", b"SH", b"LO", b"IS"].iter().any(|vr| **vr == [e, f]);
    match [a, b, c, d] {
        [0x02, 0x00, _, 0x00] if vr || [e, f] == *b"OB" => Some(Start::Meta),
        // The first elements that a data set of group 0008 can begin with, and no long value.
        [0x08, 0x00, 0x00..=0x18, 0x00] if vr => Some(Start::DataSet(Encoding::Explicit)),
        [0x08, 0x00, 0x00..=0x18, 0x00] if g == 0 && h == 0 && f == 0 => {
            Some(Start::DataSet(Encoding::Implicit))
        }
        [0x00, 0x08, 0x00, 0x00..=0x18] if vr => Some(Start::DataSet(Encoding::ExplicitBig)),
        _ => None,
    }
}

/// Reads up to the data set and gives its syntax and its bytes, inflated.
pub(super) fn open<'r>(
    mut source: impl Read + 'r,
    start: Start,
    limits: &Limits,
) -> Result<(Syntax, Box<dyn Read + 'r>), Problem> {
    if let Start::DataSet(encoding) = start {
        return Ok((Syntax::plain(encoding), Box::new(source)));
    }
    if start == Start::Preamble {
        std::io::copy(&mut source.by_ref().take(HEAD_BYTES), &mut std::io::sink()).map_err(unreadable)?;
    }
    let (uid, next) = read_meta(&mut source)?;
    let syntax = Syntax::from_uid(&uid)?;
    let rest = Cursor::new(next).chain(source);
    if syntax.deflated {
        // What is not kept is only streamed through, so the limit bounds time rather than memory.
        return Ok((syntax, Box::new(DeflateDecoder::new(rest).take(limits.decoder_bytes))));
    }
    Ok((syntax, Box::new(rest)))
}

/// Reads file meta information (explicit VR, little endian, group 0002) up to the first element of the data set.
/// Returns the transfer syntax and that element's first bytes. The group's length is not relied on: it is often wrong.
fn read_meta(source: &mut impl Read) -> Result<(String, Vec<u8>), Problem> {
    let mut uid = None;
    let mut taken = 0u64;
    loop {
        let mut header = Vec::new();
        source.by_ref().take(8).read_to_end(&mut header).map_err(unreadable)?;
        if !header.starts_with(&[0x02, 0x00]) {
            let uid = uid.ok_or("the file meta information has no Transfer Syntax UID (0002,0010)")?;
            return Ok((uid, header));
        }
        let &[_, _, element_low, element_high, v, r, low, high] =
            header.first_chunk().ok_or("the file ends within its meta information")?;
        let length = if [b"OB", b"OW", b"UN", b"SQ", b"UT", b"OF"].iter().any(|vr| **vr == [v, r]) {
            let mut length = [0; 4];
            source.read_exact(&mut length).map_err(unreadable)?;
            u64::from(u32::from_le_bytes(length))
        } else {
            u64::from(u16::from_le_bytes([low, high]))
        };
        taken += 12 + length;
        if taken > META_BYTES {
            return Err("the file meta information is too long or damaged".into());
        }
        let mut value = source.by_ref().take(length);
        if [element_low, element_high] == [0x10, 0x00] && length <= 66 {
            let mut bytes = Vec::new();
            value.read_to_end(&mut bytes).map_err(unreadable)?;
            let text = String::from_utf8(bytes).map_err(|_| "the transfer syntax is not a UID")?;
            uid = Some(text.trim_matches(['\0', ' ']).to_string());
        } else {
            std::io::copy(&mut value, &mut std::io::sink()).map_err(unreadable)?;
        }
    }
}

/// What the system says when reading fails; never names what was read.
fn unreadable(error: std::io::Error) -> Problem {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => "the file ends too early".into(),
        _ => "the file cannot be read to its end".into(),
    }
}
