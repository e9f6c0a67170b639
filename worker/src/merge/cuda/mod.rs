//! The paper's convention on a GPU: the same numbers as `paper.rs`, by kernels compiled when they are first needed.
//!
//! The kernels are the `.cuh` and `.cu` files here, one program for each number of sources ([`source`]): `survey.cu` finds
//! trim thresholds and the sign for ties, `merge.cu` merges. [`engine::Engine`] decides what is launched on what: it keeps base and
//! sources where the kernels run as far as its budget goes, and else streams them piece by piece through memory that it
//! reuses. It knows a [`Runner`] alone; `gpu.rs` is that of CUDA, and the tests' runs the same source as compiled by the host's
//! C compiler, so that all but the driver's calls is held against the Rust statement on any machine.
//!
//! Left to the host: the plain average, tensors of more than [`job::MOST_TERMS`] sources, and tensors of which the VLM keeps rows
//! of its own. NaNs count as equal whatever their payload; in a trim they rank above all numbers.

#![expect(
    unsafe_code,
    reason = "addresses of a GPU's memory are handed to kernels, which no compiler checks"
)]

mod engine;
#[cfg(feature = "cuda")]
mod gpu;
mod job;
#[cfg(test)]
mod tests;

#[cfg(feature = "cuda")]
pub(crate) use gpu::CudaMill;

use super::error::Result;
use job::Job;

/// What can be launched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kernel {
    /// Magnitudes of every term that has bins.
    Histogram,
    /// The sum of elected signs.
    Signs,
    /// The merge itself.
    Merge,
}

#[cfg(feature = "cuda")]
impl Kernel {
    fn name(self) -> &'static str {
        match self {
            Kernel::Histogram => "histogram",
            Kernel::Signs => "signs",
            Kernel::Merge => "merge",
        }
    }
}

/// Where kernels run.
pub(crate) trait Runner {
    /// A stretch of memory there, at least 16 bytes aligned.
    type Memory;

    /// Takes memory and fills it with zeros.
    fn take(&self, bytes: usize) -> Result<Self::Memory>;
    /// Where it begins, as kernels see it.
    fn address(&self, memory: &Self::Memory) -> u64;
    /// Copies bytes to its beginning. They may be changed once this returns.
    fn write(&self, memory: &mut Self::Memory, bytes: &[u8]) -> Result<()>;
    /// Copies its beginning to the host, after everything that was launched before.
    fn read(&self, memory: &Self::Memory, to: &mut [u8]) -> Result<()>;
    /// Runs a kernel over the job's elements, after everything that was begun before.
    ///
    /// # Safety
    /// Every address of the job is 0 or that of memory that holds what the job says, and stays so until a later `read`
    /// has returned or the memory was given back in order.
    unsafe fn launch(&self, kernel: Kernel, job: &Job) -> Result<()>;
}

/// The program for jobs of `terms` terms.
pub(crate) fn source(terms: usize) -> String {
    let parts = concat!(
        include_str!("numbers.cuh"),
        include_str!("field.cuh"),
        include_str!("paper.cuh"),
        include_str!("survey.cu"),
        include_str!("merge.cu")
    );
    format!("#define TERMS {terms}\n{parts}")
}
