//! Where merges are done when not on the host.

use super::error::Result;
use super::{Merger, Prepared};
use crate::checkpoint::Dtype;
use candle_core::{Device, Tensor};
use common::recipe::Recipe;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Makes merges ready and writes their tensors where a model runs; the outcome is the host's, bit for bit.
pub trait Mill: std::fmt::Debug + Send + Sync {
    /// As [`Merger::plan`].
    ///
    /// # Errors
    /// As there, and [`super::Error::Device`].
    fn prepare(&self, merger: &Merger, recipe: &Recipe, stop: &AtomicBool) -> Result<Prepared>;

    /// Overwrites `target`, contiguous and of the tensor's size, with the merged tensor of that name, rounded to `stored`
    /// and then to the target's type. False, with nothing written, where this merge is left to the host.
    ///
    /// # Errors
    /// [`super::Error::Device`], [`super::Error::Checkpoint`].
    fn write(&self, prepared: &Prepared, name: &str, stored: Dtype, target: &Tensor) -> Result<bool>;
}

/// Elements of a tensor that one launch works on: enough to fill a GPU, little to keep of every source at once. A
/// multiple of 4.
pub(super) const PIECE: usize = 16 << 20;

/// The most memory of a GPU that merging takes beside resident weights: pieces of base, sources and `own` bases of their
/// own, with elements of `stored` bytes, and the histograms. `largest` is the elements of the largest tensor.
pub fn staging_bytes(sources: usize, own: usize, largest: u64, stored: u64) -> u64 {
    let piece = largest.min(PIECE as u64) * stored;
    let histogram = (size_of::<u64>() << 16) as u64;
    (1 + sources + own) as u64 * piece + sources as u64 * histogram
}

/// The mill of a device, which keeps up to `resident` bytes of base and sources on it; none on a CPU.
///
/// # Errors
/// [`super::Error::Device`] when memory cannot be had.
#[cfg(feature = "cuda")]
pub fn mill(device: &Device, resident: u64) -> Result<Option<Arc<dyn Mill>>> {
    match device {
        Device::Cuda(cuda) => Ok(Some(Arc::new(super::cuda::CudaMill::new(cuda, resident)?))),
        _ => Ok(None),
    }
}

/// The mill of a device: none, since this build knows the CPU alone.
///
/// # Errors
/// Never.
#[cfg(not(feature = "cuda"))]
pub fn mill(_: &Device, _: u64) -> Result<Option<Arc<dyn Mill>>> {
    Ok(None)
}
