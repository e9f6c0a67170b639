//! A share of candidates is evaluated a second time, by another node: what finds a device that computes otherwise, or lies.
//!
//! Which candidates is a function of the run's seed and the candidate's number alone. The second result never counts: the
//! search is told the first, whatever the second says. Both are kept, and where they differ by more than the plan allows, that
//! is said. What waits for an audit is not durable: a coordinator that restarts, or a run that ends, leaves it out. An audit
//! costs the slot's time and nothing else: it is no attempt of its candidate. One that fails is told, held against its worker as
//! any failure where another succeeded, goes to a worker where it has not failed yet, and is given up after as many failures as a
//! candidate has attempts.

use super::candidate::{MAX_UNCOUNTED_ATTEMPTS, Score};
use super::roster::Worker;
use super::{Changes, Note, Record, State};
use common::digest::Digest;
use common::evaluation::{Evaluation, SampleResult, Timings};
use common::fitness::Fitness;
use common::id::{CandidateId, LeaseId, WorkerId};
use common::recipe::Recipe;
use common::seed::Stream;
use common::time::Millis;
use proto::convert::{End, FailureKind, Grant, LeaseProgress, Outcome, Receipt, Stage};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

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
    /// What the search was told: one number an objective.
    told: Vec<Fitness>,
    /// How often it failed, and where.
    failures: u32,
    failed_on: BTreeSet<String>,
    handed_back: usize,
}

impl Due {
    fn may_go_to(&self, name: &str) -> bool {
        !self.by.contains(name) && !self.failed_on.contains(name)
    }
}

/// One that somebody evaluates again.
#[derive(Clone, Debug)]
struct Lent {
    due: Due,
    worker: WorkerId,
    /// Its worker's name, also once that has come back over another connection.
    name: String,
    deadline: Millis,
    /// What its worker last said of it, and since when.
    stands: Option<(Stage, u32, u32)>,
    progressed: Millis,
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

    /// Whether that worker evaluates one under that lease.
    pub(super) fn holds(&self, lease: LeaseId, worker: WorkerId) -> bool {
        self.lent.get(&lease).is_some_and(|l| l.worker == worker)
    }

