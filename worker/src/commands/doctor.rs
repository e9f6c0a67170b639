//! `jradievo-worker doctor`: tries what a run needs and says what would fail, before it does.

use super::kind::{self, Kind};
use super::{FAILED, OK, mergekit, table};
use crate::asking::read_run;
use crate::checkpoint::Checkpoint;
use crate::cli;
use crate::data::{read_image, read_references};
use crate::device::{self, Chosen};
use crate::locate::Locator;
use crate::memory::{self, HostMemory, Machine, MemoryPlan, Peak, Phase, words};
use crate::pipeline::{Bench, scorer};
use anyhow::{Context, Result, bail};
use common::group::{self, Stack};
use common::run::{DatasetPlan, RunPlan};
use common::space::Coefficient;
use serde::Serialize;
use std::path::Path;
use std::time::Instant;

/// How one thing stands.
#[derive(Serialize)]
struct Check {
    what: String,
    ok: bool,
    message: String,
    /// What will be held where, with the check called `memory plan`.
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<MemoryPlan>,
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
        checks.push(Check { what: what.into(), ok, message, plan: None });
    };

    note("program", Ok(format!("{} (protocol {})", proto::PROGRAM_VERSION, proto::PROTOCOL_VERSION)));
    let chosen = device::choose(&args.device);
    let words = chosen.as_ref().map(|c| match &c.note {
        Some(n) => format!("{}; {n}", c.words),
        None => c.words.clone(),
    });
    note("device", words.map_err(|e| anyhow::anyhow!("{e:#}")));
    let host = chosen.as_ref().ok().and_then(|c| Machine::now(c).host);
    note("memory", Ok(memory(host.as_ref())));
    let scoring = super::evaluate::default_scoring();
    let mut planned = None;
    let configuration = args.run.as_deref().and_then(configuration);
    if let (Some(path), Some(text)) = (&args.run, &configuration) {
        planned = mergekit::examine(path, text, args.models.as_deref(), &mut note);
        if let Some(memory) = &planned {
            note("memory plan", memory.check().map(|()| memory.summary()));
            if !args.json {
                print_plan(memory);
            }
        }
    }
    let plan = match args.run.as_ref().filter(|_| configuration.is_none()) {
        None if configuration.is_some() => None,
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
                for (kind, words) in plan.space.describe() {
                    note("parameters", Ok(format!("{kind}: {words}")));
                }
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
        let mut locator = Locator::new(args.models.clone(), None);
        for model in plan.model_refs() {
            let placed = cached(&mut locator, model);
            let opened = |more: &str| Ok(open_model(&locator, model)? + more);
            note(&model.name, placed.and_then(opened));
        }
        for (what, tried) in commands(&plan) {
            note(&what, tried);
        }
        // With an evaluator of its own, a run generates nothing here.
        if let (Ok(chosen), None) = (&chosen, &plan.evaluator) {
            match opened(&plan, &locator, chosen, args.slots as usize) {
                Ok((bench, memory)) => {
                    for fit in &bench.fits {
                        note(&fit.model, Ok(fit.to_string()));
                    }
                    if let Some(left_out) = bench.placement.note() {
                        note("base", Ok(left_out));
                    }
                    for (tensor, placed, rows) in bench.placement.resized() {
                        note("vlm", Ok(format!("{tensor}: {placed} of {rows} rows are replaced")));
                    }
                    note("groups", groups(&bench, &plan));
                    note("run", fits_together(&bench, &plan));
                    let checked = memory.check();
                    let fits = checked.is_ok();
                    note("memory plan", checked.map(|()| memory.summary()));
                    if !args.json {
                        print_plan(&memory);
                    }
                    if fits {
                        note("weights", load(&bench));
                    }
                    planned = Some(memory);
                }
                Err(e) => note("merge", Err(e)),
            }
        }
        note("dataset", dataset(&plan.dataset));
        if let Some(held_out) = &plan.held_out {
            note("held out", dataset(held_out));
        }
        if let Some(validation) = &plan.validation {
            note("validation", dataset(validation));
        }
    }
    if let Some(check) = checks.iter_mut().find(|c| c.what == "memory plan") {
        check.plan = planned;
    }
    if args.json {
        out!("{}", serde_json::to_string_pretty(&checks)?);
    }
    Ok(if checks.iter().all(|c| c.ok) { OK } else { FAILED })
}

/// The text of a mergekit configuration; none for a run file, and for what cannot be read, which its reader tells.
fn configuration(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    (kind::of(path, &text).ok()? == Kind::Configuration).then_some(text)
}

/// Tries every command of the run: metrics on a sentence compared with itself; an evaluator only for what it names, since
/// asking it is a candidate's work.
fn commands(plan: &RunPlan) -> Vec<(String, Result<String>)> {
    let metric = |(name, metric): (&String, &common::run::ExternalPlan)| {
        let began = Instant::now();
        let text = "右胸水を認める。";
        let row = external::Row { position: 0, sample: "doctor", text, reference: text, image: None };
        let one = std::collections::BTreeMap::from([(name.clone(), metric.clone())]);
        let scored = external::Metrics::new(&one).score(&[row], &|| false);
        let told = scored
            .map(|s| format!("{:?} for a text and itself, in {:.1} s", s[0], began.elapsed().as_secs_f64()));
        (format!("metric {name}"), told.map_err(Into::into))
    };
    let files = |program: &common::run::ProgramPlan| -> Result<String> {
        match program.files.iter().find(|f| !Path::new(f).is_file()) {
            Some(absent) => bail!("{absent} is not here"),
            None => Ok(format!("{} (its files are here; it is not tried)", program.command.join(" "))),
        }
    };
    let evaluator = plan.evaluator.iter().map(|e| ("evaluator".to_string(), files(&e.program)));
    plan.scoring.external.iter().map(metric).chain(evaluator).collect()
}

