use super::*;
use crate::Outcome;
use common::fitness::Fitness;
use serde::Deserialize;

/// Largest relative difference from the recorded steps of `cmaes`. They hold 12 digits; the two programs add
/// in different orders, and each generation passes its rounding on, enlarged by the covariance's condition.
const AGREES: f64 = 1e-9;

#[derive(Deserialize)]
struct Reference {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    dimensions: usize,
    population: usize,
    levels: Option<f64>,
    normals: Vec<f64>,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    points: Vec<f64>,
    mean: Vec<f64>,
    sigma: f64,
    covariance: Vec<f64>,
}

/// The objective of `scripts/golden/cma_reference.py`.
fn objective(x: &[f64], levels: Option<f64>) -> f64 {
    let last = (x.len() - 1).max(1) as f64;
    let term = |(i, x): (usize, &f64)| {
        let target = [0.2, 0.7, 1.1][i % 3];
        -(1.0 + 9.0 * i as f64 / last) * (x - target) * (x - target)
    };
    let value: f64 = x.iter().enumerate().map(term).sum();
    levels.map_or(value, |l| (value * l).floor() / l)
}

fn scored(fitness: f64) -> Outcome {
    Outcome::Scored(vec![Fitness::new(fitness).unwrap()])
}

fn told(x: Vec<f64>, fitness: f64) -> Told {
    Told { genome: Genome::new(x).unwrap(), outcome: scored(fitness) }
}

fn agree(what: &str, step: usize, ours: &[f64], theirs: &[f64]) {
    assert_eq!(ours.len(), theirs.len(), "{what} of step {step}");
    for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
        assert!((a - b).abs() <= AGREES * b.abs().max(1.0), "{what}[{i}] of step {step}: {a} against {b}");
    }
}

#[test]
fn agrees_with_cmaes_step_by_step() {
    let text = include_str!("../tests/data/cma_reference.json");
    let reference: Reference = serde_json::from_str(text).unwrap();
    assert!(reference.cases.len() >= 5);
    for case in reference.cases {
        let n = case.dimensions;
        let mut cma = Cma::new(n, case.population, 1.0 / 6.0, Stream::new(0, "unused"));
        let mut normals = case.normals.into_iter();
        for (i, step) in case.steps.iter().enumerate() {
            let mut next = || normals.next().expect("as many numbers as cmaes took");
            let points: Vec<Vec<f64>> = (0..case.population).map(|_| cma.draw(&mut next)).collect();
            agree("points", i, &points.concat(), &step.points);
            let scored = |x: &Vec<f64>| told(x.clone(), objective(x, case.levels));
            cma.tell(&points.iter().map(scored).collect::<Vec<_>>());
            agree("mean", i, &cma.mean, &step.mean);
            agree("sigma", i, &[cma.sigma], &[step.sigma]);
            let c = &cma.covariance;
            let lower: Vec<f64> =
                (0..n).flat_map(|r| (0..=r).map(move |k| 0.5 * (c.at(r, k) + c.at(k, r)))).collect();
            agree("covariance", i, &lower, &step.covariance);
        }
        assert_eq!(normals.next(), None, "as many numbers as cmaes took");
    }
}

fn optimise(n: usize, population: usize, generations: usize, f: impl Fn(&[f64]) -> Option<f64>) -> Cma {
    let mut cma = Cma::new(n, population, 1.0 / 6.0, Stream::new(5, "search"));
    for _ in 0..generations {
        let genomes: Vec<Genome> = (0..population).map(|_| cma.ask()).collect();
        let told: Vec<Told> = genomes
            .into_iter()
            .map(|genome| {
                let outcome = f(genome.coordinates()).map_or(Outcome::Failed, scored);
                Told { genome, outcome }
            })
            .collect();
        cma.tell(&told);
        assert!(cma.is_finite());
    }
    cma
}

#[test]
fn finds_the_maximum_in_one_dimension_and_in_ten() {
    // Four decimals of the optimum within a budget that leaves a wide margin.
    for (n, population, generations) in [(1, 4, 60), (10, 10, 300)] {
        let cma = optimise(n, population, generations, |x| {
            Some(-x.iter().enumerate().map(|(i, v)| (v - 0.3 - 0.04 * i as f64).powi(2)).sum::<f64>())
        });
        for (i, m) in cma.mean.iter().enumerate() {
            assert!((m - 0.3 - 0.04 * i as f64).abs() < 1e-4, "{n}: {:?}", cma.mean);
        }
    }
}

#[test]
fn failures_rank_last_and_do_not_end_the_search() {
    // Half the cube cannot be evaluated; the optimum lies near its border.
    let cma = optimise(3, 7, 80, |x| (x[0] < 0.5).then(|| -(x[0] - 0.45).powi(2) - (x[1] - 0.2).powi(2)));
    assert!((cma.mean[0] - 0.45).abs() < 0.02 && (cma.mean[1] - 0.2).abs() < 0.02, "{:?}", cma.mean);
    let nothing = optimise(3, 7, 50, |_| None);
    assert_eq!((nothing.stop(), &nothing.mean), (None, &vec![0.5; 3]));
}

#[test]
fn a_plateau_ends_with_its_reason_and_without_harm() {
    let cma = optimise(2, 6, 200, |_| Some(1.0));
    assert!(cma.stop().unwrap().starts_with("fitness did not change"), "{:?}", cma.stop());
}

#[test]
fn an_extreme_objective_stays_finite() {
    for f in [f64::MAX, f64::MIN, 1e-300, 0.0] {
        optimise(2, 6, 60, |x| Some(if x[0] > 0.5 { f } else { -x[1] }));
    }
}

#[test]
fn a_cut_generation_teaches_nothing() {
    let mut cma = Cma::new(2, 6, 0.2, Stream::new(5, "search"));
    let before = cma.clone();
    cma.tell(&[told(vec![0.1, 0.1], 1.0)]);
    assert_eq!(cma, before);
}

/// What is drawn has the mean and the covariance that were given: 20,000 draws, so that a variance is within 5 %.
#[test]
fn begins_with_a_given_distribution() {
    let (mean, rows) = (vec![0.5, 0.4], vec![vec![1.0, 0.6], vec![0.6, 1.0]]);
    let stream = Stream::new(3, "test");
    let mut cma = Cma::from_distribution(mean.clone(), Matrix::of_rows(rows.clone()), 0.05, 6, stream);
    let (found, covariance) = cma.distribution();
    assert_eq!(found, mean);
    assert!((covariance[0][1] - 0.0025 * 0.6).abs() < 1e-15);
    let draws: Vec<Vec<f64>> = (0..20_000).map(|_| cma.ask().coordinates().to_vec()).collect();
    for i in 0..2 {
        for j in 0..2 {
            let sum: f64 = draws.iter().map(|x| (x[i] - mean[i]) * (x[j] - mean[j])).sum();
            assert!((sum / 20_000.0 / 0.0025 - rows[i][j]).abs() < 0.05, "{i} {j}");
        }
    }
}
