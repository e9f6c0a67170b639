//! Samples as they arrive: checked, written down, counted, and joined once the candidate is complete.
//!
//! The first result of a sample stays; a later one that differs is noted. What is joined is in the run's order and is
//! made one number by the same function as the result of one worker, so who brought which sample cannot show.

use super::bound::{self, Bar};
use super::candidate::{Candidate, Censored, Ended, How, Phase, Score};
use super::{Changes, Note, Record, State};
use common::dataset::MAX_REPORT_BYTES;
use common::digest::Digest;
use common::evaluation::{Evaluation, SampleResult};
use common::fitness::Fitness;
use common::id::{CandidateId, LeaseId, WorkerId};
use common::run::{EarlyStopPlan, Reports};
use common::time::Millis;
use std::collections::BTreeMap;

/// Samples of candidates that are not final, by position in the run's order.
pub type Partial = BTreeMap<CandidateId, BTreeMap<u32, SampleResult>>;
/// What each sample contributed to the fitness of a scored candidate.
pub type Parts = BTreeMap<CandidateId, Vec<f64>>;

/// What became of samples that were handed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// There is no such candidate with such a recipe.
    Unknown,
    /// Its candidate was final, or the run over.
    Late,
    /// Nonsense, and why.
    Refused(String),
    /// Written down.
    Recorded,
}

impl State {
    /// Samples of a candidate that are recorded.
    pub fn samples_done(&self, candidate: &Candidate) -> u32 {
        match candidate.phase() {
            Phase::Scored(_) => self.plan.samples.len() as u32,
            Phase::Censored(c) => c.samples,
            Phase::Open | Phase::Failed => {
                self.partial.get(&candidate.id()).map_or(0, |rows| rows.len() as u32)
            }
        }
    }

    /// Positions of a batch's samples that are not there.
    pub(super) fn missing(&self, id: CandidateId, batch: u32) -> Vec<u32> {
        let there = self.partial.get(&id);
        self.plan.batch(batch).filter(|p| there.is_none_or(|t| !t.contains_key(p))).collect()
    }

    /// Takes in what a worker evaluated under a lease, whatever became of the lease in the meantime.
    pub(super) fn take(
        &mut self,
        now: Millis,
        worker: WorkerId,
        (lease, id, recipe): (LeaseId, CandidateId, Digest),
        part: Evaluation,
        changes: &mut Changes,
    ) -> Taken {
        if self.candidates.is_forgotten(id) {
            return Taken::Late;
        }
        let Some(candidate) = self.candidates.get(id).filter(|c| c.recipe() == recipe) else {
            return Taken::Unknown;
        };
        if !self.was_lent(lease, id, worker) {
            return Taken::Unknown;
        }
        let (is_final, over) = (candidate.is_final(), self.end.is_some());
        let checked = self.check(&part.samples);
        let samples = match checked {
            Ok(samples) => samples,
            Err(_) if is_final || over => return Taken::Late,
            Err(reason) => {
                let ended = Ended { at: now, how: How::Refused, reason: reason.clone() };
                self.end_attempt(lease, ended, changes);
                return Taken::Refused(reason);
            }
        };
        self.compare(worker, id, &samples, &part.samples, changes);
        if is_final || over {
            return Taken::Late;
        }
        let mut new = 0;
        for ((position, _), row) in samples.into_iter().zip(part.samples) {
            let rows = self.partial.entry(id).or_default();
            if rows.contains_key(&position) {
                continue;
            }
            new += 1;
            if row.stop.is_early() {
                let most = self.plan.generation.max_new_tokens;
                self.counters.saved.reports += 1;
                self.counters.saved.tokens += u64::from(most.saturating_sub(row.tokens));
            }
            changes.records.push(Record::Sample(id, position, row.clone()));
            rows.insert(position, row);
        }
        let candidate = &mut self.candidates[id];
        let since = candidate.note(lease, new, part.timings);
        let samples = candidate.attempt(lease).map_or(0, |a| a.samples);
        changes.records.push(Record::Candidate(candidate.clone()));
        if let Some(w) = self.roster.get_mut(worker) {
            w.worked(part.timings, samples, since, new);
        }
        if new > 0 {
            self.leases.moved(lease, now);
            if let Some(name) = self.roster.get(worker).map(|w| w.name.clone()) {
                self.note_success(&name, id, now, changes);
            }
        }
        self.conclude(now, worker, lease, id, changes);
        Taken::Recorded
    }

