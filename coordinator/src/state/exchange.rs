//! A worker's exchange: samples are taken in, outcomes settled, leases renewed, work granted.

use super::candidate::{Ended, How};
use super::results::Taken;
use super::{Changes, Note, Record, State};
use common::id::{CandidateId, LeaseId, WorkerId};
use common::time::Millis;
use proto::convert::{
    Acknowledgement, End as Ending, Exchange, ExchangeAnswer, FailureKind, LeaseProgress, Outcome, Receipt,
    Remainder, RunState,
};
use proto::status::Class;
use std::time::Duration;

impl State {
    pub(super) fn exchange(
        &mut self,
        now: Millis,
        e: Exchange,
        changes: &mut Changes,
    ) -> Result<ExchangeAnswer, Class> {
        let worker = self.roster.get_mut(e.worker).ok_or(Class::UnknownWorker)?;
        worker.last_seen = now;
        match &worker.answered {
            Some((sequence, answer)) if *sequence == e.sequence => return Ok(answer.clone()),
            Some((sequence, _)) if *sequence > e.sequence => {
                let message = format!("{} was answered already, and {sequence} after it", e.sequence);
                return Err(Class::BadInput { field: "sequence".into(), message });
            }
            _ => {}
        }
        for r in e.reports {
            if self.audits.holds(r.lease, e.worker) {
                // What is refused goes to somebody else, which the worker learns below.
                let _ = self.take_audit(now, (r.lease, r.recipe), r.part, false, changes);
                continue;
            }
            // What is refused ends its lease, which the worker learns below.
            self.take(now, e.worker, (r.lease, r.candidate, r.recipe), r.part, changes);
        }
        let acknowledgements =
            e.outcomes.into_iter().map(|o| self.settle(now, e.worker, o, changes)).collect();
        let mut cancelled = Vec::new();
        for running in &e.running {
            let goes_on = match self.audits.holds(running.lease, e.worker) {
                true => self.renew_audit(now, running, changes),
                false => {
                    self.claim(now, e.worker, running.lease, changes) && !self.stalls(now, running, changes)
                }
            };
            if !goes_on {
                cancelled.push(running.lease);
            }
        }
        if e.leaving {
            self.leave(now, e.worker, changes);
        }
        let busy = (e.running.len() - cancelled.len()) as u32;
        if let Some(w) = self.roster.get_mut(e.worker) {
            w.free_slots = e.free_slots.min(w.slots.saturating_sub(busy));
        }
        let grants = self.grant(now, e.worker, changes);
        let held = e.running.iter().map(|r| r.lease);
        let remainders = held.filter_map(|lease| self.remainder(lease)).collect();
        let answer = ExchangeAnswer {
            remainders,
            sequence: e.sequence,
            grants,
            cancelled,
            acknowledgements,
            state: self.run_state(),
            progress: self.progress(),
            drain: self.is_draining(e.worker),
        };
        Ok(self.remember(e.worker, answer))
    }

    /// Notes what a worker says of a lease, and takes it back where it has made no progress for too long: a device that
    /// hangs is renewed by a process that does not.
    fn stalls(&mut self, now: Millis, running: &LeaseProgress, changes: &mut Changes) -> bool {
        self.leases.note(running.lease, now, (running.stage, running.samples_done, running.begun));
        let limit = Duration::from_secs(self.plan.scheduling.stall_seconds);
        let stalls = self.leases.get(running.lease).is_some_and(|l| now - l.progressed > limit);
        if stalls {
            let reason = format!("no progress for {} s", limit.as_secs());
            self.end_attempt(running.lease, Ended { at: now, how: How::Expired, reason }, changes);
        }
        stalls
    }

    /// What can be said now to a worker whose last exchange is still unanswered.
    pub(super) fn poll(
        &mut self,
        now: Millis,
        id: WorkerId,
        changes: &mut Changes,
    ) -> Result<ExchangeAnswer, Class> {
        let worker = self.roster.get_mut(id).ok_or(Class::UnknownWorker)?;
        // It is there: the driver saw its connection.
        worker.last_seen = now;
        let Some((_, mut answer)) = worker.answered.clone() else { return Err(Class::UnknownWorker) };
        answer.grants.extend(self.grant(now, id, changes));
        (answer.state, answer.progress) = (self.run_state(), self.progress());
        answer.drain = self.is_draining(id);
        Ok(self.remember(id, answer))
    }

    fn is_draining(&self, id: WorkerId) -> bool {
        self.roster.get(id).is_some_and(|w| self.conduct.is_drained(&w.name))
    }

    fn remember(&mut self, id: WorkerId, answer: ExchangeAnswer) -> ExchangeAnswer {
        if let Some(worker) = self.roster.get_mut(id) {
            worker.told_finished = answer.state == RunState::Finished;
            worker.answered = Some((answer.sequence, answer.clone()));
        }
        answer
    }

