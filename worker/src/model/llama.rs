//! The language model: a Llama over embeddings, with a key-value cache taken once.
//!
//! Three equal implementations of what lies between the products with weights: fused kernels for float32 on the CPU (`kernels.rs`),
//! kernels for a GPU (`gpu`), and single operations (`attention.rs`) for everything else. Positions are the same for all rows
//! of a batch, so there is no padding.
//!
//! Source: transformers' `modeling_llama.py`; Llama 3 uses it unchanged.

use std::sync::Arc;

use candle_core::{D, DType, Device, Tensor};

use super::attention::{self, Rotary};
use super::cache::{KeyLayout, KvCache};
use super::config::LlamaConfig;
use super::error::{Error, Result};
#[cfg(any(feature = "cuda", test))]
use super::gpu::Gpu;
use super::kernels::{Argmax, Attend, Heads, NON_FINITE, SiluMul, StoreKeys, StoreValues};
#[cfg(target_arch = "x86_64")]
use super::product;
use super::source::TensorSource;
use super::weights::LlamaWeights;

/// Which implementation runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kernels {
    /// Fused for float32 on the CPU and on a GPU, single operations otherwise.
    #[default]
    Auto,
    /// Single operations always: the plain statement that the fused kernels are compared with.
    Plain,
}

/// How passes are computed, for who has to know what they hold meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passes {
    /// By fused kernels on the CPU, which never have scores in memory.
    Fused,
    /// By kernels on a GPU, which have scores once, in the model's type.
    Gpu,
    /// By single operations.
    Plain,
}

impl Passes {
    /// Of a model in that type with those kernels.
    pub fn of(kernels: Kernels, dtype: DType, on_gpu: bool) -> Passes {
        match (kernels, on_gpu, dtype) {
            (Kernels::Auto, true, _) => Passes::Gpu,
            (Kernels::Auto, false, DType::F32) => Passes::Fused,
            _ => Passes::Plain,
        }
    }
}

/// A Llama and its weights.
#[derive(Debug)]
pub struct Llama {
    config: LlamaConfig,
    weights: LlamaWeights,
    path: Path,
}

#[derive(Debug)]
enum Path {
    Fused(Arc<Heads>),
    #[cfg(any(feature = "cuda", test))]
    Gpu(Gpu),
    Plain(Rotary),
}

impl Llama {
    /// Builds the model from a source of tensors; the weights are copied.
    ///
    /// # Errors
    /// As [`LlamaWeights::load`].
    pub fn load(
        config: &LlamaConfig,
        source: &dyn TensorSource,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        Self::new(config.clone(), LlamaWeights::load(config, source, dtype, device)?, Kernels::Auto)
    }

    /// Builds the model over weights that exist.
    ///
    /// # Errors
    /// If the rotary tables cannot be stored.
    pub fn new(config: LlamaConfig, weights: LlamaWeights, kernels: Kernels) -> Result<Self> {
        #[cfg(feature = "cuda")]
        if kernels == Kernels::Auto && weights.device().is_cuda() {
            let gpu = Gpu::new(&config, weights.dtype(), weights.device())?;
            return Ok(Self { config, weights, path: Path::Gpu(gpu) });
        }
        let (cos, sin) = attention::rotary_tables(&config);
        let fused = Passes::of(kernels, weights.dtype(), !weights.device().is_cpu()) == Passes::Fused;
        let path = if fused {
            Path::Fused(Arc::new(Heads {
                query: config.num_attention_heads,
                key: config.num_key_value_heads,
                size: config.head_dim,
                cos,
                sin,
            }))
        } else {
            Path::Plain(Rotary::new(&cos, &sin, config.head_dim / 2, weights.dtype(), weights.device())?)
        };
        Ok(Self { config, weights, path })
    }

    /// The model with kernels that run anywhere.
    #[cfg(test)]
    pub(super) fn on_gpu(config: LlamaConfig, weights: LlamaWeights, gpu: Gpu) -> Self {
        Self { config, weights, path: Path::Gpu(gpu) }
    }

