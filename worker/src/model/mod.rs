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
//! The parts here know nothing of each other; `vlm` puts them together, one family of models a file. A further family has
//! its own tower and features, over the same [`Llama`].

mod attention;
pub mod bunny;
pub mod cache;
pub mod config;
#[cfg(test)]
mod config_tests;
pub mod error;
#[cfg(any(feature = "cuda", test))]
mod gpu;
mod kernels;
pub mod llama;
pub mod minicpm;
pub mod minicpm_config;
#[cfg(target_arch = "x86_64")]
mod product;
pub mod projector;
mod prompt;
pub mod resampler;
pub mod s2;
pub mod siglip;
pub mod source;
pub mod weights;
mod widen;

pub use cache::KvCache;
pub use config::{BunnyConfig, LlamaConfig, VisionConfig, eos_from_generation_config};
pub use error::{Error, Result};
pub use llama::{Kernels, Llama, Passes};
pub use minicpm_config::MiniCpmConfig;
pub use prompt::{Piece, Prompt};
pub use source::TensorSource;
pub use weights::{LlamaWeights, expected_parameters};

use candle_core::Tensor;

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

    /// The rows of these numbers, ascending; without a gap between them they share storage, else they are copied.
    ///
    /// # Errors
    /// If there is none, or one is outside.
    pub fn pick(&self, numbers: &[usize]) -> Result<Tensor> {
        let (Some(first), Some(last)) = (numbers.first(), numbers.last()) else {
            let expected = "at least one row".into();
            return Err(Error::Argument { what: "image features", expected, got: "none".into() });
        };
        if last - first + 1 == numbers.len() {
            return Ok(self.0.narrow(0, *first, numbers.len())?);
        }
        let (count, numbers) = (numbers.len(), numbers.iter().map(|n| *n as u32).collect());
        let numbers = Tensor::from_vec(numbers, count, self.0.device())?;
        Ok(self.0.index_select(&numbers, 0)?)
    }
}
