//! What is asked of the search, what it is told, and when a run is over.
//!
//! **Generational**: a population is opened by asking the search and told when every member is final, in order of
//! number. Since nothing is told before, the genomes that follow depend on the plan alone: not on how many workers there
//! are, nor on the order in which results arrive. The budget may cut the last generation short; it is then evaluated and
//! reported like any other, and told only if the run is extended and the rest of it evaluated too.
//!
//! **Asynchronous**: a candidate is asked for whenever a slot is free and nothing waits; each result is told when it is
//! recorded. What is asked for within the budget is awaited.

use super::candidate::{Candidate, Phase};
use super::journal::{Entered, Entry, Step};
use super::{Changes, End, Note, Record, State};
use common::fitness::Fitness;
use common::id::CandidateId;
use common::run::{Mode, RunPlan};
use search::pareto::dominates;
use search::{Outcome, Told};

impl State {
    /// Candidates from the first that is not final on; in generational mode the whole generation being evaluated.
    pub fn members(&self) -> &[Candidate] {
        let kept = self.candidates.kept();
        let first = match self.mode() {
            Mode::Generational => kept.partition_point(|c| c.generation() < self.course.generation()),
            Mode::Asynchronous => {
                let before = |id: &CandidateId| id.0 as usize - 1 - self.candidates.forgotten();
                self.open.first().map_or(kept.len(), before)
            }
        };
        &kept[first..]
    }

    /// Candidates that may still be asked for.
    fn room(&self) -> u64 {
        self.budget.evaluations.saturating_sub(self.candidates.len() as u64)
    }

    /// Whether another candidate would be asked for if a slot were free.
    pub(super) fn can_ask(&self) -> bool {
        self.mode() == Mode::Asynchronous && self.end.is_none() && !self.counters.paused && self.room() > 0
    }

    /// Asks the search; the candidates wait.
    fn ask(&mut self, count: u64, opens: bool, changes: &mut Changes) {
        let first = CandidateId(self.candidates.len() as u64 + 1);
        for (genome, id) in self.course.ask(count, opens).into_iter().zip(first.0..) {
            let recipe = self.plan.recipe(&genome).digest();
            let candidate = Candidate::new(CandidateId(id), self.course.generation(), genome, recipe);
            changes.records.push(Record::Candidate(candidate.clone()));
            self.open.insert(candidate.id());
            self.candidates.push(candidate);
        }
        self.write(Entry::Asked { first, count, opens }, changes);
    }

    /// Asks for the next generation, or for the rest of one that was cut short, as large as the budget allows.
    pub(super) fn open_generation(&mut self, changes: &mut Changes) {
        let (wanted, opens) = self.course.wanted();
        self.ask(wanted.min(self.room()), opens, changes);
        self.checkpoint_if_due(changes);
    }

    /// Asks for one more candidate, where the mode asks for them one by one and the budget has room. Whether it did.
    pub(super) fn ask_one(&mut self, changes: &mut Changes) -> bool {
        let asks = self.can_ask();
        if asks {
            self.ask(1, self.course.generation() == 0, changes);
            self.checkpoint_if_due(changes);
        }
        asks
    }

    /// Journals what became final in this event, tells the search what is due, asks for more or ends the run.
    pub(super) fn close_generation(&mut self, changes: &mut Changes) {
        self.notice(changes);
        while let Some(id) = self.finals.pop_front() {
            let entered = entered(&self.plan, &self.candidates[id]);
            self.write(Entry::Recorded { candidate: id, outcome: entered.told.outcome.clone() }, changes);
            let step = self.course.record(id, entered);
            let stepped = step.is_some();
            if let Some(Step { number: generation, best, members }) = step {
                self.raise_bar(&members, changes);
                changes.notes.push(Note::GenerationClosed { generation, best });
                self.note_remark(changes);
            }
            if self.end.is_none() && (stepped || self.mode() == Mode::Asynchronous) {
                self.end_if_enough(changes);
            }
        }
        if self.end.is_none() && self.open.is_empty() && self.course.generation() > 0 {
            match (self.room(), self.mode()) {
                (0, _) => self.finish(End::Evaluations, changes),
                (_, Mode::Generational) => self.open_generation(changes),
                (_, Mode::Asynchronous) => {}
            }
        }
        self.checkpoint_if_due(changes);
    }

