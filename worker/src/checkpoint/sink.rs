//! A large file, written past the page cache where the file system lets.
//!
//! A model that is written is flushed in any case, so what the page cache brings is a copy of every byte and the clearing out of
//! the models that are read. What does not fill a page, the end of a file, goes by way of the cache, and so does everything where the
//! file system refuses.

use super::error::{Error, Result};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Bytes that are handed to the disk at once.
pub const STAGE_BYTES: usize = 8 << 20;
/// What addresses, sizes and places in a file that is written directly are multiples of: a page, and no disk has larger blocks.
const ALIGNED: usize = 4096;
/// Bytes that may wait for the disk where the cache is used. Flushed as it goes, little is left for the end, when nothing else is to
/// be done.
const UNFLUSHED: usize = 64 << 20;

/// A file in the making.
pub(super) struct Sink {
    path: PathBuf,
    file: File,
    direct: Option<File>,
    /// Room for a stage, from the first aligned address on.
    room: Vec<u8>,
    from: usize,
    filled: usize,
    /// Bytes before the stage, all of them handed over.
    written: u64,
    unflushed: usize,
}

impl Sink {
    /// Creates the file, which will have so many bytes.
    pub(super) fn create(path: &Path, bytes: u64) -> Result<Sink> {
        let file = File::create(path).map_err(Error::io("create", path))?;
        let direct = if bytes >= STAGE_BYTES as u64 { open_direct(path) } else { None };
        let stage = usize::try_from(bytes).map_or(STAGE_BYTES, |bytes| bytes.clamp(1, STAGE_BYTES));
        let room = vec![0; stage + ALIGNED];
        let from = room.as_ptr().align_offset(ALIGNED).min(ALIGNED);
        Ok(Sink { path: path.into(), file, direct, room, from, filled: 0, written: 0, unflushed: 0 })
    }

    fn size(&self) -> usize {
        self.room.len() - ALIGNED
    }

    /// Appends bytes.
    pub(super) fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            if self.filled == self.size() {
                self.hand_over()?;
            }
            let (now, later) = bytes.split_at(bytes.len().min(self.size() - self.filled));
            let at = self.from + self.filled;
            self.room[at..at + now.len()].copy_from_slice(now);
            self.filled += now.len();
            bytes = later;
        }
        Ok(())
    }

    /// Writes what is staged: what is whole of it directly, if that goes.
    fn hand_over(&mut self) -> Result<()> {
        let stage = &self.room[self.from..self.from + self.filled];
        let (whole, rest) = stage.split_at(stage.len() / ALIGNED * ALIGNED);
        let mut cached = stage;
        if let Some(direct) = &self.direct {
            match direct.write_all_at(whole, self.written) {
                Ok(()) => {
                    self.written += whole.len() as u64;
                    cached = rest;
                }
                // Whatever it was, the cache knows it too, or can do without what was refused.
                Err(_) => self.direct = None,
            }
        }
        self.file.write_all_at(cached, self.written).map_err(Error::io("write", &self.path))?;
        self.written += cached.len() as u64;
        self.unflushed += cached.len();
        self.filled = 0;
        if self.unflushed >= UNFLUSHED {
            self.file.sync_data().map_err(Error::io("flush", &self.path))?;
            self.unflushed = 0;
        }
        Ok(())
    }

    /// Writes the rest, and has all of it on the disk.
    pub(super) fn finish(mut self) -> Result<()> {
        self.hand_over()?;
        self.file.sync_all().map_err(Error::io("flush", &self.path))
    }
}

/// The same file once more, for writes past the cache.
fn open_direct(path: &Path) -> Option<File> {
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::fs::OpenOptionsExt;
        let flags = rustix::fs::OFlags::DIRECT.bits().cast_signed();
        std::fs::OpenOptions::new().write(true).custom_flags(flags).open(path).ok()
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = path;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that differ from place to place.
    fn content(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|i| (i / 251 + i % 251) as u8).collect()
    }

    #[test]
    fn what_is_written_in_pieces_of_any_size_is_the_file() {
        let folder = tempfile::tempdir().unwrap();
        for bytes in [0, 1, ALIGNED, STAGE_BYTES - 1, STAGE_BYTES, STAGE_BYTES + 1, 3 * STAGE_BYTES + 4097] {
            for refused in [false, true] {
                let path = folder.path().join("file");
                let all = content(bytes);
                let mut sink = Sink::create(&path, bytes as u64).unwrap();
                if refused {
                    sink.direct = None;
                }
                let mut rest = &all[..];
                for size in [1, 8, 4095, STAGE_BYTES, 12_345_678, usize::MAX] {
                    let (now, later) = rest.split_at(size.min(rest.len()));
                    sink.write(now).unwrap();
                    rest = later;
                }
                sink.finish().unwrap();
                assert!(std::fs::read(&path).unwrap() == all, "{bytes} bytes, refused: {refused}");
            }
        }
    }

    /// A file that was opened for reading refuses every write.
    #[test]
    fn what_is_refused_goes_by_way_of_the_cache() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let all = content(2 * STAGE_BYTES + 7);
        let mut sink = Sink::create(&path, all.len() as u64).unwrap();
        sink.direct = Some(File::open(&path).unwrap());
        sink.write(&all).unwrap();
        assert!(sink.direct.is_none());
        sink.finish().unwrap();
        assert!(std::fs::read(&path).unwrap() == all);
        // Of more bytes than were announced none is lost.
        for announced in [0, 5] {
            let mut sink = Sink::create(&path, announced).unwrap();
            sink.write(&all[..100_000]).unwrap();
            sink.finish().unwrap();
            assert!(std::fs::read(&path).unwrap() == all[..100_000]);
        }
        // A disk that refuses after it has taken some.
        let mut sink = Sink::create(&path, all.len() as u64).unwrap();
        sink.write(&all[..STAGE_BYTES + 9]).unwrap();
        sink.direct = sink.direct.is_some().then(|| File::open(&path).unwrap());
        sink.write(&all[STAGE_BYTES + 9..]).unwrap();
        sink.finish().unwrap();
        assert!(std::fs::read(&path).unwrap() == all);
    }

    #[test]
    fn a_place_that_cannot_be_is_told() {
        let fault = Sink::create(Path::new("/nowhere/at/all"), 1).err().unwrap().to_string();
        assert!(fault.contains("create") && fault.contains("/nowhere/at/all"), "{fault}");
    }
}
