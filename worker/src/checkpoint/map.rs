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

    /// Gives back the memory in which whole pages of a part of the file are seen, though not the page cache's. `part` must be of
    /// [`Map::bytes`]; another is ignored. What it takes is taken from the end of the process, where one thread does it for all.
    pub(crate) fn let_go(&self, part: &[u8]) {
        #[cfg(unix)]
        {
            const PAGE: usize = 4096;
            let Some(map) = &self.0 else { return };
            let Some(offset) = part.as_ptr().addr().checked_sub(map.as_ptr().addr()) else { return };
            let (from, to) = (offset.next_multiple_of(PAGE), offset.saturating_add(part.len()) / PAGE * PAGE);
            if from < to && to <= map.len() {
                // SAFETY: the map is of a file and never written, so that what is read again is what was there: no reference
                // to it sees anything else.
                #[expect(unsafe_code, reason = "as advice it would not be sound for other maps")]
                let _ = unsafe {
                    map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, from, to - from)
                };
            }
        }
        #[cfg(not(unix))]
        let _ = part;
    }

    /// The file's bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.as_deref().unwrap_or(&[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_let_go_is_there_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let content: Vec<u8> = (0..300_000).map(|i| (i / 251 + i % 251) as u8).collect();
        std::fs::write(&path, &content).unwrap();
        let map = Map::open(&path).unwrap();
        assert!(map.bytes() == content);
        // Bytes of it that are in memory of this process.
        #[cfg(target_os = "linux")]
        let resident = || {
            let text = std::fs::read_to_string("/proc/self/smaps").unwrap();
            let of_map = text.lines().skip_while(|line| !line.contains(path.to_str().unwrap()));
            let line = of_map.into_iter().find_map(|line| line.strip_prefix("Rss:")).unwrap();
            line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
        };
        #[cfg(target_os = "linux")]
        assert!(resident() >= content.len() / 4096 * 4096);
        map.let_go(&map.bytes()[100..200_000]);
        #[cfg(target_os = "linux")]
        assert!(resident() <= content.len() - 180_000, "{}", resident());
        assert!(map.bytes() == content);
        // Of no page a whole, of nothing, of another place.
        for part in [&map.bytes()[5..4000], &[], &content[..]] {
            map.let_go(part);
        }
        assert!(map.bytes() == content);
    }
}