    /// Position and contribution of each sample, or what is wrong with one.
    pub(super) fn check(&self, samples: &[SampleResult]) -> Result<Vec<(u32, f64)>, String> {
        let mut checked = Vec::with_capacity(samples.len());
        for sample in samples {
            let name = &sample.sample;
            let unknown = || "a sample that is no sample of the run".to_string();
            let position = self.positions.get(name).ok_or_else(unknown)?;
            // Reasons are logged, and an id may say who a patient is.
            let name = position + 1;
            if self.plan.reports == Reports::Local && !sample.text.is_empty() {
                return Err(format!("sample {name} has a text that was to stay on its node"));
            }
            if sample.kept.as_ref().is_some_and(|k| k.characters as usize > MAX_REPORT_BYTES) {
                return Err(format!("sample {name} has more characters than a report may have"));
            }
            let most = self.plan.generation.max_new_tokens;
            if sample.tokens > most {
                return Err(format!("sample {name} has {} tokens, more than {most}", sample.tokens));
            }
            if let Some((metric, value)) = sample.scores.iter().find(|(_, v)| !v.is_finite()) {
                return Err(format!("sample {name} has {metric:?} = {value}"));
            }
            let contribution = self.plan.contribution(sample).map_err(|e| format!("sample {name}: {e}"))?;
            if !contribution.is_finite() {
                return Err(format!("sample {name}: its weighted sum overflows"));
            }
            checked.push((*position, contribution));
        }
        Ok(checked)
    }

    /// Notes where a second result of a sample differs from the first: two workers compute differently.
    fn compare(
        &self,
        worker: WorkerId,
        id: CandidateId,
        checked: &[(u32, f64)],
        samples: &[SampleResult],
        changes: &mut Changes,
    ) {
        let (rows, parts) = (self.partial.get(&id), self.parts.get(&id));
        let differs = |((position, second), row): &(&(u32, f64), &SampleResult)| {
            if let Some(first) = rows.and_then(|r| r.get(position)) {
                let contribution = self.plan.objective.sample(first).unwrap_or(f64::NAN);
                let differs = (&first.text, &first.kept) != (&row.text, &row.kept);
                return (differs || contribution != *second).then_some((contribution, *second));
            }
            let first = *parts?.get(*position as usize)?;
            (first != *second).then_some((first, *second))
        };
        let all = checked.iter().zip(samples);
        let Some((sample, Some((first, second)))) =
            all.map(|pair| (pair.0.0 + 1, differs(&pair))).find(|(_, d)| d.is_some())
        else {
            return;
        };
        let (Ok(first), Ok(second)) = (Fitness::new(first), Fitness::new(second)) else { return };
        let worker = self.roster.get(worker).map(|w| w.name.clone()).unwrap_or_default();
        changes.notes.push(Note::Disagreement { candidate: id, sample, first, second, worker });
    }

    /// What new samples bring about: the candidate's end, or that of the lease they came under.
    fn conclude(
        &mut self,
        now: Millis,
        worker: WorkerId,
        lease: LeaseId,
        id: CandidateId,
        changes: &mut Changes,
    ) {
        let complete = self.samples_done(&self.candidates[id]) as usize == self.plan.samples.len();
        if let Some(bound) = self.judge(id) {
            self.censor(now, id, bound, changes);
        } else if complete {
            self.score(now, worker, lease, id, changes);
        } else {
            self.end_complete(now, id, changes);
            return;
        }
        self.close_generation(changes);
    }

    /// The bound of a candidate that is hopeless at one of its looks: the first of them, whatever else is there.
    fn judge(&self, id: CandidateId) -> Option<Fitness> {
        let sure = self.plan.early_stop.as_ref()?.hopeless?;
        let (bar, rows) = (self.bar.as_ref()?, self.partial.get(&id)?);
        let looks = self.plan.batches().saturating_sub(1);
        let mut seen = Vec::new();
        for batch in 0..looks {
            for position in self.plan.batch(batch) {
                seen.push(self.plan.objective.sample(rows.get(&position)?).ok()?);
            }
            let bound = bound::hopeless(bar, &seen, sure, looks);
            if bound.is_some() {
                return bound;
            }
        }
        None
    }

    fn censor(&mut self, now: Millis, id: CandidateId, bound: Fitness, changes: &mut Changes) {
        let samples = self.samples_done(&self.candidates[id]);
        let candidate = &mut self.candidates[id];
        let timings = candidate.timings();
        candidate.censor(Censored { bound, samples, timings }, now);
        changes.records.push(Record::Candidate(candidate.clone()));
        let rest = (self.plan.samples.len() as u64).saturating_sub(u64::from(samples));
        let each = (timings.generate_ms + timings.score_ms) / u64::from(samples.max(1));
        let saved = &mut self.counters.saved;
        (saved.candidates, saved.samples) = (saved.candidates + 1, saved.samples + rest);
        saved.device_ms += rest * each;
        changes.notes.push(Note::Censored { candidate: id, bound, samples });
        self.settle_final(id, changes);
    }

