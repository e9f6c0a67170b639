//! The state machine by itself: single cases first, then any order of events.

use super::*;
use crate::store::{Store, memory::Memory};
use crate::testing::{
    begun, evaluate, exchange, exchanged, found, manifest, outcome, plan, registered, registration,
    uninterrupted,
};
use candidate::Phase;
use common::digest::{Digest, FileDigest, Manifest};
use common::id::WorkerId;
use proptest::prelude::*;
use proto::convert::{
    End as Ending, Exchange, ExchangeAnswer, FailureKind, Grant, Held, LeaseProgress, Outcome, Receipt,
    Registration, Stage,
};
use proto::status::Class;
use std::collections::BTreeMap;

fn lent(state: &mut State, now: u64, slots: u32) -> (WorkerId, Vec<Grant>) {
    let plan = state.plan().clone();
    let worker = registered(state, Millis(now), registration(&plan, "w"));
    (worker, exchanged(state, Millis(now), exchange(worker, 1, slots)).grants)
}

fn failed(grant: &Grant, kind: FailureKind) -> Outcome {
    let end = Ending::Failed { kind, reason: "out of memory".into() };
    Outcome { lease: grant.lease, candidate: grant.candidate, recipe: grant.recipe.digest(), end }
}

fn refusal(state: &mut State, r: Registration) -> Class {
    match state.apply(Millis(5), Event::Register(Box::new(r))).reply {
        Some(Reply::Registered(Err(class))) => class,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn a_whole_search_ends_with_its_budget() {
    let state = uninterrupted(&plan(&[]));
    assert_eq!(state.end(), Some(&End::Evaluations));
    // 25 in generations of 6: the fifth is cut to one.
    assert_eq!((state.candidates().len(), state.generation()), (25, 5));
    let best = state.best().unwrap();
    assert!(state.candidates().iter().all(|c| c.fitness() <= Some(best.1)));
    assert_eq!(found(&state), found(&uninterrupted(&plan(&[]))));
    assert_ne!(found(&state), found(&uninterrupted(&plan(&["seed=12"]))));
}

#[test]
fn a_space_without_parameters_ends_after_one_evaluation() {
    let fixed = ["drop_rate", "trim_rate", "scale", "weight"].map(|p| format!("parameters.{p}=0.5"));
    let state = uninterrupted(&plan(&fixed.iter().map(String::as_str).collect::<Vec<_>>()));
    assert_eq!(state.candidates().len(), 1);
    assert!(state.end().unwrap().reason().contains("every parameter is fixed"));
}

#[test]
fn a_lost_lease_goes_to_another_and_the_late_result_still_counts() {
    let plan = plan(&[]);
    let mut state = begun(&plan);
    let (first, grants) = lent(&mut state, 10, 1);
    let (second, _) = lent(&mut state, 10, 0);
    assert!(exchanged(&mut state, Millis(20_000), exchange(second, 2, 1)).grants[0].candidate.0 == 2);
    // Past the first lease's 30 s: its candidate is the lowest that waits.
    let again = exchanged(&mut state, Millis(31_000), exchange(second, 3, 1)).grants;
    assert_eq!((again[0].candidate, again[0].attempt), (grants[0].candidate, 2));
    let late = Exchange { outcomes: vec![outcome(&plan, &grants[0])], ..exchange(first, 2, 0) };
    let receipt = exchanged(&mut state, Millis(32_000), late).acknowledgements[0].receipt;
    assert_eq!(receipt, Receipt::Recorded);
    // The other is told to stop, and what it hands in anyway changes nothing.
    let running =
        LeaseProgress { lease: again[0].lease, stage: Stage::Generating, samples_done: 1, begun: 0 };
    let e = Exchange { running: vec![running], ..exchange(second, 4, 0) };
    assert_eq!(exchanged(&mut state, Millis(33_000), e).cancelled, [again[0].lease]);
    let before = state.candidate(again[0].candidate).unwrap().clone();
    let e = Exchange { outcomes: vec![outcome(&plan, &again[0])], ..exchange(second, 5, 0) };
    assert_eq!(exchanged(&mut state, Millis(34_000), e).acknowledgements[0].receipt, Receipt::Duplicate);
    assert_eq!(state.candidate(again[0].candidate), Some(&before));
}

#[test]
fn renewal_keeps_a_lease_and_a_stalled_worker_gets_it_back() {
    let plan = plan(&[]);
    let mut state = begun(&plan);
    let (worker, grants) = lent(&mut state, 0, 1);
    let running = LeaseProgress { lease: grants[0].lease, stage: Stage::Merging, samples_done: 0, begun: 0 };
    let renew = |sequence| Exchange { running: vec![running], ..exchange(worker, sequence, 0) };
    for i in 1..5 {
        assert_eq!(exchanged(&mut state, Millis(20_000 * i), renew(1 + i)).cancelled, []);
    }
    state.apply(Millis(120_000), Event::Tick);
    assert!(state.leases().is_empty());
    assert_eq!(exchanged(&mut state, Millis(121_000), renew(6)).cancelled, []);
    let candidate = state.candidate(grants[0].candidate).unwrap();
    assert_eq!((candidate.attempts().len(), candidate.counted_attempts()), (1, 0));
}

#[test]
fn attempts_are_bounded_and_the_run_goes_on() {
    let plan = plan(&[]);
    let mut state = begun(&plan);
    let (worker, mut grants) = lent(&mut state, 10, 1);
    let mut sequence = 1;
    for attempt in 1..=3 {
        assert_eq!((grants[0].candidate, grants[0].attempt), (CandidateId(1), attempt));
        sequence += 1;
        let outcomes = vec![failed(&grants[0], FailureKind::Retryable)];
        grants =
            exchanged(&mut state, Millis(10), Exchange { outcomes, ..exchange(worker, sequence, 1) }).grants;
    }
    let candidate = state.candidate(CandidateId(1)).unwrap();
    assert_eq!(candidate.phase(), &Phase::Failed);
    assert!(candidate.attempts().iter().all(|a| a.end.as_ref().unwrap().reason == "out of memory"));
    assert_eq!(grants[0].candidate, CandidateId(2));
    sequence += 1;
    let outcomes = vec![failed(&grants[0], FailureKind::Permanent)];
    exchanged(&mut state, Millis(10), Exchange { outcomes, ..exchange(worker, sequence, 0) });
    assert_eq!(state.candidate(CandidateId(2)).unwrap().phase(), &Phase::Failed);
}

#[test]
fn nonsense_is_a_failed_attempt_with_its_reason() {
    let plan = plan(&[]);
    let mut state = begun(&plan);
    let (worker, grants) = lent(&mut state, 10, 2);
    let mut nan = outcome(&plan, &grants[0]);
    let mut short = outcome(&plan, &grants[1]);
    for (o, nonsense) in [(&mut nan, true), (&mut short, false)] {
        let Ending::Evaluated(e) = &mut o.end else { unreachable!("an honest outcome is an evaluation") };
        match nonsense {
            true => *e.samples[1].scores.get_mut("rouge_l").unwrap() = f64::NAN,
            false => drop(e.samples.pop()),
        }
    }
    let e = Exchange { outcomes: vec![nan, short], ..exchange(worker, 2, 0) };
    let acks = exchanged(&mut state, Millis(20), e).acknowledgements;
    assert!(acks.iter().all(|a| a.receipt == Receipt::Refused));
    assert!(acks[0].message.contains("rouge_l") && acks[1].message.contains("1 of its samples"), "{acks:?}");
    assert_eq!(state.candidate(CandidateId(1)).unwrap().counted_attempts(), 1);
}

#[test]
fn a_repeated_number_gets_the_same_reply_and_an_older_one_none() {
    let plan = plan(&[]);
    let mut state = begun(&plan);
    let (worker, grants) = lent(&mut state, 10, 2);
    let again = exchanged(&mut state, Millis(20), exchange(worker, 1, 2));
    assert_eq!((again.grants, state.leases().len()), (grants, 2));
    exchanged(&mut state, Millis(30), exchange(worker, 2, 0));
    let reply = state.apply(Millis(40), Event::Exchange(Box::new(exchange(worker, 1, 2)))).reply;
    assert!(
        matches!(reply, Some(Reply::Exchanged(Err(Class::BadInput { field, .. }))) if field == "sequence")
    );
    let reply = state.apply(Millis(40), Event::Exchange(Box::new(exchange(WorkerId(9), 1, 2)))).reply;
    assert!(matches!(reply, Some(Reply::Exchanged(Err(Class::UnknownWorker)))));
}

#[test]
fn workers_that_differ_are_turned_away_by_name() {
    let plan = plan(&[]);
    let mut state = begun(&plan);
    let honest = registration(&plan, "w");
    let version = Registration { program_version: "0.0.1".into(), ..honest.clone() };
    assert!(matches!(refusal(&mut state, version), Class::Version(t) if t.contains("program version")));
    let other_plan = Registration { plan: Digest::of(b"other"), ..honest.clone() };
    assert!(matches!(refusal(&mut state, other_plan), Class::Version(t) if t.contains("plan")));
    // The first worker pins what the coordinator did not see; the next one has to match.
    assert!(!state.pinned().complete);
    registered(&mut state, Millis(5), honest.clone());
    let mut files = manifest().files().to_vec();
    files[1].digest = Digest::of(b"changed");
    files.push(FileDigest { name: "models/base/extra.bin".into(), bytes: 1, digest: Digest::of(b"x") });
    let changed = Registration { manifest: Manifest::new(files), ..honest.clone() };
    let Class::Files { files } = refusal(&mut state, changed) else { panic!("not by files") };
    assert!(files[0].starts_with("models/base/config.json: content differs"), "{files:?}");
    assert!(files[1].starts_with("models/base/extra.bin: unknown"), "{files:?}");
    registered(&mut state, Millis(5), honest);
}

#[test]
fn what_the_coordinator_saw_binds_the_first_worker_too() {
    let plan = plan(&[]);
    let seen = FileDigest { name: "dataset/d.jsonl".into(), bytes: 9, digest: Digest::of(b"seen") };
    let durable = Durable::new(&plan, Manifest::new(vec![seen]), Millis(1));
    let mut state = State::restore(durable).unwrap();
    state.apply(Millis(1), Event::Start);
    let class = refusal(&mut state, registration(&plan, "w"));
    assert!(matches!(class, Class::Files { files } if files.len() == 1 && files[0].contains("d.jsonl")));
    assert!(!state.pinned().complete);
}

#[test]
fn after_a_restart_workers_are_adopted_and_the_rest_goes_to_others_uncounted() {
    let plan = plan(&[]);
    let mut state = begun(&plan);
    let (_, grants) = lent(&mut state, 10, 2);
    let mut state = State::restore(state.durable()).unwrap();
    state.apply(Millis(1_000), Event::Start);
    // Nothing that may still be running is lent again during the grace.
    let (_, fresh) = lent(&mut state, 1_100, 1);
    assert_eq!(fresh[0].candidate, CandidateId(3));
    let held =
        Held { lease: grants[0].lease, candidate: grants[0].candidate, recipe: grants[0].recipe.digest() };
    let stranger = Held { recipe: Digest::of(b"other"), ..held.clone() };
    let r = Registration { held: vec![held.clone(), stranger], ..registration(&plan, "back") };
    let reply = state.apply(Millis(2_000), Event::Register(Box::new(r))).reply;
    let Some(Reply::Registered(Ok(r))) = reply else { panic!("not registered") };
    assert_eq!((r.adopted.as_slice(), r.cancelled.as_slice()), (&[held.lease][..], &[held.lease][..]));
    state.apply(Millis(12_000), Event::Tick);
    assert!(state.candidate(CandidateId(2)).unwrap().is_waiting());
    assert_eq!(state.candidate(CandidateId(2)).unwrap().counted_attempts(), 0);
    let outcomes = vec![outcome(&plan, &grants[0])];
    let answer = exchanged(&mut state, Millis(13_000), Exchange { outcomes, ..exchange(r.worker, 1, 1) });
    assert_eq!(answer.acknowledgements[0].receipt, Receipt::Recorded);
    assert_eq!(answer.grants[0].candidate, CandidateId(2));
    assert!(answer.grants[0].lease.0 > grants[1].lease.0, "lease numbers are never used twice");
}

#[test]
fn a_leaving_worker_gives_everything_back() {
    let plan = plan(&[]);
    let mut state = begun(&plan);
    let (worker, _) = lent(&mut state, 10, 2);
    exchanged(&mut state, Millis(20), Exchange { leaving: true, ..exchange(worker, 2, 2) });
    assert!(state.leases().is_empty() && state.roster().is_empty());
    assert!(state.candidates().iter().all(|c| c.is_waiting() && c.counted_attempts() == 0));
}

#[test]
fn the_time_budget_spans_restarts_and_ends_the_run() {
    let plan = plan(&["search.hours=0.01"]);
    let mut state = begun(&plan);
    lent(&mut state, 10, 2);
    state.apply(Millis(20_000), Event::Tick);
    let mut state = State::restore(state.durable()).unwrap();
    state.apply(Millis(900_000), Event::Start);
    state.apply(Millis(915_000), Event::Tick);
    assert_eq!(state.end(), None);
    let changes = state.apply(Millis(917_000), Event::Tick);
    assert_eq!(state.end(), Some(&End::Hours));
    assert!(changes.notes.iter().any(|n| matches!(n, Note::Finished { .. })));
    assert!(state.leases().is_empty());
}

#[test]
fn a_stopping_coordinator_lends_nothing_but_takes_results() {
    let plan = plan(&[]);
    let mut state = begun(&plan);
    let (worker, grants) = lent(&mut state, 10, 1);
    state.apply(Millis(20), Event::Stop);
    let outcomes = vec![outcome(&plan, &grants[0])];
    let answer = exchanged(&mut state, Millis(30), Exchange { outcomes, ..exchange(worker, 2, 1) });
    assert_eq!((answer.state, answer.grants.len()), (RunState::Stopping, 0));
    assert_eq!(answer.acknowledgements[0].receipt, Receipt::Recorded);
}

#[test]
fn a_second_result_that_differs_is_noted_and_does_not_count() {
    let plan = plan(&[]);
    let mut state = begun(&plan);
    let (worker, grants) = lent(&mut state, 10, 1);
    let mut other = outcome(&plan, &grants[0]);
    other.end = Ending::Evaluated(evaluate(&plan, &plan.authors_middle()));
    let outcomes = vec![outcome(&plan, &grants[0])];
    exchanged(&mut state, Millis(20), Exchange { outcomes, ..exchange(worker, 2, 0) });
    let fitness = state.candidate(CandidateId(1)).unwrap().fitness();
    let e = Exchange { outcomes: vec![other], ..exchange(worker, 3, 0) };
    let changes = state.apply(Millis(30), Event::Exchange(Box::new(e)));
    assert!(changes.notes.iter().any(|n| matches!(n, Note::Disagreement { .. })));
    assert_eq!(state.candidate(CandidateId(1)).unwrap().fitness(), fitness);
}

/// One thing that may happen, with two numbers to say to whom and how much.
#[derive(Clone, Copy, Debug)]
struct Step {
    kind: u8,
    who: usize,
    much: u64,
}

fn steps(kinds: u8) -> impl Strategy<Value = Vec<Step>> {
    let step = (0..kinds, 0usize..8, any::<u64>()).prop_map(|(kind, who, much)| Step { kind, who, much });
    prop::collection::vec(step, 1..160)
}

/// A worker as it sees itself.
#[derive(Clone, Default)]
struct Worker {
    id: Option<WorkerId>,
    sequence: u64,
    last: Option<(Exchange, ExchangeAnswer)>,
    running: BTreeMap<LeaseId, Grant>,
    done: BTreeMap<LeaseId, Outcome>,
}

/// State, store and workers, with what must hold checked after every event.
struct World {
    plan: RunPlan,
    state: State,
    store: Memory,
    now: Millis,
    workers: Vec<Worker>,
    scores: BTreeMap<CandidateId, candidate::Score>,
}

impl World {
    fn new(plan: RunPlan, workers: usize) -> World {
        let durable = Durable::new(&plan, Manifest::default(), Millis(0));
        let mut store = Memory::default();
        store.commit(&durable.records()).unwrap();
        let state = State::restore(durable).unwrap();
        let workers = vec![Worker::default(); workers];
        let mut world = World { plan, state, store, now: Millis(0), workers, scores: BTreeMap::new() };
        world.apply(Event::Start);
        world
    }

    fn apply(&mut self, event: Event) -> Option<Reply> {
        let changes = self.state.apply(self.now, event);
        self.store.commit(&changes.records).unwrap();
        assert_eq!(invariant::broken(&self.state), None);
        assert_eq!(self.store.load().unwrap().unwrap(), self.state.durable(), "replay equals memory");
        for c in self.state.candidates() {
            if let Phase::Scored(score) = c.phase() {
                let first = self.scores.entry(c.id()).or_insert_with(|| score.clone());
                assert_eq!(first, score, "a scored candidate never changes");
            }
        }
        changes.reply
    }

    fn crash(&mut self) {
        self.state = State::restore(self.store.load().unwrap().unwrap()).unwrap();
        self.apply(Event::Start);
    }

    /// Registers where necessary, then exchanges, and does as it is told.
    fn exchange(&mut self, who: usize, slots: u32, leaving: bool) {
        let mut w = self.workers[who].clone();
        let id = match w.id {
            Some(id) => id,
            None => {
                let computed = w.done.values().map(|o| (o.lease, o.candidate, o.recipe));
                let running = w.running.values().map(|g| (g.lease, g.candidate, g.recipe.digest()));
                let held = computed.chain(running).map(|(lease, candidate, recipe)| Held {
                    lease,
                    candidate,
                    recipe,
                });
                let r = Registration {
                    held: held.collect(),
                    slots: 8,
                    ..registration(&self.plan, &format!("w{who}"))
                };
                let Some(Reply::Registered(Ok(r))) = self.apply(Event::Register(Box::new(r))) else {
                    panic!("an honest worker is taken")
                };
                r.cancelled.iter().for_each(|l| drop(w.running.remove(l)));
                w.sequence = 0;
                *w.id.insert(r.worker)
            }
        };
        w.sequence += 1;
        let progress = |lease: &LeaseId| LeaseProgress {
            lease: *lease,
            stage: Stage::Merging,
            samples_done: 0,
            begun: 0,
        };
        let e = Exchange {
            running: w.running.keys().map(progress).collect(),
            outcomes: w.done.values().cloned().collect(),
            leaving,
            ..exchange(id, w.sequence, slots)
        };
        match self.apply(Event::Exchange(Box::new(e.clone()))) {
            Some(Reply::Exchanged(Ok(answer))) => {
                assert_eq!(answer.acknowledgements.len(), e.outcomes.len());
                w.done.clear();
                answer.cancelled.iter().for_each(|l| drop(w.running.remove(l)));
                w.running.extend(answer.grants.iter().map(|g| (g.lease, g.clone())));
                w.last = Some((e, answer));
                if leaving {
                    w = Worker::default();
                }
            }
            Some(Reply::Exchanged(Err(Class::UnknownWorker))) => (w.id, w.last) = (None, None),
            other => panic!("not answered: {other:?}"),
        }
        self.workers[who] = w;
    }

    fn finish_one(&mut self, step: Step, make: impl FnOnce(&RunPlan, &Grant) -> Outcome) {
        let plan = self.plan.clone();
        let count = self.workers.len();
        let w = &mut self.workers[step.who % count];
        let lease = w.running.keys().nth(step.much as usize % w.running.len().max(1)).copied();
        if let Some(grant) = lease.and_then(|l| w.running.remove(&l)) {
            w.done.insert(grant.lease, make(&plan, &grant));
        }
    }

    /// Kinds 0 to 8 are mishaps that cost no attempt that counts beyond `attempts`; 9 and 10 are failures.
    fn step(&mut self, step: Step) {
        let who = step.who % self.workers.len();
        self.now = self.now + Duration::from_millis(step.much % 500);
        match step.kind {
            0..=2 => self.exchange(who, (step.much % 4) as u32, false),
            3..=4 => self.finish_one(step, outcome),
            5 => {
                self.now = self.now + Duration::from_millis(step.much % 60_000);
                self.apply(Event::Tick);
            }
            6 => self.crash(),
            7 => {
                // Vanishes with everything it had, and comes back knowing nothing.
                self.workers[who] = Worker::default();
            }
            8 => {
                // The reply was lost: the same request again. It is known unless there was a crash.
                if let Some((e, answer)) = self.workers[who].last.clone() {
                    match self.apply(Event::Exchange(Box::new(e))) {
                        Some(Reply::Exchanged(Ok(again))) => assert_eq!(again, answer),
                        other => assert!(matches!(other, Some(Reply::Exchanged(Err(Class::UnknownWorker))))),
                    }
                }
            }
            9 => self.exchange(who, 1, true),
            10 => self.finish_one(step, |_, g| failed(g, FailureKind::Retryable)),
            11 => self.finish_one(step, |_, g| failed(g, FailureKind::HandedBack)),
            12 => self.finish_one(step, |_, g| failed(g, FailureKind::Permanent)),
            _ => self.finish_one(step, |plan, g| {
                let mut o = outcome(plan, g);
                if let Ending::Evaluated(e) = &mut o.end {
                    e.samples[0].sample = "s0".into();
                }
                o
            }),
        }
    }

    /// Lets healthy workers do the rest.
    fn drain(&mut self) {
        for round in 0.. {
            if self.state.end().is_some() {
                return;
            }
            assert!(round < 2_000, "no end in sight: a candidate is lost");
            for who in 0..self.workers.len() {
                self.exchange(who, 2, false);
                self.finish_one(Step { kind: 3, who, much: 0 }, outcome);
            }
            self.now = self.now + Duration::from_secs(1);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Lost workers, lost replies, stalls, crashes: as long as no candidate fails for good, the search is the
    /// one that a single worker does undisturbed.
    #[test]
    fn mishaps_and_order_change_nothing(steps in steps(10), workers in 1usize..7) {
        let plan = plan(&["scheduling.attempts=100"]);
        let mut world = World::new(plan.clone(), workers);
        steps.into_iter().for_each(|s| world.step(s));
        world.drain();
        prop_assert_eq!(found(&world.state), found(&uninterrupted(&plan)));
        prop_assert_eq!(world.state.best(), uninterrupted(&plan).best());
    }

    /// With failures too, the run ends, within its attempts, with every candidate final.
    #[test]
    fn failures_never_stop_the_run(steps in steps(14), workers in 1usize..7) {
        let mut world = World::new(plan(&[]), workers);
        steps.into_iter().for_each(|s| world.step(s));
        world.drain();
        prop_assert_eq!(world.state.candidates().len(), 25);
        prop_assert!(world.state.candidates().iter().all(candidate::Candidate::is_final));
    }
}
