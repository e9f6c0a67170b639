//! Unpacks compressed frames. What a frame says of its own size is checked against Rows, Columns and Samples per Pixel
//! before a decoder sees it.
//!
//! dicom-rs's own adapters wrap the same JPEG decoder, but copy into buffers whose size they do not check, cannot be told
//! whether colours are transformed, and read JPEG 2000 by a translation of C code that is not memory-safe; hence these.

use hayro_jpeg2000::{DecodeSettings, DecoderContext};
use jpeg_decoder::{ColorTransform, Decoder, PixelFormat};

use super::Problem;
use super::header::{Geometry, Photometric};

/// Run lengths (PS3.5 annex G): one segment for each byte of a sample, the high byte first.
pub(super) fn rle(frame: &[u8], geometry: &Geometry) -> Result<Vec<u16>, Problem> {
    let word = |at: usize| frame.get(at..at + 4)?.first_chunk().map(|b| u32::from_le_bytes(*b) as usize);
    let width = geometry.bits_allocated as usize / 8;
    let segments = geometry.samples * width;
    if word(0) != Some(segments) {
        return Err(format!("RLE: the frame does not have {segments} segments").into());
    }
    let mut values = vec![0u16; geometry.pixels() * geometry.samples];
    for segment in 0..segments {
        let begin = word(4 + 4 * segment).unwrap_or(usize::MAX);
        let end = if segment + 1 < segments { word(8 + 4 * segment) } else { Some(frame.len()) };
        let bytes = end.and_then(|end| frame.get(begin.max(64)..end));
        let bytes = bytes.ok_or("RLE: a segment lies outside the frame")?;
        let (sample, high) = (segment / width, segment % width + 1 < width);
        let places = values.iter_mut().skip(sample).step_by(geometry.samples);
        let shift = if high { 8 } else { 0 };
        let mut unpacked = unpack_bits(bytes);
        for place in places {
            let byte = unpacked.next().ok_or("RLE: a segment ends too early")?;
            *place |= u16::from(byte) << shift;
        }
    }
    Ok(values)
}

/// PackBits: a control byte below 128 is followed by that many bytes and one more, one above 128 repeats the next byte
/// 257 minus itself times, and 128 means nothing.
fn unpack_bits(bytes: &[u8]) -> impl Iterator<Item = u8> + '_ {
    let mut at = 0;
    let mut run: (usize, Option<u8>) = (0, None);
    std::iter::from_fn(move || {
        while run.0 == 0 {
            let control = *bytes.get(at)?;
            at += 1;
            match control {
                0..=127 => run = (usize::from(control) + 1, None),
                128 => {}
                129..=255 => {
                    run = (257 - usize::from(control), Some(*bytes.get(at)?));
                    at += 1;
                }
            }
        }
        run.0 -= 1;
        match run.1 {
            Some(byte) => Some(byte),
            None => {
                let byte = *bytes.get(at)?;
                at += 1;
                Some(byte)
            }
        }
    })
}

/// A JPEG frame's components, untransformed.
pub(super) struct Jpeg {
    pub(super) values: Vec<u16>,
    /// Bits of a sample.
    pub(super) bits: u32,
    /// What the components of a colour frame are.
    pub(super) photometric: Photometric,
}

/// JPEG: baseline, extended and progressive of eight bits, lossless of two to sixteen.
pub(super) fn jpeg(frame: &[u8], geometry: &Geometry) -> Result<Jpeg, Problem> {
    let header = JpegHeader::read(frame).ok_or("JPEG: the frame has no readable header")?;
    let (rows, columns) = (usize::from(header.height), usize::from(header.width));
    if (rows, columns, usize::from(header.components)) != (geometry.rows, geometry.columns, geometry.samples)
    {
        return Err(
            "JPEG: the frame's own size does not agree with Rows, Columns and Samples per Pixel".into()
        );
    }
    let bits = u32::from(header.bits);
    if !header.lossless && bits != 8 {
        let remedy = "convert it to JPEG lossless or uncompressed";
        return Err(format!("JPEG of {bits} bits that is not lossless is not supported; {remedy}").into());
    }
    if header.lossless && (header.restarts || header.point_transform) {
        return Err("lossless JPEG with restart intervals or a point transform is not supported".into());
    }
    if bits > geometry.bits_allocated {
        return Err(format!("JPEG: samples of {bits} bits exceed Bits Allocated").into());
    }
    let mut decoder = Decoder::new(frame);
    if geometry.samples == 3 {
        // "RGB" leaves the components as they are; "None" would leave them in planes.
        decoder.set_color_transform(ColorTransform::RGB);
    }
    let bytes = decoder.decode().map_err(|e| format!("JPEG: {e}"))?;
    let format = decoder.info().map(|info| info.pixel_format);
    let values: Vec<u16> = match (format, geometry.samples) {
        (Some(PixelFormat::L8 | PixelFormat::RGB24), _) if bits == 8 => {
            bytes.into_iter().map(u16::from).collect()
        }
        (Some(PixelFormat::L16), 1) => {
            bytes.chunks_exact(2).map(|b| u16::from_ne_bytes([b[0], b[1]])).collect()
        }
        _ => return Err("JPEG: an unexpected kind of frame".into()),
    };
    if values.len() != geometry.pixels() * geometry.samples {
        return Err("JPEG: the frame is incomplete".into());
    }
    // The frame itself knows best; files that call YCbCr frames RGB are common.
    let photometric = match (header.adobe, header.jfif) {
        (Some(0), _) => Photometric::Rgb,
        (Some(_), _) | (None, true) => Photometric::YbrFull,
        (None, false) => geometry.photometric,
    };
    Ok(Jpeg { values, bits, photometric })
}

