//! `start --refine`: a new run begins with the distribution of an earlier one, over more parameters.

use super::Failure;
use crate::state::{Durable, RefinedFrom, State};
use crate::store::Store;
use crate::store::sled::Sled;
use common::location::Location;
use common::refine::{Distribution, Refinement};
use common::run::{Algorithm, RunPlan};
use common::seed::Stream;
use search::Snapshot;
use search::cma::Cma;
use search::linalg::Matrix;
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
    let coarse = state.plan();
    let usage =
        |e: common::refine::RefineError| Failure::Usage(format!("--refine {}: {e}", folder.display()));
    let refinement = Refinement::new(coarse, fine, layers(fine)).map_err(usage)?;
    let (distribution, how) = distribution(&state).ok_or_else(|| {
        Failure::Usage(format!("--refine {}: nothing was scored there to go on from", folder.display()))
    })?;
    let Distribution { mean, covariance } =
        refinement.distribution(&distribution, fine.search.sigma).map_err(usage)?;
    let n = mean.len();
    // The step size is the deviation on the whole; the matrix then has a mean variance of 1.
    let variance = (0..n).map(|i| covariance[i][i]).sum::<f64>() / n as f64;
    let scaled = covariance.iter().map(|row| row.iter().map(|c| c / variance).collect()).collect();
    let stream = Stream::new(fine.seed, "search");
    let cma = Cma::from_distribution(
        mean,
        Matrix::of_rows(scaled),
        variance.sqrt(),
        fine.search.population,
        stream,
    );
    durable.searched.snapshot = Snapshot::CmaEs(Box::new(cma));
    let evaluations = state.progress().evaluations_done;
    let run = state.identity().run.clone();
    let line = format!(
        "refines {run}: {} parameters of its {}, from {how} after {evaluations} evaluations",
        n,
        coarse.space.dimensions()
    );
    durable.identity.refined_from =
        Some(RefinedFrom { run, plan_digest: coarse.digest(), evaluations, how: how.into() });
    Ok(line)
}

/// Where a search stands: its own distribution where it has one, else that of its best results.
fn distribution(state: &State) -> Option<(Distribution, &'static str)> {
    match state.durable().searched.snapshot {
        Snapshot::CmaEs(cma) => {
            let (mean, covariance) = cma.distribution();
            Some((Distribution { mean, covariance }, "the distribution of its search"))
        }
        _ => Some((of_best(state)?, "the mean and covariance of its best results")),
    }
}

/// Weighted mean and covariance of the better half of what was scored, with the weights of CMA-ES's recombination
/// (N. Hansen, "The CMA Evolution Strategy: A Tutorial", arXiv 1604.00772, eq. 49 and 53), at most 4 + 10 n of them.
fn of_best(state: &State) -> Option<Distribution> {
    let n = state.plan().space.dimensions();
    let mut scored: Vec<_> = state.candidates().iter().filter_map(|c| Some((c.fitness()?, c))).collect();
    scored.sort_by_key(|(fitness, c)| (std::cmp::Reverse(*fitness), c.id()));
    let mu = scored.len().div_ceil(2).min(4 + 10 * n);
    let raw: Vec<f64> = (1..=mu).map(|i| (mu as f64 + 0.5).ln() - (i as f64).ln()).collect();
    let total: f64 = raw.iter().sum();
    let points: Vec<&[f64]> = scored.iter().take(mu).map(|(_, c)| c.genome().coordinates()).collect();
    let weighted =
        |f: &dyn Fn(&[f64]) -> f64| -> f64 { raw.iter().zip(&points).map(|(w, x)| w / total * f(x)).sum() };
    if points.is_empty() {
        return None;
    }
    let mean: Vec<f64> = (0..n).map(|i| weighted(&|x| x[i])).collect();
    let cell = |i: usize, j: usize| weighted(&|x| (x[i] - mean[i]) * (x[j] - mean[j]));
    let covariance = (0..n).map(|i| (0..n).map(|j| cell(i, j)).collect()).collect();
    Some(Distribution { mean, covariance })
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
    use crate::testing::{manifest, plan};
    use common::time::Millis;

    /// A run in a folder, as far as its beginning.
    fn begun(overrides: &[&str]) -> (tempfile::TempDir, RunPlan) {
        let folder = tempfile::tempdir().unwrap();
        let plan = plan(overrides);
        let durable = Durable::new(&plan, manifest(), Millis(7));
        Sled::open_or_create(folder.path()).unwrap().commit(&durable.records()).unwrap();
        (folder, plan)
    }

    #[test]
    fn a_run_goes_on_with_more_parameters() {
        let (folder, coarse) = begun(&[]);
        let fine = plan(&["parameters.weight={ layers = 4 }"]);
        let mut durable = Durable::new(&fine, manifest(), Millis(8));
        let line = refine(&mut durable, &fine, folder.path()).unwrap();
        assert!(line.contains("12 parameters of its 6, from the distribution of its search"), "{line}");
        assert_eq!(durable.identity.refined_from.as_ref().unwrap().plan_digest, coarse.digest());
        let Snapshot::CmaEs(cma) = &durable.searched.snapshot else { panic!() };
        let (mean, covariance) = cma.distribution();
        assert_eq!(mean, [0.5; 12]);
        // The first two of the new weights are children of one parent, and part by as much as it varies.
        let difference = covariance[4][4] + covariance[5][5] - 2.0 * covariance[4][5];
        assert!((difference - 2.0 / 36.0).abs() < 1e-9, "{difference}");
        // What is stored is taken up again.
        let mut search = search::restore(durable.searched.snapshot.clone());
        assert_eq!(search.ask().coordinates().len(), 12);
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
        assert!(e.contains("nothing was scored"), "{e}");
    }
}
