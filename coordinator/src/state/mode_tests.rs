//! Both modes under any order of arrival and any number of kills; budgets; pausing; extending.

use super::*;
use crate::store::{Store, memory::Memory};
use crate::testing::{
    begun, exchange, exchanged, found, outcome, plan, registered, registration, uninterrupted, with_samples,
};
use common::run::Extension;
use proptest::prelude::*;
use proto::convert::{Exchange, Grant};

/// A state with its store and one worker of eight slots, which finishes in any order.
struct World {
    plan: RunPlan,
    state: State,
    store: Memory,
    now: u64,
    worker: common::id::WorkerId,
    sequence: u64,
    running: Vec<Grant>,
}

impl World {
    fn new(overrides: &[&str]) -> World {
        World::of(plan(overrides))
    }

    fn of(plan: RunPlan) -> World {
        let durable = Durable::new(&plan, Default::default(), Millis(0));
        let mut store = Memory::default();
        store.commit(&durable.records()).unwrap();
        let mut state = State::restore(durable).unwrap();
        state.keep_few();
        let worker = common::id::WorkerId(0);
        let mut world = World { plan, state, store, now: 0, worker, sequence: 0, running: Vec::new() };
        world.begin();
        world
    }

    fn apply(&mut self, event: Event) -> Option<Reply> {
        let changes = self.state.apply(Millis(self.now), event);
        self.store.commit(&changes.records).unwrap();
        assert_eq!(invariant::broken(&self.state), None);
        let mut stored = self.store.load().unwrap().unwrap();
        let all = stored.candidates.clone();
        stored.candidates.drain(..self.state.candidates().forgotten());
        assert_eq!(stored, self.state.durable(), "the store equals memory");
        stored.candidates = all;
        // Checkpoint and tail lead to the search as it is, whenever the process is killed.
        let restored = State::restore(stored).unwrap();
        assert_eq!(restored.search_snapshot(), self.state.search_snapshot());
        assert_eq!(restored.course.place(), self.state.course.place());
        assert_eq!((restored.best(), restored.budget), (self.state.best(), self.state.budget));
        assert!(restored.front().eq(self.state.front()));

        changes.reply
    }

    /// The coordinator starts, and the worker comes back with nothing.
    fn begin(&mut self) {
        self.apply(Event::Start);
        self.now += 60_000;
        self.apply(Event::Tick);
        let r = proto::convert::Registration { slots: 8, ..registration(&self.plan, "w") };
        let Some(Reply::Registered(Ok(r))) = self.apply(Event::Register(Box::new(r))) else {
            panic!("refused")
        };
        (self.worker, self.sequence, self.running) = (r.worker, 0, Vec::new());
    }

    /// What a coordinator that starts now would find.
    fn stored(&self) -> State {
        State::restore(self.store.load().unwrap().unwrap()).unwrap()
    }

    fn kill(&mut self) {
        self.state = self.stored();
        self.state.keep_few();
        self.begin();
    }

    /// Hands in the `which`th of what runs and takes as many as fit.
    fn exchange(&mut self, which: Option<usize>, slots: usize) {
        let done =
            which.filter(|_| !self.running.is_empty()).map(|i| self.running.remove(i % self.running.len()));
        self.sequence += 1;
        let e = Exchange {
            outcomes: done.iter().map(|g| outcome(&self.plan, g)).collect(),
            running: Vec::new(),
            ..exchange(self.worker, self.sequence, slots.saturating_sub(self.running.len()) as u32)
        };
        if let Some(Reply::Exchanged(Ok(a))) = self.apply(Event::Exchange(Box::new(e))) {
            self.running.extend(a.grants);
        }
        self.now += 10;
    }

    fn drain(&mut self) {
        for _ in 0..500 {
            if self.state.end().is_some() {
                return;
            }
            self.exchange(Some(0), 3);
        }
        panic!("no end in sight");
    }

    fn replayed(&self) -> super::replay::Replayed {
        self.stored().replay(|from, most| self.store.journal(from, most)).unwrap()
    }
}