    fn score(
        &mut self,
        now: Millis,
        worker: WorkerId,
        lease: LeaseId,
        id: CandidateId,
        changes: &mut Changes,
    ) {
        let timings = self.candidates[id].timings();
        let rows = self.partial.get(&id).map(|rows| rows.values().cloned().collect());
        let evaluation = Evaluation { samples: rows.unwrap_or_default(), timings };
        let fitness = self.plan.fitness(&evaluation);
        let candidate = &mut self.candidates[id];
        match fitness {
            Ok(fitness) => {
                let score = Score { fitness, means: evaluation.means(), timings };
                candidate.score(lease, score.clone(), now);
                let parts = evaluation.samples.iter().filter_map(|s| self.plan.objective.sample(s).ok());
                let parts: Vec<f64> = parts.collect();
                if self.has_bound() {
                    changes.records.push(Record::Parts(id, parts.clone()));
                }
                self.plan_audit(id, &score, &parts);
                self.parts.insert(id, parts);
                self.note_best(id, fitness);
                if let Some(w) = self.roster.get_mut(worker) {
                    w.scored += 1;
                }
            }
            // Every score is finite, but their sum is not: no other worker would get another one.
            Err(_) => {
                candidate.fail(now);
                changes.notes.push(Note::CandidateFailed { candidate: id });
            }
        }
        changes.records.push(Record::Candidate(self.candidates[id].clone()));
        self.settle_final(id, changes);
    }

    /// Ends attempts of which all samples are there.
    fn end_complete(&mut self, now: Millis, id: CandidateId, changes: &mut Changes) {
        let candidate = &self.candidates[id];
        let complete = |a: &&super::candidate::Attempt| {
            (0..self.plan.batches()).all(|b| !a.holds(b) || self.missing(id, b).is_empty())
        };
        let leases: Vec<LeaseId> = candidate.open_attempts().filter(complete).map(|a| a.lease).collect();
        for lease in &leases {
            let ended = Ended { at: now, how: How::Partial, reason: String::new() };
            self.leases.remove(*lease);
            let limit = self.plan.scheduling.attempts;
            self.candidates[id].end(*lease, ended, limit);
        }
        if !leases.is_empty() {
            changes.records.push(Record::Candidate(self.candidates[id].clone()));
        }
    }

    /// What is left to be done once a candidate is final: its leases are void, its samples become one record.
    pub(super) fn settle_final(&mut self, id: CandidateId, changes: &mut Changes) {
        self.leases.release(id);
        let Some(rows) = self.partial.remove(&id).filter(|rows| !rows.is_empty()) else { return };
        let timings = self.candidates[id].timings();
        let evaluation = Evaluation { samples: rows.into_values().collect(), timings };
        changes.records.push(Record::Evaluation(id, evaluation));
    }

    /// Sets the bar by a generation that is told: the worst of its parents. One without a scored member leaves the
    /// bar as it is.
    pub(super) fn raise_bar(&mut self, told: &[CandidateId], changes: &mut Changes) {
        let parts = std::mem::take(&mut self.parts);
        if !self.has_bound() {
            return;
        }
        let fitness = |id: &CandidateId| self.candidate(*id).and_then(|c| c.fitness());
        let mut scored: Vec<(Fitness, CandidateId)> =
            told.iter().filter_map(|id| Some((fitness(id)?, *id))).collect();
        // Of equal ones the first is the better, as everywhere.
        scored.sort_by_key(|(fitness, id)| (std::cmp::Reverse(*fitness), *id));
        let parents = (self.plan.search.population / 2).max(1).min(scored.len());
        let bar = parents.checked_sub(1).and_then(|last| {
            let (fitness, candidate) = scored[last];
            Some(Bar { candidate, fitness, parts: parts.get(&candidate)?.clone() })
        });
        self.bar = bar.or(self.bar.take());
        changes.records.push(Record::Bar(self.bar.clone()));
    }

    /// Whether hopeless candidates end early.
    pub(super) fn has_bound(&self) -> bool {
        self.plan.early_stop.as_ref().is_some_and(|e: &EarlyStopPlan| e.hopeless.is_some())
    }
}