/// What a JPEG stream says of itself before its first scan (ISO 10918-1 annex B).
#[derive(Default)]
struct JpegHeader {
    lossless: bool,
    bits: u8,
    height: u16,
    width: u16,
    components: u8,
    restarts: bool,
    point_transform: bool,
    jfif: bool,
    adobe: Option<u8>,
}

impl JpegHeader {
    fn read(bytes: &[u8]) -> Option<JpegHeader> {
        let mut header = JpegHeader::default();
        let mut at = if bytes.starts_with(&[0xFF, 0xD8]) { 2 } else { return None };
        loop {
            let &[0xFF, marker] = bytes.get(at..at + 2)?.first_chunk()? else { return None };
            if marker == 0xFF {
                // Fill bytes may stand before a marker.
                at += 1;
                continue;
            }
            let length = usize::from(u16::from_be_bytes(*bytes.get(at + 2..at + 4)?.first_chunk()?));
            let body = bytes.get(at + 4..at + 2 + length.max(2))?;
            match marker {
                0xC0..=0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF => {
                    let &[bits, a, b, c, d, components] = body.first_chunk()?;
                    header.lossless = marker == 0xC3;
                    header.bits = bits;
                    header.height = u16::from_be_bytes([a, b]);
                    header.width = u16::from_be_bytes([c, d]);
                    header.components = components;
                }
                0xDD => header.restarts = body.first_chunk::<2>()? != &[0, 0],
                0xE0 => header.jfif |= body.starts_with(b"JFIF\0"),
                0xEE if body.starts_with(b"Adobe") => header.adobe = body.get(11).copied(),
                0xDA => {
                    // The last byte is the point transform of a lossless scan, in its lower half.
                    header.point_transform = body.last()? & 0x0F != 0;
                    return (header.components > 0).then_some(header);
                }
                _ => {}
            }
            at += 2 + length.max(2);
        }
    }
}

/// JPEG 2000 part 1, bare or in a JP2 file. Returns components pixel by pixel, negative ones in two's complement, and the
/// bits of a sample.
pub(super) fn jpeg2000(frame: &[u8], geometry: &Geometry) -> Result<(Vec<u16>, u32), Problem> {
    const SIZE: [u8; 4] = [0xFF, 0x4F, 0xFF, 0x51];
    let begin = frame.windows(4).position(|w| *w == SIZE).ok_or("JPEG 2000: the frame has no header")?;
    let (bits, signed) = check_jpeg2000(&frame[begin..], geometry)?;
    let settings = DecodeSettings { resolve_palette_indices: false, strict: true, target_resolution: None };
    let image =
        hayro_jpeg2000::Image::new(&frame[begin..], &settings).map_err(|e| format!("JPEG 2000: {e}"))?;
    let mut context = DecoderContext::default();
    let decoded = image.decode(&mut context).map_err(|e| format!("JPEG 2000: {e}"))?;
    let components = decoded.components();
    let n = geometry.pixels();
    if components.len() != geometry.samples || components.iter().any(|c| c.samples().len() < n) {
        return Err("JPEG 2000: the frame is incomplete".into());
    }
    let mut values = vec![0u16; n * geometry.samples];
    // The decoder shifts every component as if it were unsigned.
    let shift = if signed { 1i32 << (bits - 1) } else { 0 };
    let largest = ((1u32 << bits) - 1) as f32;
    for (index, component) in components.iter().enumerate() {
        let places = values.iter_mut().skip(index).step_by(geometry.samples);
        for (place, &sample) in places.zip(component.samples()) {
            *place = (sample.round().clamp(0.0, largest) as i32 - shift) as u16;
        }
    }
    Ok((values, bits))
}

/// Checks the SIZ segment (ISO 15444-1 A.5.1). Returns the bits of a sample and whether it is signed.
fn check_jpeg2000(stream: &[u8], geometry: &Geometry) -> Result<(u32, bool), Problem> {
    let long = |at: usize| stream.get(at..at + 4)?.first_chunk().map(|b| u32::from_be_bytes(*b));
    let short = |at: usize| stream.get(at..at + 2)?.first_chunk().map(|b| u16::from_be_bytes(*b));
    let fields = || {
        let side = |end: usize| Some(long(end)?.checked_sub(long(end + 8)?)? as usize);
        let tiles = |end: usize, tile: usize| Some(u64::from(long(end)?.div_ceil(long(tile)?.max(1))));
        let size = (side(12)?, side(8)?);
        Some((size, tiles(8, 24)? * tiles(12, 28)?, short(40)?))
    };
    let ((rows, columns), tiles, components) = fields().ok_or("JPEG 2000: the frame's header is damaged")?;
    if (rows, columns, usize::from(components)) != (geometry.rows, geometry.columns, geometry.samples) {
        return Err(
            "JPEG 2000: the frame's own size does not agree with Rows, Columns and Samples per Pixel".into(),
        );
    }
    if tiles > 65_535 {
        return Err("JPEG 2000: the frame has too many tiles".into());
    }
    let described =
        stream.get(42..42 + 3 * geometry.samples).ok_or("JPEG 2000: the frame's header is damaged")?;
    let &[depth, ..] = described else { return Err("JPEG 2000: the frame's header is damaged".into()) };
    if described.chunks_exact(3).any(|c| *c != [depth, 1, 1]) {
        return Err("JPEG 2000: components of different depth or resolution are not supported".into());
    }
    let bits = u32::from(depth & 0x7F) + 1;
    if bits > geometry.bits_allocated {
        return Err(format!("JPEG 2000: samples of {bits} bits exceed Bits Allocated").into());
    }
    Ok((bits, depth & 0x80 != 0))
}
