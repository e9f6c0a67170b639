//! Run file → plan: the file is parsed, its dataset read, what it names is looked for.

use super::models::Models;
use super::{Check, Failure, Pin, exit, say, tell};
use common::bounded;
use common::dataset::{self, Reference};
use common::digest::{FileDigest, Manifest};
use common::files;
use common::run::{DatasetPlan, Fault, Faults, Numbers, RunFile, RunPlan, StartPoint};
use std::collections::HashMap;
use std::path::Path;

/// Metric names that `[fitness]` may use without further ado: what workers compute for every report.
pub fn metrics() -> Vec<&'static str> {
    score::METRICS.iter().map(|m| m.name).collect()
}

/// A plan with its dataset.
#[derive(Debug)]
pub struct Read {
    /// Where its models are, as far as this machine knows.
    pub models: Models,
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
    let metrics = metrics();
    let file = RunFile { name: &name, text: &text, folder, overrides, metrics: &metrics };
    let usage = |faults: Faults| Failure::Usage(faults.to_string());
    let mut plan = common::run::parse(&file).map_err(usage)?;

    let mut faults = Vec::new();
    let mut load = |section: &str, dataset: &DatasetPlan| match references(section, dataset) {
        Ok(references) => references,
        Err(fault) => {
            faults.push(fault);
            Vec::new()
        }
    };
    let references = load("dataset", &plan.dataset);
    let held_out = plan.held_out.as_ref().map(|d| ("held_out", d, load("held_out", d)));
    let validation = plan.validation.as_ref().map(|d| ("validation", d, load("validation", d)));
    let search = ("search", &plan.dataset, &references);
    for (section, dataset, samples) in [&held_out, &validation].into_iter().flatten() {
        faults.extend(overlap(search, (section, dataset, samples)));
    }
    // What the winner is chosen on proves nothing about it.
    if let (Some((_, proof, seen)), Some((section, dataset, samples))) = (&held_out, &validation) {
        faults.extend(overlap(("proof", proof, seen), (section, dataset, samples)));
    }
    faults.extend(named_files(&plan));
    faults.extend(start_points(&mut plan));
    if !faults.is_empty() {
        return Err(usage(Faults { file: name, faults }));
    }
    plan.samples = references.iter().map(|r| r.id.clone()).collect();
    let models = Models::new(&plan)?;
    Ok(Read { models, plan, references })
}

fn references(section: &str, plan: &DatasetPlan) -> Result<Vec<Reference>, Fault> {
    let field = format!("{section}.file");
    let unreadable = |e| {
        let message = format!("cannot read {}: {e}", plan.file);
        Fault::at(
            &field,
            message,
            "give the path of a JSONL or CSV file; relative ones start at the run file's folder",
        )
    };
    let text = bounded::text(Path::new(&plan.file), bounded::DATASET_BYTES).map_err(unreadable)?;
    let unusable = |e| Fault::at(&field, format!("{}: {e}", plan.file), "mend that file");
    let references = dataset::references(&text, plan).map_err(unusable)?;
    if plan.columns.image.is_empty() {
        return Ok(references);
    }
    // Ids and names of images may be patients': samples are named by position, as workers do.
    let is_absent = |(_, r): &(usize, &Reference)| !Path::new(&plan.images).join(&r.image).is_file();
    let mut absent = references.iter().enumerate().filter(is_absent).peekable();
    match absent.peek() {
        Some((first, _)) => {
            let first = first + 1;
            let message = format!(
                "{} of {} images are not in {}, such as that of sample {first}",
                absent.count(),
                references.len(),
                plan.images
            );
            let remedy = format!("put them there, or set {section}.images to their folder");
            Err(Fault::at(&format!("{section}.images"), message, remedy))
        }
        None => Ok(references),
    }
}

