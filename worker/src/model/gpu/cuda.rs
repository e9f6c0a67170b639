//! CUDA as what launches: the kernels compiled for a device, on candle's stream.

use super::job::{Job, Kernel};
use super::{Launch, source};
use crate::nvrtc::{self, Rounding};
use candle_core::cuda_backend::CudaDevice;
use candle_core::cuda_backend::cudarc::driver::{CudaFunction, DeviceRepr, LaunchConfig, PushKernelArg};
use candle_core::{DType, Error, Result};
use std::collections::BTreeMap;

// SAFETY: the structure is plain numbers in C's layout, as the kernels declare it; a test compares the sizes.
unsafe impl DeviceRepr for Job {}

/// The kernels for a type of numbers on a device.
#[derive(Debug)]
pub(super) struct Functions {
    device: CudaDevice,
    functions: BTreeMap<&'static str, CudaFunction>,
}

impl Functions {
    pub(super) fn new(device: &CudaDevice, dtype: DType) -> Result<Functions> {
        let module = nvrtc::load(device, source(dtype), Rounding::Fused).map_err(Error::msg)?;
        let function = |kernel: Kernel| {
            let function = module.load_function(kernel.name());
            Ok((kernel.name(), function.map_err(|e| Error::msg(format!("{}: {e}", kernel.name())))?))
        };
        let functions = Kernel::ALL.into_iter().map(function).collect::<Result<_>>()?;
        Ok(Functions { device: device.clone(), functions })
    }
}

impl Launch for Functions {
    unsafe fn launch(&self, kernel: Kernel, job: &Job, blocks: u32) -> Result<()> {
        let stream = self.device.cuda_stream();
        let shape = LaunchConfig {
            grid_dim: (blocks, 1, 1),
            block_dim: (kernel.threads(), 1, 1),
            shared_mem_bytes: 0,
        };
        let mut launch = stream.launch_builder(&self.functions[kernel.name()]);
        launch.arg(job);
        // SAFETY: the kernel takes one `Job`, whose addresses the caller vouches for; all work is on one stream.
        unsafe { launch.launch(shape) }.map(drop).map_err(|e| Error::msg(format!("{}: {e}", kernel.name())))
    }
}