    /// Lets somebody else do what is handed back, so often as that may be. Yields how many are given up instead.
    fn hand_back(&mut self, gone: impl Fn(LeaseId, &Lent) -> bool) -> u64 {
        let mut given_up = 0;
        let back = self.lent.iter().filter(|(id, lent)| gone(**id, lent));
        for id in back.map(|(id, _)| *id).collect::<Vec<_>>() {
            let Some(Lent { mut due, .. }) = self.lent.remove(&id) else { continue };
            due.handed_back += 1;
            match due.handed_back <= MAX_UNCOUNTED_ATTEMPTS {
                true => self.waiting.push_back(due),
                false => given_up += 1,
            }
        }
        given_up
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
    pub(super) fn plan_audit(&mut self, id: CandidateId, first: &Score, parts: &[f64]) {
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
            first: first.fitness,
            parts: parts.to_vec(),
            told: self.plan.told(first.fitness, &first.means).unwrap_or_default(),
            failures: 0,
            failed_on: BTreeSet::new(),
            handed_back: 0,
        };
        if self.audits.waiting.len() >= MOST_WAITING {
            self.audits.waiting.pop_front();
            self.counters.audits.given_up += 1;
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
        let at = self.audits.waiting.iter().position(|due| due.may_go_to(&name))?;
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
        let (deadline, stands, rows) = (now + lease_time, None, BTreeMap::new());
        let lent = Lent { due, worker, name, deadline, stands, progressed: now, rows };
        self.audits.lent.insert(lease, lent);
        if let Some(w) = self.roster.get_mut(worker) {
            w.free_slots = w.free_slots.saturating_sub(1);
        }
        Some(grant)
    }

    /// Whether an audit waits for which a worker is here that could do it.
    pub(super) fn audit_waits(&self) -> bool {
        let now = self.clock.unwrap_or_default();
        let can =
            |due: &Due, w: &Worker| w.free_slots > 0 && due.may_go_to(&w.name) && self.may_work(&w.name, now);
        self.audits.waiting.iter().any(|due| self.roster.iter().any(|(_, w)| can(due, w)))
    }

    /// Notes what a worker says of an audit that it makes; false where it is taken back, since it makes no progress.
    pub(super) fn renew_audit(
        &mut self,
        now: Millis,
        running: &LeaseProgress,
        changes: &mut Changes,
    ) -> bool {
        let until = now + self.lease_time();
        let limit = Duration::from_secs(self.plan.scheduling.stall_seconds);
        let Some(lent) = self.audits.lent.get_mut(&running.lease) else { return false };
        lent.deadline = until;
        let stands = Some((running.stage, running.samples_done, running.begun));
        if lent.stands != stands {
            (lent.stands, lent.progressed) = (stands, now);
        }
        let stalls = now - lent.progressed > limit;
        if stalls {
            self.fail_audit(now, running.lease, format!("no progress for {} s", limit.as_secs()), changes);
        }
        !stalls
    }

    /// A worker leaves.
    pub(super) fn hand_back_audits_of(&mut self, worker: WorkerId) {
        self.hand_back_audits(|_, lent| lent.worker == worker);
    }

    fn hand_back_audits(&mut self, gone: impl Fn(LeaseId, &Lent) -> bool) {
        self.counters.audits.given_up += self.audits.hand_back(gone);
    }

    /// Gives up on leases that were not renewed.
    pub(super) fn fail_late_audits(&mut self, now: Millis, changes: &mut Changes) {
        let late = self.audits.lent.iter().filter(|(_, lent)| lent.deadline <= now);
        for lease in late.map(|(id, _)| *id).collect::<Vec<_>>() {
            let reason = format!("not renewed for {} s", self.plan.scheduling.lease_seconds);
            self.fail_audit(now, lease, reason, changes);
        }
    }

    /// One that could not be done.
    fn fail_audit(&mut self, now: Millis, lease: LeaseId, reason: String, changes: &mut Changes) {
        let Some(Lent { mut due, name, .. }) = self.audits.lent.remove(&lease) else { return };
        changes.notes.push(Note::AuditFailed {
            candidate: due.candidate,
            worker: name.clone(),
            reason: reason.clone(),
        });
        self.note_audit_failure((&name, due.candidate), &reason, now, changes);
        due.failures += 1;
        due.failed_on.insert(name);
        match due.failures < self.plan.scheduling.attempts {
            true => self.audits.waiting.push_back(due),
            false => {
                self.counters.audits.given_up += 1;
                changes.records.push(Record::Counters(self.counters.clone()));
            }
        }
    }

    /// Takes in what a worker evaluated again. `over`: it says that this was all.
    ///
    /// # Errors
    /// What is wrong with it; the audit then goes to somebody else.
    pub(super) fn take_audit(
        &mut self,
        now: Millis,
        (lease, recipe): (LeaseId, Digest),
        part: Evaluation,
        over: bool,
        changes: &mut Changes,
    ) -> Result<(), String> {
        let taken = match self.note_audited(now, lease, recipe, part.samples, over) {
            Ok(false) => Ok(()),
            Ok(true) => self.conclude_audit(lease, part.timings, changes),
            Err(reason) => Err(reason),
        };
        taken.inspect_err(|reason| self.fail_audit(now, lease, reason.clone(), changes))
    }

    /// How a worker's word that an audit is over is answered.
    pub(super) fn settle_audit(
        &mut self,
        now: Millis,
        o: Outcome,
        changes: &mut Changes,
    ) -> (Receipt, String) {
        match o.end {
            End::Evaluated(part) => {
                if let Err(reason) = self.take_audit(now, (o.lease, o.recipe), part, true, changes) {
                    return (Receipt::Refused, reason);
                }
            }
            End::Failed { kind: FailureKind::HandedBack, .. } => self.hand_back_audits(|id, _| id == o.lease),
            End::Failed { reason, .. } => self.fail_audit(now, o.lease, reason, changes),
        }
        (Receipt::Recorded, String::new())
    }

    /// Whether all samples are there.
    fn note_audited(
        &mut self,
        now: Millis,
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
        lent.progressed = now;
        for ((position, _), row) in checked.into_iter().zip(samples) {
            lent.rows.entry(position).or_insert(row);
        }
        match (all - lent.rows.len(), over) {
            (0, _) => Ok(true),
            (missing, true) => Err(format!("{missing} of its samples are missing")),
            (_, false) => Ok(false),
        }
    }

    /// Compares the two results, and keeps both.
    fn conclude_audit(
        &mut self,
        lease: LeaseId,
        timings: Timings,
        changes: &mut Changes,
    ) -> Result<(), String> {
        let Some(lent) = self.audits.lent.get_mut(&lease) else { return Ok(()) };
        let samples = std::mem::take(&mut lent.rows).into_values().collect();
        let evaluation = Evaluation { samples, timings };
        let second = self.plan.fitness(&evaluation).map_err(|_| "its sum is not finite".to_string())?;
        let told = self.plan.told(second, &evaluation.means()).unwrap_or_default();
        let Some(Lent { due, name, .. }) = self.audits.lent.remove(&lease) else { return Ok(()) };
        let contributions = evaluation.samples.iter().map(|s| self.plan.objective.sample(s).ok());
        let differs = |(position, (second, first)): (u32, (Option<f64>, &f64))| {
            (second != Some(*first)).then_some(position + 1)
        };
        let differing: Vec<u32> = (0..).zip(contributions.zip(&due.parts)).filter_map(differs).collect();
        let agree = self.agree(due.first, second) && self.all_agree(&due.told, &told);
        let (first_by, first, second_by) = (due.by, due.first, name);
        let audited = Audited { first_by, first, second_by, second, differing, agree, evaluation };
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
        Ok(())
    }

    fn agree(&self, first: Fitness, second: Fitness) -> bool {
        (second.value() - first.value()).abs() <= self.plan.scheduling.audit_tolerance
    }

    /// The same of every objective, as a share of the first where that is larger than 1: tokens are counted in hundreds.
    fn all_agree(&self, first: &[Fitness], second: &[Fitness]) -> bool {
        let near = |(a, b): (&Fitness, &Fitness)| {
            let room = self.plan.scheduling.audit_tolerance * a.value().abs().max(1.0);
            (b.value() - a.value()).abs() <= room
        };
        first.len() == second.len() && first.iter().zip(second).all(near)
    }
}
