use super::shape::Shape;
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

pub(super) fn scored(fitness: f64) -> Outcome {
    Outcome::Scored(vec![Fitness::new(fitness).unwrap()])
}

fn told(x: Vec<f64>, fitness: f64) -> Told {
    Told { genome: Genome::new(x).unwrap(), outcome: scored(fitness) }
}

pub(super) fn agree(what: &str, step: usize, ours: &[f64], theirs: &[f64]) {
    assert_eq!(ours.len(), theirs.len(), "{what} of step {step}");
    for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
        assert!((a - b).abs() <= AGREES * b.abs().max(1.0), "{what}[{i}] of step {step}: {a} against {b}");
    }
}

fn paper(n: usize, population: usize) -> Cma {
    Cma::new(Settings::paper(population, 1.0 / 6.0), &Domain::real(n), Stream::new(5, "search"))
}

/// A genome made of given normal numbers.
pub(super) fn ask(cma: &mut Cma, normal: &mut dyn FnMut() -> f64) -> Vec<f64> {
    let x = cma.draw(normal);
    cma.hand_out(x).into()
}

/// Lower triangle of a full covariance; a diagonal one as it is.
pub(super) fn lower(cma: &Cma) -> Vec<f64> {
    match &cma.distribution.shape {
        Shape::Full(c) => {
            let row = |r: usize| (0..=r).map(move |k| 0.5 * (c.at(r, k) + c.at(k, r)));
            (0..c.side()).flat_map(row).collect()
        }
        Shape::Diagonal(c) => c.clone(),
    }
}

#[test]
fn agrees_with_cmaes_step_by_step() {
    let text = include_str!("../../tests/data/cma_reference.json");
    let reference: Reference = serde_json::from_str(text).unwrap();
    assert!(reference.cases.len() >= 5);
    for case in reference.cases {
        let n = case.dimensions;
        let mut cma = paper(n, case.population);
        let mut normals = case.normals.into_iter();
        for (i, step) in case.steps.iter().enumerate() {
            let mut next = || normals.next().expect("as many numbers as cmaes took");
            let points: Vec<Vec<f64>> = (0..case.population).map(|_| ask(&mut cma, &mut next)).collect();
            agree("points", i, &points.concat(), &step.points);
            let scored = |x: &Vec<f64>| told(x.clone(), objective(x, case.levels));
            cma.tell(&points.iter().map(scored).collect::<Vec<_>>());
            agree("mean", i, &cma.distribution.mean, &step.mean);
            agree("sigma", i, &[cma.distribution.sigma], &[step.sigma]);
            agree("covariance", i, &lower(&cma), &step.covariance);
        }
        assert_eq!(normals.next(), None, "as many numbers as cmaes took");
    }
}

fn optimise(n: usize, population: usize, generations: usize, f: impl Fn(&[f64]) -> Option<f64>) -> Cma {
    let mut cma = paper(n, population);
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
        assert!(cma.distribution.is_finite());
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
        for (i, m) in cma.distribution.mean.iter().enumerate() {
            assert!((m - 0.3 - 0.04 * i as f64).abs() < 1e-4, "{n}: {:?}", cma.distribution.mean);
        }
    }
}

#[test]
fn failures_rank_last_and_do_not_end_the_search() {
    // Half the cube cannot be evaluated; the optimum lies near its border.
    let cma = optimise(3, 7, 80, |x| (x[0] < 0.5).then(|| -(x[0] - 0.45).powi(2) - (x[1] - 0.2).powi(2)));
    assert!(
        (cma.distribution.mean[0] - 0.45).abs() < 0.02 && (cma.distribution.mean[1] - 0.2).abs() < 0.02,
        "{:?}",
        cma.distribution.mean
    );
    let nothing = optimise(3, 7, 50, |_| None);
    assert_eq!((nothing.stop(), &nothing.distribution.mean), (None, &vec![0.5; 3]));
}

#[test]
fn a_plateau_ends_with_its_reason_and_without_harm() {
    let cma = optimise(2, 6, 200, |_| Some(1.0));
    assert!(cma.stop().unwrap().contains("equal (tolflatfitness)"), "{:?}", cma.stop());
}

#[test]
fn an_extreme_objective_stays_finite() {
    for f in [f64::MAX, f64::MIN, 1e-300, 0.0] {
        optimise(2, 6, 60, |x| Some(if x[0] > 0.5 { f } else { -x[1] }));
    }
}

#[test]
fn a_cut_generation_waits_for_its_rest() {
    let mut cma = paper(2, 6);
    let before = cma.distribution.clone();
    cma.tell(&[told(vec![0.1, 0.1], 1.0)]);
    assert_eq!((cma.waiting.len(), &cma.distribution), (1, &before));
}

/// Minimises the distance to a point, a result at a time, `late` results after it was asked for.
fn asynchronous(
    settings: Settings,
    domain: &Domain,
    late: usize,
    asks: usize,
    f: impl Fn(&[f64]) -> f64,
) -> (Cma, f64) {
    let mut cma = Cma::new(settings, domain, Stream::new(5, "search"));
    let (mut outstanding, mut best) = (std::collections::VecDeque::new(), f64::NEG_INFINITY);
    for _ in 0..asks {
        outstanding.push_back(cma.ask());
        if outstanding.len() > late {
            let genome: Genome = outstanding.pop_front().unwrap();
            let value = f(genome.coordinates());
            best = best.max(value);
            cma.tell(&[Told { genome, outcome: scored(value) }]);
        }
    }
    (cma, best)
}

