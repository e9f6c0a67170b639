//! Fused CPU kernels in float32, for shapes so small that moving and allocating costs more than computing.
//!
//! Each has a plain statement in tensor operations (`attention.rs`, candle's `silu`) and a test that compares the two.
//! Loops run along contiguous memory with independent lanes, so that the compiler vectorises them, for the widest registers of
//! the processor ([`crate::merge::simd`]: the same numbers on all); work is shared by rayon
//! and so respects `RAYON_NUM_THREADS`. Every output row depends on its own inputs alone: results are the same whatever the
//! number of rows or threads.

use std::sync::Arc;

use crate::merge::simd::widest;
use candle_core::{CpuStorage, CustomOp1, CustomOp3, InplaceOp2, Layout, Result, Shape, bail};
use rayon::prelude::*;

/// The id that [`Argmax`] gives to a row with a NaN or an infinity.
pub(super) const NON_FINITE: u32 = u32::MAX;

/// e to the x in float32, within 2 units in the last place; NaN stays NaN.
///
/// Written so that a loop over it vectorises without special instructions. Source: Cephes `expf`.
#[inline(always)]
fn exp(x: f32) -> f32 {
    // Below this the true value is under the smallest normal number; the result is that number, harmless in a sum.
    let x = if x < -87.336_54 { -87.336_54 } else { x };
    let x = if x > 88.376_26 { 88.376_26 } else { x };
    // Adding and removing 1.5 * 2^23 rounds to a whole number, left in the low bits of the sum.
    let shifted = x * std::f32::consts::LOG2_E + 12_582_912.0;
    let n = shifted - 12_582_912.0;
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let mut p = 1.987_569_1e-4_f32;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let value = p * r * r + r + 1.0;
    value * f32::from_bits(shifted.to_bits().wrapping_add(127) << 23)
}

pub(super) fn floats<'a>(storage: &'a CpuStorage, layout: &Layout, name: &str) -> Result<&'a [f32]> {
    let CpuStorage::F32(data) = storage else { bail!("{name} takes float32 only") };
    match layout.contiguous_offsets() {
        Some((from, to)) => Ok(&data[from..to]),
        None => bail!("{name} takes contiguous tensors only"),
    }
}

fn floats_mut<'a>(storage: &'a mut CpuStorage, layout: &Layout, name: &str) -> Result<&'a mut [f32]> {
    let CpuStorage::F32(data) = storage else { bail!("{name} takes float32 only") };
    match layout.contiguous_offsets() {
        Some((from, to)) => Ok(&mut data[from..to]),
        None => bail!("{name} takes contiguous tensors only"),
    }
}

/// `silu(gate) * up`: (.., 2 F) to (.., F), the gate in the first half.
pub(super) struct SiluMul;

impl CustomOp1 for SiluMul {
    fn name(&self) -> &'static str {
        "silu-mul"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let input = floats(storage, layout, self.name())?;
        let mut dims = layout.dims().to_vec();
        let Some(last) = dims.last_mut() else { bail!("silu-mul takes at least one axis") };
        let width = *last / 2;
        *last = width;
        let mut out = vec![0f32; input.len() / 2];
        if width > 0 {
            out.par_chunks_mut(width)
                .zip(input.par_chunks_exact(2 * width))
                .with_min_len(16)
                .for_each(|(out, row)| silu_mul_row(row, out));
        }
        Ok((CpuStorage::F32(out), dims.into()))
    }
}

widest! {
    fn silu_mul_row(row: &[f32], out: &mut [f32]) {
        let (gate, up) = row.split_at(out.len());
        for ((o, &g), &u) in out.iter_mut().zip(gate).zip(up) {
            *o = g / (1.0 + exp(-g)) * u;
        }
    }
}

/// The first index of each row's largest value, or [`NON_FINITE`]: (B, V) to (B).
pub(super) struct Argmax;

