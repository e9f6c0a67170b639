//! TOML text → [`RunFile`] → [`RunPlan`].

use super::fault::{Fault, Faults};
use super::parameters;
use super::plan::{
    DatasetPlan, EmptyReference, FORMAT, FinalistsPlan, GenerationPlan, MergePlan, ModelsPlan, Reports,
    RunPlan, SourcePlan,
};
use super::reader::Section;
use super::scoring::{self, read_fitness};
use super::search;
use super::tree::{self, Value};
use super::{aims, external, scheduling};
use crate::dataset::Columns;
use crate::location::{BadHubRef, Location};
use crate::recipe::{Arithmetic, Convention, Mask, ModelRef, Vocabulary};
use crate::report::{MissingPart, Part};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

/// A run file's text with what is needed to judge it.
#[derive(Clone, Copy, Debug)]
pub struct RunFile<'a> {
    /// The file's name as given, for messages.
    pub name: &'a str,
    /// The TOML text.
    pub text: &'a str,
    /// Absolute folder that relative paths start from.
    pub folder: &'a Path,
    /// `key=value` assignments from the command line, laid over the file in order.
    pub overrides: &'a [String],
    /// Metric names that `[fitness]` may use.
    pub metrics: &'a [&'a str],
}

/// Reads a run file. The plan's `samples` are still empty: the caller reads the dataset.
pub fn parse(file: &RunFile<'_>) -> Result<RunPlan, Faults> {
    let refuse = |faults| Faults { file: file.name.to_string(), faults };
    let mut root = tree::parse(file.text).map_err(|f| refuse(vec![f]))?;
    let faults = RefCell::new(Vec::new());
    for assignment in file.overrides {
        if let Err(fault) = tree::lay_over(&mut root, assignment) {
            faults.borrow_mut().push(fault);
        }
    }
    let section = Section::new("", Some(&root), &faults);
    let plan = read(&section, file);
    section.finish();
    let mut faults: Vec<Fault> = faults.take();
    faults.sort_by_key(|f| f.line().unwrap_or(usize::MAX));
    match plan {
        Some(plan) if faults.is_empty() => Ok(plan),
        _ => Err(refuse(faults)),
    }
}

/// `None` where something required is missing; every such case has noted a fault.
fn read(root: &Section<'_>, file: &RunFile<'_>) -> Option<RunPlan> {
    let path = |p: String| absolute(file.folder, &p);
    let name = root.required_string("name", "\"demo\"");
    if let Some(name) = &name
        && (name.len() > 64 || !name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)))
    {
        root.note(Some("name"), "not a plain name", "use up to 64 letters, digits, '-', '_' and '.'");
    }
    let seed = root.integer("seed", 0..=u64::MAX >> 1, "1").unwrap_or(0);
    let models = read_models(&root.section("models"), &path);
    let merge = read_merge(&root.section("merge"));

    let names: Vec<String> = models.iter().flat_map(|m| &m.sources).map(|s| s.model.name.clone()).collect();
    let section = root.section("parameters");
    let space = parameters::read(&section, &root.section("merge"), &names);
    section.finish();

    let search = search::read(&root.section("search"), space.dimensions(), None, Some(&path));
    if !root.has("dataset") {
        root.note(None, "no [dataset]", "add [dataset] with file = \"samples.jsonl\"");
    }
    let evaluator =
        root.get("evaluator").map(|_| external::read_evaluator(&root.section("evaluator"), &path));
    let own = evaluator.is_some();
    let read_dataset = |name| root.get(name).and_then(|_| read_dataset(&root.section(name), &path, own));
    let (dataset, held_out) = (read_dataset("dataset"), read_dataset("held_out"));
    let validation = read_dataset("validation");
    let finalists = read_finalists(root);
    let task =
        if own && !root.has("prompt") { Some(String::new()) } else { read_task(&root.section("prompt")) };
    let generation = read_generation(&root.section("generation"));
    let scoring = scoring::read(&root.section("scoring"), &path, file.metrics);
    if own && !scoring.external.is_empty() {
        let remedy = "keep one of them: an evaluator returns all scores itself";
        root.note(Some("evaluator"), "given beside [scoring.external]", remedy);
    }
    let evaluator = evaluator.flatten();
    let metrics = scoring::metric_names(&scoring, evaluator.as_ref(), file.metrics);
    let objective =
        read_fitness(&root.section("fitness"), &metrics, evaluator.as_ref().map(|e| &e.scores[..]));
    let objectives = aims::read(&root.section("objectives"), &metrics);
    if objectives.len() == 1 {
        root.note(Some("objectives"), "a single objective", "name at least two, or make it the fitness");
    }
    let scheduling = scheduling::read(&root.section("scheduling"));
    let early_stop = scheduling::read_early_stop(&root.section("early_stop"));
    let reports = [("local", Reports::Local), ("coordinator", Reports::Coordinator)];
    // They leave a node only where the file says so.
    let reports = root.choice("reports", &reports, Reports::Local);
    Some(RunPlan {
        format: FORMAT,
        name: name?,
        seed,
        models: models?,
        merge,
        space,
        search: search?,
        dataset: dataset?,
        held_out,
        validation,
        finalists,
        task: task?,
        generation,
        scoring,
        evaluator,
        objective,
        objectives,
        scheduling,
        early_stop,
        reports,
        samples: Vec::new(),
    })
}

