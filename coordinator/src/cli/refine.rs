//! `start --refine`: a new run begins with the distribution of an earlier one, over more parameters.
//!
//! How one space descends from the other is `common::refine`'s affair. The best point of the earlier run comes first, so that
//! the new one is never behind it: where weights and scales are divided it is the same merge again.

use super::Failure;
use crate::state::journal::Place;
use crate::state::{Durable, RefinedFrom, State, domain, starting};
use crate::store::Store;
use crate::store::sled::Sled;
use common::genome::Genome;
use common::location::Location;
use common::refine::{Distribution, RefineError, Refinement};
use common::run::{Algorithm, RunPlan};
use common::seed::Stream;
use search::cma::Start;
use search::linalg::Matrix;
use search::{Outcome, Snapshot, Starting, Told};
use std::path::Path;

/// Gives the new run the search that goes on from the run in `folder`. Yields a line for people.
///
/// # Errors
/// [`Failure`]: the earlier run cannot be read or has nothing to go on from, or the new space does not refine its.
pub(super) fn refine(durable: &mut Durable, fine: &RunPlan, folder: &Path) -> Result<String, Failure> {
    if fine.search.algorithm != Algorithm::CmaEs || fine.space.dimensions() == 0 {
        let text = "--refine hands a mean and a covariance on, which only the algorithm cma-es has, with something to \
                    search: set search.algorithm = \"cma-es\"";
        return Err(Failure::Usage(text.into()));
    }
    let store = Sled::open(folder)?;
    let empty = || crate::store::Error::Empty { folder: folder.to_path_buf() };
    let state =
        State::restore(store.load()?.ok_or_else(empty)?).map_err(|e| Failure::Failed(e.to_string()))?;
    let usage = |why: String| Failure::Usage(format!("--refine {}: {why}", folder.display()));
    let refused = |e: RefineError| usage(e.to_string());

    let coarse = state.plan();
    let refinement = Refinement::new(coarse, fine, layers(fine)).map_err(refused)?;
    let (from, how) = standing(&state).map_err(usage)?;
    let start = start(&refinement, &from, fine.search.sigma).map_err(refused)?;
    let space = domain(fine);
    let best = state.best().and_then(|(id, _)| state.candidate(id));
    let first = best.and_then(|c| Some((c.id(), refinement.point(c.genome().coordinates()).ok()?)));
    let cma = search::begin_at(&fine.search, &space, &start, Stream::new(fine.seed, "search"));
    let genomes: Vec<Genome> = first.iter().map(|(_, point)| space.genome(point)).collect();
    let search = Starting::new(genomes.clone(), cma);
    let search = starting(fine, Box::new(search), &genomes.iter().collect::<Vec<_>>());
    durable.begin_with(search.as_ref(), 0, Place::default());

    let (run, evaluations) = (state.identity().run.clone(), state.progress().evaluations_done);
    let first = first.map(|(id, _)| id);
    let line = format!(
        "refines {run}: {} parameters of its {}, from {how} after {evaluations} evaluations{}",
        space.dimensions.len(),
        coarse.space.dimensions(),
        first.map_or(String::new(), |id| format!("; its best, candidate {id}, comes first"))
    );
    let plan_digest = coarse.digest();
    durable.identity.refined_from =
        Some(RefinedFrom { run, plan_digest, evaluations, how: how.into(), first });
    Ok(line)
}

/// The fine search's first distribution.
fn start(refinement: &Refinement, from: &Start, sigma: f64) -> Result<Start, RefineError> {
    let (spread, n) = (from.spread(), from.mean.len());
    let covariance = (0..n).map(|i| (0..n).map(|j| spread.at(i, j)).collect()).collect();
    let coarse = Distribution { mean: from.mean.clone(), covariance };
    let Distribution { mean, covariance } = refinement.distribution(&coarse, sigma)?;
    let spread = Matrix::from_fn(mean.len(), |i, j| covariance[i][j]);
    Start::given(mean, &spread).ok_or(RefineError::Narrow)
}

/// Where a search stands: its own distribution where it has one, else what its best results promise.
fn standing(state: &State) -> Result<(Start, &'static str), String> {
    let mut snapshot = state.search_snapshot();
    while let Snapshot::Starting { search, .. } = snapshot {
        snapshot = *search;
    }
    if let Snapshot::CmaEs(saved) = snapshot
        && let Some(start) = Start::of(&saved.restore())
    {
        return Ok((start, "the distribution of its search"));
    }
    let scored = state.candidates().iter().filter_map(|c| Some((c.genome(), c.fitness()?)));
    let told = |(genome, fitness): (&Genome, _)| Told {
        genome: genome.clone(),
        outcome: Outcome::Scored(vec![fitness]),
    };
    let start = Start::from_results(&scored.map(told).collect::<Vec<_>>()).ok_or(
        "its search has no distribution (it is no CMA-ES, or was begun anew since), and fewer than ten candidates were \
         scored to make one of",
    )?;
    Ok((start, "the best tenth of its results"))
}