impl CustomOp1 for Argmax {
    fn name(&self) -> &'static str {
        "finite-argmax"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let input = floats(storage, layout, self.name())?;
        let (rows, width) = layout.shape().dims2()?;
        let out = input
            .par_chunks_exact(width)
            .with_min_len(16)
            .map(|row| {
                // The sum of x * 0 is NaN as soon as one x is NaN or infinite.
                let mut bad = [0f32; 8];
                let mut best = [f32::NEG_INFINITY; 8];
                for chunk in row.chunks(8) {
                    for ((b, m), &x) in bad.iter_mut().zip(&mut best).zip(chunk) {
                        *b += x * 0.0;
                        *m = if x > *m { x } else { *m };
                    }
                }
                if bad.iter().sum::<f32>() != 0.0 {
                    return NON_FINITE;
                }
                let best = best.into_iter().fold(f32::NEG_INFINITY, f32::max);
                row.iter().position(|&x| x == best).map_or(NON_FINITE, |i| i as u32)
            })
            .collect();
        Ok((CpuStorage::U32(out), rows.into()))
    }
}

/// What the attention kernels share: the shape of heads and the rotary tables, E / 2 values a position.
#[derive(Debug)]
pub(super) struct Heads {
    pub(super) query: usize,
    pub(super) key: usize,
    pub(super) size: usize,
    pub(super) cos: Vec<f32>,
    pub(super) sin: Vec<f32>,
}

impl Heads {
    fn width(&self) -> usize {
        (self.query + 2 * self.key) * self.size
    }

    /// Rotates one head, half-split convention.
    #[inline(always)]
    fn rotate(&self, input: &[f32], position: usize, scale: f32, out: &mut [f32]) {
        let half = self.size / 2;
        let cos = &self.cos[position * half..(position + 1) * half];
        let sin = &self.sin[position * half..(position + 1) * half];
        let (a, b) = input.split_at(half);
        let (out_a, out_b) = out.split_at_mut(half);
        for i in 0..half {
            out_a[i] = (a[i] * cos[i] - b[i] * sin[i]) * scale;
            out_b[i] = (b[i] * cos[i] + a[i] * sin[i]) * scale;
        }
    }
}

/// Rotates the keys of `qkv` (B, L, (Q + 2 H) E) and writes them into a cache (B, H, E, T) from position `start`.
pub(super) struct StoreKeys {
    pub(super) heads: Arc<Heads>,
    pub(super) start: usize,
}

impl InplaceOp2 for StoreKeys {
    fn name(&self) -> &'static str {
        "store-keys"
    }

    fn cpu_fwd(&self, cache: &mut CpuStorage, cl: &Layout, qkv: &CpuStorage, ql: &Layout) -> Result<()> {
        let qkv = floats(qkv, ql, self.name())?;
        let cache = floats_mut(cache, cl, self.name())?;
        let (_, l, width) = ql.shape().dims3()?;
        let (_, h, e, capacity) = cl.shape().dims4()?;
        let heads = &*self.heads;
        if width != heads.width() || e != heads.size || h != heads.key || self.start + l > capacity {
            bail!("store-keys: {l} positions at {} do not fit a cache of {capacity}", self.start);
        }
        let offset = heads.query * e;
        cache.par_chunks_mut(h * e * capacity).zip(qkv.par_chunks_exact(l * width)).for_each(
            |(cache, rows)| {
                let mut rotated = vec![0f32; e];
                for (index, row) in rows.chunks_exact(width).enumerate() {
                    let position = self.start + index;
                    for (head, out) in cache.chunks_exact_mut(e * capacity).enumerate() {
                        let from = offset + head * e;
                        heads.rotate(&row[from..from + e], position, 1.0, &mut rotated);
                        for (line, &value) in out.chunks_exact_mut(capacity).zip(&rotated) {
                            line[position] = value;
                        }
                    }
                }
            },
        );
        Ok(())
    }
}

/// Writes the values of `qkv` into a cache (B, H, T, E) from position `start`.
pub(super) struct StoreValues {
    pub(super) heads: Arc<Heads>,
    pub(super) start: usize,
}

impl InplaceOp2 for StoreValues {
    fn name(&self) -> &'static str {
        "store-values"
    }

    fn cpu_fwd(&self, cache: &mut CpuStorage, cl: &Layout, qkv: &CpuStorage, ql: &Layout) -> Result<()> {
        let qkv = floats(qkv, ql, self.name())?;
        let cache = floats_mut(cache, cl, self.name())?;
        let (_, l, width) = ql.shape().dims3()?;
        let (_, h, capacity, e) = cl.shape().dims4()?;
        let heads = &*self.heads;
        if width != heads.width() || e != heads.size || h != heads.key || self.start + l > capacity {
            bail!("store-values: {l} positions at {} do not fit a cache of {capacity}", self.start);
        }
        let offset = (heads.query + heads.key) * e;
        cache.par_chunks_mut(h * e * capacity).zip(qkv.par_chunks_exact(l * width)).for_each(
            |(cache, rows)| {
                for (index, row) in rows.chunks_exact(width).enumerate() {
                    for (head, out) in cache.chunks_exact_mut(e * capacity).enumerate() {
                        let to = (self.start + index) * e;
                        let from = offset + head * e;
                        out[to..to + e].copy_from_slice(&row[from..from + e]);
                    }
                }
            },
        );
        Ok(())
    }
}

