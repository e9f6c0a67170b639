//! A Llama's passes on a GPU: candle's matrix products, and between them kernels of our own (`model.cu`), one launch each.
//!
//! By single operations a layer is some 23 launches, each of which costs a processor and the GPU several microseconds, whatever
//! it works on; and scores pass through memory five times. Here a layer is 13 launches for one position, six of which are products with
//! weights or past positions, and scores are softened where they lie.
//!
//! The plain statement is `attention.rs`; both give the same numbers but for roundings, since the kernels calculate in float32 from
//! what is read to what is written. The kernels are C as well as CUDA: tests run them on the host, with what threads of a block tell each
//! other. On a GPU nothing has run yet; `--passes plain` does without.

#![expect(
    unsafe_code,
    reason = "addresses of a GPU's memory are handed to kernels, which no compiler checks"
)]

#[cfg(feature = "cuda")]
mod cuda;
mod job;
mod op;
#[cfg(test)]
mod tests;

use super::attention;
use super::cache::KvCache;
use super::config::LlamaConfig;
use super::error::Result;
use super::llama::linear;
use super::weights::LlamaWeights;
use candle_core::{D, DType, Device, Shape, Tensor, bail};
use job::{Job, Kernel};
use op::Op;
use std::sync::Arc;

/// Where kernels run.
trait Launch: std::fmt::Debug + Send + Sync {
    /// Runs a kernel, after everything that was begun before.
    ///
    /// # Safety
    /// Every address of the job that the kernel uses is that of memory that holds what the job says, and lives until this returns; memory that
    /// is given back later is given back in order.
    unsafe fn launch(&self, kernel: Kernel, job: &Job, blocks: u32) -> candle_core::Result<()>;
}

/// The kernels for one model.
#[derive(Debug)]
pub(super) struct Gpu {
    launch: Arc<dyn Launch>,
    heads: Heads,
    /// Cosines, then sines: (2, positions, E / 2).
    angles: Tensor,
    eps: f32,
}

/// Heads of queries, of keys, and the numbers of one.
#[derive(Clone, Copy, Debug)]
struct Heads {
    queries: usize,
    keys: usize,
    size: usize,
}

/// The program for numbers of a type.
fn source(dtype: DType) -> String {
    let number = match dtype {
        DType::F16 => 1,
        DType::BF16 => 2,
        _ => 0,
    };
    let parts = concat!(include_str!("../../merge/cuda/numbers.cuh"), include_str!("model.cu"));
    format!("#define TYPE {number}\n{parts}")
}

/// Numbers that a block of threads works on where a row is divided.
const PART: usize = 1024;

fn number(x: usize) -> candle_core::Result<u32> {
    u32::try_from(x).map_err(|_| candle_core::Error::Msg(format!("{x} is more than a kernel can count")))
}

impl Gpu {
    /// The kernels for a model on a CUDA device, compiled for it.
    #[cfg(feature = "cuda")]
    pub(super) fn new(config: &LlamaConfig, dtype: DType, device: &Device) -> Result<Gpu> {
        let launch = Arc::new(cuda::Functions::new(device.as_cuda_device()?, dtype)?);
        Gpu::over(launch, config, dtype, device)
    }

    fn over(launch: Arc<dyn Launch>, config: &LlamaConfig, dtype: DType, device: &Device) -> Result<Gpu> {
        let (mut angles, sines) = attention::rotary_tables(config);
        angles.extend(sines);
        let shape = (2, config.max_position_embeddings, config.head_dim / 2);
        let angles = Tensor::from_vec(angles, shape, &Device::Cpu)?.to_device(device)?.to_dtype(dtype)?;
        let heads = Heads {
            queries: config.num_attention_heads,
            keys: config.num_key_value_heads,
            size: config.head_dim,
        };
        Ok(Gpu { launch, heads, angles, eps: config.rms_norm_eps as f32 })
    }

