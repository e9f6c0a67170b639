//! Second evaluations, seen through the whole state machine.

use super::*;
use crate::testing::{begun, exchange, exchanged, found, outcome, part, plan, registered, registration};
use common::id::WorkerId;
use proto::convert::{
    End as Ending, Exchange, ExchangeAnswer, FailureKind, Grant, LeaseProgress, Outcome, Receipt, Report,
    Stage,
};

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

fn count(done: u64, disagree: u64, given_up: u64) -> AuditCount {
    AuditCount { done, disagree, given_up }
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
    assert_eq!(state.audited(), count(1, 0, 0));
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
    assert_eq!(state.audited(), count(1, 1, 0));
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
    assert_eq!(state.audited(), count(1, 0, 0));
}

/// An audit kills or spoils as many workers as a candidate may, each once, whatever becomes of them.
#[test]
fn one_that_is_lost_or_refused_goes_to_another_worker_and_so_often_only() {
    let plan = audited_plan(&[]);
    let (mut state, _, mut b, first) = one_scored(&plan);
    // Lost: not renewed for as long as a lease is good.
    b.ask(&mut state, 6).unwrap();
    let lost = state.apply(Millis(40_000), Event::Tick);
    assert!(lost.notes.iter().any(|n| matches!(n, Note::AuditFailed { worker, .. } if worker == "b")));
    assert_eq!((state.audits().open(), state.audits().workers().count()), (1, 0));
    let mut b = Node::new(&mut state, &plan, "b");
    let fresh = b.ask(&mut state, 40_001).unwrap();
    assert_ne!(fresh.candidate, first.candidate, "what has killed it once is not lent to it again");
    // Handed back, which does not count.
    let mut c = Node::new(&mut state, &plan, "c");
    let audit = c.ask(&mut state, 40_001).unwrap();
    assert_eq!(audit.candidate, first.candidate);
    let end = Ending::Failed { kind: FailureKind::HandedBack, reason: String::new() };
    c.hand_in(&mut state, 40_002, Outcome { end, ..outcome(&plan, &audit) });
    // Of another recipe; in parts of which some are missing.
    for (name, recipe, samples) in
        [("c", Some(common::digest::Digest::of(b"x")), &[0, 1, 2][..]), ("d", None, &[0])]
    {
        let mut node = Node::new(&mut state, &plan, name);
        let audit = node.ask(&mut state, 40_003).unwrap();
        assert_eq!(audit.candidate, first.candidate, "{name}");
        let end = Ending::Evaluated(part(&plan, &audit.recipe, samples));
        let honest = outcome(&plan, &audit);
        let wrong = Outcome { end, recipe: recipe.unwrap_or(honest.recipe), ..honest };
        let answer = node.hand_in(&mut state, 40_004, wrong);
        assert_eq!(answer.acknowledgements[0].receipt, Receipt::Refused);
    }
    assert_eq!((state.audits().open(), state.audited()), (0, count(0, 0, 1)));
}

#[test]
fn one_that_hangs_is_taken_back_although_it_is_renewed() {
    let plan = audited_plan(&["scheduling.stall_seconds=60"]);
    let (mut state, _, mut b, _) = one_scored(&plan);
    let audit = b.ask(&mut state, 6).unwrap();
    let mut said = |state: &mut State, now, samples_done| {
        let running = LeaseProgress { lease: audit.lease, stage: Stage::Generating, samples_done, begun: 1 };
        b.say(state, now, Exchange { running: vec![running], ..exchange(b.id, 0, 0) }).cancelled
    };
    for (seconds, samples) in [(20, 0), (40, 0), (60, 1), (80, 1), (100, 1), (120, 1)] {
        assert_eq!(said(&mut state, seconds * 1000, samples), [], "{seconds} s");
    }
    assert_eq!(said(&mut state, 140_000, 1), [audit.lease]);
    assert_eq!((state.audits().open(), state.audits().workers().count()), (1, 0));
}

#[test]
fn an_objective_that_differs_disagrees_although_the_fitness_does_not() {
    let plan = audited_plan(&[
        "search.algorithm=nsga-ii",
        "fitness={ rouge_l = 1.0 }",
        "objectives={ maximise = [\"fitness\", \"term_f1\"] }",
    ]);
    let (mut state, _, mut b, _) = one_scored(&plan);
    let audit = b.ask(&mut state, 6).unwrap();
    let mut evaluation = part(&plan, &audit.recipe, &audit.samples);
    for sample in &mut evaluation.samples {
        sample.scores.insert("term_f1".into(), 0.01);
    }
    b.hand_in(&mut state, 7, Outcome { end: Ending::Evaluated(evaluation), ..outcome(&plan, &audit) });
    assert_eq!(state.audited(), count(1, 1, 0));
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
    assert_eq!(state.audited(), count(1, 0, 0));
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
