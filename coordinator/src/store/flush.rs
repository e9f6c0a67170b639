//! To the disk, and not only to its cache.
//!
//! sled 0.34.7 flushes its log by `sync_file_range` on Linux (`pagecache/iobuf.rs`, `write_to_log`), which neither empties
//! the cache of the disk nor writes the file's length, and it does not flush the files of large records (`pagecache/blob_io.rs`)
//! at all: what it calls flushed outlives the process, not a loss of power. So each commit flushes the log itself, and
//! the files of large records that are new.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Result};
use std::path::{Path, PathBuf};

/// The files of a store that a commit has to reach.
#[derive(Debug)]
pub(super) struct Flush {
    log: File,
    blobs: PathBuf,
    /// Those that were flushed.
    known: BTreeSet<OsString>,
}

impl Flush {
    /// Those of an open store, in that folder.
    pub(super) fn new(store: &Path) -> Result<Flush> {
        let mut flush =
            Flush { log: File::open(store.join("db"))?, blobs: store.join("blobs"), known: BTreeSet::new() };
        // What a process before this one left may be in the cache only.
        flush.files_of_large_records()?;
        folder_entries(store)?;
        Ok(flush)
    }

    /// Returns when everything that was written has reached the disk.
    pub(super) fn flush(&mut self) -> Result<()> {
        self.files_of_large_records()?;
        self.log.sync_data()
    }

    fn files_of_large_records(&mut self) -> Result<()> {
        let mut found = BTreeSet::new();
        let entries = match std::fs::read_dir(&self.blobs) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            if !self.known.contains(&name) {
                match File::open(entry.path()) {
                    // It was of no use any more.
                    Err(e) if e.kind() == ErrorKind::NotFound => continue,
                    file => file?.sync_all()?,
                }
            }
            found.insert(name);
        }
        if !found.is_subset(&self.known) {
            folder_entries(&self.blobs)?;
        }
        self.known = found;
        Ok(())
    }
}

/// Brings to the disk which files a folder has.
#[cfg(unix)]
pub(super) fn folder_entries(folder: &Path) -> Result<()> {
    File::open(folder)?.sync_all()
}

/// Where folders cannot be opened, the file system writes them on its own.
#[cfg(not(unix))]
pub(super) fn folder_entries(_: &Path) -> Result<()> {
    Ok(())
}

/// Opens a file to write to it. Where it is made, only its owner may read it.
pub(super) fn private_file(options: &mut OpenOptions, path: &Path) -> Result<File> {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options.write(true).open(path)
}
