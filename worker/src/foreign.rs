//! The evaluator of a run that brings its own: a command gets the recipe, and where it wants them the merged weights in a
//! folder, and returns the scores of every sample.
//!
//! The merge is this program's own in every case; generating and scoring are the command's.

use crate::data::{read_references, read_run_references};
use crate::evaluator::{Control, EvaluateError, Evaluator, Stage};
use crate::locate::Locator;
use crate::merge::{Error as MergeError, Export, Merger, Part};
use crate::pipeline::refusal;
use crate::slot::MakeEvaluator;
use anyhow::{Context, Result};
use common::dataset::Reference;
use common::evaluation::Timings;
use common::recipe::Recipe;
use common::run::{DatasetPlan, Given, RunPlan};
use external::evaluator::Request;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// What all slots share.
#[derive(Debug)]
struct Shared {
    /// Opened where the command is given weights.
    merger: Option<Merger>,
    part: Part,
    /// Model name → folder.
    models: BTreeMap<String, String>,
    dataset: String,
    samples: Vec<String>,
    /// What the command can read of the samples and must not be shown of what it says.
    references: Vec<Reference>,
}

/// A slot's command with what it is asked about.
#[derive(Debug)]
pub struct Foreign {
    shared: Arc<Shared>,
    command: external::Evaluator,
}

impl Foreign {
    /// Makes evaluators of the plan's command over a dataset of the plan.
    ///
    /// # Errors
    /// A plan without an evaluator; models that cannot be opened; a dataset that is not the run's.
    pub fn maker(plan: &RunPlan, locator: &Locator, dataset: &DatasetPlan) -> Result<Arc<MakeEvaluator>> {
        let evaluator = plan.evaluator.clone().context("the run has no evaluator")?;
        let merger = match evaluator.gets {
            Given::Recipe => None,
            Given::Model | Given::Language => Some(Merger::open(plan.model_refs(), |m| locator.model(m))?),
        };
        let here = locator.dataset(dataset);
        let references = match *dataset == plan.dataset && !plan.samples.is_empty() {
            true => read_run_references(&here, &plan.samples)?,
            false => read_references(&here)?,
        };
        let folder = |m: &&common::recipe::ModelRef| (m.name.clone(), locator.model(m).display().to_string());
        let shared = Arc::new(Shared {
            merger,
            part: if evaluator.gets == Given::Language { Part::Language } else { Part::Whole },
            models: plan.model_refs().iter().map(folder).collect(),
            dataset: here.file,
            samples: references.iter().map(|r| r.id.clone()).collect(),
            references,
        });
        let reports = plan.reports;
        Ok(Arc::new(move || {
            let mut command = external::Evaluator::new(&evaluator).keeping_words(reports);
            shared.references.iter().for_each(|r| command.remember(&r.id, &r.image, &r.text));
            Ok(Box::new(Foreign { shared: shared.clone(), command }) as Box<dyn Evaluator>)
        }))
    }

    /// Writes the merged weights into a folder of their own.
    fn merged(
        &self,
        merger: &Merger,
        recipe: &Recipe,
        control: &Control,
    ) -> Result<tempfile::TempDir, EvaluateError> {
        let failed = |e: &dyn std::fmt::Display| EvaluateError::Failed(e.to_string());
        let stopped = |e: MergeError| match e {
            MergeError::Stopped => EvaluateError::Cancelled,
            other => refusal(other),
        };
        let folder = tempfile::Builder::new().prefix("jradievo-merged-").tempdir().map_err(|e| failed(&e))?;
        let prepared = merger.plan(recipe, control.flag()).map_err(stopped)?;
        let vlm = merger.model(&recipe.vlm.name).ok_or_else(|| failed(&"the recipe's vlm is not open"))?;
        let export = Export { part: self.shared.part, ..Export::new(recipe, &prepared, vlm) };
        export.write(&folder.path().join("model"), control.flag()).map_err(stopped)?;
        Ok(folder)
    }
}

impl Evaluator for Foreign {
    fn evaluate(&mut self, recipe: &Recipe, control: &Control) -> Result<Timings, EvaluateError> {
        control.enter(Stage::Merging);
        let began = Instant::now();
        let merger = self.shared.merger.as_ref();
        let folder = merger.map(|merger| self.merged(merger, recipe, control)).transpose()?;
        let merge_ms = began.elapsed().as_millis() as u64;
        control.enter(Stage::Scoring);
        let began = Instant::now();
        let Shared { models, dataset, samples, .. } = &*self.shared;
        let request = Request {
            recipe,
            models: models.clone(),
            model: folder.as_ref().map(|f| f.path().join("model").display().to_string()),
            dataset,
            samples,
        };
        // A candidate is one piece here: the command is asked about all samples, whatever the lease names.
        control.begin(0..samples.len());
        let samples = self.command.evaluate(&request, &|| control.is_cancelled())?;
        let timings =
            Timings { merge_ms, score_ms: began.elapsed().as_millis() as u64, ..Timings::default() };
        samples.into_iter().for_each(|sample| control.finish(sample, timings));
        Ok(timings)
    }
}