    /// What is left of a lease of which others took a part.
    fn remainder(&self, lease: LeaseId) -> Option<Remainder> {
        let held = self.leases.get(lease).filter(|l| l.shrunk)?;
        let attempt = self.candidate(held.candidate)?.attempt(lease)?;
        let batches = (0..self.plan.batches()).filter(|b| attempt.holds(*b));
        let samples = batches.flat_map(|b| self.to_do(held.candidate, b)).collect();
        Some(Remainder { lease, samples })
    }

    /// Enters how one lease ended. Matched by candidate and recipe, so that a result counts whatever became of
    /// its lease in the meantime.
    fn settle(
        &mut self,
        now: Millis,
        worker: WorkerId,
        o: Outcome,
        changes: &mut Changes,
    ) -> Acknowledgement {
        let lease = o.lease;
        let acknowledge = |receipt, message| Acknowledgement { lease, receipt, message };
        if self.audits.holds(o.lease, worker) {
            let (receipt, message) = self.settle_audit(now, o, changes);
            return acknowledge(receipt, message);
        }
        if self.candidates.is_forgotten(o.candidate) {
            return acknowledge(Receipt::Duplicate, String::new());
        }
        let Some(candidate) = self.candidates.get(o.candidate).filter(|c| c.recipe() == o.recipe) else {
            return acknowledge(Receipt::Unknown, "no such candidate with such a recipe".into());
        };
        if !self.was_lent(lease, o.candidate, worker) {
            return acknowledge(Receipt::Unknown, "it was not lent to this worker under this lease".into());
        }
        let is_final = candidate.is_final();
        let evaluation = match o.end {
            _ if self.end.is_some() && !is_final => {
                return acknowledge(Receipt::Duplicate, "the run is over".into());
            }
            Ending::Failed { .. } if is_final => return acknowledge(Receipt::Duplicate, String::new()),
            Ending::Failed { kind, reason } => {
                self.fail_attempt(now, o.lease, kind, reason, changes);
                return acknowledge(Receipt::Recorded, String::new());
            }
            Ending::Evaluated(evaluation) => evaluation,
        };
        let id = o.candidate;
        match self.take(now, worker, (lease, id, o.recipe), evaluation, changes) {
            Taken::Unknown => acknowledge(Receipt::Unknown, String::new()),
            Taken::Late => acknowledge(Receipt::Duplicate, String::new()),
            Taken::Refused(reason) => {
                self.close_generation(changes);
                acknowledge(Receipt::Refused, reason)
            }
            // Attempts of which all samples are there have ended by now.
            Taken::Recorded => match self.missing_of(id, lease) {
                0 => acknowledge(Receipt::Recorded, String::new()),
                n => {
                    let reason = format!("{n} of its samples are missing");
                    let ended = Ended { at: now, how: How::Refused, reason: reason.clone() };
                    self.end_attempt(lease, ended, changes);
                    self.close_generation(changes);
                    acknowledge(Receipt::Refused, reason)
                }
            },
        }
    }

    /// Samples that a lease still owes; 0 where it has ended.
    fn missing_of(&self, id: CandidateId, lease: LeaseId) -> usize {
        let attempt = self.candidate(id).and_then(|c| c.attempt(lease));
        let Some(attempt) = attempt.filter(|a| a.end.is_none()) else { return 0 };
        let batches = (0..self.plan.batches()).filter(|b| attempt.holds(*b));
        batches.map(|b| self.missing(id, b).len()).sum()
    }

    fn fail_attempt(
        &mut self,
        now: Millis,
        lease: LeaseId,
        kind: FailureKind,
        reason: String,
        changes: &mut Changes,
    ) {
        let how = match kind {
            FailureKind::Retryable | FailureKind::Permanent => How::Failed,
            FailureKind::HandedBack => How::HandedBack,
        };
        let live = self.leases.get(lease).map(|l| l.candidate);
        self.end_attempt(lease, Ended { at: now, how, reason }, changes);
        if let (FailureKind::Permanent, Some(id)) = (kind, live) {
            let failed = |w: &super::roster::Worker| self.candidates[id].failed_on(&w.name);
            // One node's word is not enough where another can be asked.
            let another = self.roster.iter().any(|(_, w)| !failed(w) && self.may_work(&w.name, now));
            let candidate = &mut self.candidates[id];
            if !candidate.is_final() && !another {
                candidate.fail(now);
                changes.records.push(Record::Candidate(candidate.clone()));
                changes.notes.push(Note::CandidateFailed { candidate: id });
                self.settle_final(id, changes);
            }
        }
        self.close_generation(changes);
    }

    fn leave(&mut self, now: Millis, id: WorkerId, changes: &mut Changes) {
        self.hand_back_audits_of(id);
        for lease in self.leases.of(id).collect::<Vec<_>>() {
            let ended = Ended { at: now, how: How::HandedBack, reason: "the worker left".into() };
            self.end_attempt(lease, ended, changes);
        }
        self.close_generation(changes);
        if let Some(worker) = self.roster.get(id) {
            changes.notes.push(Note::Left { name: worker.name.clone() });
        }
        if let Some(worker) = self.roster.remove(id) {
            self.forget_drain(&worker.name);
        }
    }
}
