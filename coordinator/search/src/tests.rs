use super::told::ranked;
use super::*;
use common::fitness::Fitness;
use common::run::ALGORITHMS;
use proptest::prelude::*;

fn plan(algorithm: Algorithm, population: usize) -> SearchPlan {
    SearchPlan::new(algorithm, population, 1.0 / 6.0, 300)
}

/// Every algorithm, and every way to set one up.
fn searches(domain: &Domain, population: usize, seed: u64) -> Vec<Box<dyn Search>> {
    let stream = || Stream::new(seed, "search");
    let mut plans: Vec<SearchPlan> = ALGORITHMS.iter().map(|(_, a)| plan(*a, population)).collect();
    plans.push(SearchPlan { independent: true, startup: Some(3), ..plan(Algorithm::Tpe, population) });
    let mut searches: Vec<Box<dyn Search>> = plans.iter().map(|p| begin(p, domain, stream())).collect();
    let starts = vec![domain.genome(&vec![0.3; domain.dimensions.len()]); 3];
    for (_, algorithm) in ALGORITHMS {
        let beginning = Beginning { starts: starts.clone(), history: Vec::new() };
        let plan = plan(algorithm, population);
        searches.push(Box::new(begin_from(&plan, domain, stream(), beginning).unwrap()));
    }
    searches
}

fn outcome(score: Option<f64>) -> Outcome {
    score.map_or(Outcome::Failed, |s| Outcome::Scored(vec![Fitness::new(s).unwrap()]))
}

/// A result made of arbitrary numbers: `None` failed, odd ones are bounds.
fn result(genome: Genome, score: Option<i16>, objectives: usize) -> Told {
    let fitness = |k: usize| Fitness::new(f64::from(score.unwrap_or(0)) * 1e300 / (k + 1) as f64).unwrap();
    let outcome = match score {
        None => Outcome::Failed,
        Some(s) if s % 7 == 3 => Outcome::Censored(fitness(0)),
        Some(_) => Outcome::Scored((0..objectives).map(fitness).collect()),
    };
    Told { genome, outcome }
}

