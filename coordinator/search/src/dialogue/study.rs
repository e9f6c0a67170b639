//! A search with everything that it was asked and told; saved and restored whole.
//!
//! Inside, larger is better: what is minimised is negated on its way in and on its way out, here and nowhere else.

use super::space;
use crate::{Beginning, OtherSpace, Outcome, Search, Snapshot, Starting, Told, begin_from, pareto};
use common::digest::Digest;
use common::fitness::Fitness;
use common::genome::Genome;
use common::run::study::{Direction, Scalar, StudyPlan};
use common::seed::Stream;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::VecDeque;

/// Version of saved studies.
const FORMAT: u32 = 1;

/// One result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Its number, in the order of asking or, where nobody asked, of telling.
    pub id: u64,
    /// What was evaluated.
    pub genome: Genome,
    /// What came of it, larger is better.
    pub outcome: Outcome,
}

/// A study as it is saved: everything, its random stream included.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saved {
    format: u32,
    plan: StudyPlan,
    search: Snapshot,
    results: Vec<Record>,
    outstanding: Vec<(u64, Genome)>,
    next: u64,
}

/// What stands before the digest at the end of a state file.
const SEAL: &str = ",\"digest\":\"";

impl Saved {
    /// The text of a state file: one JSON object, whose last key is the digest of all before it.
    pub fn to_text(&self) -> String {
        let text = serde_json::to_string(self).expect("a study holds nothing JSON cannot say");
        let digest = Digest::of(text.as_bytes());
        format!("{}{SEAL}{digest}\"}}\n", &text[..text.len() - 1])
    }

    /// Reads the text of a state file. Files of earlier versions end without a digest, and are taken at their word.
    ///
    /// # Errors
    /// [`StudyError::Changed`], [`StudyError::Form`].
    pub fn from_text(text: &str) -> Result<Saved, StudyError> {
        let text = text.trim_end();
        let text = match text.rsplit_once(SEAL) {
            None => text.to_string(),
            Some((before, digest)) => {
                let text = format!("{before}}}");
                match digest.strip_suffix("\"}") == Some(&Digest::of(text.as_bytes()).to_string()) {
                    true => text,
                    false => return Err(StudyError::Changed),
                }
            }
        };
        serde_json::from_str(&text).map_err(|e| StudyError::Form(e.to_string()))
    }
}

