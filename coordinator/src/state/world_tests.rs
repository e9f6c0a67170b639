//! The state machine, its store and workers as they see themselves, under any order of events.

use super::*;
use crate::store::{Store, memory::Memory};
use crate::testing::{evaluate, exchange, outcome, plan, registration, report, uninterrupted, with_samples};
use candidate::Phase;
use common::digest::Manifest;
use common::id::WorkerId;
use proptest::prelude::*;
use proto::convert::{
    End as Ending, Exchange, ExchangeAnswer, FailureKind, Grant, Held, LeaseProgress, Outcome, Registration,
    Report, Stage,
};
use proto::status::Class;
use std::collections::{BTreeMap, BTreeSet};

fn failed(grant: &Grant, kind: FailureKind) -> Outcome {
    let end = Ending::Failed { kind, reason: "out of memory".into() };
    Outcome { lease: grant.lease, candidate: grant.candidate, recipe: grant.recipe.digest(), end }
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
    /// Of these, positions that are finished.
    finished: BTreeMap<LeaseId, BTreeSet<u32>>,
    done: BTreeMap<LeaseId, Outcome>,
}

impl Worker {
    fn progress(&self, plan: &RunPlan) -> Vec<LeaseProgress> {
        let of = |lease: &LeaseId| {
            let last = self.finished.get(lease).and_then(|f| f.last()).copied();
            // Whoever finished a sample has begun its batch.
            let begun = last.map_or(0, |p| plan.batch(p / plan.generation.batch_size).end);
            LeaseProgress { lease: *lease, stage: Stage::Generating, samples_done: 0, begun }
        };
        self.running.keys().map(of).collect()
    }

    /// Every finished sample of what runs, again and again: a repeated one changes nothing.
    fn reports(&self, plan: &RunPlan) -> Vec<Report> {
        let of = |(lease, done): (&LeaseId, &BTreeSet<u32>)| {
            let positions: Vec<u32> = done.iter().copied().collect();
            Some(report(plan, self.running.get(lease)?, &positions))
        };
        self.finished.iter().filter_map(of).collect()
    }

