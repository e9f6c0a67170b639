//! What must hold after every event: one definition for tests, simulation and debug builds.

use super::State;
use super::candidate::{Candidate, How};
use common::id::CandidateId;
use std::collections::BTreeMap;

/// A named predicate over the state.
pub type Invariant = (&'static str, fn(&State) -> bool);

/// Every invariant.
pub const ALL: [Invariant; 9] = [
    ("every lease is of an open attempt, and every open attempt has its lease", leases_match_attempts),
    ("a batch is lent to at most two workers, and nothing of a final candidate to any", few_leases_each),
    ("samples are kept of candidates that are not final alone", samples_of_open_candidates),
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
    let open: usize = s.members().iter().map(|c| c.open_attempts().count()).sum();
    let matches = s.leases.iter().all(|(id, lease)| {
        s.candidate(lease.candidate).and_then(|c| c.attempt(id)).is_some_and(|a| a.end.is_none())
    });
    matches && (s.leases.len() == open || s.clock.is_none())
}

fn few_leases_each(s: &State) -> bool {
    let few = |c: &Candidate| (0..s.plan.batches()).all(|b| c.lent(b) <= 2);
    s.members().iter().all(|c| if c.is_final() { !c.is_lent() } else { few(c) })
}

fn samples_of_open_candidates(s: &State) -> bool {
    let open = |id: &CandidateId| s.candidate(*id).is_some_and(|c| !c.is_final());
    let within = |rows: &BTreeMap<u32, _>| rows.keys().all(|p| (*p as usize) < s.plan.samples.len());
    s.partial.iter().all(|(id, rows)| open(id) && within(rows))
}

fn attempts_within_limit(s: &State) -> bool {
    s.members().iter().all(|c| {
        let counted = c.counted_attempts();
        counted <= s.plan.scheduling.attempts as usize
            && c.futile_attempts() <= super::candidate::MAX_UNCOUNTED_ATTEMPTS
    })
}

fn scored_once(s: &State) -> bool {
    s.members().iter().all(|c| {
        let scored = c.attempts().iter().flat_map(|a| &a.end).filter(|e| e.how == How::Scored).count();
        scored <= 1 && (scored == 0 || c.fitness().is_some())
    })
}

fn earlier_are_final(s: &State) -> bool {
    let kept = s.candidates.kept();
    let earlier = kept.len() - s.members().len();
    // The last of them stand for all, or this would grow with the run.
    kept[..earlier].iter().rev().take(64).all(Candidate::is_final)
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
