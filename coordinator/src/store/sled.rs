//! The store on disk: sled 0.34.7 in `DIR/store`.
//!
//! Seven trees: `run` (one key per record that there is once), `candidates`, `evaluations`, `parts`, `journal` and `audits`
//! (big-endian numbers, so that they iterate in order), and `samples` (candidate, then position). An event is one transaction over
//! all of them with a flush inside it; the closure has no effect but on the trees, since sled may run it again. What a
//! record makes void is looked up before: nobody else writes here.
//!
//! Each transaction also counts itself (key `commits` of `run`), and a file beside the store witnesses the count once the
//! transaction has reached the disk: sled opens a log that was cut as it was before, without a word.

use super::copy::{Changed, Copy};
use super::flush::Flush;
use super::key::{self, BAR, BEGUN, COMMITS, COUNTERS, IDENTITY, Key, PINNED, Place, SEARCHED};
use super::record::{decode, encode};
use super::witness::{self, Witness};
use super::{Error, Store};
use crate::state::bound::Bar;
use crate::state::candidate::Candidate;
use crate::state::journal::Entry;
use crate::state::{Audited, Durable, Partial, Parts, Record, Searched};
use common::evaluation::Evaluation;
use common::id::CandidateId;
use sled::Transactional;
use sled::transaction::{ConflictableTransactionError, TransactionError};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError, Weak};
use std::time::Duration;

/// Name of the store within a state folder.
pub const FOLDER: &str = "store";

/// A command that only reads holds the store for a moment; whoever comes second waits this long for it.
pub(crate) const LOCK_PATIENCE: Duration = Duration::from_millis(1500);
pub(crate) const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// What a commit writes, by key; `None` where the record is removed.
type Writes = Vec<(Key, Option<Vec<u8>>)>;

/// What there is to a store beside its trees.
#[derive(Debug)]
struct Beside {
    /// Transactions that it holds, and what knows of them beside it.
    commits: u64,
    witness: Witness,
    flush: Flush,
    /// A commit failed: what sled holds in memory need not be what is on the disk.
    failed: bool,
    copies: Mutex<Vec<Weak<Changed>>>,
}

/// A store on disk, held alone: a second one on the same folder cannot be opened.
#[derive(Debug)]
pub struct Sled {
    beside: Box<Beside>,
    db: sled::Db,
    run: sled::Tree,
    candidates: sled::Tree,
    evaluations: sled::Tree,
    samples: sled::Tree,
    parts: sled::Tree,
    journal: sled::Tree,
    audits: sled::Tree,
}

impl Sled {
    /// Opens the store of a state folder that holds a run.
    ///
    /// # Errors
    /// Also when the store is older than what was acknowledged.
    pub fn open(folder: &Path) -> Result<Sled, Error> {
        if !folder.join(FOLDER).is_dir() {
            witness::check(folder, None)?;
            return Err(Error::Empty { folder: folder.to_path_buf() });
        }
        Sled::open_or_create(folder)
    }

    /// Opens the store of a state folder, made where it is missing. Only its owner may read it.
    ///
    /// # Errors
    /// Also when the store is older than what was acknowledged.
    pub fn open_or_create(folder: &Path) -> Result<Sled, Error> {
        let store = Sled::open_unwitnessed(folder)?;
        witness::check(folder, store.counted()?)?;
        Ok(store)
    }

    /// The same, whatever was acknowledged: to find out what is wrong.
    pub(crate) fn open_unwitnessed(folder: &Path) -> Result<Sled, Error> {
        let path = folder.join(FOLDER);
        private_folder(&path).map_err(|e| io("create the store's folder", e))?;
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
        close_to_others(&path).map_err(|e| io("set the store's permissions", e))?;
        let tree = |name: &str| db.open_tree(name).map_err(|e| disk("open the store", e));
        let (run, candidates, evaluations) = (tree("run")?, tree("candidates")?, tree("evaluations")?);
        let (samples, parts) = (tree("samples")?, tree("parts")?);
        let (journal, audits) = (tree("journal")?, tree("audits")?);
        let flush = Flush::new(&path).map_err(|e| io("flush the store", e))?;
        let (commits, failed, copies) = (0, false, Mutex::default());
        let witness = Witness::new(folder);
        let beside = Box::new(Beside { commits, witness, flush, failed, copies });
        let mut store = Sled { beside, run, candidates, evaluations, samples, parts, journal, audits, db };
        // One that cannot be read is found by whoever asks for it.
        store.beside.commits = store.counted().ok().flatten().unwrap_or(0);
        Ok(store)
    }

