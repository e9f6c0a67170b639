//! What the simulations share: a plan of ten parameters, and workers that only pretend.

use common::digest::Manifest;
use common::evaluation::{Evaluation, SampleResult, Stop, Timings};
use common::id::WorkerId;
use common::run::{RunFile, RunPlan};
use proto::convert::{End, Exchange, Grant, Outcome, Registration};
use std::collections::BTreeMap;
use std::path::Path;

/// A plan of four sources in the paper's box: ten parameters. `overrides` as with `--set`.
pub fn plan(samples: usize, overrides: &[String]) -> RunPlan {
    let text = r#"
        name = "simulated"
        models = { base = "m/base", vlm = "m/vlm", sources = [
            { name = "a", model = "m/a" }, { name = "b", model = "m/b" },
            { name = "c", model = "m/c" }, { name = "d", model = "m/d" } ] }
        search = { evaluations = 500 }
        dataset = { file = "d.jsonl" }
        reports = "coordinator"
        prompt = { task = "describe" }
        fitness = { rouge_l = 1.0 }
        scheduling = { lease_seconds = 3600 }
    "#;
    let folder = Path::new("/simulated");
    let file = RunFile { name: "simulated", text, folder, overrides, metrics: &["rouge_l"] };
    let mut plan = common::run::parse(&file).unwrap_or_else(|e| panic!("{e}"));
    plan.samples = (0..samples).map(name).collect();
    plan
}

fn name(position: usize) -> String {
    format!("s{position}")
}

/// What a worker says when it joins.
pub fn registration(plan: &RunPlan, name: String, slots: u32) -> Registration {
    Registration {
        name,
        program_version: proto::PROGRAM_VERSION.into(),
        protocol_version: proto::PROTOCOL_VERSION,
        device: "simulated".into(),
        slots,
        manifest: Manifest::default(),
        held: Vec::new(),
        plan: plan.digest(),
    }
}

/// An exchange that hands in `outcomes` and wants so many candidates.
pub fn exchange(worker: WorkerId, sequence: u64, free_slots: u32, outcomes: Vec<Outcome>) -> Exchange {
    Exchange {
        worker,
        sequence,
        free_slots,
        running: Vec::new(),
        reports: Vec::new(),
        outcomes,
        wait_ms: 0,
        leaving: false,
    }
}

/// Samples of which each scores the same.
pub fn part(positions: &[u32], score: f64, timings: Timings) -> Evaluation {
    let sample = |p: &u32| SampleResult {
        sample: name(*p as usize),
        text: "両側肺野に明らかな浸潤影を認めない。心拡大なし。胸水なし。".into(),
        tokens: 20,
        stop: Stop::End,
        scores: BTreeMap::from([("rouge_l".into(), score)]),
        kept: None,
    };
    Evaluation { samples: positions.iter().map(sample).collect(), timings }
}

/// The end of a lease, with the last of its samples.
pub fn outcome(grant: &Grant, part: Evaluation) -> Outcome {
    let (lease, candidate, recipe) = (grant.lease, grant.candidate, grant.recipe.digest());
    Outcome { lease, candidate, recipe, end: End::Evaluated(part) }
}
