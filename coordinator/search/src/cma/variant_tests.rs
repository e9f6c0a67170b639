//! The variants against recorded steps of `cmaes` (`scripts/golden/cma_variants_reference.py`).

use super::tests::{agree, ask, lower, scored};
use super::*;
use crate::Dimension;
use crate::linalg::Matrix;
use common::run::{Covariance, LearningRate};
use serde::Deserialize;

#[derive(Deserialize)]
struct Reference {
    cases: Vec<Case>,
    warm: Vec<Warm>,
}

#[derive(Deserialize)]
struct Case {
    kind: String,
    dimensions: usize,
    values: Vec<u32>,
    population: usize,
    normals: Vec<f64>,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    points: Vec<f64>,
    scores: Vec<f64>,
    mean: Vec<f64>,
    sigma: f64,
    covariance: Vec<f64>,
    extra: Vec<f64>,
}

#[derive(Deserialize)]
struct Warm {
    dimensions: usize,
    points: Vec<f64>,
    scores: Vec<f64>,
    mean: Vec<f64>,
    sigma: f64,
    covariance: Vec<f64>,
}

fn reference() -> Reference {
    serde_json::from_str(include_str!("../../tests/data/cma_variants.json")).unwrap()
}

fn begin(case: &Case) -> Cma {
    let mut settings = Settings::paper(case.population, 1.0 / 6.0);
    match case.kind.as_str() {
        "adaptive" => settings.cma.learning_rate = LearningRate::Adaptive,
        "separable" => settings.cma.covariance = Covariance::Separable,
        "margin" => {}
        other => panic!("{other}"),
    }
    let mut domain = Domain::real(case.dimensions);
    for (dimension, k) in domain.dimensions.iter_mut().zip(&case.values) {
        if *k > 0 {
            *dimension = Dimension::Integer(*k);
        }
    }
    Cma::new(settings, &domain, Stream::new(0, "unused"))
}

#[test]
fn variants_agree_with_cmaes_step_by_step() {
    let cases = reference().cases;
    assert_eq!(cases.len(), 6);
    for case in cases {
        let mut cma = begin(&case);
        let mut normals = case.normals.iter().copied();
        for (i, step) in case.steps.iter().enumerate() {
            let what = |part: &str| format!("{} {part}", case.kind);
            let mut next = || normals.next().expect("as many numbers as cmaes took");
            let points: Vec<Vec<f64>> = (0..case.population).map(|_| ask(&mut cma, &mut next)).collect();
            agree(&what("points"), i, &points.concat(), &step.points);
            let told = |(x, score): (&Vec<f64>, &f64)| Told {
                genome: Genome::new(x.clone()).unwrap(),
                outcome: scored(*score),
            };
            cma.tell(&points.iter().zip(&step.scores).map(told).collect::<Vec<_>>());
            agree(&what("mean"), i, &cma.distribution.mean, &step.mean);
            agree(&what("sigma"), i, &[cma.distribution.sigma], &[step.sigma]);
            agree(&what("covariance"), i, &lower(&cma), &step.covariance);
            let extra = match (&cma.learning, &cma.margin) {
                (Some(learning), _) => learning.rates().to_vec(),
                (None, Some(margin)) => margin.stretch.clone(),
                (None, None) => Vec::new(),
            };
            agree(&what("rates or stretch"), i, &extra, &step.extra);
        }
        assert_eq!(normals.next(), None, "as many numbers as cmaes took");
    }
}

#[test]
fn warm_starts_agree_with_cmaes() {
    for warm in reference().warm {
        let points = warm.points.chunks(warm.dimensions).zip(&warm.scores);
        let told =
            |(x, s): (&[f64], &f64)| Told { genome: Genome::new(x.to_vec()).unwrap(), outcome: scored(*s) };
        let mut results: Vec<Told> = points.map(told).collect();
        // What was not scored says nothing of where to begin.
        results.push(Told { genome: results[0].genome.clone(), outcome: Outcome::Failed });
        let start = Start::from_results(&results).unwrap();
        agree("mean", 0, &start.mean, &warm.mean);
        agree("sigma", 0, &[start.sigma], &[warm.sigma]);
        let settings = Settings::paper(6, 1.0 / 6.0);
        let domain = Domain::real(warm.dimensions);
        let cma = Cma::from_start(settings, &domain, &start, Stream::new(1, "search"));
        agree("covariance", 0, &lower(&cma), &warm.covariance);
        assert!(Start::from_results(&results[..9]).is_none(), "a tenth of nine is nothing");
    }
}