    /// Ends the run where the search wants it or the results are good or poor enough. Asked when a step is complete,
    /// in generational mode, so that the order of arrival within a generation cannot matter.
    fn end_if_enough(&mut self, changes: &mut Changes) {
        let standing = self.course.standing();
        let target = self.budget.target_fitness.filter(|t| standing.best.is_some_and(|b| b.value() >= *t));
        let stagnation = self.budget.stagnation.filter(|n| standing.since_best() >= *n);
        let end = match (self.course.search().stop(), target, stagnation) {
            (Some(reason), _, _) => End::Search(reason),
            (_, Some(target), _) => End::Target(target),
            (_, _, Some(results)) => End::Stagnation(results),
            _ => return,
        };
        self.finish(end, changes);
        self.withdraw("the run is over", changes);
    }

    /// Takes a scored candidate into the front if no other one beats it everywhere, and those that it beats out of it.
    /// Equal ones are all in it.
    pub(super) fn note_front(&mut self, vector: Option<(CandidateId, Vec<Fitness>)>) {
        let Some((id, reached)) = vector else { return };
        if self.front.iter().any(|(_, other)| dominates(other, &reached)) {
            return;
        }
        self.front.retain(|(_, other)| !dominates(&reached, other));
        let at = self.front.partition_point(|(other, _)| *other < id);
        self.front.insert(at, (id, reached));
    }

    /// Says what happened to the search, where that is news.
    fn note_remark(&mut self, changes: &mut Changes) {
        let latest = self.course.search().remarks().pop();
        if latest != self.remark {
            changes.notes.extend(latest.clone().map(Note::Remark));
            self.remark = latest;
        }
    }

    /// Takes note of candidates that were written in this event: which are open, which became final.
    ///
    /// Whoever changes a candidate writes it, so the records say all; nothing has to be looked through.
    pub(super) fn notice(&mut self, changes: &Changes) {
        let seen = std::mem::replace(&mut self.noticed, changes.records.len());
        for record in &changes.records[seen.min(changes.records.len())..] {
            if let Record::Candidate(c) = record
                && self.candidates[c.id()].is_final()
                && self.open.remove(&c.id())
            {
                let c = &mut self.candidates[c.id()];
                c.compact();
                self.attempts_failed += c.counted_attempts() as u64;
                self.failed += u64::from(*c.phase() == Phase::Failed);
                self.censored += u64::from(matches!(c.phase(), Phase::Censored(_)));
                self.finals.push_back(c.id());
                let vector = objectives(&self.plan, c);
                self.note_front(vector);
            }
        }
    }
}

/// What a candidate reaches in each of several objectives, if it is scored and there are several.
pub(super) fn objectives(plan: &RunPlan, c: &Candidate) -> Option<(CandidateId, Vec<Fitness>)> {
    match c.phase() {
        Phase::Scored(s) if !plan.objectives.is_empty() => {
            Some((c.id(), common::fitness::vector(&plan.objectives, s.fitness, &s.means)?))
        }
        _ => None,
    }
}

/// What the search is told of a candidate that is final, and its fitness.
pub(super) fn entered(plan: &RunPlan, c: &Candidate) -> Entered {
    let outcome = match c.phase() {
        Phase::Scored(s) => plan.told(s.fitness, &s.means).map_or(Outcome::Failed, Outcome::Scored),
        Phase::Censored(censored) => Outcome::Censored(censored.bound),
        Phase::Open | Phase::Failed => Outcome::Failed,
    };
    Entered { told: Told { genome: c.genome().clone(), outcome }, fitness: c.fitness() }
}
