//! Nodes that fail, hang or are to go, seen through the whole state machine.

use super::*;
use crate::testing::{begun, exchange, exchanged, outcome, plan, registered, registration};
use common::id::WorkerId;
use proto::convert::{
    End as Ending, Exchange, ExchangeAnswer, FailureKind, Grant, LeaseProgress, Outcome, Stage,
};
use proto::status::Class;

/// A node with one slot that takes what it is given.
struct Node {
    id: WorkerId,
    sequence: u64,
}

impl Node {
    fn new(state: &mut State, plan: &common::run::RunPlan, name: &str) -> Node {
        let id = registered(state, Millis(2), registration(plan, name));
        Node { id, sequence: 0 }
    }

    fn say(&mut self, state: &mut State, now: u64, slots: u32, outcomes: Vec<Outcome>) -> ExchangeAnswer {
        self.sequence += 1;
        let e = Exchange { outcomes, ..exchange(self.id, self.sequence, slots) };
        exchanged(state, Millis(now), e)
    }

    /// Asks for one candidate and fails it, or hands in what is right.
    fn work(&mut self, state: &mut State, now: u64, how: impl Fn(&Grant) -> Outcome) -> usize {
        let grants = self.say(state, now, 1, Vec::new()).grants;
        let outcomes: Vec<Outcome> = grants.iter().map(how).collect();
        self.say(state, now, 0, outcomes);
        grants.len()
    }
}

fn failing(kind: FailureKind) -> impl Fn(&Grant) -> Outcome {
    move |g| {
        let end = Ending::Failed { kind, reason: "out of memory".into() };
        Outcome { lease: g.lease, candidate: g.candidate, recipe: g.recipe.digest(), end }
    }
}

#[test]
fn a_node_that_fails_where_others_succeed_is_benched_and_says_so() {
    let plan = plan(&["search.evaluations=60"]);
    let mut state = begun(&plan);
    let (mut bad, mut good) = (Node::new(&mut state, &plan, "bad"), Node::new(&mut state, &plan, "good"));
    let (mut failures, mut benched) = (0, None);
    for now in 3..60 {
        failures += bad.work(&mut state, now, failing(FailureKind::Retryable));
        good.work(&mut state, now, |g| outcome(&plan, g));
        benched = state.conduct().bench("bad", Millis(now)).cloned();
        if benched.is_some() {
            break;
        }
    }
    let bench = benched.expect("it is benched");
    assert_eq!((bench.failures, &*bench.reason), (3, "out of memory"));
    assert_eq!(state.failed(), 0, "no candidate was given up for it");
    assert_eq!(bad.work(&mut state, 100, failing(FailureKind::Retryable)), 0, "nothing is lent to it");
    // The other does its share, those included that failed there.
    let mut now = 100;
    while state.end().is_none() {
        now += 1;
        assert_eq!(good.work(&mut state, now, |g| outcome(&plan, g)), 1, "nothing waits for a benched node");
    }
    assert_eq!(state.failed(), 0);
    assert!(failures < 10, "{failures}");
}

#[test]
fn a_benched_node_is_lent_to_when_it_is_over_or_nobody_else_is_here() {
    let plan = plan(&["search.evaluations=60"]);
    let mut state = begun(&plan);
    let (mut bad, mut good) = (Node::new(&mut state, &plan, "bad"), Node::new(&mut state, &plan, "good"));
    let mut now = 3;
    while state.conduct().bench("bad", Millis(now)).is_none() {
        bad.work(&mut state, now, failing(FailureKind::Retryable));
        good.work(&mut state, now, |g| outcome(&plan, g));
        now += 1;
    }
    let until = state.conduct().bench("bad", Millis(now)).unwrap().until.0;
    good.say(&mut state, until - 1, 0, Vec::new());
    assert_eq!(bad.say(&mut state, until - 1, 1, Vec::new()).grants.len(), 0);
    good.say(&mut state, until, 0, Vec::new());
    assert_eq!(bad.work(&mut state, until, |g| outcome(&plan, g)), 1, "it is over, and it works again");

    // The other one silently goes.
    let mut state = begun(&plan);
    let (mut bad, mut good) = (Node::new(&mut state, &plan, "bad"), Node::new(&mut state, &plan, "good"));
    let mut now = 3;
    while state.conduct().bench("bad", Millis(now)).is_none() {
        bad.work(&mut state, now, failing(FailureKind::Retryable));
        good.work(&mut state, now, |g| outcome(&plan, g));
        now += 1;
    }
    assert_eq!(bad.say(&mut state, now + 20_000, 1, Vec::new()).grants.len(), 0);
    assert_eq!(bad.say(&mut state, now + 60_000, 1, Vec::new()).grants.len(), 1);
}

