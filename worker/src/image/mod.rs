//! From an image file to the pixel tensor of a vision tower.
//!
//! In: a PNG, JPEG or DICOM file, or pixels already decoded. Out: a normalised float32 tensor, channels first. This
//! module knows nothing of a model beyond the side of its square input; of a file's metadata it reads what says how
//! pixels are to be drawn, and nothing of the patient.
//!
//! Source of the arithmetic: Pillow's `Resample.c` for the resampling and Bunny's `expand2square` with
//! transformers' SigLIP processor for everything around it.

pub mod bicubic;
mod decode;
mod dicom;
mod preprocess;
mod raster;
pub mod slices;

pub use bicubic::resize as resize_bicubic;
pub use decode::{Limits, decode, decode_as, decode_bytes};
pub use preprocess::{Preprocess, pad_to_square};
pub use slices::Slicing;

/// Eight-bit colour pixels, rows from the top, three interleaved channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rgb8 {
    width: usize,
    height: usize,
    data: Vec<u8>,
}

impl Rgb8 {
    /// Wraps interleaved pixels.
    ///
    /// # Errors
    /// [`Error::Buffer`] if a side is zero or `data` does not hold `width * height * 3` bytes.
    pub fn new(width: usize, height: usize, data: Vec<u8>) -> Result<Self, Error> {
        let expected = width.checked_mul(height).and_then(|n| n.checked_mul(3));
        if width == 0 || height == 0 || expected != Some(data.len()) {
            return Err(Error::Buffer { width, height, got: data.len() });
        }
        Ok(Self { width, height, data })
    }

    /// The width in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The height in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The interleaved bytes, `width * height * 3` of them.
    pub fn data(&self) -> &[u8] {
        &self.data
    }
}

/// Why an image could not be read or prepared.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be opened or read.
    #[error("cannot read image {file}: {source}")]
    Read {
        /// The file as the caller named it.
        file: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is larger than the limit; it was not read.
    #[error("image {file} has {got} bytes, the limit is {limit}")]
    TooManyBytes {
        /// The file as the caller named it.
        file: String,
        /// Its size in bytes.
        got: u64,
        /// The largest size accepted, in bytes.
        limit: u64,
    },
    /// The picture is larger than the limit; its pixels were not decoded.
    #[error("image {file} is {width} x {height} pixels, the limit is {limit} pixels a side")]
    TooManyPixels {
        /// The file as the caller named it.
        file: String,
        /// Its width in pixels.
        width: u32,
        /// Its height in pixels.
        height: u32,
        /// The longest side accepted, in pixels.
        limit: u32,
    },
    /// The file is neither PNG, JPEG nor DICOM, holds what is not supported, or is damaged. The reason never quotes
    /// text from the file.
    #[error("cannot decode image {file}: {reason}")]
    Decode {
        /// The file as the caller named it.
        file: String,
        /// What the decoder said.
        reason: String,
    },
    /// A buffer does not fit the size given with it.
    #[error(
        "an image of {width} x {height} pixels needs three bytes a pixel and at least one pixel, got {got} bytes"
    )]
    Buffer {
        /// The width in pixels.
        width: usize,
        /// The height in pixels.
        height: usize,
        /// The bytes given.
        got: usize,
    },
    /// A target size is zero or beyond what the resampler accepts.
    #[error("cannot resize to {width} x {height} pixels: each side must be 1 to {limit}")]
    Target {
        /// The width asked for.
        width: usize,
        /// The height asked for.
        height: usize,
        /// The longest side accepted.
        limit: usize,
    },
}
