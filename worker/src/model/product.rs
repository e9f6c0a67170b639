//! `x Wᵀ` for few rows of `x` in float32, on processors with AVX-512.
//!
//! A decode step multiplies some tens of rows with every weight once. General products copy the weights into an order of
//! their own first, which then takes longer than the product; here they are read once, as they lie, and each sum of
//! products stays in a register. Measured (docs/BENCHMARKS.md): 50 rows 1.9 times, 10 rows 4.2 times as
//! fast.
//!
//! Each number is the sum over its own row and weight row, sixteen interleaved sums added up in one order: it does not depend on
//! how many rows or threads there are. Many rows (prompts) are left to candle's general product, which is faster there.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, bail};
use rayon::prelude::*;
use std::arch::x86_64::*;

use super::kernels::floats;
use crate::merge::simd::Level;

/// Most rows that are multiplied so.
pub(super) const MOST_ROWS: usize = 128;
/// Floats of a register.
const LANES: usize = 16;
/// Rows of `x` and of the weight whose products are summed side by side: 24 sums, and 32 registers in all.
const ROWS: usize = 6;
const COLUMNS: usize = 4;
/// Floats of `x` that are gone through for each few weight rows: they stay in the second-level cache.
const BLOCK_FLOATS: usize = 1 << 16;
/// Fewest multiplications that are worth a task of their own.
const LEAST_WORK: usize = 1 << 18;

/// Whether the processor at hand has what this is compiled for.
pub(super) fn here() -> bool {
    Level::here() == Level::Avx512
}

/// `x` (.., K) and a weight (N, K), both contiguous: (.., N).
pub(super) struct Product;

impl CustomOp2 for Product {
    fn name(&self) -> &'static str {
        "product-of-few-rows"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        l: &Layout,
        w: &CpuStorage,
        wl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, w) = (floats(x, l, self.name())?, floats(w, wl, self.name())?);
        let (columns, depth) = wl.shape().dims2()?;
        let mut dims = l.dims().to_vec();
        match dims.last_mut() {
            Some(last) if *last == depth && depth > 0 && here() => *last = columns,
            _ => bail!("{} takes rows as long as the weight's", self.name()),
        }
        let mut out = vec![0f32; x.len() / depth * columns];
        multiply(x, w, depth, &mut out);
        Ok((CpuStorage::F32(out), dims.into()))
    }
}

/// `out` (rows, N) of `x` (rows, K) and `w` (N, K).
fn multiply(x: &[f32], w: &[f32], depth: usize, out: &mut [f32]) {
    let (rows, columns) = (x.len() / depth, w.len() / depth);
    if rows == 0 || columns == 0 {
        return;
    }
    let least = LEAST_WORK.div_ceil(rows * depth);
    let even = columns.div_ceil(4 * rayon::current_num_threads());
    let strip = even.max(least).next_multiple_of(COLUMNS);
    let out = Out { first: out.as_mut_ptr(), rows, columns };
    w.par_chunks(strip * depth).enumerate().for_each(|(s, w)| {
        // SAFETY: `here` has found the features that the function is compiled for; who calls has asked it.
        #[expect(unsafe_code, reason = "a function compiled for features that were found")]
        unsafe {
            columns_of(x, w, depth, &out, s * strip)
        }
    });
}

/// The result, of which each task writes columns of its own: they lie apart, so that it cannot be lent in pieces.
struct Out {
    first: *mut f32,
    rows: usize,
    columns: usize,
}

// SAFETY: no two tasks write to one place, and nobody reads before all have ended: see `multiply`.
#[expect(unsafe_code, reason = "columns of one matrix are written by several threads")]
unsafe impl Sync for Out {}

impl Out {
    #[inline(always)]
    fn set(&self, row: usize, column: usize, value: f32) {
        assert!(row < self.rows && column < self.columns);
        // SAFETY: within the matrix that `multiply` was lent mutably for the whole of this, as just asserted; the column is this
        // task's alone, since tasks are pieces of the weight's rows.
        #[expect(unsafe_code, reason = "columns of one matrix are written by several threads")]
        unsafe {
            self.first.add(row * self.columns + column).write(value)
        }
    }
}

#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
fn columns_of(x: &[f32], w: &[f32], depth: usize, out: &Out, first: usize) {
    let block = (BLOCK_FLOATS / depth).max(4 * ROWS).next_multiple_of(ROWS);
    for (b, x) in x.chunks(block * depth).enumerate() {
        block_of(x, w, depth, out, (b * block, first));
    }
}

