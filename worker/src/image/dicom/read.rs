//! Walks a data set element by element. Elements that [`Header`] does not name are skipped in the stream, so their values
//! never enter memory of ours; reading ends with the pixel data.

use std::io::Read;

use dicom_core::Tag;
use dicom_parser::dataset::LazyDataToken;
use dicom_parser::dataset::lazy_read::LazyDataSetReader;
use dicom_parser::stateful::decode::{DynStatefulDecoder, StatefulDecode};

use super::super::Limits;
use super::Problem;
use super::header::{Element, Geometry, Header, Scope};
use super::syntax::{Encoding, Packing, Syntax};

const PIXEL_DATA: Tag = Tag(0x7FE0, 0x0010);
const FLOAT_PIXEL_DATA: [Tag; 2] = [Tag(0x7FE0, 0x0008), Tag(0x7FE0, 0x0009)];
/// Deeper nesting than any image has.
const DEPTH: usize = 32;

/// A frame with what is needed to draw it.
pub(super) struct Image {
    pub(super) header: Header,
    pub(super) geometry: Geometry,
    pub(super) pixels: Pixels,
}

/// Pixel data as stored.
pub(super) enum Pixels {
    /// The wanted frame's bytes, sixteen-bit values still in the file's byte order.
    Native(Vec<u8>),
    /// The basic offset table (empty if there is none) and all fragments.
    Fragments { table: Vec<u32>, fragments: Vec<Vec<u8>> },
}

/// A sequence that is being read.
struct Level {
    tag: Tag,
    /// Items begun so far.
    items: u32,
    /// Whether an item is open.
    open: bool,
}

fn damaged() -> Problem {
    "the data set is damaged: items and sequences do not nest".into()
}

fn ends_early() -> Problem {
    "the file ends too early".into()
}

/// Reads the attributes and the wanted frame's pixels.
pub(super) fn read(
    source: impl Read,
    syntax: &Syntax,
    frame: Option<u32>,
    limits: &Limits,
) -> Result<Image, Problem> {
    let transfer_syntax = syntax.encoding.transfer_syntax();
    let parser = DynStatefulDecoder::new_with_ts(source, &transfer_syntax, 0)
        .map_err(|_| Problem::from("the transfer syntax cannot be read"))?;
    let mut reader = LazyDataSetReader::new(parser);
    let mut header = Header::default();
    let mut path: Vec<Level> = Vec::new();
    while let Some(token) = reader.advance() {
        // The parser's own words hold positions, never values.
        match token.map_err(|e| Problem::Reason(format!("the data set is damaged: {e}")))? {
            LazyDataToken::SequenceStart { tag, .. } => {
                if path.len() == DEPTH {
                    return Err("sequences are nested too deeply".into());
                }
                path.push(Level { tag, items: 0, open: false });
            }
            LazyDataToken::PixelSequenceStart if path.is_empty() => {
                let geometry = header.geometry(syntax, frame, limits)?;
                if syntax.packing == Packing::Native {
                    return Err(
                        "the pixel data are packed, but the transfer syntax says that they are not".into()
                    );
                }
                let pixels = fragments(&mut reader, limits)?;
                return Ok(Image { header, geometry, pixels });
            }
            // Packed pixels within a sequence: an icon.
            LazyDataToken::PixelSequenceStart => {
                path.push(Level { tag: PIXEL_DATA, items: 0, open: false });
            }
            LazyDataToken::ItemStart { .. } => match path.last_mut() {
                Some(level) if !level.open => {
                    level.open = true;
                    level.items = level.items.saturating_add(1);
                }
                _ => return Err(damaged()),
            },
            // Items that end where none is open would also confuse the parser.
            LazyDataToken::ItemEnd => match path.last_mut() {
                Some(level) if level.open => level.open = false,
                _ => return Err(damaged()),
            },
            LazyDataToken::SequenceEnd => {
                let level = path.pop().ok_or_else(damaged)?;
                if level.open {
                    return Err(damaged());
                }
            }
            LazyDataToken::LazyValue { header: element, decoder } => {
                let length = element.len.get().ok_or_else(damaged)?;
                let tag = element.tag;
                if path.is_empty() && tag == PIXEL_DATA {
                    let geometry = header.geometry(syntax, frame, limits)?;
                    if syntax.packing != Packing::Native {
                        return Err(
                            "the pixel data are not packed, but the transfer syntax says that they are"
                                .into(),
                        );
                    }
                    let pixels = native(decoder, length, element.vr, syntax.encoding, &geometry)?;
                    return Ok(Image { header, geometry, pixels });
                }
                if path.is_empty() && FLOAT_PIXEL_DATA.contains(&tag) {
                    return Err("floating-point pixel data are not supported".into());
                }
                let wanted = scope(&path, frame).and_then(|s| Header::longest(s, tag).map(|l| (s, l)));
                let Some((scope, longest)) = wanted else {
                    decoder.skip_bytes(length).map_err(|_| ends_early())?;
                    continue;
                };
                if length > longest {
                    return Err(format!("{tag} has {length} bytes, the limit is {longest}").into());
                }
                let bytes = value(decoder, length)?;
                header.take(scope, &Element { tag, vr: element.vr, bytes, encoding: syntax.encoding })?;
            }
            LazyDataToken::LazyItemValue { len, decoder } => {
                decoder.skip_bytes(len).map_err(|_| ends_early())?;
            }
            _ => {}
        }
    }
    Err("there are no pixel data (7FE0,0010)".into())
}