    /// The model's shape.
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }

    /// The weights, which can be overwritten in place.
    pub fn weights(&self) -> &LlamaWeights {
        &self.weights
    }

    /// How passes are computed.
    pub fn passes(&self) -> Passes {
        match self.path {
            Path::Fused(_) => Passes::Fused,
            #[cfg(any(feature = "cuda", test))]
            Path::Gpu(_) => Passes::Gpu,
            Path::Plain(_) => Passes::Plain,
        }
    }

    /// Where the model runs.
    pub fn device(&self) -> &Device {
        self.weights.device()
    }

    /// The dtype of weights and hidden states.
    pub fn dtype(&self) -> DType {
        self.weights.dtype()
    }

    /// Takes cache memory for `rows` rows of `capacity` positions.
    ///
    /// # Errors
    /// [`Error::Argument`] beyond the model's longest sequence; else if the memory cannot be had.
    pub fn new_cache(&self, rows: usize, capacity: usize) -> Result<KvCache> {
        if capacity > self.config.max_position_embeddings {
            return Err(Error::Argument {
                what: "sequence length",
                expected: format!("at most max_position_embeddings {}", self.config.max_position_embeddings),
                got: capacity.to_string(),
            });
        }
        KvCache::new(&self.config, rows, capacity, self.key_layout(), self.dtype(), self.device())
    }

    fn key_layout(&self) -> KeyLayout {
        match self.path {
            Path::Fused(_) => KeyLayout::Columns,
            _ => KeyLayout::Rows,
        }
    }

    /// Bytes that [`Llama::new_cache`] takes.
    pub fn cache_bytes(&self, rows: usize, capacity: usize) -> usize {
        let c = &self.config;
        2 * c.num_hidden_layers
            * rows
            * capacity
            * c.num_key_value_heads
            * c.head_dim
            * self.dtype().size_in_bytes()
    }

    /// Embeddings of token ids: (L, D).
    ///
    /// # Errors
    /// [`Error::Argument`] for an id outside the vocabulary.
    pub fn embed(&self, ids: &[u32]) -> Result<Tensor> {
        if let Some(id) = ids.iter().find(|&&id| id as usize >= self.config.vocab_size) {
            return Err(Error::Argument {
                what: "token id",
                expected: format!("below vocab_size {}", self.config.vocab_size),
                got: id.to_string(),
            });
        }
        if ids.is_empty() {
            return Ok(Tensor::zeros((0, self.config.hidden_size), self.dtype(), self.device())?);
        }
        let ids = Tensor::new(ids, self.device())?;
        Ok(self.weights.embed.index_select(&ids, 0)?)
    }

    /// Runs the blocks over `embeds` (B, L, D) at positions `start ..`, for cache rows `row ..`; gives (B, L, D).
    ///
    /// Earlier positions of those rows must have been run before. Keys and values are written into the cache.
    /// The final norm is not applied; see [`Llama::logits`].
    ///
    /// # Errors
    /// [`Error::Argument`] if the cache is too small or of another model.
    pub fn forward(&self, embeds: &Tensor, cache: &KvCache, row: usize, start: usize) -> Result<Tensor> {
        let (b, l, _) = embeds.dims3()?;
        if row + b > cache.rows() || start + l > cache.capacity() || cache.layout() != self.key_layout() {
            return Err(Error::Argument {
                what: "cache",
                expected: format!("{} rows of {} positions", row + b, start + l),
                got: format!("{} rows of {}", cache.rows(), cache.capacity()),
            });
        }
        let hidden = embeds.contiguous()?;
        match &self.path {
            Path::Fused(heads) => self.blocks(
                hidden,
                cache,
                row,
                |qkv, keys, values| {
                    keys.inplace_op2(qkv, &StoreKeys { heads: heads.clone(), start })?;
                    values.inplace_op2(qkv, &StoreValues { heads: heads.clone(), start })?;
                    Ok(qkv.apply_op3_no_bwd(keys, values, &Attend { heads: heads.clone(), start })?)
                },
                |gate_up| Ok(gate_up.apply_op1_no_bwd(&SiluMul)?),
            ),
            #[cfg(any(feature = "cuda", test))]
            Path::Gpu(gpu) => gpu.forward(&self.weights, hidden, cache, row, start),
            Path::Plain(rotary) => {
                let mask = if l > 1 { Some(attention::causal_mask(start, l, self.device())?) } else { None };
                let f = self.config.intermediate_size;
                self.blocks(
                    hidden,
                    cache,
                    row,
                    |qkv, keys, values| {
                        attention::attend(&self.config, rotary, qkv, keys, values, start, mask.as_ref())
                    },
                    |gate_up| {
                        Ok((gate_up.narrow(D::Minus1, 0, f)?.silu()? * gate_up.narrow(D::Minus1, f, f)?)?)
                    },
                )
            }
        }
    }

    /// The blocks one after the other, given their attention over `qkv`, keys and values, and what makes gate and up one.
    fn blocks(
        &self,
        mut hidden: Tensor,
        cache: &KvCache,
        row: usize,
        attend: impl Fn(&Tensor, &Tensor, &Tensor) -> Result<Tensor>,
        activate: impl Fn(&Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let (b, eps) = (hidden.dim(0)?, self.config.rms_norm_eps as f32);
        for (index, block) in self.weights.blocks.iter().enumerate() {
            let (keys, values) = cache.view(index, row, b)?;
            let qkv =
                self.product(&candle_nn::ops::rms_norm(&hidden, &block.input_norm, eps)?, &block.qkv)?;
            let mixed = attend(&qkv, &keys, &values)?;
            hidden = (hidden + self.product(&mixed, &block.output)?)?;
            let gate_up =
                self.product(&candle_nn::ops::rms_norm(&hidden, &block.post_norm, eps)?, &block.gate_up)?;
            hidden = (hidden + self.product(&activate(&gate_up)?, &block.down)?)?;
        }
        Ok(hidden)
    }

    /// Float32 logits (B, V) of the last position of hidden states (B, L, D).
    ///
    /// # Errors
    /// If the shape is another, or the memory cannot be had.
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        let (_, l, _) = hidden.dims3()?;
        if l == 0 {
            return Err(Error::Argument {
                what: "hidden states",
                expected: "a position".into(),
                got: "none".into(),
            });
        }
        let last = hidden.narrow(1, l - 1, 1)?.squeeze(1)?.contiguous()?;
        let last = candle_nn::ops::rms_norm(&last, &self.weights.norm, self.config.rms_norm_eps as f32)?;
        Ok(self.product(&last, &self.weights.head)?.to_dtype(DType::F32)?)
    }

    /// `x Wᵀ` by whatever is fastest here for so many rows.
    fn product(&self, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
        #[cfg(target_arch = "x86_64")]
        if let (Path::Fused(_), Some(width)) = (&self.path, x.dims().last())
            && x.elem_count() <= product::MOST_ROWS * width
            && product::here()
        {
            return Ok(x.apply_op2_no_bwd(weight, &product::Product)?);
        }
        linear(x, weight)
    }

    /// The greedy choice of each row of float32 logits (B, V): the first of the largest, or none if a value is NaN or infinite.
    ///
    /// One small copy leaves the device.
    ///
    /// # Errors
    /// What the tensor library reports.
    pub fn greedy(&self, logits: &Tensor) -> Result<Vec<Option<u32>>> {
        let ids = match &self.path {
            #[cfg(any(feature = "cuda", test))]
            Path::Gpu(gpu) => gpu.choose(logits)?,
            _ if logits.device().is_cpu() => logits.apply_op1_no_bwd(&Argmax)?,
            _ => {
                // Zero times NaN or infinity is NaN, which compares unequal to zero.
                let finite = (logits * 0.0)?.sum(D::Minus1)?.eq(0f32)?;
                let ids = logits.argmax(D::Minus1)?;
                let mark = Tensor::full(NON_FINITE, ids.dims(), logits.device())?;
                finite.where_cond(&ids, &mark)?
            }
        };
        Ok(ids.to_vec1::<u32>()?.into_iter().map(|id| (id != NON_FINITE).then_some(id)).collect())
    }
}

/// `x W^T` for `x` (.., in) and `weight` (out, in): one product over all leading axes.
pub(super) fn linear(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let mut dims = x.dims().to_vec();
    let Some(last) = dims.last_mut() else {
        return Err(Error::Argument { what: "input", expected: "an axis".into(), got: "none".into() });
    };
    let width = std::mem::replace(last, weight.dim(0)?);
    let rows = x.elem_count() / width.max(1);
    Ok(x.reshape((rows, width))?.matmul(&weight.t()?)?.reshape(dims)?)
}
