//! Which nodes are lent to: those that are neither drained by the operator nor benched for failing where others succeed.
//!
//! Kept by a node's name, which a restarted worker keeps; not durable, since a restarted coordinator may think better of
//! everybody. A node that fails what nobody has evaluated yet may be right: the candidate may be impossible. Only failures
//! on candidates of which another node has recorded samples count, and any sample of its own clears a node.

use super::roster::{Roster, most_frequent, node};
use super::{Changes, Note, State};
use common::id::CandidateId;
use common::time::Millis;
use proto::status::Class;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Failures where others succeeded, without a success between them, for which a node is benched.
const BENCHED_AFTER: u32 = 3;
/// How long it is benched at first. Each further time doubles that, …
const FIRST_BENCH: Duration = Duration::from_secs(300);
/// … up to this.
const LONGEST_BENCH: Duration = Duration::from_secs(4 * 3600);
/// Failed candidates remembered of a node; a candidate has a few attempts, so others were there long before.
const MOST_FAILURES: usize = 64;
/// Names that something is held against. A certificate may use any number of them; the one that has the most forgets one.
const MOST_NAMES: usize = 10_000;
/// Names that are listed to an operator who named nobody's.
const LISTED: usize = 20;

/// What is known of a node's failures since it last succeeded.
#[derive(Clone, Debug, Default)]
struct Node {
    /// Candidates that failed there and of which nobody else has recorded a sample yet.
    failures: BTreeSet<CandidateId>,
    /// Those of which somebody else has.
    vindicated: u32,
    /// How it failed last.
    reason: String,
    benched: Option<Bench>,
    times: u32,
}

/// A node that is not lent to for a while.
#[derive(Clone, Debug, PartialEq)]
pub struct Bench {
    /// Until when.
    pub until: Millis,
    /// Failures where others succeeded.
    pub failures: u32,
    /// What the last of them was.
    pub reason: String,
}

/// Every node that anything is held against.
#[derive(Clone, Debug, Default)]
pub struct Conduct {
    nodes: BTreeMap<String, Node>,
    drained: BTreeSet<String>,
}

impl Conduct {
    /// Whether the operator wants that node to go.
    pub fn is_drained(&self, name: &str) -> bool {
        self.drained.contains(name)
    }

    /// The node's bench, while it lasts.
    pub fn bench(&self, name: &str, now: Millis) -> Option<&Bench> {
        self.nodes.get(name)?.benched.as_ref().filter(|b| b.until > now)
    }

    /// Forgets the drain of nodes that went without a word: should they come back, they are lent to again.
    pub(super) fn forget_drained(&mut self, roster: &Roster) {
        let here: BTreeSet<&str> = roster.iter().map(|(_, w)| w.name.as_str()).collect();
        self.drained.retain(|name| here.contains(name.as_str()));
    }

    /// A node failed at a candidate; `others` have recorded samples of it.
    fn failed(
        &mut self,
        name: &str,
        candidate: CandidateId,
        others: bool,
        reason: &str,
        now: Millis,
    ) -> bool {
        if self.nodes.len() >= MOST_NAMES && !self.nodes.contains_key(name) {
            let most = most_frequent(self.nodes.keys().map(|n| node(n))).map(String::from);
            let of_it = self.nodes.keys().find(|n| Some(node(n)) == most.as_deref()).cloned();
            of_it.and_then(|n| self.nodes.remove(&n));
        }
        let node = self.nodes.entry(name.to_string()).or_default();
        node.reason = reason.to_string();
        if others {
            return node.is_blamed(now);
        }
        if node.failures.len() < MOST_FAILURES {
            node.failures.insert(candidate);
        }
        false
    }

    /// A node brought samples of a candidate. Yields the nodes that are benched for having failed at it.
    fn succeeded(&mut self, name: &str, candidate: CandidateId, now: Millis) -> Vec<String> {
        self.nodes.remove(name);
        let mut benched = Vec::new();
        for (other, node) in &mut self.nodes {
            if node.failures.remove(&candidate) && node.is_blamed(now) {
                benched.push(other.clone());
            }
        }
        benched
    }
}

