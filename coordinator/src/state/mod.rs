//! The coordinator's state as a pure machine: [`State::apply`] takes the time and an event, changes the state
//! and returns what is to be written and answered. No I/O, no clock, and no chance but the search's own saved
//! stream happen below this module.
//!
//! | file | holds |
//! |---|---|
//! | `candidate` | open → scored, censored or failed, and every attempt |
//! | `results` | samples as they arrive, and what they are joined to |
//! | `bound` | when a candidate can no longer reach the parents |
//! | `lease` | who works on what until when |
//! | `schedule` | what a slot is given |
//! | `roster` | known workers |
//! | `generation` | opening and closing a population |
//! | `event`, `record` | what goes in and comes out, what is durable |
//! | `register`, `exchange` | the two calls of a worker |
//! | `continued` | a new run that begins with the rescored results of an earlier one |
//! | `invariant` | what must hold after every event |
//!
//! Durable are the plan, the pinned files, candidates with their attempts, samples and evaluations, the search with its
//! random stream, and the run's end. Leases and the roster are rebuilt: an attempt that is open in the store
//! when a coordinator starts waits a short while for its worker, then goes to another.

pub mod bound;
pub mod candidate;
mod continued;
mod event;
mod exchange;
mod generation;
pub mod invariant;
pub mod lease;
mod record;
mod register;
mod results;
pub mod roster;
mod schedule;

pub use event::{Changes, Event, Note, Reply};
pub(crate) use record::domain;
pub use record::{
    Contradiction, Counters, Durable, End, Identity, Pinned, Record, RefinedFrom, Saved, Searched,
};
pub use results::{Partial, Parts};

use candidate::{Candidate, Ended, How};
use common::fitness::Fitness;
use common::id::{CandidateId, LeaseId};
use common::run::RunPlan;
use common::time::Millis;
use proto::convert::{Progress, RunState};
use search::Search;
use std::collections::HashMap;
use std::time::Duration;

/// The whole state of a run.
#[derive(Debug)]
pub struct State {
    identity: Identity,
    /// Parsed from `identity.plan_json`, once.
    plan: RunPlan,
    pinned: Pinned,
    counters: Counters,
    search: Box<dyn Search>,
    /// The generation being evaluated; its members end `candidates`.
    generation: u64,
    /// Why the run is over; nothing is lent any more.
    end: Option<End>,
    /// In order of number, so that candidate n stands at n − 1.
    candidates: Vec<Candidate>,
    /// Samples of candidates that are not final.
    partial: Partial,
    /// What samples contributed to the scored members of the generation being evaluated.
    parts: Parts,
    /// What a candidate has to be able to reach, where hopeless ones end early.
    bar: Option<bound::Bar>,
    /// Where each sample stands in the run's order.
    positions: HashMap<String, u32>,
    /// Whether a slot that idles may find something to help with: asked again with every tick.
    idle_may_help: bool,
    /// The best so far: of equal fitness the one with the lower number.
    best: Option<(CandidateId, Fitness)>,
    leases: lease::Table,
    roster: roster::Roster,
    /// The operator wants the coordinator to stop. Not durable: the run can be resumed.
    stopping: bool,
    /// When the state last saw the time, to count what has elapsed. `None` at rest.
    clock: Option<Millis>,
    /// `counters.elapsed_ms` as last written.
    elapsed_written_ms: u64,
}

/// Elapsed time is written at least this often, so that a killed run loses no more of its time budget.
const ELAPSED_WRITTEN_EVERY_MS: u64 = 10_000;

