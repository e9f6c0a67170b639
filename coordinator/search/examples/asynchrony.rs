//! What waiting costs and what lateness costs: CMA-ES under simulated workers, three ways of scheduling.
//!
//!     cargo run --release -p search --example asynchrony [-- repetitions [population]]
//!
//! Ways:
//! - **discard**: Optuna's. Every worker always has work; a result counts only if its generation is still open.
//! - **whole**: generations of λ, the next one asked for when all of one is in; workers beyond λ idle.
//! - **wide**: the same with as many in a generation as there are workers, where those are more than λ.
//! - **asynchronous**: every worker always has work; each result is told as it comes.
//!
//! Printed is the median over repetitions of f at the distribution's mean when the wall clock shows what 500 evaluations
//! take without any waiting, and the share of that time that workers were busy.
//! Durations are 1, give or take `spread` (uniform); noise is added to what the search is told, not to what is printed.

#![forbid(unsafe_code)]

use common::fitness::Fitness;
use common::genome::Genome;
use common::seed::Stream;
use search::cma::{Cma, Settings};
use search::linalg::Matrix;
use search::{Domain, Outcome, Search, Told};

const DIMENSIONS: usize = 10;
const EVALUATIONS: usize = 500;

/// An objective of the cube, smaller is better, 0 at its optimum.
struct Objective {
    name: &'static str,
    value: fn(&[f64]) -> f64,
    rotated: bool,
    noise: f64,
}

fn sphere(x: &[f64]) -> f64 {
    x.iter().map(|v| v * v).sum()
}

fn ellipsoid(x: &[f64]) -> f64 {
    let last = (x.len() - 1) as f64;
    x.iter().enumerate().map(|(i, v)| 100f64.powf(i as f64 / last) * v * v).sum()
}

fn rosenbrock(x: &[f64]) -> f64 {
    // The optimum at 0.
    let y: Vec<f64> = x.iter().map(|v| v + 1.0).collect();
    y.windows(2).map(|w| 100.0 * (w[1] - w[0] * w[0]).powi(2) + (1.0 - w[0]).powi(2)).sum()
}

fn rastrigin(x: &[f64]) -> f64 {
    x.iter().map(|v| v * v - 10.0 * (2.0 * std::f64::consts::PI * v).cos() + 10.0).sum()
}

const OBJECTIVES: [Objective; 5] = [
    Objective { name: "rotated quadratic", value: ellipsoid, rotated: true, noise: 0.0 },
    Objective { name: "the same, noise 0.1", value: ellipsoid, rotated: true, noise: 0.1 },
    Objective { name: "sphere", value: sphere, rotated: false, noise: 0.0 },
    Objective { name: "rosenbrock", value: rosenbrock, rotated: true, noise: 0.0 },
    Objective { name: "rastrigin", value: rastrigin, rotated: false, noise: 0.0 },
];

/// Where the optimum lies, and how the axes are turned.
struct Place {
    optimum: Vec<f64>,
    turn: Option<Matrix>,
}

impl Place {
    fn new(rotated: bool, stream: &mut Stream) -> Place {
        let optimum = (0..DIMENSIONS).map(|_| 0.25 + 0.5 * stream.uniform()).collect();
        // Eigenvectors of a random symmetric matrix.
        let mut random = Matrix::identity(DIMENSIONS);
        for _ in 0..2 * DIMENSIONS {
            let v: Vec<f64> = (0..DIMENSIONS).map(|_| stream.normal()).collect();
            random.add_outer(1.0, &v);
        }
        let turn = rotated.then(|| random.eigen().expect("a finite matrix").1);
        Place { optimum, turn }
    }