impl Node {
    /// Notes a failure where others succeeded; whether the node is benched for it.
    fn is_blamed(&mut self, now: Millis) -> bool {
        self.vindicated += 1;
        if self.vindicated < BENCHED_AFTER || self.benched.as_ref().is_some_and(|b| b.until > now) {
            return false;
        }
        let time = FIRST_BENCH.saturating_mul(1 << self.times.min(10)).min(LONGEST_BENCH);
        self.times += 1;
        self.benched =
            Some(Bench { until: now + time, failures: self.vindicated, reason: self.reason.clone() });
        // Back from the bench, it is on probation.
        self.vindicated = BENCHED_AFTER - 1;
        true
    }
}

impl State {
    /// What is held against nodes.
    pub fn conduct(&self) -> &Conduct {
        &self.conduct
    }

    /// Whether a node of that name may begin work. A benched one may where no other is here: else the run would stand
    /// still for it.
    pub(super) fn may_work(&self, name: &str, now: Millis) -> bool {
        let in_order = |name: &str| !self.conduct.is_drained(name) && self.conduct.bench(name, now).is_none();
        let here = |w: &super::roster::Worker| now - w.last_seen <= self.lease_time();
        match (self.conduct.is_drained(name), self.conduct.bench(name, now)) {
            (true, _) => false,
            (false, None) => true,
            (false, Some(_)) => !self.roster.iter().any(|(_, w)| here(w) && in_order(&w.name)),
        }
    }

    /// Notes an attempt that ended in a way that counts.
    pub(super) fn note_failure(
        &mut self,
        (name, candidate): (&str, CandidateId),
        reason: &str,
        now: Millis,
        changes: &mut Changes,
    ) {
        let attempts = self.candidate(candidate).map_or(&[][..], |c| c.attempts());
        let others = attempts.iter().any(|a| a.worker_name != name && a.samples > 0);
        if self.conduct.failed(name, candidate, others, reason, now) {
            self.note_bench(name, changes);
        }
    }

    /// Notes that a node failed at what another has done.
    pub(super) fn note_audit_failure(
        &mut self,
        (name, candidate): (&str, CandidateId),
        reason: &str,
        now: Millis,
        changes: &mut Changes,
    ) {
        if self.conduct.failed(name, candidate, true, reason, now) {
            self.note_bench(name, changes);
        }
    }

    /// Notes that a node brought samples of a candidate.
    pub(super) fn note_success(
        &mut self,
        name: &str,
        candidate: CandidateId,
        now: Millis,
        changes: &mut Changes,
    ) {
        for benched in self.conduct.succeeded(name, candidate, now) {
            self.note_bench(&benched, changes);
        }
    }

    fn note_bench(&self, name: &str, changes: &mut Changes) {
        if let Some(bench) = self.conduct.nodes.get(name).and_then(|n| n.benched.clone()) {
            changes.notes.push(Note::Benched { name: name.to_string(), bench });
        }
    }

    /// The operator wants a node to finish what it has and go, or thinks better of it. Yields the leases that it holds.
    ///
    /// # Errors
    /// [`Class::NotFound`] where no worker of that name is here.
    pub(super) fn drain(&mut self, name: &str, drained: bool, changes: &mut Changes) -> Result<u64, Class> {
        let ids: Vec<_> = self.roster.iter().filter(|(_, w)| w.name == name).map(|(id, _)| id).collect();
        if ids.is_empty() && !self.conduct.is_drained(name) {
            let names: BTreeSet<&str> = self.roster.iter().map(|(_, w)| w.name.as_str()).collect();
            let known = match names.is_empty() {
                true => "there is none".to_string(),
                false => listed(&names),
            };
            return Err(Class::NotFound(format!("no worker {name:?} is here; {known}")));
        }
        let changed = match drained {
            true => self.conduct.drained.insert(name.to_string()),
            false => self.conduct.drained.remove(name),
        };
        if changed {
            changes.notes.push(Note::Drained { name: name.to_string(), drained });
        }
        Ok(ids.into_iter().map(|id| self.leases.of(id).count() as u64).sum())
    }

