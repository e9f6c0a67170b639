//! Who gets what: whole candidates while there are any, then batches of candidates that others are evaluating.
//!
//! 0. **An audit**, where one waits that this worker has no part in (`audit`).
//! 1. **Fresh work**: of the first candidate that has batches which nobody holds, all of those. In asynchronous mode
//!    another candidate is asked for where there is none.
//! 2. **A share**: while slots idle at the end of a generation or of the budget, half of the batches that another
//!    lease has not begun, from its end. The lease shrinks, its worker is told at its next exchange; what it began in
//!    the meantime is done twice, and the first result stays. Halves of halves spread a candidate over any number of
//!    slots, whatever their speed, without anybody planning it.
//! 3. **A second try**: where nothing is left to share, the batch that will take its worker longest, if this one would
//!    be much faster. A slow or stuck node then does not hold up everybody. Whoever is first counts, and the other is
//!    told to stop. It costs time of a slot that had nothing else to do.
//!
//! All of this decides who works, never what comes out: batches are the plan's, and results are joined by sample.
//! Times are estimates from what workers said; they only ever decide whether a share is worth its merge.

use super::candidate::Candidate;
use super::roster::Pace;
use super::{Changes, Record, State};
use common::id::{CandidateId, LeaseId, WorkerId};
use common::run::Redo;
use common::time::Millis;
use proto::convert::{Grant, RunState};

/// A second try must promise to take less than this share of the first one's time, since estimates err.
const WORTH_A_SECOND_TRY: f64 = 0.6;

/// What one slot is to do.
struct Work {
    candidate: CandidateId,
    batches: Vec<u32>,
    /// The lease that gives these batches away.
    from: Option<LeaseId>,
}

/// A lease that others may help with.
struct Helped {
    lease: LeaseId,
    candidate: CandidateId,
    /// Batches of which samples are missing.
    left: Vec<u32>,
    /// Of these, the ones that may be given away.
    spare: Vec<u32>,
    /// What it will still take, where that can be told.
    remaining_ms: Option<f64>,
}

impl State {
    /// Batches of a candidate that are incomplete and that nobody holds.
    pub(super) fn unlent(&self, candidate: &Candidate) -> Vec<u32> {
        if candidate.open_attempts().any(|a| a.batches.is_empty()) {
            // Somebody holds all of them: the common case, decided at once.
            return Vec::new();
        }
        let free = |b: &u32| candidate.lent(*b) == 0 && !self.missing(candidate.id(), *b).is_empty();
        match candidate.is_final() {
            true => Vec::new(),
            false => (0..self.plan.batches()).filter(free).collect(),
        }
    }

    /// Whether there is work that nobody holds.
    pub fn has_waiting(&self) -> bool {
        let waits = |c: &Candidate| !self.unlent(c).is_empty();
        let asked = self.idle_may_help || self.can_ask() || self.audit_waits();
        !self.is_paused() && (asked || self.open().any(waits))
    }

    /// Lends work to a worker with free slots.
    pub(super) fn grant(&mut self, now: Millis, id: WorkerId, changes: &mut Changes) -> Vec<Grant> {
        let mut grants = Vec::new();
        let may = |w: &super::roster::Worker| self.may_work(&w.name, now);
        if self.is_paused() || !self.roster.get(id).is_some_and(may) {
            return grants;
        }
        while self.run_state() == RunState::Running && self.roster.get(id).is_some_and(|w| w.free_slots > 0) {
            if let Some(audit) = self.lend_audit(now, id, changes) {
                grants.push(audit);
                continue;
            }
            let Some(work) = self.next_work(now, id, changes) else {
                // Nobody else is asked in vain before the next tick.
                self.idle_may_help = false;
                break;
            };
            grants.push(self.lend(now, id, work, changes));
        }
        grants
    }

    fn next_work(&mut self, now: Millis, id: WorkerId, changes: &mut Changes) -> Option<Work> {
        let name = &self.roster.get(id)?.name.clone();
        if let Some(fresh) = self.fresh_work(name, now) {
            return Some(fresh);
        }
        if self.ask_one(changes) {
            return self.fresh_work(name, now);
        }
        if !self.plan.scheduling.split {
            return None;
        }
        let helped = self.helped(now, name);
        let pace = self.roster.get(id)?.pace;
        self.share(&helped, pace).or_else(|| self.second_try(&helped, pace, id))
    }

    /// One that failed on this worker is left to a worker of another name as long as there is one on which it has not
    /// failed: else a node that fails fast would use up every candidate's attempts while sound ones are busy.
    fn fresh_work(&self, name: &str, now: Millis) -> Option<Work> {
        let others = self.roster.iter().map(|(_, w)| w.name.as_str()).filter(|n| *n != name);
        let others: Vec<&str> = others.filter(|n| self.may_work(n, now)).collect();
        let better_elsewhere =
            |c: &Candidate| c.failed_on(name) && others.iter().any(|other| !c.failed_on(other));
        let open = self.open().filter(|c| !better_elsewhere(c));
        open.map(|c| Work { candidate: c.id(), batches: self.unlent(c), from: None })
            .find(|work| !work.batches.is_empty())
    }

