//! A run whose evaluations are a function of the recipe alone.

use common::digest::{Digest, FileDigest, Manifest};
use common::evaluation::{SampleResult, Stop};
use common::recipe::Recipe;
use common::run::{RunFile, RunPlan};
use std::collections::BTreeMap;
use std::path::Path;

/// A plan of eight samples in batches of three. `overrides` as with `--set`.
pub fn plan(overrides: &[String]) -> RunPlan {
    let text = r#"
        name = "simulated"
        models = { base = "m/base", vlm = "m/vlm", sources = [
            { name = "a", model = "m/a" }, { name = "b", model = "m/b" } ] }
        search = { evaluations = 18, population = 6 }
        dataset = { file = "d.jsonl" }
        reports = "coordinator"
        prompt = { task = "describe" }
        fitness = { rouge_l = 1.0 }
        generation = { batch_size = 3 }
        scheduling = { lease_seconds = 3, attempts = 100, stall_seconds = 30, audit = 0.3 }
    "#;
    let folder = Path::new("/simulated");
    let file = RunFile { name: "simulated", text, folder, overrides, metrics: &["rouge_l"] };
    let mut plan = common::run::parse(&file).unwrap_or_else(|e| panic!("{e}"));
    plan.samples = (0..8).map(|n| format!("s{n}")).collect();
    plan
}

/// The files that every worker has.
pub fn manifest() -> Manifest {
    Manifest::new(vec![FileDigest { name: "dataset/d.jsonl".into(), bytes: 1, digest: Digest::of(b"d") }])
}

/// What any worker finds for a sample of a recipe.
pub fn row(plan: &RunPlan, recipe: &Recipe, position: usize) -> SampleResult {
    let amounts = recipe.sources.iter().flat_map(|s| [&s.weight, &s.drop_rate, &s.trim_rate]);
    let numbers = amounts.chain([&recipe.scale]).flat_map(|a| a.numbers());
    let distance: f64 = numbers.map(|(_, x)| (x - 0.4).powi(2)).sum();
    SampleResult {
        sample: plan.samples[position].clone(),
        text: format!("report {position} of {}", recipe.digest().short(8)),
        tokens: 7,
        stop: Stop::End,
        scores: BTreeMap::from([("rouge_l".into(), 1.0 / (1.0 + distance + 0.1 * position as f64))]),
        kept: None,
    }
}
