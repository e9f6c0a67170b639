//! One population at a time: opened by asking the search, closed when every member is final, told in order of
//! number.
//!
//! Since nothing is told before the whole generation is final, the genomes that follow depend on the plan
//! alone: not on how many workers there are, nor on the order in which results arrive. The budget may cut the
//! last generation short; it is then evaluated and reported like any other, but teaches the search nothing.

use super::candidate::{Candidate, Phase};
use super::{Changes, End, Note, Record, State};
use common::id::CandidateId;
use common::run::RunPlan;
use search::{Outcome, Told};

impl State {
    /// Members of the generation being evaluated.
    pub fn members(&self) -> &[Candidate] {
        let first = self.candidates.partition_point(|c| c.generation() < self.generation);
        &self.candidates[first..]
    }

    /// Asks for the next generation, as large as the budget still allows.
    pub(super) fn open_generation(&mut self, changes: &mut Changes) {
        let asked = self.candidates.len() as u64;
        let room = self.plan.search.evaluations.saturating_sub(asked);
        let size = (self.search.population() as u64).min(room);
        self.generation += 1;
        for offset in 0..size {
            let genome = self.search.ask();
            let recipe = self.plan.recipe(&genome).digest();
            let id = CandidateId(asked + offset + 1);
            let candidate = Candidate::new(id, self.generation, genome, recipe);
            changes.records.push(Record::Candidate(candidate.clone()));
            self.candidates.push(candidate);
        }
        changes.records.push(self.search_record());
    }

    /// Closes the generation if every member is final: tells the search and opens the next one, or ends the
    /// run.
    pub(super) fn close_generation(&mut self, changes: &mut Changes) {
        let begun = self.generation > 0 && self.end.is_none();
        if !begun || !self.members().iter().all(Candidate::is_final) {
            return;
        }
        let told: Vec<Told> = self.members().iter().map(|c| told(&self.plan, c)).collect();
        self.search.tell(&told);
        let ids: Vec<CandidateId> = self.members().iter().map(Candidate::id).collect();
        self.raise_bar(&ids, changes);
        let best = self.members().iter().filter_map(|c| c.fitness().map(|f| (c.id(), f)));
        // Of equal ones the first, as everywhere.
        let best = best.reduce(|a, b| if b.1 > a.1 { b } else { a });
        changes.notes.push(Note::GenerationClosed { generation: self.generation, best });
        if let Some(reason) = self.search.stop() {
            self.finish(End::Search(reason), changes);
        } else if self.candidates.len() as u64 >= self.plan.search.evaluations {
            self.finish(End::Evaluations, changes);
        } else {
            self.open_generation(changes);
        }
    }
}

/// What the search is told of a candidate that is final.
pub(super) fn told(plan: &RunPlan, c: &Candidate) -> Told {
    let outcome = match c.phase() {
        Phase::Scored(s) => plan.told(s.fitness, &s.means).map_or(Outcome::Failed, Outcome::Scored),
        Phase::Censored(censored) => Outcome::Censored(censored.bound),
        Phase::Open | Phase::Failed => Outcome::Failed,
    };
    Told { genome: c.genome().clone(), outcome }
}
