//! `jradievo-worker doctor`: tries what a run needs and says what would fail, before it does.

use super::{FAILED, OK};
use crate::asking::read_run;
use crate::checkpoint::Checkpoint;
use crate::cli;
use crate::data::{read_image, read_references};
use crate::device;
use crate::locate::Locator;
use crate::pipeline::{Bench, scorer};
use anyhow::{Result, bail};
use common::run::{DatasetPlan, RunPlan};
use serde::Serialize;
use std::time::Instant;

/// How one thing stands.
#[derive(Serialize)]
struct Check {
    what: String,
    ok: bool,
    message: String,
}

/// Runs the command. Fails when any check does.
pub fn run(args: &cli::Doctor) -> Result<u8> {
    let mut checks = Vec::new();
    let mut note = |what: &str, result: Result<String>| {
        let (ok, message) = match result {
            Ok(message) => (true, message),
            Err(e) => (false, format!("{e:#}")),
        };
        if !args.json {
            out!("{}  {what:<12} {message}", if ok { "ok  " } else { "FAIL" });
        }
        checks.push(Check { what: what.into(), ok, message });
    };

    note("program", Ok(format!("{} (protocol {})", proto::PROGRAM_VERSION, proto::PROTOCOL_VERSION)));
    let chosen = device::choose(&args.device.device);
    let words = chosen.as_ref().map(|c| match &c.note {
        Some(n) => format!("{}; {n}", c.words),
        None => c.words.clone(),
    });
    note("device", words.map_err(|e| anyhow::anyhow!("{e:#}")));
    note("memory", memory());
    let scoring = super::evaluate::default_scoring();
    let plan = match &args.run {
        None => {
            note("dictionary", dictionary(&scoring));
            None
        }
        Some(path) => match read_run(path, &[]) {
            Ok(plan) => {
                note(
                    "run file",
                    Ok(format!("{}: {} searched parameters", plan.name, plan.space.dimensions())),
                );
                note("dictionary", dictionary(&plan.scoring));
                Some(plan)
            }
            Err(e) => {
                note("run file", Err(e));
                None
            }
        },
    };
    if let Some(plan) = plan {
        let locator = Locator { models: args.models.clone(), data: None };
        for model in plan.model_refs() {
            note(&model.name, open_model(&locator, model));
        }
        if let Ok(chosen) = &chosen {
            let bench = Bench::open(&plan, &locator, chosen);
            match bench.as_ref() {
                Err(e) => note("merge", Err(anyhow::anyhow!("{e:#}"))),
                Ok(bench) => {
                    for fit in &bench.fits {
                        note(&fit.model, Ok(fit.to_string()));
                    }
                    for (tensor, placed, rows) in bench.placement.resized() {
                        note("vlm", Ok(format!("{tensor}: {placed} of {rows} rows are replaced")));
                    }
                    note("run", prepare(&plan, bench));
                }
            }
        }
        note("dataset", dataset(&plan.dataset));
        if let Some(held_out) = &plan.held_out {
            note("held out", dataset(held_out));
        }
    }
    if args.json {
        out!("{}", serde_json::to_string_pretty(&checks)?);
    }
    Ok(if checks.iter().all(|c| c.ok) { OK } else { FAILED })
}

fn memory() -> Result<String> {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = |key: &str| {
        let line = text.lines().find(|l| l.starts_with(key))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    match (kib("MemAvailable:"), kib("MemTotal:")) {
        (Some(free), Some(all)) => {
            let gib = |kib: u64| kib as f64 / (1 << 20) as f64;
            Ok(format!("{:.1} of {:.1} GiB available", gib(free), gib(all)))
        }
        _ => Ok("not known on this system".into()),
    }
}

fn dictionary(plan: &common::run::ScoringPlan) -> Result<String> {
    let began = Instant::now();
    let scorer = scorer(plan)?;
    let scores = scorer.score("右胸水を認める。", "右胸水を認める。");
    if scores.metrics.get("rouge_l") != Some(&1.0) {
        bail!("a text compared with itself does not score 1: the dictionary is damaged");
    }
    Ok(format!("{} and lexicon ready in {:.1} s", plan.tokenizer, began.elapsed().as_secs_f64()))
}

fn open_model(locator: &Locator, model: &common::recipe::ModelRef) -> Result<String> {
    let folder = locator.model(model);
    let checkpoint = Checkpoint::open_renamed(&folder, &model.rename)?;
    let infos = checkpoint.names().filter_map(|n| checkpoint.info(n));
    let (mut elements, mut bytes) = (0usize, 0usize);
    for info in infos {
        elements += info.elements;
        bytes += info.elements * info.dtype.width();
    }
    let (tensors, folder) = (checkpoint.names().len(), folder.display());
    Ok(format!("{tensors} tensors, {elements} parameters, {:.3} GB in {folder}", bytes as f64 / 1e9))
}

/// Loads what a slot loads, and takes its memory.
fn prepare(plan: &RunPlan, bench: &Bench) -> Result<String> {
    let began = Instant::now();
    bench.vlm.answering()?;
    let prompt = bench.vlm.longest_prompt(&plan.task, plan.generation.image_resize)?;
    let positions = prompt.positions();
    let longest = bench.vlm.family.language().max_position_embeddings;
    if positions + plan.generation.max_new_tokens as usize > longest {
        bail!("{positions} prompt positions and max_new_tokens exceed the model's {longest} positions");
    }
    let (family, seconds) = (bench.vlm.family.family(), began.elapsed().as_secs_f64());
    Ok(format!("{family}: models fit each other, up to {positions} prompt positions, {seconds:.1} s"))
}

fn dataset(plan: &DatasetPlan) -> Result<String> {
    let references = read_references(plan)?;
    for reference in &references {
        read_image(plan, reference)?;
    }
    Ok(format!("{} samples count, every image decodes", references.len()))
}
