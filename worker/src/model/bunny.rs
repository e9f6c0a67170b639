//! Bunny: a SigLIP tower, a projector and a Llama, with (v1.1) or without (v1.0) S2.
//!
//! The image's features go between the embeddings of the text before and after it, with no mark around them.
//!
//! Source: Bunny's GitHub code, `bunny_arch.py` (`prepare_inputs_labels_for_multimodal`) and `siglip_encoder.py`.

use candle_core::{DType, Device, Tensor};

use super::config::BunnyConfig;
use super::error::{Error, Result};
use super::llama::Llama;
use super::projector::Projector;
use super::s2;
use super::siglip::Siglip;
use super::source::TensorSource;
use super::{Prompt, VisionLanguageModel};
use crate::image::Preprocess;

/// Prefix of the tower's tensors; the doubled part is in the published files.
pub const VISION_PREFIX: &str = "model.vision_tower.vision_tower.vision_model.";
/// Prefix of the projector's tensors.
pub const PROJECTOR_PREFIX: &str = "model.mm_projector.";

/// A Bunny model.
#[derive(Debug)]
pub struct Bunny {
    config: BunnyConfig,
    vision: Option<Vision>,
    language: Llama,
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
            tower: Siglip::load(&config.vision, source, VISION_PREFIX, dtype, device)?,
            projector: Projector::load(source, PROJECTOR_PREFIX, widths, dtype, device)?,
            device: device.clone(),
        })
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

impl Bunny {
    /// Builds the whole model from one source of tensors.
    ///
    /// # Errors
    /// A missing or misshapen tensor, by name; or what source and device report.
    pub fn load(
        config: &BunnyConfig,
        source: &dyn TensorSource,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let vision = Vision::load(config, source, dtype, device)?;
        let language = Llama::load(&config.llama, source, dtype, device)?;
        Ok(Self { config: config.clone(), vision: Some(vision), language })
    }

    /// Joins parts that were built apart; without vision, features must come from elsewhere.
    pub fn from_parts(config: BunnyConfig, vision: Option<Vision>, language: Llama) -> Self {
        Self { config, vision, language }
    }

    /// The configuration.
    pub fn config(&self) -> &BunnyConfig {
        &self.config
    }

    /// Tower and projector, unless dropped.
    pub fn vision(&self) -> Option<&Vision> {
        self.vision.as_ref()
    }
}

impl VisionLanguageModel for Bunny {
    fn preprocess(&self) -> Preprocess {
        Preprocess { pre_resize: None, pad: self.config.pad, size: self.config.input_size() }
    }

    fn encode_image(&self, pixels: &Tensor) -> Result<Tensor> {
        self.vision.as_ref().ok_or(Error::NoVision)?.encode(pixels)
    }

    fn drop_vision(&mut self) {
        self.vision = None;
    }

    fn image_tokens(&self) -> usize {
        self.config.image_tokens()
    }

    fn embed_shared(&self, prompt: &Prompt) -> Result<Tensor> {
        Ok(self.language.embed(&prompt.before)?.unsqueeze(0)?)
    }

    fn embed_rest(&self, prompt: &Prompt, features: &Tensor) -> Result<Tensor> {
        let (b, p, d) = features.dims3()?;
        if p != self.image_tokens() || d != self.config.llama.hidden_size {
            return Err(Error::Argument {
                what: "image features",
                expected: format!("(B, {}, {})", self.image_tokens(), self.config.llama.hidden_size),
                got: format!("{:?}", features.dims()),
            });
        }
        let features = features.to_device(self.device())?.to_dtype(self.language.dtype())?;
        if prompt.after.is_empty() {
            return Ok(features);
        }
        let after = self.language.embed(&prompt.after)?;
        let after = after.unsqueeze(0)?.broadcast_as((b, prompt.after.len(), d))?;
        Ok(Tensor::cat(&[&features, &after.contiguous()?], 1)?)
    }

    fn language(&self) -> &Llama {
        &self.language
    }
}
