//! Bunny-Llama-3 v1.0 and v1.1 as a family: one picture, 729 features between two texts.

use candle_core::{DType, Device, Tensor};

use super::family::{Encoded, Slices, VisionEncoder, VisionLanguageModel};
use crate::generate::{self, TextTokenizer, bunny_prompt};
use crate::image::{Preprocess, Rgb8};
use crate::memory::VisionNeeds;
use crate::model::bunny::{PROJECTOR_PREFIX, VISION_PREFIX, Vision, reach};
use crate::model::{BunnyConfig, Error, LlamaConfig, Prompt, Result, TensorSource, projector, siglip};

/// A Bunny's configuration.
#[derive(Clone, Debug)]
pub struct Bunny {
    config: BunnyConfig,
}

impl Bunny {
    /// Reads a configuration given as text; `file` is used in errors only.
    ///
    /// # Errors
    /// [`Error::Json`] or [`Error::Config`].
    pub fn from_json(text: &str, file: &str) -> Result<Self> {
        Ok(Self { config: BunnyConfig::from_json(text, file)? })
    }
}

impl VisionLanguageModel for Bunny {
    fn family(&self) -> &'static str {
        "Bunny-Llama-3"
    }

    fn language(&self) -> &LlamaConfig {
        &self.config.llama
    }

    fn vision_parameters(&self) -> Vec<(String, Vec<usize>)> {
        let c = &self.config;
        let mut list = siglip::expected_parameters(&c.vision, reach(c), VISION_PREFIX);
        list.extend(projector::expected_parameters(
            PROJECTOR_PREFIX,
            (c.mm_hidden_size, c.llama.hidden_size),
        ));
        list
    }

    fn load_vision(
        &self,
        source: &dyn TensorSource,
        dtype: DType,
        device: &Device,
    ) -> Result<Box<dyn VisionEncoder>> {
        let vision = Vision::load(&self.config, source, dtype, device)?;
        let size = self.config.input_size();
        let prepare = Preprocess { pre_resize: None, pad: self.config.pad, size };
        Ok(Box::new(Encoder { vision, prepare, device: device.clone() }))
    }

    fn vision_needs(&self, dtype: DType, stored: usize) -> VisionNeeds {
        VisionNeeds::bunny(&self.config, &self.vision_parameters(), dtype, stored)
    }

    fn slices(&self, _width: usize, _height: usize) -> Result<Slices> {
        Ok(Slices::NONE)
    }

    fn most_slices(&self) -> Slices {
        Slices::NONE
    }

    fn image_tokens(&self, _slices: Slices) -> usize {
        self.config.image_tokens()
    }

    fn prompt(&self, tokenizer: &TextTokenizer, task: &str, _slices: Slices) -> generate::Result<Prompt> {
        bunny_prompt(tokenizer, task, self.config.bos_token_id, self.config.image_tokens())
    }

    fn end_ids(&self, _tokenizer: &TextTokenizer, named: Option<Vec<u32>>) -> generate::Result<Vec<u32>> {
        Ok(named.unwrap_or_else(|| self.config.eos_token_ids.clone()))
    }
}

/// Tower and projector with how pictures are prepared for them.
#[derive(Debug)]
struct Encoder {
    vision: Vision,
    prepare: Preprocess,
    device: Device,
}

impl VisionEncoder for Encoder {
    fn encode(&self, image: &Rgb8) -> Result<Encoded> {
        let size = self.prepare.size;
        let pixels = self.prepare.apply(image).map_err(|e| Error::image(&e))?;
        let pixels = Tensor::from_vec(pixels, (3, size, size), &self.device)?;
        Ok(Encoded { features: self.vision.encode(&pixels)?, slices: Slices::NONE })
    }
}
