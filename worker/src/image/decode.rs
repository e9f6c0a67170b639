//! Decodes PNG and JPEG into eight-bit RGB, within limits that are checked before memory is taken.
//!
//! Sixteen-bit samples are scaled to eight (x / 257, rounded); grey is repeated three times; an alpha channel is
//! dropped, not blended, as Pillow's `convert("RGB")` does. EXIF orientation is not applied here.

use std::io::Cursor;
use std::path::Path;

use image::{ImageFormat, ImageReader};

use super::{Error, Rgb8};

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

/// Reads a PNG or JPEG file; the content decides which, not the file's name.
///
/// # Errors
/// Each names the file: it cannot be read, is beyond a limit, or cannot be decoded.
pub fn decode(path: &Path, limits: &Limits) -> Result<Rgb8, Error> {
    let file = path.display().to_string();
    let read = |source| Error::Read { file: file.clone(), source };
    // The size is checked on the open file and again while reading, since a file may grow in between.
    let handle = std::fs::File::open(path).map_err(read)?;
    let size = handle.metadata().map_err(read)?.len();
    if size > limits.file_bytes {
        return Err(Error::TooManyBytes { file, got: size, limit: limits.file_bytes });
    }
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(
        &mut std::io::Read::take(handle, limits.file_bytes.saturating_add(1)),
        &mut bytes,
    )
    .map_err(read)?;
    decode_bytes(&bytes, &file, limits)
}

/// Decodes PNG or JPEG bytes; `file` is used in errors only.
///
/// # Errors
/// As [`decode`].
pub fn decode_bytes(bytes: &[u8], file: &str, limits: &Limits) -> Result<Rgb8, Error> {
    if bytes.len() as u64 > limits.file_bytes {
        return Err(Error::TooManyBytes {
            file: file.into(),
            got: bytes.len() as u64,
            limit: limits.file_bytes,
        });
    }
    let failed = |reason: String| Error::Decode { file: file.into(), reason };
    let format = image::guess_format(bytes).map_err(|_| failed("neither PNG nor JPEG".into()))?;
    if !matches!(format, ImageFormat::Png | ImageFormat::Jpeg) {
        return Err(failed("neither PNG nor JPEG".into()));
    }
    let (width, height) = ImageReader::with_format(Cursor::new(bytes), format)
        .into_dimensions()
        .map_err(|e| failed(e.to_string()))?;
    if width > limits.side || height > limits.side {
        return Err(Error::TooManyPixels { file: file.into(), width, height, limit: limits.side });
    }
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut decoder_limits = image::Limits::default();
    decoder_limits.max_image_width = Some(limits.side);
    decoder_limits.max_image_height = Some(limits.side);
    decoder_limits.max_alloc = Some(limits.decoder_bytes);
    reader.limits(decoder_limits);
    let picture = reader.decode().map_err(|e| failed(e.to_string()))?.into_rgb8();
    Rgb8::new(picture.width() as usize, picture.height() as usize, picture.into_raw())
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{DynamicImage, GrayImage, ImageBuffer, Luma, LumaA, Rgba};

    fn encode(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut out = Cursor::new(Vec::new());
        picture.write_to(&mut out, format).expect("encoding to memory");
        out.into_inner()
    }

    #[test]
    fn every_png_kind_becomes_rgb8() {
        let grey16: ImageBuffer<Luma<u16>, Vec<u16>> = ImageBuffer::from_pixel(3, 2, Luma([257 * 77]));
        let alpha: ImageBuffer<Rgba<u8>, Vec<u8>> = ImageBuffer::from_pixel(3, 2, Rgba([1, 2, 3, 9]));
        let grey_alpha: ImageBuffer<LumaA<u8>, Vec<u8>> = ImageBuffer::from_pixel(3, 2, LumaA([5, 0]));
        for (picture, expected) in [
            (DynamicImage::ImageLuma8(GrayImage::from_pixel(3, 2, Luma([9]))), [9, 9, 9]),
            (DynamicImage::ImageLuma16(grey16), [77, 77, 77]),
            (DynamicImage::ImageRgba8(alpha), [1, 2, 3]),
            (DynamicImage::ImageLumaA8(grey_alpha), [5, 5, 5]),
        ] {
            let got = decode_bytes(&encode(&picture, ImageFormat::Png), "a.png", &Limits::default())
                .expect("a valid picture");
            assert_eq!((got.width(), got.height()), (3, 2));
            assert_eq!(&got.data()[..3], &expected);
        }
    }

    #[test]
    fn jpeg_is_read_and_limits_name_the_file() {
        let picture = DynamicImage::ImageLuma8(GrayImage::from_pixel(40, 20, Luma([128])));
        let bytes = encode(&picture, ImageFormat::Jpeg);
        assert!(decode_bytes(&bytes, "a.jpg", &Limits::default()).is_ok());
        let small = Limits { side: 30, ..Limits::default() };
        let error = decode_bytes(&bytes, "a.jpg", &small).expect_err("too wide").to_string();
        assert!(error.contains("a.jpg") && error.contains("40 x 20"), "{error}");
        let few = Limits { file_bytes: 10, ..Limits::default() };
        assert!(matches!(decode_bytes(&bytes, "a.jpg", &few), Err(Error::TooManyBytes { .. })));
    }

    #[test]
    fn damaged_and_foreign_files_are_refused() {
        let picture = DynamicImage::ImageLuma8(GrayImage::from_pixel(40, 20, Luma([128])));
        let bytes = encode(&picture, ImageFormat::Png);
        for data in [&bytes[..bytes.len() / 2], b"GIF89a".as_slice(), b"", b"text"] {
            assert!(matches!(decode_bytes(data, "x", &Limits::default()), Err(Error::Decode { .. })));
        }
        assert!(matches!(decode(Path::new("/nonexistent.png"), &Limits::default()), Err(Error::Read { .. })));
    }
}