    /// [`super::Llama::forward`], the arguments checked.
    pub(super) fn forward(
        &self,
        weights: &LlamaWeights,
        mut hidden: Tensor,
        cache: &KvCache,
        row: usize,
        start: usize,
    ) -> Result<Tensor> {
        let b = hidden.dim(0)?;
        let Some(first) = weights.blocks.first() else { return Ok(hidden) };
        let mut normed = candle_nn::ops::rms_norm(&hidden, &first.input_norm, self.eps)?;
        for (index, block) in weights.blocks.iter().enumerate() {
            let (keys, values) = cache.view(index, row, b)?;
            let mixed = self.attend(&linear(&normed, &block.qkv)?, &keys, &values, start)?;
            (hidden, normed) = self.add_norm(&hidden, &linear(&mixed, &block.output)?, &block.post_norm)?;
            let inner = self.silu_mul(&linear(&normed, &block.gate_up)?)?;
            let more = linear(&inner, &block.down)?;
            match weights.blocks.get(index + 1) {
                Some(next) => (hidden, normed) = self.add_norm(&hidden, &more, &next.input_norm)?,
                None => hidden = (hidden + more)?,
            }
        }
        Ok(hidden)
    }

    /// As [`attention::attend`].
    fn attend(&self, qkv: &Tensor, keys: &Tensor, values: &Tensor, start: usize) -> Result<Tensor> {
        let (b, l, _) = qkv.dims3()?;
        let Heads { queries, keys: h, size } = self.heads;
        let total = start + l;
        self.store(Kernel::StoreKeys, keys, qkv, start)?;
        self.store(Kernel::StoreValues, values, qkv, start)?;
        let query = self.query(qkv, start)?.reshape((b, h, queries / h * l, size))?;
        let scores = query.matmul(&keys.narrow(2, 0, total)?.t()?)?;
        self.soften(&scores, l, start)?;
        let mixed = scores.matmul(&values.narrow(2, 0, total)?)?;
        if l == 1 {
            return Ok(mixed.reshape((b, 1, queries * size))?);
        }
        Ok(mixed.reshape((b, queries, l, size))?.transpose(1, 2)?.reshape((b, l, queries * size))?)
    }

    /// Refuses tensors of another type than the program's.
    fn of_type(&self, tensors: &[&Tensor]) -> candle_core::Result<()> {
        match tensors.iter().find(|t| t.dtype() != self.angles.dtype()) {
            Some(t) => bail!("a tensor in {:?} for kernels in {:?}", t.dtype(), self.angles.dtype()),
            None => Ok(()),
        }
    }

