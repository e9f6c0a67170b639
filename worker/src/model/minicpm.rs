//! MiniCPM-Llama3-V-2_5's vision: slices, a SigLIP tower for pictures of any shape, a resampler.
//!
//! Two things in the published code are not what one expects, and are done here as there, since the weights were trained so:
//!
//! - The tower is given all patches of a part as one single row, so that their positions spread over the *first row* of its
//!   square table, whatever the part's shape. Rows and columns enter by the resampler's code alone.
//! - Parts of one picture are padded to the longest of them with zeros (a middle grey), and the mask that is meant to hide
//!   the padding shows all of it: every patch sees the padding, and the positions of a shorter part spread over the length
//!   with padding. Only the resampler is kept from it. With `batch_vision_input` false there is no padding.
//!
//! Source: `modeling_minicpmv.py` published with the model (`get_vllm_embedding`), and `Idefics2VisionEmbeddings` of
//! transformers for the rule that spreads positions. vLLM and LMDeploy do the same for this version of the model alone.

use candle_core::{DType, Device, Tensor};

use super::config::VisionConfig;
use super::error::{Error, Result};
use super::minicpm_config::MiniCpmConfig;
use super::resampler::{Resampler, ResamplerConfig};
use super::siglip::{Reach, Siglip};
use super::source::TensorSource;
use crate::image::{Rgb8, Slicing};

/// Prefix of the tower's tensors.
pub const VISION_PREFIX: &str = "vpm.";
/// Prefix of the resampler's tensors.
pub const RESAMPLER_PREFIX: &str = "resampler.";
/// Prefix of the language model's tensors, before the names that a plain Llama has.
pub const LANGUAGE_PREFIX: &str = "llm.";

/// Where the features are taken: above the last block, or above the last but one where the configuration drops it.
pub fn reach(config: &MiniCpmConfig) -> Reach {
    let dropped = usize::from(config.drop_vision_last_layer);
    Reach { blocks: config.vision.num_hidden_layers - dropped, final_norm: true }
}

/// The resampler's shape.
pub fn resampler(config: &MiniCpmConfig) -> ResamplerConfig {
    ResamplerConfig {
        queries: config.query_num,
        input: config.vision.hidden_size,
        output: config.llama.hidden_size,
    }
}

/// The parts that no merge touches.
#[derive(Debug)]
pub struct Vision {
    config: MiniCpmConfig,
    tower: Siglip,
    resampler: Resampler,
    device: Device,
}

impl Vision {
    /// Loads tower and resampler.
    ///
    /// # Errors
    /// A missing or misshapen tensor, by name.
    pub fn load(
        config: &MiniCpmConfig,
        source: &dyn TensorSource,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        Ok(Self {
            config: config.clone(),
            tower: Siglip::load(&config.vision, reach(config), source, VISION_PREFIX, dtype, device)?,
            resampler: Resampler::load(&resampler(config), source, RESAMPLER_PREFIX, dtype, device)?,
            device: device.clone(),
        })
    }

    /// Tower features of parts of one size: (N, L, W) with L patches row by row; each part is padded to `padded` patches, at
    /// least L.
    ///
    /// # Errors
    /// [`Error::Argument`] for a part whose sides are not multiples of the patch.
    pub fn tower_features(&self, parts: &[Rgb8], padded: usize) -> Result<Tensor> {
        let (rows, columns) = self.grid(parts)?;
        let patch = self.config.vision.patch_size;
        let (count, width) = (rows * columns, 3 * patch * patch);
        let padded = padded.max(count);
        let mut values = Vec::with_capacity(parts.len() * padded * width);
        for (index, part) in parts.iter().enumerate() {
            patches(part, patch, &mut values);
            values.resize((index + 1) * padded * width, 0.0);
        }
        let patches = Tensor::from_vec(values, (parts.len(), padded, width), &self.device)?;
        let features = self.tower.forward_patches(&patches, &spread(padded, &self.config.vision))?;
        Ok(features.narrow(1, 0, count)?.contiguous()?)
    }

    /// Features of parts of one size as the language model takes them: (N, Q, D); `padded` as there.
    ///
    /// # Errors
    /// As [`Vision::tower_features`].
    pub fn part_features(&self, parts: &[Rgb8], padded: usize) -> Result<Tensor> {
        let (rows, columns) = self.grid(parts)?;
        self.resampler.forward(&self.tower_features(parts, padded)?, rows, columns)
    }

