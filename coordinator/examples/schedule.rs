//! What waiting and lateness cost: the real state machine (no network) with workers of simulated duration.
//!
//!     cargo run --release -p coordinator --example schedule [-- REPETITIONS]
//!
//! A rotated quadratic of ten dimensions, condition 100, its optimum off the middle; 500 evaluations. An evaluation takes
//! one unit, give or take `spread` (normal, at least 0.05). Three ways:
//!
//! - **discard**: Optuna's rule, emulated on the generational search: a candidate belongs to the generation in which it was
//!   asked for, and a result that comes after λ others of its generation is thrown away;
//! - **whole**: `mode = "generational"`; **asynchronous**: `mode = "asynchronous"`.
//!
//! Printed are medians over repetitions: f at the distribution's mean after 500 evaluations and after the wall-clock that
//! 500 evaluations take with no waiting at all (equal for the three), the whole wall-clock, the share of it in which slots
//! were busy, and the share of evaluations that entered no update. Noise is added to what is told, not to what is shown.

mod simulated;

use common::fitness::Fitness;
use common::genome::Genome;
use common::run::RunPlan;
use common::seed::Stream;
use common::time::Millis;
use coordinator::state::{Durable, Event, Reply, State, first_search};
use proto::convert::Grant;
use search::{Outcome, Snapshot, Told};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

const DIMENSIONS: usize = 10;
const EVALUATIONS: usize = 500;
/// Milliseconds of the state's clock that are one unit of time.
const UNIT_MS: f64 = 1000.0;

/// f(x) = Σ 100^(i/9) yᵢ², y = R (x − x*) · 6, so that the cube is as wide as ±3 step sizes of the paper's start.
struct Quadratic {
    rotation: Vec<Vec<f64>>,
    optimum: Vec<f64>,
}

impl Quadratic {
    fn new(seed: u64) -> Quadratic {
        let mut stream = Stream::new(seed, "quadratic");
        let mut rotation: Vec<Vec<f64>> = Vec::new();
        while rotation.len() < DIMENSIONS {
            // Gram and Schmidt.
            let mut row: Vec<f64> = (0..DIMENSIONS).map(|_| stream.normal()).collect();
            for done in &rotation {
                let along: f64 = row.iter().zip(done).map(|(a, b)| a * b).sum();
                row.iter_mut().zip(done).for_each(|(a, b)| *a -= along * b);
            }
            let length = row.iter().map(|x| x * x).sum::<f64>().sqrt();
            rotation.push(row.into_iter().map(|x| x / length).collect());
        }
        let optimum = (0..DIMENSIONS).map(|_| 0.3 + 0.4 * stream.uniform()).collect();
        Quadratic { rotation, optimum }
    }

    fn at(&self, x: &[f64]) -> f64 {
        let away: Vec<f64> = x.iter().zip(&self.optimum).map(|(x, o)| 6.0 * (x - o)).collect();
        let along = |row: &Vec<f64>| row.iter().zip(&away).map(|(r, d)| r * d).sum::<f64>();
        let term = |(i, row)| 100f64.powf(i as f64 / (DIMENSIONS - 1) as f64) * along(row).powi(2);
        self.rotation.iter().enumerate().map(term).sum()
    }
}

/// The mean of a saved search: the first list of that name and length in it, whatever the algorithm calls its parts.
fn mean(snapshot: &Snapshot) -> Option<Vec<f64>> {
    fn find(value: &serde_json::Value) -> Option<Vec<f64>> {
        match value {
            serde_json::Value::Object(map) => {
                let here = map.get("mean").and_then(|m| serde_json::from_value(m.clone()).ok());
                here.filter(|m: &Vec<f64>| m.len() == DIMENSIONS).or_else(|| map.values().find_map(find))
            }
            serde_json::Value::Array(items) => items.iter().find_map(find),
            _ => None,
        }
    }
    find(&serde_json::to_value(snapshot).ok()?)
}

/// What one run showed.
#[derive(Clone, Copy, Default)]
struct Shown {
    at_equal_time: f64,
    at_end: f64,
    wall: f64,
    busy: f64,
    unused: f64,
}

/// The objective, noise and durations of one repetition: each a stream of its own, so that ways are compared on the same.
struct Nature {
    quadratic: Quadratic,
    noise: (f64, Stream),
    spread: (f64, Stream),
}

impl Nature {
    fn new(seed: u64, spread: f64, noise: f64) -> Nature {
        Nature {
            quadratic: Quadratic::new(seed),
            noise: (noise, Stream::new(seed, "noise")),
            spread: (spread, Stream::new(seed, "durations")),
        }
    }

    fn told(&mut self, genome: &Genome) -> f64 {
        -(self.quadratic.at(genome.coordinates()) + self.noise.0 * self.noise.1.normal())
    }

    fn duration(&mut self) -> f64 {
        (1.0 + self.spread.0 * self.spread.1.normal()).max(0.05)
    }
}