#[test]
fn one_nodes_word_does_not_fail_a_candidate_while_another_can_be_asked() {
    let plan = plan(&["search.evaluations=12"]);
    let mut state = begun(&plan);
    let (mut bad, mut good) = (Node::new(&mut state, &plan, "bad"), Node::new(&mut state, &plan, "good"));
    for now in 3..200 {
        bad.work(&mut state, now, failing(FailureKind::Permanent));
        good.work(&mut state, now, |g| outcome(&plan, g));
    }
    assert_eq!((state.end(), state.failed()), (Some(&End::Evaluations), 0));

    // Where nobody else is here, or all say so, it is taken at its word.
    let mut state = begun(&plan);
    let mut one = Node::new(&mut state, &plan, "one");
    one.work(&mut state, 3, failing(FailureKind::Permanent));
    assert_eq!(state.failed(), 1);
    let mut two = Node::new(&mut state, &plan, "two");
    one.work(&mut state, 4, failing(FailureKind::Permanent));
    assert_eq!(state.failed(), 1);
    two.work(&mut state, 5, failing(FailureKind::Permanent));
    assert_eq!(state.failed(), 2);
}

fn drain(state: &mut State, now: u64, name: &str, drained: bool) -> Result<u64, Class> {
    match state.apply(Millis(now), Event::Drain(name.into(), drained)).reply {
        Some(Reply::Drained(reply)) => reply,
        other => panic!("not answered: {other:?}"),
    }
}

#[test]
fn a_drained_node_finishes_leaves_and_may_come_back() {
    let plan = plan(&[]);
    let mut state = begun(&plan);
    let (mut a, mut b) = (Node::new(&mut state, &plan, "a"), Node::new(&mut state, &plan, "b"));
    let grants = a.say(&mut state, 3, 2, Vec::new()).grants;
    assert_eq!(drain(&mut state, 4, "a", true), Ok(2));
    let message = drain(&mut state, 4, "c", true).unwrap_err().to_string();
    assert!(message.contains("\"c\"") && message.contains("a, b"), "{message}");

    let done = outcome(&plan, &grants[0]);
    let running =
        vec![LeaseProgress { lease: grants[1].lease, stage: Stage::Merging, samples_done: 0, begun: 0 }];
    a.sequence += 1;
    let e = Exchange { outcomes: vec![done], running, ..exchange(a.id, a.sequence, 1) };
    let answer = exchanged(&mut state, Millis(5), e);
    assert!(answer.drain && answer.grants.is_empty() && answer.cancelled.is_empty());
    assert!(!b.say(&mut state, 5, 0, Vec::new()).drain, "others are not meant");
    // It hands in the last, and leaves.
    a.sequence += 1;
    let e = Exchange {
        outcomes: vec![outcome(&plan, &grants[1])],
        leaving: true,
        ..exchange(a.id, a.sequence, 0)
    };
    exchanged(&mut state, Millis(6), e);
    assert_eq!(state.attempts_failed(), 0);
    // The node is back, under its name.
    let mut again = Node::new(&mut state, &plan, "a");
    let answer = again.say(&mut state, 7, 1, Vec::new());
    assert!(!answer.drain && answer.grants.len() == 1);
    // What was drained by mistake stays.
    assert_eq!(drain(&mut state, 8, "a", true), Ok(1));
    assert_eq!(drain(&mut state, 8, "a", false), Ok(1));
    assert!(!again.say(&mut state, 9, 0, Vec::new()).drain);
    // One that is drained and goes without a word, as when its machine is switched off, is forgotten with its silence.
    assert_eq!(drain(&mut state, 10, "a", true), Ok(1));
    let long = state.plan().scheduling.lease_seconds * 1000 * 11;
    state.apply(Millis(10 + long), Event::Tick);
    let id = registered(&mut state, Millis(11 + long), registration(&plan, "a"));
    let mut back = Node { id, sequence: 0 };
    assert!(!back.say(&mut state, 11 + long, 0, Vec::new()).drain);
}

#[test]
fn a_lease_that_hangs_is_taken_back_although_it_is_renewed() {
    let plan = plan(&["scheduling.stall_seconds=100", "scheduling.split=false"]);
    let mut state = begun(&plan);
    let (mut stuck, mut other) =
        (Node::new(&mut state, &plan, "stuck"), Node::new(&mut state, &plan, "other"));
    let grant = stuck.say(&mut state, 10, 1, Vec::new()).grants.remove(0);
    let mut beat = |state: &mut State, seconds: u64, stage, samples_done| {
        stuck.sequence += 1;
        let running = vec![LeaseProgress { lease: grant.lease, stage, samples_done, begun: 0 }];
        let e = Exchange { running, ..exchange(stuck.id, stuck.sequence, 0) };
        exchanged(state, Millis(10 + seconds * 1000), e)
    };
    // Another stage and another sample are progress.
    for (seconds, stage, samples) in
        [(90, Stage::Merging, 0), (180, Stage::Generating, 0), (270, Stage::Generating, 1)]
    {
        for s in seconds - 90..=seconds {
            assert!(beat(&mut state, s, stage, samples).cancelled.is_empty(), "at {s}");
        }
    }
    for s in 271..=280 {
        assert!(beat(&mut state, s, Stage::Generating, 1).cancelled.is_empty(), "at {s}");
    }
    assert_eq!(beat(&mut state, 281, Stage::Generating, 1).cancelled, [grant.lease]);
    let attempt = &state.candidate(grant.candidate).unwrap().attempts()[0];
    assert!(attempt.counts() && attempt.end.as_ref().unwrap().reason.contains("no progress for 100 s"));
    let again = other.say(&mut state, 282_500, 1, Vec::new()).grants.remove(0);
    assert_eq!(again.candidate, grant.candidate, "another takes it");
    // Should it come to after all, its result counts.
    stuck.say(&mut state, 283_000, 0, vec![outcome(&plan, &grant)]);
    assert!(state.candidate(grant.candidate).unwrap().fitness().is_some());
}

