//! Workers that are known: who they are, what they were last answered, when they were last seen.
//! Not durable: after a restart they register again.

use common::evaluation::Timings;
use common::id::WorkerId;
use common::time::Millis;
use proto::convert::ExchangeAnswer;
use std::collections::BTreeMap;
use std::time::Duration;

/// The most registrations that are remembered. The one unseen for longest makes room.
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

/// Every known worker.
#[derive(Clone, Debug, Default)]
pub struct Roster {
    workers: BTreeMap<WorkerId, Worker>,
}

impl Roster {
    /// Enters a registration.
    pub fn insert(&mut self, id: WorkerId, worker: Worker) {
        if self.workers.len() >= MAX_WORKERS
            && let Some(oldest) = self.workers.iter().min_by_key(|(_, w)| w.last_seen).map(|(id, _)| *id)
        {
            self.workers.remove(&oldest);
        }
        self.workers.insert(id, worker);
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
