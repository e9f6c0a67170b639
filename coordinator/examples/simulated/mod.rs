//! What the simulations share: a plan of ten parameters and one sample, and workers that only pretend.

use common::digest::Manifest;
use common::evaluation::{Evaluation, SampleResult, Stop, Timings};
use common::id::WorkerId;
use common::run::{RunFile, RunPlan};
use proto::convert::{End, Exchange, Grant, Outcome, Registration};
use std::collections::BTreeMap;
use std::path::Path;

/// A plan of four sources in the paper's box: ten parameters. `overrides` as with `--set`.
pub fn plan(overrides: &[String]) -> RunPlan {
    let text = r#"
        name = "simulated"
        models = { base = "m/base", vlm = "m/vlm", sources = [
            { name = "a", model = "m/a" }, { name = "b", model = "m/b" },
            { name = "c", model = "m/c" }, { name = "d", model = "m/d" } ] }
        search = { evaluations = 500 }
        dataset = { file = "d.jsonl" }
        prompt = { task = "describe" }
        fitness = { rouge_l = 1.0 }
        scheduling = { lease_seconds = 3600 }
    "#;
    let folder = Path::new("/simulated");
    let file = RunFile { name: "simulated", text, folder, overrides, metrics: &["rouge_l"] };
    let mut plan = common::run::parse(&file).unwrap_or_else(|e| panic!("{e}"));
    plan.samples = vec!["s".into()];
    plan
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

/// A result with this fitness.
pub fn outcome(grant: &Grant, fitness: f64) -> Outcome {
    let sample = SampleResult {
        sample: "s".into(),
        text: "両側肺野に明らかな浸潤影を認めない。心拡大なし。胸水なし。".into(),
        tokens: 20,
        stop: Stop::End,
        scores: BTreeMap::from([("rouge_l".into(), fitness)]),
    };
    Outcome {
        lease: grant.lease,
        candidate: grant.candidate,
        recipe: grant.recipe.digest(),
        end: End::Evaluated(Evaluation { samples: vec![sample], timings: Timings::default() }),
    }
}
