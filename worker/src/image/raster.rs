//! PNG and JPEG.
//!
//! Eight-bit pictures become what Pillow's `convert("RGB")` makes of them: grey is repeated three times, palettes are
//! looked up, one, two and four bits are spread over the whole range, and transparency is dropped, not blended.
//!
//! In two things this module does not follow Pillow, because a radiograph would come out wrong:
//! - EXIF orientation is applied (Pillow leaves it to the caller).
//! - Sixteen-bit grey is scaled (Pillow clips at 255, so that a radiograph turns white). Full white is the largest value
//!   of 8, 10, 12, 14 or 16 bits, the fewest that hold the picture's largest sample: detectors of 10 to 14 bits are often
//!   stored unscaled in sixteen. Sixteen-bit colour is always x / 257, rounded (Pillow: x / 256, cut off).

use std::io::Cursor;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Rgb, RgbImage};

use super::{Error, Limits, Rgb8};

/// Most memory for what a PNG file holds beside its pixels, such as a colour profile, which may unpack to a thousand times
/// its size and is not used here.
const BESIDE_BYTES: u64 = 64 << 20;

/// Decodes PNG or JPEG bytes; `file` is used in errors only.
pub(super) fn decode(bytes: &[u8], file: &str, limits: &Limits) -> Result<Rgb8, Error> {
    let failed = |reason: String| Error::Decode { file: file.into(), reason };
    let format = image::guess_format(bytes).ok();
    let Some(format @ (ImageFormat::Png | ImageFormat::Jpeg)) = format else {
        return Err(failed("neither PNG, JPEG nor DICOM".into()));
    };
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut decoder_limits = image::Limits::default();
    // The sides are checked below, where the error can say what they are.
    decoder_limits.max_alloc = Some(limits.decoder_bytes.min(BESIDE_BYTES));
    reader.limits(decoder_limits);
    let mut decoder = reader.into_decoder().map_err(|e| failed(e.to_string()))?;
    let (width, height) = decoder.dimensions();
    if width > limits.side || height > limits.side {
        return Err(Error::TooManyPixels { file: file.into(), width, height, limit: limits.side });
    }
    let needed = needed(u64::from(width) * u64::from(height), decoder.total_bytes(), format);
    if needed > limits.decoder_bytes {
        return Err(failed(format!("needs {needed} bytes, the limit is {}", limits.decoder_bytes)));
    }
    // A damaged EXIF block says nothing of the pixels; they are shown as they are stored.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let picture = DynamicImage::from_decoder(decoder).map_err(|e| failed(e.to_string()))?;
    let mut picture = DynamicImage::ImageRgb8(to_rgb8(picture));
    picture.apply_orientation(orientation);
    let picture = picture.into_rgb8();
    Rgb8::new(picture.width() as usize, picture.height() as usize, picture.into_raw())
}

/// Bytes that are taken at once, at most, beside the file: the stored samples with what the decoder keeps of them, then with
/// the RGB that is made of them, then that RGB with its turned copy.
fn needed(pixels: u64, stored: u64, format: ImageFormat) -> u64 {
    // A progressive JPEG is decoded from the coefficients of its up to four components, of sixteen bits each.
    let coefficients = if format == ImageFormat::Jpeg { pixels.saturating_mul(8) } else { 0 };
    let rgb = pixels.saturating_mul(3);
    stored.saturating_add(coefficients.max(rgb)).max(rgb.saturating_mul(2))
}

fn to_rgb8(picture: DynamicImage) -> RgbImage {
    let (width, height) = (picture.width(), picture.height());
    let samples: Vec<u16> = match picture {
        DynamicImage::ImageLuma16(p) => p.into_raw(),
        DynamicImage::ImageLumaA16(p) => p.pixels().map(|p| p.0[0]).collect(),
        other => return other.into_rgb8(),
    };
    let white = white(samples.iter().copied().max().unwrap_or(0));
    RgbImage::from_fn(width, height, |x, y| {
        let sample = u64::from(samples[y as usize * width as usize + x as usize]);
        // Rounded to the nearest level, halves up.
        let level = ((sample * 510 + white) / (2 * white)) as u8;
        Rgb([level; 3])
    })
}

/// What counts as full white in sixteen-bit grey whose largest sample is `largest`.
fn white(largest: u16) -> u64 {
    let bits = [8, 10, 12, 14].into_iter().find(|&bits| u32::from(largest) < 1 << bits).unwrap_or(16);
    (1 << bits) - 1
}

#[cfg(test)]
#[path = "raster_tests.rs"]
mod tests;