/// Samples that are to be apart and are not: the same image, by content.
fn overlap(
    (whose, seen_by, seen): (&str, &DatasetPlan, &Vec<Reference>),
    (section, plan, samples): (&str, &DatasetPlan, &Vec<Reference>),
) -> Option<Fault> {
    let digests = |plan: &DatasetPlan, references: &[Reference]| -> Vec<Option<FileDigest>> {
        let digest =
            |r: &Reference| files::digest_file(String::new(), &Path::new(&plan.images).join(&r.image)).ok();
        references.iter().map(digest).collect()
    };
    let known: HashMap<_, _> =
        digests(seen_by, seen).into_iter().zip(1..).filter_map(|(d, at)| Some((d?.digest, at))).collect();
    let ours = digests(plan, samples).into_iter().zip(1..);
    let (other, own): (usize, usize) =
        ours.filter_map(|(d, at)| Some((*known.get(&d?.digest)?, at))).next()?;
    let message = format!("sample {own} has the image of the {whose}'s sample {other}");
    let what = if section == "held_out" { "held-out" } else { section };
    Some(Fault::at(
        &format!("{section}.file"),
        message,
        format!("{what} samples must be unseen: remove it from one"),
    ))
}

/// Reads the files among the start points into the plan.
fn start_points(plan: &mut RunPlan) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut points = std::mem::take(&mut plan.search.start_points);
    for point in &mut points {
        let StartPoint::File { path, numbers } = point else { continue };
        let text = bounded::text(Path::new(&*path), bounded::SETTINGS_BYTES).map_err(|e| e.to_string());
        match text.and_then(|text| Numbers::read(plan, path, &text)) {
            Ok(read) => *numbers = Some(read),
            Err(e) => {
                let remedy = "name a recipe, or a mergekit configuration over this run's sources";
                faults.push(Fault::at("search.start_points", format!("{path}: {e}"), remedy));
            }
        }
    }
    plan.search.start_points = points;
    faults
}

/// Files that the run file names and that are there but unusable, or that only this program would read.
fn named_files(plan: &RunPlan) -> Vec<Fault> {
    let mut faults = Vec::new();
    let scoring = &plan.scoring;
    let tokenizer = Path::new(&scoring.tokenizer).is_absolute().then_some(&scoring.tokenizer);
    let named = [
        ("scoring.tokenizer", tokenizer),
        ("scoring.lexicon", scoring.lexicon.as_ref()),
        ("scoring.extend_lexicon", scoring.extend_lexicon.as_ref()),
    ];
    for (field, path) in named.into_iter().filter_map(|(f, p)| Some((f, p?))) {
        if !Path::new(path).exists() {
            let remedy = "give an existing path; relative ones start at the run file's folder";
            faults.push(Fault::at(field, format!("{path} does not exist"), remedy));
        }
    }
    for (name, program) in plan.programs() {
        let section = if name == "evaluator" { name } else { format!("scoring.{}", name.replace('/', ".")) };
        for path in program.files.iter().filter(|f| !Path::new(f).is_file()) {
            let remedy = "give the path of a file; relative ones start at the run file's folder";
            faults.push(Fault::at(&format!("{section}.files"), format!("{path} is not there"), remedy));
        }
    }
    // A model of a hub is checked by whoever fetches it. A model folder that is not here may be on the workers; one that is here must be a model.
    for model in plan.model_refs().into_iter().filter(|m| Path::new(&m.path).exists()) {
        if let Err(e) = files::model_files(Path::new(&model.path)) {
            let field = match model.name.as_str() {
                "base" | "vlm" => format!("models.{}", model.name),
                name => format!("models.sources ({name})"),
            };
            faults.push(Fault::at(&field, e.to_string(), "name a folder in Hugging Face's layout"));
        }
    }
    faults
}