    fn value(&self, objective: &Objective, x: &[f64]) -> f64 {
        // The cube is 6 wide in the objective's coordinates.
        let centred: Vec<f64> = x.iter().zip(&self.optimum).map(|(x, o)| 6.0 * (x - o)).collect();
        (objective.value)(&self.turn.as_ref().map_or(centred.clone(), |t| t.times(&centred)))
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Way {
    Discard,
    Whole,
    Wide,
    Asynchronous,
}

struct Running {
    until: f64,
    genome: Genome,
    generation: usize,
}

/// Workers and how they differ.
#[derive(Clone, Copy)]
struct Fleet {
    workers: usize,
    spread: f64,
    population: usize,
}

/// One search: f of its mean at the end, and the busy share.
fn simulate(way: Way, fleet: Fleet, objective: &Objective, seed: u64) -> (f64, f64) {
    let Fleet { workers, spread, population } = fleet;
    let population = if way == Way::Wide { population.max(workers) } else { population };
    let waits = matches!(way, Way::Whole | Way::Wide);
    let mut chance = Stream::new(seed, "simulation");
    let place = Place::new(objective.rotated, &mut chance);
    let mut search = Cma::new(
        Settings::paper(population, 1.0 / 6.0),
        &Domain::real(DIMENSIONS),
        Stream::new(seed, "search"),
    );
    let end = EVALUATIONS as f64 / workers as f64;
    let (mut now, mut busy, mut generation, mut asked, mut told) = (0.0, 0.0, 0, 0, 0);
    let mut running: Vec<Running> = Vec::new();
    let mut open: Vec<Told> = Vec::new();
    loop {
        while running.len() < workers && (!waits || asked < population) {
            let duration = 1.0 + spread * (2.0 * chance.uniform() - 1.0);
            busy += duration.min(end - now).max(0.0);
            running.push(Running { until: now + duration, genome: search.ask(), generation });
            asked += 1;
        }
        let next = (0..running.len()).min_by(|a, b| running[*a].until.total_cmp(&running[*b].until));
        let done = running.swap_remove(next.expect("a worker is always busy"));
        now = done.until;
        if now > end {
            break;
        }
        let value = place.value(objective, done.genome.coordinates()) + objective.noise * chance.normal();
        let fitness = Fitness::new(-value).expect("a finite objective");
        let result = Told { genome: done.genome, outcome: Outcome::Scored(vec![fitness]) };
        match way {
            Way::Asynchronous => search.tell(&[result]),
            Way::Discard if done.generation != generation => {}
            Way::Discard | Way::Whole | Way::Wide => {
                open.push(result);
                told += 1;
                if told == population {
                    search.tell(&std::mem::take(&mut open));
                    (told, asked) = (0, 0);
                    generation += 1;
                }
            }
        }
    }
    (place.value(objective, &search.favourite()), busy / (end * workers as f64))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let repetitions: u64 = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(51);
    let population: usize = std::env::args().nth(2).and_then(|a| a.parse().ok()).unwrap_or(10);
    for objective in &OBJECTIVES {
        for spread in [0.2, 1.0] {
            println!("\n{}, durations within {:.0} %\n", objective.name, 100.0 * spread);
            println!(
                "| workers | discard | whole | wide | asynchronous | busy: whole | wide | asynchronous |"
            );
            println!("|---|---|---|---|---|---|---|---|");
            for workers in [1, 2, 4, 8, 16, 32, 64] {
                let run = |way| {
                    let runs: Vec<(f64, f64)> = (0..repetitions)
                        .map(|seed| simulate(way, Fleet { workers, spread, population }, objective, seed))
                        .collect();
                    let busy = runs.iter().map(|r| r.1).sum::<f64>() / runs.len() as f64;
                    (median(runs.iter().map(|r| r.0).collect()), 100.0 * busy)
                };
                let ways = [Way::Discard, Way::Whole, Way::Wide, Way::Asynchronous].map(run);
                let f: Vec<String> = ways.iter().map(|w| format!("{:.2e}", w.0)).collect();
                let busy: Vec<String> = ways[1..].iter().map(|w| format!("{:.0} %", w.1)).collect();
                println!("| {workers} | {} | {} |", f.join(" | "), busy.join(" | "));
            }
        }
    }
}
