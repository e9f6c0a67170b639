//! The store on disk: sled 0.34.7 in `DIR/store`.
//!
//! Six trees: `run` (one key per record that there is once), `candidates`, `evaluations`, `parts` and `journal` (big-endian
//! numbers, so that they iterate in order), and `samples` (candidate, then position). An event is one transaction over
//! all of them with a flush inside it; the closure has no effect but on the trees, since sled may run it again. What a
//! record makes void is looked up before: nobody else writes here.

use super::record::{decode, encode};
use super::{Error, Store};
use crate::state::bound::Bar;
use crate::state::candidate::Candidate;
use crate::state::journal::Entry;
use crate::state::{Durable, Partial, Parts, Record, Searched};
use common::evaluation::Evaluation;
use common::id::CandidateId;
use sled::Transactional;
use sled::transaction::{ConflictableTransactionError, TransactionError};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// Name of the store within a state folder.
pub const FOLDER: &str = "store";

/// A command that only reads holds the store for a moment; whoever comes second waits this long for it.
const LOCK_PATIENCE: Duration = Duration::from_millis(1500);
const LOCK_PAUSE: Duration = Duration::from_millis(50);

const IDENTITY: &str = "identity";
const PINNED: &str = "pinned";
const COUNTERS: &str = "counters";
const SEARCHED: &str = "searched";
const BAR: &str = "bar";
const BEGUN: &str = "begun";

/// A store on disk, held alone: a second one on the same folder cannot be opened.
#[derive(Debug)]
pub struct Sled {
    db: sled::Db,
    run: sled::Tree,
    candidates: sled::Tree,
    evaluations: sled::Tree,
    samples: sled::Tree,
    parts: sled::Tree,
    journal: sled::Tree,
}

/// Which tree a record goes to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Run,
    Candidates,
    Evaluations,
    Samples,
    Parts,
    Journal,
}

/// Where a record stands.
type Key = (Place, Vec<u8>);

impl Sled {
    /// Opens the store of a state folder that holds a run.
    pub fn open(folder: &Path) -> Result<Sled, Error> {
        match folder.join(FOLDER).is_dir() {
            true => Sled::open_or_create(folder),
            false => Err(Error::Empty { folder: folder.to_path_buf() }),
        }
    }

    /// Opens the store of a state folder, made where it is missing. Only its owner may read it.
    pub fn open_or_create(folder: &Path) -> Result<Sled, Error> {
        let path = folder.join(FOLDER);
        private_folder(&path).map_err(|e| disk("create the store's folder", e))?;
        let config = sled::Config::new()
            .path(&path)
            .mode(sled::Mode::HighThroughput)
            // Every transaction is flushed; a timer would only add writes.
            .flush_every_ms(None)
            // Records are written once and seldom read again: more would only hold memory.
            .cache_capacity(16 << 20);
        let mut patience = LOCK_PATIENCE;
        let db = loop {
            match config.open() {
                Ok(db) => break db,
                Err(e) if is_lock(&e) && patience.is_zero() => {
                    return Err(Error::InUse { folder: folder.to_path_buf() });
                }
                Err(e) if is_lock(&e) => {
                    std::thread::sleep(LOCK_PAUSE);
                    patience = patience.saturating_sub(LOCK_PAUSE);
                }
                Err(e) => return Err(disk("open the store", e)),
            }
        };
        close_to_others(&path).map_err(|e| disk("set the store's permissions", e))?;
        let tree = |name: &str| db.open_tree(name).map_err(|e| disk("open the store", e));
        let (run, candidates, evaluations) = (tree("run")?, tree("candidates")?, tree("evaluations")?);
        let (samples, parts, journal) = (tree("samples")?, tree("parts")?, tree("journal")?);
        Ok(Sled { run, candidates, evaluations, samples, parts, journal, db })
    }

    fn single<T: serde::de::DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Error> {
        let bytes = self.run.get(key).map_err(|e| disk("read the store", e))?;
        bytes.map(|b| decode(key, &b)).transpose()
    }

    /// Samples of one candidate that is not final, or of all.
    fn partial(&self, of: Option<CandidateId>) -> Result<Partial, Error> {
        let prefix = of.map(|id| id.0.to_be_bytes().to_vec()).unwrap_or_default();
        let mut partial = Partial::new();
        for entry in self.samples.scan_prefix(prefix) {
            let (key, bytes) = entry.map_err(|e| disk("read the store", e))?;
            let (id, position) = sample_number(&key)?;
            let row = decode(&sample_key(id, position), &bytes)?;
            partial.entry(CandidateId(id)).or_default().insert(position, row);
        }
        Ok(partial)
    }

    /// Keys of a tree that begin so.
    fn stored(&self, place: Place, prefix: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
        let keys = self.tree(place).scan_prefix(prefix).keys();
        keys.map(|key| Ok(key.map_err(|e| disk("read the store", e))?.to_vec())).collect()
    }

