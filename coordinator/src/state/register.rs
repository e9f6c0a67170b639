//! A worker joins: same program, same plan, same files. It may bring leases from before a restart.

use super::candidate::Candidate;
use super::roster::Worker;
use super::{Changes, Note, Pinned, Record, State};
use common::digest::{BUILT_IN, Difference, Manifest};
use common::evaluation::Timings;
use common::id::{CandidateId, LeaseId, WorkerId};
use common::time::Millis;
use proto::convert::{Registered, Registration};
use proto::status::Class;

impl State {
    pub(super) fn register(
        &mut self,
        now: Millis,
        r: Registration,
        changes: &mut Changes,
    ) -> Result<Registered, Class> {
        self.check_versions(&r)?;
        self.pin(r.manifest, changes)?;
        self.counters.last_worker += 1;
        let worker = WorkerId(self.counters.last_worker);
        changes.records.push(Record::Counters(self.counters.clone()));
        changes.notes.push(Note::Joined { worker, name: r.name.clone(), device: r.device.clone() });
        let entry = Worker {
            name: r.name,
            device: r.device,
            slots: r.slots,
            free_slots: 0,
            last_seen: now,
            joined: now,
            scored: 0,
            samples: 0,
            timings: Timings::default(),
            pace: None,
            answered: None,
            told_finished: false,
        };
        self.roster.insert(worker, entry);
        let mut registered = Registered { worker, adopted: Vec::new(), cancelled: Vec::new() };
        for held in r.held {
            let known = self.candidate(held.candidate).is_some_and(|c| c.recipe() == held.recipe);
            let known = known && self.was_lent(held.lease, held.candidate, worker);
            // Who holds another registration's lease is that same worker, come back over a new connection.
            let before = self.leases.get(held.lease).and_then(|l| l.worker);
            if let Some(before) = before.filter(|w| known && *w != worker) {
                self.roster.remove(before);
            }
            let adopted = known && self.claim(now, worker, held.lease, changes);
            let list = if adopted { &mut registered.adopted } else { &mut registered.cancelled };
            list.push(held.lease);
        }
        Ok(registered)
    }

    fn check_versions(&self, r: &Registration) -> Result<(), Class> {
        let differ = |what: &str, theirs: &str, ours: &str| {
            let text = format!("{what} differs: the coordinator has {ours}, the worker {theirs}");
            Err(Class::Version(format!("{text}; use the same on both sides")))
        };
        if r.protocol_version != proto::PROTOCOL_VERSION {
            let (theirs, ours) = (r.protocol_version.to_string(), proto::PROTOCOL_VERSION.to_string());
            return differ("protocol version", &theirs, &ours);
        }
        if r.program_version != proto::PROGRAM_VERSION {
            return differ("program version", &r.program_version, proto::PROGRAM_VERSION);
        }
        let plan = self.plan.digest();
        if r.plan != plan {
            return differ("plan", &r.plan.short(12), &plan.short(12));
        }
        Ok(())
    }

    /// Compares a worker's files with the run's. The first worker adds those that the coordinator could not
    /// see when the run was begun; from then on the list is closed.
    fn pin(&mut self, theirs: Manifest, changes: &mut Changes) -> Result<(), Class> {
        let mut differences = self.pinned.manifest.differences(&theirs);
        // Runs that were begun before built-in files were digested go on without.
        let built_in = |name: &str| name.starts_with(BUILT_IN);
        let undigested = !self.pinned.manifest.files().iter().any(|f| built_in(&f.name));
        differences.retain(|d| match d {
            Difference::Extra { name } => self.pinned.complete && !(undigested && built_in(name)),
            _ => true,
        });
        if !differences.is_empty() {
            return Err(Class::files(&differences));
        }
        if !self.pinned.complete {
            self.pinned = Pinned { manifest: theirs, complete: true };
            changes.records.push(Record::Pinned(self.pinned.clone()));
        }
        Ok(())
    }

    /// Gives a lease (back) to a worker that says it is working on it. Also a lease that ran out, with what of its
    /// batches nobody else took: the work is as good as any.
    pub(super) fn claim(
        &mut self,
        now: Millis,
        worker: WorkerId,
        lease: LeaseId,
        changes: &mut Changes,
    ) -> bool {
        if self.end.is_some() {
            return false;
        }
        let until = now + self.lease_time();
        let live = self.leases.get(lease).map(|l| l.candidate);
        let Some(id) = live.or_else(|| self.lent_under(lease)) else { return false };
        if !self.was_lent(lease, id, worker) {
            return false;
        }
        if live.is_some() {
            return self.leases.renew(lease, worker, until);
        }
        let candidate = &self.candidates[id];
        let Some(attempt) = candidate.attempt(lease) else { return false };
        let mut left = self.unlent(candidate);
        left.retain(|batch| attempt.holds(*batch));
        let candidate = &mut self.candidates[id];
        if left.is_empty() || !candidate.reopen(lease, left) {
            return false;
        }
        changes.records.push(Record::Candidate(candidate.clone()));
        self.leases.insert(lease, id, Some(worker), now, until);
        self.leases.shrunk(lease);
        true
    }

    /// Whether that candidate was lent under that lease to a worker of this one's name, which it keeps when it comes back over
    /// another connection. Numbers of leases can be guessed: what a worker says of others' has no effect.
    pub(super) fn was_lent(&self, lease: LeaseId, candidate: CandidateId, worker: WorkerId) -> bool {
        let attempt = self.candidate(candidate).and_then(|c| c.attempt(lease));
        let lent_to = attempt.map(|a| &a.worker_name);
        lent_to.is_some() && lent_to == self.roster.get(worker).map(|w| &w.name)
    }

    /// The member of the current generation that was lent under this lease.
    fn lent_under(&self, lease: LeaseId) -> Option<CandidateId> {
        self.members().iter().find(|c| c.attempts().iter().any(|a| a.lease == lease)).map(Candidate::id)
    }
}