#[test]
fn late_results_are_learned_from() {
    for late in [0, 7, 31] {
        let f = |x: &[f64]| -x.iter().map(|v| (v - 0.3).powi(2)).sum::<f64>();
        let (cma, _) = asynchronous(Settings::paper(8, 1.0 / 6.0), &Domain::real(5), late, 900, f);
        // 900 evaluations leave orders of magnitude of margin, even with 31 of them outstanding.
        assert!(-f(&cma.favourite()) < 1e-3, "{late}: {:?}", cma.favourite());
        assert_eq!(cma.distribution.generation, (900 - late as u64) / 8, "every result entered a step");
    }
}

#[test]
fn integers_and_categories_are_found() {
    use crate::Dimension::*;
    let domain =
        Domain { dimensions: vec![Real, Integer(7), Category(5), Category(2), Integer(20)], objectives: 1 };
    let goal = [0.83, 5.5 / 7.0, 0.9, 0.25, 2.5 / 20.0];
    // Categories score alike unless they are right: their neighbours say nothing.
    let f = |x: &[f64]| -> f64 {
        let ordered = [0, 1, 4].iter().map(|i| (x[*i] - goal[*i]).powi(2)).sum::<f64>();
        let wrong = [2, 3].iter().filter(|i| (x[**i] - goal[**i]).abs() > 1e-9).count();
        -ordered - 0.1 * wrong as f64
    };
    let (_, best) = asynchronous(Settings::paper(10, 1.0 / 6.0), &domain, 3, 1500, f);
    assert!(best > -1e-6, "{best}");
}

#[test]
fn restarts_say_why_and_never_end_the_search() {
    use common::run::{CmaPlan, Restarts};
    for restarts in [Restarts::Ipop, Restarts::Bipop] {
        let settings = Settings {
            evaluations: 6000,
            cma: CmaPlan { restarts, ..CmaPlan::default() },
            ..Settings::paper(6, 1.0 / 6.0)
        };
        let f = |x: &[f64]| -(x[0] - 0.4).powi(2) - (x[1] - 0.4).powi(2);
        let (cma, _) = asynchronous(settings, &Domain::real(2), 0, 6000, f);
        let remarks = cma.remarks();
        assert!(remarks.len() >= 3 && cma.stop().is_none(), "{remarks:?}");
        assert!(remarks[0].contains("population 12") && remarks[0].contains("(tol"), "{remarks:?}");
        // 30 generations of the largest population fit into the budget.
        assert!(remarks.iter().all(|r| !r.contains("population 384")), "{remarks:?}");
    }
}

#[test]
fn an_injected_solution_draws_the_mean_but_not_far() {
    let mut cma = paper(4, 6);
    let mut results: Vec<Told> = (0..5).map(|_| told(cma.ask().into(), 0.0)).collect();
    results.push(told(vec![1.0; 4], 1.0));
    cma.tell(&results);
    let moved: f64 = cma.distribution.mean.iter().map(|m| (m - 0.5).powi(2)).sum::<f64>().sqrt();
    // Its weight, just below 0.6, of the longest step that counts: σ (√n + 2n / (n + 2)) = 0.56; others pull too.
    assert!((0.05..0.5).contains(&moved), "{moved}");
    assert!(cma.distribution.mean.iter().sum::<f64>() > 2.0, "{:?}", cma.distribution.mean);
}

#[test]
fn the_order_of_censored_results_does_not_matter() {
    let run = |swapped: bool| {
        let mut cma = paper(3, 6);
        let genomes: Vec<Genome> = (0..6).map(|_| cma.ask()).collect();
        let bound = |b: f64| Outcome::Censored(Fitness::new(b).unwrap());
        let (a, b) = if swapped { (0.2, 0.3) } else { (0.3, 0.2) };
        let outcomes = [scored(0.9), scored(0.5), bound(a), bound(b), scored(0.7), Outcome::Failed];
        let results: Vec<Told> =
            genomes.into_iter().zip(outcomes).map(|(genome, outcome)| Told { genome, outcome }).collect();
        cma.tell(&results);
        cma.distribution
    };
    let (a, b) = (run(false), run(true));
    // Sums in another order: the last bits.
    agree("mean", 0, &a.mean, &b.mean);
    agree("sigma", 0, &[a.sigma], &[b.sigma]);
}

#[test]
fn a_snapshot_of_version_1_goes_on() {
    let text = r#"{"cma-es":{"population":6,"initial_sigma":0.16666666666666666,"generation":3,"mean":[0.4,0.6],"sigma":0.1,
        "covariance":{"side":2,"cells":[1.0,0.1,0.1,1.0]},"path_sigma":[0.1,0.2],"path_c":[0.0,0.3],
        "history":[[1.0,0.5],[1.2,0.1]],"ended":null,"stream":{"state":[1,2,3,4],"spare":null}}}"#;
    let mut search = crate::restore(serde_json::from_str(text).unwrap());
    assert_eq!((search.population(), search.step_size(), search.stop()), (6, Some(0.1), None));
    let results: Vec<Told> = (0..6).map(|i| told(search.ask().into(), f64::from(i))).collect();
    search.tell(&results);
    assert_ne!(search.step_size(), Some(0.1));
}
