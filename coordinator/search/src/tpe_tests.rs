use super::*;
use crate::Outcome;
use common::fitness::Fitness;

/// The two programs add the kernels' terms in different orders and differ in the last bits of erfc, which a
/// logarithm of small masses enlarges.
const AGREES: f64 = 1e-8;

#[derive(Deserialize)]
struct Reference {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    kinds: Vec<i64>,
    history: Vec<Vec<f64>>,
    values: Vec<f64>,
    running: Vec<Vec<f64>>,
    points: Vec<Vec<f64>>,
    scores: Vec<f64>,
}

fn told(x: &[f64], value: Option<f64>) -> Told {
    let outcome = value.map_or(Outcome::Failed, |v| Outcome::Scored(vec![Fitness::new(v).unwrap()]));
    Told { genome: Genome::new(x.to_vec()).unwrap(), outcome }
}

fn dimension(kind: &i64) -> Dimension {
    match *kind {
        0 => Dimension::Real,
        k if k > 0 => Dimension::Integer(k as u32),
        k => Dimension::Category(-k as u32),
    }
}

#[test]
fn scores_points_as_optuna_does() {
    let text = include_str!("../tests/data/tpe_reference.json");
    let reference: Reference = serde_json::from_str(text).unwrap();
    assert!(reference.cases.len() > 4);
    for (number, case) in reference.cases.iter().enumerate() {
        let dimensions: Vec<Dimension> = case.kinds.iter().map(dimension).collect();
        let domain = Domain { dimensions: dimensions.clone(), objectives: 1 };
        let mut tpe = Tpe::new(&domain, 1, Choices::default(), Stream::new(1, "search"));
        let results: Vec<Told> =
            case.history.iter().zip(&case.values).map(|(x, v)| told(x, Some(*v))).collect();
        tpe.tell(&results);
        for x in &case.running {
            tpe.outstanding.add(&Genome::new(x.clone()).unwrap(), ());
        }
        let (good, bad) = tpe.split();
        let (good, bad) = (Parzen::new(&dimensions, &good), Parzen::new(&dimensions, &bad));
        for (point, score) in case.points.iter().zip(&case.scores) {
            let ours = good.log_density(point) - bad.log_density(point);
            assert!((ours - score).abs() < AGREES, "case {number}: {ours} here, {score} there");
        }
    }
}

#[test]
fn leaves_what_fails() {
    let mut tpe = Tpe::new(&Domain::real(1), 1, Choices::default(), Stream::new(4, "search"));
    let mut failed = Vec::new();
    for _ in 0..60 {
        let x = tpe.ask().coordinates()[0];
        failed.push(x < 0.5);
        tpe.tell(&[told(&[x], (x >= 0.5).then_some(-(x - 0.6).abs()))]);
    }
    let late = failed[30..].iter().filter(|f| **f).count();
    // Chance makes it 15.
    assert!(late < 8, "{late} of the last 30 failed");
}

#[test]
fn does_not_send_everybody_to_one_place() {
    let mut tpe = Tpe::new(&Domain::real(1), 1, Choices::default(), Stream::new(4, "search"));
    let results: Vec<Told> =
        (0..40).map(|i| f64::from(i) / 40.0).map(|x| told(&[x], Some(-(x - 0.6).abs()))).collect();
    tpe.tell(&results);
    let asked: Vec<f64> = (0..40).map(|_| tpe.ask().coordinates()[0]).collect();
    let alone = asked.iter().enumerate().filter(|(i, x)| asked[..*i].iter().all(|y| (*x - y).abs() > 1e-3));
    let alone = alone.count();
    assert!(alone > 25, "{alone} of {asked:?}");
}

#[test]
fn a_long_search_keeps_the_best_and_the_newest() {
    let mut tpe = Tpe::new(&Domain::real(1), 1, Choices::default(), Stream::new(4, "search"));
    for i in 0..1100u32 {
        let x = f64::from(i) / 1100.0;
        tpe.tell(&[told(&[x], Some(-x))]);
    }
    assert_eq!((tpe.results.len(), tpe.told), (REMEMBERED + GOOD, 1100));
    let kept: Vec<f64> = tpe.results.iter().map(|r| r.0.coordinates()[0]).collect();
    assert!((0..GOOD).all(|i| kept[i] == i as f64 / 1100.0), "the first were the best");
    assert_eq!(kept[GOOD], 100.0 / 1100.0);
}

#[test]
fn nothing_good_is_ordinary() {
    for independent in [false, true] {
        let choices = Choices { startup: 1, independent };
        let domain = Domain { dimensions: vec![Dimension::Real, Dimension::Category(1)], objectives: 1 };
        let mut tpe = Tpe::new(&domain, 1, choices, Stream::new(4, "search"));
        for _ in 0..30 {
            let genome = tpe.ask();
            assert_eq!(genome.coordinates()[1], 0.5);
            tpe.tell(&[Told { genome, outcome: Outcome::Failed }]);
        }
    }
}
