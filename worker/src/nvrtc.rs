//! Programs for a GPU, compiled from source when they are first needed.

use candle_core::cuda_backend::CudaDevice;
use candle_core::cuda_backend::cudarc::driver::{CudaModule, sys::CUdevice_attribute};
use candle_core::cuda_backend::cudarc::nvrtc::{CompileOptions, compile_ptx_with_opts};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// How products and sums that follow each other are rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rounding {
    /// Each, as on the host.
    Each,
    /// Once for both, where that is faster.
    Fused,
}

/// Compiles a program for a device and loads it there.
///
/// # Errors
/// What the compiler or the driver says.
pub(crate) fn load(
    device: &CudaDevice,
    source: String,
    rounding: Rounding,
) -> std::result::Result<Arc<CudaModule>, String> {
    let stream = device.cuda_stream();
    let context = stream.context();
    let attribute = |a| context.attribute(a).map_err(|e| format!("asking for its properties: {e:?}"));
    let major = attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
    let minor = attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
    let options = CompileOptions {
        ftz: Some(false),
        prec_div: Some(true),
        fmad: Some(rounding == Rounding::Fused),
        arch: Some(name_of(major, minor)),
        ..CompileOptions::default()
    };
    let ptx = compile_ptx_with_opts(source, options).map_err(|e| format!("compiling its kernels: {e:?}"))?;
    context.load_module(ptx).map_err(|e| format!("loading its kernels: {e:?}"))
}

/// The compiler wants a name that lives as long as the program; there is one for each kind of device.
fn name_of(major: i32, minor: i32) -> &'static str {
    static NAMES: Mutex<BTreeMap<(i32, i32), &str>> = Mutex::new(BTreeMap::new());
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    names.entry((major, minor)).or_insert_with(|| format!("compute_{major}{minor}").leak())
}
