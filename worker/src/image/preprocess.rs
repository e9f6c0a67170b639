//! The steps between decoded pixels and the vision tower: resize, pad, resample, normalise.
//!
//! Source: JRadiEvo's evaluation script (the first resize), Bunny's `expand2square` and `process_images`, and the
//! SigLIP image processor of transformers.

use super::{Error, Rgb8, bicubic};

/// How an image is prepared for a tower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preprocess {
    /// Width and height of a first resize in pixels, which does not keep the aspect ratio; none leaves the image as it is.
    pub pre_resize: Option<(usize, usize)>,
    /// Whether a picture that is not square is padded; otherwise it is stretched.
    pub pad: bool,
    /// The side of the tower's square input, in pixels.
    pub size: usize,
}

impl Preprocess {
    /// Prepares one image: float32 values in [-1, 1], shape (3, `size`, `size`) in row-major order.
    ///
    /// # Errors
    /// [`Error::Target`] if a size asked for is zero or too large.
    pub fn apply(&self, image: &Rgb8) -> Result<Vec<f32>, Error> {
        let pixels = self.pixels(image)?;
        // The original rescales in double precision, rounds, and only then centres.
        let table: Vec<f32> = (0..256).map(|v| ((f64::from(v) * (1.0 / 255.0)) as f32 - 0.5) / 0.5).collect();
        let plane = self.size * self.size;
        let mut out = vec![0f32; 3 * plane];
        for (index, pixel) in pixels.data().chunks_exact(3).enumerate() {
            for (channel, &value) in pixel.iter().enumerate() {
                out[channel * plane + index] = table[usize::from(value)];
            }
        }
        Ok(out)
    }

    /// The eight-bit pixels just before normalisation, `size` x `size`.
    ///
    /// # Errors
    /// As [`Preprocess::apply`].
    pub fn pixels(&self, image: &Rgb8) -> Result<Rgb8, Error> {
        let first = match self.pre_resize {
            Some((width, height)) => Some(bicubic::resize(image, width, height)?),
            None => None,
        };
        let image = first.as_ref().unwrap_or(image);
        if self.pad {
            bicubic::resize(&pad_to_square(image), self.size, self.size)
        } else {
            bicubic::resize(image, self.size, self.size)
        }
    }
}

/// Centres the image on a square of its longer side, filled with 127 (0.5 x 255, truncated).
///
/// The offset is half the difference, floored.
pub fn pad_to_square(image: &Rgb8) -> Rgb8 {
    let (width, height) = (image.width(), image.height());
    if width == height {
        return image.clone();
    }
    let side = width.max(height);
    let (left, top) = ((side - width) / 2, (side - height) / 2);
    let mut data = vec![127u8; side * side * 3];
    for (y, row) in image.data().chunks_exact(width * 3).enumerate() {
        let start = ((top + y) * side + left) * 3;
        data[start..start + width * 3].copy_from_slice(row);
    }
    Rgb8 { width: side, height: side, data }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_floors_the_offset() {
        let image = Rgb8::new(1, 4, vec![9; 12]).expect("sizes agree");
        let padded = pad_to_square(&image);
        assert_eq!((padded.width(), padded.height()), (4, 4));
        let columns: Vec<u8> = padded.data()[..12].chunks(3).map(|p| p[0]).collect();
        assert_eq!(columns, [127, 9, 127, 127]);
    }

    #[test]
    fn values_span_minus_one_to_one_channels_first() {
        let image = Rgb8::new(2, 1, vec![0, 255, 0, 0, 255, 0]).expect("sizes agree");
        let prepare = Preprocess { pre_resize: Some((2, 2)), pad: true, size: 2 };
        let out = prepare.apply(&image).expect("valid sizes");
        assert_eq!(out, [-1., -1., -1., -1., 1., 1., 1., 1., -1., -1., -1., -1.]);
    }
}
