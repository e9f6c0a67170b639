//! What the machine can do at best, measured in the same minutes as the rehearsal: the floors' speeds.

use crate::device::Chosen;
use anyhow::{Context, Result};
use candle_core::{DType, Tensor};
use rayon::prelude::*;
use rustix::fs::{Advice, fadvise};
use serde::Serialize;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// Speeds, in bytes or operations a second.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Rates {
    /// Host memory: bytes read and written by a copy on all threads, both counted.
    pub host_copy: f64,
    /// The same where the model runs.
    pub device_copy: f64,
    /// Floating-point operations of a large matrix product in the model's type, where it runs.
    pub matmul: f64,
    /// Writing a file and flushing it to the disk.
    pub disk_write: f64,
    /// Reading it again after the page cache gave it up; a disk of a virtual machine may have caches of its own.
    pub disk_read: f64,
}

impl Rates {
    /// Measures with matrices of `hidden` by `feed_forward`; files of `file_bytes` are written into `folder`.
    ///
    /// # Errors
    /// When memory or disk cannot be had.
    pub fn measure(
        chosen: &Chosen,
        (hidden, feed_forward): (usize, usize),
        folder: &Path,
        file_bytes: usize,
    ) -> Result<Rates> {
        let host_copy = host_copy(file_bytes);
        let device_copy = if chosen.device.is_cpu() { host_copy } else { device_copy(chosen)? };
        let matmul = matmul(chosen, hidden, feed_forward)?;
        let (disk_write, disk_read) = disk(folder, file_bytes)?;
        Ok(Rates { host_copy, device_copy, matmul, disk_write, disk_read })
    }

    /// Of every speed the higher.
    pub fn or_faster(&self, other: &Rates) -> Rates {
        Rates {
            host_copy: self.host_copy.max(other.host_copy),
            device_copy: self.device_copy.max(other.device_copy),
            matmul: self.matmul.max(other.matmul),
            disk_write: self.disk_write.max(other.disk_write),
            disk_read: self.disk_read.max(other.disk_read),
        }
    }
}

/// The shortest of several runs: what disturbs a run only ever makes it longer.
fn shortest(mut run: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut best = f64::INFINITY;
    let began = Instant::now();
    for round in 0.. {
        let one = Instant::now();
        run()?;
        best = best.min(one.elapsed().as_secs_f64());
        if round >= 2 && began.elapsed() > Duration::from_millis(800) {
            break;
        }
    }
    Ok(best.max(1e-9))
}

fn host_copy(bytes: usize) -> f64 {
    let from = vec![1u8; bytes];
    let mut to = vec![0u8; bytes];
    let part = 4 << 20;
    let seconds = shortest(|| {
        to.par_chunks_mut(part).zip(from.par_chunks(part)).for_each(|(to, from)| to.copy_from_slice(from));
        Ok(())
    });
    2.0 * bytes as f64 / seconds.unwrap_or(f64::INFINITY)
}

fn device_copy(chosen: &Chosen) -> Result<f64> {
    let bytes = 1usize << 30;
    let from = Tensor::zeros(bytes, DType::U8, &chosen.device)?;
    let seconds = shortest(|| {
        from.force_contiguous()?;
        Ok(chosen.device.synchronize()?)
    })?;
    Ok(2.0 * bytes as f64 / seconds)
}

fn matmul(chosen: &Chosen, hidden: usize, feed_forward: usize) -> Result<f64> {
    let rows = 512;
    let random = |r, c| Tensor::randn(0f32, 1.0, (r, c), &chosen.device)?.to_dtype(chosen.dtype);
    let (x, weight) = (random(rows, hidden)?, random(feed_forward, hidden)?.t()?);
    let seconds = shortest(|| {
        x.matmul(&weight)?;
        Ok(chosen.device.synchronize()?)
    })?;
    Ok(2.0 * (rows * hidden * feed_forward) as f64 / seconds)
}

fn disk(folder: &Path, bytes: usize) -> Result<(f64, f64)> {
    let path = folder.join("disk-probe");
    let told = || path.display().to_string();
    let mut content = vec![0u8; bytes];
    super::random::fill("disk.weight", 0, crate::checkpoint::Dtype::F32, &mut content);
    let began = Instant::now();
    let mut file = File::create(&path).with_context(told)?;
    file.write_all(&content).and_then(|()| file.sync_all()).with_context(told)?;
    let write = bytes as f64 / began.elapsed().as_secs_f64().max(1e-9);
    forget(&path)?;
    let began = Instant::now();
    File::open(&path).and_then(|mut f| f.read_exact(&mut content)).with_context(told)?;
    let read = bytes as f64 / began.elapsed().as_secs_f64().max(1e-9);
    std::fs::remove_file(&path).with_context(told)?;
    Ok((write, read))
}

/// Asks the page cache to give up a file that is on the disk, so that reading it begins there.
pub(super) fn forget(path: &Path) -> Result<()> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    // Advice: where it is not taken, what is read from the disk is counted all the same.
    let _ = fadvise(&file, 0, None, Advice::DontNeed);
    Ok(())
}