    fn tree(&self, place: Place) -> &sled::Tree {
        match place {
            Place::Run => &self.run,
            Place::Candidates => &self.candidates,
            Place::Evaluations => &self.evaluations,
            Place::Samples => &self.samples,
            Place::Parts => &self.parts,
            Place::Journal => &self.journal,
        }
    }

    fn required<T: serde::de::DeserializeOwned>(&self, key: &str) -> Result<T, Error> {
        let missing = || Error::Damaged { key: key.into(), message: "it is missing".into() };
        self.single(key)?.ok_or_else(missing)
    }
}

impl Store for Sled {
    fn load(&self) -> Result<Option<Durable>, Error> {
        let Some(identity) = self.single(IDENTITY)? else { return Ok(None) };
        let candidates = self.candidates.iter().map(read_candidate).collect::<Result<_, _>>()?;
        let mut parts = Parts::new();
        for entry in self.parts.iter() {
            let (key, bytes) = entry.map_err(|e| disk("read the store", e))?;
            let id = number("parts", &key)?;
            parts.insert(CandidateId(id), decode(&parts_key(id), &bytes)?);
        }
        let searched: Searched = self.required(SEARCHED)?;
        Ok(Some(Durable {
            tail: self.journal(searched.entries, usize::MAX)?,
            partial: self.partial(None)?,
            parts,
            bar: self.single::<Option<Bar>>(BAR)?.flatten(),
            begun: self.single(BEGUN)?,
            identity,
            pinned: self.required(PINNED)?,
            counters: self.required(COUNTERS)?,
            searched,
            candidates,
        }))
    }

    fn commit(&mut self, records: &[Record]) -> Result<(), Error> {
        // Of several writes to one key only the last counts: a candidate that is scored and lent again in one batch is
        // encoded once. Records come in order, and a later one may make an earlier one void.
        let mut writes: BTreeMap<Key, Option<&Record>> = BTreeMap::new();
        for record in records {
            if let Some((place, prefix)) = voids(record) {
                writes.extend(self.stored(place, &prefix)?.into_iter().map(|key| ((place, key), None)));
                let void = |(at, key): &Key| *at == place && key.starts_with(&prefix);
                writes.iter_mut().filter(|(key, _)| void(key)).for_each(|(_, record)| *record = None);
            }
            writes.insert(key(record), Some(record));
        }
        let writes: Vec<(Key, Option<Vec<u8>>)> =
            writes.into_iter().map(|(key, record)| (key, record.map(value))).collect();
        let trees =
            (&self.run, &self.candidates, &self.evaluations, &self.samples, &self.parts, &self.journal);
        trees
            .transaction(|(run, candidates, evaluations, samples, parts, journal)| {
                for ((place, key), value) in &writes {
                    let tree = match place {
                        Place::Run => run,
                        Place::Candidates => candidates,
                        Place::Evaluations => evaluations,
                        Place::Samples => samples,
                        Place::Parts => parts,
                        Place::Journal => journal,
                    };
                    match value {
                        Some(value) => tree.insert(key.as_slice(), value.as_slice())?,
                        None => tree.remove(key.as_slice())?,
                    };
                }
                run.flush();
                Ok::<(), ConflictableTransactionError<()>>(())
            })
            .map_err(|e| match e {
                TransactionError::Storage(e) => disk("write to the store", e),
                TransactionError::Abort(()) => unreachable!("nothing aborts it"),
            })
    }

    fn journal(&self, from: u64, most: usize) -> Result<Vec<Entry>, Error> {
        let entries = self.journal.range(from.to_be_bytes()..).take(most);
        let read = |entry: sled::Result<(sled::IVec, sled::IVec)>| {
            let (key, bytes) = entry.map_err(|e| disk("read the store", e))?;
            decode(&journal_key(number("journal", &key)?), &bytes)
        };
        entries.map(read).collect()
    }

    fn candidates(&self, from: CandidateId, most: usize) -> Result<Vec<Candidate>, Error> {
        let range = self.candidates.range(from.0.to_be_bytes()..).take(most);
        range.map(read_candidate).collect()
    }

    fn evaluation(&self, id: CandidateId) -> Result<Option<Evaluation>, Error> {
        let bytes = self.evaluations.get(id.0.to_be_bytes()).map_err(|e| disk("read the store", e))?;
        match bytes {
            Some(bytes) => decode(&evaluation_key(id.0), &bytes).map(Some),
            None => {
                let rows = self.partial(Some(id))?.remove(&id);
                Ok(rows.map(|rows| super::so_far(rows.into_values().collect())))
            }
        }
    }
}

