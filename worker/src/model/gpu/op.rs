//! A launch as an operation on tensors: addresses are taken, the result's memory is had, and the kernel is launched.

use super::Launch;
use super::job::{Job, Kernel};
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, CustomOp3, DType, InplaceOp1, InplaceOp2, InplaceOp3,
    Layout, Result, Shape, bail,
};

/// One launch. All tensors are contiguous; `a`, `b` and `c` of the job are those that are read, in their order.
pub(super) struct Op<'a> {
    pub(super) launch: &'a dyn Launch,
    pub(super) kernel: Kernel,
    pub(super) job: Job,
    /// Blocks of threads.
    pub(super) blocks: usize,
    /// Of what is made; of no meaning where a tensor is changed in place.
    pub(super) shape: Shape,
    pub(super) dtype: DType,
}

impl Op<'_> {
    /// # Safety
    /// The addresses are those of contiguous tensors of the shapes that the job was made from, which live until this has returned.
    unsafe fn launch(&self, from: &[u64], out: u64) -> Result<()> {
        let Ok(blocks) = u32::try_from(self.blocks) else { bail!("{}: too many rows", self.kernel.name()) };
        let address = |i: usize| from.get(i).copied().unwrap_or_default();
        let job = Job { a: address(0), b: address(1), c: address(2), out, ..self.job };
        if blocks == 0 {
            return Ok(());
        }
        // SAFETY: the caller's promise.
        unsafe { self.launch.launch(self.kernel, &job, blocks) }
    }
}

/// A device's memory, as operations see it.
trait Storage: Sized {
    /// Hands the address of a tensor's first number to `then`, and keeps the memory meanwhile.
    fn with_address<R>(&self, layout: &Layout, then: impl FnOnce(u64) -> Result<R>) -> Result<R>;
    /// The same to be written to.
    fn with_address_mut<R>(&mut self, layout: &Layout, then: impl FnOnce(u64) -> Result<R>) -> Result<R>;
    /// Memory for `count` numbers where this is, of no meaning as yet.
    fn another(&self, dtype: DType, count: usize) -> Result<Self>;
}

fn begin(layout: &Layout, dtype: DType) -> Result<u64> {
    if !layout.is_contiguous() {
        bail!("a tensor that is not contiguous was given to a kernel");
    }
    Ok((layout.start_offset() * dtype.size_in_bytes()) as u64)
}

/// Addresses of `from`, one within the other.
fn with_addresses<S: Storage, R>(
    from: &[(&S, &Layout)],
    addresses: &mut Vec<u64>,
    then: &mut dyn FnMut(&[u64]) -> Result<R>,
) -> Result<R> {
    let Some(((storage, layout), rest)) = from.split_first() else { return then(addresses) };
    storage.with_address(layout, |address| {
        addresses.push(address);
        with_addresses(rest, addresses, then)
    })
}

impl Op<'_> {
    fn make<S: Storage>(&self, from: &[(&S, &Layout)]) -> Result<(S, Shape)> {
        let mut made = from[0].0.another(self.dtype, self.shape.elem_count())?;
        let whole = Layout::contiguous(&self.shape);
        self.change(&mut made, &whole, from)?;
        Ok((made, self.shape.clone()))
    }

    fn change<S: Storage>(&self, out: &mut S, layout: &Layout, from: &[(&S, &Layout)]) -> Result<()> {
        out.with_address_mut(layout, |out| {
            with_addresses(from, &mut Vec::new(), &mut |from| {
                // SAFETY: contiguous tensors, as `begin` has asked; `Gpu` makes the job from their shapes. They are kept until this has returned,
                // and all work is on one stream.
                unsafe { self.launch(from, out) }
            })
        })
    }
}

/// The six kinds of operation that there are.
macro_rules! operations {
    ($($trait:ident($($s:ident $l:ident),*);)* ; $($inplace:ident($($t:ident $m:ident),*);)*) => {
        $(impl $trait for Op<'_> {
            fn name(&self) -> &'static str {
                self.kernel.name()
            }

            fn cpu_fwd(&self, $($s: &CpuStorage, $l: &Layout),*) -> Result<(CpuStorage, Shape)> {
                self.make(&[$(($s, $l)),*])
            }

            fn cuda_fwd(&self, $($s: &CudaStorage, $l: &Layout),*) -> Result<(CudaStorage, Shape)> {
                self.make(&[$(($s, $l)),*])
            }
        })*
        $(impl $inplace for Op<'_> {
            fn name(&self) -> &'static str {
                self.kernel.name()
            }

            fn cpu_fwd(&self, out: &mut CpuStorage, layout: &Layout $(, $t: &CpuStorage, $m: &Layout)*) -> Result<()> {
                self.change(out, layout, &[$(($t, $m)),*])
            }

            fn cuda_fwd(&self, out: &mut CudaStorage, layout: &Layout $(, $t: &CudaStorage, $m: &Layout)*) -> Result<()> {
                self.change(out, layout, &[$(($t, $m)),*])
            }
        })*
    };
}

operations! {
    CustomOp1(a al);
    CustomOp2(a al, b bl);
    CustomOp3(a al, b bl, c cl);
    ;
    InplaceOp1();
    InplaceOp2(a al);
    InplaceOp3(a al, b bl);
}

