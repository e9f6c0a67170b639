//! The SigLIP vision tower, up to the block that a model takes its features from.
//!
//! Patch embedding without padding, learned positions, pre-norm blocks, tanh GELU, attention with softmax in float32. What
//! lies above a model's features (the last block for Bunny, the pooling head for all) is never loaded.
//!
//! Source: transformers' `modeling_siglip.py`, and `modeling_idefics2.py` for pictures that are not the tower's square.

use candle_core::{D, DType, Device, Tensor};

use super::config::VisionConfig;
use super::error::{Error, Result};
use super::llama::linear;
use super::source::{TensorSource, fetch};

/// Most memory that one block's attention scores may take, in bytes; tiles beyond it run in a further pass.
const SCORE_BYTES: usize = 256 << 20;

/// How far up a tower its features are taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// Blocks that are run.
    pub blocks: usize,
    /// Whether the norm above the last block (`post_layernorm`) is applied to what they give.
    pub final_norm: bool,
}

/// Of `tiles` tiles of `cells` patches, how many run together, so that attention scores stay within a bound.
pub fn tiles_at_once(config: &VisionConfig, cells: usize, tiles: usize) -> usize {
    let each = config.num_attention_heads * cells * cells * DType::F32.size_in_bytes();
    (SCORE_BYTES / each.max(1)).clamp(1, tiles.max(1))
}

/// The tower's weights and shape.
#[derive(Debug)]
pub struct Siglip {
    config: VisionConfig,
    patch: Linear,
    positions: Tensor,
    blocks: Vec<Block>,
    final_norm: Option<Norm>,
    dtype: DType,
}

/// Names and shapes that [`Siglip::load`] reads.
pub fn expected_parameters(config: &VisionConfig, reach: Reach, prefix: &str) -> Vec<(String, Vec<usize>)> {
    let (w, p, f) = (config.hidden_size, config.patch_size, config.intermediate_size);
    let mut list = Vec::new();
    let mut both = |name: String, weight: Vec<usize>, bias: usize| {
        list.push((format!("{prefix}{name}.weight"), weight));
        list.push((format!("{prefix}{name}.bias"), vec![bias]));
    };
    both("embeddings.patch_embedding".into(), vec![w, 3, p, p], w);
    for index in 0..reach.blocks {
        let name = |part: &str| format!("encoder.layers.{index}.{part}");
        for part in ["layer_norm1", "layer_norm2"] {
            both(name(part), vec![w], w);
        }
        for part in ["q_proj", "k_proj", "v_proj", "out_proj"] {
            both(name(&format!("self_attn.{part}")), vec![w, w], w);
        }
        both(name("mlp.fc1"), vec![f, w], f);
        both(name("mlp.fc2"), vec![w, f], w);
    }
    if reach.final_norm {
        both("post_layernorm".into(), vec![w], w);
    }
    let cells = config.grid() * config.grid();
    list.push((format!("{prefix}embeddings.position_embedding.weight"), vec![cells, w]));
    list
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

    /// A map of matrices that were loaded elsewhere.
    pub(super) fn of(weight: Tensor, bias: Tensor) -> Self {
        Self { weight, bias }
    }

    /// Bytes of weight and bias.
    pub(super) fn bytes(&self) -> usize {
        [&self.weight, &self.bias].iter().map(|t| t.elem_count() * t.dtype().size_in_bytes()).sum()
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
pub(super) struct Norm {
    weight: Tensor,
    bias: Tensor,
    eps: f32,
}

impl Norm {
    /// Loads `name.weight` and `name.bias`.
    pub(super) fn load(
        source: &dyn TensorSource,
        name: &str,
        width: usize,
        eps: f64,
        device: &Device,
    ) -> Result<Self> {
        Ok(Self {
            weight: fetch(source, &format!("{name}.weight"), &[width], DType::F32, device)?,
            bias: fetch(source, &format!("{name}.bias"), &[width], DType::F32, device)?,
            eps: eps as f32,
        })
    }

    /// Normalises the last axis.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
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
        reach: Reach,
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
        let blocks = (0..reach.blocks)
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
        let norm = format!("{prefix}post_layernorm");
        let norm = || Norm::load(source, &norm, w, config.layer_norm_eps, device);
        let final_norm = reach.final_norm.then(norm).transpose()?;
        Ok(Self { config: config.clone(), patch, positions, blocks, final_norm, dtype })
    }

    /// Bytes of all weights.
    pub fn bytes(&self) -> usize {
        let size = |t: &Tensor| t.elem_count() * t.dtype().size_in_bytes();
        let norm = |n: &Norm| size(&n.weight) + size(&n.bias);
        let blocks = self.blocks.iter().map(|b| {
            let maps = [&b.query, &b.key, &b.value, &b.output, &b.fc1, &b.fc2];
            maps.iter().map(|l| l.bytes()).sum::<usize>() + norm(&b.norm1) + norm(&b.norm2)
        });
        let ends = self.patch.bytes() + size(&self.positions) + self.final_norm.as_ref().map_or(0, norm);
        ends + blocks.sum::<usize>()
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
        let step = tiles_at_once(c, c.grid() * c.grid(), n);
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
        self.blocks(self.patch.forward(&patches)?.broadcast_add(&self.positions)?)
    }

    /// Features of pictures cut into patches already, each patch at a place of the table of positions.
    ///
    /// # Shapes
    /// `patches` (N, L, 3 p p), channel, then row, then column within a patch; `positions` L rows of the table; the
    /// result (N, L, W).
    ///
    /// # Errors
    /// [`Error::Argument`] for another shape.
    pub fn forward_patches(&self, patches: &Tensor, positions: &[u32]) -> Result<Tensor> {
        let (n, l, values) = patches.dims3()?;
        let p = self.config.patch_size;
        let cells = self.positions.dim(0)?;
        if n == 0
            || l != positions.len()
            || values != 3 * p * p
            || positions.iter().any(|&i| i as usize >= cells)
        {
            return Err(Error::Argument {
                what: "patches",
                expected: format!("(N, {}, {}) at positions below {cells}", positions.len(), 3 * p * p),
                got: format!("{:?}", patches.dims()),
            });
        }
        let positions = Tensor::new(positions, self.positions.device())?;
        let positions = self.positions.index_select(&positions, 0)?;
        let step = tiles_at_once(&self.config, l, n);
        let parts = (0..n)
            .step_by(step)
            .map(|from| {
                let patches = patches.narrow(0, from, step.min(n - from))?.to_dtype(self.dtype)?;
                self.blocks(self.patch.forward(&patches)?.broadcast_add(&positions)?)
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(if parts.len() == 1 { parts[0].clone() } else { Tensor::cat(&parts, 0)? })
    }

    /// Runs the blocks in use over embedded patches (N, L, W).
    fn blocks(&self, mut hidden: Tensor) -> Result<Tensor> {
        for block in &self.blocks {
            hidden = (&hidden + self.attend(block, &block.norm1.forward(&hidden)?)?)?;
            let inner = block.fc1.forward(&block.norm2.forward(&hidden)?)?.gelu()?;
            hidden = (hidden + block.fc2.forward(&inner)?)?;
        }
        match &self.final_norm {
            Some(norm) => norm.forward(&hidden),
            None => Ok(hidden),
        }
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
