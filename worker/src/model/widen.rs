//! Numbers written over others in place, widened to float32, by all threads.
//!
//! candle converts and copies on one thread, and by way of storage that is new each time.

use candle_core::{CpuStorage, DType, InplaceOp2, Layout, Result, Tensor, bail};
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;

/// Numbers that one task converts.
const CHUNK: usize = 1 << 16;

/// Writes `values`, of any type that weights are stored in, over `target`; false, with nothing done, unless both are on
/// the CPU, apart from each other and contiguous, and `target` is float32.
///
/// # Errors
/// None for tensors as they are described.
pub(super) fn write_over(target: &Tensor, values: &Tensor) -> Result<bool> {
    let known = matches!(values.dtype(), DType::F32 | DType::F16 | DType::BF16);
    let here = target.device().is_cpu() && values.device().is_cpu();
    let whole = target.is_contiguous() && values.is_contiguous();
    let fits = known && here && whole && target.dtype() == DType::F32 && target.dims() == values.dims();
    // One storage cannot be read while it is written to.
    let storage = |tensor: &Tensor| &raw const *tensor.storage_and_layout().0;
    if !fits || storage(target) == storage(values) {
        return Ok(false);
    }
    target.inplace_op2(values, &Widen)?;
    Ok(true)
}

struct Widen;

impl InplaceOp2 for Widen {
    fn name(&self) -> &'static str {
        "widen"
    }

    fn cpu_fwd(
        &self,
        target: &mut CpuStorage,
        at: &Layout,
        values: &CpuStorage,
        from: &Layout,
    ) -> Result<()> {
        let (Some((first, end)), Some((start, last))) = (at.contiguous_offsets(), from.contiguous_offsets())
        else {
            bail!("both must be contiguous")
        };
        let CpuStorage::F32(target) = target else { bail!("float32 is written") };
        let target = &mut target[first..end];
        match values {
            CpuStorage::F32(values) => by_chunks(target, &values[start..last], <[f32]>::copy_from_slice),
            CpuStorage::BF16(values) => by_chunks(target, &values[start..last], widen),
            CpuStorage::F16(values) => by_chunks(target, &values[start..last], widen),
            _ => bail!("float32, bfloat16 or float16 is read"),
        }
        Ok(())
    }
}

fn by_chunks<T: Sync>(target: &mut [f32], values: &[T], write: impl Fn(&mut [f32], &[T]) + Sync) {
    let chunks = target.par_chunks_mut(CHUNK).zip(values.par_chunks(CHUNK));
    chunks.for_each(|(target, values)| write(target, values));
}

fn widen<T>(target: &mut [f32], values: &[T])
where
    [T]: HalfFloatSliceExt,
{
    values.convert_to_f32_slice(target);
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn views_get_what_candle_converts() {
        let numbers = Tensor::randn(0f32, 3.0, (70, 1001), &Device::Cpu).unwrap();
        for dtype in [DType::F32, DType::BF16, DType::F16] {
            // Rows of a larger matrix on either side, more than one task's.
            let values = numbers.to_dtype(dtype).unwrap().narrow(0, 1, 66).unwrap();
            let whole = Tensor::zeros((80, 1001), DType::F32, &Device::Cpu).unwrap();
            assert!(write_over(&whole.narrow(0, 5, 66).unwrap(), &values).unwrap());
            let expected = values.to_dtype(DType::F32).unwrap().pad_with_zeros(0, 5, 9).unwrap();
            let (found, expected) = (whole.to_vec2::<f32>().unwrap(), expected.to_vec2::<f32>().unwrap());
            assert_eq!(found, expected, "{dtype:?}");
        }
    }

    #[test]
    fn what_does_not_fit_is_left_alone() {
        let zeros = |shape: (usize, usize), dtype| Tensor::zeros(shape, dtype, &Device::Cpu).unwrap();
        let target = zeros((4, 4), DType::F32);
        let ones = Tensor::ones((8, 4), DType::F32, &Device::Cpu).unwrap();
        let refused = [
            (target.clone(), ones.narrow(0, 0, 3).unwrap()),
            (target.clone(), ones.narrow(0, 0, 4).unwrap().t().unwrap()),
            (target.clone(), ones.narrow(0, 0, 4).unwrap().to_dtype(DType::F64).unwrap()),
            (target.narrow(1, 0, 2).unwrap(), ones.narrow(0, 0, 4).unwrap().narrow(1, 0, 2).unwrap()),
            (zeros((4, 4), DType::F16), ones.narrow(0, 0, 4).unwrap()),
            (target.narrow(0, 0, 2).unwrap(), target.narrow(0, 2, 2).unwrap()),
        ];
        for (n, (target, values)) in refused.iter().enumerate() {
            assert!(!write_over(target, values).unwrap(), "{n}");
        }
        assert_eq!(target.sum_all().unwrap().to_scalar::<f32>().unwrap(), 0.0);
    }
}
