//! Read-only memory maps of whole files. The only place of the checkpoint and merge code that maps memory.

use super::error::{Error, Result};
use common::bounded;
use std::path::Path;

/// The content of one file, mapped read-only. Pages are shared with every other process that maps the file.
#[derive(Debug)]
pub(crate) struct Map(Option<memmap2::Mmap>);

impl Map {
    /// Maps the file at `path`. An empty file gives an empty slice.
    #[expect(unsafe_code, reason = "files are mapped here and nowhere else")]
    pub(crate) fn open(path: &Path) -> Result<Map> {
        let (file, bytes) = bounded::open(path).map_err(Error::io("open", path))?;
        if bytes == 0 {
            return Ok(Map(None));
        }
        // SAFETY: the map is private to this process and never written, so the one hazard is another process
        // that changes or truncates the file meanwhile. Model files are immutable by contract: they are
        // pinned by digest when a run starts, and the writer of this crate replaces folders by rename, never
        // in place. A truncation in spite of that ends the process with SIGBUS, it does not corrupt memory;
        // changed bytes are only ever read as numbers, for which every bit pattern is valid.
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(Error::io("map", path))?;
        Ok(Map(Some(map)))
    }

    /// Tells the system that a part of the file will be read soon. `part` must be of [`Map::bytes`]; another is ignored.
    pub(crate) fn will_need(&self, part: &[u8]) {
        let Some(map) = &self.0 else { return };
        let Some(offset) = (part.as_ptr() as usize).checked_sub(map.as_ptr() as usize) else { return };
        if offset.saturating_add(part.len()) <= map.len() {
            // Advice only: without it reading is slower, not wrong.
            #[cfg(unix)]
            let _ = map.advise_range(memmap2::Advice::WillNeed, offset, part.len());
        }
    }

    /// The file's bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.as_deref().unwrap_or(&[])
    }
}
