//! `jradievo-worker compare`: what a search found beside everything it was made from.
//!
//! Rows: the most frequent reference as a constant text; each source's language model (and the base's) inside the
//! VLM; the plain average of the sources; the merge at the middle of the authors' box; the recipes given. All on the same
//! samples, so that differences are paired, and all of the files that the recipes are pinned to.

use super::{OK, merge::read_recipe_file, pins, table};
use crate::asking::read_run;
use crate::cli;
use crate::data::read_references;
use crate::device;
use crate::evaluator::Control;
use crate::figures::{FITNESS, Figures, add_fitness, differences, figures};
use crate::locate::Locator;
use crate::memory;
use crate::obtain::obtain;
use crate::pipeline::{Bench, Exam, Pipeline};
use crate::summary::{Comparison, Summary};
use anyhow::{Context, Result, bail};
use common::dataset::Reference;
use common::digest::{Digest, FileDigest, Manifest};
use common::evaluation::SampleResult;
use common::files;
use common::provenance::{self, RecipeFile};
use common::recipe::Recipe;
use common::run::{DatasetPlan, RunPlan};
use hub::Meter;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A row of a table before it is summed up.
struct Scored {
    name: String,
    samples: Vec<SampleResult>,
}

/// Runs the command.
pub fn run(args: &cli::Compare) -> Result<u8> {
    let chosen = device::choose(&args.device)?;
    if let Some(note) = &chosen.note {
        eprintln!("note: {note}");
    }
    let mut plan = read_run(&args.run, &args.set)?;
    if plan.evaluator.is_some() {
        bail!(
            "{}: candidates of this run are scored by its evaluator; compare generates reports",
            args.run.display()
        );
    }
    let given = args.recipe.iter().map(|p| read_recipe_file(p)).collect::<Result<Vec<_>>>()?;
    let named: Vec<(&Path, &Recipe)> =
        args.recipe.iter().map(PathBuf::as_path).zip(given.iter().map(|f| &f.recipe)).collect();
    pins::adopt(&mut plan, &args.run, &named)?;
    let mut locator = Locator::new(args.models.clone(), None);
    obtain(&mut locator, plan.model_refs(), &Meter::stderr())?;
    let mut bench = Bench::open(&plan, &locator, &chosen)?;
    memory::guard_run(&mut bench, &plan, args.memory.ignore_memory_plan)?;
    let bench = Arc::new(bench);
    let models = pins::digests(&bench.merger)?;
    let changed = changed(args, &given, &models)?;
    for fit in bench.fits.iter().filter(|f| !f.is_plain()) {
        eprintln!("note: {}: {fit}", fit.model);
    }
    if let Some(left_out) = bench.placement.note() {
        eprintln!("note: {left_out}");
    }
    let read = |dataset: &DatasetPlan| -> Result<(Arc<Exam>, Manifest)> {
        let references = read_references(dataset)?;
        let files = Manifest::new(files::digest_dataset(dataset, &references)?);
        Ok((Arc::new(bench.exam(&plan, dataset, references)?), files))
    };
    let (search, search_files) = read(&plan.dataset)?;
    // The constant is chosen from the search samples alone, as the search's own knowledge is.
    let constant = most_frequent(search.references()).context("the dataset has samples")?;
    let mut pipeline = Pipeline::new(bench.clone(), search.clone())?;
    let rows = rows(&plan, &given);
    let mut compare = |exam: &Arc<Exam>| -> Result<Comparison> {
        pipeline.set_exam(exam.clone());
        let texts = vec![constant.clone(); exam.references().len()];
        let samples = pipeline.score(&texts, &Control::default())?;
        let mut results = vec![Scored { name: "constant".into(), samples }];
        for (name, recipe) in &rows {
            eprintln!("  {name} on {} samples", exam.references().len());
            let evaluation = pipeline.assess(recipe)?;
            results.push(Scored { name: name.clone(), samples: evaluation.samples });
        }
        for row in &mut results {
            add_fitness(&mut row.samples, &plan.objective);
        }
        comparison(results, &constant)
    };
    let on_search =
        Comparison { dataset_digest: provenance::dataset_digest(&search_files), ..compare(&search)? };
    let on_held_out = |dataset: &DatasetPlan| -> Result<Comparison> {
        let (exam, files) = read(dataset)?;
        Ok(Comparison {
            dataset_digest: provenance::dataset_digest(&files),
            images_shared_with_search: Some(shared_images(&search_files, &files)),
            ..compare(&exam)?
        })
    };
    let held_out = plan.held_out.as_ref().map(on_held_out).transpose()?;
    let found = rows.iter().filter(|(name, _)| name.starts_with("best"));
    let summary = Summary {
        run: plan.name.clone(),
        plan_digest: plan.digest(),
        program_version: proto::PROGRAM_VERSION.into(),
        recipes: found.map(|(name, recipe)| (name.clone(), provenance::merge_digest(recipe))).collect(),
        models,
        changed,
        search: on_search,
        held_out,
    };
    let json = serde_json::to_string_pretty(&summary)? + "\n";
    if let Some(out) = &args.out {
        secure::files::write_private(out, json.as_bytes())?;
    }
    if args.json {
        out!("{}", json.trim_end());
    } else {
        print_comparison("On the samples that the search saw", &summary.search);
        if let Some(held_out) = &summary.held_out {
            print_comparison("On samples that the search never saw", held_out);
        }
    }
    Ok(OK)
}