fn steps() -> impl Strategy<Value = Vec<(u8, usize)>> {
    prop::collection::vec((0u8..10, 0usize..8), 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Arrivals in any order and kills at any time: the journal replays to the exact state, in both modes; and in
    /// generational mode the genomes are those of one worker undisturbed.
    #[test]
    fn the_journal_replays_exactly(
        steps in steps(), asynchronous: bool, algorithm in 0usize..4, hopeless: bool,
    ) {
        let mut sets = vec![
            ["search.mode=generational", "search.mode=asynchronous"][usize::from(asynchronous)],
            ["search.algorithm=cma-es", "search.algorithm=random", "search.algorithm=tpe", "search.algorithm=nsga-ii"]
                [algorithm],
            "scheduling.attempts=100",
            ["scheduling.split=false", "scheduling.split=true"][usize::from(hopeless)],
        ];
        if hopeless {
            sets.push("early_stop.hopeless=0.9");
        }
        if algorithm == 3 {
            sets.push("objectives={ maximise = [\"rouge_l\", \"term_f1\"] }");
        }
        let mut world = World::of(with_samples(plan(&sets), 20, 9));
        for (kind, which) in steps {
            match kind {
                0 => world.kill(),
                1 => drop(world.apply(Event::Tick)),
                2 => world.exchange(None, 1 + which),
                _ => world.exchange(Some(which), 8),
            }
            prop_assert_eq!(world.replayed().parts, None);
        }
        world.drain();
        prop_assert_eq!(world.state.candidates().len(), 25);
        let used = |c: &Candidate| c.fitness().is_some() || matches!(c.phase(), candidate::Phase::Censored(_));
        prop_assert!(world.stored().candidates().iter().all(used), "nothing is left unused");
        let replayed = world.replayed();
        prop_assert_eq!((replayed.parts, replayed.results), (None, 25));
        if !asynchronous {
            prop_assert_eq!(found(&world.stored()), found(&uninterrupted(&world.plan)));
        }
    }

    /// Cut anywhere and extended, a generational run goes on as if its budget had been the larger one from the start.
    #[test]
    fn an_extended_run_is_the_longer_run(evaluations in 1u64..24, kill: bool) {
        let mut world = World::new(&[&format!("search.evaluations={evaluations}")]);
        world.drain();
        prop_assert_eq!(world.state.end(), Some(&End::Evaluations));
        let budget = Budget { evaluations: 25, ..*world.state.budget() };
        let reply = world.apply(Event::Extend(Extension { evaluations: Some(25), ..Extension::default() }));
        prop_assert!(matches!(reply, Some(Reply::Extended(Ok(b))) if b == budget));
        if kill {
            world.kill();
        }
        world.drain();
        prop_assert_eq!(found(&world.stored()), found(&uninterrupted(&plan(&[]))));
        prop_assert_eq!(world.replayed().parts, None);
    }
}

/// Memory holds what is being evaluated, however many there were.
#[test]
fn what_cannot_change_any_more_leaves_memory() {
    for mode in ["search.mode=generational", "search.mode=asynchronous"] {
        let mut world = World::new(&[mode, "search.evaluations=200", "early_stop.hopeless=0.9"]);
        let population = world.plan.search.population;
        while world.state.end().is_none() {
            world.exchange(Some(0), 3);
            let kept = world.state.candidates().kept().len();
            assert!(kept <= population + 3, "{mode}: {kept} kept");
        }
        assert_eq!(world.state.candidates().len(), 200);
        let (best, fitness) = world.state.best().unwrap();
        assert_eq!(world.state.candidate(best).and_then(|c| c.fitness()), Some(fitness), "the best stays");
    }
}

#[test]
fn a_changed_store_is_told_where_it_parts() {
    let mut world = World::new(&["search.mode=asynchronous"]);
    world.drain();
    let mut durable = world.stored().durable();
    let other = durable.candidates[3].genome().clone();
    let c = &durable.candidates[4];
    durable.candidates[4] = Candidate::new(c.id(), c.generation(), other, c.recipe());
    durable.searched.entries = world.state.entries();
    let state = State::restore(Durable { tail: Vec::new(), ..durable });
    // Open again, its recipe no longer fits: that is noticed before any replay.
    assert!(state.is_err());
    let read = |from, most| world.store.journal(from, most);
    let skip =
        |from: u64, most| read(from, most).map(|e| e.into_iter().skip(usize::from(from == 0)).collect());
    let replayed = world.stored().replay(skip).unwrap();
    assert_eq!(replayed.entries, 0);
    assert!(replayed.parts.unwrap().contains("another than"), "the first entry is missing");
}

#[test]
fn a_store_without_a_journal_gets_one() {
    let plan = plan(&[]);
    let mut world = World::new(&[]);
    (0..9).for_each(|_| world.exchange(Some(1), 3));
    let mut durable = world.stored().durable();
    // As it was written before: the search as of the generation's opening, no place, no journal.
    let state = State::restore(durable.clone()).unwrap();
    durable.searched =
        Searched { place: None, entries: 0, snapshot: state.search_snapshot(), ..state.searched() };
    durable.tail = Vec::new();
    durable.counters.entries = 0;
    durable.counters.device_ms = 0;
    let mut old = World::new(&[]);
    old.store = Memory::default();
    old.store.commit(&durable.records()).unwrap();
    old.state = old.stored();
    assert_eq!(old.replayed().parts, None);
    old.begin();
    old.drain();
    assert_eq!(found(&old.stored()), found(&uninterrupted(&plan)));
    assert_eq!((old.replayed().parts, old.replayed().results), (None, 25));
}

#[test]
fn an_asynchronous_run_asks_whenever_a_slot_is_free_and_awaits_the_last() {
    let mut world = World::new(&["search.mode=asynchronous"]);
    assert_eq!(world.state.candidates().len(), 0, "nothing is asked before somebody can begin it");
    world.exchange(None, 8);
    assert_eq!(world.running.len(), 8);
    for _ in 0..17 {
        world.exchange(Some(3), 8);
        assert_eq!(world.running.len(), 8, "no slot idles while the budget lasts");
    }
    world.exchange(Some(0), 8);
    assert_eq!((world.running.len(), world.state.end()), (7, None));
    (0..7).for_each(|_| world.exchange(Some(0), 8));
    assert_eq!(world.state.end(), Some(&End::Evaluations));
    // Steps of six results.
    let all = world.stored().durable().candidates;
    assert_eq!(all[0].generation(), 1);
    assert!(all.last().unwrap().generation() >= 3);
}

#[test]
fn each_budget_ends_the_run_with_its_reason() {
    for mode in ["search.mode=generational", "search.mode=asynchronous"] {
        let run = |set: &str| {
            let mut world = World::new(&[mode, set, "search.evaluations=200"]);
            world.drain();
            world.state
        };
        let state = run("search.target_fitness=0.1");
        assert_eq!(state.end(), Some(&End::Target(0.1)));
        assert!(state.candidates().len() < 20 && state.leases().is_empty());
        let state = run("search.stagnation=1");
        assert_eq!(state.end(), Some(&End::Stagnation(1)));
        let mut world = World::new(&[mode, "search.device_hours=0.001"]);
        world.exchange(None, 4);
        world.now += 800;
        world.apply(Event::Tick);
        assert_eq!(world.state.end(), None);
        world.now += 100;
        world.apply(Event::Tick);
        assert_eq!(world.state.end(), Some(&End::DeviceHours), "four slots, 3.6 s of them");
    }
}

#[test]
fn a_paused_run_lends_nothing_over_restarts_and_uses_up_no_time() {
    let plan = plan(&["search.hours=1.0"]);
    let mut state = begun(&plan);
    let worker = registered(&mut state, Millis(5), registration(&plan, "w"));
    let grants = exchanged(&mut state, Millis(10), exchange(worker, 1, 1)).grants;
    state.apply(Millis(20), Event::Pause(true));
    let e = Exchange { outcomes: vec![outcome(&plan, &grants[0])], ..exchange(worker, 2, 1) };
    let answer = exchanged(&mut state, Millis(30), e);
    assert_eq!((answer.grants.len(), answer.acknowledgements.len()), (0, 1));
    let elapsed = state.elapsed();
    state.apply(Millis(5_000_000), Event::Tick);
    assert_eq!((state.elapsed(), state.end()), (elapsed, None));
    let mut state = State::restore(state.durable()).unwrap();
    state.apply(Millis(6_000_000), Event::Start);
    assert!(state.is_paused() && !state.has_waiting());
    let worker = registered(&mut state, Millis(6_000_000), registration(&plan, "w"));
    assert_eq!(exchanged(&mut state, Millis(6_000_000), exchange(worker, 1, 1)).grants.len(), 0);
    state.apply(Millis(6_000_001), Event::Pause(false));
    assert_eq!(exchanged(&mut state, Millis(6_000_002), exchange(worker, 2, 1)).grants.len(), 1);
}

#[test]
fn a_budget_that_cannot_be_is_refused() {
    let mut world = World::new(&[]);
    world.exchange(None, 3);
    let budget = *world.state.budget();
    for bad in [
        Extension { evaluations: Some(3), ..Extension::default() },
        Extension { hours: Some(-1.0), ..Extension::default() },
        Extension { target_fitness: Some(f64::NAN), ..Extension::default() },
    ] {
        let reply = world.apply(Event::Extend(bad));
        assert!(
            matches!(reply, Some(Reply::Extended(Err(proto::status::Class::BadInput { .. })))),
            "{bad:?}"
        );
    }
    assert_eq!(*world.state.budget(), budget);
}
