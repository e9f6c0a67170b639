//! What this process really holds: its own pages now, their peak over a stretch of time, and bytes from and to the disk.

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

/// Looks at [`anonymous`] every two milliseconds and keeps the largest: the kernel's own peak counts mapped files too.
#[derive(Debug)]
pub struct Watch {
    stop: Arc<AtomicBool>,
    peak: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Starts looking. Nothing is seen where the system does not say.
    pub fn start() -> std::io::Result<Watch> {
        let (stop, peak) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (ends, highest) = (stop.clone(), peak.clone());
        let thread = std::thread::Builder::new().name("memory-watch".into()).spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                highest.fetch_max(anonymous().unwrap_or(0), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(2));
            }
        })?;
        Ok(Watch { stop, peak, thread: Some(thread) })
    }

    /// The largest since the last call, and begins anew.
    pub fn take_peak(&self) -> u64 {
        let now = anonymous().unwrap_or(0);
        self.peak.swap(now, Ordering::Relaxed).max(now)
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
        let watch = Watch::start().expect("a thread");
        let before = watch.take_peak();
        // Large against anything that other tests of this process free meanwhile.
        let bytes = vec![1u8; 512 << 20];
        assert!(bytes.iter().step_by(4096).all(|&b| b == 1));
        let peak = watch.take_peak();
        drop(bytes);
        assert!(peak > before.saturating_sub(128 << 20) + (256 << 20), "{before} {peak}");
        assert!(disk_bytes().is_some());
    }
}