impl Drop for Sled {
    fn drop(&mut self) {
        // Everything was flushed when it was committed; this only shortens the next start.
        let _ = self.db.flush();
    }
}

/// What a record makes void: keys of a tree that begin so.
fn voids(record: &Record) -> Option<Key> {
    match record {
        Record::Evaluation(id, _) => Some((Place::Samples, bytes(*id))),
        Record::Bar(_) => Some((Place::Parts, Vec::new())),
        _ => None,
    }
}

fn bytes(id: CandidateId) -> Vec<u8> {
    id.0.to_be_bytes().to_vec()
}

fn key(record: &Record) -> Key {
    let single = |key: &str| (Place::Run, key.as_bytes().to_vec());
    match record {
        Record::Identity(_) => single(IDENTITY),
        Record::Pinned(_) => single(PINNED),
        Record::Counters(_) => single(COUNTERS),
        Record::Searched(_) => single(SEARCHED),
        Record::Bar(_) => single(BAR),
        Record::Begun(_) => single(BEGUN),
        Record::Candidate(r) => (Place::Candidates, bytes(r.id())),
        Record::Evaluation(id, _) => (Place::Evaluations, bytes(*id)),
        Record::Sample(id, position, _) => {
            (Place::Samples, [&bytes(*id)[..], &position.to_be_bytes()[..]].concat())
        }
        Record::Parts(id, _) => (Place::Parts, bytes(*id)),
        Record::Journal(at, _) => (Place::Journal, at.to_be_bytes().to_vec()),
    }
}

fn value(record: &Record) -> Vec<u8> {
    match record {
        Record::Identity(r) => encode(IDENTITY, r),
        Record::Pinned(r) => encode(PINNED, r),
        Record::Counters(r) => encode(COUNTERS, r),
        Record::Searched(r) => encode(SEARCHED, r),
        Record::Candidate(r) => encode(&candidate_key(r.id().0), r),
        Record::Evaluation(id, r) => encode(&evaluation_key(id.0), r),
        Record::Sample(id, position, r) => encode(&sample_key(id.0, *position), r),
        Record::Parts(id, r) => encode(&parts_key(id.0), r),
        Record::Bar(r) => encode(BAR, r),
        Record::Begun(r) => encode(BEGUN, r),
        Record::Journal(at, r) => encode(&journal_key(*at), r),
    }
}

fn read_candidate(entry: sled::Result<(sled::IVec, sled::IVec)>) -> Result<Candidate, Error> {
    let (key, bytes) = entry.map_err(|e| disk("read the store", e))?;
    decode(&candidate_key(number("candidate", &key)?), &bytes)
}

fn journal_key(at: u64) -> String {
    format!("journal/{at}")
}

fn candidate_key(id: u64) -> String {
    format!("candidate/{id}")
}

fn evaluation_key(id: u64) -> String {
    format!("evaluation/{id}")
}

fn sample_key(id: u64, position: u32) -> String {
    format!("sample/{id}/{position}")
}

fn parts_key(id: u64) -> String {
    format!("parts/{id}")
}

/// Candidate and position of a sample's key.
fn sample_number(key: &[u8]) -> Result<(u64, u32), Error> {
    let damaged =
        || Error::Damaged { key: format!("sample/{key:02x?}"), message: "its key is no number".into() };
    let (id, position) = key.split_at_checked(8).ok_or_else(damaged)?;
    let position = position.try_into().map_err(|_| damaged())?;
    Ok((number("sample", id)?, u32::from_be_bytes(position)))
}

fn number(tree: &str, key: &[u8]) -> Result<u64, Error> {
    let bytes = key.try_into().map_err(|_| Error::Damaged {
        key: format!("{tree}/{key:02x?}"),
        message: "its key is no number".into(),
    })?;
    Ok(u64::from_be_bytes(bytes))
}

fn disk(doing: &'static str, e: impl std::fmt::Display) -> Error {
    Error::Disk { doing, message: e.to_string() }
}

fn is_lock(e: &sled::Error) -> bool {
    // sled has no kind of its own for this: it wraps the lock's refusal in an I/O error of this text.
    matches!(e, sled::Error::Io(io) if io.to_string().contains("could not acquire lock"))
}

/// Makes a folder that only its owner may enter. One that exists is left as it is.
pub fn private_folder(path: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// sled makes its files with the process's mask; the reports in them are nobody else's business.
#[cfg(unix)]
fn close_to_others(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mode = |m| std::fs::Permissions::from_mode(m);
    std::fs::set_permissions(path, mode(0o700))?;
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let is_folder = entry.file_type()?.is_dir();
        std::fs::set_permissions(entry.path(), mode(if is_folder { 0o700 } else { 0o600 }))?;
    }
    Ok(())
}

#[cfg(not(unix))]
fn close_to_others(_: &Path) -> std::io::Result<()> {
    Ok(())
}
