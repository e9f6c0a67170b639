//! Second evaluations, seen through the whole state machine.

use super::*;
use crate::testing::{begun, exchange, exchanged, found, outcome, part, plan, registered, registration};
use common::id::WorkerId;
use proto::convert::{End as Ending, Exchange, ExchangeAnswer, FailureKind, Grant, Outcome, Receipt, Report};

/// A worker with one slot.
struct Node {
    id: WorkerId,
    sequence: u64,
}

impl Node {
    fn new(state: &mut State, plan: &RunPlan, name: &str) -> Node {
        Node { id: registered(state, Millis(2), registration(plan, name)), sequence: 0 }
    }

    fn say(&mut self, state: &mut State, now: u64, what: Exchange) -> ExchangeAnswer {
        self.sequence += 1;
        exchanged(state, Millis(now), Exchange { worker: self.id, sequence: self.sequence, ..what })
    }

    fn ask(&mut self, state: &mut State, now: u64) -> Option<Grant> {
        self.say(state, now, exchange(self.id, 0, 1)).grants.pop()
    }

    fn hand_in(&mut self, state: &mut State, now: u64, outcome: Outcome) -> ExchangeAnswer {
        self.say(state, now, Exchange { outcomes: vec![outcome], ..exchange(self.id, 0, 0) })
    }
}

/// All of them, and nothing is split.
fn audited_plan(more: &[&str]) -> RunPlan {
    let mut sets = vec!["scheduling.audit=1.0", "scheduling.split=false", "search.evaluations=12"];
    sets.extend(more);
    plan(&sets)
}

/// One whose first candidate `a` has scored, and `b`, who is lent its audit.
fn one_scored(plan: &RunPlan) -> (State, Node, Node, Grant) {
    let mut state = begun(plan);
    let (mut a, b) = (Node::new(&mut state, plan, "a"), Node::new(&mut state, plan, "b"));
    let first = a.ask(&mut state, 3).unwrap();
    a.hand_in(&mut state, 4, outcome(plan, &first));
    (state, a, b, first)
}

#[test]
fn another_worker_evaluates_again_and_the_first_result_stays() {
    let plan = audited_plan(&[]);
    let (mut state, mut a, mut b, first) = one_scored(&plan);
    let fresh = a.ask(&mut state, 5).unwrap();
    assert_ne!(fresh.candidate, first.candidate, "nobody audits itself");
    let audit = b.ask(&mut state, 6).unwrap();
    assert_eq!((audit.candidate, &audit.recipe), (first.candidate, &first.recipe));
    assert_ne!(audit.lease, first.lease);
    assert_eq!(audit.samples, [0, 1, 2], "all of it");
    let answer = b.hand_in(&mut state, 7, outcome(&plan, &audit));
    assert_eq!(answer.acknowledgements[0].receipt, Receipt::Recorded);
    assert_eq!(state.audited(), AuditCount { done: 1, disagree: 0 });
    assert_eq!(state.candidate(first.candidate).unwrap().attempts().len(), 1, "it is no attempt");
}

#[test]
fn a_worker_that_computes_otherwise_is_found_and_both_results_are_kept() {
    let plan = audited_plan(&[]);
    let (mut state, _, mut b, first) = one_scored(&plan);
    let audit = b.ask(&mut state, 6).unwrap();
    let mut evaluation = part(&plan, &audit.recipe, &audit.samples);
    for sample in &mut evaluation.samples[..2] {
        sample.scores.values_mut().for_each(|score| *score += 0.5);
    }
    let lie = Outcome { end: Ending::Evaluated(evaluation.clone()), ..outcome(&plan, &audit) };
    let before = state.candidate(first.candidate).unwrap().fitness();
    b.sequence += 1;
    let e = Exchange { worker: b.id, sequence: b.sequence, outcomes: vec![lie], ..exchange(b.id, 0, 0) };
    let Changes { records, notes, .. } = state.apply(Millis(7), Event::Exchange(Box::new(e)));
    assert_eq!(state.candidate(first.candidate).unwrap().fitness(), before, "what counts does not change");
    assert_eq!(state.audited(), AuditCount { done: 1, disagree: 1 });
    let noted = notes.iter().find_map(|n| match n {
        Note::AuditDisagrees { candidate, first_by, second_by, samples, .. } => {
            Some((*candidate, first_by.as_str(), second_by.as_str(), *samples))
        }
        _ => None,
    });
    assert_eq!(noted, Some((first.candidate, "a", "b", 2)));
    let kept = records.into_iter().find_map(|r| match r {
        Record::Audited(id, audited) => Some((id, audited)),
        _ => None,
    });
    let (id, audited) = kept.expect("it is written down");
    assert_eq!((id, Some(audited.first), audited.agree), (first.candidate, before, false));
    assert_eq!((&audited.evaluation.samples, &audited.differing), (&evaluation.samples, &vec![1, 2]));
    assert!((audited.second.value() - audited.first.value() - 1.0 / 3.0).abs() < 1e-9, "{audited:?}");
}

