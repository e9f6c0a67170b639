//! What a writer must know of the machine: room on a disk, processes that run.

use super::error::{Error, Result};
use std::path::Path;

/// Bytes free for this user on the disk that holds `folder`; none where the system does not say.
pub fn free_bytes(folder: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Refuses to begin what cannot be finished.
///
/// # Errors
/// [`Error::Room`] when `needed` bytes do not fit on the disk that holds `folder`; `target` is what is being written.
pub(super) fn check_room(folder: &Path, target: &Path, needed: u64) -> Result<()> {
    match free_bytes(folder) {
        Some(free) if free < needed => {
            Err(Error::Room { path: target.into(), needed, missing: needed - free })
        }
        _ => Ok(()),
    }
}

/// The machine's name, as part of a file's name: folders may be shared between machines.
pub(super) fn machine() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect()
}

/// Whether a process of that number runs on this machine. Where it cannot be told, it is taken to run.
pub(super) fn runs(process: u32) -> bool {
    let pid = i32::try_from(process).ok().and_then(rustix::process::Pid::from_raw);
    pid.is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
}
