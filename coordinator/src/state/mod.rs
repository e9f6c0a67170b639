//! The coordinator's state as a pure machine: [`State::apply`] takes the time and an event, changes the state
//! and returns what is to be written and answered. No I/O, no clock, and no chance but the search's own saved
//! stream happen below this module.
//!
//! | file | holds |
//! |---|---|
//! | `candidate` | open → scored, censored or failed, and every attempt |
//! | `candidates` | which of them are in memory |
//! | `audit` | candidates that another node evaluates again |
//! | `results` | samples as they arrive, and what they are joined to |
//! | `bound` | when a candidate can no longer reach the parents |
//! | `lease` | who works on what until when |
//! | `schedule` | what a slot is given |
//! | `roster` | known workers |
//! | `conduct` | which of them are lent to: drained and benched nodes |
//! | `generation` | what is asked and told, and when a run is over |
//! | `journal` | the order of both, and the search that follows from it |
//! | `restore` | the state out of what was stored |
//! | `replay` | whether the journal leads to what is stored |
//! | `operate` | pausing and extending |
//! | `view` | what others may see of it |
//! | `event`, `record` | what goes in and comes out, what is durable |
//! | `register`, `exchange` | the two calls of a worker |
//! | `continued` | a new run that begins with the results of an earlier one |
//! | `invariant` | what must hold after every event |
//!
//! Durable are the plan, the pinned files, candidates with their attempts, samples and evaluations, the journal, the search
//! with its random stream as of a checkpoint, and the run's end. Leases and the roster are rebuilt: an attempt that is open in the store
//! when a coordinator starts waits a short while for its worker, then goes to another.

mod audit;
pub mod bound;
pub mod candidate;
mod candidates;
pub mod conduct;
mod continued;
mod event;
mod exchange;
mod generation;
pub mod invariant;
pub mod journal;
pub mod lease;
mod operate;
mod record;
mod register;
pub mod replay;
mod restore;
mod results;
pub mod roster;
mod schedule;
mod view;

pub use audit::{Audited, Audits};
pub use candidates::Candidates;
pub use continued::Carried;
pub use event::{Changes, Event, Note, Reply};
pub use record::{
    AuditCount, Contradiction, Counters, Durable, End, Identity, Pinned, Record, RefinedFrom, Saved,
    Searched, domain, first_search, starting,
};
pub use results::{Partial, Parts};

use candidate::{Candidate, Ended, How};
use common::fitness::Fitness;
use common::id::{CandidateId, LeaseId};
use common::run::{Budget, Mode, RunPlan};
use common::time::Millis;
use journal::{Course, Entry};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

/// The whole state of a run.
#[derive(Debug)]
pub struct State {
    identity: Identity,
    /// Parsed from `identity.plan_json`, once.
    plan: RunPlan,
    pinned: Pinned,
    counters: Counters,
    /// The search, and where it stands between asked and told.
    course: Course,
    /// What ends the run: the plan's, unless it was extended.
    budget: Budget,
    /// The search as last written; the journal's entries since; and after how many of them it is written again.
    checkpoint: Searched,
    tail: Vec<Entry>,
    checkpoint_after: usize,
    /// Where the search began, if not at the plan's own beginning.
    begun: Option<Searched>,
    /// Why the run is over; nothing is lent any more.
    end: Option<End>,
    candidates: Candidates,
    /// Whether those that cannot change any more leave memory.
    forgets: bool,
    /// The best, once it has left.
    forgotten_best: Option<Candidate>,
    /// In a run of several objectives, those that no other one beats in all of them, and what they reach.
    front: Vec<(CandidateId, Vec<Fitness>)>,
    /// Those that are not final, so that no event has to look for them.
    open: BTreeSet<CandidateId>,
    /// Became final in this event and are not journalled yet.
    finals: VecDeque<CandidateId>,
    /// The latest of the search's remarks that was noted.
    remark: Option<String>,
    /// Records of this event that were looked at.
    noticed: usize,
    /// Counted attempts of final candidates, and how many of these failed or were censored.
    attempts_failed: u64,
    failed: u64,
    censored: u64,
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
    conduct: conduct::Conduct,
    audits: Audits,
    /// The operator wants the coordinator to stop. Not durable: the run can be resumed.
    stopping: bool,
    /// When the state last saw the time, to count what has elapsed. `None` at rest.
    clock: Option<Millis>,
    /// `counters` as last written: time alone is written now and then only.
    written: Counters,
    /// No lease can run out before.
    leases_good_until: Millis,
    /// When silent workers were last looked for.
    roster_swept: Millis,
    /// Workers that were there then.
    workers_here: u32,
    /// To be written with the next event: what a store of an earlier version lacks.
    unwritten: Vec<Record>,
}

