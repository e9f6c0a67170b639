//! MiniCPM-V's resampler: a fixed number of learned queries look at a picture's patches once.
//!
//! Patches are brought to the language model's width and normalised; keys also get a sine and cosine code of the patch's
//! column (first half of the channels) and row (second half). One multi-head attention, a norm, one matrix.
//!
//! Source: `resampler.py` published with MiniCPM-Llama3-V-2_5, which builds on `torch.nn.MultiheadAttention`.

use candle_core::{D, DType, Device, Tensor};

use super::error::{Error, Result};
use super::siglip::{Linear, Norm};
use super::source::{TensorSource, fetch};

/// Added to the variance before the root, in every norm.
const EPS: f64 = 1e-6;
/// Size of one attention head.
const HEAD: usize = 128;

/// The shape of a resampler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResamplerConfig {
    /// Number of queries: rows that come out for one picture.
    pub queries: usize,
    /// The tower's width W.
    pub input: usize,
    /// The language model's width D, a multiple of 4; it has a head per 128, rounded down.
    pub output: usize,
}

impl ResamplerConfig {
    /// Attention heads.
    pub fn heads(&self) -> usize {
        self.output / HEAD
    }
}

/// Names and shapes that [`Resampler::load`] reads.
pub fn expected_parameters(config: &ResamplerConfig, prefix: &str) -> Vec<(String, Vec<usize>)> {
    let (q, w, d) = (config.queries, config.input, config.output);
    let mut list = vec![
        ("query", vec![q, d]),
        ("attn.in_proj_weight", vec![3 * d, d]),
        ("attn.in_proj_bias", vec![3 * d]),
        ("attn.out_proj.weight", vec![d, d]),
        ("attn.out_proj.bias", vec![d]),
        ("proj", vec![d, d]),
    ];
    for norm in
        [["ln_q.weight", "ln_q.bias"], ["ln_kv.weight", "ln_kv.bias"], ["ln_post.weight", "ln_post.bias"]]
    {
        list.extend(norm.map(|name| (name, vec![d])));
    }
    // Between equal widths there is no matrix.
    if w != d {
        list.push(("kv_proj.weight", vec![d, w]));
    }
    list.into_iter().map(|(name, shape)| (format!("{prefix}{name}"), shape)).collect()
}

/// The resampler's weights.
#[derive(Debug)]
pub struct Resampler {
    config: ResamplerConfig,
    /// Queries of the attention, as they are for every picture: (heads, Q, D / heads), scaled.
    query: Tensor,
    kv_proj: Option<Tensor>,
    ln_kv: Norm,
    key: Linear,
    value: Linear,
    output: Linear,
    ln_post: Norm,
    /// Transposed, (out, in), as other matrices are.
    proj: Tensor,
}

impl Resampler {
    /// Loads the tensors whose names begin with `prefix`, such as `resampler.`.
    ///
    /// # Errors
    /// [`Error::MissingTensor`] or [`Error::Shape`] with the tensor's name, or what source and device report.
    pub fn load(
        config: &ResamplerConfig,
        source: &dyn TensorSource,
        prefix: &str,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let (q, w, d) = (config.queries, config.input, config.output);
        let get =
            |name: &str, shape: &[usize]| fetch(source, &format!("{prefix}{name}"), shape, dtype, device);
        let norm = |name: &str| Norm::load(source, &format!("{prefix}{name}"), d, EPS, device);
        let weights = get("attn.in_proj_weight", &[3 * d, d])?;
        let biases = get("attn.in_proj_bias", &[3 * d])?;
        let part = |i: usize| -> Result<Linear> {
            Ok(Linear::of(
                weights.narrow(0, i * d, d)?.contiguous()?,
                biases.narrow(0, i * d, d)?.contiguous()?,
            ))
        };
        let query = part(0)?.forward(&norm("ln_q")?.forward(&get("query", &[q, d])?)?)?;
        let heads = config.heads();
        let query = (query * ((d / heads) as f64).powf(-0.5))?;
        Ok(Self {
            config: *config,
            query: query.reshape((q, heads, d / heads))?.transpose(0, 1)?.contiguous()?,
            kv_proj: (w != d).then(|| get("kv_proj.weight", &[d, w])).transpose()?,
            ln_kv: norm("ln_kv")?,
            key: part(1)?,
            value: part(2)?,
            output: Linear::load(source, &format!("{prefix}attn.out_proj"), (d, d), dtype, device)?,
            ln_post: norm("ln_post")?,
            proj: get("proj", &[d, d])?.t()?.contiguous()?,
        })
    }

