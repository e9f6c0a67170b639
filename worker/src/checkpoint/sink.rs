//! A large file, written past the page cache where the file system lets.
//!
//! A model that is written is flushed in any case, so what the page cache brings is a copy of every byte and the clearing out of
//! the models that are read. What does not fill a page, the end of a file, goes by way of the cache, and so does everything where the
//! file system refuses.

use super::aligned::{ALIGNED, Aligned};
use super::error::{Error, Result};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Bytes that are handed to the disk at once.
pub const STAGE_BYTES: usize = 8 << 20;
/// Aligned bytes that are handed over as they are, without being staged: as many are worth a write of their own.
const LEAST_WHOLE: usize = 256 << 10;
/// Bytes that may wait for the disk where the cache is used. Flushed as it goes, little is left for the end, when nothing else is to
/// be done.
const UNFLUSHED: usize = 64 << 20;

/// A file in the making.
pub(super) struct Sink {
    path: PathBuf,
    file: File,
    direct: Option<File>,
    stage: Aligned,
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
        let stage = Aligned::new(stage);
        Ok(Sink { path: path.into(), file, direct, stage, written: 0, unflushed: 0 })
    }

    /// Appends bytes: at once, what is aligned in memory and in the file.
    pub(super) fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        let aligned = bytes.as_ptr().addr() | self.stage.len() | self.written as usize;
        if aligned.is_multiple_of(ALIGNED) && bytes.len() >= LEAST_WHOLE && self.direct.is_some() {
            self.hand_over()?;
            bytes = direct(&mut self.direct, &mut self.written, bytes);
        }
        while !bytes.is_empty() {
            if self.stage.len() == self.stage.size() {
                self.hand_over()?;
            }
            bytes = self.stage.append(bytes);
        }
        Ok(())
    }

    /// Writes what is staged: what is whole of it directly, if that goes.
    fn hand_over(&mut self) -> Result<()> {
        let cached = direct(&mut self.direct, &mut self.written, &self.stage);
        self.file.write_all_at(cached, self.written).map_err(Error::io("write", &self.path))?;
        self.written += cached.len() as u64;
        self.unflushed += cached.len();
        self.stage.set_filled(0);
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

/// Writes what is whole of aligned bytes past the cache, if that goes, and gives what is left.
fn direct<'b>(direct: &mut Option<File>, written: &mut u64, bytes: &'b [u8]) -> &'b [u8] {
    let (whole, rest) = bytes.split_at(bytes.len() / ALIGNED * ALIGNED);
    let Some(file) = direct else { return bytes };
    match file.write_all_at(whole, *written) {
        Ok(()) => {
            *written += whole.len() as u64;
            rest
        }
        // Whatever it was, the cache knows it too, or can do without what was refused.
        Err(_) => {
            *direct = None;
            bytes
        }
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

    /// What is aligned is not staged; what comes after something that is not aligned is, until a page is full again.
    #[test]
    fn what_is_aligned_is_handed_over_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let (mut all, mut room) = (Vec::new(), Aligned::new(STAGE_BYTES));
        let mut sink = Sink::create(&path, 4 * STAGE_BYTES as u64).unwrap();
        let mut write = |sink: &mut Sink, bytes: usize| {
            room.set_filled(0);
            room.append(&content(bytes + all.len())[all.len()..]);
            sink.write(&room).unwrap();
            all.extend_from_slice(&room);
            (sink.written as usize, sink.stage.len())
        };
        assert_eq!(write(&mut sink, ALIGNED), (0, ALIGNED));
        let written = write(&mut sink, LEAST_WHOLE + 5);
        // A file system may open it and then refuse.
        let goes = sink.direct.is_some();
        assert_eq!(written, if goes { (ALIGNED + LEAST_WHOLE, 5) } else { (0, ALIGNED + LEAST_WHOLE + 5) });
        let staged = write(&mut sink, LEAST_WHOLE).1 - written.1;
        assert_eq!(staged, LEAST_WHOLE, "the file ends within a page");
        write(&mut sink, ALIGNED - 5);
        let (written, staged) = write(&mut sink, STAGE_BYTES);
        assert_eq!(staged == 0 && written == all.len(), goes && sink.direct.is_some());
        sink.finish().unwrap();
        assert!(std::fs::read(&path).unwrap() == all);
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
