//! Run file → plan: the file is parsed, its dataset read, what it names is looked for.

use super::{Check, Failure, Pin, exit};
use common::dataset::{self, Reference};
use common::digest::{FileDigest, Manifest};
use common::files;
use common::run::{DatasetPlan, Fault, Faults, RunFile, RunPlan};
use std::path::Path;

/// Metric names that `[fitness]` may use: what workers compute for every report.
pub const METRICS: [&str; 14] = [
    "bleu_1",
    "bleu_2",
    "bleu_3",
    "bleu_4",
    "bleu_tok_4",
    "sacrebleu",
    "sacrebleu_char",
    "rouge_1",
    "rouge_2",
    "rouge_l",
    "term_f1",
    "term_precision",
    "term_recall",
    "term_f1_finding",
];

/// A plan with its dataset.
#[derive(Debug)]
pub struct Read {
    /// The plan, samples filled in.
    pub plan: RunPlan,
    /// The samples that count.
    pub references: Vec<Reference>,
}

/// Reads a run file and its datasets. Every fault of either is reported at once.
pub fn read(run_file: &Path, overrides: &[String]) -> Result<Read, Failure> {
    let name = run_file.display().to_string();
    let cannot = |e: std::io::Error| Failure::Usage(format!("cannot read {name}: {e}"));
    let text = std::fs::read_to_string(run_file).map_err(cannot)?;
    let path = std::path::absolute(run_file).map_err(cannot)?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    let file = RunFile { name: &name, text: &text, folder, overrides, metrics: &METRICS };
    let usage = |faults: Faults| Failure::Usage(faults.to_string());
    let mut plan = common::run::parse(&file).map_err(usage)?;

    let mut faults = Vec::new();
    let mut load = |field: &str, dataset: &DatasetPlan| match references(dataset) {
        Ok(references) => references,
        Err(message) => {
            faults.push(Fault::at(field, message, format!("mend {field}, or the file that it names")));
            Vec::new()
        }
    };
    let references = load("dataset", &plan.dataset);
    if let Some(held_out) = &plan.held_out {
        let held_out = load("held_out", held_out);
        let seen = |r: &&Reference| references.iter().any(|s| s.id == r.id && s.text == r.text);
        if let Some(both) = held_out.iter().find(seen) {
            let message = format!("sample {:?} is in the search's dataset too", both.id);
            faults.push(Fault::at(
                "held_out",
                message,
                "held-out samples must be unseen: remove it from one",
            ));
        }
    }
    if !faults.is_empty() {
        return Err(usage(Faults { file: name, faults }));
    }
    plan.samples = references.iter().map(|r| r.id.clone()).collect();
    Ok(Read { plan, references })
}

fn references(plan: &DatasetPlan) -> Result<Vec<Reference>, String> {
    let text = std::fs::read_to_string(&plan.file).map_err(|e| format!("cannot read {}: {e}", plan.file))?;
    let references = dataset::references(&text, plan).map_err(|e| format!("{}: {e}", plan.file))?;
    let absent = |r: &&Reference| !Path::new(&plan.images).join(&r.image).is_file();
    match references.iter().find(absent) {
        Some(r) => Err(format!("sample {:?} has no image {} in {}", r.id, r.image, plan.images)),
        None => Ok(references),
    }
}

/// Digests what can be read here. What cannot is left to the first worker, and said.
pub fn manifest(read: &Read, pin: Pin, say: &mut dyn FnMut(String)) -> Result<Manifest, Failure> {
    let failed = |e: files::FilesError| Failure::Failed(e.to_string());
    let mut digests: Vec<FileDigest> =
        files::digest_dataset(&read.plan.dataset, &read.references).map_err(failed)?;
    digests.extend(files::digest_scoring(&read.plan.scoring).map_err(failed)?);
    for model in read.plan.model_refs() {
        match (pin, model_bytes(Path::new(&model.path))) {
            (Pin::Dataset, _) => {}
            (Pin::All, Ok(bytes)) => {
                // A small model is digested before anybody could read the line.
                if bytes > 1 << 30 {
                    say(format!("digesting {} ({:.1} GiB)", model.path, bytes as f64 / f64::from(1 << 30)));
                }
                digests.extend(files::digest_model(&model.name, Path::new(&model.path)).map_err(failed)?);
            }
            (Pin::All, Err(_)) => {
                say(format!(
                    "{} cannot be read here: the first worker's {} is pinned",
                    model.path, model.name
                ));
            }
        }
    }
    Ok(Manifest::new(digests))
}

fn model_bytes(folder: &Path) -> Result<u64, files::FilesError> {
    let files = files::model_files(folder)?;
    Ok(files.iter().filter_map(|f| std::fs::metadata(f).ok()).map(|m| m.len()).sum())
}

/// `jradievo check`.
pub(super) fn check(args: Check) -> Result<u8, Failure> {
    let Read { plan, references } = read(&args.run_file, &args.overrides)?;
    if args.json {
        println!("{}", plan.to_json());
        return Ok(exit::DONE);
    }
    print!("{}", super::table::plan(&plan, references.len()));
    for model in plan.model_refs() {
        match model_bytes(Path::new(&model.path)) {
            Ok(bytes) => {
                println!("  model {:<16} {} ({})", model.name, model.path, super::table::bytes(bytes))
            }
            Err(e) => println!("  model {:<16} not readable here, only workers need it: {e}", model.name),
        }
    }
    println!("{}: no faults", args.run_file.display());
    Ok(exit::DONE)
}
