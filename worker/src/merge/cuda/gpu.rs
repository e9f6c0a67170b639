//! CUDA as a [`Runner`]: NVRTC, memory, copies and launches on candle's device and stream.

use super::engine::Engine;
use super::job::Job;
use super::{Kernel, Runner, source};
use crate::checkpoint::Dtype;
use crate::merge::error::{Error, Result};
use crate::merge::mill::PIECE;
use crate::merge::{Merger, Mill, Prepared};
use crate::nvrtc::{self, Rounding};
use candle_core::cuda_backend::cudarc::driver::{
    CudaEvent, CudaFunction, CudaSlice, DevicePtr, DevicePtrMut, DeviceRepr, LaunchConfig, PinnedHostSlice,
    PushKernelArg, result, sys,
};
use candle_core::cuda_backend::{CudaDevice, CudaStorage};
use candle_core::{CpuStorage, DType, InplaceOp1, Layout, Tensor};
use common::recipe::Recipe;
use half::{bf16, f16};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};

/// Bytes of a buffer through which mapped files go to the GPU; there are two, one filled while the other is copied.
const PINNED_BYTES: usize = 32 << 20;
/// Threads of a block, and blocks for each multiprocessor: at 48 registers a thread, five such blocks fill one.
const THREADS: u32 = 256;
const BLOCKS_EACH: u32 = 5;

// SAFETY: the structure is plain numbers in C's layout, as the kernels declare it; a test compares the sizes.
unsafe impl DeviceRepr for Job {}

/// What the driver or the compiler says becomes this module's error.
fn failed(what: impl std::fmt::Display) -> impl FnOnce(&dyn std::fmt::Debug) -> Error {
    move |e| Error::Device { reason: format!("{what}: {e:?}") }
}

/// A CUDA device.
pub(super) struct Gpu {
    device: CudaDevice,
    /// Blocks of a launch.
    blocks: u32,
    /// Loaded functions by number of terms and name.
    functions: Mutex<BTreeMap<(usize, &'static str), CudaFunction>>,
    pinned: Mutex<Pinned>,
}

/// Two page-locked buffers, each with the event after which it may be filled again.
struct Pinned {
    buffers: [(PinnedHostSlice<u8>, Option<CudaEvent>); 2],
    next: usize,
}

impl Gpu {
    fn new(device: &CudaDevice) -> Result<Gpu> {
        let stream = device.cuda_stream();
        let context = stream.context();
        let attribute = |a| context.attribute(a).map_err(|e| failed("asking for its properties")(&e));
        use sys::CUdevice_attribute as A;
        let processors = attribute(A::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
        let buffer = || {
            // SAFETY: every byte is written before it is copied.
            let taken = unsafe { context.alloc_pinned::<u8>(PINNED_BYTES) };
            taken.map(|b| (b, None)).map_err(|e| failed("page-locked memory")(&e))
        };
        let pinned = Pinned { buffers: [buffer()?, buffer()?], next: 0 };
        Ok(Gpu {
            device: device.clone(),
            blocks: processors.max(1) as u32 * BLOCKS_EACH,
            functions: Mutex::default(),
            pinned: Mutex::new(pinned),
        })
    }

    /// The kernel for so many terms, compiled at its first use.
    fn function(&self, kernel: Kernel, terms: usize) -> Result<CudaFunction> {
        let mut functions = self.functions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(function) = functions.get(&(terms, kernel.name())) {
            return Ok(function.clone());
        }
        let module = nvrtc::load(&self.device, source(terms), Rounding::Each)
            .map_err(|reason| Error::Device { reason })?;
        for kernel in [Kernel::Histogram, Kernel::Signs, Kernel::Merge] {
            let function = module.load_function(kernel.name()).map_err(|e| failed(kernel.name())(&e))?;
            functions.insert((terms, kernel.name()), function);
        }
        functions.get(&(terms, kernel.name())).cloned().ok_or_else(|| failed("loading")(&kernel))
    }
}

impl Runner for Gpu {
    type Memory = CudaSlice<u8>;

    fn take(&self, bytes: usize) -> Result<CudaSlice<u8>> {
        let taken = self.device.cuda_stream().alloc_zeros(bytes.max(1));
        taken.map_err(|e| failed(format!("{bytes} bytes of its memory"))(&e))
    }

    fn address(&self, memory: &CudaSlice<u8>) -> u64 {
        memory.device_ptr(&self.device.cuda_stream()).0
    }

    fn write(&self, memory: &mut CudaSlice<u8>, bytes: &[u8]) -> Result<()> {
        let stream = self.device.cuda_stream();
        let failed = |e: &dyn std::fmt::Debug| failed("copying to it")(e);
        stream.context().bind_to_thread().map_err(|e| failed(&e))?;
        let mut pinned = self.pinned.lock().unwrap_or_else(PoisonError::into_inner);
        let (address, _ordered) = memory.device_ptr_mut(&stream);
        for (i, part) in bytes.chunks(PINNED_BYTES).enumerate() {
            let next = pinned.next;
            pinned.next = 1 - next;
            let (buffer, copied) = &mut pinned.buffers[next];
            if let Some(copied) = copied.take() {
                copied.synchronize().map_err(|e| failed(&e))?;
            }
            let to = &mut buffer.as_mut_slice().map_err(|e| failed(&e))?[..part.len()];
            // Reading a mapped file is what takes long: page by page on all threads.
            to.par_chunks_mut(1 << 20)
                .zip(part.par_chunks(1 << 20))
                .for_each(|(to, from)| to.copy_from_slice(from));
            let at = address + (i * PINNED_BYTES) as u64;
            // SAFETY: the slice was taken with at least as many bytes; the buffer is not filled again before the event
            // that follows the copy.
            unsafe { result::memcpy_htod_async(at, to, stream.cu_stream()) }.map_err(|e| failed(&e))?;
            *copied = Some(stream.record_event(None).map_err(|e| failed(&e))?);
        }
        Ok(())
    }

