//! TOML text → [`RunFile`] → [`RunPlan`].

use super::fault::{Fault, Faults};
use super::parameters;
use super::plan::{
    DatasetPlan, EmptyReference, FORMAT, GenerationPlan, MergePlan, ModelsPlan, RunPlan, SchedulingPlan,
    ScoringPlan, SourcePlan,
};
use super::reader::{Section, edit_distance};
use super::search;
use super::tree::{self, Value};
use crate::dataset::Columns;
use crate::fitness::Objective;
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

    let search = search::read(&root.section("search"), space.dimensions());
    if !root.has("dataset") {
        root.note(None, "no [dataset]", "add [dataset] with file = \"samples.jsonl\"");
    }
    let dataset = root.get("dataset").and_then(|_| read_dataset(&root.section("dataset"), &path));
    let held_out = root.get("held_out").and_then(|_| read_dataset(&root.section("held_out"), &path));
    let task = read_task(&root.section("prompt"));
    let generation = read_generation(&root.section("generation"));
    let scoring = read_scoring(&root.section("scoring"), &path);
    let objective = read_fitness(&root.section("fitness"), file.metrics);
    let scheduling = read_scheduling(&root.section("scheduling"));
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
        task: task?,
        generation,
        scoring,
        objective,
        scheduling,
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

fn read_dataset(s: &Section<'_>, path: &dyn Fn(String) -> String) -> Option<DatasetPlan> {
    let empties =
        [("skip", EmptyReference::Skip), ("keep", EmptyReference::Keep), ("refuse", EmptyReference::Refuse)];
    let file = s.required_string("file", "\"samples.jsonl\"").map(path);
    let images = s.string("images", "\"images\"").map(path);
    let defaults = Columns::default();
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
    let empty_reference = s.choice("empty_reference", &empties, EmptyReference::Skip);
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

fn read_scoring(s: &Section<'_>, path: &dyn Fn(String) -> String) -> ScoringPlan {
    let tokenizer = s.string("tokenizer", "\"unidic-lite\"").unwrap_or_else(|| "unidic-lite".into());
    let built_in = ["unidic-lite", "ipadic", "char"].contains(&tokenizer.as_str());
    let plan = ScoringPlan {
        tokenizer: if built_in { tokenizer } else { path(tokenizer) },
        lexicon: s.string("lexicon", "\"lexicon.toml\"").map(path),
        extend_lexicon: s.string("extend_lexicon", "\"more.csv\"").map(path),
        absent_weight: s.number("absent_weight", 0.0..=1000.0, "1.0").unwrap_or(1.0),
        nfkc: s.boolean("nfkc").unwrap_or(true),
    };
    if plan.lexicon.is_some() && plan.extend_lexicon.is_some() {
        let remedy = "keep lexicon (in place of the built-in one) or extend_lexicon (laid over it)";
        s.note(Some("extend_lexicon"), "given beside lexicon", remedy);
    }
    s.finish();
    plan
}

fn read_fitness(s: &Section<'_>, metrics: &[&str]) -> Objective {
    let mut weights = BTreeMap::new();
    for key in s.keys() {
        if !metrics.contains(&key) {
            s.get(key);
            let nearest = metrics.iter().min_by_key(|m| edit_distance(m, key)).copied().unwrap_or("rouge_l");
            let remedy = format!("did you mean {nearest}? metrics are {}", metrics.join(", "));
            s.note(Some(key), "no such metric", remedy);
        } else if let Some(weight) = s.number(key, -1000.0..=1000.0, "0.5") {
            weights.insert(key.to_string(), weight);
        }
    }
    if s.keys().next().is_none() {
        weights = BTreeMap::from([("rouge_l".into(), 0.5), ("term_f1".into(), 0.5)]);
    } else if !weights.is_empty() && weights.values().all(|w| *w == 0.0) {
        s.note(None, "all weights are zero", "give at least one metric a weight");
    }
    s.finish();
    Objective { weights }
}

fn read_scheduling(s: &Section<'_>) -> SchedulingPlan {
    let plan = SchedulingPlan {
        lease_seconds: s.integer("lease_seconds", 1..=86_400, "60").unwrap_or(60),
        attempts: s.integer("attempts", 1..=100, "3").unwrap_or(3) as u32,
    };
    s.finish();
    plan
}

/// Joins and tidies `.` and `..` without touching the disk.
fn absolute(folder: &Path, path: &str) -> String {
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