#[cfg(not(feature = "cuda"))]
impl Storage for CudaStorage {
    fn with_address<R>(&self, _: &Layout, _: impl FnOnce(u64) -> Result<R>) -> Result<R> {
        bail!("built without CUDA")
    }

    fn with_address_mut<R>(&mut self, _: &Layout, _: impl FnOnce(u64) -> Result<R>) -> Result<R> {
        bail!("built without CUDA")
    }

    fn another(&self, _: DType, _: usize) -> Result<CudaStorage> {
        bail!("built without CUDA")
    }
}

#[cfg(feature = "cuda")]
impl Storage for CudaStorage {
    fn with_address<R>(&self, layout: &Layout, then: impl FnOnce(u64) -> Result<R>) -> Result<R> {
        use candle_core::cuda_backend::CudaStorageSlice as Slice;
        use candle_core::cuda_backend::cudarc::driver::DevicePtr;
        let stream = self.device.cuda_stream();
        // The guard orders what follows on other streams; it is held until the launch is in the queue.
        let (dtype, (address, _ordered)) = match &self.slice {
            Slice::F32(slice) => (DType::F32, slice.device_ptr(&stream)),
            Slice::F16(slice) => (DType::F16, slice.device_ptr(&stream)),
            Slice::BF16(slice) => (DType::BF16, slice.device_ptr(&stream)),
            _ => bail!("a tensor of an unexpected type was given to a kernel"),
        };
        then(address + begin(layout, dtype)?)
    }

    fn with_address_mut<R>(&mut self, layout: &Layout, then: impl FnOnce(u64) -> Result<R>) -> Result<R> {
        use candle_core::cuda_backend::CudaStorageSlice as Slice;
        use candle_core::cuda_backend::cudarc::driver::DevicePtrMut;
        let stream = self.device.cuda_stream();
        let (dtype, (address, _ordered)) = match &mut self.slice {
            Slice::F32(slice) => (DType::F32, slice.device_ptr_mut(&stream)),
            Slice::F16(slice) => (DType::F16, slice.device_ptr_mut(&stream)),
            Slice::BF16(slice) => (DType::BF16, slice.device_ptr_mut(&stream)),
            Slice::U32(slice) => (DType::U32, slice.device_ptr_mut(&stream)),
            _ => bail!("a tensor of an unexpected type was given to a kernel"),
        };
        then(address + begin(layout, dtype)?)
    }

    fn another(&self, dtype: DType, count: usize) -> Result<CudaStorage> {
        let device = &self.device;
        // SAFETY: numbers, of which the kernel writes every one before anything reads them.
        unsafe {
            Ok(match dtype {
                DType::F32 => CudaStorage::wrap_cuda_slice(device.alloc::<f32>(count)?, device.clone()),
                DType::F16 => CudaStorage::wrap_cuda_slice(device.alloc::<half::f16>(count)?, device.clone()),
                DType::BF16 => {
                    CudaStorage::wrap_cuda_slice(device.alloc::<half::bf16>(count)?, device.clone())
                }
                DType::U32 => CudaStorage::wrap_cuda_slice(device.alloc::<u32>(count)?, device.clone()),
                _ => bail!("no kernel makes {dtype:?}"),
            })
        }
    }
}

/// On the host kernels run in tests alone: those of a GPU cannot do anything with an address of the host.
impl Storage for CpuStorage {
    fn with_address<R>(&self, layout: &Layout, then: impl FnOnce(u64) -> Result<R>) -> Result<R> {
        let (dtype, address) = match self {
            _ if !cfg!(test) => bail!("kernels of a GPU were given a tensor of the host"),
            CpuStorage::F32(numbers) => (DType::F32, numbers.as_ptr() as u64),
            CpuStorage::F16(numbers) => (DType::F16, numbers.as_ptr() as u64),
            CpuStorage::BF16(numbers) => (DType::BF16, numbers.as_ptr() as u64),
            _ => bail!("a tensor of an unexpected type was given to a kernel"),
        };
        then(address + begin(layout, dtype)?)
    }

    fn with_address_mut<R>(&mut self, layout: &Layout, then: impl FnOnce(u64) -> Result<R>) -> Result<R> {
        let (dtype, address) = match self {
            _ if !cfg!(test) => bail!("kernels of a GPU were given a tensor of the host"),
            CpuStorage::F32(numbers) => (DType::F32, numbers.as_mut_ptr() as u64),
            CpuStorage::F16(numbers) => (DType::F16, numbers.as_mut_ptr() as u64),
            CpuStorage::BF16(numbers) => (DType::BF16, numbers.as_mut_ptr() as u64),
            CpuStorage::U32(numbers) => (DType::U32, numbers.as_mut_ptr() as u64),
            _ => bail!("a tensor of an unexpected type was given to a kernel"),
        };
        then(address + begin(layout, dtype)?)
    }

    fn another(&self, dtype: DType, count: usize) -> Result<CpuStorage> {
        // Nothing that a kernel makes, so that tests would see what it leaves out.
        Ok(match dtype {
            DType::F32 => CpuStorage::F32(vec![f32::NAN; count]),
            DType::F16 => CpuStorage::F16(vec![half::f16::NAN; count]),
            DType::BF16 => CpuStorage::BF16(vec![half::bf16::NAN; count]),
            DType::U32 => CpuStorage::U32(vec![u32::MAX - 1; count]),
            _ => bail!("no kernel makes {dtype:?}"),
        })
    }
}
