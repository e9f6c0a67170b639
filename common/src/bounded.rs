//! Reading files that others made: regular ones alone, and of no more bytes than their kind may have.
//!
//! A pipe would be waited for without end, and a device such as `/dev/zero` has none; both are refused before they are
//! opened. Links are followed: whose folders these are may keep files elsewhere, and hub caches do. What a command is told to
//! read may be a pipe as well ([`given`]).

use std::fs::File;
use std::io::{Error, ErrorKind, Read, Result};
use std::path::Path;

/// Most bytes of a JSON file of settings, such as `config.json`. The largest published ones list added tokens: some MB.
pub const SETTINGS_BYTES: u64 = 64 << 20;
/// Most bytes of a tokenizer's file, or of an index of shards. The largest published ones have some 40 MB.
pub const TOKENIZER_BYTES: u64 = 256 << 20;
/// Most bytes of a dataset's file: its most samples with reports of 2.6 KB each.
pub const DATASET_BYTES: u64 = 256 << 20;
/// Most bytes of a lexicon. The built-in one has some tens of KB.
pub const LEXICON_BYTES: u64 = 16 << 20;
/// Most bytes of a file of a dictionary, and of what one unpacks to. A matrix of 16,000 by 16,000 costs has some 3 GB as text.
pub const DICTIONARY_BYTES: u64 = 4 << 30;

/// Opens a regular file. Yields it with its length.
///
/// # Errors
/// Those of the system; [`ErrorKind::InvalidInput`] for what is no regular file.
pub fn open(path: &Path) -> Result<(File, u64)> {
    regular(path)?;
    let file = File::open(path)?;
    let bytes = file.metadata()?.len();
    Ok((file, bytes))
}

/// Whether `path` leads to a regular file; its length.
///
/// # Errors
/// As [`open`].
pub fn regular(path: &Path) -> Result<u64> {
    let found = std::fs::metadata(path)?;
    match found.is_file() {
        true => Ok(found.len()),
        false => Err(Error::new(ErrorKind::InvalidInput, "not a regular file")),
    }
}

/// Reads a regular file of at most `limit` bytes.
///
/// # Errors
/// As [`open`]; [`ErrorKind::FileTooLarge`] before anything is read, also where it grows meanwhile.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let (file, bytes) = open(path)?;
    if bytes > limit {
        return Err(too_large(bytes, limit));
    }
    to_end(file, limit)
}

fn to_end(file: File, limit: u64) -> Result<Vec<u8>> {
    let mut content = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut content)?;
    match content.len() as u64 > limit {
        true => Err(too_large(content.len() as u64, limit)),
        false => Ok(content),
    }
}

fn too_large(bytes: u64, limit: u64) -> Error {
    Error::new(ErrorKind::FileTooLarge, format!("{bytes} bytes; the limit is {limit}"))
}

/// The same as text.
///
/// # Errors
/// As [`read`]; [`ErrorKind::InvalidData`] for what is not UTF-8.
pub fn text(path: &Path, limit: u64) -> Result<String> {
    utf8(read(path, limit)?)
}

/// The text that whoever runs a command gave it by name: a file, or a pipe such as `/dev/stdin` or `<(…)`.
///
/// # Errors
/// Those of the system; [`ErrorKind::FileTooLarge`] once there are more than `limit` bytes; [`ErrorKind::InvalidData`].
pub fn given(path: &Path, limit: u64) -> Result<String> {
    utf8(to_end(File::open(path)?, limit)?)
}

fn utf8(content: Vec<u8>) -> Result<String> {
    String::from_utf8(content).map_err(|e| Error::new(ErrorKind::InvalidData, e.utf8_error()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_within_their_limit_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        std::fs::write(&path, "{}").unwrap();
        assert_eq!(text(&path, 2).unwrap(), "{}");
        assert_eq!(read(&path, 1).unwrap_err().kind(), ErrorKind::FileTooLarge);
        std::fs::write(&path, [0xff]).unwrap();
        assert_eq!(text(&path, 9).unwrap_err().kind(), ErrorKind::InvalidData);
        assert_eq!(read(folder.path(), 9).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(read(&folder.path().join("b"), 9).unwrap_err().kind(), ErrorKind::NotFound);
    }

    /// Neither is opened: a pipe that nobody writes to would be waited for, and this test with it.
    #[cfg(unix)]
    #[test]
    fn pipes_and_devices_are_refused_unopened() {
        let folder = tempfile::tempdir().unwrap();
        let (pipe, link) = (folder.path().join("pipe"), folder.path().join("link"));
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        std::os::unix::fs::symlink("/dev/zero", &link).unwrap();
        for path in [pipe, link] {
            assert_eq!(open(&path).unwrap_err().kind(), ErrorKind::InvalidInput, "{}", path.display());
            assert_eq!(read(&path, 9).unwrap_err().kind(), ErrorKind::InvalidInput, "{}", path.display());
        }
        assert_eq!(given(&folder.path().join("link"), 9).unwrap_err().kind(), ErrorKind::FileTooLarge);
        let pipe = folder.path().join("pipe");
        let writer = std::thread::spawn({
            let pipe = pipe.clone();
            move || std::fs::write(pipe, "{}").unwrap()
        });
        assert_eq!(given(&pipe, 9).unwrap(), "{}");
        writer.join().unwrap();
    }
}
