//! Every algorithm on a few functions of the cube, at budgets of 100 n: `cargo run --release -p search --example compare`.
//!
//! Prints the median over 11 seeds of the distance from the best value, generation by generation (population by default),
//! or one result at a time where `asynchronous` is given. An argument `population=N` overrides all populations.

#![forbid(unsafe_code)]

use common::fitness::Fitness;
use common::run::{ALGORITHMS, Algorithm, study};
use common::seed::Stream;
use search::{Domain, Outcome, Told, begin};

type Function = (&'static str, fn(&[f64]) -> f64);

/// Distances from the best, in the cube; none has it in the middle.
const FUNCTIONS: [Function; 4] =
    [("sphere", sphere), ("ellipsoid", ellipsoid), ("rosenbrock", rosenbrock), ("rastrigin", rastrigin)];

fn shifted(x: &[f64]) -> Vec<f64> {
    x.iter().enumerate().map(|(i, x)| 10.0 * (x - 0.3 - 0.04 * i as f64)).collect()
}

fn sphere(x: &[f64]) -> f64 {
    shifted(x).iter().map(|v| v * v).sum()
}

fn ellipsoid(x: &[f64]) -> f64 {
    let last = (x.len() - 1).max(1) as f64;
    shifted(x).iter().enumerate().map(|(i, v)| 1000f64.powf(i as f64 / last) * v * v).sum()
}

fn rosenbrock(x: &[f64]) -> f64 {
    let z: Vec<f64> = shifted(x).iter().map(|v| 0.5 * v + 1.0).collect();
    z.windows(2).map(|w| 100.0 * (w[0] * w[0] - w[1]).powi(2) + (w[0] - 1.0).powi(2)).sum()
}

fn rastrigin(x: &[f64]) -> f64 {
    shifted(x).iter().map(|v| v * v + 10.0 * (1.0 - (std::f64::consts::TAU * v).cos())).sum()
}

fn run(algorithm: Algorithm, f: fn(&[f64]) -> f64, n: usize, seed: u64, options: &[String]) -> f64 {
    let has = |name: &str| options.iter().find_map(|o| o.strip_prefix(name));
    let mut text = format!("[search]\nalgorithm = \"{}\"\nevaluations = {}\n", algorithm.name(), 100 * n);
    text += &has("population=").map_or(String::new(), |p| format!("population = {p}\n"));
    text += "[space]\n";
    (0..n).for_each(|i| text += &format!("x{i} = {{ low = 0.0, high = 1.0 }}\n"));
    let plan = study::parse("compare", &text, &[], false).expect("it was written above").search;
    let mut search = begin(&plan, &Domain::real(n), Stream::new(seed, "search"));
    let (mut best, mut done) = (f64::INFINITY, 0);
    while done < 100 * n {
        let batch = if has("asynchronous").is_some() { 1 } else { search.population() };
        let results: Vec<Told> = (0..batch.min(100 * n - done))
            .map(|_| {
                let genome = search.ask();
                let value = f(genome.coordinates());
                best = best.min(value);
                let fitness = Fitness::new(-value).expect("finite in the cube");
                Told { genome, outcome: Outcome::Scored(vec![fitness]) }
            })
            .collect();
        done += results.len();
        search.tell(&results);
    }
    best
}

fn main() {
    let options: Vec<String> = std::env::args().skip(1).collect();
    for n in [5, 10, 20] {
        for (name, f) in FUNCTIONS {
            print!("{name:>10} n={n:<2}");
            for (word, algorithm) in ALGORITHMS {
                let mut bests: Vec<f64> = (0..11).map(|seed| run(algorithm, f, n, seed, &options)).collect();
                bests.sort_by(f64::total_cmp);
                print!("  {word} {:<9.3e}", bests[5]);
            }
            println!();
        }
    }
}
