//! Metrics that are commands: reports in, named scores out.

use crate::answer::{self, Answer, Scored};
use crate::command::Command;
use crate::fault::{Fault, Trouble};
use common::run::{ExternalPlan, Per, Reports};
use serde::Serialize;
use std::collections::BTreeMap;

/// The longest answer about one report, in bytes.
const LINE_BYTES: usize = 1 << 20;
/// The longest answer about a candidate.
const CANDIDATE_BYTES: usize = 64 << 20;

/// A report to be scored.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Row<'a> {
    /// Where the sample stands in the run's order, from 0: what faults call it by. The command is not told.
    #[serde(skip)]
    pub position: usize,
    /// The sample's id.
    pub sample: &'a str,
    /// What was written.
    pub text: &'a str,
    /// What is right.
    pub reference: &'a str,
    /// The image's path on this machine, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<&'a str>,
}

/// The external metrics of a plan. Their commands are started when they are first needed, and kept.
#[derive(Debug, Default)]
pub struct Metrics {
    metrics: Vec<Metric>,
}

#[derive(Debug)]
struct Metric {
    name: String,
    plan: ExternalPlan,
    command: Command,
}

impl Metrics {
    /// For these metrics, by name. Nothing is started yet.
    pub fn new(plans: &BTreeMap<String, ExternalPlan>) -> Metrics {
        let metric = |(name, plan): (&String, &ExternalPlan)| {
            let limit = match plan.per {
                Per::Report => LINE_BYTES,
                Per::Candidate => CANDIDATE_BYTES,
            };
            let command = Command::new(format!("metric {name:?}"), &plan.program, limit);
            Metric { name: name.clone(), plan: plan.clone(), command }
        };
        Metrics { metrics: plans.iter().map(metric).collect() }
    }

    /// Where reports stay on their node (`reports = "local"`), so does what commands say in words of their own: faults tell
    /// that there are some, and the log has them, masked.
    pub fn keeping_words(mut self, reports: Reports) -> Metrics {
        self.metrics.iter_mut().for_each(|m| m.command.keep_words(reports == Reports::Local));
        self
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.metrics.is_empty()
    }

    /// Whether some metric looks at all reports of a candidate at once.
    pub fn want_whole_candidates(&self) -> bool {
        self.metrics.iter().any(|m| m.plan.per == Per::Candidate)
    }

    /// Every metric's scores of every row, in the rows' order.
    ///
    /// # Errors
    /// The first fault; its command is started anew for whatever comes next.
    pub fn score(
        &mut self,
        rows: &[Row<'_>],
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Vec<BTreeMap<String, f64>>, Fault> {
        let mut all = vec![BTreeMap::new(); rows.len()];
        for metric in &mut self.metrics {
            let scores = metric.score(rows, cancelled)?;
            all.iter_mut().zip(scores).for_each(|(row, scores)| row.extend(scores));
        }
        Ok(all)
    }
}

impl Metric {
    fn score(
        &mut self,
        rows: &[Row<'_>],
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Vec<BTreeMap<String, f64>>, Fault> {
        self.command.mask().make_room(rows.len());
        for row in rows {
            let mask = self.command.mask();
            mask.remember(row.text);
            mask.know(row.reference);
            mask.name(row.sample);
            row.image.into_iter().for_each(|image| mask.name_of_file(image));
        }
        let scored = match self.plan.per {
            Per::Report => rows.iter().map(|row| self.report(row, cancelled)).collect::<Result<Vec<_>, _>>(),
            Per::Candidate => self.candidate(rows, cancelled),
        };
        let named = |scores: BTreeMap<String, f64>| match self.plan.scores.is_empty() {
            true => scores,
            false => scores.into_iter().map(|(score, v)| (format!("{}_{score}", self.name), v)).collect(),
        };
        Ok(scored?.into_iter().map(named).collect())
    }

    /// Names that an answer is to have.
    fn names(&self) -> Vec<String> {
        if self.plan.scores.is_empty() { vec![self.name.clone()] } else { self.plan.scores.clone() }
    }

    fn report(
        &mut self,
        row: &Row<'_>,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<BTreeMap<String, f64>, Fault> {
        let about = format!("sample {}", row.position + 1);
        let request = serde_json::to_string(row).expect("texts are JSON");
        let answer = self.ask(&request, &about, cancelled)?;
        let checked = match answer {
            Answer::One(scored) => belongs(scored, row),
            Answer::Each(_) => Err(Trouble::Answer("\"samples\" where one report was asked about".into())),
        };
        checked.map_err(|t| self.command.fault(&about, t))
    }

    fn candidate(
        &mut self,
        rows: &[Row<'_>],
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Vec<BTreeMap<String, f64>>, Fault> {
        const ABOUT: &str = "the candidate";
        let request = serde_json::json!({ "samples": rows }).to_string();
        let each = match self.ask(&request, ABOUT, cancelled)? {
            // One number for the whole: its mean over the samples is itself.
            Answer::One(scored) => return Ok(vec![scored.scores; rows.len()]),
            Answer::Each(each) => each,
        };
        if each.len() != rows.len() {
            let message = format!("{} entries in \"samples\" for {} reports", each.len(), rows.len());
            return Err(self.command.fault(ABOUT, Trouble::Answer(message)));
        }
        let checked = each.into_iter().zip(rows).map(|(scored, row)| belongs(scored, row));
        checked.collect::<Result<_, _>>().map_err(|t| self.command.fault(ABOUT, t))
    }

    fn ask(&mut self, request: &str, about: &str, cancelled: &dyn Fn() -> bool) -> Result<Answer, Fault> {
        let answer = self.command.ask(request, cancelled);
        let answer = answer.and_then(|line| line.map(|line| answer::read(&line, &self.names())).transpose());
        answer.map_err(|t| self.command.fault(about, t))?.ok_or(Fault::Cancelled)
    }
}

/// The scores of an answer, where it does not name another sample. Ids are not quoted: they may say who a patient is.
fn belongs(scored: Scored, row: &Row<'_>) -> Result<BTreeMap<String, f64>, Trouble> {
    match scored.sample {
        Some(named) if named != row.sample => {
            let asked = row.position + 1;
            Err(Trouble::Answer(format!("it names another sample where sample {asked} was asked about")))
        }
        _ => Ok(scored.scores),
    }
}