    /// A node went: should it come back, it is lent to again.
    pub(super) fn forget_drain(&mut self, name: &str) {
        if !self.roster.iter().any(|(_, w)| w.name == name) {
            self.conduct.drained.remove(name);
        }
    }
}

fn listed(names: &BTreeSet<&str>) -> String {
    let first = names.iter().take(LISTED).copied().collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(LISTED) {
        None | Some(0) => format!("there are {first}"),
        Some(more) => format!("there are {first}, and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000;

    #[test]
    fn only_failures_where_others_succeed_bench_a_node() {
        let mut conduct = Conduct::default();
        let at = |minutes: u64| Millis(1 + minutes * MINUTE);
        // Nobody else could do these.
        for n in 1..20 {
            assert!(!conduct.failed("a", CandidateId(n), false, "x", at(0)));
        }
        assert_eq!(conduct.bench("a", at(0)), None);
        // Others can: the third of them benches it.
        assert!(conduct.succeeded("b", CandidateId(1), at(1)).is_empty());
        assert!(conduct.succeeded("b", CandidateId(1), at(1)).is_empty(), "one candidate counts once");
        assert!(conduct.succeeded("c", CandidateId(2), at(1)).is_empty());
        assert!(!conduct.failed("a", CandidateId(9), false, "cuda error", at(1)));
        assert_eq!(conduct.succeeded("b", CandidateId(9), at(1)), ["a"]);
        let bench = conduct.bench("a", at(1)).unwrap();
        assert_eq!((bench.until, bench.failures, &*bench.reason), (at(6), 3, "cuda error"));
        assert_eq!(conduct.bench("a", at(6)), None, "it is over");
        // On probation one more is enough, for twice as long.
        assert!(conduct.failed("a", CandidateId(30), true, "x", at(7)));
        assert_eq!(conduct.bench("a", at(7)).unwrap().until, at(17));
        // A success clears everything.
        assert!(conduct.succeeded("a", CandidateId(31), at(18)).is_empty());
        assert!(!conduct.failed("a", CandidateId(32), true, "x", at(18)));
        assert!(!conduct.failed("a", CandidateId(33), true, "x", at(18)));
        assert!(conduct.failed("a", CandidateId(34), true, "x", at(18)));
        assert_eq!(conduct.bench("a", at(18)).unwrap().until, at(23));
    }

    #[test]
    fn who_fails_under_ever_new_names_forgets_its_own() {
        let mut conduct = Conduct::default();
        let now = Millis(1);
        (0..3).for_each(|_| {
            conduct.failed("quiet", CandidateId(1), true, "x", now);
        });
        for n in 0..2 * MOST_NAMES {
            conduct.failed(&format!("loud/{n}"), CandidateId(1), true, "x", now);
        }
        assert_eq!(conduct.nodes.len(), MOST_NAMES);
        assert!(conduct.bench("quiet", now).is_some());
    }

    #[test]
    fn an_operator_who_mistypes_is_told_some_names() {
        let names: Vec<String> = (10..40).map(|n| format!("w{n}")).collect();
        let names: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        let text = listed(&names);
        assert!(text.contains("w10, ") && text.ends_with("w29, and 10 more"), "{text}");
    }

    #[test]
    fn a_bench_is_never_longer_than_four_hours() {
        let mut conduct = Conduct::default();
        let mut now = Millis(1);
        for _ in 0..40 {
            while !conduct.failed("a", CandidateId(1), true, "x", now) {}
            let until = conduct.bench("a", now).unwrap().until;
            assert!(until - now <= LONGEST_BENCH);
            now = until;
        }
    }
}