/// What one search has learnt is what the next begins with, integers before rounding; categories begin level.
#[test]
fn where_a_search_stands_another_begins() {
    let dimensions = vec![Dimension::Category(3), Dimension::Real, Dimension::Integer(5), Dimension::Real];
    let domain = Domain { dimensions, objectives: 1 };
    let mut cma = Cma::new(Settings::paper(8, 0.2), &domain, Stream::new(4, "search"));
    for _ in 0..12 {
        let genomes: Vec<Genome> = (0..8).map(|_| cma.ask()).collect();
        let worth = |x: &[f64]| -(x[1] - 0.3).powi(2) - (x[1] - x[3]).powi(2) * 4.0 - (x[2] - 0.7).abs();
        let told = genomes.into_iter().map(|g| Told { outcome: scored(worth(g.coordinates())), genome: g });
        cma.tell(&told.collect::<Vec<_>>());
    }
    let start = Start::of(&cma).unwrap();
    assert_eq!(
        (start.mean.len(), start.mean[1], start.mean[2]),
        (4, cma.distribution.mean[3], cma.distribution.mean[4])
    );
    let spread = start.spread();
    assert!(spread.at(1, 3) > 0.0 && spread.at(0, 1) == 0.0, "{spread:?}");
    let given = Start::given(start.mean.clone(), &spread).unwrap();
    let next = Cma::from_start(Settings::paper(8, 0.2), &domain, &given, Stream::new(5, "search"));
    let (old, new) = (&cma.distribution, &next.distribution);
    let cell = |d: &super::Distribution, i: usize, j: usize| match &d.shape {
        super::shape::Shape::Full(c) => d.sigma * d.sigma * c.at(i, j),
        super::shape::Shape::Diagonal(_) => panic!("a full covariance"),
    };
    for (i, j) in [(3, 3), (3, 4), (3, 5), (4, 4), (4, 5), (5, 5)] {
        assert!((cell(old, i, j) - cell(new, i, j)).abs() < 1e-12, "{i} {j}");
    }
    assert_eq!(new.mean[..3], [0.5; 3]);
    assert_eq!(new.mean[3..], old.mean[3..]);
    cma.schedule.restarts = 1;
    assert_eq!(Start::of(&cma), None);
}

#[test]
fn what_lies_behind_a_bent_bound_is_where_it_is_seen() {
    let mut settings = Settings::paper(6, 0.2);
    settings.cma.bounds = CmaBounds::Transform;
    let slanted = Matrix::from_fn(2, |i, j| if i == j { 1.0 } else { 0.5 });
    let start = Start { mean: vec![0.5, 0.5], sigma: 0.2, covariance: Some(slanted) };
    let mut cma = Cma::from_start(settings, &Domain::real(2), &start, Stream::new(1, "search"));
    assert_eq!(Start::of(&cma).unwrap().covariance.unwrap().at(0, 1), 0.5);
    // Folded at −0.05, −0.4 is seen as 0.3, and what rises there falls here.
    cma.distribution.mean[0] = -0.4;
    let seen = Start::of(&cma).unwrap();
    assert!((seen.mean[0] - 0.3).abs() < 1e-12 && seen.mean[1] == 0.5, "{seen:?}");
    assert_eq!(seen.covariance.unwrap().at(0, 1), -0.5);
}

#[test]
fn a_given_start_is_checked() {
    let wide = Matrix::from_fn(2, |i, j| if i == j { 0.04 } else { 0.01 });
    let start = Start::given(vec![0.3, 0.9], &wide).unwrap();
    // σ⁴ is the determinant.
    assert!((start.sigma.powi(4) - 0.0015).abs() < 1e-15);
    assert!(Start::given(vec![0.3, 1.9], &wide).is_none());
    assert!(Start::given(vec![0.3], &wide).is_none());
    assert!(Start::given(vec![0.3, 0.9], &Matrix::from_fn(2, |_, _| 0.04)).is_none());
}
