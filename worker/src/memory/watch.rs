//! What this process really holds: its own pages now, their peak over a stretch of time, the same of a GPU, and bytes from
//! and to the disk.
//!
//! A GPU's driver tells what is free of the device, so what others take there meanwhile is counted too.

use crate::device::Chosen;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Bytes of a `key: N kB` line of a file of `/proc`.
pub(super) fn field_kib(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|l| l.strip_prefix(key))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? << 10)
}

/// Bytes of this process's own memory: anonymous pages, no mapped files. None where the system does not say.
pub fn anonymous() -> Option<u64> {
    field_kib(&std::fs::read_to_string("/proc/self/status").ok()?, "RssAnon:")
}

/// Bytes that this process has read from and written to storage so far, the page cache's hits not counted.
pub fn disk_bytes() -> Option<(u64, u64)> {
    let text = std::fs::read_to_string("/proc/self/io").ok()?;
    let field = |key: &str| text.lines().find_map(|l| l.strip_prefix(key)?.trim().parse::<u64>().ok());
    Some((field("read_bytes:")?, field("write_bytes:")?))
}

/// The largest amounts held over a stretch of time, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peaks {
    /// Pages of this process's own.
    pub host: u64,
    /// Memory of the GPU beyond what was taken when the watch began; none on a CPU.
    pub device: Option<u64>,
}

/// Looks at [`anonymous`], and at the GPU's free memory, every two milliseconds and keeps the largest: the kernel's own peak
/// counts mapped files too.
#[derive(Debug)]
pub struct Watch {
    stop: Arc<AtomicBool>,
    host: Arc<AtomicU64>,
    device: Arc<AtomicU64>,
    gpu: Gpu,
    thread: Option<JoinHandle<()>>,
}

/// The GPU that is watched, if there is one, and the bytes of it that were taken at first.
#[derive(Clone, Debug)]
struct Gpu {
    chosen: Chosen,
    at_first: Option<u64>,
}

impl Gpu {
    fn taken(chosen: &Chosen) -> Option<u64> {
        chosen.memory().map(|m| m.total.saturating_sub(m.free))
    }

    /// Bytes taken since the watch began.
    fn held(&self) -> Option<u64> {
        Some(Gpu::taken(&self.chosen)?.saturating_sub(self.at_first?))
    }
}

impl Watch {
    /// Starts looking at this process and at the device chosen. Nothing is seen where the system does not say.
    pub fn start(chosen: &Chosen) -> std::io::Result<Watch> {
        let stop = Arc::new(AtomicBool::new(false));
        let (host, device) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let gpu = Gpu { chosen: chosen.clone(), at_first: Gpu::taken(chosen) };
        let (ends, highest, on_gpu, watched) = (stop.clone(), host.clone(), device.clone(), gpu.clone());
        let thread = std::thread::Builder::new().name("memory-watch".into()).spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                highest.fetch_max(anonymous().unwrap_or(0), Ordering::Relaxed);
                on_gpu.fetch_max(watched.held().unwrap_or(0), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(2));
            }
        })?;
        Ok(Watch { stop, host, device, gpu, thread: Some(thread) })
    }

    /// The largest since the last call, and begins anew.
    pub fn take_peaks(&self) -> Peaks {
        let take = |peak: &AtomicU64, now: u64| peak.swap(now, Ordering::Relaxed).max(now);
        Peaks {
            host: take(&self.host, anonymous().unwrap_or(0)),
            device: self.gpu.held().map(|now| take(&self.device, now)),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // The thread only reads a file; should it have panicked there is nothing to add.
            let _ = thread.join();
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_watch_sees_memory_that_is_gone_again() {
        let watch = Watch::start(&Chosen::cpu(None)).expect("a thread");
        let Peaks { host: before, device } = watch.take_peaks();
        assert_eq!(device, None);
        // Large against anything that other tests of this process free meanwhile.
        let bytes = vec![1u8; 512 << 20];
        assert!(bytes.iter().step_by(4096).all(|&b| b == 1));
        let peak = watch.take_peaks().host;
        drop(bytes);
        assert!(peak > before.saturating_sub(128 << 20) + (256 << 20), "{before} {peak}");
        assert!(disk_bytes().is_some());
    }
}
