//! A copy of a store to look at: opening a store cuts off what cannot be read of it, and that may be evidence.

use crate::store::Error;
use crate::store::sled::{FOLDER, LOCK_PATIENCE, LOCK_PAUSE, Sled, private_folder};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

/// The copy's folder, within the state folder or where the operator wants it.
const NAME: &str = ".fsck";

/// A copy of a store, gone when this is.
#[derive(Debug)]
pub struct Scratch {
    /// Nobody may write to the original while it is copied and looked at.
    _held: Option<File>,
    folder: PathBuf,
    bytes: u64,
}

impl Scratch {
    /// Copies the store of a state folder, into `at` or the state folder itself.
    ///
    /// # Errors
    /// When another process has the store open, there is none, or there is no room for a copy.
    pub fn copy(state: &Path, at: Option<&Path>) -> Result<Scratch, Error> {
        let store = state.join(FOLDER);
        let held = hold(state, &store)?;
        let folder = at.unwrap_or(state).join(NAME);
        // One that was killed left it.
        let _ = std::fs::remove_dir_all(&folder);
        let mut scratch = Scratch { _held: held, folder, bytes: 0 };
        private_folder(&scratch.folder).map_err(|e| failed(&scratch.folder, &e))?;
        if store.is_dir() {
            scratch.bytes = copy(&store, &scratch.folder.join(FOLDER)).map_err(|e| failed(&store, &e))?;
        }
        Ok(scratch)
    }

    /// Opens the copy.
    ///
    /// # Errors
    /// When nothing of it can be read.
    pub fn open(&self) -> Result<Sled, Error> {
        Sled::open_unwitnessed(&self.folder)
    }

    /// How large it is.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The lock that whoever writes to a store has, once nobody has it; `None` where there is no log.
fn hold(state: &Path, store: &Path) -> Result<Option<File>, Error> {
    let log = match File::open(store.join("db")) {
        Ok(log) => log,
        // A store without its log is a damaged one, and is looked at as such.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(store, &e)),
    };
    let mut patience = LOCK_PATIENCE;
    loop {
        match log.try_lock() {
            Ok(()) => return Ok(Some(log)),
            Err(TryLockError::Error(e)) => return Err(failed(store, &e)),
            Err(TryLockError::WouldBlock) if patience.is_zero() => {
                return Err(Error::InUse { folder: state.to_path_buf() });
            }
            Err(TryLockError::WouldBlock) => {
                std::thread::sleep(LOCK_PAUSE);
                patience = patience.saturating_sub(LOCK_PAUSE);
            }
        }
    }
}

fn copy(from: &Path, to: &Path) -> std::io::Result<u64> {
    private_folder(to)?;
    let mut bytes = 0;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            bytes += copy(&entry.path(), &target)?;
        } else if kind.is_file() {
            bytes += std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(bytes)
}

fn failed(path: &Path, e: &std::io::Error) -> Error {
    let path = path.display();
    let message =
        format!("{path}: {e} (a copy needs as much room as the store; --scratch DIR makes it elsewhere)");
    Error::Disk { doing: "copy the store to look at it", message }
}