fn dimension() -> impl Strategy<Value = Dimension> {
    prop_oneof![
        3 => Just(Dimension::Real),
        1 => (1u32..6).prop_map(Dimension::Integer),
        1 => (1u32..6).prop_map(Dimension::Category),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    /// Whatever it is told, in whatever order and number, a search stays in its domain, and a restored one goes on as
    /// the saved one: bits and all.
    #[test]
    fn any_results_are_ordinary_and_snapshots_exact(
        dimensions in prop::collection::vec(dimension(), 1..6),
        objectives in 1usize..4,
        population in 2usize..12,
        seed in any::<u64>(),
        scores in prop::collection::vec(prop::option::weighted(0.8, any::<i16>()), 1..40),
        // So many are asked for, then so many are told, of the outstanding ones from anywhere.
        steps in prop::collection::vec((0usize..14, 0usize..14, any::<usize>()), 1..25),
        saved_at in 0usize..25,
    ) {
        let domain = Domain { dimensions, objectives };
        for mut search in searches(&domain, population, seed) {
            let real = matches!(search.snapshot(), Snapshot::CmaEs(_));
            let real = real || matches!(search.snapshot(), Snapshot::Starting { search, .. }
                if matches!(*search, Snapshot::CmaEs(_)));
            let mut restored: Option<Box<dyn Search>> = None;
            let mut outstanding: Vec<Genome> = Vec::new();
            let mut count = 0;
            for (i, (ask, tell, from)) in steps.iter().copied().enumerate() {
                if i == saved_at {
                    let text = serde_json::to_string(&search.snapshot()).unwrap();
                    let snapshot: Snapshot = serde_json::from_str(&text).unwrap();
                    prop_assert_eq!(&snapshot, &search.snapshot());
                    restored = Some(restore(snapshot));
                }
                for _ in 0..ask {
                    let genome = search.ask();
                    prop_assert_eq!(genome.coordinates().len(), domain.dimensions.len());
                    // CMA-ES of this crate may hand out what lies between counted values.
                    prop_assert!(real || domain.genome(genome.coordinates()) == genome);
                    if let Some(other) = &mut restored {
                        prop_assert_eq!(&other.ask(), &genome);
                    }
                    outstanding.push(genome);
                }
                let mut results = Vec::new();
                for k in 0..tell {
                    // Every fifth is a genome that nobody asked for.
                    let genome = match outstanding.is_empty() || k % 5 == 4 {
                        true => domain.uniform(&mut Stream::new(seed ^ i as u64, "stranger")),
                        false => outstanding.remove(from % outstanding.len()),
                    };
                    results.push(result(genome, scores[count % scores.len()], objectives));
                    count += 1;
                }
                search.tell(&results);
                prop_assert!(search.population() > 0);
                if let Some(other) = &mut restored {
                    other.tell(&results);
                    prop_assert_eq!(other.snapshot(), search.snapshot());
                    prop_assert_eq!(other.stop(), search.stop());
                }
            }
        }
    }
}

/// A smooth hill, not at the middle of the cube, with coordinates of different steepness.
fn hill(x: &[f64]) -> f64 {
    let term = |(i, x): (usize, &f64)| (1.0 + i as f64) * (x - 0.2 - 0.1 * i as f64).powi(2);
    -x.iter().enumerate().map(term).sum::<f64>()
}

fn scored(genome: Genome) -> Told {
    let value = hill(genome.coordinates());
    Told { outcome: outcome(Some(value)), genome }
}

/// The best of so many evaluations, `batch` at a time; of several seeds the middle one.
fn best(algorithm: Algorithm, batch: usize, evaluations: usize) -> f64 {
    let mut bests: Vec<f64> = (0..5)
        .map(|seed| {
            let plan = SearchPlan { evaluations: evaluations as u64, ..plan(algorithm, 10) };
            let mut search = begin(&plan, &Domain::real(5), Stream::new(seed, "search"));
            let mut best = f64::NEG_INFINITY;
            for _ in 0..evaluations / batch {
                let results: Vec<Told> = (0..batch).map(|_| scored(search.ask())).collect();
                best = results.iter().map(|t| t.fitness().unwrap().value()).fold(best, f64::max);
                search.tell(&results);
            }
            best
        })
        .collect();
    bests.sort_by(f64::total_cmp);
    bests[2]
}

#[test]
fn every_search_that_learns_beats_chance_by_far() {
    let random = best(Algorithm::Random, 10, 300);
    for algorithm in [Algorithm::Tpe, Algorithm::De, Algorithm::Nsga2] {
        for batch in [1, 10] {
            let found = best(algorithm, batch, 300);
            // Distances from the top: less than a third of what chance leaves.
            assert!(found > random / 3.0, "{algorithm:?} in batches of {batch}: {found}, by chance {random}");
        }
    }
    // Evenness alone is no learning: Sobol is held to be no worse than chance by much.
    assert!(best(Algorithm::Sobol, 10, 300) > 2.0 * random);
}

/// For every pair: 150 results of one algorithm, told to another in the order in which they were recorded.
#[test]
fn a_search_goes_on_with_any_other_algorithm() {
    let domain = Domain::real(4);
    let stream = || Stream::new(3, "search");
    for (_, first) in ALGORITHMS {
        let mut search = begin(&plan(first, 10), &domain, stream());
        let mut history = Vec::new();
        for _ in 0..15 {
            let results: Vec<Told> = (0..10).map(|_| scored(search.ask())).collect();
            search.tell(&results);
            history.extend(results);
        }
        for (name, second) in ALGORITHMS {
            let beginning = Beginning { starts: Vec::new(), history: history.clone() };
            let mut other = begin_from(&plan(second, 10), &domain, stream(), beginning).unwrap();
            let next: Vec<Told> = (0..20).map(|_| scored(other.ask())).collect();
            other.tell(&next);
            let mean =
                |r: &[Told]| r.iter().map(|t| t.fitness().unwrap().value()).sum::<f64>() / r.len() as f64;
            // A search that learns from history begins where it ended: better than its chance beginning.
            if matches!(second, Algorithm::Tpe | Algorithm::De | Algorithm::Nsga2) {
                let mut fresh = begin(&plan(second, 10), &domain, stream());
                let from_nothing: Vec<Told> = (0..20).map(|_| scored(fresh.ask())).collect();
                assert!(mean(&next) > mean(&from_nothing), "{first:?}, then {name}");
            }
        }
    }
}

#[test]
fn starting_points_come_first_and_their_results_arrive() {
    let domain = Domain::real(2);
    let point = |x: f64| Genome::new(vec![x, x]).unwrap();
    for (name, algorithm) in ALGORITHMS {
        let beginning = Beginning { starts: vec![point(0.1), point(0.9)], history: Vec::new() };
        let stream = || Stream::new(1, "search");
        let mut search = begin_from(&plan(algorithm, 4), &domain, stream(), beginning).unwrap();
        let mut plain = begin(&plan(algorithm, 4), &domain, stream());
        assert_eq!(
            (search.ask(), search.ask(), search.ask()),
            (point(0.1), point(0.9), plain.ask()),
            "{name}"
        );
        search.push(point(0.4));
        assert_eq!((search.waiting(), search.ask()), (1, point(0.4)));
        let mut told = plain;
        let results = [0.1, 0.9, 0.4, 0.2].map(|x| scored(point(x)));
        search.tell(&results);
        told.tell(&results);
        let Snapshot::Starting { search: inner, .. } = search.snapshot() else { panic!("it is wrapped") };
        assert_eq!(*inner, told.snapshot(), "{name}");
    }
    let other = Beginning { starts: vec![Genome::new(vec![0.5]).unwrap()], history: Vec::new() };
    let error = begin_from(&plan(Algorithm::Tpe, 4), &domain, Stream::new(1, "s"), other).unwrap_err();
    assert_eq!(error, OtherSpace { expected: 2, found: 1 });
}

#[test]
fn a_fixed_space_is_one_evaluation_with_every_algorithm() {
    for (_, algorithm) in ALGORITHMS {
        let mut search = begin(&plan(algorithm, 4), &Domain::real(0), Stream::new(1, "search"));
        let genome = search.ask();
        search.tell(&[Told { genome, outcome: outcome(Some(1.0)) }]);
        assert!(search.stop().is_some());
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
    let mut search = random::Random::new(&Domain::real(2), 10, Stream::new(1, "search"));
    let points: Vec<Genome> = (0..400).map(|_| search.ask()).collect();
    for corner in 0..4 {
        let inside = |g: &&Genome| (0..2).all(|i| (g.coordinates()[i] > 0.5) == (corner >> i & 1 == 1));
        // A quarter of 400, give or take four standard deviations.
        assert!((65..=135).contains(&points.iter().filter(inside).count()));
    }
}