    /// Transactions that it holds; `None` where they were not counted yet.
    pub(crate) fn counted(&self) -> Result<Option<u64>, Error> {
        self.single(COMMITS)
    }

    /// Names of its trees, known or not.
    pub(crate) fn tree_names(&self) -> Vec<String> {
        let names = self.db.tree_names().into_iter().filter(|name| name.as_ref() != b"__sled__default");
        names.map(|name| String::from_utf8_lossy(&name).into_owned()).collect()
    }

    /// Every record of a tree as its bytes, in order of keys.
    pub(crate) fn raw(&self, place: Place) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), Error>> {
        let entries = self.tree(place).iter();
        entries.map(|entry| {
            entry.map(|(key, value)| (key.to_vec(), value.to_vec())).map_err(|e| disk("read the store", e))
        })
    }

    /// What was written by [`super::copy::Draft`] becomes a store like any other.
    pub(super) fn finish_draft(mut self) -> Result<u64, Error> {
        self.db.flush().map_err(|e| disk("write to the store", e))?;
        self.beside.flush.flush().map_err(|e| io("write to the store", e))?;
        let Some(commits) = self.counted()? else { return Ok(0) };
        self.beside.witness.note(commits).map_err(|e| io("write the store's witness", e))?;
        self.beside.witness.flush().map_err(|e| io("write the store's witness", e))?;
        Ok(commits)
    }

    /// Tells the copies in work which keys were written.
    fn note_changed(&self, written: &[(Key, Option<Vec<u8>>)]) {
        let mut copies = self.beside.copies.lock().unwrap_or_else(PoisonError::into_inner);
        copies.retain(|copy| match copy.upgrade() {
            Some(changed) => {
                let mut changed = changed.lock().unwrap_or_else(PoisonError::into_inner);
                changed.extend(written.iter().map(|(key, _)| key.clone()));
                true
            }
            None => false,
        });
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
            let (id, position) = key::sample_number(&key)?;
            let row = decode(&key::sample(id, position), &bytes)?;
            partial.entry(CandidateId(id)).or_default().insert(position, row);
        }
        Ok(partial)
    }

    /// Keys of a tree that begin so.
    fn stored(&self, place: Place, prefix: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
        let keys = self.tree(place).scan_prefix(prefix).keys();
        keys.map(|key| Ok(key.map_err(|e| disk("read the store", e))?.to_vec())).collect()
    }

    pub(super) fn tree(&self, place: Place) -> &sled::Tree {
        match place {
            Place::Run => &self.run,
            Place::Candidates => &self.candidates,
            Place::Evaluations => &self.evaluations,
            Place::Samples => &self.samples,
            Place::Parts => &self.parts,
            Place::Journal => &self.journal,
            Place::Audits => &self.audits,
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
            let id = key::number("parts", &key)?;
            parts.insert(CandidateId(id), decode(&key::parts(id), &bytes)?);
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
        if records.is_empty() {
            return Ok(());
        }
        if self.beside.failed {
            let message = "an earlier write failed; open the store anew".into();
            return Err(Error::Disk { doing: "write to the store", message });
        }
        self.beside.failed = true;
        let writes = self.writes(records)?;
        // A store that counts has its witness, whenever the process ends.
        self.beside.witness.prepare(self.beside.commits).map_err(|e| io("write the store's witness", e))?;
        self.transact(&writes)?;
        self.beside.flush.flush().map_err(|e| io("write to the store", e))?;
        self.beside.commits += 1;
        self.beside.witness.note(self.beside.commits).map_err(|e| io("write the store's witness", e))?;
        self.note_changed(&writes);
        self.beside.failed = false;
        Ok(())
    }

    fn journal(&self, from: u64, most: usize) -> Result<Vec<Entry>, Error> {
        let entries = self.journal.range(from.to_be_bytes()..).take(most);
        let read = |entry: sled::Result<(sled::IVec, sled::IVec)>| {
            let (key, bytes) = entry.map_err(|e| disk("read the store", e))?;
            decode(&key::journal(key::number("journal", &key)?), &bytes)
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
            Some(bytes) => decode(&key::evaluation(id.0), &bytes).map(Some),
            None => {
                let rows = self.partial(Some(id))?.remove(&id);
                Ok(rows.map(|rows| super::so_far(rows.into_values().collect())))
            }
        }
    }

    fn audits(&self, from: CandidateId, most: usize) -> Result<Vec<(CandidateId, Audited)>, Error> {
        let range = self.audits.range(from.0.to_be_bytes()..).take(most);
        let read = |entry: sled::Result<(sled::IVec, sled::IVec)>| {
            let (key, bytes) = entry.map_err(|e| disk("read the store", e))?;
            let id = key::number("audit", &key)?;
            Ok((CandidateId(id), decode(&key::audit(id), &bytes)?))
        };
        range.map(read).collect()
    }

    fn copy(&self) -> Option<Copy> {
        let trees = Place::ALL.map(|place| (place, self.tree(place).clone()));
        let (copy, changed) = Copy::new(trees.to_vec());
        let mut copies = self.beside.copies.lock().unwrap_or_else(PoisonError::into_inner);
        copies.push(std::sync::Arc::downgrade(&changed));
        Some(copy)
    }
}

