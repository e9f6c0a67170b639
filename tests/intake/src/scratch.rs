//! Folders for readers that want a path: in memory where the system has such a place, emptied before each input.

use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Where files cost no disk.
const MEMORY: &str = "/dev/shm";

/// A folder of a thread's own.
pub(crate) struct Scratch(TempDir);

impl Scratch {
    pub(crate) fn new() -> Scratch {
        let folder = tempfile::tempdir_in(MEMORY).or_else(|_| tempfile::tempdir());
        Scratch(folder.expect("a folder for the harness"))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Holds these files and no others.
    pub(crate) fn fill(&self, files: &[(&str, &[u8])]) -> PathBuf {
        for entry in std::fs::read_dir(self.path()).expect("the harness's folder").flatten() {
            if !files.iter().any(|(name, _)| entry.file_name() == *name) {
                std::fs::remove_file(entry.path()).expect("the harness's file");
            }
        }
        for (name, bytes) in files {
            std::fs::write(self.path().join(name), bytes).expect("the harness's folder has room");
        }
        self.path().to_path_buf()
    }
}