    fn obey(&mut self, answer: &ExchangeAnswer) {
        answer.cancelled.iter().for_each(|l| drop(self.running.remove(l)));
        for remainder in &answer.remainders {
            if let Some(grant) = self.running.get_mut(&remainder.lease) {
                grant.samples.retain(|p| remainder.samples.contains(p));
            }
        }
        self.running.extend(answer.grants.iter().map(|g| (g.lease, g.clone())));
        self.finished.retain(|lease, _| self.running.contains_key(lease));
    }
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
        let mut state = State::restore(durable).unwrap();
        state.keep_few();
        let workers = vec![Worker::default(); workers];
        let mut world = World { plan, state, store, now: Millis(0), workers, scores: BTreeMap::new() };
        world.apply(Event::Start);
        world
    }

    fn apply(&mut self, event: Event) -> Option<Reply> {
        let changes = self.state.apply(self.now, event);
        self.store.commit(&changes.records).unwrap();
        assert_eq!(invariant::broken(&self.state), None);
        let mut stored = self.store.load().unwrap().unwrap();
        for c in &stored.candidates {
            if let Phase::Scored(score) = c.phase() {
                let first = self.scores.entry(c.id()).or_insert_with(|| score.clone());
                assert_eq!(first, score, "a scored candidate never changes");
            }
        }
        let gone = stored.candidates.drain(..self.state.candidates().forgotten());
        assert!(gone.into_iter().all(|c| c.is_final()), "what may change is in memory");
        assert_eq!(stored, self.state.durable(), "replay equals memory");
        changes.reply
    }

    /// What a coordinator that starts now would find.
    fn stored(&self) -> State {
        State::restore(self.store.load().unwrap().unwrap()).unwrap()
    }

    fn crash(&mut self) {
        self.state = self.stored();
        self.state.keep_few();
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
        let e = Exchange {
            running: w.progress(&self.plan),
            reports: w.reports(&self.plan),
            outcomes: w.done.values().cloned().collect(),
            leaving,
            ..exchange(id, w.sequence, slots)
        };
        match self.apply(Event::Exchange(Box::new(e.clone()))) {
            Some(Reply::Exchanged(Ok(answer))) => {
                assert_eq!(answer.acknowledgements.len(), e.outcomes.len());
                w.done.clear();
                w.obey(&answer);
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

    /// Finishes some samples of a lease, in any order; they go up with the worker's next exchange, if there is one.
    fn finish_some(&mut self, step: Step) {
        let count = self.workers.len();
        let w = &mut self.workers[step.who % count];
        let lease = w.running.keys().nth(step.much as usize % w.running.len().max(1)).copied();
        if let Some((lease, grant)) = lease.and_then(|l| Some((l, w.running.get(&l)?))) {
            let some = grant.samples.iter().filter(|p| (step.much >> (**p % 64)) & 1 == 1).copied();
            w.finished.entry(lease).or_default().extend(some);
        }
    }

    /// Kinds 0 to 11 are mishaps that cost no attempt that counts beyond `attempts`; those after it are failures.
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
            9 => self.finish_some(step),
            10 => {
                // Idle slots are asked again whether they can help.
                self.apply(Event::Tick);
                self.exchange(who, 4, false);
            }
            11 => self.exchange(who, 1, true),
            12 => self.finish_one(step, |_, g| failed(g, FailureKind::Retryable)),
            13 => self.finish_one(step, |_, g| failed(g, FailureKind::HandedBack)),
            14 => self.finish_one(step, |_, g| failed(g, FailureKind::Permanent)),
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

/// Plans whose candidates are of several batches, with and without what ends or splits them.
fn plans() -> impl Strategy<Value = RunPlan> {
    let choices = (1u32..9, any::<bool>(), any::<bool>(), any::<bool>());
    choices.prop_map(|(batch, hopeless, split, redo)| {
        let mut sets = vec!["scheduling.attempts=100", "generation.max_new_tokens=64"];
        if hopeless {
            sets.push("early_stop.hopeless=0.9");
        }
        if !split {
            sets.push("scheduling.split=false");
        }
        if redo {
            sets.push("scheduling.redo=batch");
        }
        with_samples(plan(&sets), 24, batch * 3)
    })
}

/// What became of every candidate: everything that the search is told, and every text.
fn told(state: &State) -> Vec<(common::genome::Genome, Phase)> {
    let timeless = |phase: &Phase| match phase.clone() {
        Phase::Scored(s) => Phase::Scored(candidate::Score { timings: Default::default(), ..s }),
        // How much more than what ended it was there depends on the order of arrival; the bound does not.
        Phase::Censored(c) => {
            Phase::Censored(candidate::Censored { samples: 0, timings: Default::default(), ..c })
        }
        other => other,
    };
    state.candidates().iter().map(|c| (c.genome().clone(), timeless(c.phase()))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Lost workers, lost replies, stalls, crashes, samples that come one by one and twice, candidates that are shared:
    /// as long as no candidate fails for good, the search is the one that a single worker does undisturbed.
    #[test]
    fn mishaps_and_order_change_nothing(steps in steps(12), workers in 1usize..7, plan in plans()) {
        let mut world = World::new(plan.clone(), workers);
        steps.into_iter().for_each(|s| world.step(s));
        world.drain();
        prop_assert_eq!(told(&world.stored()), told(&uninterrupted(&plan)));
        prop_assert_eq!(world.state.best(), uninterrupted(&plan).best());
        for c in world.stored().candidates().iter().filter(|c| c.fitness().is_some()) {
            let joined = world.store.evaluation(c.id()).unwrap().unwrap();
            prop_assert_eq!(joined.samples, evaluate(&plan, &plan.recipe(c.genome())).samples);
        }
    }

    /// With failures too, the run ends, within its attempts, with every candidate final.
    #[test]
    fn failures_never_stop_the_run(steps in steps(16), workers in 1usize..7, batch in 1u32..4) {
        let mut world = World::new(with_samples(plan(&[]), 3, batch), workers);
        steps.into_iter().for_each(|s| world.step(s));
        world.drain();
        prop_assert_eq!(world.state.candidates().len(), 25);
        prop_assert!(world.stored().candidates().iter().all(candidate::Candidate::is_final));
    }
}