    fn read(&self, memory: &CudaSlice<u8>, to: &mut [u8]) -> Result<()> {
        let stream = self.device.cuda_stream();
        let failed = |e: &dyn std::fmt::Debug| failed("copying from it")(e);
        stream.memcpy_dtoh(&memory.slice(0..to.len()), to).map_err(|e| failed(&e))?;
        stream.synchronize().map_err(|e| failed(&e))
    }

    unsafe fn launch(&self, kernel: Kernel, job: &Job) -> Result<()> {
        let function = self.function(kernel, job.terms())?;
        let stream = self.device.cuda_stream();
        let groups = job.count.div_ceil(4).div_ceil(u64::from(THREADS));
        let blocks = u32::try_from(groups).unwrap_or(u32::MAX).clamp(1, self.blocks);
        let shape =
            LaunchConfig { grid_dim: (blocks, 1, 1), block_dim: (THREADS, 1, 1), shared_mem_bytes: 0 };
        let mut launch = stream.launch_builder(&function);
        launch.arg(job);
        // SAFETY: the kernel takes one `Job`, whose addresses the caller vouches for; all work is on one stream.
        unsafe { launch.launch(shape) }.map(drop).map_err(|e| failed(kernel.name())(&e))
    }
}

/// Merges on a CUDA device.
pub(crate) struct CudaMill(Engine<Gpu>);

impl CudaMill {
    /// Keeps up to `resident` bytes of base and sources on the device.
    pub(crate) fn new(device: &CudaDevice, resident: u64) -> Result<CudaMill> {
        Ok(CudaMill(Engine::new(Gpu::new(device)?, resident, PIECE)))
    }
}

impl std::fmt::Debug for CudaMill {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("CudaMill").field(&self.0.runner().device).finish()
    }
}

impl Mill for CudaMill {
    fn prepare(&self, merger: &Merger, recipe: &Recipe, stop: &AtomicBool) -> Result<Prepared> {
        Prepared::new(recipe, |name| merger.opened(name), &self.0, &merger.known, stop)
    }

    fn write(&self, prepared: &Prepared, name: &str, stored: Dtype, target: &Tensor) -> Result<bool> {
        let Some((tensor, whole, arithmetic)) = prepared.paper(name)? else { return Ok(false) };
        let Some(out) =
            [Dtype::F32, Dtype::F16, Dtype::Bf16].into_iter().find(|d| d.candle() == Some(target.dtype()))
        else {
            return Ok(false);
        };
        if !Engine::<Gpu>::takes(tensor.terms.len()) || target.elem_count() != tensor.elements {
            return Ok(false);
        }
        let write = |address: u64| {
            // SAFETY: the address is that of the target's contiguous elements, as many as the tensor's, of type `out`, and
            // candle lends them for the time of this call.
            unsafe { self.0.merge(&tensor, arithmetic, whole, (stored, out), address) }
        };
        target
            .inplace_op1(&Overwrite { write: &write })
            .map_err(|e| Error::Device { reason: e.to_string() })?;
        Ok(true)
    }
}

/// Hands the address of a weight to whoever writes it.
struct Overwrite<'a> {
    write: &'a dyn Fn(u64) -> Result<()>,
}

impl InplaceOp1 for Overwrite<'_> {
    fn name(&self) -> &'static str {
        "merge"
    }

    fn cpu_fwd(&self, _: &mut CpuStorage, _: &Layout) -> candle_core::Result<()> {
        candle_core::bail!("the mill of a GPU was given a weight on the host")
    }

    fn cuda_fwd(&self, storage: &mut CudaStorage, layout: &Layout) -> candle_core::Result<()> {
        if !layout.is_contiguous() {
            candle_core::bail!("a weight is not contiguous")
        }
        let stream = storage.device.cuda_stream();
        let dtype = match &storage.slice {
            candle_core::cuda_backend::CudaStorageSlice::F32(_) => DType::F32,
            candle_core::cuda_backend::CudaStorageSlice::F16(_) => DType::F16,
            _ => DType::BF16,
        };
        // The guard orders what follows on other streams; it is held until the launches are in the queue.
        let (address, _ordered) = match dtype {
            DType::F32 => storage.as_cuda_slice_mut::<f32>()?.device_ptr_mut(&stream),
            DType::F16 => storage.as_cuda_slice_mut::<f16>()?.device_ptr_mut(&stream),
            _ => storage.as_cuda_slice_mut::<bf16>()?.device_ptr_mut(&stream),
        };
        let offset = layout.start_offset() * dtype.size_in_bytes();
        (self.write)(address + offset as u64).map_err(candle_core::Error::wrap)
    }
}