/// What an element at this place describes, if anything of interest.
fn scope(path: &[Level], frame: Option<u32>) -> Option<Scope> {
    const MODALITY_LUT: Tag = Tag(0x0028, 0x3000);
    const VOI_LUT: Tag = Tag(0x0028, 0x3010);
    const SHARED_GROUPS: Tag = Tag(0x5200, 0x9229);
    const GROUPS_BY_FRAME: Tag = Tag(0x5200, 0x9230);
    const FRAME_VOI: Tag = Tag(0x0028, 0x9132);
    const FRAME_RESCALE: Tag = Tag(0x0028, 0x9145);
    match path {
        [] => Some(Scope::Image),
        [Level { tag: MODALITY_LUT, items: 1, .. }] => Some(Scope::ModalityLut),
        [Level { tag: VOI_LUT, items: 1, .. }] => Some(Scope::VoiLut),
        [groups, Level { tag: FRAME_VOI | FRAME_RESCALE, items: 1, .. }] => {
            let own = groups.tag == GROUPS_BY_FRAME && groups.items == frame.unwrap_or(1);
            (own || groups.tag == SHARED_GROUPS).then_some(Scope::Frame)
        }
        _ => None,
    }
}

/// Reads a value. Memory grows with what the file really holds, whatever length it claims.
fn value(decoder: &mut impl StatefulDecode, length: u32) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::new();
    decoder.read_to(length, &mut bytes).map_err(|_| ends_early())?;
    if bytes.len() as u64 != u64::from(length) {
        return Err(ends_early());
    }
    Ok(bytes)
}

/// Reads the wanted frame of plain pixel data.
fn native(
    decoder: &mut impl StatefulDecode,
    length: u32,
    vr: dicom_core::VR,
    encoding: Encoding,
    geometry: &Geometry,
) -> Result<Pixels, Problem> {
    let bytes = geometry.native_bytes() as u64;
    let before = bytes * u64::from(geometry.frame);
    if before + bytes > u64::from(length) {
        let frames = geometry.frames;
        return Err(
            format!("the pixel data have {length} bytes, too few for {frames} frames of {bytes}").into()
        );
    }
    decoder.skip_bytes(before as u32).map_err(|_| ends_early())?;
    // A frame of an odd number of bytes is followed by the next at once, so words are not aligned to frames.
    let swapped =
        encoding == Encoding::ExplicitBig && geometry.bits_allocated == 8 && vr == dicom_core::VR::OW;
    if swapped && !bytes.is_multiple_of(2) && geometry.frames > 1 {
        return Err("eight-bit frames of an odd length in big-endian words are not supported".into());
    }
    let padded = if swapped { bytes + bytes % 2 } else { bytes };
    let mut pixels = value(decoder, u32::try_from(padded).map_err(|_| ends_early())?)?;
    if swapped {
        pixels.chunks_exact_mut(2).for_each(|pair| pair.swap(0, 1));
        pixels.truncate(bytes as usize);
    }
    Ok(Pixels::Native(pixels))
}

/// Reads the fragments of packed pixel data (PS3.5 A.4).
fn fragments<S: StatefulDecode>(
    reader: &mut LazyDataSetReader<S>,
    limits: &Limits,
) -> Result<Pixels, Problem> {
    let mut table = None;
    let mut fragments: Vec<Vec<u8>> = Vec::new();
    let mut current = Vec::new();
    let mut left = limits.file_bytes;
    let mut open = false;
    while let Some(token) = reader.advance() {
        match token.map_err(|_| ends_early())? {
            LazyDataToken::ItemStart { .. } if !open => open = true,
            LazyDataToken::LazyItemValue { len, decoder } if open => {
                left = left.checked_sub(u64::from(len)).ok_or_else(ends_early)?;
                current = value(decoder, len)?;
            }
            LazyDataToken::ItemEnd if open => {
                open = false;
                let item = std::mem::take(&mut current);
                if table.is_none() {
                    let words = item.chunks_exact(4).map(|c| {
                        let &[a, b, c, d] = c.first_chunk().expect("chunks of four");
                        u32::from_le_bytes([a, b, c, d])
                    });
                    table = Some(words.collect());
                } else {
                    fragments.push(item);
                }
            }
            LazyDataToken::SequenceEnd if !open => {
                return Ok(Pixels::Fragments { table: table.unwrap_or_default(), fragments });
            }
            _ => return Err(damaged()),
        }
    }
    Err(ends_early())
}
