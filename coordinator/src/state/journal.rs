//! The journal: what was asked of the search and what was recorded, in order. With the plan it gives the run again,
//! to the last bit of the random stream.
//!
//! An entry holds numbers of candidates, not genomes: those stand in the candidates, and a replay asks the search anew
//! and compares. [`Course`] is the one place where entries move a search; the state, its restoring and `replay` all
//! use it.
//!
//! The search itself is saved now and then only (a *checkpoint*, [`super::Searched`]): writing it with every result
//! would cost more the larger it is. A restore takes the last checkpoint and the entries after it.

use common::fitness::Fitness;
use common::genome::Genome;
use common::id::CandidateId;
use common::run::{Budget, Mode};
use search::{Outcome, Search, Told};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One thing that happened to the search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Entry {
    /// It was asked for this many genomes; candidates were numbered from `first`.
    Asked {
        /// Number of the first.
        first: CandidateId,
        /// How many.
        count: u64,
        /// Whether a new generation begins with them.
        opens: bool,
    },
    /// A candidate became final. In the order in which that was written down.
    Recorded {
        /// Which.
        candidate: CandidateId,
        /// What the search is told of it.
        outcome: Outcome,
    },
    /// The operator changed what ends the run.
    Extended {
        /// From here on.
        budget: Budget,
    },
}

/// A result as it enters the search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entered {
    /// What the search is told.
    pub told: Told,
    /// What budgets are judged by, also where the search is told of several objectives; `None` unless scored.
    pub fitness: Option<Fitness>,
}

/// A step of the search.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// From 1.
    pub number: u64,
    /// Its best result; of equal ones the lower number.
    pub best: Option<(CandidateId, Fitness)>,
    /// Candidates whose results make it up, in order of number.
    pub members: Vec<CandidateId>,
}

/// A search and where it stands between what was asked and what was told.
#[derive(Debug)]
pub struct Course {
    search: Box<dyn Search>,
    mode: Mode,
    /// The generation (or step) that is asked for, from 1; 0 before the first.
    generation: u64,
    /// Candidates asked for in all.
    asked: u64,
    /// Candidates of the generation that is open: generational mode tells them together.
    open: u64,
    /// Results since the last step. Generational mode keeps them until the generation is whole; asynchronous mode
    /// has told them already and needs their number and the best.
    results: BTreeMap<CandidateId, Entered>,
    standing: Standing,
}

/// How the results that the search knows compare: what budgets are judged by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Standing {
    /// Results told, and among how many of them the best stands.
    pub told: u64,
    /// Position of the first of the best, from 1; 0 while nothing is scored.
    pub best_at: u64,
    /// The best.
    pub best: Option<Fitness>,
}

impl Standing {
    /// Notes a result that was told.
    pub fn note(&mut self, fitness: Option<Fitness>) {
        self.told += 1;
        if let Some(fitness) = fitness.filter(|f| self.best.is_none_or(|best| *f > best)) {
            (self.best, self.best_at) = (Some(fitness), self.told);
        }
    }

    /// Results since the last that was better than all before it.
    pub fn since_best(&self) -> u64 {
        self.told - self.best_at
    }
}

/// What a checkpoint keeps of a course beside the search.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// Candidates asked for.
    pub asked: u64,
    /// Candidates of the open generation.
    pub open: u64,
    /// Results since the last step.
    pub results: BTreeMap<CandidateId, Entered>,
    /// How results compare.
    pub standing: Standing,
}

impl Course {
    /// A search at a place.
    pub fn new(search: Box<dyn Search>, mode: Mode, generation: u64, place: Place) -> Course {
        let Place { asked, open, results, standing } = place;
        Course { search, mode, generation, asked, open, results, standing }
    }

    /// Where it stands.
    pub fn place(&self) -> Place {
        let (results, standing) = (self.results.clone(), self.standing);
        Place { asked: self.asked, open: self.open, results, standing }
    }

    /// The search.
    pub fn search(&self) -> &dyn Search {
        self.search.as_ref()
    }

    /// The generation or step, from 1.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Candidates asked for in all.
    pub fn asked(&self) -> u64 {
        self.asked
    }

    /// How results compare.
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// Members that are to be asked for next, and whether they open a generation. A generation that the budget cut
    /// short is filled up first.
    pub fn wanted(&self) -> (u64, bool) {
        ((self.search.population() as u64).saturating_sub(self.open), self.open == 0)
    }

    /// Asks for genomes, as one entry says it.
    pub fn ask(&mut self, count: u64, opens: bool) -> Vec<Genome> {
        if opens {
            (self.generation, self.open) = (self.generation + 1, 0);
        }
        self.asked += count;
        self.open += count;
        (0..count).map(|_| self.search.ask()).collect()
    }

    /// Enters a result and tells the search what is due. Yields the step that it completed.
    ///
    /// A generation that the budget cut short is not told: it waits for the rest of its members, should the run be
    /// extended.
    pub fn record(&mut self, id: CandidateId, entered: Entered) -> Option<Step> {
        let size = self.search.population().max(1);
        if self.mode == Mode::Asynchronous {
            self.standing.note(entered.fitness);
            self.search.tell(std::slice::from_ref(&entered.told));
        }
        self.results.insert(id, entered);
        if self.results.len() < size {
            return None;
        }
        let results = std::mem::take(&mut self.results);
        // In order of number, so that of equal ones the first stays.
        let best = results.iter().filter_map(|(id, r)| Some((*id, r.fitness?)));
        let best = best.reduce(|a, b| if b.1 > a.1 { b } else { a });
        let step = Step { number: self.generation, best, members: results.keys().copied().collect() };
        match self.mode {
            Mode::Generational => {
                self.open = 0;
                results.values().for_each(|r| self.standing.note(r.fitness));
                let told: Vec<Told> = results.into_values().map(|r| r.told).collect();
                self.search.tell(&told);
            }
            Mode::Asynchronous => self.generation += 1,
        }
        Some(step)
    }
}