/// Names that mean something else where sources are named: in recipes, digests and tables.
const RESERVED: [&str; 5] = ["base", "constant", "uniform", "middle", "best"];

fn read_models(s: &Section<'_>, path: &dyn Fn(String) -> String) -> Option<ModelsPlan> {
    let base = s.required_string("base", "\"hf://meta-llama/Meta-Llama-3-8B\"");
    let base = base.map(|text| read_location(s, "base", text, path));
    let vlm = s.required_string("vlm", "\"hf://BAAI/Bunny-v1_1-Llama-3-8B-V\"");
    let vlm = vlm.map(|text| read_location(s, "vlm", text, path));
    let base = base.map(|path| ModelRef { name: "base".into(), path, rename: read_rename(s, "base_rename") });
    let vlm = vlm.map(|path| ModelRef { name: "vlm".into(), path, rename: read_rename(s, "vlm_rename") });
    let mut sources: Vec<SourcePlan> = Vec::new();
    let mut complete = true;
    for source in s.sections("sources") {
        match read_source(&source, path, base.as_ref(), vlm.as_ref(), &sources) {
            Some(source) => sources.push(source),
            None => complete = false,
        }
    }
    if sources.is_empty() && complete {
        s.note(None, "no sources", "add at least one [[models.sources]] with name and model");
        complete = false;
    }
    if sources.len() > 64 {
        s.note(Some("sources"), "more than 64 sources", "merge fewer models");
    }
    s.finish();
    let (base, vlm) = (base?, vlm?);
    complete.then_some(ModelsPlan { base, vlm, sources })
}

/// A folder's path made absolute, or a reference to a hub with its revision spelt out.
fn read_location(s: &Section<'_>, key: &str, text: String, path: &dyn Fn(String) -> String) -> String {
    match text.parse() {
        Ok(Location::Hub(hub)) => hub.to_string(),
        Ok(Location::Folder(_)) => path(text),
        Err(BadHubRef { text, fault }) => {
            let remedy = "name a folder, or write hf://owner/name@revision";
            s.note(Some(key), format!("{text:?}: {fault}"), remedy);
            text
        }
    }
}

