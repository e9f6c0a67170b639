//! Cutting a picture as MiniCPM-V does: the whole of it, made smaller, and a grid of slices of the enlarged picture.
//!
//! A picture of more pixels than the tower's square is cut into about as many slices as it has squares' worth of pixels,
//! in the grid whose shape is nearest to the picture's by the logarithm of width over height. Every part keeps nearly its
//! aspect ratio, has about the square's number of pixels, and sides that are multiples of the patch.
//!
//! Source: `slice_image`, `get_refine_size`, `find_best_resize`, `ensure_divide` and `split_to_patches` of the image
//! processor that is published with MiniCPM-Llama3-V-2_5. Its rounding is Python's: halves go to the even number.

use super::{Error, Rgb8, bicubic};

/// How pictures are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slicing {
    /// Most slices in a grid.
    pub max_slices: usize,
    /// Side of the square whose number of pixels each part should have, in pixels.
    pub scale: usize,
    /// What the sides of every part are multiples of, in pixels.
    pub patch: usize,
}

/// Where a picture is cut: sizes are (width, height) in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Size to which the whole picture is resized.
    pub whole: (usize, usize),
    /// Columns and rows of the grid, and the size of one slice; none where the whole is enough.
    pub grid: Option<((usize, usize), (usize, usize))>,
}

impl Slicing {
    /// Where a picture of that size is cut.
    ///
    /// # Errors
    /// [`Error::Target`] if a side is zero or a part would be longer than the resampler makes.
    pub fn plan(&self, width: usize, height: usize) -> Result<Plan, Error> {
        let limit = bicubic::MAX_SIDE;
        // Beyond 2^26 pixels a side, products would no longer be whole numbers in double precision.
        if width == 0 || height == 0 || width.max(height) > 1 << 26 {
            return Err(Error::Target { width, height, limit });
        }
        let (w, h) = (width as f64, height as f64);
        let square = (self.scale * self.scale) as f64;
        let multiple = ((w * h / square).ceil() as usize).min(self.max_slices);
        let plan = if multiple <= 1 {
            Plan { whole: self.best_size(w, h, true), grid: None }
        } else {
            let (columns, rows) = self.best_grid((w / h).ln(), multiple);
            let part = |side: f64, n: usize| nearest_multiple(side, n) as f64 / n as f64;
            let slice = self.best_size(part(w, columns), part(h, rows), true);
            Plan { whole: self.best_size(w, h, false), grid: Some(((columns, rows), slice)) }
        };
        let enlarged = plan.grid.map(|((c, r), (w, h))| (c * w, r * h));
        for (width, height) in [Some(plan.whole), enlarged].into_iter().flatten() {
            if width.max(height) > limit {
                return Err(Error::Target { width, height, limit });
            }
        }
        Ok(plan)
    }

    /// The picture's parts: the whole first, then the slices row by row.
    ///
    /// # Errors
    /// As [`Slicing::plan`].
    pub fn cut(&self, image: &Rgb8) -> Result<(Plan, Vec<Rgb8>), Error> {
        let plan = self.plan(image.width, image.height)?;
        let mut parts = vec![bicubic::resize(image, plan.whole.0, plan.whole.1)?];
        if let Some(((columns, rows), (w, h))) = plan.grid {
            let large = bicubic::resize(image, columns * w, rows * h)?;
            for row in 0..rows {
                parts.extend((0..columns).map(|column| crop(&large, column * w, row * h, w, h)));
            }
        }
        Ok((plan, parts))
    }

    /// The grid of one slice fewer, as many, or one more, whose shape is nearest; of equal ones, the first.
    fn best_grid(&self, log_ratio: f64, multiple: usize) -> (usize, usize) {
        let counts = [multiple - 1, multiple, multiple + 1];
        let counts = counts.into_iter().filter(|&n| n > 1 && n <= self.max_slices);
        let grids = counts.flat_map(|n| (1..=n).filter(move |m| n % m == 0).map(move |m| (m, n / m)));
        let mut best = ((1, 1), f64::INFINITY);
        for (columns, rows) in grids {
            let error = (log_ratio - (columns as f64 / rows as f64).ln()).abs();
            if error < best.1 {
                best = ((columns, rows), error);
            }
        }
        best.0
    }

    /// A size of about the square's number of pixels; without `enlarge`, smaller pictures only get whole patches.
    fn best_size(&self, mut width: f64, mut height: f64, enlarge: bool) -> (usize, usize) {
        if enlarge || width * height > (self.scale * self.scale) as f64 {
            let ratio = width / height;
            height = (self.scale as f64 / ratio.sqrt()).trunc();
            width = (height * ratio).trunc();
        }
        (nearest_multiple(width, self.patch), nearest_multiple(height, self.patch))
    }
}

/// The multiple of `step` nearest to `length`, at least one `step`.
fn nearest_multiple(length: f64, step: usize) -> usize {
    ((length / step as f64).round_ties_even() as usize * step).max(step)
}

fn crop(image: &Rgb8, left: usize, top: usize, width: usize, height: usize) -> Rgb8 {
    let mut data = Vec::with_capacity(width * height * 3);
    for y in top..top + height {
        let start = (y * image.width + left) * 3;
        data.extend_from_slice(&image.data[start..start + width * 3]);
    }
    Rgb8 { width, height, data }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLISHED: Slicing = Slicing { max_slices: 9, scale: 448, patch: 14 };

    #[test]
    fn known_sizes() {
        // The authors' 512 x 512: two slices one above the other, since of equally near grids the first counts.
        let plan = PUBLISHED.plan(512, 512).expect("a picture");
        assert_eq!(plan, Plan { whole: (448, 448), grid: Some(((1, 2), (630, 322))) });
        assert_eq!(PUBLISHED.plan(448, 448).expect("a picture"), Plan { whole: (448, 448), grid: None });
        assert_eq!(PUBLISHED.plan(1, 1).expect("a picture"), Plan { whole: (448, 448), grid: None });
        let plan = PUBLISHED.plan(1344, 1344).expect("a picture");
        assert_eq!(plan.grid.map(|g| g.0), Some((3, 3)));
        assert!(PUBLISHED.plan(0, 5).is_err());
        assert!(PUBLISHED.plan(1, 100_000).is_err());
        assert!(PUBLISHED.plan(usize::MAX, 3).is_err());
    }

    #[test]
    fn slices_are_the_enlarged_picture_row_by_row() {
        let slicing = Slicing { max_slices: 4, scale: 4, patch: 2 };
        let data = (0..8 * 8 * 3).map(|i| (i * 7 % 251) as u8).collect();
        let image = Rgb8::new(8, 8, data).expect("sizes agree");
        let (plan, parts) = slicing.cut(&image).expect("a picture");
        assert_eq!(plan, Plan { whole: (4, 4), grid: Some(((2, 2), (4, 4))) });
        // The enlarged picture has the size of the picture itself here.
        let pixel = |x: usize, y: usize| &image.data()[(y * 8 + x) * 3..][..3];
        assert_eq!(parts.len(), 5);
        assert_eq!(&parts[2].data()[..3], pixel(4, 0));
        assert_eq!(&parts[3].data()[..3], pixel(0, 4));
        assert_eq!(&parts[4].data()[45..], pixel(7, 7));
    }
}
