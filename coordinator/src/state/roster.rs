//! Workers that are known: who they are, what they were last answered, when they were last seen.
//! Not durable: after a restart they register again.

use common::evaluation::Timings;
use common::id::WorkerId;
use common::time::Millis;
use proto::convert::ExchangeAnswer;
use std::collections::BTreeMap;
use std::time::Duration;

/// The most registrations that are remembered. Of the node that has the most, the one unseen for longest makes room: who
/// registers without end forgets its own.
pub const MAX_WORKERS: usize = 10_000;

/// A registration.
#[derive(Clone, Debug)]
pub struct Worker {
    /// What people see.
    pub name: String,
    /// The device in words.
    pub device: String,
    /// Candidates at once.
    pub slots: u32,
    /// Candidates that it could begin when it last spoke, less what it was granted since.
    pub free_slots: u32,
    /// When it last spoke.
    pub last_seen: Millis,
    /// When it registered.
    pub joined: Millis,
    /// Candidates of which it brought the last sample.
    pub scored: u64,
    /// Samples of its that were recorded.
    pub samples: u64,
    /// What its slots did since it registered.
    pub timings: Timings,
    /// How fast it is, once that is known.
    pub pace: Option<Pace>,
    /// The last exchange's number, and what it was answered: a repetition gets the same.
    pub answered: Option<(u64, ExchangeAnswer)>,
    /// Whether it was told that the run is finished.
    pub told_finished: bool,
}

/// How fast a worker evaluates, by what it last said.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// What a candidate takes before its first batch.
    pub merge_ms: f64,
    /// What a sample takes.
    pub sample_ms: f64,
}

impl Worker {
    /// Notes what a lease took in all for so many samples, and what of it is new.
    pub fn worked(&mut self, whole: Timings, samples: u32, since: Timings, new: u32) {
        self.timings = self.timings.plus(since);
        self.samples += u64::from(new);
        if samples > 0 {
            let sample_ms = (whole.generate_ms + whole.score_ms) as f64 / f64::from(samples);
            // A slot that holds the merged model already does not merge again: that says nothing of merging.
            let known = self.pace.map_or(0.0, |p| p.merge_ms);
            let merge_ms = if whole.merge_ms > 0 { whole.merge_ms as f64 } else { known };
            self.pace = Some(Pace { merge_ms, sample_ms });
        }
    }

    /// Time of its slots until `now` that is in no stage, in milliseconds.
    pub fn idle_ms(&self, now: Millis) -> u64 {
        let all = ((now - self.joined).as_millis() as u64).saturating_mul(u64::from(self.slots));
        all.saturating_sub(self.timings.total_ms())
    }
}

/// The node that a worker's name is of: a certificate covers its own name and, after a slash, anything.
pub fn node(name: &str) -> &str {
    name.split('/').next().unwrap_or(name)
}

/// The name that occurs most often; of several the first in their order.
pub fn most_frequent<'a>(names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    names.for_each(|name| *counts.entry(name).or_default() += 1);
    counts.into_iter().rev().max_by_key(|(_, n)| *n).map(|(name, _)| name)
}

/// Every known worker.
#[derive(Clone, Debug, Default)]
pub struct Roster {
    workers: BTreeMap<WorkerId, Worker>,
}

impl Roster {
    /// Enters a registration.
    pub fn insert(&mut self, id: WorkerId, worker: Worker) {
        self.workers.insert(id, worker);
        if self.workers.len() > MAX_WORKERS {
            self.make_room(id);
        }
    }

    fn make_room(&mut self, new: WorkerId) {
        let others = || self.workers.iter().filter(|(id, _)| **id != new);
        let Some(most) = most_frequent(others().map(|(_, w)| node(&w.name))) else { return };
        let of_it = others().filter(|(_, w)| node(&w.name) == most);
        if let Some(oldest) = of_it.min_by_key(|(_, w)| w.last_seen).map(|(id, _)| *id) {
            self.workers.remove(&oldest);
        }
    }

    /// The registration of that number.
    pub fn get(&self, id: WorkerId) -> Option<&Worker> {
        self.workers.get(&id)
    }

    /// The registration of that number, to change it.
    pub fn get_mut(&mut self, id: WorkerId) -> Option<&mut Worker> {
        self.workers.get_mut(&id)
    }

    /// Forgets a worker.
    pub fn remove(&mut self, id: WorkerId) -> Option<Worker> {
        self.workers.remove(&id)
    }

    /// Forgets workers that were silent for longer than `silence`.
    pub fn forget_silent(&mut self, now: Millis, silence: Duration) {
        self.workers.retain(|_, w| now - w.last_seen <= silence);
    }

    /// Every worker, in order of registration.
    pub fn iter(&self) -> impl Iterator<Item = (WorkerId, &Worker)> {
        self.workers.iter().map(|(id, w)| (*id, w))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.workers.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.workers.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(name: &str, seen: u64) -> Worker {
        Worker {
            name: name.into(),
            device: String::new(),
            slots: 1,
            free_slots: 0,
            last_seen: Millis(seen),
            joined: Millis(seen),
            scored: 0,
            samples: 0,
            timings: Timings::default(),
            pace: None,
            answered: None,
            told_finished: false,
        }
    }

    #[test]
    fn who_registers_without_end_forgets_its_own() {
        let mut roster = Roster::default();
        roster.insert(WorkerId(1), worker("quiet", 0));
        roster.insert(WorkerId(2), worker("quiet/2", 0));
        for n in 0..2 * MAX_WORKERS as u64 {
            roster.insert(WorkerId(3 + n), worker(&format!("loud/{n}"), 1 + n));
        }
        assert_eq!(roster.len(), MAX_WORKERS);
        let last = WorkerId(2 + 2 * MAX_WORKERS as u64);
        assert!([WorkerId(1), WorkerId(2), last].iter().all(|id| roster.get(*id).is_some()));
        assert!(roster.get(WorkerId(3)).is_none(), "its oldest went first");
        // Nodes of one registration each, whose names come ever earlier.
        let mut roster = Roster::default();
        for n in 0..MAX_WORKERS as u64 + 10 {
            roster.insert(WorkerId(n), worker(&format!("{:08}", 99_999_999 - n), n));
        }
        assert_eq!(roster.len(), MAX_WORKERS);
    }
}