/// Name and recipe of every model row.
fn rows(plan: &RunPlan, given: &[RecipeFile]) -> Vec<(String, Recipe)> {
    let middle = plan.authors_middle();
    let mut rows = vec![("base".to_string(), middle.base_alone())];
    rows.extend((0..middle.sources.len()).map(|i| (middle.sources[i].model.name.clone(), middle.single(i))));
    rows.push(("uniform".into(), middle.uniform()));
    rows.push(("middle".into(), middle));
    rows.extend(given.iter().enumerate().map(|(i, file)| (row_name(i), file.recipe.clone())));
    rows
}

/// What the row of a given recipe is called.
fn row_name(recipe: usize) -> String {
    if recipe == 0 { "best".into() } else { format!("best-{}", recipe + 1) }
}

/// By row of a given recipe: how the files here differ from those that its run was pinned to. Refused unless allowed.
fn changed(
    args: &cli::Compare,
    given: &[RecipeFile],
    models: &[FileDigest],
) -> Result<BTreeMap<String, Vec<String>>> {
    let mut all = BTreeMap::new();
    for ((i, file), path) in given.iter().enumerate().zip(&args.recipe) {
        let changed = pins::changed(file, models);
        pins::refuse(&changed, args.allow_changed_sources, "compare")
            .with_context(|| path.display().to_string())?;
        if !changed.is_empty() {
            eprintln!("note: {}: not the run's files: {}", path.display(), changed.join("; "));
            all.insert(row_name(i), changed);
        }
    }
    Ok(all)
}

/// The reference that occurs most often; of several, the first.
fn most_frequent(references: &[Reference]) -> Option<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    references.iter().for_each(|r| *counts.entry(&r.text).or_default() += 1);
    let most = counts.values().copied().max()?;
    references.iter().find(|r| counts[r.text.as_str()] == most).map(|r| r.text.clone())
}

/// How many of `files`' images are, byte for byte, among those of `search`.
fn shared_images(search: &Manifest, files: &Manifest) -> usize {
    let images = |m: &Manifest| -> Vec<Digest> {
        m.files().iter().filter(|f| f.name.starts_with("dataset/images/")).map(|f| f.digest).collect()
    };
    let seen: BTreeSet<Digest> = images(search).into_iter().collect();
    images(files).iter().filter(|d| seen.contains(d)).count()
}

fn comparison(rows: Vec<Scored>, constant_text: &str) -> Result<Comparison> {
    let best = rows.iter().find(|r| r.name == "best").context("a recipe was given")?;
    let best_minus = rows
        .iter()
        .filter(|r| r.name != "best")
        .map(|r| (r.name.clone(), differences(&best.samples, &r.samples)))
        .collect();
    let n = best.samples.len();
    let mut by_name: BTreeMap<String, Figures> =
        rows.iter().map(|r| (r.name.clone(), figures(&r.samples))).collect();
    let mut take = |name: &str| by_name.remove(name).with_context(|| format!("row {name}"));
    let (constant, uniform, middle, best) =
        (take("constant")?, take("uniform")?, take("middle")?, take("best")?);
    let (more, sources) = by_name.into_iter().partition(|(name, _)| name.starts_with("best-"));
    let constant_text = constant_text.to_string();
    Ok(Comparison {
        n,
        dataset_digest: None,
        images_shared_with_search: None,
        constant,
        sources,
        uniform,
        middle,
        best,
        best_minus,
        constant_text,
        more,
    })
}

fn print_comparison(title: &str, c: &Comparison) {
    out!("\n{title} ({})\n", c.n);
    let cells = |label: String, figures: &Figures, gain: String| {
        let shown = table::SHOWN.iter().map(|m| figures.get(*m).map_or_else(String::new, table::interval));
        std::iter::once(label).chain(shown).chain([gain]).collect::<Vec<String>>()
    };
    let gain = |name: &str| {
        c.best_minus.get(name).and_then(|f| f.get(FITNESS)).map_or_else(String::new, table::difference)
    };
    let lines: Vec<Vec<String>> =
        c.rows().into_iter().map(|row| cells(row.label, row.figures, gain(row.name))).collect();
    let head: Vec<&str> = std::iter::once("").chain(table::SHOWN).chain(["best is ahead by"]).collect();
    table::print(&head, &lines);
}
