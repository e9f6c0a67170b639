//! `[scoring.external.NAME]` and `[evaluator]`: commands of the user's own that score reports, or evaluate candidates.
//!
//! Only what they are is here. How they are spoken to is in the crate `external`; a worker runs them only where its
//! operator has allowed it.

use super::reader::Section;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A command, with everything that is to be known before it is run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProgramPlan {
    /// Program and arguments, run without a shell. A program without `/` is looked for on the node's PATH.
    pub command: Vec<String>,
    /// Absolute paths of the files whose content decides what it answers; pinned by digest.
    pub files: Vec<String>,
    /// Variables that are handed on from the worker's own environment, beside the usual few.
    pub environment: Vec<String>,
    /// How long one answer may take, in seconds.
    pub timeout_seconds: f64,
    /// How much longer the first answer after a start may take, in seconds.
    pub start_seconds: f64,
}

/// What one line of a metric is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Per {
    /// One report.
    Report,
    /// All reports of a candidate.
    Candidate,
}

/// A metric that is a command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExternalPlan {
    /// What is run.
    pub program: ProgramPlan,
    /// What it is asked about at once.
    pub per: Per,
    /// Its named scores; empty for one score that is called like the metric itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scores: Vec<String>,
}

impl ExternalPlan {
    /// The metrics that it yields under the name that the run file gives it: `NAME`, or `NAME_SCORE` for each score.
    pub fn metrics(&self, name: &str) -> Vec<String> {
        match self.scores.is_empty() {
            true => vec![name.to_string()],
            false => self.scores.iter().map(|s| format!("{name}_{s}")).collect(),
        }
    }
}

/// What an evaluator is given beside the recipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Given {
    /// The recipe alone: it merges for itself, or needs no weights.
    Recipe,
    /// Also a folder with the merged vision-language model.
    Model,
    /// Also a folder with the merged language model, as a `LlamaForCausalLM`.
    Language,
}

/// A command that stands in place of generating and scoring.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluatorPlan {
    /// What is run.
    pub program: ProgramPlan,
    /// What it is given.
    pub gets: Given,
    /// The scores that it returns for every sample.
    pub scores: Vec<String>,
}

/// The most scores of external metrics together: the wire bounds what a sample may carry.
const MOST: usize = 40;

type AsPath<'a> = &'a dyn Fn(String) -> String;

/// Reads `[scoring.external]`. `taken` are names that metrics have already.
pub(super) fn read_metrics(
    s: &Section<'_>,
    path: AsPath<'_>,
    taken: &[&str],
) -> BTreeMap<String, ExternalPlan> {
    let mut plans: BTreeMap<String, ExternalPlan> = BTreeMap::new();
    for name in s.keys().collect::<Vec<_>>() {
        let section = s.section(name);
        if !plain(name) {
            s.note(Some(name), "not a plain name", "use up to 64 lower-case letters, digits and '_'");
        }
        let per =
            section.choice("per", &[("report", Per::Report), ("candidate", Per::Candidate)], Per::Report);
        let scores = read_scores(&section).unwrap_or_default();
        let timeout = match per {
            Per::Report => 30.0,
            Per::Candidate => 300.0,
        };
        let program = read_program(&section, path, timeout);
        section.finish();
        let Some(program) = program else { continue };
        let plan = ExternalPlan { program, per, scores };
        let known = plans.iter().flat_map(|(n, p)| p.metrics(n));
        let mut names: Vec<String> = taken.iter().map(|t| t.to_string()).chain(known).collect();
        for metric in plan.metrics(name) {
            if names.contains(&metric) {
                s.note(Some(name), format!("there is a metric {metric:?} already"), "choose another name");
            }
            names.push(metric);
        }
        plans.insert(name.to_string(), plan);
    }
    let metrics = plans.iter().map(|(n, p)| p.metrics(n).len()).sum::<usize>();
    if metrics > MOST {
        s.note(None, format!("{metrics} scores, more than {MOST}"), "leave out what no fitness needs");
    }
    s.finish();
    plans
}

