//! A consistent copy of a store that is being written to.
//!
//! sled has no view of one moment. A copy therefore notes which keys are written while it goes through the trees, and
//! afterwards reads those again, round by round, until few are left; the last round is read between two commits. What
//! was sent, the later of two values of one key taken, is then the store as it was at that moment: a key that was not
//! written since its tree was read has its value of then, every other one was read again.
//!
//! Keys are noted when their commit stands. A value that is read before that, and whose commit fails, ends the
//! coordinator and with it the copy, which is then not whole and not taken.

use super::Error;
use super::key::{Key, Place};
use super::sled::{Sled, disk};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Records that are read at once, by their size.
const CHUNK_BYTES: usize = 1 << 20;
/// So few changed keys are left to the last round, …
const LAST_ROUND: usize = 256;
/// … after so many rounds all that there are.
const ROUNDS: usize = 32;

/// Keys that were written since a copy began.
pub(super) type Changed = Mutex<BTreeSet<Key>>;

/// A record as it stands in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raw {
    /// Its tree.
    pub place: Place,
    /// Its key there.
    pub key: Vec<u8>,
    /// Its bytes, with format and checksum; `None` where it was removed.
    pub value: Option<Vec<u8>>,
}

impl Raw {
    fn bytes(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, Vec::len)
    }
}

/// A copy in work.
#[derive(Debug)]
pub struct Copy {
    trees: Vec<(Place, sled::Tree)>,
    /// The tree that is read, and the last key that was.
    at: usize,
    after: Option<Vec<u8>>,
    rounds: usize,
    changed: Arc<Changed>,
}

impl Copy {
    pub(super) fn new(trees: Vec<(Place, sled::Tree)>) -> (Copy, Arc<Changed>) {
        let changed = Arc::new(Changed::default());
        (Copy { trees, at: 0, after: None, rounds: 0, changed: changed.clone() }, changed)
    }

    /// The next records; none when only the last round is left. May be read while the store is written to.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn portion(&mut self) -> Result<Vec<Raw>, Error> {
        let (mut records, mut bytes) = (Vec::new(), 0);
        while let Some((place, tree)) = self.trees.get(self.at) {
            let from = self.after.as_deref().map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
            for entry in tree.range::<&[u8], _>((from, std::ops::Bound::Unbounded)) {
                let (key, value) = entry.map_err(|e| disk("read the store", e))?;
                let raw = Raw { place: *place, key: key.to_vec(), value: Some(value.to_vec()) };
                bytes += raw.bytes();
                records.push(raw);
                if bytes >= CHUNK_BYTES {
                    break;
                }
            }
            match records.last().filter(|_| bytes >= CHUNK_BYTES) {
                Some(last) => {
                    self.after = Some(last.key.clone());
                    return Ok(records);
                }
                None => (self.at, self.after) = (self.at + 1, None),
            }
        }
        if !records.is_empty() {
            return Ok(records);
        }
        self.rounds += 1;
        match self.changed().len() <= LAST_ROUND || self.rounds > ROUNDS {
            true => Ok(records),
            false => self.again(),
        }
    }

    /// The last round. To be read between two commits.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn last(mut self) -> Result<Vec<Raw>, Error> {
        self.again()
    }

    fn again(&mut self) -> Result<Vec<Raw>, Error> {
        let keys = std::mem::take(&mut *self.changed());
        let mut records = Vec::with_capacity(keys.len());
        for (place, key) in keys {
            let Some((_, tree)) = self.trees.iter().find(|(p, _)| *p == place) else { continue };
            let value = tree.get(&key).map_err(|e| disk("read the store", e))?;
            records.push(Raw { place, key, value: value.map(|v| v.to_vec()) });
        }
        Ok(records)
    }

    fn changed(&self) -> std::sync::MutexGuard<'_, BTreeSet<Key>> {
        // Nothing panics while it is held.
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Splits records into portions of at most a chunk, or of one record.
pub fn portions(records: Vec<Raw>) -> Vec<Vec<Raw>> {
    let mut portions: Vec<Vec<Raw>> = Vec::new();
    let mut bytes = CHUNK_BYTES;
    for record in records {
        if bytes >= CHUNK_BYTES {
            portions.push(Vec::new());
            bytes = 0;
        }
        bytes += record.bytes();
        portions.last_mut().expect("one was just pushed").push(record);
    }
    portions
}

/// A store that is made out of another one's records.
#[derive(Debug)]
pub struct Draft(Sled);