fn memory(host: Option<&HostMemory>) -> String {
    match host {
        Some(h) => format!("{} of {} available ({})", words(h.free), words(h.total), h.bound),
        None => "not known on this system".into(),
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

/// Models of a hub are looked for in the cache; nothing is fetched to find out what would fail. Gives what there is to say
/// of that.
fn cached(locator: &mut Locator, model: &common::recipe::ModelRef) -> Result<&'static str> {
    let get = |reference: &hub::HubRef| hub::Hub::from_env()?.cached(reference);
    let placed = locator.place(model, get);
    let placed = placed.context("not here yet: `jradievo-worker fetch RUN.toml` brings it")?;
    Ok(match placed.is_some_and(|snapshot| snapshot.inferred) {
        true => {
            "; that the cache has all of it is inferred from its index: `jradievo-worker fetch RUN.toml` makes sure"
        }
        false => "",
    })
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

/// Opens the run's models without reading weights, and plans what a worker would hold.
fn opened(plan: &RunPlan, locator: &Locator, chosen: &Chosen, slots: usize) -> Result<(Bench, MemoryPlan)> {
    let bench = Bench::open(plan, locator, chosen)?;
    // Without a dataset the plan is that of one sample, and the dataset's own check says why.
    let samples = read_references(&locator.dataset(&plan.dataset)).map_or(1, |r| r.len().max(1));
    let memory = memory::for_run(&bench, plan, samples, slots, chosen)?;
    Ok((bench, memory))
}

fn fits_together(bench: &Bench, plan: &RunPlan) -> Result<String> {
    let prompt = bench.vlm.longest_prompt(&plan.task, plan.generation.image_resize)?;
    let positions = prompt.positions();
    let longest = bench.vlm.family.language().max_position_embeddings;
    if positions + plan.generation.max_new_tokens as usize > longest {
        bail!("{positions} prompt positions and max_new_tokens exceed the model's {longest} positions");
    }
    Ok(format!("{}: models fit each other, up to {positions} prompt positions", bench.vlm.family.family()))
}

/// Every searched number has tensors that it moves, and every tensor has its numbers.
fn groups(bench: &Bench, plan: &RunPlan) -> Result<String> {
    let names = bench.merger.merged(&plan.authors_middle())?;
    let names = || names.iter().map(String::as_str);
    let stack = Stack::of(names());
    for (kind, source, coefficient) in plan.space.coefficients() {
        let Coefficient::Cases(cases) = coefficient else { continue };
        let of = source.map(|i| format!(" of {}", plan.models.sources[i].model.name)).unwrap_or_default();
        let mut counts = vec![0; cases.len()];
        for tensor in names() {
            match group::find(cases, tensor, &stack) {
                Some((_, group)) => counts[group.case] += 1,
                None => bail!("{kind}{of}: {tensor} is in no group; add \"rest\" to the filters"),
            }
        }
        if let Some(empty) = counts.iter().position(|n| *n == 0) {
            let tensors = cases[empty].tensors();
            bail!(
                "{kind}{of}: no tensor is in the group of {tensors} of {} layers; divide less finely",
                stack.layers()
            );
        }
    }
    Ok(format!("{} layers; every tensor has its numbers, every group its tensors", stack.layers()))
}

/// Loads what a slot loads, and takes its memory.
fn load(bench: &Bench) -> Result<String> {
    let began = Instant::now();
    bench.vlm.answering()?;
    Ok(format!("language model loaded in {:.1} s", began.elapsed().as_secs_f64()))
}

/// The plan as a table: items by size with their place and phases, then peaks, then notes.
fn print_plan(plan: &MemoryPlan) {
    let mut items: Vec<_> = plan.items.iter().collect();
    items.sort_by_key(|i| std::cmp::Reverse(i.bytes));
    let phases = |phases: &[Phase]| match phases {
        [] | [_] => phases.iter().map(name).collect::<String>(),
        [first, .., last] => format!("{} … {}", name(first), name(last)),
    };
    let rows = items.iter().map(|i| vec![i.what.clone(), words(i.bytes), name(&i.place), phases(&i.phases)]);
    let rows: Vec<Vec<String>> = rows.collect();
    out!("");
    table::print(&["memory", "size", "place", "while"], &rows);
    out!("");
    let peak = |p: &Peak| vec![name(&p.phase), words(p.host), words(p.device)];
    let rows: Vec<Vec<String>> = plan.peaks.iter().map(peak).collect();
    table::print(&["peak", "host", "GPU"], &rows);
    plan.notes.iter().for_each(|n| out!("{n}"));
    out!("");
}

/// The name that JSON has for a place or a phase.
fn name(value: &impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|v| Some(v.as_str()?.to_string())).unwrap_or_default()
}

fn dataset(plan: &DatasetPlan) -> Result<String> {
    let references = read_references(plan)?;
    if plan.columns.image.is_empty() {
        return Ok(format!("{} samples count", references.len()));
    }
    for (position, reference) in references.iter().enumerate() {
        read_image(plan, position, reference)?;
    }
    Ok(format!("{} samples count, every image decodes", references.len()))
}
