//! What an authority has signed and what it has taken back: two files of JSON lines that only grow.

use crate::error::{Error, Result};
use crate::files::{read_secret, write_private};
use crate::identity::{Identity, Role};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Length beyond which the file is looked through for what may go, in bytes; a quarter of what is read at all.
const LONG: u64 = 256 << 10;
/// In seconds.
const MONTH: u64 = 30 * 86_400;

/// One certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Issued {
    /// Serial number, hexadecimal.
    pub serial: String,
    /// Whose it is.
    pub name: String,
    /// `coordinator`, `worker` or `operator`.
    pub role: String,
    /// Seconds since 1970 until which it holds.
    pub not_after: u64,
    /// SHA-256 of its public key.
    pub key: String,
    /// How it came about: `issue`, `join` or `renew`.
    pub by: String,
}

/// One that was taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revoked {
    /// Serial number, hexadecimal.
    pub serial: String,
    /// Whose it was.
    pub name: String,
    /// Seconds since 1970.
    pub at: u64,
}

/// The two files. Whoever uses it holds the authority's lock.
pub(crate) struct Ledger {
    issued: PathBuf,
    revoked: PathBuf,
}

impl Ledger {
    pub(crate) fn new(authority: &Path) -> Ledger {
        Ledger { issued: authority.join("issued.jsonl"), revoked: authority.join("revoked.jsonl") }
    }

    pub(crate) fn issued(&self) -> Result<Vec<Issued>> {
        lines(&self.issued)
    }

    pub(crate) fn revoked(&self) -> Result<Vec<Revoked>> {
        lines(&self.revoked)
    }

    pub(crate) fn record(&self, identity: &Identity, key: &str, by: &str) -> Result<()> {
        let issued = Issued {
            serial: identity.serial_text(),
            name: identity.name.clone(),
            role: identity.role.to_string(),
            not_after: crate::unix(identity.not_after),
            key: key.into(),
            by: by.into(),
        };
        self.forget(identity.not_before)?;
        append(&self.issued, &issued)
    }

    /// Nodes renew for months: once the file is long, what has been over for a month is left out of it.
    fn forget(&self, now: SystemTime) -> Result<()> {
        if std::fs::metadata(&self.issued).map_or(0, |m| m.len()) < LONG {
            return Ok(());
        }
        let kept = self.issued()?.into_iter().filter(|i| i.not_after + MONTH > crate::unix(now));
        let lines: String = kept.map(|i| line(&i)).collect();
        write_private(&self.issued, lines.as_bytes())
    }

    /// Takes back all that is still good under a name or serial number. Yields what that was.
    pub(crate) fn revoke(&self, which: &str, now: SystemTime) -> Result<Vec<Issued>> {
        let hit =
            self.good(now)?.into_iter().filter(|i| i.name == which || i.serial == which).collect::<Vec<_>>();
        for i in &hit {
            let revoked = Revoked { serial: i.serial.clone(), name: i.name.clone(), at: crate::unix(now) };
            append(&self.revoked, &revoked)?;
        }
        Ok(hit)
    }

    /// What is neither over nor taken back.
    pub(crate) fn good(&self, now: SystemTime) -> Result<Vec<Issued>> {
        let revoked = self.revoked()?;
        let mut issued = self.issued()?;
        issued.retain(|i| i.not_after > crate::unix(now) && revoked.iter().all(|r| r.serial != i.serial));
        Ok(issued)
    }

    /// Whether a worker's name is held with another key.
    pub(crate) fn is_held_by_another(&self, name: &str, key: &str, now: SystemTime) -> Result<bool> {
        let worker = Role::Worker.as_str();
        Ok(self.good(now)?.iter().any(|i| i.name == name && i.role == worker && i.key != key))
    }
}

fn lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = String::from_utf8(read_secret(path)?).map_err(|_| Error::file(path, "is not UTF-8"))?;
    let read = |(i, l): (usize, &str)| {
        serde_json::from_str(l).map_err(|e| Error::file(path, format!("line {}: {e}", i + 1)))
    };
    text.lines().enumerate().map(read).collect()
}

fn line(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("plain values") + "\n"
}

fn append(path: &Path, value: &impl Serialize) -> Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.append(true).create(true).mode(0o600);
    let mut file = options.open(path).map_err(Error::io("open", path))?;
    file.write_all(line(value).as_bytes()).and_then(|()| file.sync_all()).map_err(Error::io("write", path))
}
