//! Live leases and their deadlines. Not durable: rebuilt at a restart from the attempts that are open.

use common::id::{CandidateId, LeaseId, WorkerId};
use common::time::Millis;
use proto::convert::Stage;
use std::collections::BTreeMap;
use std::time::Duration;

/// Batches of a candidate, lent. Which ones is durable, so it stands in the candidate's attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// What is lent.
    pub candidate: CandidateId,
    /// To whom. `None` after a restart, until its worker comes back.
    pub worker: Option<WorkerId>,
    /// Lost unless renewed by then.
    pub deadline: Millis,
    /// What the worker last said it was doing.
    pub stage: Option<Stage>,
    /// Samples that it last said were finished.
    pub samples_done: u32,
    /// One past the position of the last sample that it said was begun.
    pub begun: u32,
    /// When it last brought a sample, or was granted.
    pub moved: Millis,
    /// When it last showed progress: a sample, a batch begun, another stage.
    pub progressed: Millis,
    /// Whether others took a part of it since it was granted: its worker is told what is left.
    pub shrunk: bool,
}

/// Every live lease.
#[derive(Clone, Debug, Default)]
pub struct Table {
    leases: BTreeMap<LeaseId, Lease>,
}

impl Table {
    /// Enters a lease.
    pub fn insert(
        &mut self,
        id: LeaseId,
        candidate: CandidateId,
        worker: Option<WorkerId>,
        now: Millis,
        deadline: Millis,
    ) {
        let (stage, samples_done, begun, shrunk) = (None, 0, 0, false);
        let (moved, progressed) = (now, now);
        let lease =
            Lease { candidate, worker, deadline, stage, samples_done, begun, moved, progressed, shrunk };
        self.leases.insert(id, lease);
    }

    /// The lease of that number.
    pub fn get(&self, id: LeaseId) -> Option<&Lease> {
        self.leases.get(&id)
    }

    /// Takes a lease out.
    pub fn remove(&mut self, id: LeaseId) -> Option<Lease> {
        self.leases.remove(&id)
    }

    /// Every lease, in order of number.
    pub fn iter(&self) -> impl Iterator<Item = (LeaseId, &Lease)> {
        self.leases.iter().map(|(id, lease)| (*id, lease))
    }

    /// Leases of one worker.
    pub fn of(&self, worker: WorkerId) -> impl Iterator<Item = LeaseId> {
        self.iter().filter(move |(_, l)| l.worker == Some(worker)).map(|(id, _)| id)
    }

    /// Gives a lease to `worker` (again) and sets its deadline anew. False where there is none.
    pub fn renew(&mut self, id: LeaseId, worker: WorkerId, until: Millis) -> bool {
        let Some(lease) = self.leases.get_mut(&id) else { return false };
        lease.worker = Some(worker);
        lease.deadline = until;
        true
    }

    /// Notes what the worker says of a lease.
    pub fn note(&mut self, id: LeaseId, now: Millis, (stage, samples_done, begun): (Stage, u32, u32)) {
        if let Some(lease) = self.leases.get_mut(&id) {
            if (lease.stage, lease.samples_done) != (Some(stage), samples_done) || begun > lease.begun {
                lease.progressed = now;
            }
            (lease.stage, lease.samples_done) = (Some(stage), samples_done);
            lease.begun = lease.begun.max(begun);
        }
    }

    /// Notes that a sample of it came.
    pub fn moved(&mut self, id: LeaseId, now: Millis) {
        if let Some(lease) = self.leases.get_mut(&id) {
            (lease.moved, lease.progressed) = (now, now);
        }
    }

    /// Notes that its worker is to be told what is left of it.
    pub fn shrunk(&mut self, id: LeaseId) {
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.shrunk = true;
        }
    }

    /// Takes out every lease of a candidate.
    pub fn release(&mut self, candidate: CandidateId) {
        self.leases.retain(|_, l| l.candidate != candidate);
    }

    /// Leases whose deadline has passed, in order of deadline.
    pub fn expired(&self, now: Millis) -> Vec<LeaseId> {
        let mut late: Vec<(Millis, LeaseId)> =
            self.iter().filter(|(_, l)| l.deadline <= now).map(|(id, l)| (l.deadline, id)).collect();
        late.sort();
        late.into_iter().map(|(_, id)| id).collect()
    }

    /// The next deadline.
    pub fn next_deadline(&self) -> Option<Millis> {
        self.leases.values().map(|l| l.deadline).min()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.leases.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }
}

/// How long after a restart an open attempt waits for its worker. Workers come back within a few seconds; a
/// late one still hands in its result, so that nothing is lost by going on.
pub fn restart_grace(lease: Duration) -> Duration {
    lease.min(Duration::from_secs(10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expires_in_order_of_deadline_unless_renewed() {
        let mut table = Table::default();
        for (id, deadline) in [(1, 30), (2, 20), (3, 25), (4, 99)] {
            table.insert(LeaseId(id), CandidateId(id), Some(WorkerId(1)), Millis(0), Millis(deadline));
        }
        assert!(table.renew(LeaseId(3), WorkerId(2), Millis(60)));
        assert_eq!(table.next_deadline(), Some(Millis(20)));
        assert_eq!(table.expired(Millis(30)), [LeaseId(2), LeaseId(1)]);
        assert_eq!(table.of(WorkerId(2)).collect::<Vec<_>>(), [LeaseId(3)]);
        assert!(table.remove(LeaseId(2)).is_some() && !table.renew(LeaseId(2), WorkerId(1), Millis(1)));
        assert_eq!(table.len(), 3);
    }
}
