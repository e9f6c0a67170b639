//! Any settings, any results, in any number and order: the search stays in its domain, and a restored one goes on as the
//! saved one.

use super::*;
use crate::{Dimension, restore};
use common::fitness::Fitness;
use common::run::{CmaConstants, CmaPlan, Covariance, LearningRate, Restarts};
use proptest::prelude::*;

fn plans() -> impl Strategy<Value = CmaPlan> {
    (
        prop::sample::select(vec![CmaBounds::Resample, CmaBounds::Transform]),
        prop::sample::select(vec![CmaConstants::Tutorial, CmaConstants::Pycma]),
        prop::sample::select(vec![Covariance::Full, Covariance::Separable]),
        prop::sample::select(vec![LearningRate::Fixed, LearningRate::Adaptive]),
        prop::sample::select(vec![Restarts::None, Restarts::Ipop, Restarts::Bipop]),
    )
        .prop_map(|(bounds, constants, covariance, learning_rate, restarts)| CmaPlan {
            bounds,
            constants,
            covariance,
            learning_rate,
            restarts,
        })
}

fn domains() -> impl Strategy<Value = Domain> {
    let dimension = prop_oneof![
        4 => Just(Dimension::Real),
        1 => (1u32..6).prop_map(Dimension::Integer),
        1 => (1u32..5).prop_map(Dimension::Category),
    ];
    prop::collection::vec(dimension, 1..6).prop_map(|dimensions| Domain { dimensions, objectives: 1 })
}

/// An outcome made of arbitrary bits: ties, failures, bounds and extremes among them.
fn outcome(bits: i16) -> Outcome {
    let fitness = Fitness::new(f64::from(bits / 8) * 1e300).unwrap();
    match bits.rem_euclid(8) {
        0 => Outcome::Failed,
        1 | 2 => Outcome::Censored(fitness),
        _ => Outcome::Scored(vec![fitness]),
    }
}

/// One thing that happens to a search: it is asked, or told the outcome of one of the outstanding genomes, or of one that
/// nobody asked for.
fn happen(search: &mut dyn Search, outstanding: &mut Vec<Genome>, n: usize, (what, bits): (u8, i16)) {
    match what {
        0..=5 => outstanding.push(search.ask()),
        6 => {
            let genome = Genome::new(vec![f64::from(bits.unsigned_abs()) / 32768.0; n]).unwrap();
            search.tell(&[Told { genome, outcome: outcome(bits) }]);
        }
        _ if outstanding.is_empty() => {}
        _ => {
            let genome = outstanding.swap_remove(what as usize % outstanding.len());
            search.tell(&[Told { genome, outcome: outcome(bits) }]);
        }
    }
}

fn on_its_grid(dimension: Dimension, x: f64) -> bool {
    match dimension {
        Dimension::Real => (0.0..=1.0).contains(&x),
        Dimension::Integer(k) | Dimension::Category(k) => (0..k).any(|i| middle(i, k) == x),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn any_history_is_ordinary_and_snapshots_are_exact(
        cma in plans(),
        domain in domains(),
        population in 2usize..8,
        seed in any::<u64>(),
        events in prop::collection::vec((0u8..13, any::<i16>()), 1..250),
        saved_at in 0usize..200,
    ) {
        let n = domain.dimensions.len();
        let settings = Settings { population, sigma: 0.2, evaluations: 300, cma };
        let mut search: Box<dyn Search> = Box::new(Cma::new(settings, &domain, Stream::new(seed, "search")));
        let mut restored: Option<(Box<dyn Search>, Vec<Genome>)> = None;
        let mut outstanding = Vec::new();
        for (i, event) in events.into_iter().enumerate() {
            if i == saved_at {
                let text = serde_json::to_string(&search.snapshot()).unwrap();
                let snapshot: Snapshot = serde_json::from_str(&text).unwrap();
                prop_assert_eq!(&snapshot, &search.snapshot());
                restored = Some((restore(snapshot), outstanding.clone()));
            }
            happen(search.as_mut(), &mut outstanding, n, event);
            if let Some((other, theirs)) = &mut restored {
                happen(other.as_mut(), theirs, n, event);
                prop_assert_eq!(&*theirs, &outstanding);
            }
            if let Some(genome) = outstanding.last() {
                for (dimension, x) in domain.dimensions.iter().zip(genome.coordinates()) {
                    prop_assert!(on_its_grid(*dimension, *x), "{dimension:?} {x}");
                }
            }
        }
        if let Some((other, _)) = restored {
            prop_assert_eq!(other.snapshot(), search.snapshot());
        }
    }
}

#[test]
fn a_snapshot_does_not_grow_with_time() {
    // A budget that leaves no room for doubling, so that restarts are many.
    let cma = CmaPlan { restarts: Restarts::Ipop, ..CmaPlan::default() };
    let settings = Settings { population: 4, sigma: 0.2, evaluations: 100, cma };
    let mut search = Cma::new(settings, &Domain::real(2), Stream::new(3, "search"));
    let mut largest = [0, 0];
    for half in &mut largest {
        for i in 0..30_000 {
            // Nobody tells of every second one.
            search.ask();
            let genome = search.ask();
            search.tell(&[Told { genome, outcome: outcome(3 + 8 * (i % 7) as i16) }]);
            if i % 5_000 == 4_999 {
                *half = (*half).max(serde_json::to_string(&search.snapshot()).unwrap().len());
            }
        }
    }
    assert!(search.schedule.restarts > 50, "{}", search.schedule.restarts);
    // Numbers are not all as long as each other.
    assert!((largest[1] as f64) < 1.05 * largest[0] as f64, "{largest:?}");
}