    /// Patches to which all parts of a picture are padded.
    ///
    /// # Errors
    /// As [`Vision::tower_features`].
    pub fn padded(&self, parts: &[Rgb8]) -> Result<usize> {
        let mut longest = 0;
        if self.config.batch_vision_input {
            for part in parts {
                let (rows, columns) = self.grid(std::slice::from_ref(part))?;
                longest = longest.max(rows * columns);
            }
        }
        Ok(longest)
    }

    /// Features of a picture: (P, D), the whole picture's first, then those of the slices row by row; and the grid's columns
    /// and rows, if it was cut.
    ///
    /// # Errors
    /// [`Error::Argument`] for a picture too long to be resized.
    pub fn encode(&self, image: &Rgb8) -> Result<(Tensor, Option<(usize, usize)>)> {
        let (plan, parts) = self.slicing().cut(image).map_err(|e| Error::image(&e))?;
        let (whole, slices) = parts.split_at(1);
        let padded = self.padded(&parts)?;
        let mut features = vec![self.part_features(whole, padded)?.squeeze(0)?];
        if !slices.is_empty() {
            features.push(self.part_features(slices, padded)?.flatten_to(1)?);
        }
        Ok((Tensor::cat(&features, 0)?, plan.grid.map(|(grid, _)| grid)))
    }

    /// How pictures are cut.
    pub fn slicing(&self) -> Slicing {
        self.config.slicing
    }

    /// Rows and columns of patches of parts of one size.
    fn grid(&self, parts: &[Rgb8]) -> Result<(usize, usize)> {
        let patch = self.config.vision.patch_size;
        let sizes: Vec<(usize, usize)> = parts.iter().map(|p| (p.width(), p.height())).collect();
        match sizes.first() {
            Some(&(w, h)) if w % patch == 0 && h % patch == 0 && sizes.iter().all(|&s| s == (w, h)) => {
                Ok((h / patch, w / patch))
            }
            _ => Err(Error::Argument {
                what: "parts of a picture",
                expected: format!("one size, its sides multiples of {patch} pixels"),
                got: format!("{sizes:?}"),
            }),
        }
    }
}

/// Appends a part's patches, row by row: channel, then row, then column within a patch, values in [-1, 1].
fn patches(part: &Rgb8, patch: usize, out: &mut Vec<f32>) {
    let table: Vec<f32> = (0..=255u8).map(|v| (f32::from(v) / 255.0 - 0.5) / 0.5).collect();
    let (width, data) = (part.width(), part.data());
    for top in (0..part.height()).step_by(patch) {
        for left in (0..width).step_by(patch) {
            for channel in 0..3 {
                for y in top..top + patch {
                    let line = &data[(y * width + left) * 3..][..patch * 3];
                    out.extend(line.iter().skip(channel).step_by(3).map(|&v| table[usize::from(v)]));
                }
            }
        }
    }
}

/// The places of `count` patches in the table of positions, spread evenly over its first row.
///
/// In float32 as the original computes it: patch i of n is at the fraction i · (1 / n), which belongs to the last of the
/// boundaries k / g that is not above it, g patches a side of the table.
fn spread(count: usize, config: &VisionConfig) -> Vec<u32> {
    let side = config.grid();
    let unit = 1.0 / side as f64;
    let boundaries: Vec<f32> = (0..side.saturating_sub(1)).map(|k| (unit + k as f64 * unit) as f32).collect();
    let step = 1.0 / count as f32;
    (0..count)
        .map(|i| {
            let at = (i as f32 * step).min(1.0 - 1e-6);
            boundaries.partition_point(|b| *b <= at) as u32
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_spread_over_the_first_row() {
        let config = VisionConfig { image_size: 980, ..VisionConfig::so400m() };
        assert_eq!(config.grid(), 70);
        let places = spread(1024, &config);
        assert_eq!((places[0], places[512], places[1023]), (0, 35, 69));
        assert!(places.windows(2).all(|w| w[1] - w[0] <= 1));
        assert_eq!(spread(1, &config), [0]);
        assert_eq!(spread(3, &config), [0, 23, 46]);
        let tiny = VisionConfig { image_size: 14, ..config };
        assert_eq!(spread(4, &tiny), [0; 4]);
    }

    #[test]
    fn patches_are_channel_row_column() {
        let image = Rgb8::new(4, 2, (0..24).collect()).expect("sizes agree");
        let mut values = Vec::new();
        patches(&image, 2, &mut values);
        let bytes: Vec<u8> = values.iter().map(|v| ((v * 0.5 + 0.5) * 255.0).round() as u8).collect();
        assert_eq!(bytes[..12], [0, 3, 12, 15, 1, 4, 13, 16, 2, 5, 14, 17]);
        assert_eq!(bytes[12..16], [6, 9, 18, 21]);
    }
}
