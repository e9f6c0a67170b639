//! What others may see of a state.

use super::candidate::Candidate;
use super::{AuditCount, Candidates, End, Identity, Pinned, Saved, State, lease, roster};
use common::fitness::Fitness;
use common::id::CandidateId;
use common::run::{Budget, RunPlan};
use common::time::Millis;
use proto::convert::{Progress, RunState};
use std::time::Duration;

impl State {
    /// What never changes.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The plan.
    pub fn plan(&self) -> &RunPlan {
        &self.plan
    }

    /// The files that all workers must have.
    pub fn pinned(&self) -> &Pinned {
        &self.pinned
    }

    /// The candidates.
    pub fn candidates(&self) -> &Candidates {
        &self.candidates
    }

    /// The candidate of that number, where it is in memory: one that may still change, and the best, always are.
    pub fn candidate(&self, id: CandidateId) -> Option<&Candidate> {
        let best = || self.forgotten_best.as_ref().filter(|c| c.id() == id);
        self.candidates.get(id).or_else(best)
    }

    /// In a run of several objectives: those that no other one beats in all of them, in order of number.
    pub fn front(&self) -> impl Iterator<Item = CandidateId> {
        self.front.iter().map(|(id, _)| *id)
    }

    /// The best so far.
    pub fn best(&self) -> Option<(CandidateId, Fitness)> {
        self.best
    }

    /// Live leases.
    pub fn leases(&self) -> &lease::Table {
        &self.leases
    }

    /// Second evaluations by other workers, done and disagreeing.
    pub fn audited(&self) -> AuditCount {
        self.counters.audits
    }

    /// Known workers.
    pub fn roster(&self) -> &roster::Roster {
        &self.roster
    }

    /// Time for which a coordinator was running, over all its starts.
    pub fn elapsed(&self) -> Duration {
        Duration::from_millis(self.counters.elapsed_ms)
    }

    /// The generation being evaluated, from 1.
    pub fn generation(&self) -> u64 {
        self.course.generation()
    }

    /// What ends the run.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Results since the last that was better than all before it.
    pub fn since_best(&self) -> u64 {
        self.course.standing().since_best()
    }

    /// Results that the search was told.
    pub fn told(&self) -> u64 {
        self.course.standing().told
    }

    /// Time for which slots held candidates, summed over slots.
    pub fn device_time(&self) -> Duration {
        Duration::from_millis(self.counters.device_ms)
    }

    /// Whether the operator wants nothing to be lent.
    pub fn is_paused(&self) -> bool {
        self.counters.paused
    }

    /// Candidates that are not final, in order of number.
    pub fn open(&self) -> impl Iterator<Item = &Candidate> {
        self.open.iter().map(|id| &self.candidates[*id])
    }

    /// Candidates that were given up.
    pub fn failed(&self) -> u64 {
        self.failed
    }

    /// Candidates that ended early.
    pub fn censored(&self) -> u64 {
        self.censored
    }

    /// What early stops saved.
    pub fn saved(&self) -> &Saved {
        &self.counters.saved
    }

    /// Attempts that counted against a candidate.
    pub fn attempts_failed(&self) -> u64 {
        self.attempts_failed + self.open().map(|c| c.counted_attempts() as u64).sum::<u64>()
    }

    /// Entries of the journal.
    pub fn entries(&self) -> u64 {
        self.counters.entries
    }

    /// What happened to the search, such as restarts and why; the latest, in order.
    pub fn remarks(&self) -> Vec<String> {
        self.course.search().remarks()
    }

    /// The search as it is now, to be compared.
    pub fn search_snapshot(&self) -> search::Snapshot {
        self.course.search().snapshot()
    }

    /// Why the run is over.
    pub fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// Step size of the search, where it has one.
    pub fn step_size(&self) -> Option<f64> {
        self.course.search().step_size()
    }

    /// What workers are told of the run.
    pub fn run_state(&self) -> RunState {
        match (&self.end, self.stopping) {
            (Some(_), _) => RunState::Finished,
            (None, true) => RunState::Stopping,
            (None, false) => RunState::Running,
        }
    }

    /// When time alone will next change something.
    pub fn next_deadline(&self) -> Option<Millis> {
        self.leases.next_deadline()
    }

    /// The run in a line.
    pub fn progress(&self) -> Progress {
        Progress {
            evaluations_done: (self.candidates.len() - self.open.len()) as u64,
            evaluations_budget: self.budget.evaluations,
            generation: self.course.generation(),
            best: self.best.map(|(id, f)| (id, f.value())),
            workers: self.workers_here,
        }
    }
}
