//! What the crate's tests share: a small plan, an evaluator that is a function of the recipe alone, and a
//! search done by one worker without mishap, which every other run must equal.

mod service;

use crate::state::{Changes, Durable, Event, Reply, State};
use common::digest::{Digest, FileDigest, Manifest};
use common::evaluation::{Evaluation, SampleResult, Stop, Timings};
use common::fitness::Fitness;
use common::genome::Genome;
use common::id::WorkerId;
use common::recipe::Recipe;
use common::run::{RunFile, RunPlan};
use common::time::Millis;
use proto::convert::{End, Exchange, ExchangeAnswer, Grant, Outcome, Registration, Report};
use std::collections::BTreeMap;
use std::path::Path;

/// A plan of three samples and six parameters. `overrides` as with `--set`.
pub(crate) fn plan(overrides: &[&str]) -> RunPlan {
    let text = r#"
        name = "test"
        seed = 11
        models = { base = "m/base", vlm = "m/vlm", sources = [
            { name = "a", model = "m/a" }, { name = "b", model = "m/b" } ] }
        search = { evaluations = 25, population = 6 }
        dataset = { file = "d.jsonl" }
        reports = "coordinator"
        prompt = { task = "describe" }
        scheduling = { lease_seconds = 30, attempts = 3 }
    "#;
    let overrides: Vec<String> = overrides.iter().map(|s| s.to_string()).collect();
    let file = RunFile {
        name: "test.toml",
        text,
        folder: Path::new("/runs"),
        overrides: &overrides,
        metrics: &["rouge_l", "term_f1"],
    };
    let mut plan = common::run::parse(&file).unwrap_or_else(|e| panic!("{e}"));
    plan.samples = ["s1", "s2", "s3"].map(String::from).to_vec();
    plan
}

/// The files of an honest worker.
pub(crate) fn manifest() -> Manifest {
    let file = |n: &str| FileDigest { name: n.into(), bytes: 1, digest: Digest::of(n.as_bytes()) };
    Manifest::new(vec![file("dataset/d.jsonl"), file("models/base/config.json")])
}

/// What an honest worker says when it joins.
pub(crate) fn registration(plan: &RunPlan, name: &str) -> Registration {
    Registration {
        name: name.into(),
        program_version: proto::PROGRAM_VERSION.into(),
        protocol_version: proto::PROTOCOL_VERSION,
        device: "fake".into(),
        slots: 2,
        manifest: manifest(),
        held: Vec::new(),
        plan: plan.digest(),
    }
}

/// A smooth function of the recipe's numbers, with a maximum inside the box.
pub(crate) fn evaluate(plan: &RunPlan, recipe: &Recipe) -> Evaluation {
    let amounts = recipe.sources.iter().flat_map(|s| [&s.weight, &s.drop_rate, &s.trim_rate]);
    let numbers = amounts.chain([&recipe.scale]).flat_map(|a| a.numbers());
    let distance: f64 = numbers.map(|(_, x)| (x - 0.4).powi(2)).sum();
    let sample = |(i, id): (usize, &String)| SampleResult {
        sample: id.clone(),
        text: format!("report of {id}"),
        tokens: 7,
        stop: Stop::End,
        scores: BTreeMap::from([
            ("rouge_l".into(), 1.0 / (1.0 + distance + i as f64)),
            ("term_f1".into(), 1.0 / (1.0 + distance)),
        ]),
        kept: None,
    };
    let samples = plan.samples.iter().enumerate().map(sample).collect();
    Evaluation { samples, timings: Timings { generate_ms: 5, ..Timings::default() } }
}

/// The same of some samples alone.
pub(crate) fn part(plan: &RunPlan, recipe: &Recipe, positions: &[u32]) -> Evaluation {
    let Evaluation { samples, timings } = evaluate(plan, recipe);
    Evaluation { samples: positions.iter().map(|p| samples[*p as usize].clone()).collect(), timings }
}

