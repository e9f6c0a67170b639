//! The search alone: requests in, answers out, one JSON object a line. `docs/OPTIMIZE.md` is the protocol.
//!
//! | file | what |
//! |---|---|
//! | `space` | values in natural units ↔ coordinates of the unit cube |
//! | `study` | a search with everything that it was told, in natural units; saved and restored |
//! | `request` | a line → what it asks for, or what is wrong with it |
//! | here | answers |
//!
//! Whatever a line holds, it gets an answer and the dialogue goes on. Nothing here reads or writes a stream.

mod request;
mod space;
mod study;

pub use study::{Saved, Study, StudyError};

use crate::{Outcome, Search};
use common::run::Fault;
use common::run::study::Direction;
use request::Request;
use serde_json::{Value, json};
use study::Record;

/// Answers lines.
#[derive(Debug)]
pub struct Dialogue {
    study: Study,
    /// Lines so far.
    line: u64,
}

/// An answer, and whether the study is another one than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// One line of JSON.
    pub text: String,
    /// Whether there is something to save.
    pub changed: bool,
}

impl Dialogue {
    /// A dialogue about this study.
    pub fn new(study: Study) -> Dialogue {
        Dialogue { study, line: 0 }
    }

    /// What is talked about.
    pub fn study(&self) -> &Study {
        &self.study
    }

    /// The answer to a line; blank lines get none.
    pub fn answer(&mut self, line: &str) -> Option<Answer> {
        self.line += 1;
        if line.trim().is_empty() {
            return None;
        }
        let done = request::read(line, &self.study).and_then(|request| self.act(request));
        let (value, changed) = match done {
            Ok(done) => done,
            Err(faults) => {
                let fault = |f: &Fault| json!({"field": f.field, "message": f.message, "remedy": f.remedy});
                let faults: Vec<Value> = faults.iter().map(fault).collect();
                (json!({"line": self.line, "errors": faults}), false)
            }
        };
        Some(Answer { text: value.to_string(), changed })
    }

    fn act(&mut self, request: Request) -> Result<(Value, bool), Vec<Fault>> {
        let study = &mut self.study;
        match request {
            Request::Ask(count) => {
                let asked = study.ask(count);
                let point = |(id, values): &(u64, Value)| json!({"id": id, "point": values});
                let asked: Vec<Value> = asked.iter().map(point).collect();
                let changed = !asked.is_empty();
                Ok((self.reply("ask", json!({"asked": asked})), changed))
            }
            Request::Tell { id, genome, outcome } => {
                let id = study.tell(id, genome, outcome);
                let best = self.study.best().map(|r| self.record(r));
                let told = self.study.results().len();
                Ok((self.reply("tell", json!({"id": id, "told": told, "best": best})), true))
            }
            Request::Start(genome) => {
                study.search_mut().push(genome);
                let waiting = study.search().waiting();
                Ok((self.reply("start", json!({"waiting": waiting})), true))
            }
            Request::Best => {
                let best = self.study.best().map(|r| self.record(r));
                Ok((self.reply("best", json!({"best": best})), false))
            }
            Request::Front => {
                let front: Vec<Value> = self.study.front().into_iter().map(|r| self.record(r)).collect();
                Ok((self.reply("front", json!({"front": front})), false))
            }
            Request::Status => {
                let study = &self.study;
                let out = study.outstanding().map(|(id, values)| json!({"id": id, "point": values}));
                let out: Vec<Value> = out.collect();
                let status = json!({
                    "algorithm": study.plan().search.algorithm.name(),
                    "population": study.search().population(),
                    "evaluations": study.plan().search.evaluations,
                    "told": study.results().len(),
                    "failed": study.results().iter().filter(|r| r.outcome == Outcome::Failed).count(),
                    "waiting": study.search().waiting(),
                    "step_size": study.search().step_size(),
                    "outstanding": out,
                });
                Ok((self.reply("status", status), false))
            }
        }
    }

    /// What every answer holds: what was done, which way is better, and whether to go on.
    fn reply(&self, did: &str, rest: Value) -> Value {
        let direction = |d: &Direction| match d {
            Direction::Maximize => "maximize",
            Direction::Minimize => "minimize",
        };
        let objectives = &self.study.plan().objectives;
        let objectives: serde_json::Map<String, Value> =
            objectives.iter().map(|(name, d)| (name.clone(), direction(d).into())).collect();
        let mut reply = json!({"did": did, "objectives": objectives, "stop": self.study.stop()});
        if let (Value::Object(reply), Value::Object(rest)) = (&mut reply, rest) {
            reply.extend(rest);
        }
        reply
    }

    /// A result in natural units.
    fn record(&self, record: &Record) -> Value {
        let mut value = json!({"id": record.id, "point": self.study.point(&record.genome)});
        let scores = self.study.scores(&record.outcome);
        if let (Value::Object(value), Some(scores)) = (&mut value, scores) {
            match &scores[..] {
                [score] => drop(value.insert("value".into(), json!(score))),
                _ => {
                    let names = self.study.plan().objectives.iter().map(|(name, _)| name.clone());
                    let all: serde_json::Map<String, Value> =
                        names.zip(scores.iter().map(|s| json!(s))).collect();
                    value.insert("values".into(), Value::Object(all));
                }
            }
        }
        value
    }
}

#[cfg(test)]
mod tests;
