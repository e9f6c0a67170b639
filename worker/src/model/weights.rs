//! The language model's weights: named, checked, and overwritten in place between candidates.
//!
//! Query, key and value matrices of a block are kept as one matrix, and so are gate and up, since one large product is
//! faster than three small ones. Each name still has its own view: rows of a contiguous matrix are contiguous.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};

use super::config::LlamaConfig;
use super::error::{Error, Result};
use super::source::{TensorSource, expect_shape};
use super::widen::write_over;

/// Bytes of the rows of a tensor that [`LlamaWeights::overwrite`] converts at a time.
pub const STRIP_BYTES: usize = 32 << 20;

/// The weights of one Llama, in storage that stays where it is.
///
/// # Shapes
/// As in the files: matrices (out, in), norms (D), in one dtype on one device.
#[derive(Debug)]
pub struct LlamaWeights {
    named: BTreeMap<String, Tensor>,
    pub(super) embed: Tensor,
    pub(super) head: Tensor,
    pub(super) norm: Tensor,
    pub(super) blocks: Vec<Block>,
    dtype: DType,
    device: Device,
}

/// One block's weights: `qkv` is ((Q + 2 H) E, D) and `gate_up` is (2 F, D).
#[derive(Debug)]
pub(super) struct Block {
    pub(super) input_norm: Tensor,
    pub(super) qkv: Tensor,
    pub(super) output: Tensor,
    pub(super) post_norm: Tensor,
    pub(super) gate_up: Tensor,
    pub(super) down: Tensor,
}

/// The names and shapes that a configuration asks for, in the order of a pass.
///
/// 9 a block and 3 more (2 with tied embeddings): 291 for an 8B Llama 3.
pub fn expected_parameters(config: &LlamaConfig) -> Vec<(String, Vec<usize>)> {
    let (d, f, e) = (config.hidden_size, config.intermediate_size, config.head_dim);
    let (q, h) = (config.num_attention_heads * e, config.num_key_value_heads * e);
    let mut list = vec![("model.embed_tokens.weight".to_string(), vec![config.vocab_size, d])];
    for index in 0..config.num_hidden_layers {
        for (name, shape) in [
            ("input_layernorm", vec![d]),
            ("self_attn.q_proj", vec![q, d]),
            ("self_attn.k_proj", vec![h, d]),
            ("self_attn.v_proj", vec![h, d]),
            ("self_attn.o_proj", vec![d, q]),
            ("post_attention_layernorm", vec![d]),
            ("mlp.gate_proj", vec![f, d]),
            ("mlp.up_proj", vec![f, d]),
            ("mlp.down_proj", vec![d, f]),
        ] {
            list.push((format!("model.layers.{index}.{name}.weight"), shape));
        }
    }
    list.push(("model.norm.weight".into(), vec![d]));
    if !config.tie_word_embeddings {
        list.push(("lm_head.weight".into(), vec![config.vocab_size, d]));
    }
    list
}

impl LlamaWeights {
    /// Copies the weights into storage of their own, converted to `dtype` on `device`.
    ///
    /// All names and shapes are checked before the first value is read.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::Shape`], or what the source or the device report.
    pub fn load(
        config: &LlamaConfig,
        source: &dyn TensorSource,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let expected = expected_parameters(config);
        for (name, shape) in &expected {
            expect_shape(source, name, shape)?;
        }
        let weights = Self::zeros(config, dtype, device)?;
        for (name, _) in &expected {
            weights.overwrite(name, &source.get(name)?)?;
        }
        Ok(weights)
    }

