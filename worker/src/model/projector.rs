//! The projector: two linear maps with an exact (erf) GELU between, from tower features to the language model.
//!
//! Source: Bunny's `build_vision_projector`, type `mlp2x_gelu`; index 1 of the file's names is the activation.

use candle_core::{DType, Device, Tensor};

use super::error::Result;
use super::siglip::Linear;
use super::source::TensorSource;

/// The projector's weights.
#[derive(Debug)]
pub struct Projector {
    first: Linear,
    second: Linear,
}

impl Projector {
    /// Loads `{prefix}0.*` and `{prefix}2.*`, from `input` to `output` channels.
    ///
    /// # Errors
    /// A missing or misshapen tensor, by name.
    pub fn load(
        source: &dyn TensorSource,
        prefix: &str,
        (input, output): (usize, usize),
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        Ok(Self {
            first: Linear::load(source, &format!("{prefix}0"), (output, input), dtype, device)?,
            second: Linear::load(source, &format!("{prefix}2"), (output, output), dtype, device)?,
        })
    }

    /// Bytes of all weights.
    pub fn bytes(&self) -> usize {
        self.first.bytes() + self.second.bytes()
    }

    /// (P, K W) to (P, D).
    ///
    /// # Errors
    /// If the width is another.
    pub fn forward(&self, features: &Tensor) -> Result<Tensor> {
        self.second.forward(&self.first.forward(features)?.gelu_erf()?)
    }
}

/// Names and shapes that [`Projector::load`] reads.
pub fn expected_parameters(prefix: &str, (input, output): (usize, usize)) -> Vec<(String, Vec<usize>)> {
    vec![
        (format!("{prefix}0.weight"), vec![output, input]),
        (format!("{prefix}0.bias"), vec![output]),
        (format!("{prefix}2.weight"), vec![output, output]),
        (format!("{prefix}2.bias"), vec![output]),
    ]
}
