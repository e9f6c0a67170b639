//! What waiting and lateness cost: the real state machine (no network) with workers of simulated duration.
//!
//!     cargo run --release -p coordinator --example schedule [-- REPETITIONS]
//!
//! A rotated quadratic of ten dimensions, condition 100, its optimum off the middle; 500 evaluations. An evaluation takes
//! one unit, give or take `spread` (normal, at least 0.05): a tenth for the merge, the rest for 50 samples in five batches,
//! each handed in when it is done. Four ways:
//!
//! - **discard**: Optuna's rule, emulated on the generational search: a candidate belongs to the generation in which it was
//!   asked for, and a result that comes after λ others of its generation is thrown away;
//! - **whole**: `mode = "generational"` without sharing (`scheduling.split = false`), as peers do it;
//! - **shared**: `mode = "generational"`, idle slots taking over batches of others (the default);
//! - **asynchronous**: `mode = "asynchronous"`, sharing at the end.
//!
//! Printed are medians over repetitions: f at the distribution's mean after 500 evaluations and after the wall-clock that
//! 500 evaluations take with no waiting at all (equal for all), the whole wall-clock, the share of it in which slots
//! were busy, and the share of evaluations that entered no update. Noise is added to what is told, not to what is shown.

#![forbid(unsafe_code)]

mod simulated;

use common::evaluation::{Evaluation, Timings};
use common::fitness::Fitness;
use common::genome::Genome;
use common::id::{CandidateId, WorkerId};
use common::run::RunPlan;
use common::seed::Stream;
use common::time::Millis;
use coordinator::state::{Durable, Event, Reply, State, first_search};
use proto::convert::{Exchange, ExchangeAnswer, Grant, LeaseProgress, Report, Stage};
use search::{Outcome, Snapshot, Told};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

const DIMENSIONS: usize = 10;
const EVALUATIONS: usize = 500;
/// Samples of an evaluation, and how many of them are generated together.
const SAMPLES: usize = 50;
const BATCH: usize = 10;
/// Milliseconds of the state's clock that are one unit of time.
const UNIT_MS: f64 = 1000.0;
/// Share of an evaluation's time that the merge takes: whoever helps with a candidate merges again.
const MERGE: f64 = 0.1;

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
    let equal_time = (EVALUATIONS as f64 / workers as f64).ceil();
    let mut shown = Shown::default();
    let mut fleet = Fleet::new(plan, workers);
    loop {
        for who in 0..workers {
            fleet.ask(who, nature);
        }
        if fleet.state.end().is_some() {
            break;
        }
        let Some(Reverse((end, who))) = fleet.running.pop() else { panic!("nothing runs, and no end") };
        let end = end as f64 / 1e6;
        if fleet.now <= equal_time && end > equal_time {
            shown.at_equal_time = fleet.quality(nature);
        }
        fleet.now = end;
        fleet.finish_batch(who, nature);
    }
    shown.at_end = fleet.quality(nature);
    if fleet.now <= equal_time {
        shown.at_equal_time = shown.at_end;
    }
    shown.wall = fleet.now;
    shown.busy = fleet.worked / (fleet.now * workers as f64);
    // What a cut last generation did not teach.
    shown.unused = 1.0 - fleet.state.told() as f64 / EVALUATIONS as f64;
    shown
}

/// A state and slots that work for it.
struct Fleet {
    state: State,
    ids: Vec<WorkerId>,
    sequences: Vec<u64>,
    jobs: Vec<Option<Job>>,
    /// Ends of batches in thousandths of a millisecond, so that they order totally.
    running: BinaryHeap<Reverse<(u64, usize)>>,
    /// What each candidate's samples score.
    scores: BTreeMap<CandidateId, f64>,
    now: f64,
    worked: f64,
}

/// What a slot is at.
struct Job {
    grant: Grant,
    /// Samples of the batch in work, and those after it.
    doing: Vec<u32>,
    left: Vec<u32>,
    /// Time that a sample takes.
    each: f64,
    timings: Timings,
}

impl Fleet {
    fn new(plan: &RunPlan, workers: usize) -> Fleet {
        let mut state = State::restore(Durable::new(plan, Default::default(), Millis(0))).expect("a new run");
        state.apply(Millis(0), Event::Start);
        let names = (0..workers).map(|i| simulated::registration(plan, format!("w{i}"), 1));
        let ids = names
            .map(|r| match state.apply(Millis(0), Event::Register(Box::new(r))).reply {
                Some(Reply::Registered(Ok(r))) => r.worker,
                other => panic!("not registered: {other:?}"),
            })
            .collect();
        let jobs = (0..workers).map(|_| None).collect();
        let (running, scores) = (BinaryHeap::new(), BTreeMap::new());
        Fleet { state, ids, sequences: vec![0; workers], jobs, running, scores, now: 0.0, worked: 0.0 }
    }

