//! From pixel data to stored values: sixteen-bit numbers of Bits Stored bits, not yet signed; colours lie pixel by pixel.
//!
//! Source: PS3.5 section 8, PS3.3 C.7.6.3.1.

use std::borrow::Cow;

use super::Problem;
use super::codec;
use super::header::{Geometry, Photometric};
use super::read::Pixels;
use super::syntax::{Packing, Syntax};

/// Stored values, and the photometric interpretation that they have once unpacked.
pub(super) struct Cells {
    pub(super) values: Vec<u16>,
    pub(super) photometric: Photometric,
}

/// Unpacks a frame.
pub(super) fn cells(pixels: Pixels, syntax: &Syntax, geometry: &Geometry) -> Result<Cells, Problem> {
    let (table, fragments) = match pixels {
        Pixels::Native(bytes) => return Ok(native(&bytes, syntax, geometry)),
        Pixels::Fragments { table, fragments } => (table, fragments),
    };
    let frame = frame_of(&table, &fragments, geometry)?;
    let mut photometric = geometry.photometric;
    let (mut values, bits) = match syntax.packing {
        Packing::Rle => (codec::rle(&frame, geometry)?, geometry.bits_allocated),
        Packing::Jpeg => {
            let jpeg = codec::jpeg(&frame, geometry)?;
            if geometry.samples == 3 {
                photometric = jpeg.photometric;
            }
            (jpeg.values, jpeg.bits)
        }
        Packing::Jpeg2000 => codec::jpeg2000(&frame, geometry)?,
        Packing::Native => return Err("the transfer syntax does not pack pixel data".into()),
    };
    if geometry.samples == 1 {
        mask(&mut values, geometry, bits);
    }
    Ok(Cells { values, photometric })
}

/// Cuts the stored bits out of samples of `bits` bits. A sample of no more than Bits Stored has them at its lower end.
fn mask(values: &mut [u16], geometry: &Geometry, bits: u32) {
    let shift = if bits > geometry.bits_stored { geometry.high_bit + 1 - geometry.bits_stored } else { 0 };
    let ones = ((1u32 << geometry.bits_stored) - 1) as u16;
    for value in values {
        *value = (*value >> shift) & ones;
    }
}

fn native(bytes: &[u8], syntax: &Syntax, geometry: &Geometry) -> Cells {
    let photometric = geometry.photometric;
    if geometry.samples == 1 {
        let mut values: Vec<u16> = if geometry.bits_allocated == 8 {
            bytes.iter().copied().map(u16::from).collect()
        } else {
            bytes.chunks_exact(2).map(|pair| syntax.encoding.word([pair[0], pair[1]])).collect()
        };
        mask(&mut values, geometry, geometry.bits_allocated);
        return Cells { values, photometric };
    }
    let byte = |b: &u8| u16::from(*b);
    let values = if photometric == Photometric::YbrFull422 {
        let pairs = bytes.chunks_exact(4);
        pairs.flat_map(|p| [p[0], p[2], p[3], p[1], p[2], p[3]].map(u16::from)).collect()
    } else if geometry.planes {
        let n = geometry.pixels();
        (0..n).flat_map(|i| [byte(&bytes[i]), byte(&bytes[n + i]), byte(&bytes[2 * n + i])]).collect()
    } else {
        bytes.iter().map(byte).collect()
    };
    Cells { values, photometric }
}

/// The wanted frame's packed bytes.
fn frame_of<'f>(
    table: &[u32],
    fragments: &'f [Vec<u8>],
    geometry: &Geometry,
) -> Result<Cow<'f, [u8]>, Problem> {
    let (frames, frame) = (geometry.frames as usize, geometry.frame as usize);
    if fragments.is_empty() {
        return Err("the pixel data are empty".into());
    }
    if fragments.len() == frames {
        return Ok(Cow::Borrowed(&fragments[frame]));
    }
    if frames == 1 {
        return Ok(Cow::Owned(fragments.concat()));
    }
    if table.len() != frames {
        let found = fragments.len();
        let remedy = "without an offset table it cannot be told which belong together";
        return Err(format!("{frames} frames lie in {found} fragments, and {remedy}").into());
    }
    // Offsets count from the first fragment's header of eight bytes.
    let (begin, end) = (u64::from(table[frame]), table.get(frame + 1).map_or(u64::MAX, |o| u64::from(*o)));
    let mut offset = 0u64;
    let mut bytes = Vec::new();
    for fragment in fragments {
        if (begin..end).contains(&offset) {
            bytes.extend_from_slice(fragment);
        }
        offset += fragment.len() as u64 + 8;
    }
    if bytes.is_empty() {
        return Err("the offset table does not lead to the frame".into());
    }
    Ok(Cow::Owned(bytes))
}