impl Sled {
    /// What a commit writes, by key.
    fn writes(&self, records: &[Record]) -> Result<Writes, Error> {
        // Of several writes to one key only the last counts: a candidate that is scored and lent again in one batch is
        // encoded once. Records come in order, and a later one may make an earlier one void.
        let mut writes: BTreeMap<Key, Option<&Record>> = BTreeMap::new();
        for record in records {
            if let Some((place, prefix)) = key::voids(record) {
                writes.extend(self.stored(place, &prefix)?.into_iter().map(|key| ((place, key), None)));
                let void = |(at, key): &Key| *at == place && key.starts_with(&prefix);
                writes.iter_mut().filter(|(key, _)| void(key)).for_each(|(_, record)| *record = None);
            }
            writes.insert(key::of(record), Some(record));
        }
        let mut writes: Writes =
            writes.into_iter().map(|(key, record)| (key, record.map(key::value))).collect();
        let commits = encode(COMMITS, &(self.beside.commits + 1));
        writes.push(((Place::Run, COMMITS.as_bytes().to_vec()), Some(commits)));
        Ok(writes)
    }

    /// All of it, or none.
    fn transact(&self, writes: &[(Key, Option<Vec<u8>>)]) -> Result<(), Error> {
        let Sled { run, candidates, evaluations, samples, parts, journal, audits, .. } = self;
        let trees = (run, candidates, evaluations, samples, parts, journal, audits);
        trees
            .transaction(|(run, candidates, evaluations, samples, parts, journal, audits)| {
                for ((place, key), value) in writes {
                    let tree = match place {
                        Place::Run => run,
                        Place::Candidates => candidates,
                        Place::Evaluations => evaluations,
                        Place::Samples => samples,
                        Place::Parts => parts,
                        Place::Journal => journal,
                        Place::Audits => audits,
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
}

impl Drop for Sled {
    fn drop(&mut self) {
        // Everything was flushed when it was committed; this only shortens the next start.
        let _ = self.db.flush();
        let _ = self.beside.witness.flush();
    }
}

fn read_candidate(entry: sled::Result<(sled::IVec, sled::IVec)>) -> Result<Candidate, Error> {
    let (key, bytes) = entry.map_err(|e| disk("read the store", e))?;
    decode(&key::candidate(key::number("candidate", &key)?), &bytes)
}

pub(super) fn disk(doing: &'static str, e: sled::Error) -> Error {
    match e {
        sled::Error::Io(e) => io(doing, e),
        sled::Error::Corruption { .. } => {
            let message = "they cannot be read to their end, or one of them is missing".into();
            Error::Broken { message }
        }
        sled::Error::Unsupported(message) => Error::Broken { message },
        e => Error::Disk { doing, message: e.to_string() },
    }
}

fn io(doing: &'static str, e: std::io::Error) -> Error {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    let message = e.to_string();
    match e.kind() {
        StorageFull | QuotaExceeded | FileTooLarge => Error::Full { doing, message },
        _ => Error::Disk { doing, message },
    }
}

fn is_lock(e: &sled::Error) -> bool {
    // sled has no kind of its own for this: it wraps the lock's refusal in an I/O error of this text.
    matches!(e, sled::Error::Io(io) if io.to_string().contains("could not acquire lock"))
}

/// Makes a folder that only its owner may enter; one that exists is closed to others.
pub fn private_folder(path: &Path) -> std::io::Result<()> {
    secure::files::make_private(path)
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