    /// Every lease that a worker of this name could help with.
    fn helped(&self, now: Millis, name: &str) -> Vec<Helped> {
        let mut helped = Vec::new();
        for (lease, l) in self.leases.iter() {
            let candidate = &self.candidates[l.candidate];
            let (Some(attempt), Some(holder)) = (candidate.attempt(lease), l.worker) else { continue };
            if candidate.failed_on(name) {
                continue;
            }
            let missing = |b: &u32| attempt.holds(*b) && !self.missing(l.candidate, *b).is_empty();
            let left: Vec<u32> = (0..self.plan.batches()).filter(missing).collect();
            let unbegun = |b: &&u32| self.plan.batch(**b).start >= l.begun;
            let mut spare: Vec<u32> = left.iter().filter(unbegun).copied().collect();
            if spare.len() == left.len() && !spare.is_empty() {
                // It is merging, or between two batches: the first is what it is about to begin.
                spare.remove(0);
            }
            let pace = self.roster.get(holder).and_then(|w| w.pace);
            let samples: usize = left.iter().map(|b| self.missing(l.candidate, *b).len()).sum();
            let silent_ms = (now - l.moved).as_millis() as f64;
            let expected = pace.map(|p| {
                let merge = if l.begun == 0 { p.merge_ms } else { 0.0 };
                // What is silent for longer than all of it should take is stuck: as long again is the best guess.
                let all = merge + p.sample_ms * samples as f64;
                if silent_ms > 2.0 * all { silent_ms } else { all }
            });
            // Of one that never finished a sample, all that is known is how long it has been at it.
            let remaining_ms = expected.or((silent_ms > 0.0).then_some(silent_ms));
            helped.push(Helped { lease, candidate: l.candidate, left, spare, remaining_ms });
        }
        helped
    }

    /// Half of what the lease with most to give has not begun, unless doing it here would take longer than there.
    fn share(&self, helped: &[Helped], pace: Option<Pace>) -> Option<Work> {
        let most = helped.iter().filter(|h| !h.spare.is_empty());
        // Of equal ones the first.
        let most = most.reduce(|a, b| if b.spare.len() > a.spare.len() { b } else { a })?;
        let batches = most.spare[most.spare.len() / 2..].to_vec();
        if let (Some(pace), Some(remaining)) = (pace, most.remaining_ms) {
            let samples: usize = batches.iter().map(|b| self.missing(most.candidate, *b).len()).sum();
            if pace.merge_ms + pace.sample_ms * samples as f64 >= remaining {
                return None;
            }
        }
        Some(Work { candidate: most.candidate, batches, from: Some(most.lease) })
    }

    /// The batches that will take their worker longest, where this one would be much faster and nobody tries already.
    fn second_try(&self, helped: &[Helped], pace: Option<Pace>, id: WorkerId) -> Option<Work> {
        let pace = pace?;
        let alone = |h: &&Helped| {
            let candidate = &self.candidates[h.candidate];
            let other = self.leases.get(h.lease).is_some_and(|l| l.worker != Some(id));
            other && !h.left.is_empty() && h.left.iter().all(|b| candidate.lent(*b) == 1)
        };
        let slowest = helped
            .iter()
            .filter(alone)
            .filter_map(|h| Some((h.remaining_ms?, h)))
            .reduce(|a, b| if b.0 > a.0 { b } else { a });
        let (remaining, slowest) = slowest?;
        let samples: usize = slowest.left.iter().map(|b| self.missing(slowest.candidate, *b).len()).sum();
        let here = pace.merge_ms + pace.sample_ms * samples as f64;
        (here < WORTH_A_SECOND_TRY * remaining).then(|| Work {
            candidate: slowest.candidate,
            batches: slowest.left.clone(),
            from: None,
        })
    }

    fn lend(&mut self, now: Millis, id: WorkerId, work: Work, changes: &mut Changes) -> Grant {
        let Work { candidate: candidate_id, mut batches, from } = work;
        self.counters.last_lease += 1;
        let lease = LeaseId(self.counters.last_lease);
        let samples = batches.iter().flat_map(|b| self.to_do(candidate_id, *b)).collect();
        let every = self.plan.batches();
        let candidate = &mut self.candidates[candidate_id];
        if let Some(from) = from {
            let giver = candidate.attempt(from).expect("a live lease has an attempt");
            let kept = (0..every).filter(|b| giver.holds(*b) && !batches.contains(b)).collect();
            candidate.shrink(from, kept);
            self.leases.shrunk(from);
        }
        if batches.len() as u32 == every {
            // All of them, which is written as none.
            batches = Vec::new();
        }
        let name = self.roster.get(id).map(|w| w.name.clone()).unwrap_or_default();
        let attempt = candidate.begin(lease, id, &name, batches, now);
        let recipe = self.plan.recipe(candidate.genome());
        changes.records.push(Record::Candidate(candidate.clone()));
        let lease_time = self.lease_time();
        self.leases.insert(lease, candidate_id, Some(id), now, now + lease_time);
        if let Some(worker) = self.roster.get_mut(id) {
            worker.free_slots -= 1;
        }
        let renew_within_ms = lease_time.as_millis() as u64;
        Grant { lease, candidate: candidate_id, attempt, recipe, renew_within_ms, samples }
    }

    /// Positions of a batch that are to be evaluated for it to be complete.
    pub(super) fn to_do(&self, candidate: CandidateId, batch: u32) -> Vec<u32> {
        let missing = self.missing(candidate, batch);
        match self.plan.redo() {
            Redo::Batch if !missing.is_empty() => self.plan.batch(batch).collect(),
            Redo::Batch | Redo::Sample => missing,
        }
    }
}