/// The honest outcome of a grant.
pub(crate) fn outcome(plan: &RunPlan, grant: &Grant) -> Outcome {
    Outcome {
        lease: grant.lease,
        candidate: grant.candidate,
        recipe: grant.recipe.digest(),
        end: End::Evaluated(part(plan, &grant.recipe, &grant.samples)),
    }
}

/// Some of a grant's samples, finished before the rest.
pub(crate) fn report(plan: &RunPlan, grant: &Grant, positions: &[u32]) -> Report {
    Report {
        lease: grant.lease,
        candidate: grant.candidate,
        recipe: grant.recipe.digest(),
        part: part(plan, &grant.recipe, positions),
    }
}

/// The plan with so many samples in batches of this size.
pub(crate) fn with_samples(mut plan: RunPlan, samples: usize, batch: u32) -> RunPlan {
    plan.samples = (1..=samples).map(|i| format!("s{i}")).collect();
    plan.generation.batch_size = batch;
    plan
}

/// An exchange with nothing in it.
pub(crate) fn exchange(worker: WorkerId, sequence: u64, free_slots: u32) -> Exchange {
    Exchange {
        worker,
        sequence,
        free_slots,
        running: Vec::new(),
        outcomes: Vec::new(),
        wait_ms: 0,
        leaving: false,
        reports: Vec::new(),
    }
}

/// A state that was just begun.
pub(crate) fn begun(plan: &RunPlan) -> State {
    let mut state = State::restore(Durable::new(plan, Manifest::default(), Millis(1))).unwrap();
    state.apply(Millis(1), Event::Start);
    state
}

/// What a search found, to be compared.
pub(crate) fn found(state: &State) -> Vec<(Genome, Option<Fitness>)> {
    state.candidates().iter().map(|c| (c.genome().clone(), c.fitness())).collect()
}

pub(crate) fn registered(state: &mut State, now: Millis, r: Registration) -> WorkerId {
    match state.apply(now, Event::Register(Box::new(r))).reply {
        Some(Reply::Registered(Ok(r))) => r.worker,
        other => panic!("not registered: {other:?}"),
    }
}

pub(crate) fn exchanged(state: &mut State, now: Millis, e: Exchange) -> ExchangeAnswer {
    match state.apply(now, Event::Exchange(Box::new(e))).reply {
        Some(Reply::Exchanged(Ok(a))) => a,
        other => panic!("not answered: {other:?}"),
    }
}

/// The search done by one worker with one slot and no mishap.
pub(crate) fn uninterrupted(plan: &RunPlan) -> State {
    let mut state = State::restore(Durable::new(plan, Manifest::default(), Millis(1))).unwrap();
    to_the_end(&mut state, plan, |_| {});
    state
}

/// Lets one worker with one slot do what is left of a run, past the grace in which others might return.
pub(crate) fn to_the_end(state: &mut State, plan: &RunPlan, mut keep: impl FnMut(&Changes)) {
    let mut apply = |now, event| {
        let changes = state.apply(Millis(now), event);
        keep(&changes);
        (changes.reply, state.end().is_some())
    };
    apply(60_000, Event::Start);
    apply(90_000, Event::Tick);
    let joined = apply(90_000, Event::Register(Box::new(registration(plan, "only"))));
    let (Some(Reply::Registered(Ok(joined))), _) = joined else { panic!("not registered: {joined:?}") };
    let mut outcomes = Vec::new();
    for sequence in 1.. {
        let e = Exchange { outcomes: std::mem::take(&mut outcomes), ..exchange(joined.worker, sequence, 1) };
        match apply(90_000 + sequence, Event::Exchange(Box::new(e))) {
            (_, true) => break,
            (Some(Reply::Exchanged(Ok(answer))), false) => {
                outcomes = answer.grants.iter().map(|g| outcome(plan, g)).collect();
            }
            (other, false) => panic!("not answered: {other:?}"),
        }
    }
}
