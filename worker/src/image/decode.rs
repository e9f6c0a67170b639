//! Reads a picture of any kind that is known into eight-bit RGB, within limits that are checked before memory is taken.
//!
//! The content decides what a file is, never its name.

use std::io::{BufReader, Cursor, Read};
use std::path::Path;

use common::bounded;

use super::{Error, Rgb8, dicom, raster};

/// The largest file and picture that are decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest file, in bytes.
    pub file_bytes: u64,
    /// Longest side, in pixels.
    pub side: u32,
    /// Most memory that the decoder may take, in bytes.
    pub decoder_bytes: u64,
}

impl Default for Limits {
    /// 256 MiB on disk, 16,384 pixels a side, 2 GiB while decoding.
    fn default() -> Self {
        Self { file_bytes: 256 << 20, side: 16_384, decoder_bytes: 2 << 30 }
    }
}

/// Reads a PNG, JPEG or DICOM file; the content decides which, not the file's name.
///
/// `frame`, counted from 1, says which frame of a DICOM file of several is wanted; without it such a file is refused.
/// PNG and JPEG files hold one picture (of an animated PNG the still one) and do not ask.
///
/// # Errors
/// Each names the file: it cannot be read, is beyond a limit, or cannot be decoded.
pub fn decode(path: &Path, frame: Option<u32>, limits: &Limits) -> Result<Rgb8, Error> {
    decode_as(path, &path.display().to_string(), frame, limits)
}

/// The same, where errors name the file otherwise: its name may be a patient's.
///
/// # Errors
/// As [`decode`].
pub fn decode_as(path: &Path, shown: &str, frame: Option<u32>, limits: &Limits) -> Result<Rgb8, Error> {
    let file = shown.to_string();
    let read = |source| Error::Read { file: file.clone(), source };
    let (handle, size) = bounded::open(path).map_err(read)?;
    if size > limits.file_bytes {
        return Err(Error::TooManyBytes { file, got: size, limit: limits.file_bytes });
    }
    decode_from(BufReader::new(handle), shown, frame, limits)
}

/// Decodes bytes of any of these kinds; `file` is used in errors only.
///
/// # Errors
/// As [`decode`].
pub fn decode_bytes(bytes: &[u8], file: &str, frame: Option<u32>, limits: &Limits) -> Result<Rgb8, Error> {
    decode_from(Cursor::new(bytes), file, frame, limits)
}

fn decode_from(
    mut source: impl Read,
    file: &str,
    frame: Option<u32>,
    limits: &Limits,
) -> Result<Rgb8, Error> {
    let read = |source| Error::Read { file: file.into(), source };
    let mut head = Vec::new();
    source.by_ref().take(dicom::HEAD_BYTES).read_to_end(&mut head).map_err(read)?;
    let is_dicom = dicom::recognise(&head);
    // A file may have grown since its size was looked up, so the limit is kept while reading too.
    let whole = Cursor::new(head).chain(source);
    if let Some(start) = is_dicom {
        return dicom::decode(whole.take(limits.file_bytes), start, file, frame, limits);
    }
    let mut bytes = Vec::new();
    whole.take(limits.file_bytes.saturating_add(1)).read_to_end(&mut bytes).map_err(read)?;
    if bytes.len() as u64 > limits.file_bytes {
        return Err(Error::TooManyBytes {
            file: file.into(),
            got: bytes.len() as u64,
            limit: limits.file_bytes,
        });
    }
    raster::decode(&bytes, file, limits)
}
