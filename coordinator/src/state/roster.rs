//! Workers that are known: who they are, what they were last answered, when they were last seen.
//! Not durable: after a restart they register again.

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
    /// Results of its that counted.
    pub scored: u64,
    /// The last exchange's number, and what it was answered: a repetition gets the same.
    pub answered: Option<(u64, ExchangeAnswer)>,
    /// Whether it was told that the run is finished.
    pub told_finished: bool,
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
    pub fn remove(&mut self, id: WorkerId) {
        self.workers.remove(&id);
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