/// Causal attention over the cache: `qkv` (B, L, (Q + 2 H) E), keys (B, H, E, T), values (B, H, T, E), to (B, L, Q E).
pub(super) struct Attend {
    pub(super) heads: Arc<Heads>,
    pub(super) start: usize,
}

impl CustomOp3 for Attend {
    fn name(&self) -> &'static str {
        "attend"
    }

    fn cpu_fwd(
        &self,
        qkv: &CpuStorage,
        ql: &Layout,
        keys: &CpuStorage,
        kl: &Layout,
        values: &CpuStorage,
        vl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let qkv = floats(qkv, ql, self.name())?;
        let keys = floats(keys, kl, self.name())?;
        let values = floats(values, vl, self.name())?;
        let (b, l, width) = ql.shape().dims3()?;
        let (rows, h, e, capacity) = kl.shape().dims4()?;
        let heads = &*self.heads;
        if rows != b
            || vl.dims() != [b, h, capacity, e]
            || width != heads.width()
            || e != heads.size
            || h != heads.key
            || self.start + l > capacity
        {
            bail!(
                "attend: queries {:?} do not fit keys {:?} or values {:?}",
                ql.dims(),
                kl.dims(),
                vl.dims()
            );
        }
        let mut out = vec![0f32; b * l * heads.query * e];
        let plane = e * capacity;
        out.par_chunks_mut(heads.query * e)
            .zip(qkv.par_chunks_exact(width))
            .enumerate()
            .with_min_len(4)
            .for_each_init(
                || (vec![0f32; e], vec![0f32; self.start + l]),
                |(query, scores), (index, (out, row))| {
                    let position = self.start + index % l;
                    let from = index / l * h * plane;
                    let past = Past {
                        keys: &keys[from..from + h * plane],
                        values: &values[from..from + h * plane],
                        capacity,
                        position,
                    };
                    attend_row(heads, &past, row, query, &mut scores[..=position], out);
                },
            );
        Ok((CpuStorage::F32(out), (b, l, heads.query * e).into()))
    }
}

/// What a query may look at: keys (H, E, T) and values (H, T, E) of its row of the cache, up to its own position.
struct Past<'a> {
    keys: &'a [f32],
    values: &'a [f32],
    capacity: usize,
    position: usize,
}

widest! {
    /// All heads of one query. `query` and `scores` are working memory: a head, and as many positions as are looked at.
    fn attend_row(
        heads: &Heads,
        past: &Past<'_>,
        row: &[f32],
        query: &mut [f32],
        scores: &mut [f32],
        out: &mut [f32],
    ) {
        let (e, plane) = (heads.size, heads.size * past.capacity);
        let group = heads.query / heads.key;
        let scale = (e as f32).powf(-0.5);
        for (head, out) in out.chunks_exact_mut(e).enumerate() {
            heads.rotate(&row[head * e..(head + 1) * e], past.position, scale, query);
            let at = head / group * plane;
            score(query, &past.keys[at..at + plane], past.capacity, scores);
            let sum = soften(scores);
            mix(scores, &past.values[at..at + plane], sum, out);
        }
    }
}

/// `scores[t] = sum over e of query[e] * keys[e][t]`, four components at a time to spare loads and stores.
#[inline(always)]
fn score(query: &[f32], keys: &[f32], capacity: usize, scores: &mut [f32]) {
    let len = scores.len();
    scores.fill(0.0);
    let mut lines = keys.chunks_exact(capacity);
    let (quads, rest) = query.as_chunks::<4>();
    for q in quads {
        let mut next = || lines.next().map_or(&[] as &[f32], |line| &line[..len]);
        let (k0, k1, k2, k3) = (next(), next(), next(), next());
        for ((((s, &k0), &k1), &k2), &k3) in scores.iter_mut().zip(k0).zip(k1).zip(k2).zip(k3) {
            *s += (q[0] * k0 + q[1] * k1) + (q[2] * k2 + q[3] * k3);
        }
    }
    for (&q, line) in rest.iter().zip(lines) {
        for (s, &k) in scores.iter_mut().zip(line) {
            *s += q * k;
        }
    }
}

