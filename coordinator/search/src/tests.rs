use super::told::ranked;
use super::*;
use common::fitness::Fitness;
use proptest::prelude::*;

fn searches(n: usize, population: usize, seed: u64) -> Vec<Box<dyn Search>> {
    let stream = || Stream::new(seed, "search");
    vec![
        Box::new(cma::Cma::new(cma::Settings::paper(population, 1.0 / 6.0), &Domain::real(n), stream())),
        Box::new(random::Random::new(n, population, stream())),
    ]
}

fn outcome(score: Option<f64>) -> Outcome {
    score.map_or(Outcome::Failed, |s| Outcome::Scored(vec![Fitness::new(s).unwrap()]))
}

/// A generation's results, made of arbitrary bits: ties, failures and extremes among them.
fn tell(search: &mut dyn Search, genomes: &[Genome], scores: &[Option<i16>]) {
    let told = |(i, genome): (usize, &Genome)| Told {
        genome: genome.clone(),
        outcome: outcome(scores[i % scores.len()].map(|s| f64::from(s) * 1e300)),
    };
    search.tell(&genomes.iter().enumerate().map(told).collect::<Vec<_>>());
}

fn generation(search: &mut dyn Search) -> Vec<Genome> {
    (0..search.population()).map(|_| search.ask()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever it is told, a search stays in the cube, and a restored one goes on as the saved one.
    #[test]
    fn any_results_are_ordinary_and_snapshots_exact(
        n in 1usize..8,
        population in 2usize..12,
        seed in any::<u64>(),
        scores in prop::collection::vec(prop::option::weighted(0.8, any::<i16>()), 1..40),
        generations in 1usize..30,
        saved_at in 0usize..30,
    ) {
        for mut search in searches(n, population, seed) {
            let mut restored: Option<Box<dyn Search>> = None;
            for g in 0..generations {
                if g == saved_at {
                    let text = serde_json::to_string(&search.snapshot()).unwrap();
                    let snapshot: Snapshot = serde_json::from_str(&text).unwrap();
                    prop_assert_eq!(&snapshot, &search.snapshot());
                    restored = Some(restore(snapshot));
                }
                let genomes = generation(search.as_mut());
                prop_assert!(genomes.iter().all(|x| x.coordinates().len() == n));
                tell(search.as_mut(), &genomes, &scores);
                if let Some(other) = &mut restored {
                    prop_assert_eq!(&generation(other.as_mut()), &genomes);
                    tell(other.as_mut(), &genomes, &scores);
                    prop_assert_eq!(other.snapshot(), search.snapshot());
                }
            }
        }
    }
}

#[test]
fn ranks_best_first_ties_in_order_failures_last() {
    let genome = || Genome::new(vec![]).unwrap();
    let scores = [Some(0.1), None, Some(0.9), Some(0.1), None, Some(-5.0)];
    let told = scores.map(|s| Told { genome: genome(), outcome: outcome(s) });
    assert_eq!(ranked(&told), [2, 0, 3, 5, 1, 4]);
}

#[test]
fn a_space_without_parameters_is_evaluated_once() {
    let mut search = fixed::Fixed::default();
    assert_eq!((search.population(), search.stop()), (1, None));
    let genome = search.ask();
    search.tell(&[Told { genome, outcome: Outcome::Failed }]);
    assert!(search.stop().is_some());
    assert_eq!(restore(search.snapshot()).stop(), search.stop());
}

#[test]
fn random_covers_the_cube() {
    let mut search = random::Random::new(2, 10, Stream::new(1, "search"));
    let points: Vec<Genome> = (0..400).map(|_| search.ask()).collect();
    for corner in 0..4 {
        let inside = |g: &&Genome| (0..2).all(|i| (g.coordinates()[i] > 0.5) == (corner >> i & 1 == 1));
        // A quarter of 400, give or take four standard deviations.
        assert!((65..=135).contains(&points.iter().filter(inside).count()));
    }
}
