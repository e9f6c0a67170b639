//! A share of candidates is evaluated a second time, by another node: what finds a device that computes otherwise, or lies.
//!
//! Which candidates is a function of the run's seed and the candidate's number alone. The second result never counts: the
//! search is told the first, whatever the second says. Both are kept, and where they differ by more than the plan allows, that
//! is said. What waits for an audit is not durable: a coordinator that restarts, or a run that ends, leaves it out. An audit
//! costs the slot's time and nothing else: it is no attempt of its candidate, and one that fails is given up quietly.

use super::{Changes, Note, Record, State};
use common::digest::Digest;
use common::evaluation::{Evaluation, SampleResult, Timings};
use common::fitness::Fitness;
use common::id::{CandidateId, LeaseId, WorkerId};
use common::recipe::Recipe;
use common::seed::Stream;
use common::time::Millis;
use proto::convert::{End, FailureKind, Grant, Outcome, Receipt};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// So many wait at most; the oldest make room. Where nobody else comes, they would only pile up.
const MOST_WAITING: usize = 256;

/// A second result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Audited {
    /// Who brought the samples of the first.
    pub first_by: BTreeSet<String>,
    /// What the search was told.
    pub first: Fitness,
    /// Who evaluated it again.
    pub second_by: String,
    /// What came out.
    pub second: Fitness,
    /// Samples that contributed something else, by position from 1.
    pub differing: Vec<u32>,
    /// Whether the two are as near as the plan wants.
    pub agree: bool,
    /// The second result whole; the first is the candidate's own.
    pub evaluation: Evaluation,
}

/// A candidate to be evaluated again.
#[derive(Clone, Debug)]
struct Due {
    candidate: CandidateId,
    recipe: Recipe,
    by: BTreeSet<String>,
    first: Fitness,
    parts: Vec<f64>,
    /// How often it failed.
    failures: u32,
}

/// One that somebody evaluates again.
#[derive(Clone, Debug)]
pub(super) struct Lent {
    due: Due,
    worker: WorkerId,
    deadline: Millis,
    rows: BTreeMap<u32, SampleResult>,
}

/// Audits of a run that is served.
#[derive(Clone, Debug, Default)]
pub struct Audits {
    waiting: VecDeque<Due>,
    lent: BTreeMap<LeaseId, Lent>,
}

impl Audits {
    /// How many wait or are being made.
    pub fn open(&self) -> usize {
        self.waiting.len() + self.lent.len()
    }

    /// Who is making one, each as often as it has slots at it.
    pub fn workers(&self) -> impl Iterator<Item = WorkerId> {
        self.lent.values().map(|lent| lent.worker)
    }

    /// Slots that work on one.
    pub(super) fn in_work(&self) -> usize {
        self.lent.len()
    }

    /// Renews a lease of that worker; false where it has none of that number.
    pub(super) fn renew(&mut self, lease: LeaseId, worker: WorkerId, until: Millis) -> bool {
        match self.lent.get_mut(&lease).filter(|l| l.worker == worker) {
            Some(lent) => {
                lent.deadline = until;
                true
            }
            None => false,
        }
    }

    /// Whether that worker evaluates one under that lease.
    pub(super) fn holds(&self, lease: LeaseId, worker: WorkerId) -> bool {
        self.lent.get(&lease).is_some_and(|l| l.worker == worker)
    }

    /// Lets somebody else do what was lent under leases for which `gone` holds.
    pub(super) fn give_back(&mut self, gone: impl Fn(LeaseId, &Lent) -> bool) {
        let back = self.lent.iter().filter(|(id, lent)| gone(**id, lent));
        for id in back.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.waiting.extend(self.lent.remove(&id).map(|lent| lent.due));
        }
    }

    /// The same for those whose time is over.
    pub(super) fn give_back_late(&mut self, now: Millis) {
        self.give_back(|_, lent| lent.deadline <= now);
    }

    /// The same for those of a worker that is gone.
    pub(super) fn give_back_of(&mut self, worker: WorkerId) {
        self.give_back(|_, lent| lent.worker == worker);
    }

    /// One that could not be done: to somebody else, unless it has failed `most` times.
    pub(super) fn fail(&mut self, lease: LeaseId, most: u32) {
        if let Some(Lent { mut due, .. }) = self.lent.remove(&lease) {
            due.failures += 1;
            self.waiting.extend((due.failures < most).then_some(due));
        }
    }

    /// Gives everything up.
    pub(super) fn clear(&mut self) {
        *self = Audits::default();
    }
}

impl State {
    /// Audits that wait or are being made.
    pub fn audits(&self) -> &Audits {
        &self.audits
    }

    /// Notes a candidate that was scored, if it is one to be evaluated again.
    pub(super) fn plan_audit(&mut self, id: CandidateId, first: Fitness, parts: &[f64]) {
        let share = self.plan.scheduling.audit;
        if share == 0.0 || Stream::new(self.plan.seed ^ id.0, "audit").uniform() >= share {
            return;
        }
        let candidate = &self.candidates[id];
        let brought = candidate.attempts().iter().filter(|a| a.samples > 0);
        let due = Due {
            candidate: id,
            recipe: self.plan.recipe(candidate.genome()),
            by: brought.map(|a| a.worker_name.clone()).collect(),
            first,
            parts: parts.to_vec(),
            failures: 0,
        };
        if self.audits.waiting.len() >= MOST_WAITING {
            self.audits.waiting.pop_front();
        }
        self.audits.waiting.push_back(due);
    }

