//! One file from a hub into the cache: lock, resume, retry, verify, put in place.

use crate::cache::RepoCache;
use crate::client::{Answer, Client, Failure, Subject};
use crate::digest::{BlobId, CHUNK, Hasher, feed};
use crate::error::{Error, Result};
use crate::listing::RemoteFile;
use crate::progress::Progress;
use common::location::HubRef;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

/// A content that arrives complete and wrong is asked for once more, from its first byte.
const MOST_WRONG: u32 = 2;

/// Fetches files of one commit.
pub(crate) struct Transfer<'a> {
    pub client: &'a Client,
    pub cache: &'a RepoCache,
    /// Pinned.
    pub reference: &'a HubRef,
    pub commit: &'a str,
    pub progress: &'a dyn Progress,
}

/// A file that is in the cache now.
pub(crate) struct Arrived {
    pub bytes: u64,
    pub id: BlobId,
    /// Bytes that came over the network.
    pub fetched: u64,
    /// Whether its content was compared with a digest that the hub states.
    pub verified: bool,
}

/// Releases its lock when dropped.
struct Locked {
    _file: File,
}

impl Transfer<'_> {
    pub fn url(&self, name: &str) -> String {
        let (endpoint, repo, commit) = (self.client.endpoint(), self.reference.repo(), self.commit);
        format!("{endpoint}/{repo}/resolve/{commit}/{}", encode(name))
    }

    /// Asks for what a listing left out: size and digest.
    pub fn complete(&self, file: &RemoteFile) -> Result<RemoteFile> {
        if file.bytes.is_some() && file.id.is_some() {
            return Ok(file.clone());
        }
        let subject = Subject { reference: self.reference, file: Some(&file.name) };
        let mut attempt = 1;
        let answer = loop {
            match self.client.head(&self.url(&file.name), subject) {
                Ok(answer) => break answer,
                Err(Failure::Final(e)) => return Err(e),
                Err(Failure::Passing { why, .. }) if attempt >= self.client.attempts().min(3) => {
                    return Err(Error::Unreachable {
                        host: crate::client::host(self.client.endpoint()),
                        why,
                    });
                }
                Err(Failure::Passing { why, pause, .. }) => {
                    self.client.wait(attempt, &why, pause, self.progress)?;
                }
            }
            attempt += 1;
        };
        self.check_commit(&answer, &file.name)?;
        let stated = |names: [&str; 2]| names.iter().find_map(|n| answer.hub_header(n));
        let id = file.id.clone().or_else(|| stated(["x-linked-etag", "etag"]).and_then(BlobId::of_etag));
        // The plain length is that of the content only where the answer itself would have carried it.
        let length = answer.header("content-length").and(answer.hub_header("content-length"));
        let bytes = answer.hub_header("x-linked-size").or(length).and_then(|n| n.parse().ok());
        Ok(RemoteFile { name: file.name.clone(), bytes: file.bytes.or(bytes), id })
    }

    /// Bytes of `file` that are still to come.
    pub fn outstanding(&self, file: &RemoteFile) -> u64 {
        let Some(id) = &file.id else { return file.bytes.unwrap_or(0) };
        let bytes = file.bytes.unwrap_or(0);
        match length(&self.cache.blob(id)) == Some(bytes) {
            true => 0,
            false => bytes.saturating_sub(length(&self.cache.part(id.as_str())).unwrap_or(0)),
        }
    }

    /// Brings a file into the snapshot. What another process is fetching is waited for; what is in the cache already is
    /// only linked.
    pub fn fetch(&self, file: &RemoteFile) -> Result<Arrived> {
        let key = match &file.id {
            Some(id) => id.as_str().to_string(),
            // Nobody states a digest: the part goes by the file's name in its commit.
            None => {
                let mut hasher = Hasher::new(None, 0);
                hasher.update(format!("{}/{}/{}", self.reference.repo(), self.commit, file.name).as_bytes());
                hasher.finish().as_str().to_string()
            }
        };
        let _locked = self.lock(&key, &file.name)?;
        if let (Some(id), Some(bytes)) = (&file.id, file.bytes)
            && length(&self.cache.blob(id)) == Some(bytes)
        {
            self.cache.link(self.commit, &file.name, id)?;
            return Ok(Arrived { bytes, id: id.clone(), fetched: 0, verified: false });
        }
        let part = self.cache.part(&key);
        let mut fetched = 0;
        let (mut wrong, mut failed) = (0, 0);
        let (bytes, id) = loop {
            let before = fetched;
            let fault = match self.attempt(file, &part, &mut fetched) {
                Ok(bytes) => match self.verify(file, &part, bytes)? {
                    Ok(id) => break (bytes, id),
                    Err(fault) => fault,
                },
                Err(Failure::Final(Error::Content { fault, .. })) => fault,
                Err(Failure::Final(e)) => return Err(e),
                Err(Failure::Passing { why, answered, pause }) => {
                    failed = if fetched > before { 1 } else { failed + 1 };
                    if failed >= self.client.attempts() {
                        return Err(match answered || fetched > 0 {
                            true => self.broken(&file.name, why),
                            false => {
                                Error::Unreachable { host: crate::client::host(self.client.endpoint()), why }
                            }
                        });
                    }
                    let why = format!("{}: {why}", file.name);
                    self.client.wait(failed, &why, pause, self.progress)?;
                    continue;
                }
            };
            let again = length(&part).unwrap_or(0);
            fs::remove_file(&part).map_err(Error::io("remove", &part))?;
            wrong += 1;
            if wrong >= MOST_WRONG {
                return Err(self.content(&file.name, fault));
            }
            self.progress.more(again);
            self.progress.note(&format!("{}: {}: {fault}; fetching it again", self.reference, file.name));
        };
        let blob = self.cache.blob(&id);
        fs::rename(&part, &blob).map_err(Error::io("put in place", &blob))?;
        self.cache.link(self.commit, &file.name, &id)?;
        Ok(Arrived { bytes, id, fetched, verified: file.id.is_some() })
    }

    /// One request, from where the part ends. Yields the content's size once all of it is there.
    fn attempt(
        &self,
        file: &RemoteFile,
        part: &Path,
        fetched: &mut u64,
    ) -> std::result::Result<u64, Failure> {
        let io = |doing: &'static str| Error::io(doing, part);
        let mut out = OpenOptions::new().append(true).create(true).open(part).map_err(io("open"))?;
        let mut have = out.metadata().map_err(io("inspect"))?.len();
        let empty = |out: &File| out.set_len(0).map_err(io("empty"));
        if file.bytes.is_some_and(|n| have > n) {
            empty(&out)?;
            have = 0;
        }
        if file.bytes == Some(have) {
            return Ok(have);
        }
        let subject = Subject { reference: self.reference, file: Some(&file.name) };
        let answer = self.client.get(&self.url(&file.name), have, subject)?;
        self.check_commit(&answer, &file.name)?;
        let number = |name| answer.header(name).and_then(|n| n.parse::<u64>().ok());
        let range = answer.header("content-range").and_then(content_range);
        let total = match (answer.status, range) {
            (206, Some((from, total))) if from == have => total,
            // All of it, whatever was asked for.
            (200, _) => {
                empty(&out)?;
                have = 0;
                number("content-length")
            }
            // The part cannot be of this content.
            _ => {
                empty(&out)?;
                let why = format!("the hub cannot go on from byte {have}");
                return Err(Failure::Passing { why, answered: true, pause: None });
            }
        };
        if let (Some(stated), Some(total)) = (file.bytes, total)
            && stated != total
        {
            let fault = format!("{total} bytes are offered, where the hub lists {stated}");
            return Err(self.content(&file.name, fault).into());
        }
        let Some(total) = file.bytes.or(total) else {
            let fault = "neither the listing nor the answer states a size".into();
            return Err(Error::Answer { url: self.url(&file.name), fault }.into());
        };
        let mut reader = answer.reader();
        let mut buffer = vec![0; CHUNK];
        while have < total {
            if self.progress.stopped() {
                return Err(Error::Stopped.into());
            }
            let most = buffer.len().min(usize::try_from(total - have).unwrap_or(usize::MAX));
            let passing = |why| Err(Failure::Passing { why, answered: true, pause: None });
            match reader.read(&mut buffer[..most]) {
                Ok(0) => return passing(format!("it ended after {have} of {total} bytes")),
                Ok(n) => {
                    out.write_all(&buffer[..n]).map_err(io("write"))?;
                    (have, *fetched) = (have + n as u64, *fetched + n as u64);
                    self.progress.advance(n as u64);
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return passing(format!("{e} after {have} of {total} bytes")),
            }
        }
        out.sync_data().map_err(io("write"))?;
        Ok(total)
    }

    /// The digest of what arrived, or how it differs from what the hub states. What is read is the disk's.
    fn verify(
        &self,
        file: &RemoteFile,
        part: &Path,
        bytes: u64,
    ) -> Result<std::result::Result<BlobId, String>> {
        let mut hasher = Hasher::new(file.id.as_ref(), bytes);
        let read = feed(&mut hasher, part, &|| self.progress.stopped(), &|_| {})?;
        if read != bytes {
            return Ok(Err(format!("{read} bytes arrived, where the hub has {bytes}")));
        }
        let found = hasher.finish();
        Ok(match &file.id {
            Some(id) if *id != found => {
                Err(format!("its {} digest is {found}, where the hub states {id}", id.kind()))
            }
            _ => Ok(found),
        })
    }

    fn check_commit(&self, answer: &Answer, name: &str) -> Result<()> {
        match answer.hub_header("x-repo-commit") {
            Some(commit) if commit != self.commit => {
                let fault = format!("the answer is of another commit ({commit:.40})");
                Err(Error::Answer { url: self.url(name), fault })
            }
            _ => Ok(()),
        }
    }

    fn lock(&self, key: &str, name: &str) -> Result<Locked> {
        let path = self.cache.lock_file(key);
        let io = |doing| Error::io(doing, &path);
        let file =
            OpenOptions::new().write(true).create(true).truncate(false).open(&path).map_err(io("open"))?;
        let mut told = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Locked { _file: file }),
                Err(TryLockError::Error(e)) => return Err(io("lock")(e)),
                Err(TryLockError::WouldBlock) if self.progress.stopped() => return Err(Error::Stopped),
                Err(TryLockError::WouldBlock) => {
                    if !told {
                        let text = format!("{}: another process fetches {name}: waiting", self.reference);
                        self.progress.note(&text);
                        told = true;
                    }
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
        }
    }

    fn broken(&self, file: &str, why: String) -> Error {
        Error::Broken { reference: self.reference.to_string(), file: file.into(), why }
    }

    fn content(&self, file: &str, fault: String) -> Error {
        Error::Content { reference: self.reference.to_string(), file: file.into(), fault }
    }
}

fn length(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().filter(fs::Metadata::is_file).map(|m| m.len())
}

/// `bytes 5-9/10` → 5 and 10; the total may be unknown.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (from, _) = range.split_once('-')?;
    Some((from.trim().parse().ok()?, total.trim().parse().ok()))
}

/// A file's name in an address.
fn encode(name: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
    name.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_names_are_read_and_written_as_the_standard_has_them() {
        assert_eq!(content_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(content_range("bytes 5-9/*"), Some((5, None)));
        for bad in ["", "bytes */10", "5-9/10", "bytes x-9/10", "bytes 5"] {
            assert_eq!(content_range(bad), None, "{bad}");
        }
        assert_eq!(encode("a b+%é.json"), "a%20b%2B%25%C3%A9.json");
    }
}
