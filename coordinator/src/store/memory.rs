//! The store of tests: the same contract without a disk.

use super::{Error, Store};
use crate::state::bound::Bar;
use crate::state::journal::Entry;
use crate::state::{
    Audited, Counters, Durable, Identity, Partial, Parts, Pinned, Record, Searched, candidate::Candidate,
};
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
    partial: Partial,
    parts: Parts,
    bar: Option<Bar>,
    begun: Option<Searched>,
    audits: BTreeMap<CandidateId, Audited>,
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
            partial: self.partial.clone(),
            parts: self.parts.clone(),
            bar: self.bar.clone(),
            begun: self.begun.clone(),
        }))
    }

    fn commit(&mut self, records: &[Record]) -> Result<(), Error> {
        for record in records {
            match record.clone() {
                Record::Identity(r) => self.identity = Some(r),
                Record::Pinned(r) => self.pinned = r,
                Record::Counters(r) => self.counters = r,
                Record::Searched(r) => self.searched = Some(r),
                Record::Begun(r) => self.begun = Some(r),
                Record::Journal(at, entry) => drop(self.journal.insert(at, entry)),
                Record::Candidate(r) => drop(self.candidates.insert(r.id(), r)),
                Record::Sample(id, position, r) => {
                    self.partial.entry(id).or_default().insert(position, r);
                }
                Record::Evaluation(id, r) => {
                    self.evaluations.insert(id, r);
                    self.partial.remove(&id);
                }
                Record::Audited(id, r) => drop(self.audits.insert(id, r)),
                Record::Parts(id, r) => drop(self.parts.insert(id, r)),
                Record::Bar(r) => {
                    self.bar = r;
                    self.parts.clear();
                }
            }
        }
        Ok(())
    }

    fn journal(&self, from: u64, most: usize) -> Result<Vec<Entry>, Error> {
        Ok(self.journal.range(from..).take(most).map(|(_, e)| e.clone()).collect())
    }

    fn candidates(&self, from: CandidateId, most: usize) -> Result<Vec<Candidate>, Error> {
        Ok(self.candidates.range(from..).take(most).map(|(_, c)| c.clone()).collect())
    }

    fn evaluation(&self, id: CandidateId) -> Result<Option<Evaluation>, Error> {
        let so_far = |rows: &BTreeMap<_, _>| super::so_far(rows.values().cloned().collect());
        Ok(self.evaluations.get(&id).cloned().or_else(|| self.partial.get(&id).map(so_far)))
    }

    fn audits(&self, from: CandidateId, most: usize) -> Result<Vec<(CandidateId, Audited)>, Error> {
        Ok(self.audits.range(from..).take(most).map(|(id, a)| (*id, a.clone())).collect())
    }

    fn copy(&self) -> Option<super::copy::Copy> {
        None
    }
}