/// Elapsed time is written at least this often, so that a killed run loses no more of its time budget.
const ELAPSED_WRITTEN_EVERY_MS: u64 = 10_000;

/// How often silent workers are looked for.
const ROSTER_SWEPT_EVERY: Duration = Duration::from_millis(500);

/// The search is written again after at least this many entries of the journal, …
const CHECKPOINT_ENTRIES: usize = 32;
/// … and so rarely that it costs no more than this a entry, however large it grows.
const CHECKPOINT_BYTES_AN_ENTRY: usize = 256;

impl State {
    /// Lets `event` happen at `now`, which never goes back within one process.
    pub fn apply(&mut self, now: Millis, event: Event) -> Changes {
        let mut changes = Changes::default();
        self.noticed = 0;
        changes.records.append(&mut self.unwritten);
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
            Event::Pause(paused) => self.pause(paused, &mut changes),
            Event::Extend(extension) => {
                changes.reply = Some(Reply::Extended(self.extend(extension, &mut changes)))
            }
            Event::Drain(name, drained) => {
                changes.reply = Some(Reply::Drained(self.drain(&name, drained, &mut changes)))
            }
        }
        self.close_generation(&mut changes);
        let unwritten = self.counters.elapsed_ms - self.written.elapsed_ms;
        if !changes.records.is_empty() || unwritten >= ELAPSED_WRITTEN_EVERY_MS || self.stopping {
            self.written = self.counters.clone();
            changes.records.push(Record::Counters(self.counters.clone()));
        }
        debug_assert_eq!(invariant::broken(self), None);
        self.forget();
        changes
    }

    fn start(&mut self, now: Millis, changes: &mut Changes) {
        let until = now + lease::restart_grace(self.lease_time());
        for id in &self.open {
            for open in self.candidates[*id].open_attempts() {
                self.leases.insert(open.lease, *id, None, now, until);
                if !open.batches.is_empty() {
                    self.leases.shrunk(open.lease);
                }
            }
        }
        if self.course.generation() == 0 && self.end.is_none() && self.mode() == Mode::Generational {
            self.open_generation(changes);
        }
    }

    /// Everything that time alone brings: lost leases, forgotten workers, the end of the time budget.
    fn pass_time(&mut self, now: Millis, changes: &mut Changes) {
        if let Some(before) = self.clock {
            let passed = (now - before).as_millis() as u64;
            // While paused with nothing in work, no budget runs down.
            if !(self.counters.paused && self.leases.is_empty()) {
                self.counters.elapsed_ms += passed;
            }
            self.counters.device_ms += passed * (self.leases.len() + self.audits.in_work()) as u64;
        }
        self.clock = Some(now);
        self.fail_late_audits(now, changes);
        for lease in self.late_leases(now) {
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
        if now - self.roster_swept >= ROSTER_SWEPT_EVERY || self.roster_swept == Millis(0) {
            // Ten lease times is long enough for any reconnect; the answer to come is "register again".
            self.roster.forget_silent(now, self.lease_time() * 10);
            self.conduct.forget_drained(&self.roster);
            self.roster_swept = now;
            self.count_workers(now);
        }
        let used_up =
            |spent_ms: u64, hours: Option<f64>| hours.is_some_and(|h| spent_ms >= (h * 3_600_000.0) as u64);
        let end = match (&self.counters, &self.budget) {
            (c, b) if used_up(c.elapsed_ms, b.hours) => End::Hours,
            (c, b) if used_up(c.device_ms, b.device_hours) => End::DeviceHours,
            _ => return,
        };
        if self.end.is_none() {
            self.finish(end, changes);
            self.withdraw("the run's time is up", changes);
        }
    }

    /// Takes back everything that is lent.
    fn withdraw(&mut self, reason: &str, changes: &mut Changes) {
        let at = self.clock.unwrap_or_default();
        for lease in self.leases.iter().map(|(id, _)| id).collect::<Vec<_>>() {
            self.end_attempt(lease, Ended { at, how: How::Superseded, reason: reason.into() }, changes);
        }
    }

    /// Leases that ran out. A new or renewed lease runs out later than any that was there, so that the table need not be
    /// looked through with every event.
    fn late_leases(&mut self, now: Millis) -> Vec<LeaseId> {
        if now < self.leases_good_until {
            return Vec::new();
        }
        let late = self.leases.expired(now);
        let next = self.leases.iter().map(|(_, l)| l.deadline).filter(|d| *d > now).min();
        let newest = now + lease::restart_grace(self.lease_time());
        self.leases_good_until = next.map_or(newest, |next| next.min(newest));
        late
    }

    fn count_workers(&mut self, now: Millis) {
        let here = |w: &roster::Worker| now - w.last_seen <= self.lease_time();
        self.workers_here = self.roster.iter().filter(|(_, w)| here(w)).count() as u32;
    }

    /// Ends a live lease without a result. Its candidate waits again, or has failed.
    fn end_attempt(&mut self, lease: LeaseId, ended: Ended, changes: &mut Changes) {
        let Some(gone) = self.leases.remove(lease) else { return };
        let limit = self.plan.scheduling.attempts;
        let candidate = &mut self.candidates[gone.candidate];
        let was_open = candidate.end(lease, ended.clone(), limit);
        assert!(was_open, "a live lease has an open attempt");
        let attempt = candidate.attempt(lease).expect("it was just ended");
        let (counts, worker) = (attempt.counts(), attempt.worker_name.clone());
        changes.notes.push(Note::AttemptEnded {
            candidate: gone.candidate,
            attempt: attempt.number,
            worker: worker.clone(),
            how: ended.how,
            reason: ended.reason.clone(),
        });
        if candidate.is_final() {
            changes.notes.push(Note::CandidateFailed { candidate: gone.candidate });
        }
        let is_final = candidate.is_final();
        changes.records.push(Record::Candidate(candidate.clone()));
        if counts {
            self.note_failure((&worker, gone.candidate), &ended.reason, ended.at, changes);
        }
        if is_final {
            self.settle_final(gone.candidate, changes);
        }
    }

    fn finish(&mut self, end: End, changes: &mut Changes) {
        changes.notes.push(Note::Finished { reason: end.reason() });
        self.audits.clear();
        self.end = Some(end);
        self.checkpoint(changes);
    }

    fn note_best(&mut self, id: CandidateId, fitness: Fitness) {
        let better = |best: (CandidateId, Fitness)| {
            (fitness, std::cmp::Reverse(id)) > (best.1, std::cmp::Reverse(best.0))
        };
        if self.best.is_none_or(better) {
            self.best = Some((id, fitness));
        }
    }

    /// Adds to the journal.
    fn write(&mut self, entry: Entry, changes: &mut Changes) {
        changes.records.push(Record::Journal(self.counters.entries, entry.clone()));
        self.counters.entries += 1;
        self.tail.push(entry);
    }

    fn checkpoint_if_due(&mut self, changes: &mut Changes) {
        if self.tail.len() >= self.checkpoint_after {
            self.checkpoint(changes);
        }
    }

    /// Writes the search as it is now.
    fn checkpoint(&mut self, changes: &mut Changes) {
        self.checkpoint = self.searched();
        self.tail.clear();
        self.checkpoint_after = restore::checkpoint_after(&self.checkpoint);
        changes.records.push(Record::Searched(self.checkpoint.clone()));
    }

    fn searched(&self) -> Searched {
        Searched {
            generation: self.course.generation(),
            snapshot: self.course.search().snapshot(),
            end: self.end.clone(),
            entries: self.counters.entries,
            place: Some(self.course.place()),
            budget: (self.budget != self.plan.search.budget()).then_some(self.budget),
        }
    }

    fn mode(&self) -> Mode {
        // A space without parameters has one genome: asking ahead would evaluate it again and again.
        match self.plan.space.dimensions() {
            0 => Mode::Generational,
            _ => self.plan.search.mode,
        }
    }

    fn lease_time(&self) -> Duration {
        Duration::from_secs(self.plan.scheduling.lease_seconds)
    }
}

pub(crate) fn index(id: CandidateId) -> usize {
    // Candidates are numbered from 1, and only known numbers come here.
    (id.0 - 1) as usize
}

#[cfg(test)]
mod audit_tests;
#[cfg(test)]
mod conduct_tests;
#[cfg(test)]
mod mode_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod world_tests;