/// The depth of the base, where its configuration can be read here.
fn layers(plan: &RunPlan) -> Option<u32> {
    let Ok(Location::Folder(folder)) = plan.models.base.location() else { return None };
    let text = std::fs::read_to_string(Path::new(&folder).join("config.json")).ok()?;
    let config: serde_json::Value = serde_json::from_str(&text).ok()?;
    u32::try_from(config.get("num_hidden_layers")?.as_u64()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;
    use crate::testing::{manifest, plan, uninterrupted};
    use common::time::Millis;

    /// A run in a folder, as far as its beginning.
    fn begun(overrides: &[&str]) -> (tempfile::TempDir, RunPlan) {
        let plan = plan(overrides);
        (stored(&Durable::new(&plan, manifest(), Millis(7))), plan)
    }

    fn stored(durable: &Durable) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        Sled::open_or_create(folder.path()).unwrap().commit(&durable.records()).unwrap();
        folder
    }

    #[test]
    fn a_run_goes_on_with_more_parameters() {
        let (folder, coarse) = begun(&[]);
        let fine = plan(&["parameters.weight={ layers = 4 }"]);
        let mut durable = Durable::new(&fine, manifest(), Millis(8));
        let line = refine(&mut durable, &fine, folder.path()).unwrap();
        assert!(line.contains("12 parameters of its 6, from the distribution of its search"), "{line}");
        assert_eq!(durable.identity.refined_from.as_ref().unwrap().plan_digest, coarse.digest());
        let Snapshot::Starting { queue, search } = &durable.searched.snapshot else { panic!() };
        let Snapshot::CmaEs(saved) = &**search else { panic!() };
        let start = Start::of(&saved.clone().restore()).unwrap();
        assert!(
            queue.is_empty() && start.mean.iter().all(|m| *m == 0.5),
            "nothing was scored yet: {start:?}"
        );
        // The first two of the new weights are children of one parent, and part by as much as it varies.
        let spread = start.spread();
        let difference = spread.at(4, 4) + spread.at(5, 5) - 2.0 * spread.at(4, 5);
        assert!((difference - 2.0 / 36.0).abs() < 1e-9, "{difference}");
        // What is stored is taken up again.
        let mut search = search::restore(durable.searched.snapshot.clone());
        assert_eq!(search.ask().coordinates().len(), 12);
    }

    #[test]
    fn the_best_of_the_earlier_run_comes_first() {
        let coarse = plan(&["parameters.trim_rate=0.2"]);
        let done = uninterrupted(&coarse);
        let folder = stored(&done.durable());
        let fine =
            plan(&["parameters.trim_rate=0.2", "parameters.weight={ layers = 4, low = -1.0, high = 2.0 }"]);
        let mut durable = Durable::new(&fine, manifest(), Millis(8));
        let line = refine(&mut durable, &fine, folder.path()).unwrap();
        let (id, _) = done.best().unwrap();
        assert!(line.contains(&format!("its best, candidate {id}, comes first")), "{line}");
        assert_eq!(durable.identity.refined_from.as_ref().unwrap().first, Some(id));
        let mut search = search::restore(durable.searched.snapshot.clone());
        // The same merge, each number for every group.
        let best = coarse.recipe(done.candidate(id).unwrap().genome());
        let again = fine.recipe(&search.ask());
        for (a, b) in best.sources.iter().zip(&again.sources) {
            let (weight, numbers) = (a.weight.same().unwrap(), b.weight.numbers());
            assert_eq!(numbers.len(), 4);
            assert!(numbers.iter().all(|(_, x)| (x - weight).abs() < 1e-12), "{weight} {numbers:?}");
            assert_eq!(a.drop_rate, b.drop_rate);
        }
        // What the earlier search had learnt to be narrow is so here: its own deviations are below the first ones.
        let Snapshot::Starting { search, .. } = durable.searched.snapshot else { panic!() };
        let Snapshot::CmaEs(saved) = *search else { panic!() };
        let spread = Start::of(&saved.restore()).unwrap().spread();
        let Snapshot::CmaEs(saved) = done.durable().searched.snapshot else { panic!() };
        let before = Start::of(&saved.restore()).unwrap().spread();
        // One drop rate, one scale: first in both spaces, and not divided.
        for i in 0..2 {
            assert!((spread.at(i, i) / before.at(i, i) - 1.0).abs() < 1e-6, "{i}");
        }
    }

    #[test]
    fn what_cannot_go_on_is_refused() {
        let (folder, _) = begun(&["parameters.weight={ layers = 4 }"]);
        let check = |overrides: &[&str], expected: &str| {
            let fine = plan(overrides);
            let mut durable = Durable::new(&fine, manifest(), Millis(8));
            let e = refine(&mut durable, &fine, folder.path()).unwrap_err().to_string();
            assert!(e.contains(expected), "{e}");
        };
        check(&["parameters.weight={ layers = 6 }"], "weight of a: the group of layers");
        check(&["search.algorithm=random"], "search.algorithm");
        let (folder, _) = begun(&["search.algorithm=random"]);
        let fine = plan(&[]);
        let mut durable = Durable::new(&fine, manifest(), Millis(8));
        let e = refine(&mut durable, &fine, folder.path()).unwrap_err().to_string();
        assert!(e.contains("fewer than ten candidates"), "{e}");
    }
}
