//! A worker's exchange: outcomes are settled, leases renewed, work granted.

use super::candidate::{Candidate, Ended, How, Score};
use super::{Changes, Note, Record, State};
use common::id::{LeaseId, WorkerId};
use common::time::Millis;
use proto::convert::{
    Acknowledgement, End as Ending, Exchange, ExchangeAnswer, FailureKind, Grant, Outcome, Receipt, RunState,
};
use proto::status::Class;

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
        let acknowledgements =
            e.outcomes.into_iter().map(|o| self.settle(now, e.worker, o, changes)).collect();
        let mut cancelled = Vec::new();
        for running in &e.running {
            if self.claim(now, e.worker, running.lease, changes) {
                self.leases.note(running.lease, running.stage, running.samples_done);
            } else {
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
        let answer = ExchangeAnswer {
            sequence: e.sequence,
            grants,
            cancelled,
            acknowledgements,
            state: self.run_state(),
            progress: self.progress(),
        };
        Ok(self.remember(e.worker, answer))
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
        Ok(self.remember(id, answer))
    }

    fn remember(&mut self, id: WorkerId, answer: ExchangeAnswer) -> ExchangeAnswer {
        if let Some(worker) = self.roster.get_mut(id) {
            worker.told_finished = answer.state == RunState::Finished;
            worker.answered = Some((answer.sequence, answer.clone()));
        }
        answer
    }

    /// Lends waiting candidates, lowest number first, to a worker with free slots. One that failed on this worker is
    /// left to a worker of another name as long as there is one on which it has not failed: else a node that
    /// fails fast would use up every candidate's attempts while sound ones are busy.
    fn grant(&mut self, now: Millis, id: WorkerId, changes: &mut Changes) -> Vec<Grant> {
        let mut grants = Vec::new();
        let Some(worker) = self.roster.get(id) else { return grants };
        if self.run_state() != RunState::Running {
            return grants;
        }
        let (name, free) = (worker.name.clone(), worker.free_slots as usize);
        let others: Vec<&str> =
            self.roster.iter().map(|(_, w)| w.name.as_str()).filter(|n| *n != name).collect();
        let better_elsewhere =
            |c: &Candidate| c.failed_on(&name) && others.iter().any(|other| !c.failed_on(other));
        let waiting: Vec<_> = self
            .members()
            .iter()
            .filter(|c| c.is_waiting() && !better_elsewhere(c))
            .map(|c| c.id())
            .take(free)
            .collect();
        let lease_time = self.lease_time();
        for candidate_id in waiting {
            self.counters.last_lease += 1;
            let lease = LeaseId(self.counters.last_lease);
            let candidate = &mut self.candidates[super::index(candidate_id)];
            let attempt = candidate.begin(lease, id, &name, now);
            changes.records.push(Record::Candidate(candidate.clone()));
            self.leases.insert(lease, candidate_id, Some(id), now + lease_time);
            let recipe = self.plan.recipe(candidate.genome());
            let renew_within_ms = lease_time.as_millis() as u64;
            grants.push(Grant { lease, candidate: candidate_id, attempt, recipe, renew_within_ms });
        }
        if let Some(worker) = self.roster.get_mut(id) {
            worker.free_slots -= grants.len() as u32;
        }
        grants
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
        let acknowledge = |receipt, message| Acknowledgement { lease: o.lease, receipt, message };
        let Some(candidate) = self.candidate(o.candidate).filter(|c| c.recipe() == o.recipe) else {
            return acknowledge(Receipt::Unknown, "no such candidate with such a recipe".into());
        };
        let first = candidate.fitness();
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
        let fitness = self.plan.fitness(&evaluation);
        let fitness = match (fitness, is_final) {
            (Ok(fitness), false) => fitness,
            (Ok(second), true) => {
                let name = self.roster.get(worker).map(|w| w.name.clone()).unwrap_or_default();
                if let Some(first) = first.filter(|f| *f != second) {
                    let candidate = o.candidate;
                    changes.notes.push(Note::Disagreement { candidate, first, second, worker: name });
                }
                return acknowledge(Receipt::Duplicate, String::new());
            }
            (Err(_), true) => return acknowledge(Receipt::Duplicate, String::new()),
            (Err(e), false) => {
                let reason = e.to_string();
                let ended = Ended { at: now, how: How::Refused, reason: reason.clone() };
                self.end_attempt(o.lease, ended, changes);
                self.close_generation(changes);
                return acknowledge(Receipt::Refused, reason);
            }
        };
        let score = Score { fitness, means: evaluation.means(), timings: evaluation.timings };
        let candidate = &mut self.candidates[super::index(o.candidate)];
        let open = candidate.open_attempt().map(|a| a.lease);
        candidate.score(o.lease, score, now);
        changes.records.push(Record::Candidate(candidate.clone()));
        changes.records.push(Record::Evaluation(o.candidate, evaluation));
        // Whoever holds it learns with its next exchange that it may stop.
        open.map(|lease| self.leases.remove(lease));
        self.note_best(o.candidate, fitness);
        if let Some(w) = self.roster.get_mut(worker) {
            w.scored += 1;
        }
        self.close_generation(changes);
        acknowledge(Receipt::Recorded, String::new())
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
            let candidate = &mut self.candidates[super::index(id)];
            if !candidate.is_final() {
                candidate.fail();
                changes.records.push(Record::Candidate(candidate.clone()));
                changes.notes.push(Note::CandidateFailed { candidate: id });
            }
        }
        self.close_generation(changes);
    }

    fn leave(&mut self, now: Millis, id: WorkerId, changes: &mut Changes) {
        for lease in self.leases.of(id).collect::<Vec<_>>() {
            let ended = Ended { at: now, how: How::HandedBack, reason: "the worker left".into() };
            self.end_attempt(lease, ended, changes);
        }
        self.close_generation(changes);
        if let Some(worker) = self.roster.get(id) {
            changes.notes.push(Note::Left { name: worker.name.clone() });
        }
        self.roster.remove(id);
    }
}
