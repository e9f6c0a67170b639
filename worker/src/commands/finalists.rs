//! `jradievo-worker finalists`: the best few of a search on samples that it never saw.
//!
//! Why other samples and not the same ones again: decoding is greedy and masks are fixed, so a second look at the same
//! samples gives the same scores, luck included. Why `[validation]` and not `[held_out]`: what chose the winner can no
//! longer prove it; `compare` keeps the held-out samples for that.

use super::{OK, table};
use crate::asking::read_run;
use crate::cli;
use crate::data::read_references;
use crate::device;
use crate::evaluator::{Control, Evaluator};
use crate::foreign::Foreign;
use crate::locate::Locator;
use crate::memory;
use crate::obtain::obtain;
use crate::pipeline::{Bench, Pipeline};
use anyhow::{Context, Result, bail};
use common::digest::Manifest;
use common::evaluation::{Evaluation, SampleResult};
use common::provenance::{Provenance, RecipeFile, merge_digest};
use common::recipe::Recipe;
use common::run::{DatasetPlan, RunPlan};
use common::{files, provenance};
use hub::Meter;
use score::finalists::{Entrant, FORMAT, Finalists, rank};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// More than any run file asks for.
const MOST: usize = 1000;

/// Runs the command.
pub fn run(args: &cli::Finalists) -> Result<u8> {
    let plan = read_run(&args.run, &args.set)?;
    let Some(validation) = &plan.validation else {
        bail!(
            "{}: no [validation]: the winner is chosen on samples apart from those of the search and of the proof",
            args.run.display()
        );
    };
    let entered = read(&args.recipes, &plan)?;
    let mut locator = Locator::new(args.models.clone(), args.data.clone());
    obtain(&mut locator, plan.model_refs(), &Meter::stderr())?;
    let (mut evaluator, ids, dataset) = evaluator(args, &plan, &locator, validation)?;
    let mut entrants = Vec::new();
    for (file, origin) in &entered {
        eprintln!("  candidate {}", origin.candidate);
        let evaluation = evaluate(&mut *evaluator, &file.recipe, &ids)?;
        entrants.push(entrant(file, origin, &evaluation, &plan)?);
    }
    let n = entrants.first().map_or(0, |e| e.fitness.len());
    let finalists = rank(entrants);
    let first = finalists.first().context("there are finalists")?;
    let found = Finalists {
        format: FORMAT,
        run: entered[0].1.run.clone(),
        evaluations: entered.iter().map(|(_, o)| o.evaluations).max().unwrap_or(0),
        program_version: proto::PROGRAM_VERSION.into(),
        n,
        dataset_digest: provenance::dataset_digest(&dataset).map(|d| d.to_string()),
        winner: first.candidate,
        finalists,
    };
    let json = serde_json::to_string_pretty(&found)? + "\n";
    if let Some(out) = &args.out {
        secure::files::write_private(out, json.as_bytes())?;
    }
    if args.json {
        out!("{}", json.trim_end());
    } else {
        print(&found);
    }
    Ok(OK)
}

/// Recipes with where they came from: all of one run, with sources that the run file knows.
fn read(path: &Path, plan: &RunPlan) -> Result<Vec<(RecipeFile, Provenance)>> {
    let name = path.display();
    let text = std::fs::read_to_string(path).with_context(|| {
        format!("{name}: cannot read the recipes (make the file with `jradievo finalists DIR`)")
    })?;
    let mut entered: Vec<(RecipeFile, Provenance)> = Vec::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, l)| !l.trim().is_empty()) {
        let file = RecipeFile::parse(line).with_context(|| format!("{name}:{number}"))?;
        let origin = file.provenance.clone();
        let origin = origin
            .with_context(|| format!("{name}:{number}: a recipe without provenance is no candidate"))?;
        let known = |model: &str| plan.model_refs().iter().any(|m| m.name == model);
        if let Some(s) = file.recipe.sources.iter().find(|s| !known(&s.model.name)) {
            bail!("{name}:{number}: source {:?} is not in the run file", s.model.name);
        }
        if let Some((_, first)) = entered.first().filter(|(_, first)| first.run != origin.run) {
            bail!("{name}:{number}: a candidate of run {} among those of {}", origin.run, first.run);
        }
        entered.push((file, origin));
    }
    match entered.len() {
        0 => bail!("{name}: no recipes"),
        1..=MOST => Ok(entered),
        n => bail!("{name}: {n} recipes, more than {MOST}"),
    }
}

