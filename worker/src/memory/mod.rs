//! Memory: what a run will hold and where, worked out from shapes before a weight is read.
//!
//! [`Workload`] says what is to be held, as plain numbers from headers and configuration; [`Machine`] what there is;
//! [`plan()`] puts one against the other and gives a [`MemoryPlan`]: every item with its place, the peak of every phase,
//! what is missing, and what would help. The arithmetic follows the allocations of `model` and `generate` line by line
//! (`activations.rs`); `rehearse` measures what a run really takes beside it.
//!
//! Counted are pages of this process's own (anonymous memory) and device memory. Weight files are mapped and not
//! counted: their pages belong to the page cache, which gives way. What of it a candidate reads is told apart, since a
//! machine without room for it reads from the disk again and again.

mod activations;
mod advice;
mod available;
mod guard;
mod mergekit;
mod plan;
mod resident;
#[cfg(test)]
mod tests;
mod watch;
mod workload;

pub use activations::{VisionNeeds, decode_bytes, prefill_bytes};
pub use available::{GpuMemory, HostMemory, Machine};
pub use guard::{for_merge, for_model, for_run, guard, guard_run};
pub use mergekit::for_mergekit;
pub use plan::{Budget, Item, MemoryPlan, PageCache, Peak, Phase, Place, plan};
pub use resident::prefault;
pub use watch::{Peaks, Watch, anonymous, disk_bytes};
pub use workload::{Mapped, Workload};

/// `12.3 GB`, in powers of ten as disks and checkpoints are counted; smaller amounts in MB.
pub fn words(bytes: u64) -> String {
    match bytes {
        1_000_000_000.. => format!("{:.2} GB", bytes as f64 / 1e9),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}
