//! Attention by matrix products, for any device and dtype.
//!
//! The query heads of one key head are folded into the row axis, (B, H, G L, E) against (B, H, T, E), so that keys and values
//! are never repeated. Scores and softmax are float32.
//!
//! Source: transformers' `modeling_llama.py` (`eager_attention_forward`, `apply_rotary_pos_emb`).

use candle_core::{D, DType, Device, Tensor};

use super::config::LlamaConfig;
use super::error::Result;

/// Cosines and sines of the rotary angles, (positions, E / 2), in the compute dtype.
#[derive(Debug)]
pub(super) struct Rotary {
    cos: Tensor,
    sin: Tensor,
}

impl Rotary {
    pub(super) fn new(cos: &[f32], sin: &[f32], half: usize, dtype: DType, device: &Device) -> Result<Self> {
        let positions = cos.len() / half;
        let make = |values: &[f32]| {
            Tensor::from_vec(values.to_vec(), (positions, half), &Device::Cpu)?
                .to_device(device)?
                .to_dtype(dtype)
        };
        Ok(Self { cos: make(cos)?, sin: make(sin)? })
    }
}

/// Float32 cosines and sines for every position, row by row, E / 2 a row.
pub(super) fn rotary_tables(config: &LlamaConfig) -> (Vec<f32>, Vec<f32>) {
    let half = config.head_dim / 2;
    // The original computes the frequencies in float32; so do we, as the angles at high positions show the difference.
    let frequencies: Vec<f32> = (0..half)
        .map(|i| 1.0 / (config.rope_theta as f32).powf((2 * i) as f32 / config.head_dim as f32))
        .collect();
    let mut cos = Vec::with_capacity(config.max_position_embeddings * half);
    let mut sin = Vec::with_capacity(config.max_position_embeddings * half);
    for position in 0..config.max_position_embeddings {
        for frequency in &frequencies {
            let angle = position as f32 * frequency;
            cos.push(angle.cos());
            sin.push(angle.sin());
        }
    }
    (cos, sin)
}

/// Additive causal mask (L, T) in float32: zero where row `i` may look, up to `start + i`, else minus infinity.
pub(super) fn causal_mask(start: usize, len: usize, device: &Device) -> Result<Tensor> {
    let total = start + len;
    let mut mask = vec![0f32; len * total];
    for (row, values) in mask.chunks_exact_mut(total).enumerate() {
        values[start + row + 1..].fill(f32::NEG_INFINITY);
    }
    Ok(Tensor::from_vec(mask, (len, total), device)?)
}

/// Appends keys and values to the cache and attends: `qkv` (B, L, (Q + 2 H) E) to (B, L, Q E).
///
/// `keys` and `values` are this block's cache, (B, H, capacity, E); `mask` is needed when L is above one.
pub(super) fn attend(
    config: &LlamaConfig,
    rotary: &Rotary,
    qkv: &Tensor,
    keys: &Tensor,
    values: &Tensor,
    start: usize,
    mask: Option<&Tensor>,
) -> Result<Tensor> {
    let (b, l, _) = qkv.dims3()?;
    let (q, h, e) = (config.num_attention_heads, config.num_key_value_heads, config.head_dim);
    let total = start + l;
    let heads = |from: usize, count: usize| {
        qkv.narrow(D::Minus1, from * e, count * e)?.reshape((b, l, count, e))?.transpose(1, 2)?.contiguous()
    };
    let cos = rotary.cos.narrow(0, start, l)?;
    let sin = rotary.sin.narrow(0, start, l)?;
    let query = candle_nn::rotary_emb::rope(&heads(0, q)?, &cos, &sin)?;
    let key = candle_nn::rotary_emb::rope(&heads(q, h)?, &cos, &sin)?;
    keys.slice_set(&key, 2, start)?;
    values.slice_set(&heads(q + h, h)?, 2, start)?;
    let keys = keys.narrow(2, 0, total)?;
    let values = values.narrow(2, 0, total)?;
    // Scaling the queries instead of the products keeps 16-bit scores further from overflow.
    let query = (query * (e as f64).powf(-0.5))?.reshape((b, h, q / h * l, e))?;
    let scores = query.matmul(&keys.t()?)?.to_dtype(DType::F32)?;
    let scores = match mask {
        Some(mask) => {
            scores.reshape((b, h, q / h, l, total))?.broadcast_add(mask)?.reshape((b, h, q / h * l, total))?
        }
        None => scores,
    };
    let weights = candle_nn::ops::softmax_last_dim(&scores)?.to_dtype(qkv.dtype())?;
    let mixed = weights.matmul(&values)?;
    Ok(mixed.reshape((b, q, l, e))?.transpose(1, 2)?.reshape((b, l, q * e))?)
}
