//! The witness of a store: a small file beside it, `DIR/committed`, with the number of the last acknowledged commit.
//!
//! sled drops what it cannot read at the end of its log and opens as it was before that: a whole, earlier transaction, and
//! nothing in it says that there was a later one. The store counts its commits ([`super::sled`]); this file remembers the
//! count apart from it. A store that counts fewer was rolled back: by a cut or zeroed file, by a disk that did not keep
//! what it promised, or by a copy from before.
//!
//! Two lines of fixed length that are written in turn, each with a checksum, so that a torn write leaves the other one.
//! Every commit writes one; it is flushed to the disk at most once a second, since only a loss of power could lose it, and
//! an older witness merely sees less. It is written after the commit has reached the disk, so that it is never ahead of
//! an honest one.

use super::Error;
use super::flush::{folder_entries, private_file};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Its name within a state folder.
pub const FILE: &str = "committed";

const FLUSHED_EVERY: Duration = Duration::from_secs(1);
const DIGITS: usize = 20;
const SUM: usize = 32;
/// Digits, space, checksum, end of line.
const LINE: usize = DIGITS + 1 + SUM + 1;

/// The file, once this process has written to it.
#[derive(Debug)]
pub(super) struct Witness {
    path: PathBuf,
    file: Option<File>,
    flushed: Instant,
    pending: bool,
}

impl Witness {
    /// That of a state folder. Nothing is written yet.
    pub(super) fn new(folder: &Path) -> Witness {
        Witness { path: folder.join(FILE), file: None, flushed: Instant::now(), pending: false }
    }

    /// Has the file there before the first commit that it is to witness, so that a store that counts has one.
    pub(super) fn prepare(&mut self, committed: u64) -> std::io::Result<()> {
        if self.file.is_some() {
            return Ok(());
        }
        let mut file = private_file(OpenOptions::new().read(true).create(true).truncate(false), &self.path)?;
        if file.metadata()?.len() < (2 * LINE) as u64 {
            write(&mut file, 0, &(line(committed) + &line(committed)))?;
            file.sync_all()?;
            let folder = self.path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            folder_entries(folder)?;
        }
        self.file = Some(file);
        Ok(())
    }

    /// Notes a commit that has reached the disk.
    pub(super) fn note(&mut self, committed: u64) -> std::io::Result<()> {
        self.prepare(committed)?;
        let Some(file) = &mut self.file else { return Ok(()) };
        write(file, committed % 2 * LINE as u64, &line(committed))?;
        self.pending = true;
        if self.flushed.elapsed() >= FLUSHED_EVERY {
            self.flush()?;
        }
        Ok(())
    }

    /// Brings it to the disk.
    pub(super) fn flush(&mut self) -> std::io::Result<()> {
        if let Some(file) = self.file.as_ref().filter(|_| self.pending) {
            file.sync_data()?;
        }
        (self.pending, self.flushed) = (false, Instant::now());
        Ok(())
    }
}

fn write(file: &mut File, at: u64, text: &str) -> std::io::Result<()> {
    file.seek(SeekFrom::Start(at))?;
    file.write_all(text.as_bytes())
}

fn line(committed: u64) -> String {
    let number = format!("{committed:0DIGITS$}");
    let sum = blake3::hash(format!("jradievo committed {number}").as_bytes()).to_hex();
    format!("{number} {}\n", &sum.as_str()[..SUM])
}

/// The number of the last commit that a state folder's witness knows; `None` where there is no such file.
///
/// # Errors
/// When it cannot be read, or is damaged.
pub fn read(folder: &Path) -> Result<Option<u64>, Error> {
    let unwitnessed = |what: String| Error::Unwitnessed { folder: folder.to_path_buf(), what };
    let mut bytes = Vec::new();
    let file = match File::open(folder.join(FILE)) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(|e| unwitnessed(format!("cannot be read ({e})")))?,
    };
    file.take(4096).read_to_end(&mut bytes).map_err(|e| unwitnessed(format!("cannot be read ({e})")))?;
    let number = |bytes: &[u8]| {
        let text = std::str::from_utf8(bytes).ok()?;
        let number: u64 = text.get(..DIGITS)?.parse().ok()?;
        (line(number) == text).then_some(number)
    };
    let committed = bytes.chunks(LINE).filter_map(number).max();
    committed.map(Some).ok_or_else(|| unwitnessed("is damaged".into()))
}

/// Compares what a store counts with what was acknowledged.
///
/// # Errors
/// When the store is older, or that cannot be told.
pub fn check(folder: &Path, stored: Option<u64>) -> Result<(), Error> {
    match (read(folder)?, stored) {
        (Some(acknowledged), stored) if stored.unwrap_or(0) < acknowledged => {
            let (folder, stored) = (folder.to_path_buf(), stored.unwrap_or(0));
            Err(Error::Older { folder, stored, acknowledged })
        }
        // Stores from before there were witnesses do not count either.
        (Some(_), _) | (None, None) => Ok(()),
        (None, Some(_)) => {
            Err(Error::Unwitnessed { folder: folder.to_path_buf(), what: "is missing".into() })
        }
    }
}

/// Makes the witness say what the store counts: somebody decided to go on with an older one.
///
/// # Errors
/// Those of the disk.
pub fn accept(folder: &Path, stored: u64) -> std::io::Result<()> {
    let mut file = private_file(OpenOptions::new().create(true).truncate(false), &folder.join(FILE))?;
    write(&mut file, 0, &(line(stored) + &line(stored)))?;
    file.set_len((2 * LINE) as u64)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_number_noted_is_read_and_a_torn_line_leaves_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()).unwrap(), None);
        let mut witness = Witness::new(dir.path());
        for number in 1..=7 {
            witness.note(number).unwrap();
            assert_eq!(read(dir.path()).unwrap(), Some(number));
        }
        let path = dir.path().join(FILE);
        let whole = std::fs::read(&path).unwrap();
        assert_eq!(whole.len(), 2 * LINE);
        // 7 stands in the second line: whatever becomes of a byte of it, 6 is still there.
        for at in LINE..whole.len() {
            let mut torn = whole.clone();
            torn[at] ^= 1;
            std::fs::write(&path, &torn).unwrap();
            assert_eq!(read(dir.path()).unwrap(), Some(6), "byte {at}");
        }
        std::fs::write(&path, [0; 2 * LINE]).unwrap();
        let e = read(dir.path()).unwrap_err().to_string();
        assert!(e.contains("committed is damaged") && e.contains("--accept-older"), "{e}");
    }

    #[test]
    fn fewer_commits_than_acknowledged_and_a_missing_witness_are_refused_until_accepted() {
        let dir = tempfile::tempdir().unwrap();
        check(dir.path(), None).unwrap();
        assert!(matches!(check(dir.path(), Some(3)), Err(Error::Unwitnessed { .. })));
        Witness::new(dir.path()).note(5).unwrap();
        // One more than acknowledged: killed between commit and witness.
        check(dir.path(), Some(5)).and(check(dir.path(), Some(6))).unwrap();
        for stored in [None, Some(4)] {
            let e = check(dir.path(), stored).unwrap_err();
            assert!(matches!(e, Error::Older { acknowledged: 5, .. }), "{e}");
        }
        accept(dir.path(), 4).unwrap();
        check(dir.path(), Some(4)).unwrap();
    }
}