/// Digests what can be read here. What cannot is left to the first worker, and said.
pub fn manifest(read: &Read, pin: Pin, say: &mut dyn FnMut(String)) -> Result<Manifest, Failure> {
    let failed = |e: files::FilesError| Failure::Failed(e.to_string());
    let mut digests: Vec<FileDigest> =
        files::digest_dataset(&read.plan.dataset, &read.references).map_err(failed)?;
    digests.extend(files::digest_scoring(&read.plan.scoring).map_err(failed)?);
    digests.extend(score::built_in::digests(&read.plan.scoring));
    digests.extend(files::digest_programs(&read.plan).map_err(failed)?);
    for model in read.plan.model_refs() {
        match (pin, read.models.folder(model).and_then(|f| Ok((model_bytes(&f)?, f)))) {
            (Pin::Dataset, _) => {}
            (Pin::All, Ok((bytes, folder))) => {
                // A small model is digested before anybody could read the line.
                if bytes > 1 << 30 {
                    say(format!("digesting {} ({:.1} GiB)", model.path, bytes as f64 / f64::from(1 << 30)));
                }
                digests.extend(files::digest_model(&model.name, &folder).map_err(failed)?);
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

fn model_bytes(folder: &Path) -> Result<u64, String> {
    let files = files::model_files(folder).map_err(|e| e.to_string())?;
    Ok(files.iter().filter_map(|f| std::fs::metadata(f).ok()).map(|m| m.len()).sum())
}

/// `jradievo check`.
pub(super) fn check(args: Check) -> Result<u8, Failure> {
    let Read { models, mut plan, references } = read(&args.run_file, &args.overrides)?;
    // Standard output is the plan's alone.
    models.pin(&mut plan, &mut |line| if args.json { tell(&line) } else { say(&line) })?;
    if args.json {
        say(&plan.to_json());
        return Ok(exit::DONE);
    }
    say((super::table::plan(&plan, references.len())).trim_end());
    for model in plan.model_refs() {
        match models.folder(model).and_then(|f| model_bytes(&f)) {
            Ok(bytes) => {
                say(&format!("  model {:<16} {} ({})", model.name, model.path, super::table::bytes(bytes)))
            }
            Err(e) => {
                say(&format!("  model {:<16} not readable here, only workers need it: {e}", model.name))
            }
        }
    }
    say(&format!("{}: no faults", args.run_file.display()));
    Ok(exit::DONE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::dataset::Columns;
    use common::report::{MissingPart, Part};
    use common::run::EmptyReference;

    /// Faults are logged where a coordinator is started by a service, and ids and file names may be patients'.
    #[test]
    fn faults_of_samples_name_positions() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let dataset = |file: &str, id: &str, images: [&str; 2]| {
            let row = |image| {
                format!("{{\"id\":\"{id}-{image}\",\"image\":\"{image}.png\",\"report\":\"胸水なし。\"}}\n")
            };
            std::fs::write(path(file), images.map(row).concat()).unwrap();
            DatasetPlan {
                file: path(file),
                images: path("."),
                columns: Columns::default(),
                part: Part::Whole,
                without_part: MissingPart::Empty,
                empty_reference: EmptyReference::Skip,
                frame: None,
            }
        };
        for image in ["yamada", "suzuki", "copy"] {
            std::fs::write(path(&format!("{image}.png")), image.replace("copy", "suzuki")).unwrap();
        }
        let quiet =
            |text: &str| !["p-", "yamada", "suzuki", "copy", "absent"].iter().any(|name| text.contains(name));
        let fault = references("dataset", &dataset("a.jsonl", "p", ["yamada", "absent"])).unwrap_err();
        let text = fault.message;
        assert!(text.contains("1 of 2 images") && text.contains("such as that of sample 2"), "{text}");
        assert!(quiet(&text.replace(&path("."), "")), "{text}");

        let (search, proof) =
            (dataset("b.jsonl", "p", ["yamada", "suzuki"]), dataset("c.jsonl", "p", ["copy", "yamada"]));
        let read = |plan: &DatasetPlan| references("dataset", plan).unwrap();
        let (seen, unseen) = (read(&search), read(&proof));
        let text = overlap(("search", &search, &seen), ("held_out", &proof, &unseen)).unwrap().message;
        assert!(text.contains("sample 1 has the image of the search's sample 2") && quiet(&text), "{text}");
    }
}
