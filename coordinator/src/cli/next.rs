//! A new run's folder that begins with the results of an earlier run.

use super::history::History;
use super::{Failure, folder, tell};
use crate::state::candidate::Score;
use crate::state::{Carried, Durable, Record};
use crate::store::Store;
use crate::store::sled::Sled;
use common::digest::{FileDigest, Manifest};
use common::evaluation::Evaluation;
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
    /// What of it goes along.
    carried: BTreeMap<CandidateId, Carried>,
}

impl<'a> Next<'a> {
    /// Makes the folder, which must be new or empty. The earlier run must be at rest.
    pub fn begin(folder: &'a Path, history: &History, plan: &RunPlan) -> Result<Next<'a>, Failure> {
        let old = history.durable().ok_or_else(|| {
            Failure::Usage(
                "a coordinator is serving this run: stop it first, then begin another from it".into(),
            )
        })?;
        let carried = old.carried(&history.plan, plan);
        // Before a folder is made for a run that would be refused.
        if !old.candidates.iter().any(|c| c.fitness().is_some() && carried.contains_key(&c.id())) {
            let text = "no scored candidate lies in the new space: start a run without them";
            return Err(Failure::Absent(format!("{}: {text}", history.run)));
        }
        folder::create(folder)?;
        let store = Sled::open_or_create(folder)?;
        Ok(Next { folder, store, old, carried })
    }

    /// Whether a candidate goes along.
    pub fn carries(&self, id: CandidateId) -> bool {
        self.carried.contains_key(&id)
    }

    /// Takes a candidate's reports over, under their new scores.
    pub fn candidate(
        &mut self,
        id: CandidateId,
        fitness: Fitness,
        evaluation: &Evaluation,
    ) -> Result<(), Failure> {
        let Some(carried) = self.carried.get_mut(&id) else { return Ok(()) };
        let (means, timings) = (evaluation.means(), evaluation.timings);
        carried.score = Some(Score { fitness, means, timings });
        // Texts go to disk at once; until the identity stands there, too, the folder holds no run.
        self.store.commit(&[Record::Evaluation(carried.id, evaluation.clone())])?;
        Ok(())
    }

    /// Writes the run itself, and says how it goes on. `scoring` are the files that decide scores from now on; without
    /// them it is those of the earlier run.
    pub fn finish(mut self, plan: &RunPlan, scoring: Option<Vec<FileDigest>>) -> Result<(), Failure> {
        let decides = |name: &str| name.starts_with("scoring/") || name.starts_with("external/");
        let kept = |f: &&FileDigest| scoring.is_none() || !decides(&f.name);
        let mut pinned: Vec<_> = self.old.pinned.manifest.files().iter().filter(kept).cloned().collect();
        pinned.extend(scoring.unwrap_or_default());
        let now = (crate::driver::system_clock())();
        let durable = self.old.continued(plan, Manifest::new(pinned), &self.carried, now);
        self.store.commit(&durable.records())?;
        folder::write_run(self.folder, &durable.identity)?;
        let results = self.carried.values().filter(|c| c.score.is_some()).count();
        let run = &durable.identity.run;
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
