//! Vision-language models: from pixels and token ids to logits.
//!
//! In: tensors by name (a [`TensorSource`]), a checked configuration, pixels and token ids. Out: image features, hidden
//! states, logits. This module opens no weight file, knows no merge method and chooses no token.
//!
//! # Shapes
//! Letters used throughout:
//!
//! | letter | meaning |
//! |---|---|
//! | B | rows: samples that run together |
//! | L | positions of one pass |
//! | T | positions attended to, cached ones included |
//! | D | hidden size of the language model |
//! | Q, H, G | query heads, key and value heads, and their ratio Q / H |
//! | E | size of one head |
//! | F | feed-forward width |
//! | V | vocabulary |
//! | I | images |
//! | P | positions that one image takes |
//! | W | width of the vision tower; K scales give K W |
//! | N | tiles: squares of the tower's input size |
//!
//! Tensors are contiguous unless said otherwise. Weights are (out, in), as in the files.
//!
//! # Another model
//! A further VLM implements [`VisionLanguageModel`]: its own tower and features, over the same [`Llama`].

mod attention;
pub mod bunny;
pub mod cache;
pub mod config;
#[cfg(test)]
mod config_tests;
pub mod error;
mod kernels;
pub mod llama;
pub mod projector;
pub mod s2;
pub mod siglip;
pub mod source;
pub mod weights;

pub use bunny::Bunny;
pub use cache::KvCache;
pub use config::{BunnyConfig, LlamaConfig, VisionConfig, eos_from_generation_config};
pub use error::{Error, Result};
pub use llama::Llama;
pub use source::TensorSource;
pub use weights::LlamaWeights;

use candle_core::{Device, Tensor};

use crate::image::Preprocess;

/// A prompt in token ids, cut where the image goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// Ids before the image, the begin-of-text id included.
    pub before: Vec<u32>,
    /// Ids after the image.
    pub after: Vec<u32>,
}

impl Prompt {
    /// Positions that the prompt takes around an image of `image_tokens` positions.
    pub fn positions(&self, image_tokens: usize) -> usize {
        self.before.len() + image_tokens + self.after.len()
    }
}

/// Image features of a set of samples, kept for every candidate: merging changes neither tower nor projector.
///
/// # Shapes
/// (I, P, D) in the model's dtype, on its device.
#[derive(Clone, Debug)]
pub struct Features(Tensor);

impl Features {
    /// Wraps features that were computed earlier.
    ///
    /// # Errors
    /// [`Error::Argument`] unless the tensor has three axes.
    pub fn new(tensor: Tensor) -> Result<Self> {
        if tensor.rank() != 3 {
            return Err(Error::Argument {
                what: "image features",
                expected: "three axes".into(),
                got: format!("{:?}", tensor.dims()),
            });
        }
        Ok(Self(tensor.contiguous()?))
    }

    /// Joins single images' features, each (P, D), in order.
    ///
    /// # Errors
    /// If the list is empty or the shapes differ.
    pub fn stack(images: &[Tensor]) -> Result<Self> {
        Self::new(Tensor::stack(images, 0)?)
    }

    /// The number of images I.
    pub fn len(&self) -> usize {
        self.0.dims().first().copied().unwrap_or(0)
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The tensor (I, P, D).
    pub fn tensor(&self) -> &Tensor {
        &self.0
    }

    /// Rows `start .. start + len`, sharing storage.
    ///
    /// # Errors
    /// If the range is outside.
    pub fn rows(&self, start: usize, len: usize) -> Result<Tensor> {
        Ok(self.0.narrow(0, start, len)?)
    }
}

/// What generation needs of a model that reads an image and writes text.
pub trait VisionLanguageModel: Send + Sync {
    /// How a decoded image is prepared; `pre_resize` is left to the run.
    fn preprocess(&self) -> Preprocess;

    /// Features of one prepared image: (3, S, S) float32 pixels, S from [`Self::preprocess`], to (P, D).
    ///
    /// # Errors
    /// [`Error::NoVision`] after [`Self::drop_vision`]; [`Error::Argument`] for other shapes.
    fn encode_image(&self, pixels: &Tensor) -> Result<Tensor>;

    /// Frees the tower and the projector's memory; features computed earlier stay usable.
    fn drop_vision(&mut self);

    /// The positions P of one image.
    fn image_tokens(&self) -> usize;

    /// Embeddings of the part of the prompt that all samples share: (1, L, D), L possibly zero.
    ///
    /// # Errors
    /// [`Error::Argument`] for an id outside the vocabulary.
    fn embed_shared(&self, prompt: &Prompt) -> Result<Tensor>;

    /// Embeddings of the rest, for the images given: features (B, P, D) to (B, L, D).
    ///
    /// # Errors
    /// [`Error::Argument`] for an id outside the vocabulary or features of another shape.
    fn embed_rest(&self, prompt: &Prompt, features: &Tensor) -> Result<Tensor>;

    /// The language model.
    fn language(&self) -> &Llama;

    /// Where the model's tensors are.
    fn device(&self) -> &Device {
        self.language().device()
    }

    /// Features of several decoded images; `pre_resize` as in [`Preprocess`].
    ///
    /// # Errors
    /// What preparing and encoding report.
    fn encode_rgb(
        &self,
        images: &[crate::image::Rgb8],
        pre_resize: Option<(usize, usize)>,
    ) -> Result<Features> {
        let prepare = Preprocess { pre_resize, ..self.preprocess() };
        let encoded = images
            .iter()
            .map(|image| {
                let pixels = prepare.apply(image).map_err(|e| Error::Argument {
                    what: "image",
                    expected: "a picture that can be resized".into(),
                    got: e.to_string(),
                })?;
                let pixels = Tensor::from_vec(pixels, (3, prepare.size, prepare.size), self.device())?;
                self.encode_image(&pixels)
            })
            .collect::<Result<Vec<_>>>()?;
        Features::stack(&encoded)
    }
}