impl Draft {
    /// An empty one, in a state folder that has none.
    ///
    /// # Errors
    /// When it cannot be made, or holds something.
    pub fn new(folder: &Path) -> Result<Draft, Error> {
        let store = Sled::open_or_create(folder)?;
        let empty = Place::ALL.iter().all(|place| store.tree(*place).is_empty());
        match empty {
            true => Ok(Draft(store)),
            false => Err(Error::NotEmpty { folder: folder.to_path_buf() }),
        }
    }

    /// Writes records, the later of one key over the earlier.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn write(&mut self, records: Vec<Raw>) -> Result<(), Error> {
        for Raw { place, key, value } in records {
            let tree = self.0.tree(place);
            let written = match value {
                Some(value) => tree.insert(key, value),
                None => tree.remove(key),
            };
            written.map_err(|e| disk("write to the store", e))?;
        }
        Ok(())
    }

    /// What was written so far, to be checked.
    pub fn store(&self) -> &Sled {
        &self.0
    }

    /// Brings everything to the disk, with a witness of its own. Yields how many commits it holds.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn finish(self) -> Result<u64, Error> {
        self.0.finish_draft()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Counters, Durable, Record};
    use crate::store::Store;
    use crate::testing::{evaluate, manifest, plan};
    use common::id::CandidateId;
    use common::time::Millis;

    fn everything(store: &Sled) -> Vec<(Place, Vec<u8>, Vec<u8>)> {
        let all = |place| store.raw(place).map(move |r| r.map(|(k, v)| (place, k, v)).unwrap());
        Place::ALL.into_iter().flat_map(all).collect()
    }

    /// Commits between any two portions, also such as take records away, are in the copy up to its last round.
    #[test]
    fn what_is_written_meanwhile_is_copied_as_it_was_in_the_end() {
        let (dir, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let plan = plan(&[]);
        let mut store = Sled::open_or_create(dir.path()).unwrap();
        store.commit(&Durable::new(&plan, manifest(), Millis(1)).records()).unwrap();
        let evaluation = evaluate(&plan, &plan.authors_middle());
        let mut long = evaluation.clone();
        long.samples.iter_mut().for_each(|s| s.text = "所見".repeat(50_000));
        for id in 1..=9 {
            store.commit(&[Record::Evaluation(CandidateId(id), long.clone())]).unwrap();
            store.commit(&[Record::Sample(CandidateId(id + 100), 1, evaluation.samples[1].clone())]).unwrap();
        }
        let mut copy = store.copy().unwrap();
        let mut draft = Draft::new(to.path()).unwrap();
        let mut portions = 0;
        loop {
            let records = copy.portion().unwrap();
            if records.is_empty() {
                break;
            }
            draft.write(records).unwrap();
            portions += 1;
            // Changed, added and removed: behind, and ahead of what was read.
            let last_lease = portions;
            let (behind, ahead) = (CandidateId(portions), CandidateId(portions + 100));
            let records = [
                Record::Counters(Counters { last_lease, ..Counters::default() }),
                Record::Evaluation(behind, evaluation.clone()),
                Record::Evaluation(ahead, evaluation.clone()),
            ];
            store.commit(&records).unwrap();
        }
        assert!(portions > 4, "{portions}");
        let last = copy.last().unwrap();
        assert!(last.iter().any(|r| r.value.is_none()));
        draft.write(last).unwrap();
        let then = everything(&store);
        store.commit(&[Record::Counters(Counters::default())]).unwrap();
        draft.finish().unwrap();
        let made = Sled::open(to.path()).unwrap();
        assert_eq!(everything(&made), then);
        assert!(Draft::new(to.path()).is_err());
    }

    #[test]
    fn many_changes_take_further_rounds_before_the_last() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Sled::open_or_create(dir.path()).unwrap();
        let mut copy = store.copy().unwrap();
        let row = evaluate(&plan(&[]), &plan(&[]).authors_middle()).samples.remove(0);
        let many = |n: u64| -> Vec<Record> {
            (1..=n).map(|id| Record::Sample(CandidateId(id), 0, row.clone())).collect()
        };
        store.commit(&many(LAST_ROUND as u64 + 40)).unwrap();
        // Read from the trees, then as changes; then nothing is left.
        assert_eq!(copy.portion().unwrap().len(), LAST_ROUND + 41);
        assert_eq!(copy.portion().unwrap().len(), LAST_ROUND + 41);
        assert!(copy.portion().unwrap().is_empty());
        store.commit(&many(3)).unwrap();
        assert_eq!(copy.last().unwrap().len(), 4);
        // Nobody is told of changes any more.
        store.commit(&many(1)).unwrap();
    }
}