/// Why a study cannot go on from what was saved.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum StudyError {
    /// Written by another version of this program.
    #[error("format {0} is not known; go on with the version that wrote it")]
    Format(u32),
    /// Names, ranges or directions differ.
    #[error(
        "it holds a search of another {0}; choose another state file, or give the {0} that it began with"
    )]
    Other(&'static str),
    /// Not JSON, or not of a study's form.
    #[error("it holds no search: {0}; choose another state file")]
    Form(String),
    /// Somebody or a disk changed it.
    #[error("it was changed since it was written; go on from a copy of it, or choose another state file")]
    Changed,
    /// It contradicts itself.
    #[error("it is damaged: {0}")]
    Damaged(#[from] OtherSpace),
}

/// A search in natural units.
#[derive(Debug)]
pub struct Study {
    plan: StudyPlan,
    search: Starting,
    results: Vec<Record>,
    /// Asked for and not told of, in order.
    outstanding: Vec<(u64, Genome)>,
    /// The next number.
    next: u64,
    /// Position of the best result so far.
    best: Option<usize>,
}

impl Study {
    /// A study at its beginning.
    pub fn new(plan: StudyPlan) -> Study {
        let starts = plan.start.iter().map(|point| space::genome(&plan, point)).collect();
        let beginning = Beginning { starts, history: Vec::new() };
        let stream = Stream::new(plan.seed, "search");
        let search = begin_from(&plan.search, &space::domain(&plan), stream, beginning);
        let search = search.expect("starting points were made for this space");
        Study { plan, search, results: Vec::new(), outstanding: Vec::new(), next: 1, best: None }
    }

    /// A study as it was saved, under its plan or under another one of the same space and objectives. One that differs
    /// in the number of evaluations alone goes on exactly; any other begins its search anew from all results.
    pub fn restore(saved: Saved, plan: Option<StudyPlan>) -> Result<Study, StudyError> {
        let Saved { format, plan: before, search, results, outstanding, next } = saved;
        if format != FORMAT {
            return Err(StudyError::Format(format));
        }
        let plan = plan.unwrap_or_else(|| before.clone());
        if plan.space != before.space {
            return Err(StudyError::Other("space"));
        }
        if plan.objectives != before.objectives {
            return Err(StudyError::Other("objective or direction"));
        }
        let domain = space::domain(&plan);
        let genomes = results.iter().map(|r| &r.genome).chain(outstanding.iter().map(|(_, g)| g));
        let (expected, mut genomes) = (domain.dimensions.len(), genomes.map(|g| g.coordinates().len()));
        if let Some(found) = genomes.find(|found| *found != expected) {
            return Err(OtherSpace { expected, found }.into());
        }
        let same = |p: &StudyPlan| {
            let mut search = p.search.clone();
            search.evaluations = before.search.evaluations;
            (search, p.seed)
        };
        let history = results.iter().map(|r| Told { genome: r.genome.clone(), outcome: r.outcome.clone() });
        let (queue, inner) = match search {
            Snapshot::Starting { queue, search } => (queue, *search),
            other => (VecDeque::new(), other),
        };
        let search = if same(&plan) == same(&before) {
            Starting::new(queue, crate::restore(inner))
        } else {
            // Its own stream, or the new search would draw what the old one drew.
            let stream = Stream::new(plan.seed, &format!("search after {} results", results.len()));
            let beginning = Beginning { starts: queue.into(), history: history.collect() };
            begin_from(&plan.search, &domain, stream, beginning)?
        };
        let mut study = Study { plan, search, results: Vec::new(), outstanding, next, best: None };
        results.into_iter().for_each(|r| study.keep(r));
        Ok(study)
    }

    /// Everything, to be restored exactly.
    pub fn save(&self) -> Saved {
        Saved {
            format: FORMAT,
            plan: self.plan.clone(),
            search: self.search.snapshot(),
            results: self.results.clone(),
            outstanding: self.outstanding.clone(),
            next: self.next,
        }
    }

    /// What is searched and how.
    pub fn plan(&self) -> &StudyPlan {
        &self.plan
    }

    /// The search.
    pub fn search(&self) -> &Starting {
        &self.search
    }

    /// The search, to put points in front of it.
    pub fn search_mut(&mut self) -> &mut Starting {
        &mut self.search
    }

    /// Every result, in the order of telling.
    pub fn results(&self) -> &[Record] {
        &self.results
    }

    /// Up to so many points with their numbers: fewer where the budget ends or the search does.
    pub fn ask(&mut self, count: usize) -> Vec<(u64, Value)> {
        let mut asked = Vec::new();
        while asked.len() < count && self.left() > 0 && self.search.stop().is_none() {
            let genome = self.search.ask();
            asked.push((self.next, self.point(&genome)));
            self.outstanding.push((self.next, genome));
            self.next += 1;
        }
        asked
    }

    /// Evaluations that are neither done nor under way.
    fn left(&self) -> u64 {
        let used = self.results.len() + self.outstanding.len();
        self.plan.search.evaluations.saturating_sub(used as u64)
    }

    /// The genome of an outstanding number.
    pub fn asked(&self, id: u64) -> Option<&Genome> {
        self.outstanding.iter().find(|(n, _)| *n == id).map(|(_, genome)| genome)
    }

    /// Points that are under way.
    pub fn outstanding(&self) -> impl Iterator<Item = (u64, Value)> + '_ {
        self.outstanding.iter().map(|(id, genome)| (*id, self.point(genome)))
    }

    /// Records a result; a number is given to one that was not asked for.
    pub fn tell(&mut self, id: Option<u64>, genome: Genome, outcome: Outcome) -> u64 {
        let id = id.unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        });
        self.outstanding.retain(|(n, _)| *n != id);
        self.search.tell(&[Told { genome: genome.clone(), outcome: outcome.clone() }]);
        self.keep(Record { id, genome, outcome });
        id
    }

    fn keep(&mut self, record: Record) {
        let score = |r: &Record| match &r.outcome {
            Outcome::Scored(all) => all.first().copied(),
            Outcome::Censored(_) | Outcome::Failed => None,
        };
        let best = self.best.and_then(|i| score(&self.results[i]));
        // `None < Some`; of equals the first stays.
        if score(&record) > best {
            self.best = Some(self.results.len());
        }
        self.results.push(record);
    }

    /// The best result by the first objective.
    pub fn best(&self) -> Option<&Record> {
        if self.plan.objectives.len() > 1 {
            return None;
        }
        self.best.map(|i| &self.results[i])
    }

    /// The results that no other one dominates.
    pub fn front(&self) -> Vec<&Record> {
        let scored = |r: &'_ &Record| matches!(r.outcome, Outcome::Scored(_));
        let scored: Vec<&Record> = self.results.iter().filter(scored).collect();
        let points: Vec<Vec<Fitness>> = scored
            .iter()
            .filter_map(|r| match &r.outcome {
                Outcome::Scored(all) => Some(all.clone()),
                Outcome::Censored(_) | Outcome::Failed => None,
            })
            .collect();
        pareto::front(&points).into_iter().map(|i| scored[i]).collect()
    }

    /// Why asking on is useless, once it is.
    pub fn stop(&self) -> Option<String> {
        let budget = self.plan.search.evaluations;
        if self.results.len() as u64 >= budget {
            return Some(format!("the budget of {budget} evaluations is used (search.evaluations)"));
        }
        self.search.stop()
    }

    /// Values in natural units.
    pub fn point(&self, genome: &Genome) -> Value {
        space::values(&self.plan, genome)
    }

    /// The genome of values in natural units.
    pub fn genome(&self, point: &[Scalar]) -> Genome {
        space::genome(&self.plan, point)
    }

    /// A finite value of an objective as the search sees it.
    pub fn fitness(&self, objective: usize, value: f64) -> Fitness {
        Fitness::new(self.turned(objective, value)).expect("what was read is finite")
    }

    /// Scores in natural units.
    pub fn scores(&self, outcome: &Outcome) -> Option<Vec<f64>> {
        match outcome {
            // Zero is added for what the sign makes of it: no one wants to read -0.
            Outcome::Scored(all) => {
                Some(all.iter().enumerate().map(|(i, f)| self.turned(i, f.value()) + 0.0).collect())
            }
            Outcome::Censored(_) | Outcome::Failed => None,
        }
    }

    fn turned(&self, objective: usize, value: f64) -> f64 {
        match self.plan.objectives[objective].1 {
            Direction::Maximize => value,
            Direction::Minimize => -value,
        }
    }
}
