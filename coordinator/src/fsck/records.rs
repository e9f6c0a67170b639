//! Each record by itself.

use super::{Report, problem};
use crate::state::bound::Bar;
use crate::state::candidate::Candidate;
use crate::state::journal::Entry;
use crate::state::{Audited, Counters, Identity, Pinned, Searched};
use crate::store::key::{self, Place};
use crate::store::record::decode;
use crate::store::sled::Sled;
use common::evaluation::{Evaluation, SampleResult};
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};

/// What of a store could be read. Texts are read again where they are needed: they may not fit into memory.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub(super) identity: Option<Identity>,
    pub(super) counters: Option<Counters>,
    pub(super) searched: Option<Searched>,
    pub(super) bar: Option<Bar>,
    pub(super) candidates: BTreeMap<u64, Candidate>,
    /// Candidates with an evaluation, readable or not.
    pub(super) evaluations: BTreeSet<u64>,
    /// Samples by candidate and position, with the name of each that can be read.
    pub(super) samples: BTreeMap<(u64, u32), Option<String>>,
    pub(super) parts: BTreeMap<u64, Option<Vec<f64>>>,
    /// Second evaluations, those that can be read.
    pub(super) audits: BTreeMap<u64, Option<Audited>>,
    /// Positions of the journal's entries.
    pub(super) journal: BTreeSet<u64>,
    any: bool,
}

impl Records {
    /// Whether there was no record at all.
    pub(super) fn is_empty(&self) -> bool {
        !self.any
    }

    pub(super) fn read(store: &Sled, report: &mut Report) -> Records {
        let mut records = Records::default();
        for place in Place::ALL {
            let mut count = 0;
            for entry in store.raw(place) {
                match entry {
                    Ok((key, value)) => {
                        count += 1;
                        records.take(place, &key, &value, report);
                    }
                    Err(e) => {
                        report.add(format!("tree {:?}", place.name()), problem(&e), &[]);
                        break;
                    }
                }
            }
            records.any |= count > 0;
            report.records.insert(place.name(), count);
        }
        report.candidates = records.candidates.len() as u64;
        records
    }

    fn take(&mut self, place: Place, key: &[u8], value: &[u8], report: &mut Report) {
        match place {
            Place::Run => return self.single(key, value, report),
            Place::Samples => return self.sample(key, value, report),
            Place::Candidates | Place::Evaluations | Place::Parts | Place::Journal | Place::Audits => {}
        }
        let id = match key::number(place.name(), key) {
            Ok(id) => id,
            Err(e) => return report.add(format!("{}/{key:02x?}", place.name()), problem(&e), &[]),
        };
        match place {
            Place::Candidates => {
                if let Some(candidate) = read(&key::candidate(id), value, &[id], report) {
                    self.candidates.insert(id, candidate);
                }
            }
            Place::Evaluations => {
                self.evaluations.insert(id);
                // What it says is compared later.
                let _: Option<Evaluation> = read(&key::evaluation(id), value, &[id], report);
            }
            Place::Parts => {
                let parts = read(&key::parts(id), value, &[id], report);
                self.parts.insert(id, parts);
            }
            Place::Journal => {
                self.journal.insert(id);
                let _: Option<Entry> = read(&key::journal(id), value, &[], report);
            }
            Place::Audits => {
                let audited = read(&key::audit(id), value, &[id], report);
                self.audits.insert(id, audited);
            }
            Place::Run | Place::Samples => unreachable!("they are taken above"),
        }
    }

    fn sample(&mut self, key: &[u8], value: &[u8], report: &mut Report) {
        match key::sample_number(key) {
            Ok((id, position)) => {
                let row: Option<SampleResult> = read(&key::sample(id, position), value, &[id], report);
                self.samples.insert((id, position), row.map(|row| row.sample));
            }
            Err(e) => report.add(format!("sample/{key:02x?}"), problem(&e), &[]),
        }
    }

    fn single(&mut self, key: &[u8], value: &[u8], report: &mut Report) {
        let name = String::from_utf8_lossy(key);
        match name.as_ref() {
            key::IDENTITY => self.identity = read(&name, value, &[], report),
            key::COUNTERS => self.counters = read(&name, value, &[], report),
            key::SEARCHED => self.searched = read(&name, value, &[], report),
            key::BAR => self.bar = read::<Option<Bar>>(&name, value, &[], report).flatten(),
            key::PINNED => drop(read::<Pinned>(&name, value, &[], report)),
            key::BEGUN => drop(read::<Searched>(&name, value, &[], report)),
            // Read by whoever asked how old the store is.
            key::COMMITS => {}
            other => report.add(format!("{other:?}"), "no version up to this one writes such a record", &[]),
        }
    }
}

fn read<T: DeserializeOwned>(name: &str, value: &[u8], touched: &[u64], report: &mut Report) -> Option<T> {
    decode(name, value).map_err(|e| report.add(name, problem(&e), touched)).ok()
}
