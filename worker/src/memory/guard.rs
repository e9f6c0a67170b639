//! Plans for every command that holds models, and the refusal that they share.

use super::{Machine, MemoryPlan, Workload, plan, words};
use crate::asking::Question;
use crate::data::read_references;
use crate::device::Chosen;
use crate::merge::Merger;
use crate::pipeline::Bench;
use crate::vlm::Vlm;
use anyhow::{Context, Result};
use common::recipe::Recipe;
use common::run::{DatasetPlan, RunPlan};

/// What a worker of `slots` slots will hold in a run over `samples` samples.
///
/// # Errors
/// As [`Workload::of_run`] and [`plan()`].
pub fn for_run(
    bench: &Bench,
    run: &RunPlan,
    samples: usize,
    slots: usize,
    chosen: &Chosen,
) -> Result<MemoryPlan> {
    plan(&Workload::of_run(bench, run, samples, slots)?, &Machine::now(chosen))
}

/// What one model holds that answers for `samples` images, without merging.
///
/// # Errors
/// As [`Workload::of_model`] and [`plan()`].
pub fn for_model(vlm: &Vlm, question: &Question, samples: usize) -> Result<MemoryPlan> {
    plan(&Workload::of_model(vlm, question, samples)?, &Machine::now(&vlm.chosen))
}

/// What it takes to merge `recipe` to a folder.
///
/// # Errors
/// When a model of the recipe is not open.
pub fn for_merge(merger: &Merger, recipe: &Recipe) -> Result<MemoryPlan> {
    super::plan::plan_merge(merger, recipe, &Machine::of_host())
}

/// Plans one slot of a run over its larger dataset, refuses as [`guard`] does, and lets `bench` merge where the plan has it.
///
/// # Errors
/// As [`for_run`], [`guard`] and [`Bench::follow`].
pub fn guard_run(bench: &mut Bench, run: &RunPlan, ignore: bool) -> Result<()> {
    // References that cannot be read are told by whoever needs them.
    let count = |dataset: &DatasetPlan| read_references(dataset).map_or(1, |r| r.len().max(1));
    let samples = [Some(&run.dataset), run.held_out.as_ref()].into_iter().flatten().map(count).max();
    let chosen = bench.vlm.chosen.clone();
    let plan = for_run(bench, run, samples.unwrap_or(1), 1, &chosen)?;
    guard(&plan, ignore)?;
    bench.follow(&plan)
}

/// Refuses a plan for which memory is missing, unless `ignore` was asked for; then it says so and goes on.
///
/// # Errors
/// As [`MemoryPlan::check`].
pub fn guard(plan: &MemoryPlan, ignore: bool) -> Result<()> {
    match plan.check() {
        Err(e) if ignore => tracing::warn!("going on all the same: {e:#}"),
        Err(e) => return Err(e).context("--ignore-memory-plan goes on all the same"),
        Ok(()) => tracing::debug!("memory: {}, {} mapped", plan.summary(), words(plan.page_cache.wanted)),
    }
    Ok(())
}