    fn quality(&self, nature: &Nature) -> f64 {
        mean(&self.state.search_snapshot()).map_or(f64::NAN, |m| nature.quadratic.at(&m))
    }

    fn exchange(&mut self, who: usize, e: Exchange) -> ExchangeAnswer {
        self.sequences[who] += 1;
        let e = Exchange { worker: self.ids[who], sequence: self.sequences[who], ..e };
        let at = Millis((self.now * UNIT_MS) as u64);
        // Idle slots of real workers are asked again several times a second.
        self.state.apply(at, Event::Tick);
        match self.state.apply(at, Event::Exchange(Box::new(e))).reply {
            Some(Reply::Exchanged(Ok(answer))) => answer,
            other => panic!("a known worker is answered: {other:?}"),
        }
    }

    /// Lets a slot that idles ask for work.
    fn ask(&mut self, who: usize, nature: &mut Nature) {
        if self.jobs[who].is_none() {
            let answer = self.exchange(who, simulated::exchange(self.ids[who], 0, 1, Vec::new()));
            self.begin(who, answer.grants, nature);
        }
    }

    fn begin(&mut self, who: usize, grants: Vec<Grant>, nature: &mut Nature) {
        let Some(grant) = grants.into_iter().next() else { return };
        if !self.scores.contains_key(&grant.candidate) {
            let genome = self.state.candidate(grant.candidate).expect("it was lent").genome();
            self.scores.insert(grant.candidate, nature.told(genome));
        }
        let duration = nature.duration();
        let each = (1.0 - MERGE) * duration / SAMPLES as f64;
        let timings = Timings { merge_ms: (MERGE * duration * UNIT_MS) as u64, ..Timings::default() };
        let left = grant.samples.clone();
        self.jobs[who] = Some(Job { grant, doing: Vec::new(), left, each, timings });
        self.next_batch(who, MERGE * duration);
    }

    fn next_batch(&mut self, who: usize, before: f64) {
        let Some(job) = &mut self.jobs[who] else { return };
        job.doing = job.left.drain(..job.left.len().min(BATCH)).collect();
        let takes = before + job.each * job.doing.len() as f64;
        job.timings.generate_ms += (job.each * job.doing.len() as f64 * UNIT_MS) as u64;
        self.worked += takes;
        self.running.push(Reverse((((self.now + takes) * 1e6) as u64, who)));
    }

    /// Hands a batch in, and begins the next one unless others have it, or a candidate.
    fn finish_batch(&mut self, who: usize, nature: &mut Nature) {
        let Some(job) = self.jobs[who].take() else { return };
        let part = simulated::part(&job.doing, self.scores[&job.grant.candidate], job.timings);
        let is_last = job.left.is_empty();
        let e = match is_last {
            true => simulated::exchange(self.ids[who], 0, 1, vec![simulated::outcome(&job.grant, part)]),
            false => Exchange {
                running: vec![progress(&job.grant, job.left[job.left.len().min(BATCH) - 1])],
                reports: vec![report(&job.grant, part)],
                ..simulated::exchange(self.ids[who], 0, 0, Vec::new())
            },
        };
        let answer = self.exchange(who, e);
        if is_last {
            return self.begin(who, answer.grants, nature);
        }
        if answer.cancelled.contains(&job.grant.lease) {
            return;
        }
        let rest = answer.remainders.into_iter().find(|r| r.lease == job.grant.lease);
        let left = job.left.iter().filter(|p| rest.as_ref().is_none_or(|r| r.samples.contains(p)));
        let left: Vec<u32> = left.copied().collect();
        if !left.is_empty() {
            self.jobs[who] = Some(Job { left, ..job });
            self.next_batch(who, 0.0);
        }
    }
}

/// What a slot says of a lease that it goes on with, the next batch ending at this position.
fn progress(grant: &Grant, last: u32) -> LeaseProgress {
    LeaseProgress { lease: grant.lease, stage: Stage::Generating, samples_done: 0, begun: last + 1 }
}

/// Samples of a lease that goes on.
fn report(grant: &Grant, part: Evaluation) -> Report {
    let (lease, candidate, recipe) = (grant.lease, grant.candidate, grant.recipe.digest());
    Report { lease, candidate, recipe, part }
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
            for way in ["discard", "whole", "shared", "asynchronous"] {
                let run = |seed: u64| {
                    let mode = if way == "asynchronous" { "asynchronous" } else { "generational" };
                    let split = way != "whole";
                    let sets = [
                        format!("seed={seed}"),
                        format!("search.mode={mode}"),
                        format!("scheduling.split={split}"),
                        format!("generation.batch_size={BATCH}"),
                    ];
                    let plan = simulated::plan(SAMPLES, &sets);
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
