//! Which device models run on.

use crate::memory::GpuMemory;
use anyhow::{Context, Result, bail};
use candle_core::{DType, Device};

/// A device with what people are told of it.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// The device.
    pub device: Device,
    /// The type that weights and activations have on it: float32 on a CPU, where it is fastest; the model's own
    /// 16 bits on a GPU.
    pub dtype: DType,
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
}

/// Reads `auto`, `cpu` or `cuda:N`. `auto` takes the first GPU if this build can use it, else the CPU with a note.
pub fn choose(wish: &str) -> Result<Chosen> {
    match wish {
        "cpu" => Ok(cpu(None)),
        "auto" => Ok(auto()),
        _ => {
            let index = wish.strip_prefix("cuda:").and_then(|n| n.parse::<usize>().ok());
            let index = index.with_context(|| format!("--device {wish}: expected auto, cpu or cuda:N"))?;
            if !candle_core::utils::cuda_is_available() {
                bail!(
                    "--device {wish}: this program was built without CUDA; build it with --features cuda, or use cpu"
                );
            }
            let device = Device::new_cuda(index).with_context(|| format!("--device {wish}"))?;
            Ok(cuda(device, index))
        }
    }
}

fn auto() -> Chosen {
    if !candle_core::utils::cuda_is_available() {
        return cpu(None);
    }
    match Device::new_cuda(0) {
        Ok(device) => cuda(device, 0),
        // A CUDA build on a node without a GPU (or with a broken driver) still works, but never silently.
        Err(e) => cpu(Some(format!("no CUDA device ({e}); running on the CPU"))),
    }
}

fn cpu(note: Option<String>) -> Chosen {
    let words = format!("cpu ({} threads)", rayon::current_num_threads());
    Chosen { device: Device::Cpu, dtype: DType::F32, words, note }
}

fn cuda(device: Device, index: usize) -> Chosen {
    Chosen { device, dtype: DType::F16, words: format!("cuda:{index}"), note: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_read() {
        assert!(matches!(choose("cpu").unwrap().device, Device::Cpu));
        assert!(choose("auto").is_ok());
        for bad in ["gpu", "cuda", "cuda:x", ""] {
            let e = choose(bad).unwrap_err().to_string();
            assert!(e.contains("expected auto, cpu or cuda:N"), "{e}");
        }
    }
}