#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
fn block_of(x: &[f32], w: &[f32], depth: usize, out: &Out, (row, column): (usize, usize)) {
    for (c, w) in w.chunks(COLUMNS * depth).enumerate() {
        for (r, x) in x.chunks(ROWS * depth).enumerate() {
            let at = (row + r * ROWS, column + c * COLUMNS);
            let of_four = w.len() == COLUMNS * depth;
            match (x.len() / depth, of_four) {
                (6, true) => tile::<6, 4>(x, w, depth, out, at),
                (5, true) => tile::<5, 4>(x, w, depth, out, at),
                (4, true) => tile::<4, 4>(x, w, depth, out, at),
                (3, true) => tile::<3, 4>(x, w, depth, out, at),
                (2, true) => tile::<2, 4>(x, w, depth, out, at),
                (1, true) => tile::<1, 4>(x, w, depth, out, at),
                _ => {
                    for (i, x) in x.chunks(depth).enumerate() {
                        for (j, w) in w.chunks(depth).enumerate() {
                            tile::<1, 1>(x, w, depth, out, (at.0 + i, at.1 + j));
                        }
                    }
                }
            }
        }
    }
}

/// The products of `M` rows with `N` rows of the weight, to their places.
#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
fn tile<const M: usize, const N: usize>(
    x: &[f32],
    w: &[f32],
    depth: usize,
    out: &Out,
    (row, column): (usize, usize),
) {
    let steps = depth / LANES;
    let mut xs: [&[[f32; LANES]]; M] = [&[]; M];
    for (i, xs) in xs.iter_mut().enumerate() {
        *xs = &x[i * depth..][..depth].as_chunks().0[..steps];
    }
    let mut ws: [&[[f32; LANES]]; N] = [&[]; N];
    for (j, ws) in ws.iter_mut().enumerate() {
        *ws = &w[j * depth..][..depth].as_chunks().0[..steps];
    }
    let mut sums = [[_mm512_setzero_ps(); N]; M];
    for step in 0..steps {
        let mut weights = [_mm512_setzero_ps(); N];
        for (j, weight) in weights.iter_mut().enumerate() {
            *weight = load(&ws[j][step]);
        }
        for (i, sums) in sums.iter_mut().enumerate() {
            let x = load(&xs[i][step]);
            for (sum, weight) in sums.iter_mut().zip(&weights) {
                *sum = _mm512_fmadd_ps(x, *weight, *sum);
            }
        }
    }
    let tail = depth % LANES;
    for (i, sums) in sums.iter().enumerate() {
        for (j, sum) in sums.iter().enumerate() {
            let mut total = _mm512_reduce_add_ps(*sum);
            let (x, w) = (&x[i * depth..][..depth], &w[j * depth..][..depth]);
            for (x, w) in x[depth - tail..].iter().zip(&w[depth - tail..]) {
                total = x.mul_add(*w, total);
            }
            out.set(row + i, column + j, total);
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(floats: &[f32; LANES]) -> __m512 {
    // SAFETY: 64 bytes are read from a reference to as many; the load asks for no alignment.
    #[expect(unsafe_code, reason = "the instruction takes an address")]
    unsafe {
        _mm512_loadu_ps(floats.as_ptr())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Tensor};

    #[test]
    fn is_the_product_and_no_row_depends_on_another() {
        if !here() {
            eprintln!("this processor lacks AVX-512: nothing to compare");
            return;
        }
        for (rows, columns, depth) in
            [(1, 1, 1), (1, 4, 16), (3, 7, 33), (6, 8, 64), (50, 130, 320), (128, 65, 1000), (13, 2000, 48)]
        {
            let x = Tensor::randn(0f32, 1.0, (rows, depth), &Device::Cpu).unwrap();
            let w = Tensor::randn(0f32, 1.0, (columns, depth), &Device::Cpu).unwrap();
            let found = x.apply_op2_no_bwd(&w, &Product).unwrap();
            assert_eq!(found.dims(), [rows, columns]);
            // Each of the products errs by half a unit of the sum's size at most, here as there.
            let wide = |t: &Tensor| t.to_dtype(candle_core::DType::F64).unwrap();
            let expected = wide(&x).matmul(&wide(&w).t().unwrap()).unwrap();
            let off = (wide(&found) - expected).unwrap().abs().unwrap().max_all().unwrap();
            let off = off.to_scalar::<f64>().unwrap();
            assert!(off < 1e-6 * depth as f64, "{rows} {columns} {depth}: {off}");
            for row in [0, rows / 2, rows - 1] {
                let one = x.narrow(0, row, 1).unwrap().contiguous().unwrap();
                let alone = one.apply_op2_no_bwd(&w, &Product).unwrap().to_vec2::<f32>().unwrap();
                let among = found.narrow(0, row, 1).unwrap().to_vec2::<f32>().unwrap();
                assert_eq!(alone, among, "{rows} {columns} {depth}: row {row}");
            }
        }
        let (x, w) = (
            Tensor::zeros((2, 3), candle_core::DType::F32, &Device::Cpu),
            Tensor::zeros((2, 4), candle_core::DType::F32, &Device::Cpu),
        );
        assert!(x.unwrap().apply_op2_no_bwd(&w.unwrap(), &Product).is_err());
    }
}
