//! A line → what it asks for, or everything that is wrong with it.

use super::study::Study;
use crate::Outcome;
use common::fitness::Fitness;
use common::genome::Genome;
use common::run::Fault;
use common::run::reader::Section;
use common::run::study::read_point;
use common::run::tree;
use std::cell::RefCell;

/// Points that are asked for at once at most.
const MOST: u64 = 10_000;

/// What a line asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    Ask(usize),
    Tell {
        /// `None` for a point that was not asked for.
        id: Option<u64>,
        genome: Genome,
        outcome: Outcome,
    },
    Start(Genome),
    Best,
    Front,
    Status,
}

#[derive(Clone, Copy)]
enum Word {
    Ask,
    Tell,
    Start,
    Best,
    Front,
    Status,
}

/// Reads a line against what was asked for so far.
pub fn read(line: &str, study: &Study) -> Result<Request, Vec<Fault>> {
    let root = tree::parse_json(line).map_err(|f| vec![f])?;
    let faults = RefCell::new(Vec::new());
    let section = Section::new("", Some(&root), &faults);
    let request = read_request(&section, study);
    section.finish();
    let faults = faults.take();
    match request {
        Some(request) if faults.is_empty() => Ok(request),
        _ => Err(faults),
    }
}

fn read_request(s: &Section<'_>, study: &Study) -> Option<Request> {
    let words = [
        ("ask", Word::Ask),
        ("tell", Word::Tell),
        ("start", Word::Start),
        ("best", Word::Best),
        ("front", Word::Front),
        ("status", Word::Status),
    ];
    if !s.has("do") {
        s.get("do");
        s.note(Some("do"), "missing", "write {\"do\": \"ask\"}, tell, start, best, front or status");
        return None;
    }
    // What a word that is not known asks for does not matter: it is a fault.
    match s.choice("do", &words, Word::Status) {
        Word::Ask => Some(Request::Ask(s.integer("count", 1..=MOST, "1").unwrap_or(1) as usize)),
        Word::Tell => read_tell(s, study),
        Word::Start => Some(Request::Start(read_genome(s, study)?)),
        Word::Best if study.plan().objectives.len() > 1 => {
            let message = format!("there is no best of {} objectives", study.plan().objectives.len());
            s.note(Some("do"), message, "ask for the front");
            None
        }
        Word::Best => Some(Request::Best),
        Word::Front => Some(Request::Front),
        Word::Status => Some(Request::Status),
    }
}

fn read_genome(s: &Section<'_>, study: &Study) -> Option<Genome> {
    if !s.has("point") {
        s.get("point");
        s.note(Some("point"), "missing", "give a value for every searched parameter");
        return None;
    }
    let section = s.section("point");
    let point = read_point(&section, &study.plan().space);
    section.finish();
    Some(study.genome(&point?))
}

fn read_tell(s: &Section<'_>, study: &Study) -> Option<Request> {
    let outcome = read_outcome(s, study);
    if !s.has("id") && s.has("point") {
        let genome = read_genome(s, study);
        return Some(Request::Tell { id: None, genome: genome?, outcome: outcome? });
    }
    if s.has("point") {
        s.get("point");
        s.note(Some("point"), "stands beside id", "give id for what was asked for, else point");
    }
    let id = s.required_integer("id", 1..=u64::MAX >> 1, "1, or give the point that was evaluated")?;
    match study.asked(id) {
        Some(genome) => Some(Request::Tell { id: Some(id), genome: genome.clone(), outcome: outcome? }),
        None => {
            let told = study.results().iter().any(|r| r.id == id);
            let message =
                if told { format!("{id} was told already") } else { format!("{id} was never asked for") };
            s.note(Some("id"), message, "see outstanding in {\"do\": \"status\"}");
            None
        }
    }
}

/// Exactly one of `value` (or `values`), `censored` and `failed`.
fn read_outcome(s: &Section<'_>, study: &Study) -> Option<Outcome> {
    let objectives = &study.plan().objectives;
    let scores = if objectives.len() == 1 { "value" } else { "values" };
    let given: Vec<&str> = [scores, "censored", "failed"].into_iter().filter(|k| s.has(k)).collect();
    let [key] = given[..] else {
        for key in [scores, "censored", "failed"] {
            s.get(key);
        }
        let message = if given.is_empty() { "no result" } else { "more than one result" };
        s.note(Some(scores), message, format!("give one of {scores}, censored, failed"));
        return None;
    };
    let range = -f64::MAX..=f64::MAX;
    match key {
        "failed" => match s.boolean("failed")? {
            true => Some(Outcome::Failed),
            false => {
                s.note(Some("failed"), "false is no result", format!("give {scores}, or failed = true"));
                None
            }
        },
        "censored" if objectives.len() > 1 => {
            s.get("censored");
            s.note(Some("censored"), "is for one objective alone", "give values, or failed");
            None
        }
        "censored" => {
            let bound = s.number("censored", range, "0.5")?;
            Some(Outcome::Censored(study.fitness(0, bound)))
        }
        _ if objectives.len() == 1 => {
            let value = s.number(scores, range, "0.5")?;
            Some(Outcome::Scored(vec![study.fitness(0, value)]))
        }
        _ => {
            let section = s.section(scores);
            let one = |(i, (name, _)): (usize, &(String, _))| {
                if !section.has(name) {
                    section.get(name);
                    section.note(Some(name), "missing", format!("add {name}"));
                }
                Some(study.fitness(i, section.number(name, range.clone(), "0.5")?))
            };
            let all: Vec<Option<Fitness>> = objectives.iter().enumerate().map(one).collect();
            section.finish();
            Some(Outcome::Scored(all.into_iter().collect::<Option<_>>()?))
        }
    }
}
