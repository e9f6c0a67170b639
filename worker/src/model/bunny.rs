//! Bunny's vision: a SigLIP tower and a projector, with (v1.1) or without (v1.0) S2.
//!
//! Source: Bunny's GitHub code, `bunny_arch.py` (`prepare_inputs_labels_for_multimodal`) and `siglip_encoder.py`.

use candle_core::{DType, Device, Tensor};

use super::config::BunnyConfig;
use super::error::{Error, Result};
use super::projector::Projector;
use super::s2;
use super::siglip::{Reach, Siglip};
use super::source::TensorSource;

/// Prefix of the tower's tensors; the doubled part is in the published files.
pub const VISION_PREFIX: &str = "model.vision_tower.vision_tower.vision_model.";
/// Prefix of the projector's tensors.
pub const PROJECTOR_PREFIX: &str = "model.mm_projector.";

/// Where the features are taken: the output of the last block but one, without the norm above (`select_layer = -2`).
pub fn reach(config: &BunnyConfig) -> Reach {
    Reach { blocks: config.vision.num_hidden_layers - 1, final_norm: false }
}

/// The parts that no merge touches.
#[derive(Debug)]
pub struct Vision {
    config: BunnyConfig,
    tower: Siglip,
    projector: Projector,
    device: Device,
}

impl Vision {
    /// Loads tower and projector.
    ///
    /// # Errors
    /// A missing or misshapen tensor, by name.
    pub fn load(
        config: &BunnyConfig,
        source: &dyn TensorSource,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let widths = (config.mm_hidden_size, config.llama.hidden_size);
        Ok(Self {
            config: config.clone(),
            tower: Siglip::load(&config.vision, reach(config), source, VISION_PREFIX, dtype, device)?,
            projector: Projector::load(source, PROJECTOR_PREFIX, widths, dtype, device)?,
            device: device.clone(),
        })
    }

    /// Bytes of all weights.
    pub fn bytes(&self) -> usize {
        self.tower.bytes() + self.projector.bytes()
    }

    /// Tower features before the projector: pixels (3, S, S) to (P, K W).
    ///
    /// # Errors
    /// [`Error::Argument`] for pixels of another shape.
    pub fn tower_features(&self, pixels: &Tensor) -> Result<Tensor> {
        let size = self.config.input_size();
        if pixels.dims() != [3, size, size] {
            return Err(Error::Argument {
                what: "pixels",
                expected: format!("(3, {size}, {size})"),
                got: format!("{:?}", pixels.dims()),
            });
        }
        let base = self.config.vision.image_size;
        let scales = self.config.s2_scales.as_deref().unwrap_or(std::slice::from_ref(&base));
        // Resizing is done on the host; all scales' tiles then go through the tower together.
        let host = pixels.to_device(&Device::Cpu)?;
        let stacks = scales
            .iter()
            .map(|&scale| s2::tiles(&s2::resize_bicubic(&host, scale)?, base))
            .collect::<Result<Vec<_>>>()?;
        let tiles = Tensor::cat(&stacks, 0)?.to_device(&self.device)?;
        let maps = self.tower.forward(&tiles)?;
        let mut from = 0;
        let mut parts = Vec::with_capacity(scales.len());
        for stack in &stacks {
            let count = stack.dim(0)?;
            parts.push(s2::merge_and_shrink(&maps.narrow(0, from, count)?)?);
            from += count;
        }
        Ok(Tensor::cat(&parts, 1)?.contiguous()?)
    }

    /// Image features as the language model takes them: pixels (3, S, S) to (P, D).
    ///
    /// # Errors
    /// As [`Vision::tower_features`].
    pub fn encode(&self, pixels: &Tensor) -> Result<Tensor> {
        self.projector.forward(&self.tower_features(pixels)?)
    }
}