    fn op(&self, kernel: Kernel, job: Job, blocks: usize, shape: impl Into<Shape>, dtype: DType) -> Op<'_> {
        Op { launch: &*self.launch, kernel, job, blocks, shape: shape.into(), dtype }
    }

    /// What the kernels that read `qkv` (B, L, (Q + 2 H) E) are told, and B L.
    fn positions(&self, qkv: &Tensor, start: usize) -> candle_core::Result<(Job, usize, usize)> {
        let (b, l, width) = qkv.dims3()?;
        let (Heads { queries, keys, size }, positions) = (self.heads, self.angles.dim(1)?);
        self.of_type(&[qkv])?;
        if width != (queries + 2 * keys) * size || start + l > positions {
            bail!("{l} positions of {width} numbers from {start} on do not fit {:?}", self.heads);
        }
        let job = Job {
            length: number(l)?,
            start: number(start)?,
            positions: number(positions)?,
            queries: number(queries)?,
            keys: number(keys)?,
            size: number(size)?,
            number: 1.0,
            ..Job::default()
        };
        Ok((job, b, l))
    }

    /// Rotated and scaled queries: (B, Q, L, E). Scaling them instead of the products keeps 16-bit scores further from overflow.
    fn query(&self, qkv: &Tensor, start: usize) -> candle_core::Result<Tensor> {
        let (job, b, l) = self.positions(qkv, start)?;
        let Heads { queries, size, .. } = self.heads;
        let job = Job { number: (size as f64).powf(-0.5) as f32, ..job };
        let op = self.op(Kernel::Query, job, b * l, (b, queries, l, size), qkv.dtype());
        qkv.apply_op2_no_bwd(&self.angles, &op)
    }

    /// Writes keys, rotated, or values into the cache (B, H, capacity, E) from position `start` on.
    fn store(&self, kernel: Kernel, cache: &Tensor, qkv: &Tensor, start: usize) -> candle_core::Result<()> {
        let (job, b, l) = self.positions(qkv, start)?;
        let (rows, keys, capacity, size) = cache.dims4()?;
        self.of_type(&[cache])?;
        if (rows, keys, size) != (b, self.heads.keys, self.heads.size) || start + l > capacity {
            bail!("{l} positions from {start} on do not fit a cache {:?}", cache.dims());
        }
        let job = Job { capacity: number(capacity)?, ..job };
        cache.inplace_op3(qkv, &self.angles, &self.op(kernel, job, b * l, (), cache.dtype()))
    }

    /// Scores (B, H, G L, T) into weights, in place; position `i` of L may look up to `start + i`.
    fn soften(&self, scores: &Tensor, length: usize, start: usize) -> candle_core::Result<()> {
        let (b, h, rows, width) = scores.dims4()?;
        self.of_type(&[scores])?;
        if length == 0 || !rows.is_multiple_of(length) || start + length > width {
            bail!("scores {:?} are not those of {length} positions from {start} on", scores.dims());
        }
        let job =
            Job { length: number(length)?, start: number(start)?, width: number(width)?, ..Job::default() };
        scores.inplace_op1(&self.op(Kernel::Soften, job, b * h * rows, (), scores.dtype()))
    }

    /// `silu(gate) · up`: (.., 2 F) to (.., F), the gate in the first half.
    fn silu_mul(&self, gate_up: &Tensor) -> candle_core::Result<Tensor> {
        self.of_type(&[gate_up])?;
        let mut shape = gate_up.dims().to_vec();
        let Some(width) = shape.last_mut().filter(|width| width.is_multiple_of(2)) else {
            bail!("gate and up {:?} have no two halves", gate_up.dims())
        };
        *width /= 2;
        let width = *width;
        let (rows, parts) = (gate_up.elem_count() / (2 * width).max(1), width.div_ceil(PART));
        let job = Job { width: number(width)?, parts: number(parts)?, ..Job::default() };
        gate_up.apply_op1_no_bwd(&self.op(Kernel::SiluMul, job, rows * parts, shape, gate_up.dtype()))
    }

    /// The sum, and its root-mean-square norm.
    fn add_norm(&self, a: &Tensor, b: &Tensor, weight: &Tensor) -> candle_core::Result<(Tensor, Tensor)> {
        let width = weight.dims1()?;
        self.of_type(&[a, b, weight])?;
        if a.dims() != b.dims() || a.dim(D::Minus1)? != width {
            bail!("{:?} and {:?} have no sum with a norm of {width}", a.dims(), b.dims());
        }
        let rows = a.elem_count() / width.max(1);
        let job = Job { rows: rows as u64, width: number(width)?, number: self.eps, ..Job::default() };
        let op = self.op(Kernel::AddNorm, job, rows, [&[2], a.dims()].concat(), a.dtype());
        let both = a.apply_op3_no_bwd(b, weight, &op)?;
        Ok((both.get(0)?, both.get(1)?))
    }

    /// The greedy choice of each row of float32 logits (B, V), or [`super::kernels::NON_FINITE`].
    pub(super) fn choose(&self, logits: &Tensor) -> candle_core::Result<Tensor> {
        let (rows, width) = logits.dims2()?;
        if logits.dtype() != DType::F32 {
            bail!("logits in {:?}, not in float32", logits.dtype());
        }
        let job = Job { width: number(width)?, ..Job::default() };
        logits.apply_op1_no_bwd(&self.op(Kernel::Choose, job, rows, rows, DType::U32))
    }
}
