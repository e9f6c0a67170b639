//! Which device models run on, and in which type.

use crate::checkpoint::Dtype;
use crate::cli::DeviceArg;
use crate::memory::GpuMemory;
use crate::model::Kernels;
use anyhow::{Context, Result, bail};
use candle_core::{DType, Device};

/// A device with what people are told of it.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// The device.
    pub device: Device,
    /// The type that weights and activations have on it: float32 on a CPU, where it is fastest; 16 bits on a GPU, the
    /// model's own once [`Chosen::suited`] knows them.
    pub dtype: DType,
    /// Whether the type is to follow the model's.
    pub follows_model: bool,
    /// Whether merges are made on the GPU where they can be; on a CPU it does not matter.
    pub merges_on_gpu: bool,
    /// How the language model is run.
    pub passes: Kernels,
    /// In words, such as `cpu (2 threads)` or `cuda:0`.
    pub words: String,
    /// Why `auto` did not take a GPU, where it did not.
    pub note: Option<String>,
}

impl Chosen {
    /// The GPU's memory; none on a CPU, or when the driver does not say.
    pub fn memory(&self) -> Option<GpuMemory> {
        #[cfg(feature = "cuda")]
        if let Device::Cuda(cuda) = &self.device {
            let (free, total) = cuda.cuda_stream().context().mem_get_info().ok()?;
            return Some(GpuMemory { name: self.words.clone(), free: free as u64, total: total as u64 });
        }
        None
    }

    /// The same for a model whose language model is stored in `stored`: on a GPU, where nothing else was asked for,
    /// float16 stays float16, and anything else runs in bfloat16, which has float32's range.
    pub fn suited(&self, stored: Dtype) -> Chosen {
        let own = if stored == Dtype::F16 { DType::F16 } else { DType::BF16 };
        Chosen { dtype: if self.follows_model { own } else { self.dtype }, ..self.clone() }
    }

    /// The CPU, and why not a GPU where one was asked for.
    pub fn cpu(note: Option<String>) -> Chosen {
        let words = format!("cpu ({} threads)", rayon::current_num_threads());
        let (device, dtype) = (Device::Cpu, DType::F32);
        Chosen {
            device,
            dtype,
            follows_model: false,
            merges_on_gpu: false,
            passes: Kernels::Auto,
            words,
            note,
        }
    }

    fn cuda(device: Device, index: usize, arg: &DeviceArg, compute: Option<DType>) -> Chosen {
        Chosen {
            device,
            dtype: compute.unwrap_or(DType::F16),
            follows_model: compute.is_none(),
            merges_on_gpu: arg.merge_on != "host",
            passes: Kernels::Auto,
            words: format!("cuda:{index}"),
            note: None,
        }
    }
}

/// Reads `auto`, `cpu` or `cuda:N` and what is to happen there. `auto` takes the first GPU if this build can use it, else
/// the CPU with a note.
///
/// # Errors
/// For a device that is not there, or a type that it is not used with.
pub fn choose(arg: &DeviceArg) -> Result<Chosen> {
    let compute = match arg.compute.as_str() {
        "f16" => Some(DType::F16),
        "bf16" => Some(DType::BF16),
        "f32" => Some(DType::F32),
        _ => None,
    };
    let mut chosen = match arg.device.as_str() {
        "cpu" => Chosen::cpu(None),
        "auto" => auto(arg, compute),
        wish => {
            let index = wish.strip_prefix("cuda:").and_then(|n| n.parse::<usize>().ok());
            let index = index.with_context(|| format!("--device {wish}: expected auto, cpu or cuda:N"))?;
            if !candle_core::utils::cuda_is_available() {
                bail!(
                    "--device {wish}: this program was built without CUDA; build it with --features cuda, or use cpu"
                );
            }
            let device = gpu(index).with_context(|| format!("--device {wish}"))?;
            Chosen::cuda(device, index, arg, compute)
        }
    };
    if chosen.device.is_cpu() && compute.is_some_and(|c| c != DType::F32) {
        bail!("--compute {}: on a CPU models run in f32, which is fastest there; leave it out", arg.compute);
    }
    if arg.passes == "plain" {
        chosen.passes = Kernels::Plain;
    }
    Ok(chosen)
}

/// A GPU with one stream for all threads. By default every thread has a stream of its own, and what slots share (weights that a merge
/// reads, features, the workspace of matrix products) would be used in one before it is there in another.
fn gpu(index: usize) -> candle_core::Result<Device> {
    let device = Device::new_cuda_with_stream(index)?;
    #[cfg(feature = "cuda")]
    if let Device::Cuda(cuda) = &device {
        // SAFETY: events order the use of a tensor by several streams; all tensors of this device are used by its one stream. Two events fewer
        // for each tensor that a step makes.
        #[expect(unsafe_code, reason = "what a promise about streams is needed for")]
        unsafe {
            cuda.disable_event_tracking()
        };
    }
    Ok(device)
}

fn auto(arg: &DeviceArg, compute: Option<DType>) -> Chosen {
    if !candle_core::utils::cuda_is_available() {
        return Chosen::cpu(None);
    }
    match gpu(0) {
        Ok(device) => Chosen::cuda(device, 0, arg, compute),
        // A CUDA build on a node without a GPU (or with a broken driver) still works, but never silently.
        Err(e) => Chosen::cpu(Some(format!("no CUDA device ({e}); running on the CPU"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arg(device: &str, compute: &str) -> DeviceArg {
        DeviceArg {
            device: device.into(),
            compute: compute.into(),
            merge_on: "auto".into(),
            passes: "auto".into(),
        }
    }

    #[test]
    fn passes_are_as_asked() {
        let auto = choose(&arg("cpu", "auto")).unwrap();
        let plain = choose(&DeviceArg { passes: "plain".into(), ..arg("cpu", "auto") }).unwrap();
        assert_eq!((auto.passes, plain.passes), (Kernels::Auto, Kernels::Plain));
    }

    #[test]
    fn wishes_are_read() {
        assert!(matches!(choose(&arg("cpu", "auto")).unwrap().device, Device::Cpu));
        assert!(choose(&arg("auto", "auto")).is_ok());
        for bad in ["gpu", "cuda", "cuda:x", ""] {
            let e = choose(&arg(bad, "auto")).unwrap_err().to_string();
            assert!(e.contains("expected auto, cpu or cuda:N"), "{e}");
        }
        let e = choose(&arg("cpu", "bf16")).unwrap_err().to_string();
        assert!(e.contains("--compute bf16: on a CPU"), "{e}");
    }

    #[test]
    fn on_a_gpu_the_type_follows_the_model_unless_told() {
        let there = |compute| Chosen::cuda(Device::Cpu, 0, &arg("cuda:0", "auto"), compute);
        let type_of = |chosen: Chosen, stored| chosen.suited(stored).dtype;
        assert_eq!(type_of(there(None), Dtype::F16), DType::F16);
        assert_eq!(type_of(there(None), Dtype::Bf16), DType::BF16);
        assert_eq!(type_of(there(None), Dtype::F32), DType::BF16);
        assert_eq!(type_of(there(Some(DType::F16)), Dtype::Bf16), DType::F16);
        assert_eq!(type_of(choose(&arg("cpu", "auto")).unwrap(), Dtype::Bf16), DType::F32);
    }
}