impl State {
    /// The state as it was stored. Nothing is lent yet: that begins with [`Event::Start`].
    pub fn restore(durable: Durable) -> Result<State, Contradiction> {
        let contradiction = |text: String| Contradiction(text);
        let plan = RunPlan::from_json(&durable.identity.plan_json).map_err(contradiction)?;
        for (i, c) in durable.candidates.iter().enumerate() {
            if c.id().0 != i as u64 + 1 {
                return Err(Contradiction(format!("candidate {} stands where {} belongs", c.id(), i + 1)));
            }
            if c.genome().coordinates().len() != plan.space.dimensions()
                || plan.recipe(c.genome()).digest() != c.recipe()
            {
                return Err(Contradiction(format!("candidate {}'s recipe is not its genome's", c.id())));
            }
        }
        let positions = plan.samples.iter().enumerate().map(|(i, s)| (s.clone(), i as u32)).collect();
        let mut state = State {
            plan,
            partial: durable.partial,
            parts: durable.parts,
            bar: durable.bar,
            positions,
            idle_may_help: false,
            identity: durable.identity,
            pinned: durable.pinned,
            elapsed_written_ms: durable.counters.elapsed_ms,
            counters: durable.counters,
            search: search::restore(durable.searched.snapshot),
            generation: durable.searched.generation,
            end: durable.searched.end,
            candidates: durable.candidates,
            best: None,
            leases: lease::Table::default(),
            roster: roster::Roster::default(),
            stopping: false,
            clock: None,
        };
        let scored: Vec<_> = state.candidates.iter().filter_map(|c| Some((c.id(), c.fitness()?))).collect();
        scored.into_iter().for_each(|(id, fitness)| state.note_best(id, fitness));
        Ok(state)
    }

    /// What of this state is to outlive the process.
    pub fn durable(&self) -> Durable {
        let Record::Searched(searched) = self.search_record() else { unreachable!("it makes no other") };
        Durable {
            identity: self.identity.clone(),
            pinned: self.pinned.clone(),
            counters: Counters { elapsed_ms: self.elapsed_written_ms, ..self.counters.clone() },
            searched,
            candidates: self.candidates.clone(),
            partial: self.partial.clone(),
            parts: if self.has_bound() { self.parts.clone() } else { Parts::new() },
            bar: self.bar.clone(),
        }
    }

    /// Lets `event` happen at `now`, which never goes back within one process.
    pub fn apply(&mut self, now: Millis, event: Event) -> Changes {
        let mut changes = Changes::default();
        self.pass_time(now, &mut changes);
        match event {
            Event::Start => self.start(now, &mut changes),
            Event::Register(r) => {
                changes.reply = Some(Reply::Registered(self.register(now, *r, &mut changes)))
            }
            Event::Exchange(e) => {
                changes.reply = Some(Reply::Exchanged(self.exchange(now, *e, &mut changes)))
            }
            Event::Poll(w) => changes.reply = Some(Reply::Exchanged(self.poll(now, w, &mut changes))),
            Event::Tick => {
                self.idle_may_help =
                    self.plan.scheduling.split && self.end.is_none() && !self.leases.is_empty();
            }
            Event::Stop => self.stopping = true,
        }
        let unwritten = self.counters.elapsed_ms - self.elapsed_written_ms;
        if !changes.records.is_empty() || unwritten >= ELAPSED_WRITTEN_EVERY_MS || self.stopping {
            self.elapsed_written_ms = self.counters.elapsed_ms;
            changes.records.push(Record::Counters(self.counters.clone()));
        }
        debug_assert_eq!(invariant::broken(self), None);
        changes
    }

    fn start(&mut self, now: Millis, changes: &mut Changes) {
        let until = now + lease::restart_grace(self.lease_time());
        for candidate in &self.candidates {
            for open in candidate.open_attempts() {
                self.leases.insert(open.lease, candidate.id(), None, now, until);
                if !open.batches.is_empty() {
                    self.leases.shrunk(open.lease);
                }
            }
        }
        if self.generation == 0 && self.end.is_none() {
            self.open_generation(changes);
        }
    }

