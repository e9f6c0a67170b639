//! The hidden folder that a model is written in before it appears, and the room that it takes.

use super::dtype::size_bytes;
use super::error::{Error, Result};
use super::write::Spec;
use std::fs;
use std::path::{Path, PathBuf};

/// Files beside the weights, headers and indexes: the largest real tokenizers take 20 MB.
const BESIDE_BYTES: u64 = 64 << 20;

/// `.NAME.PID.part` beside `target`, for this process. Its number keeps two writers of one target apart; the later rename
/// then fails for one.
///
/// # Errors
/// [`Error::Io`] when the target's place cannot be told.
pub fn folder(target: &Path) -> Result<PathBuf> {
    let absolute = std::path::absolute(target).map_err(Error::io("resolve", target))?;
    Ok(absolute.with_file_name(format!("{}{}.part", beginning(&absolute), std::process::id())))
}

fn beginning(absolute: &Path) -> String {
    format!(".{}.", absolute.file_name().map(|n| n.to_string_lossy()).unwrap_or_default())
}

/// Removes what processes left behind that were killed while they wrote `target`. A folder of a living process stays, and
/// so does every folder where the system does not tell which processes live.
pub(super) fn remove_stale(target: &Path) -> Result<()> {
    let absolute = std::path::absolute(target).map_err(Error::io("resolve", target))?;
    let (Some(parent), beginning) = (absolute.parent(), beginning(&absolute)) else { return Ok(()) };
    let processes = Path::new("/proc");
    if !processes.join(std::process::id().to_string()).exists() {
        return Ok(());
    }
    let dead = |name: &str| {
        let number = name.strip_prefix(&beginning)?.strip_suffix(".part")?;
        number.bytes().all(|b| b.is_ascii_digit()).then_some(())?;
        (!number.is_empty() && !processes.join(number).exists()).then_some(())
    };
    // A parent that is not there is told where the folder is made.
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        if entry.file_name().to_str().and_then(dead).is_some() {
            let path = entry.path();
            fs::remove_dir_all(&path).map_err(Error::io("remove", path))?;
        }
    }
    Ok(())
}

/// Whether the file system of `target` has room for tensors like `specs` and what goes with them.
///
/// # Errors
/// [`Error::Space`] says how much is missing; [`Error::Malformed`] for a shape that overflows; [`Error::Io`].
pub fn check_space(target: &Path, specs: &[Spec]) -> Result<()> {
    let absolute = std::path::absolute(target).map_err(Error::io("resolve", target))?;
    let mut needed = BESIDE_BYTES;
    for spec in specs {
        let (_, bytes) = size_bytes(&spec.shape, spec.dtype).ok_or_else(|| {
            Error::malformed(target, &spec.name, format!("shape {:?} overflows", spec.shape))
        })?;
        needed = needed.saturating_add(bytes as u64);
    }
    let folder = absolute.parent().unwrap_or(&absolute);
    let disk =
        rustix::fs::statvfs(folder).map_err(|e| Error::io("look at the free space of", folder)(e.into()))?;
    enough(folder, needed, disk.f_bavail.saturating_mul(disk.f_frsize))
}

fn enough(folder: &Path, needed: u64, free: u64) -> Result<()> {
    match needed > free {
        true => Err(Error::Space { folder: folder.into(), missing: needed - free, needed, free }),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Dtype;

    #[test]
    fn what_is_missing_is_told_in_numbers() {
        let e = enough(Path::new("/data"), 16_060_000_000, 10_060_000_000).unwrap_err().to_string();
        assert!(e.starts_with(
            "/data: 6.00 GB of disk are missing: 16.06 GB are to be written, 10.06 GB are free"
        ));
        assert!(enough(Path::new("/data"), 5, 5).is_ok());
        // No disk has an exabyte.
        let spec = |shape: &[usize]| [Spec { name: "a".into(), dtype: Dtype::F32, shape: shape.into() }];
        let target = tempfile::tempdir().unwrap();
        let out = target.path().join("out");
        assert!(matches!(check_space(&out, &spec(&[1 << 58])), Err(Error::Space { .. })));
        assert!(matches!(check_space(&out, &spec(&[usize::MAX])), Err(Error::Malformed { .. })));
        check_space(&out, &spec(&[4])).unwrap();
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn only_what_dead_processes_left_goes() {
        let parent = tempfile::tempdir().unwrap();
        let make = |name: &str| fs::create_dir(parent.path().join(name)).unwrap();
        // Numbers of processes end far below this.
        let dead = ".out.4194999999.part";
        let others =
            [".out.1.part", ".out.x.part", ".out..part", ".other.4194999999.part", "out.4194999999.part"];
        [dead].iter().chain(&others).for_each(|n| make(n));
        remove_stale(&parent.path().join("out")).unwrap();
        assert!(!parent.path().join(dead).exists());
        assert!(others.iter().all(|n| parent.path().join(n).exists()));
    }
}