/// Numbers of leases can be guessed, and candidates and recipes are known to whoever was lent them once.
#[test]
fn nobody_ends_renews_or_takes_over_what_was_lent_to_another() {
    let plan = plan(&["scheduling.split=false"]);
    let mut state = begun(&plan);
    let (mut a, mut b) = (Node::new(&mut state, &plan, "a"), Node::new(&mut state, &plan, "b"));
    let theirs = a.say(&mut state, 3, 1, Vec::new()).grants.pop().unwrap();
    let own = b.say(&mut state, 4, 1, Vec::new()).grants.pop().unwrap();
    let before = state.candidate(theirs.candidate).unwrap().clone();
    let unharmed = |state: &State| {
        assert_eq!(state.candidate(theirs.candidate), Some(&before));
        assert_eq!(state.leases().get(theirs.lease).unwrap().worker, Some(a.id));
        assert!(state.roster().get(a.id).is_some() && state.conduct().bench("a", Millis(9)).is_none());
    };
    let of = |grant: &Grant, lease, end| Outcome {
        lease,
        candidate: grant.candidate,
        recipe: grant.recipe.digest(),
        end,
    };
    let end = || Ending::Failed { kind: FailureKind::Permanent, reason: "no".into() };
    // Failing it, by its own candidate's name or by one's own.
    for (grant, lease) in [(&theirs, theirs.lease), (&own, theirs.lease)] {
        let answer = b.say(&mut state, 5, 0, vec![of(grant, lease, end())]);
        assert_eq!(answer.acknowledgements[0].receipt, proto::convert::Receipt::Unknown);
        unharmed(&state);
    }
    // Nonsense, or a result, under its number.
    let mut nonsense = crate::testing::evaluate(&plan, &theirs.recipe);
    nonsense.samples[0].sample = "s9".into();
    for evaluation in [nonsense, crate::testing::evaluate(&plan, &theirs.recipe)] {
        let answer = b.say(&mut state, 6, 0, vec![of(&theirs, theirs.lease, Ending::Evaluated(evaluation))]);
        assert_eq!(answer.acknowledgements[0].receipt, proto::convert::Receipt::Unknown);
        unharmed(&state);
    }
    // Saying that one works on it, or holds it from before.
    let running = LeaseProgress { lease: theirs.lease, stage: Stage::Merging, samples_done: 0, begun: 0 };
    b.sequence += 1;
    let e = Exchange { running: vec![running], ..exchange(b.id, b.sequence, 0) };
    assert_eq!(exchanged(&mut state, Millis(7), e).cancelled, [theirs.lease]);
    unharmed(&state);
    for grant in [&theirs, &own] {
        let (lease, candidate, recipe) = (theirs.lease, grant.candidate, grant.recipe.digest());
        let held = vec![proto::convert::Held { lease, candidate, recipe }];
        let r = proto::convert::Registration { held, ..registration(&plan, "b") };
        let reply = state.apply(Millis(8), Event::Register(Box::new(r))).reply;
        assert!(
            matches!(&reply, Some(Reply::Registered(Ok(r))) if r.cancelled == [theirs.lease]),
            "{reply:?}"
        );
        unharmed(&state);
    }
    // Its worker goes on, also over another connection.
    let held = proto::convert::Held {
        lease: theirs.lease,
        candidate: theirs.candidate,
        recipe: theirs.recipe.digest(),
    };
    let r = proto::convert::Registration { held: vec![held], ..registration(&plan, "a") };
    let reply = state.apply(Millis(9), Event::Register(Box::new(r))).reply;
    assert!(matches!(&reply, Some(Reply::Registered(Ok(r))) if r.adopted == [theirs.lease]), "{reply:?}");
}

#[test]
fn a_text_that_was_to_stay_on_its_node_is_refused() {
    let mut plan = plan(&[]);
    plan.reports = common::run::Reports::Local;
    let mut state = begun(&plan);
    let mut node = Node::new(&mut state, &plan, "a");
    let grant = node.say(&mut state, 3, 1, Vec::new()).grants.pop().unwrap();
    let answer = node.say(&mut state, 4, 0, vec![outcome(&plan, &grant)]);
    let acknowledged = &answer.acknowledgements[0];
    assert_eq!(acknowledged.receipt, proto::convert::Receipt::Refused);
    assert_eq!(acknowledged.message, "sample 1 has a text that was to stay on its node");
    assert_eq!(state.samples_done(state.candidate(grant.candidate).unwrap()), 0, "nothing is written");
}