    /// Everything that time alone brings: lost leases, forgotten workers, the end of the time budget.
    fn pass_time(&mut self, now: Millis, changes: &mut Changes) {
        if let Some(before) = self.clock {
            self.counters.elapsed_ms += (now - before).as_millis() as u64;
        }
        self.clock = Some(now);
        for lease in self.leases.expired(now) {
            let orphan = self.leases.get(lease).is_some_and(|l| l.worker.is_none());
            let (how, reason) = match orphan {
                true => {
                    (How::Interrupted, "the coordinator was restarted and the worker did not return".into())
                }
                false => (How::Expired, format!("not renewed for {} s", self.plan.scheduling.lease_seconds)),
            };
            self.end_attempt(lease, Ended { at: now, how, reason }, changes);
        }
        self.close_generation(changes);
        // Ten lease times is long enough for any reconnect; the answer to come is "register again".
        self.roster.forget_silent(now, self.lease_time() * 10);
        let hours = self.plan.search.hours.map(|h| (h * 3_600_000.0) as u64);
        if self.end.is_none() && hours.is_some_and(|budget| self.counters.elapsed_ms >= budget) {
            self.finish(End::Hours, changes);
            for lease in self.leases.iter().map(|(id, _)| id).collect::<Vec<_>>() {
                let reason = "the run's time is up".into();
                self.end_attempt(lease, Ended { at: now, how: How::Superseded, reason }, changes);
            }
        }
    }

    /// Ends a live lease without a result. Its candidate waits again, or has failed.
    fn end_attempt(&mut self, lease: LeaseId, ended: Ended, changes: &mut Changes) {
        let Some(gone) = self.leases.remove(lease) else { return };
        let limit = self.plan.scheduling.attempts;
        let candidate = &mut self.candidates[index(gone.candidate)];
        let was_open = candidate.end(lease, ended.clone(), limit);
        assert!(was_open, "a live lease has an open attempt");
        let attempt = candidate.attempt(lease).expect("it was just ended");
        changes.notes.push(Note::AttemptEnded {
            candidate: gone.candidate,
            attempt: attempt.number,
            worker: attempt.worker_name.clone(),
            how: ended.how,
            reason: ended.reason,
        });
        if candidate.is_final() {
            changes.notes.push(Note::CandidateFailed { candidate: gone.candidate });
        }
        changes.records.push(Record::Candidate(candidate.clone()));
        if candidate.is_final() {
            self.settle_final(gone.candidate, changes);
        }
    }

    fn finish(&mut self, end: End, changes: &mut Changes) {
        changes.notes.push(Note::Finished { reason: end.reason() });
        self.end = Some(end);
        changes.records.push(self.search_record());
    }

    fn note_best(&mut self, id: CandidateId, fitness: Fitness) {
        let better = |best: (CandidateId, Fitness)| {
            (fitness, std::cmp::Reverse(id)) > (best.1, std::cmp::Reverse(best.0))
        };
        if self.best.is_none_or(better) {
            self.best = Some((id, fitness));
        }
    }

    fn search_record(&self) -> Record {
        let (generation, end) = (self.generation, self.end.clone());
        Record::Searched(Searched { generation, snapshot: self.search.snapshot(), end })
    }

    fn lease_time(&self) -> Duration {
        Duration::from_secs(self.plan.scheduling.lease_seconds)
    }

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

    /// Every candidate, in order of number.
    pub fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    /// The candidate of that number.
    pub fn candidate(&self, id: CandidateId) -> Option<&Candidate> {
        self.candidates.get(usize::try_from(id.0.checked_sub(1)?).ok()?)
    }

    /// The best so far.
    pub fn best(&self) -> Option<(CandidateId, Fitness)> {
        self.best
    }

    /// What early stops saved.
    pub fn saved(&self) -> &Saved {
        &self.counters.saved
    }

    /// Live leases.
    pub fn leases(&self) -> &lease::Table {
        &self.leases
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
        self.generation
    }

    /// Why the run is over.
    pub fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// Step size of the search, where it has one.
    pub fn step_size(&self) -> Option<f64> {
        self.search.step_size()
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
        let now = self.clock.unwrap_or_default();
        let here = |w: &roster::Worker| now - w.last_seen <= self.lease_time();
        // Earlier generations are final, so only the last one is counted through.
        let open = self.members().iter().filter(|c| !c.is_final()).count();
        Progress {
            evaluations_done: (self.candidates.len() - open) as u64,
            evaluations_budget: self.plan.search.evaluations,
            generation: self.generation,
            best: self.best.map(|(id, f)| (id, f.value())),
            workers: self.roster.iter().filter(|(_, w)| here(w)).count() as u32,
        }
    }
}

fn index(id: CandidateId) -> usize {
    // Candidates are numbered from 1, and only known numbers come here.
    (id.0 - 1) as usize
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod world_tests;