    /// Features of pictures of one size: patches (N, `rows` x `columns`, W), row by row, to (N, Q, D).
    ///
    /// # Errors
    /// [`Error::Argument`] for another shape.
    pub fn forward(&self, patches: &Tensor, rows: usize, columns: usize) -> Result<Tensor> {
        let (n, l, w) = patches.dims3()?;
        let ResamplerConfig { queries, input, output: d } = self.config;
        if l != rows * columns || w != input || l == 0 {
            return Err(Error::Argument {
                what: "patch features",
                expected: format!("(N, {rows} x {columns}, {input})"),
                got: format!("{:?}", patches.dims()),
            });
        }
        let values = match &self.kv_proj {
            Some(weight) => super::llama::linear(patches, weight)?,
            None => patches.clone(),
        };
        let values = self.ln_kv.forward(&values)?;
        let code = Tensor::from_vec(position_code(rows, columns, d), (l, d), &Device::Cpu)?;
        let code = code.to_device(values.device())?.to_dtype(values.dtype())?;
        let keys = values.broadcast_add(&code)?;
        let (heads, e) = (self.config.heads(), d / self.config.heads());
        let split = |x: Tensor| x.reshape((n, l, heads, e))?.transpose(1, 2)?.contiguous();
        let keys = split(self.key.forward(&keys)?)?;
        let values = split(self.value.forward(&values)?)?;
        let query = self.query.unsqueeze(0)?.broadcast_as((n, heads, queries, e))?.contiguous()?;
        let scores = query.matmul(&keys.t()?)?.to_dtype(DType::F32)?;
        let weights = candle_nn::ops::softmax_last_dim(&scores)?.to_dtype(values.dtype())?;
        let mixed = weights.matmul(&values)?.transpose(1, 2)?.reshape((n, queries, d))?;
        debug_assert_eq!(mixed.dim(D::Minus1)?, d);
        let mixed = self.ln_post.forward(&self.output.forward(&mixed)?)?;
        super::llama::linear(&mixed, &self.proj)
    }
}

/// Codes of a grid of patches, row by row, `width` values a patch: sines and cosines of the column, then of the row.
///
/// Frequencies are 10000^(-i / (width / 4)), in float32 as the original computes them.
fn position_code(rows: usize, columns: usize, width: usize) -> Vec<f32> {
    let quarter = width / 4;
    let frequencies: Vec<f32> =
        (0..quarter).map(|i| 1.0 / 10_000f32.powf(i as f32 / quarter as f32)).collect();
    let mut code = Vec::with_capacity(rows * columns * width);
    for row in 0..rows {
        for column in 0..columns {
            for place in [column, row] {
                code.extend(frequencies.iter().map(|f| (place as f32 * f).sin()));
                code.extend(frequencies.iter().map(|f| (place as f32 * f).cos()));
            }
        }
    }
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_coded_before_rows() {
        let code = position_code(2, 3, 8);
        let at = |row: usize, column: usize| &code[(row * 3 + column) * 8..][..8];
        assert_eq!(at(0, 0), [0., 0., 1., 1., 0., 0., 1., 1.]);
        assert_eq!(at(0, 2)[4..], [0., 0., 1., 1.]);
        assert_eq!(at(1, 0)[..4], [0., 0., 1., 1.]);
        assert!((at(0, 2)[0] - 2f32.sin()).abs() < 1e-7 && (at(0, 2)[1] - 0.02f32.sin()).abs() < 1e-7);
        assert!((at(1, 0)[6] - 1f32.cos()).abs() < 1e-7);
    }
}