    /// Weights of zero, to be filled by [`LlamaWeights::overwrite`].
    ///
    /// # Errors
    /// If the memory cannot be had.
    pub fn zeros(config: &LlamaConfig, dtype: DType, device: &Device) -> Result<Self> {
        let zeros = |shape: &[usize]| Tensor::zeros(shape, dtype, device);
        let (d, f, e) = (config.hidden_size, config.intermediate_size, config.head_dim);
        let (q, h) = (config.num_attention_heads * e, config.num_key_value_heads * e);
        let embed = zeros(&[config.vocab_size, d])?;
        let head = if config.tie_word_embeddings { embed.clone() } else { zeros(&[config.vocab_size, d])? };
        let norm = zeros(&[d])?;
        let mut named = BTreeMap::new();
        let mut blocks = Vec::with_capacity(config.num_hidden_layers);
        for index in 0..config.num_hidden_layers {
            let block = Block {
                input_norm: zeros(&[d])?,
                qkv: zeros(&[q + 2 * h, d])?,
                output: zeros(&[d, q])?,
                post_norm: zeros(&[d])?,
                gate_up: zeros(&[2 * f, d])?,
                down: zeros(&[d, f])?,
            };
            for (name, view) in [
                ("input_layernorm", block.input_norm.clone()),
                ("self_attn.q_proj", block.qkv.narrow(0, 0, q)?),
                ("self_attn.k_proj", block.qkv.narrow(0, q, h)?),
                ("self_attn.v_proj", block.qkv.narrow(0, q + h, h)?),
                ("self_attn.o_proj", block.output.clone()),
                ("post_attention_layernorm", block.post_norm.clone()),
                ("mlp.gate_proj", block.gate_up.narrow(0, 0, f)?),
                ("mlp.up_proj", block.gate_up.narrow(0, f, f)?),
                ("mlp.down_proj", block.down.clone()),
            ] {
                named.insert(format!("model.layers.{index}.{name}.weight"), view);
            }
            blocks.push(block);
        }
        named.insert("model.embed_tokens.weight".into(), embed.clone());
        named.insert("model.norm.weight".into(), norm.clone());
        if !config.tie_word_embeddings {
            named.insert("lm_head.weight".into(), head.clone());
        }
        Ok(Self { named, embed, head, norm, blocks, dtype, device: device.clone() })
    }

    /// The weight of that name: a view of the storage in use, contiguous, perhaps not at its start.
    pub fn parameter(&self, name: &str) -> Option<&Tensor> {
        self.named.get(name)
    }

    /// All names with their weights, by name.
    pub fn parameters(&self) -> impl ExactSizeIterator<Item = (&str, &Tensor)> {
        self.named.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Writes new values into the storage in use; the next pass sees them.
    ///
    /// On a CPU, float32 weights are written where they lie. Elsewhere a value of another dtype or on another device is
    /// converted and moved in strips of rows, so that what this takes
    /// beside `value` and the storage itself is [`STRIP_BYTES`] a conversion, however large the tensor.
    ///
    /// # Errors
    /// [`Error::UnknownParameter`], [`Error::Shape`], or [`Error::Tensor`] if `value` shares the storage written to.
    pub fn overwrite(&self, name: &str, value: &Tensor) -> Result<()> {
        let target = self.named.get(name).ok_or_else(|| Error::UnknownParameter { name: name.into() })?;
        if target.dims() != value.dims() {
            return Err(Error::Shape {
                name: name.into(),
                expected: target.dims().to_vec(),
                found: value.dims().to_vec(),
            });
        }
        let value = value.contiguous()?;
        if write_over(target, &value)? {
            return Ok(());
        }
        let rows = target.dim(0)?;
        if value.dtype() == self.dtype && value.device().same_device(&self.device) {
            return Ok(target.slice_set(&value, 0, 0)?);
        }
        let width = value.dtype().size_in_bytes().max(self.dtype.size_in_bytes());
        let row_bytes = (target.elem_count() / rows.max(1) * width).max(1);
        let step = (STRIP_BYTES / row_bytes).clamp(1, rows.max(1));
        for from in (0..rows).step_by(step) {
            let mut strip = value.narrow(0, from, step.min(rows - from))?;
            if !value.device().same_device(&self.device) {
                // Moving a view to another device would move all of the storage behind it.
                strip = strip.force_contiguous()?.to_device(&self.device)?;
            }
            target.slice_set(&strip.to_dtype(self.dtype)?, 0, from)?;
        }
        Ok(())
    }

    /// The dtype of every weight, and of the computation.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Where the weights are.
    pub fn device(&self) -> &Device {
        &self.device
    }
}
