//! A store that outlives the simulated coordinator, checks everything that is written to it, and fails when told to.

use crate::plan::row;
use common::digest::Digest;
use common::evaluation::Evaluation;
use common::id::CandidateId;
use common::run::RunPlan;
use coordinator::state::candidate::{Candidate, Phase};
use coordinator::state::journal::Entry;
use coordinator::state::{Audited, Durable, Record};
use coordinator::store::memory::Memory;
use coordinator::store::{Error, Store};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

/// What the next commit does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Failing {
    /// It succeeds.
    #[default]
    No,
    /// The disk is full: nothing is written, and the coordinator stops.
    Before,
    /// Everything is written, and the coordinator dies before it can answer.
    After,
}

/// The disk of the coordinator's machine.
#[derive(Clone)]
pub struct Disk {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    plan: RunPlan,
    memory: Memory,
    failing: Failing,
    failed: u32,
    /// Final candidates as they became final.
    finals: BTreeMap<CandidateId, Phase>,
    recorded: BTreeSet<CandidateId>,
    audited: BTreeSet<CandidateId>,
    trace: Vec<u8>,
}

impl Disk {
    /// A new run's disk.
    pub fn new(plan: &RunPlan, durable: &Durable) -> Disk {
        let mut memory = Memory::default();
        memory.commit(&durable.records()).expect("memory takes everything");
        let (finals, recorded) = (BTreeMap::new(), BTreeSet::new());
        let inner = Inner {
            plan: plan.clone(),
            memory,
            failing: Failing::No,
            failed: 0,
            finals,
            recorded,
            audited: BTreeSet::new(),
            trace: Vec::new(),
        };
        Disk { inner: Arc::new(Mutex::new(inner)) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nobody panics with it")
    }

    /// Lets the next commit fail.
    pub fn fail(&self, how: Failing) {
        self.inner().failing = how;
    }

    /// Commits that failed so far.
    pub fn failed(&self) -> u32 {
        self.inner().failed
    }

    /// Candidates that were audited.
    pub fn audited(&self) -> u32 {
        self.inner().audited.len() as u32
    }

    /// Everything that was ever written, in order, as one number.
    pub fn trace(&self) -> Digest {
        Digest::of(&self.inner().trace)
    }

    /// What a coordinator that starts now would find.
    pub fn durable(&self) -> Durable {
        self.inner().memory.load().expect("readable").expect("a run")
    }

    /// A part of the journal.
    pub fn entries(&self, from: u64, most: usize) -> Result<Vec<Entry>, Error> {
        self.inner().memory.journal(from, most)
    }
}

impl Inner {
    /// What no order of events may ever write.
    fn check(&mut self, record: &Record) {
        match record {
            Record::Candidate(c) => self.check_candidate(c),
            Record::Journal(_, Entry::Recorded { candidate, .. }) => {
                assert!(self.recorded.insert(*candidate), "candidate {candidate} is counted twice");
            }
            Record::Sample(id, position, sample) => {
                assert!(!self.finals.contains_key(id), "a sample of {id}, which is final");
                let recipe = self.plan.recipe(self.candidate(*id).genome());
                assert_eq!(
                    *sample,
                    row(&self.plan, &recipe, *position as usize),
                    "sample {position} of {id}"
                );
            }
            Record::Evaluation(id, evaluation) => {
                let recipe = self.plan.recipe(self.candidate(*id).genome());
                for sample in &evaluation.samples {
                    let position = self.plan.samples.iter().position(|s| *s == sample.sample);
                    assert_eq!(*sample, row(&self.plan, &recipe, position.expect("a sample of the run")));
                }
            }
            Record::Audited(id, audited) => {
                let recipe = self.plan.recipe(self.candidate(*id).genome());
                let rows: Vec<_> =
                    (0..self.plan.samples.len()).map(|p| row(&self.plan, &recipe, p)).collect();
                assert_eq!(audited.evaluation.samples, rows, "the audit of {id}");
                assert!(audited.agree && audited.first == audited.second, "the audit of {id}");
                assert!(!audited.first_by.contains(&audited.second_by), "{id} was audited by who brought it");
                assert!(self.audited.insert(*id), "{id} is audited twice");
            }
            _ => {}
        }
    }

    fn candidate(&self, id: CandidateId) -> Candidate {
        let found = self.memory.candidates(id, 1).expect("readable").pop();
        found
            .filter(|c| c.id() == id)
            .unwrap_or_else(|| panic!("candidate {id} is written before what belongs to it"))
    }

    fn check_candidate(&mut self, c: &Candidate) {
        let limit = self.plan.scheduling.attempts as usize;
        assert!(c.counted_attempts() <= limit, "candidate {} has {} attempts", c.id(), c.counted_attempts());
        assert!(c.id().0 <= self.plan.search.evaluations, "candidate {} is beyond the budget", c.id());
        if c.is_final() {
            let first = self.finals.entry(c.id()).or_insert_with(|| c.phase().clone());
            assert_eq!(first, c.phase(), "candidate {} was final", c.id());
        } else {
            assert!(!self.finals.contains_key(&c.id()), "candidate {} was final and is open again", c.id());
        }
    }
}

impl Store for Disk {
    fn load(&self) -> Result<Option<Durable>, Error> {
        self.inner().memory.load()
    }

    fn commit(&mut self, records: &[Record]) -> Result<(), Error> {
        let mut inner = self.inner();
        let inner = &mut *inner;
        let failing = std::mem::take(&mut inner.failing);
        let full = || Error::Disk { doing: "write to the store", message: "no space left".into() };
        if failing == Failing::Before {
            inner.failed += 1;
            return Err(full());
        }
        for record in records {
            inner.memory.commit(std::slice::from_ref(record))?;
            inner.check(record);
            inner.trace.extend(format!("{record:?}\n").bytes());
        }
        if failing == Failing::After {
            inner.failed += 1;
            return Err(full());
        }
        Ok(())
    }

    fn journal(&self, from: u64, most: usize) -> Result<Vec<Entry>, Error> {
        self.entries(from, most)
    }

    fn candidates(&self, from: CandidateId, most: usize) -> Result<Vec<Candidate>, Error> {
        self.inner().memory.candidates(from, most)
    }

    fn audits(&self, from: CandidateId, most: usize) -> Result<Vec<(CandidateId, Audited)>, Error> {
        self.inner().memory.audits(from, most)
    }

    fn copy(&self) -> Option<coordinator::store::copy::Copy> {
        None
    }

    fn evaluation(&self, id: CandidateId) -> Result<Option<Evaluation>, Error> {
        self.inner().memory.evaluation(id)
    }
}