/// What evaluates on the validation samples, their ids, and the digests of their files.
fn evaluator(
    args: &cli::Finalists,
    plan: &RunPlan,
    locator: &Locator,
    validation: &DatasetPlan,
) -> Result<(Box<dyn Evaluator>, Vec<String>, Manifest)> {
    let here = locator.dataset(validation);
    let references = read_references(&here)?;
    let files = Manifest::new(files::digest_dataset(&here, &references)?);
    let ids = references.iter().map(|r| r.id.clone()).collect();
    if plan.evaluator.is_some() {
        return Ok((Foreign::maker(plan, locator, validation)?()?, ids, files));
    }
    let chosen = device::choose(&args.device)?;
    if let Some(note) = &chosen.note {
        eprintln!("note: {note}");
    }
    let mut bench = Bench::open(plan, locator, &chosen)?;
    let memory = memory::for_run(&bench, plan, references.len(), 1, &chosen)?;
    memory::guard(&memory, args.memory.ignore_memory_plan)?;
    bench.follow(&memory)?;
    let bench = Arc::new(bench);
    let exam = bench.exam(plan, &here, references)?;
    Ok((Box::new(Pipeline::new(bench, Arc::new(exam))?), ids, files))
}

/// Evaluates a recipe on all samples, results in the samples' order.
fn evaluate(evaluator: &mut dyn Evaluator, recipe: &Recipe, ids: &[String]) -> Result<Evaluation> {
    let control = Control::new((0..ids.len() as u32).collect(), Arc::default());
    evaluator.evaluate(recipe, &control)?;
    let (samples, timings) = control.fetch();
    let mut ended: HashMap<String, SampleResult> =
        samples.into_iter().map(|s| (s.sample.clone(), s)).collect();
    let take = |(position, id): (usize, &String)| {
        ended.remove(id).with_context(|| format!("sample {}: not evaluated", position + 1))
    };
    let samples = ids.iter().enumerate().map(take);
    Ok(Evaluation { samples: samples.collect::<Result<_>>()?, timings })
}

fn entrant(
    file: &RecipeFile,
    origin: &Provenance,
    evaluation: &Evaluation,
    plan: &RunPlan,
) -> Result<Entrant> {
    let fitness = evaluation.samples.iter().map(|s| plan.objective.sample(s)).collect::<Result<_, _>>()?;
    Ok(Entrant {
        candidate: origin.candidate,
        merge_digest: merge_digest(&file.recipe).to_string(),
        search_fitness: origin
            .fitness
            .with_context(|| format!("candidate {} is not scored", origin.candidate))?,
        fitness,
        metrics: evaluation.means(),
    })
}

fn print(found: &Finalists) {
    out!("\nOn {} samples that the search never saw\n", found.n);
    let row = |f: &score::finalists::Finalist| {
        let behind = if f.candidate == found.winner { "winner".into() } else { table::difference(&f.behind) };
        vec![
            format!("candidate {}", f.candidate),
            format!("{:.3}", f.search_fitness),
            table::interval(&f.fitness),
            behind,
            format!("{:.0} %", 100.0 * f.best_share),
        ]
    };
    let head = ["", "in the search", "fitness", "winner is ahead by", "best in"];
    table::print(&head, &found.finalists.iter().map(row).collect::<Vec<_>>());
    let close = found.finalists.iter().skip(1).filter(|f| f.behind.low <= 0.0).count();
    if close > 0 {
        out!("\n{close} of the others cannot be told from the winner on these samples.");
    }
}