    /// Lends an audit that another node than this worker's has to answer for.
    pub(super) fn lend_audit(
        &mut self,
        now: Millis,
        worker: WorkerId,
        changes: &mut Changes,
    ) -> Option<Grant> {
        let name = self.roster.get(worker)?.name.clone();
        let at = self.audits.waiting.iter().position(|due| !due.by.contains(&name))?;
        let due = self.audits.waiting.remove(at)?;
        self.counters.last_lease += 1;
        // Else a coordinator that restarts would use the number again.
        changes.records.push(Record::Counters(self.counters.clone()));
        let lease = LeaseId(self.counters.last_lease);
        let lease_time = self.lease_time();
        let grant = Grant {
            lease,
            candidate: due.candidate,
            attempt: 1,
            recipe: due.recipe.clone(),
            renew_within_ms: lease_time.as_millis() as u64,
            samples: (0..self.plan.samples.len() as u32).collect(),
        };
        let rows = BTreeMap::new();
        self.audits.lent.insert(lease, Lent { due, worker, deadline: now + lease_time, rows });
        if let Some(w) = self.roster.get_mut(worker) {
            w.free_slots = w.free_slots.saturating_sub(1);
        }
        Some(grant)
    }

    /// Whether an audit waits for which somebody is here that did not bring the first result.
    pub(super) fn audit_waits(&self) -> bool {
        let other =
            |due: &Due| self.roster.iter().any(|(_, w)| w.free_slots > 0 && !due.by.contains(&w.name));
        self.audits.waiting.iter().any(other)
    }

    /// Takes in what a worker evaluated again. `over`: it says that this was all.
    ///
    /// # Errors
    /// What is wrong with it; the audit then goes to somebody else.
    pub(super) fn take_audit(
        &mut self,
        (lease, recipe): (LeaseId, Digest),
        part: Evaluation,
        over: bool,
        changes: &mut Changes,
    ) -> Result<(), String> {
        let taken = self.note_audited(lease, recipe, part.samples, over);
        match taken {
            Ok(false) => {}
            Ok(true) => {
                if let Some(lent) = self.audits.lent.remove(&lease) {
                    self.conclude_audit(lent, part.timings, changes);
                }
            }
            Err(_) => self.audits.fail(lease, self.plan.scheduling.attempts),
        }
        taken.map(drop)
    }

    /// How a worker's word that an audit is over is answered.
    pub(super) fn settle_audit(&mut self, o: Outcome, changes: &mut Changes) -> (Receipt, String) {
        match o.end {
            End::Evaluated(part) => match self.take_audit((o.lease, o.recipe), part, true, changes) {
                Ok(()) => return (Receipt::Recorded, String::new()),
                Err(reason) => return (Receipt::Refused, reason),
            },
            End::Failed { kind: FailureKind::HandedBack, .. } => self.audits.give_back(|id, _| id == o.lease),
            End::Failed { .. } => self.audits.fail(o.lease, self.plan.scheduling.attempts),
        }
        (Receipt::Recorded, String::new())
    }

    /// Whether all samples are there.
    fn note_audited(
        &mut self,
        lease: LeaseId,
        recipe: Digest,
        samples: Vec<SampleResult>,
        over: bool,
    ) -> Result<bool, String> {
        let checked = self.check(&samples)?;
        let all = self.plan.samples.len();
        let Some(lent) = self.audits.lent.get_mut(&lease) else { return Ok(false) };
        if lent.due.recipe.digest() != recipe {
            return Err("it is of another recipe than was lent".into());
        }
        for ((position, _), row) in checked.into_iter().zip(samples) {
            lent.rows.entry(position).or_insert(row);
        }
        match (all - lent.rows.len(), over) {
            (0, _) => Ok(true),
            (missing, true) => Err(format!("{missing} of its samples are missing")),
            (_, false) => Ok(false),
        }
    }

    fn conclude_audit(&mut self, lent: Lent, timings: Timings, changes: &mut Changes) {
        let Lent { due, worker, rows, .. } = lent;
        let evaluation = Evaluation { samples: rows.into_values().collect(), timings };
        let Ok(second) = self.plan.fitness(&evaluation) else { return };
        let contributions = evaluation.samples.iter().map(|s| self.plan.objective.sample(s).ok());
        let differs = |(position, (second, first)): (u32, (Option<f64>, &f64))| {
            (second != Some(*first)).then_some(position + 1)
        };
        let differing: Vec<u32> = (0..).zip(contributions.zip(&due.parts)).filter_map(differs).collect();
        let agree = (second.value() - due.first.value()).abs() <= self.plan.scheduling.audit_tolerance;
        let second_by = self.roster.get(worker).map(|w| w.name.clone()).unwrap_or_default();
        let audited =
            Audited { first_by: due.by, first: due.first, second_by, second, differing, agree, evaluation };
        self.counters.audits.done += 1;
        self.counters.audits.disagree += u64::from(!agree);
        if !agree {
            changes.notes.push(Note::AuditDisagrees {
                candidate: due.candidate,
                first: audited.first,
                first_by: audited.first_by.iter().cloned().collect::<Vec<_>>().join(", "),
                second: audited.second,
                second_by: audited.second_by.clone(),
                samples: audited.differing.len() as u32,
            });
        }
        changes.records.push(Record::Audited(due.candidate, audited));
    }
}