#[test]
fn what_lies_within_the_tolerance_agrees() {
    let plan = audited_plan(&["scheduling.audit_tolerance=0.4"]);
    let (mut state, _, mut b, _) = one_scored(&plan);
    let audit = b.ask(&mut state, 6).unwrap();
    let mut evaluation = part(&plan, &audit.recipe, &audit.samples);
    evaluation.samples[0].scores.values_mut().for_each(|score| *score += 0.5);
    b.hand_in(&mut state, 7, Outcome { end: Ending::Evaluated(evaluation), ..outcome(&plan, &audit) });
    assert_eq!(state.audited(), AuditCount { done: 1, disagree: 0 });
}

#[test]
fn one_that_is_lost_refused_or_handed_back_goes_to_whoever_comes_next() {
    let plan = audited_plan(&[]);
    let (mut state, _, mut b, first) = one_scored(&plan);
    // Lost: not renewed for as long as a lease is good.
    b.ask(&mut state, 6).unwrap();
    state.apply(Millis(40_000), Event::Tick);
    assert_eq!((state.audits().open(), state.audits().workers().count()), (1, 0));
    // Handed back.
    let mut c = Node::new(&mut state, &plan, "c");
    let audit = c.ask(&mut state, 40_001).unwrap();
    assert_eq!(audit.candidate, first.candidate);
    let end = Ending::Failed { kind: FailureKind::HandedBack, reason: String::new() };
    c.hand_in(&mut state, 40_002, Outcome { end, ..outcome(&plan, &audit) });
    // Of another recipe, or in parts of which some are missing: refused, and so often only.
    for round in 0..3 {
        let audit = c.ask(&mut state, 40_003 + 2 * round).unwrap();
        assert_eq!(audit.candidate, first.candidate, "round {round}");
        let wrong = match round {
            0 => Outcome { recipe: common::digest::Digest::of(b"x"), ..outcome(&plan, &audit) },
            _ => {
                Outcome { end: Ending::Evaluated(part(&plan, &audit.recipe, &[0])), ..outcome(&plan, &audit) }
            }
        };
        let answer = c.hand_in(&mut state, 40_004 + 2 * round, wrong);
        assert_eq!(answer.acknowledgements[0].receipt, Receipt::Refused);
    }
    assert_eq!((state.audits().open(), state.audited()), (0, AuditCount::default()));
}

#[test]
fn samples_may_come_one_by_one_and_a_stranger_hands_in_nothing() {
    let plan = audited_plan(&[]);
    let (mut state, mut a, mut b, first) = one_scored(&plan);
    let audit = b.ask(&mut state, 6).unwrap();
    for position in 0..3 {
        let part = part(&plan, &audit.recipe, &[position]);
        let (lease, recipe) = (audit.lease, audit.recipe.digest());
        let report = Report { lease, candidate: audit.candidate, recipe, part };
        // From whom it was not lent to, it is a late word about a candidate that is final.
        a.say(&mut state, 7, Exchange { reports: vec![report.clone()], ..exchange(a.id, 0, 0) });
        assert_eq!(state.audited().done, 0, "position {position}");
        b.say(&mut state, 7, Exchange { reports: vec![report], ..exchange(b.id, 0, 0) });
    }
    assert_eq!(state.audited(), AuditCount { done: 1, disagree: 0 });
    assert_eq!(state.candidate(first.candidate).unwrap().attempts().len(), 1);
}

#[test]
fn the_search_finds_the_same_and_which_are_audited_is_the_seeds() {
    let run = |audit: &str, names: &[&str]| {
        let plan = plan(&["scheduling.split=false", audit]);
        let mut state = begun(&plan);
        let mut nodes: Vec<Node> = names.iter().map(|name| Node::new(&mut state, &plan, name)).collect();
        let mut audited = Vec::new();
        for now in 3.. {
            if state.end().is_some() {
                break;
            }
            for node in &mut nodes {
                let Some(grant) = node.ask(&mut state, now) else { continue };
                let before = state.audited().done;
                node.hand_in(&mut state, now, outcome(&plan, &grant));
                audited.extend((state.audited().done > before).then_some(grant.candidate));
            }
        }
        (found(&state), audited)
    };
    let (plain, none) = run("scheduling.audit=0.0", &["a", "b"]);
    assert_eq!(none, []);
    let (same, some) = run("scheduling.audit=0.3", &["a", "b"]);
    assert_eq!(same, plain);
    assert!((3..15).contains(&some.len()), "{some:?} of 25");
    assert_eq!(run("scheduling.audit=0.3", &["b", "c"]).1, some);
    let (alone, nobody) = run("scheduling.audit=0.3", &["a"]);
    assert_eq!((alone, nobody), (plain, vec![]), "where nobody else is there, the run goes on");
}
