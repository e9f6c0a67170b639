//! An evaluator that is a command: a recipe in, scores of every sample out. It stands in place of generating and scoring, so
//! that merges can be searched for any task.

use crate::answer::{self, Answer, Scored};
use crate::command::Command;
use crate::fault::{Fault, Trouble};
use common::evaluation::{SampleResult, Stop};
use common::recipe::Recipe;
use common::run::{EvaluatorPlan, Reports};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};

const LINE_BYTES: usize = 64 << 20;
const ABOUT: &str = "the candidate";

/// What an evaluator is asked.
#[derive(Clone, Debug, Serialize)]
pub struct Request<'a> {
    /// Every number of the merge.
    pub recipe: &'a Recipe,
    /// Model name → its folder on this machine.
    pub models: BTreeMap<String, String>,
    /// The merged model's folder, where the run file asks for one. It is removed after the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The dataset's file on this machine.
    pub dataset: &'a str,
    /// Ids of the samples, in order.
    pub samples: &'a [String],
}

/// The evaluator of a plan. Its command is started when it is first needed, and kept.
#[derive(Debug)]
pub struct Evaluator {
    scores: Vec<String>,
    command: Command,
}

impl Evaluator {
    /// Nothing is started yet.
    pub fn new(plan: &EvaluatorPlan) -> Evaluator {
        let command = Command::new("evaluator".into(), &plan.program, LINE_BYTES);
        Evaluator { scores: plan.scores.clone(), command }
    }

    /// As [`crate::Metrics::keeping_words`].
    pub fn keeping_words(mut self, reports: Reports) -> Evaluator {
        self.command.keep_words(reports == Reports::Local);
        self
    }

    /// What it can read of a sample in the dataset, and must not be shown: id, image and reference.
    pub fn remember(&mut self, id: &str, image: &str, reference: &str) {
        let mask = self.command.mask();
        mask.name(id);
        mask.name_of_file(image);
        mask.know(reference);
    }

    /// Scores of every sample, in the request's order.
    ///
    /// # Errors
    /// The first fault; the command is started anew for whatever comes next.
    pub fn evaluate(
        &mut self,
        request: &Request<'_>,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Vec<SampleResult>, Fault> {
        let line = serde_json::to_string(request).expect("a request is JSON");
        let answer = self
            .command
            .ask(&line, cancelled)
            .and_then(|line| line.map(|line| answer::read(&line, &self.scores)).transpose())
            .and_then(|answer| answer.map(|a| in_order(a, request.samples)).transpose());
        answer.map_err(|t| self.command.fault(ABOUT, t))?.ok_or(Fault::Cancelled)
    }
}

/// Joins answers with the samples asked for, each once. Faults count samples as they were asked for, from 1, and
/// `samples[…]` as they were answered, from 0; ids are not quoted, since they may say who a patient is.
fn in_order(answer: Answer, samples: &[String]) -> Result<Vec<SampleResult>, Trouble> {
    let unusable = |message: String| Err(Trouble::Answer(message));
    let Answer::Each(each) = answer else {
        return unusable("expected \"samples\": a list with the scores of each".into());
    };
    let mut by_sample: HashMap<String, (usize, Scored)> = HashMap::new();
    for (i, mut scored) in each.into_iter().enumerate() {
        let Some(sample) = scored.sample.take() else {
            return unusable(format!("samples[{i}] does not name its sample"));
        };
        if let Some((first, _)) = by_sample.insert(sample, (i, scored)) {
            return unusable(format!("samples[{i}] is of the same sample as samples[{first}]"));
        }
    }
    let mut results = Vec::with_capacity(samples.len());
    for (position, sample) in samples.iter().enumerate() {
        let Some((_, scored)) = by_sample.remove(sample) else {
            return unusable(format!("sample {} is missing", position + 1));
        };
        let text = scored.text.unwrap_or_default();
        results.push(SampleResult {
            sample: sample.clone(),
            text,
            tokens: 0,
            stop: Stop::End,
            scores: scored.scores,
            kept: None,
        });
    }
    match by_sample.into_values().map(|(i, _)| i).min() {
        Some(extra) => unusable(format!("samples[{extra}] is of a sample that was not asked for")),
        None => Ok(results),
    }
}