/// `earlier` are the sources that stand before it in the file.
fn read_source(
    s: &Section<'_>,
    path: &dyn Fn(String) -> String,
    base: Option<&ModelRef>,
    vlm: Option<&ModelRef>,
    earlier: &[SourcePlan],
) -> Option<SourcePlan> {
    let name = s.required_string("name", "\"japanese\"");
    let model = s.required_string("model", "\"models/japanese\"");
    let model = model.map(|text| read_location(s, "model", text, path));
    let mut rename = read_rename(s, "rename");
    let own_base = s.string("base", "\"hf://meta-llama/Meta-Llama-3-8B-Instruct\"");
    let own_base = own_base.map(|text| read_location(s, "base", text, path));
    let base_rename = read_rename(s, "base_rename");
    if own_base.is_none() && !base_rename.is_empty() {
        s.note(
            Some("base_rename"),
            "given without base",
            "name the source's own base, or use models.base_rename",
        );
    }
    let vocabulary = s.has("vocabulary").then(|| s.choice("vocabulary", &VOCABULARIES, Vocabulary::Refuse));
    s.finish();
    let (name, model) = (name?, model?);
    if name.len() > 64 || !name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)) {
        s.note(Some("name"), "not a plain name", "use up to 64 letters, digits, '-' and '_'");
    } else if earlier.iter().any(|s| s.model.name == name) {
        s.note(Some("name"), format!("{name:?} names two sources"), "give each its own name");
    } else if RESERVED.contains(&name.as_str()) || (name == "vlm" && vlm.is_some_and(|v| v.path != model)) {
        let remedy = "choose another: the word stands for a model or a row of its own in tables";
        s.note(Some("name"), format!("{name:?} is taken"), remedy);
    }
    // The VLM and the source in it are one model, opened once.
    if let Some(vlm) = vlm.filter(|_| name == "vlm") {
        if !rename.is_empty() && rename != vlm.rename {
            let remedy = "write it as models.vlm_rename, which counts for both";
            s.note(Some("rename"), "the VLM's tensors cannot have two sets of names", remedy);
        }
        rename = vlm.rename.clone();
    }
    let own_base = own_base.map(|path| ModelRef { name: format!("{name}.base"), path, rename: base_rename });
    let same = |own: &ModelRef, base: &ModelRef| own.path == base.path && own.rename == base.rename;
    let own_base = own_base.filter(|own| !base.is_some_and(|base| same(own, base)));
    Some(SourcePlan { model: ModelRef { name, path: model, rename }, base: own_base, vocabulary })
}

/// A table of prefixes: `rename = { "llm." = "" }`.
fn read_rename(s: &Section<'_>, key: &str) -> BTreeMap<String, String> {
    const EXAMPLE: &str = "for example { \"llm.\" = \"\" }: stored prefix = what stands in its place";
    let Some(node) = s.get(key) else { return BTreeMap::new() };
    let Value::Table(table) = &node.value else {
        s.note(Some(key), format!("expected a table, found {}", node.value.kind()), EXAMPLE);
        return BTreeMap::new();
    };
    let mut rename = BTreeMap::new();
    for (from, to) in table {
        match &to.value {
            Value::String(to) if to == from => {
                s.note(Some(key), format!("{from:?} stands for itself"), "leave it out");
            }
            Value::String(to) => drop(rename.insert(from.clone(), to.clone())),
            other => {
                s.note(Some(key), format!("{from:?}: expected a string, found {}", other.kind()), EXAMPLE);
            }
        }
    }
    rename
}

const VOCABULARIES: [(&str, Vocabulary); 3] =
    [("refuse", Vocabulary::Refuse), ("cut", Vocabulary::Cut), ("align", Vocabulary::Align)];

fn read_merge(s: &Section<'_>) -> MergePlan {
    let conventions = [("paper", Convention::Paper), ("linear", Convention::Linear)];
    let arithmetics = [("float32", Arithmetic::Float32), ("float16", Arithmetic::Float16)];
    let plan = MergePlan {
        convention: s.choice("convention", &conventions, Convention::Paper),
        mask: s.choice("mask", &Mask::WORDS, Mask::Independent),
        mask_seed: s.integer("mask_seed", 0..=u64::MAX >> 1, "42").unwrap_or(42),
        arithmetic: s.choice("arithmetic", &arithmetics, Arithmetic::Float32),
        vocabulary: s.choice("vocabulary", &VOCABULARIES, Vocabulary::Refuse),
    };
    if plan.convention != Convention::Paper && plan.arithmetic != Arithmetic::Float32 {
        let remedy = "remove it: only the paper's convention is defined in float16";
        s.note(Some("arithmetic"), "\"float16\" beside another convention than \"paper\"", remedy);
    }
    s.finish();
    plan
}