/// Replaces scores by the exponentials of their distance from the largest, and returns the sum.
#[inline(always)]
fn soften(scores: &mut [f32]) -> f32 {
    let (chunks, rest) = scores.as_chunks_mut::<8>();
    let mut largest = [f32::NEG_INFINITY; 8];
    for chunk in chunks.iter() {
        for (m, &x) in largest.iter_mut().zip(chunk) {
            *m = if x > *m { x } else { *m };
        }
    }
    let mut max = largest.into_iter().fold(f32::NEG_INFINITY, f32::max);
    for &x in rest.iter() {
        max = max.max(x);
    }
    let mut sums = [0f32; 8];
    for chunk in chunks.iter_mut() {
        for (s, x) in sums.iter_mut().zip(chunk) {
            *x = exp(*x - max);
            *s += *x;
        }
    }
    let mut sum: f32 = sums.iter().sum();
    for x in rest {
        *x = exp(*x - max);
        sum += *x;
    }
    sum
}

/// `out = sum over t of weights[t] * values[t] / sum`, four positions at a time.
#[inline(always)]
fn mix(weights: &[f32], values: &[f32], sum: f32, out: &mut [f32]) {
    let e = out.len();
    out.fill(0.0);
    let (quads, rest) = weights.as_chunks::<4>();
    for (w, block) in quads.iter().zip(values.chunks_exact(4 * e)) {
        let (v01, v23) = block.split_at(2 * e);
        let ((v0, v1), (v2, v3)) = (v01.split_at(e), v23.split_at(e));
        for ((((o, &v0), &v1), &v2), &v3) in out.iter_mut().zip(v0).zip(v1).zip(v2).zip(v3) {
            *o += (w[0] * v0 + w[1] * v1) + (w[2] * v2 + w[3] * v3);
        }
    }
    for (&w, v) in rest.iter().zip(values[quads.len() * 4 * e..].chunks_exact(e)) {
        for (o, &v) in out.iter_mut().zip(v) {
            *o += w * v;
        }
    }
    let inverse = 1.0 / sum;
    for o in out {
        *o *= inverse;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device, Tensor};

    /// Relative error allowed to [`exp`]: two units in the last place of float32.
    const EXP_TOLERANCE: f64 = 2.4e-7;

    #[test]
    fn exp_is_close_everywhere() {
        for i in -8733..8837 {
            let x = i as f32 / 100.0;
            let (got, want) = (f64::from(exp(x)), f64::from(x).exp());
            assert!(((got - want) / want).abs() < EXP_TOLERANCE, "{x}: {got} {want}");
        }
        assert!(exp(f32::NAN).is_nan());
        assert!(exp(-1e9) < 1e-37 && exp(f32::NEG_INFINITY) < 1e-37 && exp(f32::INFINITY) > 1e38);
        assert_eq!(exp(0.0), 1.0);
    }

    #[test]
    fn silu_mul_equals_candle() {
        let x = Tensor::randn(0f32, 3.0, (5, 3, 14), &Device::Cpu).expect("memory");
        let got = x.apply_op1_no_bwd(&SiluMul).expect("float32");
        let want = (x.narrow(2, 0, 7).and_then(|g| g.silu()).expect("in range")
            * x.narrow(2, 7, 7).expect("in range"))
        .expect("equal shapes");
        let off = (got - want).and_then(|d| d.abs()?.max_all()?.to_scalar::<f32>()).expect("a number");
        assert!(off < 5e-6, "{off}");
    }

    #[test]
    fn argmax_takes_the_first_and_marks_rows_that_are_not_finite() {
        let nan = f32::NAN;
        let rows = [[1f32, 7., 7.], [nan, 2., 1.], [f32::INFINITY, 0., 0.], [-3., -2., -9.]];
        let x = Tensor::new(&rows, &Device::Cpu).expect("memory");
        let got = x.apply_op1_no_bwd(&Argmax).and_then(|t| t.to_vec1::<u32>()).expect("float32");
        assert_eq!(got, [1, NON_FINITE, NON_FINITE, 1]);
        let other = x.to_dtype(DType::F64).expect("memory");
        assert!(other.apply_op1_no_bwd(&Argmax).is_err());
    }
}
