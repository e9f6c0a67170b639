//! A new run's folder that begins with the rescored results of an earlier run.

use super::history::History;
use super::{Failure, folder, tell};
use crate::state::candidate::Score;
use crate::state::{Durable, Record};
use crate::store::Store;
use crate::store::sled::Sled;
use common::digest::Manifest;
use common::evaluation::Evaluation;
use common::files;
use common::fitness::Fitness;
use common::id::CandidateId;
use common::run::RunPlan;
use std::collections::BTreeMap;
use std::path::Path;

/// The new run while it is being written.
pub(super) struct Next<'a> {
    folder: &'a Path,
    store: Sled,
    old: Durable,
    scores: BTreeMap<CandidateId, Score>,
}

impl<'a> Next<'a> {
    /// Makes the folder, which must be new or empty. The earlier run must be at rest.
    pub fn begin(folder: &'a Path, history: &History) -> Result<Next<'a>, Failure> {
        let old = history.durable().ok_or_else(|| {
            Failure::Usage(
                "a coordinator is serving this run: stop it first, then begin another from it".into(),
            )
        })?;
        folder::create(folder)?;
        let store = Sled::open_or_create(folder)?;
        Ok(Next { folder, store, old, scores: BTreeMap::new() })
    }

    /// Takes a candidate's new scores over.
    pub fn candidate(
        &mut self,
        id: CandidateId,
        fitness: Fitness,
        evaluation: &Evaluation,
    ) -> Result<(), Failure> {
        // Texts go to disk at once; until the identity stands there, too, the folder holds no run.
        self.store.commit(&[Record::Evaluation(id, evaluation.clone())])?;
        let (means, timings) = (evaluation.means(), evaluation.timings);
        self.scores.insert(id, Score { fitness, means, timings });
        Ok(())
    }

    /// Writes the run itself, and says how it goes on.
    pub fn finish(mut self, plan: &RunPlan) -> Result<(), Failure> {
        let failed = |e: files::FilesError| Failure::Failed(e.to_string());
        // What decides scores is pinned anew; models and dataset are the same.
        let scoring = |name: &str| name.starts_with("scoring/") || name.starts_with("external/");
        let kept = self.old.pinned.manifest.files().iter().filter(|f| !scoring(&f.name));
        let mut pinned: Vec<_> = kept.cloned().collect();
        pinned.extend(files::digest_scoring(&plan.scoring).map_err(failed)?);
        pinned.extend(files::digest_programs(plan).map_err(failed)?);
        let now = (crate::driver::system_clock())();
        let durable = self.old.continued(plan, Manifest::new(pinned), &self.scores, now);
        self.store.commit(&durable.records())?;
        folder::write_run(self.folder, &durable.identity)?;
        let (run, results) = (&durable.identity.run, self.scores.len());
        tell(&format!(
            "{run} begins with {results} results; go on with: jradievo resume {}",
            self.folder.display()
        ));
        let budget = plan.search.evaluations;
        if budget <= durable.candidates.len() as u64 {
            tell(&format!("its budget of {budget} evaluations is used up: --evaluations N gives it more"));
        }
        Ok(())
    }
}