/// The samples of an evaluator of the user's own (`bare`) need neither image nor reference.
fn read_dataset(s: &Section<'_>, path: &dyn Fn(String) -> String, bare: bool) -> Option<DatasetPlan> {
    let empties =
        [("skip", EmptyReference::Skip), ("keep", EmptyReference::Keep), ("refuse", EmptyReference::Refuse)];
    let file = s.required_string("file", "\"samples.jsonl\"").map(path);
    let images = s.string("images", "\"images\"").map(path);
    let defaults = match bare {
        true => Columns { image: String::new(), report: String::new(), ..Columns::default() },
        false => Columns::default(),
    };
    let columns = Columns {
        id: s.string("id", "\"id\"").unwrap_or(defaults.id),
        image: s.string("image", "\"image\"").unwrap_or(defaults.image),
        report: s.string("report", "\"report\"").unwrap_or(defaults.report),
    };
    let parts = [
        ("whole", Part::Whole),
        ("所見", Part::Findings),
        ("findings", Part::Findings),
        ("印象", Part::Impression),
        ("impression", Part::Impression),
    ];
    let part = s.choice("part", &parts, Part::Whole);
    let without = [("empty", MissingPart::Empty), ("whole", MissingPart::Whole)];
    let without_part = s.choice("without_part", &without, MissingPart::Empty);
    let default = if bare { EmptyReference::Keep } else { EmptyReference::Skip };
    let empty_reference = s.choice("empty_reference", &empties, default);
    let frame = match s.get("frame").map(|n| &n.value) {
        Some(Value::String(word)) => {
            if word != "first" {
                s.note(
                    Some("frame"),
                    format!("{word:?} is not known"),
                    "frame = \"first\", or a number from 1",
                );
            }
            Some(1)
        }
        _ => s.integer("frame", 1..=u64::from(u32::MAX), "\"first\"").map(|frame| frame as u32),
    };
    s.finish();
    let file = file?;
    let folder = || Path::new(&file).parent().map(|p| p.display().to_string()).unwrap_or_default();
    let images = images.unwrap_or_else(folder);
    Some(DatasetPlan { images, file, columns, part, without_part, empty_reference, frame })
}

fn read_task(s: &Section<'_>) -> Option<String> {
    let task = s.required_string("task", "\"このX線写真の所見を日本語で書いてください。\"");
    if task.as_ref().is_some_and(|t| t.len() > 16 * 1024) {
        s.note(Some("task"), "longer than 16384 bytes", "shorten it");
    }
    if task.as_ref().is_some_and(|t| t.contains("<image>")) {
        s.note(Some("task"), "holds the image mark <image>", "leave it out: the template places the image");
    }
    s.finish();
    task
}

fn read_generation(s: &Section<'_>) -> GenerationPlan {
    let mut image_resize = None;
    match s.get("image_resize").map(|n| &n.value) {
        None => {}
        Some(Value::Array(items)) => {
            let side = |v: &Value| match v {
                Value::Integer(i @ 1..=8192) => Some(*i as u32),
                _ => None,
            };
            match items.iter().map(|n| side(&n.value)).collect::<Vec<_>>()[..] {
                [Some(w), Some(h)] => image_resize = Some([w, h]),
                _ => {
                    s.note(Some("image_resize"), "not two sides from 1 to 8192", "image_resize = [512, 512]")
                }
            }
        }
        Some(other) => {
            let message = format!("expected [width, height], found {}", other.kind());
            s.note(Some("image_resize"), message, "image_resize = [512, 512]");
        }
    }
    let plan = GenerationPlan {
        image_resize,
        max_new_tokens: s.integer("max_new_tokens", 1..=8192, "256").unwrap_or(256) as u32,
        batch_size: s.integer("batch_size", 1..=4096, "50").unwrap_or(50) as u32,
    };
    s.finish();
    plan
}

fn read_finalists(root: &Section<'_>) -> Option<FinalistsPlan> {
    root.get("finalists")?;
    let s = root.section("finalists");
    let count = s.integer("count", 2..=100, "5").unwrap_or(5) as usize;
    s.finish();
    if !root.has("validation") {
        let remedy = "add [validation]: samples apart from those of the search and from those of the proof";
        s.note(None, "there are no samples to choose the winner on", remedy);
    }
    Some(FinalistsPlan { count })
}

/// Joins and tidies `.` and `..` without touching the disk.
pub(super) fn absolute(folder: &Path, path: &str) -> String {
    let mut out = PathBuf::new();
    for component in folder.join(path).components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => drop(out.pop()),
            other => out.push(other),
        }
    }
    out.display().to_string()
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