/// The real state, with `workers` of one slot each.
fn real(plan: &RunPlan, workers: usize, nature: &mut Nature) -> Shown {
    let mut state = State::restore(Durable::new(plan, Default::default(), Millis(0))).expect("a new run");
    state.apply(Millis(0), Event::Start);
    let names = (0..workers).map(|i| simulated::registration(plan, format!("w{i}"), 1));
    let ids: Vec<_> = names
        .map(|r| match state.apply(Millis(0), Event::Register(Box::new(r))).reply {
            Some(Reply::Registered(Ok(r))) => r.worker,
            other => panic!("not registered: {other:?}"),
        })
        .collect();
    let equal_time = (EVALUATIONS as f64 / workers as f64).ceil();
    let mut shown = Shown::default();
    let (mut now, mut worked, mut begun) = (0.0, 0.0, false);
    let mut sequences = vec![0; workers];
    // Ends in thousandths of a millisecond, so that they order totally.
    let mut running: BinaryHeap<Reverse<(u64, usize)>> = BinaryHeap::new();
    let mut held: BTreeMap<usize, Grant> = BTreeMap::new();
    while state.end().is_none() {
        let mut done = None;
        if begun {
            let Some(Reverse((end, who))) = running.pop() else { panic!("nothing runs, and no end") };
            let end = end as f64 / 1e6;
            if now <= equal_time && end > equal_time {
                shown.at_equal_time =
                    mean(&state.search_snapshot()).map_or(f64::NAN, |m| nature.quadratic.at(&m));
            }
            now = end;
            done = held.remove(&who).map(|g| (who, g));
        }
        begun = true;
        // Whoever finished speaks first; then all that idle ask.
        let idle: Vec<usize> = (0..workers).filter(|w| !held.contains_key(w)).collect();
        let first = done.as_ref().map(|(who, _)| *who);
        for who in first.into_iter().chain(idle.into_iter().filter(|w| Some(*w) != first)) {
            let result = done.take().map(|(_, g)| {
                let genome = state.candidate(g.candidate).expect("it was lent").genome().clone();
                simulated::outcome(&g, nature.told(&genome))
            });
            sequences[who] += 1;
            let e = simulated::exchange(ids[who], sequences[who], 1, result.into_iter().collect());
            let at = Millis((now * UNIT_MS) as u64);
            let Some(Reply::Exchanged(Ok(answer))) = state.apply(at, Event::Exchange(Box::new(e))).reply
            else {
                panic!("a known worker is answered")
            };
            for grant in answer.grants {
                let duration = nature.duration();
                worked += duration;
                running.push(Reverse((((now + duration) * 1e6) as u64, who)));
                held.insert(who, grant);
            }
        }
    }
    shown.at_end = mean(&state.search_snapshot()).map_or(f64::NAN, |m| nature.quadratic.at(&m));
    if now <= equal_time {
        shown.at_equal_time = shown.at_end;
    }
    shown.wall = now;
    shown.busy = worked / (now * workers as f64);
    // What a cut last generation did not teach.
    shown.unused = 1.0 - state.told() as f64 / EVALUATIONS as f64;
    shown
}

/// Optuna's rule on the generational search. Its first trial of each worker is random and never used; here it is not,
/// which flatters the rule.
fn discard(plan: &RunPlan, workers: usize, nature: &mut Nature) -> Shown {
    let mut search = first_search(plan);
    let (mut generation, mut used, mut asked) = (0u64, 0, 0);
    let mut told: Vec<Told> = Vec::new();
    let mut running: BinaryHeap<Reverse<(u64, usize)>> = BinaryHeap::new();
    let mut held: BTreeMap<usize, (u64, Genome)> = BTreeMap::new();
    let (mut now, mut worked) = (0.0, 0.0);
    loop {
        while held.len() < workers && asked < EVALUATIONS {
            let who = (0..workers).find(|w| !held.contains_key(w)).expect("one is free");
            let duration = nature.duration();
            (asked, worked) = (asked + 1, worked + duration);
            held.insert(who, (generation, search.ask()));
            running.push(Reverse((((now + duration) * 1e6) as u64, who)));
        }
        let Some(Reverse((end, who))) = running.pop() else { break };
        now = end as f64 / 1e6;
        let (of, genome) = held.remove(&who).expect("it runs");
        let fitness = Fitness::new(nature.told(&genome)).expect("finite");
        if of == generation {
            told.push(Told { genome, outcome: Outcome::Scored(vec![fitness]) });
        }
        if told.len() == search.population() {
            used += told.len();
            search.tell(&std::mem::take(&mut told));
            generation += 1;
        }
    }
    let at_end = mean(&search.snapshot()).map_or(f64::NAN, |m| nature.quadratic.at(&m));
    let busy = worked / (now * workers as f64);
    Shown { at_equal_time: at_end, at_end, wall: now, busy, unused: 1.0 - used as f64 / EVALUATIONS as f64 }
}

fn median(of: impl Fn(&Shown) -> f64, all: &[Shown]) -> f64 {
    let mut values: Vec<f64> = all.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let repetitions: u64 = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(21);
    println!("spread noise workers way            f at equal time   f at end   wall    busy  unused");
    for (spread, noise) in [(0.2, 0.0), (1.0, 0.0), (0.2, 0.1), (1.0, 0.1)] {
        for workers in [1, 2, 4, 8, 16, 32, 64] {
            for way in ["discard", "whole", "asynchronous"] {
                let run = |seed: u64| {
                    let mode = if way == "asynchronous" { "asynchronous" } else { "generational" };
                    let plan = simulated::plan(&[format!("seed={seed}"), format!("search.mode={mode}")]);
                    let mut nature = Nature::new(seed, spread, noise);
                    match way {
                        "discard" => discard(&plan, workers, &mut nature),
                        _ => real(&plan, workers, &mut nature),
                    }
                };
                let all: Vec<Shown> = (1..=repetitions).map(run).collect();
                println!(
                    "{:>5}% {noise:>5} {workers:>7} {way:<14} {:>15.2e} {:>10.2e} {:>6.0} {:>6.1}% {:>6.1}%",
                    spread * 100.0,
                    median(|s| s.at_equal_time, &all),
                    median(|s| s.at_end, &all),
                    median(|s| s.wall, &all),
                    median(|s| s.busy, &all) * 100.0,
                    median(|s| s.unused, &all) * 100.0,
                );
            }
        }
    }
}
