//! Content digests of a model's files, by which a run pins what it was started with.

use super::Checkpoint;
use super::error::{Error, Result};
use common::digest::FileDigest;

impl Checkpoint {
    /// The BLAKE3 digest of every file of [`Checkpoint::files`], as `models/<name>/<file>`, sorted by file.
    /// Reads every byte, on all threads of the current rayon pool.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn digests(&self, name: &str) -> Result<Vec<FileDigest>> {
        self.files().into_iter().map(|file| self.digest_file(name, &file)).collect()
    }

    fn digest_file(&self, name: &str, file: &str) -> Result<FileDigest> {
        let opened;
        let bytes = match self.weights.iter().find(|(weights, _)| weights == file) {
            Some((_, map)) => map.bytes(),
            None => {
                let path = self.folder.join(file);
                opened = std::fs::read(&path).map_err(Error::io("read", path))?;
                &opened
            }
        };
        let mut hasher = blake3::Hasher::new();
        hasher.update_rayon(bytes);
        let digest = hasher.finalize().into();
        Ok(FileDigest { name: format!("models/{name}/{file}"), bytes: bytes.len() as u64, digest })
    }
}
