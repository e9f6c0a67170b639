//! The store of tests: the same contract without a disk.

use super::{Error, Store};
use crate::state::journal::Entry;
use crate::state::{Counters, Durable, Identity, Pinned, Record, Searched, candidate::Candidate};
use common::evaluation::Evaluation;
use common::id::CandidateId;
use std::collections::BTreeMap;

/// Keeps records in memory.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    identity: Option<Identity>,
    pinned: Pinned,
    counters: Counters,
    searched: Option<Searched>,
    candidates: BTreeMap<CandidateId, Candidate>,
    evaluations: BTreeMap<CandidateId, Evaluation>,
    journal: BTreeMap<u64, Entry>,
}

impl Store for Memory {
    fn load(&self) -> Result<Option<Durable>, Error> {
        Ok(self.identity.clone().zip(self.searched.clone()).map(|(identity, searched)| Durable {
            identity,
            pinned: self.pinned.clone(),
            counters: self.counters.clone(),
            tail: self.journal.range(searched.entries..).map(|(_, e)| e.clone()).collect(),
            searched,
            candidates: self.candidates.values().cloned().collect(),
        }))
    }

    fn commit(&mut self, records: &[Record]) -> Result<(), Error> {
        for record in records {
            match record.clone() {
                Record::Identity(r) => self.identity = Some(r),
                Record::Pinned(r) => self.pinned = r,
                Record::Counters(r) => self.counters = r,
                Record::Searched(r) => self.searched = Some(r),
                Record::Journal(at, entry) => drop(self.journal.insert(at, entry)),
                Record::Candidate(r) => drop(self.candidates.insert(r.id(), r)),
                Record::Evaluation(id, r) => drop(self.evaluations.insert(id, r)),
            }
        }
        Ok(())
    }

    fn journal(&self, from: u64, most: usize) -> Result<Vec<Entry>, Error> {
        Ok(self.journal.range(from..).take(most).map(|(_, e)| e.clone()).collect())
    }

    fn evaluation(&self, id: CandidateId) -> Result<Option<Evaluation>, Error> {
        Ok(self.evaluations.get(&id).cloned())
    }
}
