//! S2: one image seen at several scales by a tower of one input size.
//!
//! The largest scale is resized to each scale by PyTorch's bicubic without antialiasing, cut into tiles of the tower's size,
//! and the feature maps are put together again and averaged down to the smallest map; scales are joined on channels.
//!
//! Source: the `s2wrapper` package as Bunny uses it (`multiscale_forward`), `F.interpolate` of PyTorch
//! (`UpSampleKernel.cpp`, `cubic_interp1d`, a = -0.75), and its area mode.

use candle_core::{DType, Tensor};

use super::error::{Error, Result};

/// Resizes planes (C, S, S) of float32 to (C, `size`, `size`) with a = -0.75, half-pixel centres, clamped borders, no antialiasing.
///
/// # Errors
/// [`Error::Argument`] unless the input is square with three axes and `size` is above zero.
pub fn resize_bicubic(planes: &Tensor, size: usize) -> Result<Tensor> {
    let (channels, height, width) = planes.dims3()?;
    if height != width || height == 0 || size == 0 {
        return Err(Error::Argument {
            what: "pixels",
            expected: "a square and a size above zero".into(),
            got: format!("{height} x {width} to {size}"),
        });
    }
    if size == height {
        return Ok(planes.contiguous()?);
    }
    let input = planes.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
    let taps = taps(height, size);
    let mut out = Vec::with_capacity(channels * size * size);
    let mut narrow = vec![0f32; height * size];
    for plane in input.chunks_exact(height * width) {
        for (row, line) in plane.chunks_exact(width).zip(narrow.chunks_exact_mut(size)) {
            for (value, (at, weights)) in line.iter_mut().zip(&taps) {
                *value = (0..4).map(|k| row[at[k]] * weights[k]).sum();
            }
        }
        for (at, weights) in &taps {
            out.extend((0..size).map(|x| (0..4).map(|k| narrow[at[k] * size + x] * weights[k]).sum::<f32>()));
        }
    }
    Ok(Tensor::from_vec(out, (channels, size, size), planes.device())?.to_dtype(planes.dtype())?)
}

/// For every output index, the four input indices and their weights.
fn taps(input: usize, output: usize) -> Vec<([usize; 4], [f32; 4])> {
    const A: f32 = -0.75;
    let near = |x: f32| ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0;
    let far = |x: f32| ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A;
    let scale = input as f32 / output as f32;
    (0..output)
        .map(|index| {
            let source = scale * (index as f32 + 0.5) - 0.5;
            let floor = source.floor();
            let t = source - floor;
            let last = input as i64 - 1;
            let at = [-1, 0, 1, 2].map(|k| (floor as i64 + k).clamp(0, last) as usize);
            (at, [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)])
        })
        .collect()
}

/// Cuts (C, n S, n S) into n x n tiles, row by row: (n n, C, S, S).
///
/// # Errors
/// [`Error::Argument`] if the side is no multiple of `size`.
pub fn tiles(planes: &Tensor, size: usize) -> Result<Tensor> {
    let (channels, side, _) = planes.dims3()?;
    if size == 0 || side % size != 0 {
        return Err(Error::Argument {
            what: "pixels",
            expected: format!("a side that is a multiple of {size}"),
            got: side.to_string(),
        });
    }
    let n = side / size;
    let cut = planes.reshape((channels, n, size, n, size))?.permute((1, 3, 0, 2, 4))?;
    Ok(cut.reshape((n * n, channels, size, size))?)
}

/// Puts the tiles' maps (n n, g g, W) together and takes means of n x n cells: (g g, W), float32 inside.
///
/// # Errors
/// [`Error::Argument`] unless both counts are squares.
pub fn merge_and_shrink(maps: &Tensor) -> Result<Tensor> {
    let (count, cells, width) = maps.dims3()?;
    let (n, g) = (count.isqrt(), cells.isqrt());
    if n * n != count || g * g != cells {
        return Err(Error::Argument {
            what: "feature maps",
            expected: "square numbers of tiles and cells".into(),
            got: format!("{count} and {cells}"),
        });
    }
    if n == 1 {
        return Ok(maps.squeeze(0)?);
    }
    // (row tile, column tile, y, x) to (row tile, y, column tile, x): the whole map; then n x n cells to one.
    let whole = maps
        .to_dtype(DType::F32)?
        .reshape((n, n, g, g * width))?
        .transpose(1, 2)?
        .contiguous()?
        .reshape((g, n, g, n, width))?;
    let mean = whole.mean(3)?.mean(1)?;
    Ok(mean.reshape((g * g, width))?.to_dtype(maps.dtype())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn a_third_is_every_third_pixel_from_the_second() {
        let side = 12;
        let image: Vec<f32> = (0..side * side).map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0).collect();
        let planes = Tensor::from_vec(image.clone(), (1, side, side), &Device::Cpu).expect("memory");
        let small =
            resize_bicubic(&planes, 4).and_then(|t| Ok(t.flatten_all()?.to_vec1::<f32>()?)).expect("square");
        for (i, value) in small.iter().enumerate() {
            let (y, x) = (i / 4 * 3 + 1, i % 4 * 3 + 1);
            assert!((value - image[y * side + x]).abs() < 1e-6);
        }
    }

    #[test]
    fn two_thirds_has_the_two_known_phases() {
        let weights = [-0.105_468_75, 0.878_906_25, 0.261_718_75, -0.035_156_25];
        let taps = taps(1152, 768);
        for (index, (at, got)) in taps.iter().enumerate().skip(1).take(40) {
            let mut want = weights;
            if index % 2 == 1 {
                want.reverse();
            }
            assert_eq!(at[1], (1.5 * index as f32 + 0.25).floor() as usize);
            assert!(got.iter().zip(want).all(|(g, w)| (g - w).abs() < 1e-6), "{index}: {got:?}");
        }
    }

    #[test]
    fn tiles_go_back_to_their_places() {
        // Every pixel is its own feature: means of 2 x 2 cells must then be those of the picture.
        let side = 4;
        let image: Vec<f32> = (0..side * side).map(|i| i as f32).collect();
        let planes = Tensor::from_vec(image, (1, side, side), &Device::Cpu).expect("memory");
        let maps = tiles(&planes, 2).and_then(|t| Ok(t.reshape((4, 4, 1))?)).expect("a multiple");
        let got =
            merge_and_shrink(&maps).and_then(|t| Ok(t.flatten_all()?.to_vec1::<f32>()?)).expect("squares");
        assert_eq!(got, [2.5, 4.5, 10.5, 12.5]);
        assert!(tiles(&planes, 3).is_err());
    }
}
