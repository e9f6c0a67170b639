//! The variants against recorded steps of `cmaes` (`scripts/golden/cma_variants_reference.py`).

use super::tests::{agree, ask, lower, scored};
use super::*;
use crate::Dimension;
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

#[test]
fn a_given_start_is_checked() {
    use crate::linalg::Matrix;
    let wide = Matrix::from_fn(2, |i, j| if i == j { 0.04 } else { 0.01 });
    let start = Start::given(vec![0.3, 0.9], &wide).unwrap();
    // σ⁴ is the determinant.
    assert!((start.sigma.powi(4) - 0.0015).abs() < 1e-15);
    assert!(Start::given(vec![0.3, 1.9], &wide).is_none());
    assert!(Start::given(vec![0.3], &wide).is_none());
    assert!(Start::given(vec![0.3, 0.9], &Matrix::from_fn(2, |_, _| 0.04)).is_none());
}
