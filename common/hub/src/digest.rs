//! The digests that a hub states of its files.
//!
//! A large file is known by the SHA-256 of its content, a small one by its git object: the SHA-1 of
//! `blob <size>\0<content>`. Blobs in the cache are named by either.

use crate::error::{Error, Result};
use crate::progress::Progress;
use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use std::fmt;
use std::io::Read;
use std::path::Path;
use std::str::FromStr;

/// Bytes that are read at a time.
pub(crate) const CHUNK: usize = 1 << 20;

/// What a hub knows a content by: 64 hexadecimal digits of SHA-256, or 40 of a git object.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct BlobId(String);

impl BlobId {
    /// The digits, which are also the blob's name in the cache.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `sha256` or `git`.
    pub fn kind(&self) -> &'static str {
        if self.0.len() == 64 { "sha256" } else { "git" }
    }

    /// Digits, whatever header's quotes and marks are around them.
    pub(crate) fn of_etag(etag: &str) -> Option<BlobId> {
        etag.trim().trim_start_matches("W/").trim_matches('"').parse().ok()
    }
}

impl FromStr for BlobId {
    type Err = String;
    fn from_str(text: &str) -> std::result::Result<BlobId, String> {
        let hex = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        match hex && matches!(text.len(), 40 | 64) {
            true => Ok(BlobId(text.into())),
            false => Err("not a digest: expected 40 or 64 lower-case hexadecimal digits".into()),
        }
    }
}

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind(), self.0)
    }
}

impl Serialize for BlobId {
    fn serialize<S: serde::Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        s.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for BlobId {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> std::result::Result<BlobId, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A digest being made, of the kind that a file is known by.
pub(crate) enum Hasher {
    Sha256(Sha256),
    Git(Sha1),
}

impl Hasher {
    /// For a content of `bytes` bytes that is to be compared with `id`; SHA-256 where nothing is known.
    pub(crate) fn new(id: Option<&BlobId>, bytes: u64) -> Hasher {
        match id.map(BlobId::kind) {
            Some("git") => Hasher::Git(Sha1::new_with_prefix(format!("blob {bytes}\0"))),
            _ => Hasher::Sha256(Sha256::new()),
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::Sha256(h) => h.update(bytes),
            Hasher::Git(h) => h.update(bytes),
        }
    }

    pub(crate) fn finish(self) -> BlobId {
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        BlobId(match self {
            Hasher::Sha256(h) => hex(&h.finalize()),
            Hasher::Git(h) => hex(&h.finalize()),
        })
    }
}

/// Reads a file into a digest. Yields the bytes read.
pub(crate) fn feed(
    hasher: &mut Hasher,
    path: &Path,
    stop: &dyn Fn() -> bool,
    read: &dyn Fn(u64),
) -> Result<u64> {
    let mut file = std::fs::File::open(path).map_err(Error::io("open", path))?;
    let mut buffer = vec![0; CHUNK];
    let mut total = 0;
    loop {
        if stop() {
            return Err(Error::Stopped);
        }
        match file.read(&mut buffer).map_err(Error::io("read", path))? {
            0 => return Ok(total),
            n => {
                hasher.update(&buffer[..n]);
                total += n as u64;
                read(n as u64);
            }
        }
    }
}

/// The digest of a file, of the kind of `like`.
pub(crate) fn of_file(path: &Path, like: &BlobId, progress: &dyn Progress) -> Result<BlobId> {
    let bytes = std::fs::metadata(path).map_err(Error::io("inspect", path))?.len();
    let mut hasher = Hasher::new(Some(like), bytes);
    feed(&mut hasher, path, &|| progress.stopped(), &|n| progress.advance(n))?;
    Ok(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;

    #[test]
    fn digests_are_those_that_git_and_sha256sum_print() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        std::fs::write(&path, "hello\n").unwrap();
        // `git hash-object` and `sha256sum` of a file with the line "hello".
        let git: BlobId = "ce013625030ba8dba906f756967f9e9ca394464a".parse().unwrap();
        let sha: BlobId = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03".parse().unwrap();
        assert_eq!(of_file(&path, &git, &Silent).unwrap(), git);
        assert_eq!(of_file(&path, &sha, &Silent).unwrap(), sha);
    }

    #[test]
    fn only_digits_are_an_id() {
        let git = "ce013625030ba8dba906f756967f9e9ca394464a";
        assert_eq!(BlobId::of_etag(&format!("W/\"{git}\"")).unwrap().as_str(), git);
        for bad in
            ["", "../../x", "CE013625030BA8DBA906F756967F9E9CA394464A", "d41d8cd98f00b204e9800998ecf8427e"]
        {
            assert!(bad.parse::<BlobId>().is_err() && BlobId::of_etag(bad).is_none(), "{bad}");
        }
    }
}