/// Reads `[evaluator]`.
pub(super) fn read_evaluator(s: &Section<'_>, path: AsPath<'_>) -> Option<EvaluatorPlan> {
    let gets = [("recipe", Given::Recipe), ("model", Given::Model), ("language", Given::Language)];
    let gets = s.choice("gets", &gets, Given::Recipe);
    let scores = read_scores(s);
    if scores.as_ref().is_none_or(Vec::is_empty) {
        s.note(
            Some("scores"),
            "names no score",
            "for example scores = [\"accuracy\"]: what it returns for a sample",
        );
    }
    let program = read_program(s, path, 3600.0);
    s.finish();
    Some(EvaluatorPlan { program: program?, gets, scores: scores? })
}

fn read_scores(s: &Section<'_>) -> Option<Vec<String>> {
    let scores = s.strings("scores", "[\"accuracy\"]")?;
    for (i, score) in scores.iter().enumerate() {
        if !plain(score) || scores[..i].contains(score) || super::MEASURES.contains(&score.as_str()) {
            let remedy =
                "names are of lower-case letters, digits and '_', each once, and not tokens or length";
            s.note(Some("scores"), format!("{score:?} cannot name a score"), remedy);
        }
    }
    Some(scores)
}

fn read_program(s: &Section<'_>, path: AsPath<'_>, timeout: f64) -> Option<ProgramPlan> {
    const COMMAND: &str = "[\"python3\", \"metric.py\"]";
    let command = s.strings("command", COMMAND);
    if command.as_ref().is_none_or(|c| c.first().is_none_or(|p| p.trim().is_empty())) {
        s.note(Some("command"), "names no program", format!("for example command = {COMMAND}"));
    }
    let files = s.strings("files", "[\"metric.py\"]");
    let environment = s.strings("environment", "[\"API_KEY\"]").unwrap_or_default();
    if let Some(odd) = environment.iter().find(|n| n.is_empty() || n.contains(['=', '\0'])) {
        s.note(
            Some("environment"),
            format!("{odd:?} names no variable"),
            "list names; values stay on the worker",
        );
    }
    let timeout_seconds = s.number("timeout_seconds", 0.01..=86_400.0, "30").unwrap_or(timeout);
    let start_seconds = s.number("start_seconds", 0.0..=86_400.0, "60").unwrap_or(60.0);
    let mut command = command.filter(|c| !c.is_empty())?;
    let own = command[0].contains('/');
    if files.is_none() && !own {
        let remedy = "list the script and whatever else decides its scores, as in files = [\"metric.py\"]; [] if nothing does";
        s.note(Some("files"), "missing: workers could run different scripts under one name", remedy);
    }
    let mut files = files.unwrap_or_default();
    if own && !files.contains(&command[0]) {
        files.insert(0, command[0].clone());
    }
    // Arguments that name a file of the run follow it to where it is.
    for argument in command.iter_mut().filter(|a| files.contains(a)) {
        *argument = path(argument.clone());
    }
    let files: Vec<String> = files.into_iter().map(path).collect();
    let last = |f: &String| f.rsplit('/').next().unwrap_or_default().to_string();
    let mut names: Vec<String> = files.iter().map(last).collect();
    names.sort();
    if names.windows(2).any(|pair| pair[0] == pair[1]) {
        s.note(
            Some("files"),
            "two files of one name",
            "name them differently: they are pinned by their last part",
        );
    }
    Some(ProgramPlan { command, files, environment, timeout_seconds, start_seconds })
}

fn plain(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// What a plan from elsewhere must hold, since a worker acts on it.
pub(super) fn check(name: &str, program: &ProgramPlan) -> Result<(), String> {
    let seconds = [program.timeout_seconds, program.start_seconds];
    match program.command.first() {
        None => Err(format!("{name} has no command")),
        Some(_) if seconds.iter().any(|s| !(0.0..=86_400.0).contains(s)) => {
            Err(format!("{name} has a time limit that is none"))
        }
        Some(_) => Ok(()),
    }
}

/// The program as keys of a run file, paths as they are.
pub(super) fn as_toml(program: &ProgramPlan) -> String {
    // A list of JSON strings is one of TOML strings.
    let list = |items: &[String]| serde_json::to_string(items).expect("strings are JSON");
    format!(
        "command = {}\nfiles = {}\nenvironment = {}\ntimeout_seconds = {:?}\nstart_seconds = {:?}\n",
        list(&program.command),
        list(&program.files),
        list(&program.environment),
        program.timeout_seconds,
        program.start_seconds
    )
}

#[cfg(test)]
#[path = "external_tests.rs"]
mod tests;
