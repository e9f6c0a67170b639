//! What must hold after every event: one definition for tests, simulation and debug builds.

use super::State;
use super::candidate::{Candidate, How};
use std::collections::HashSet;

/// A named predicate over the state.
pub type Invariant = (&'static str, fn(&State) -> bool);

/// Every invariant.
pub const ALL: [Invariant; 8] = [
    ("every lease is of an open attempt, and every open attempt has its lease", leases_match_attempts),
    ("a candidate is lent to at most one worker", one_lease_each),
    ("attempts stay within the limit", attempts_within_limit),
    ("a scored candidate has exactly one attempt that scored it", scored_once),
    ("what is not among the members is final", earlier_are_final),
    ("the index of open candidates is right", open_is_known),
    ("no more candidates than the budget", within_budget),
    ("nothing is lent once the run is over", nothing_lent_after_the_end),
];

/// The name of an invariant that does not hold.
pub fn broken(state: &State) -> Option<&'static str> {
    ALL.iter().find(|(_, holds)| !holds(state)).map(|(name, _)| *name)
}

fn leases_match_attempts(s: &State) -> bool {
    // At rest nothing is lent: leases are rebuilt when a coordinator starts.
    let open = s.members().iter().filter(|c| c.open_attempt().is_some()).count();
    let matches = s.leases.iter().all(|(id, lease)| {
        s.candidate(lease.candidate).and_then(Candidate::open_attempt).is_some_and(|a| a.lease == id)
    });
    matches && (s.leases.len() == open || s.clock.is_none())
}

fn one_lease_each(s: &State) -> bool {
    let mut seen = HashSet::new();
    s.leases.iter().all(|(_, l)| seen.insert(l.candidate))
        && s.members().iter().all(|c| c.attempts().iter().filter(|a| a.end.is_none()).count() <= 1)
}

fn attempts_within_limit(s: &State) -> bool {
    s.members().iter().all(|c| {
        let counted = c.counted_attempts();
        counted <= s.plan.scheduling.attempts as usize
            && c.attempts().len() - counted <= super::candidate::MAX_UNCOUNTED_ATTEMPTS + 1
    })
}

fn scored_once(s: &State) -> bool {
    s.members().iter().all(|c| {
        let scored = c.attempts().iter().flat_map(|a| &a.end).filter(|e| e.how == How::Scored).count();
        scored <= 1 && (scored == 0 || c.fitness().is_some())
    })
}

fn earlier_are_final(s: &State) -> bool {
    let earlier = s.candidates.len() - s.members().len();
    // The last of them stand for all, or this would grow with the run.
    s.candidates[..earlier].iter().rev().take(64).all(Candidate::is_final)
}

fn open_is_known(s: &State) -> bool {
    s.open().all(|c| !c.is_final()) && s.members().iter().filter(|c| !c.is_final()).count() == s.open.len()
}

fn within_budget(s: &State) -> bool {
    s.candidates.len() as u64 <= s.budget.evaluations
}

fn nothing_lent_after_the_end(s: &State) -> bool {
    s.end.is_none() || s.leases.is_empty()
}
