//! The SigLIP vision tower up to the layer before the last.
//!
//! Patch embedding without padding, learned positions, pre-norm blocks, tanh GELU, attention with softmax in float32. The
//! feature is the output of the last block but one; the last block, the final norm and the pooling head are never loaded.
//!
//! Source: transformers' `modeling_siglip.py`; the choice of layer is Bunny's (`select_layer = -2`).

use candle_core::{D, DType, Device, Tensor};

use super::config::VisionConfig;
use super::error::{Error, Result};
use super::llama::linear;
use super::source::{TensorSource, fetch};

/// Most memory that one block's attention scores may take, in bytes; tiles beyond it run in a further pass.
const SCORE_BYTES: usize = 256 << 20;

/// The tower's weights and shape.
#[derive(Debug)]
pub struct Siglip {
    config: VisionConfig,
    patch: Linear,
    positions: Tensor,
    blocks: Vec<Block>,
    dtype: DType,
}

/// A linear map with bias: weight (out, in), bias (out).
#[derive(Debug)]
pub(super) struct Linear {
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    /// Loads `name.weight` and `name.bias`.
    pub(super) fn load(
        source: &dyn TensorSource,
        name: &str,
        (out, input): (usize, usize),
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        Ok(Self {
            weight: fetch(source, &format!("{name}.weight"), &[out, input], dtype, device)?,
            bias: fetch(source, &format!("{name}.bias"), &[out], dtype, device)?,
        })
    }

    /// Applies the map to (.., in).
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(linear(x, &self.weight)?.broadcast_add(&self.bias)?)
    }
}

#[derive(Debug)]
struct Block {
    norm1: Norm,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    norm2: Norm,
    fc1: Linear,
    fc2: Linear,
}

/// LayerNorm in float32 whatever the dtype around it.
#[derive(Debug)]
struct Norm {
    weight: Tensor,
    bias: Tensor,
    eps: f32,
}

impl Norm {
    fn load(source: &dyn TensorSource, name: &str, width: usize, eps: f64, device: &Device) -> Result<Self> {
        Ok(Self {
            weight: fetch(source, &format!("{name}.weight"), &[width], DType::F32, device)?,
            bias: fetch(source, &format!("{name}.bias"), &[width], DType::F32, device)?,
            eps: eps as f32,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = candle_nn::ops::layer_norm(&x.to_dtype(DType::F32)?, &self.weight, &self.bias, self.eps)?;
        Ok(y.to_dtype(x.dtype())?)
    }
}

impl Siglip {
    /// Loads the blocks in use from names that begin with `prefix`, such as `vision_model.`.
    ///
    /// # Errors
    /// [`Error::MissingTensor`] or [`Error::Shape`] with the tensor's name, or what source and device report.
    pub fn load(
        config: &VisionConfig,
        source: &dyn TensorSource,
        prefix: &str,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let (w, p, f) = (config.hidden_size, config.patch_size, config.intermediate_size);
        let cells = config.grid() * config.grid();
        let name = format!("{prefix}embeddings.patch_embedding");
        let patch = Linear {
            weight: fetch(source, &format!("{name}.weight"), &[w, 3, p, p], dtype, device)?
                .reshape((w, 3 * p * p))?,
            bias: fetch(source, &format!("{name}.bias"), &[w], dtype, device)?,
        };
        let name = format!("{prefix}embeddings.position_embedding.weight");
        let positions = fetch(source, &name, &[cells, w], dtype, device)?;
        let blocks = (0..config.num_hidden_layers - 1)
            .map(|index| {
                let name = |part: &str| format!("{prefix}encoder.layers.{index}.{part}");
                let square = |part: &str| Linear::load(source, &name(part), (w, w), dtype, device);
                let norm = |part: &str| Norm::load(source, &name(part), w, config.layer_norm_eps, device);
                Ok(Block {
                    norm1: norm("layer_norm1")?,
                    query: square("self_attn.q_proj")?,
                    key: square("self_attn.k_proj")?,
                    value: square("self_attn.v_proj")?,
                    output: square("self_attn.out_proj")?,
                    norm2: norm("layer_norm2")?,
                    fc1: Linear::load(source, &name("mlp.fc1"), (f, w), dtype, device)?,
                    fc2: Linear::load(source, &name("mlp.fc2"), (w, f), dtype, device)?,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self { config: config.clone(), patch, positions, blocks, dtype })
    }

    /// The tower's shape.
    pub fn config(&self) -> &VisionConfig {
        &self.config
    }

    /// Features of tiles: (N, 3, S, S) of any dtype to (N, g g, W), g patches a side.
    ///
    /// # Errors
    /// [`Error::Argument`] for tiles of another shape.
    pub fn forward(&self, tiles: &Tensor) -> Result<Tensor> {
        let c = &self.config;
        let (n, channels, height, width) = tiles.dims4()?;
        if n == 0 || channels != 3 || height != c.image_size || width != c.image_size {
            return Err(Error::Argument {
                what: "tiles",
                expected: format!("(N, 3, {0}, {0})", c.image_size),
                got: format!("{:?}", tiles.dims()),
            });
        }
        let cells = c.grid() * c.grid();
        let each = c.num_attention_heads * cells * cells * DType::F32.size_in_bytes();
        let step = (SCORE_BYTES / each).clamp(1, n);
        let parts = (0..n)
            .step_by(step)
            .map(|from| self.pass(&tiles.narrow(0, from, step.min(n - from))?))
            .collect::<Result<Vec<_>>>()?;
        Ok(if parts.len() == 1 { parts[0].clone() } else { Tensor::cat(&parts, 0)? })
    }

    fn pass(&self, tiles: &Tensor) -> Result<Tensor> {
        let (g, p) = (self.config.grid(), self.config.patch_size);
        let n = tiles.dim(0)?;
        // A convolution whose stride is its size is a product over patches; what does not fill a patch is cropped.
        let patches = tiles
            .to_dtype(self.dtype)?
            .narrow(2, 0, g * p)?
            .narrow(3, 0, g * p)?
            .contiguous()?
            .reshape((n * 3, g, p, g * p))?
            .reshape((n, 3, g, p, g, p))?
            .permute((0, 2, 4, 1, 3, 5))?
            .contiguous()?
            .reshape((n, g * g, 3 * p * p))?;
        let mut hidden = self.patch.forward(&patches)?.broadcast_add(&self.positions)?;
        for block in &self.blocks {
            hidden = (&hidden + self.attend(block, &block.norm1.forward(&hidden)?)?)?;
            let inner = block.fc1.forward(&block.norm2.forward(&hidden)?)?.gelu()?;
            hidden = (hidden + block.fc2.forward(&inner)?)?;
        }
        Ok(hidden)
    }

    fn attend(&self, block: &Block, x: &Tensor) -> Result<Tensor> {
        let (n, cells, w) = x.dims3()?;
        let heads = self.config.num_attention_heads;
        let e = w / heads;
        let split = |x: Tensor| x.reshape((n, cells, heads, e))?.transpose(1, 2)?.contiguous();
        let query = split((block.query.forward(x)? * (e as f64).powf(-0.5))?)?;
        let key = split(block.key.forward(x)?)?;
        let value = split(block.value.forward(x)?)?;
        let scores = query.matmul(&key.t()?)?.to_dtype(DType::F32)?;
        let weights = candle_nn::ops::softmax_last_dim(&scores)?.to_dtype(x.dtype())?;
        let mixed = weights.matmul(&value)?.transpose(1, 2)?.reshape((n, cells, w))?;
        debug_assert_eq!(mixed.dim(D::Minus1)?, w);
        block.output.forward(&mixed)
    }
}
