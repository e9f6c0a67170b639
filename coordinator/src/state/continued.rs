//! A new run that begins with the results of an earlier one, scored otherwise.
//!
//! The new search begins anew and is told the earlier generations in their order, under their new scores, as results that
//! it did not ask for. The latest generation stays as it is: what is still open in it is evaluated, and it is told and closed
//! like any other. So nothing that was evaluated is evaluated again, and what follows is a function of plan and results.

use super::candidate::Score;
use super::generation::told;
use super::record::{Durable, Pinned, Searched, begin_search};
use common::digest::Manifest;
use common::id::CandidateId;
use common::run::RunPlan;
use common::time::Millis;
use std::collections::BTreeMap;

impl Durable {
    /// A run of `plan` that begins with this one's candidates, those of `scores` with these in place of theirs.
    ///
    /// The plan may differ from this run's in scoring, fitness, objectives and budgets alone. Candidates that ended early
    /// count as failed: what bounded them were the earlier scores, and their reports are not all there.
    pub fn continued(
        &self,
        plan: &RunPlan,
        manifest: Manifest,
        scores: &BTreeMap<CandidateId, Score>,
        created: Millis,
    ) -> Durable {
        let mut candidates = self.candidates.clone();
        for candidate in &mut candidates {
            candidate.drop_bound();
            if let Some(score) = scores.get(&candidate.id()) {
                candidate.rescore(score.clone());
            }
        }
        // A stream of its own: the earlier one's would ask for what it has asked for before.
        let mut search = begin_search(plan, &format!("search after {}", candidates.len()));
        let generation = self.searched.generation;
        for number in 1..generation {
            let members = candidates.iter().filter(|c| c.generation() == number);
            search.tell(&members.map(|c| told(plan, c)).collect::<Vec<_>>());
        }
        Durable {
            pinned: Pinned { manifest, complete: self.pinned.complete },
            counters: self.counters.clone(),
            searched: Searched { generation, snapshot: search.snapshot(), end: None },
            candidates,
            ..Durable::new(plan, Manifest::default(), created)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::candidate::{Censored, Phase};
    use crate::state::{End, Event, State};
    use crate::testing::{
        exchange, exchanged, manifest, outcome, plan, registered, registration, uninterrupted,
    };
    use common::fitness::Fitness;

    /// The opposite of what the first search was told, so that going on with it shows.
    fn reversed(durable: &Durable) -> BTreeMap<CandidateId, Score> {
        let score = |c: &crate::state::candidate::Candidate| match c.phase() {
            Phase::Scored(s) => {
                Some((c.id(), Score { fitness: Fitness::new(-s.fitness.value()).ok()?, ..s.clone() }))
            }
            _ => None,
        };
        durable.candidates.iter().filter_map(score).collect()
    }

    #[test]
    fn goes_on_from_all_results_under_their_new_scores() {
        let old = uninterrupted(&plan(&[])).durable();
        let longer = plan(&["search.evaluations=40", "fitness.term_f1=-0.5", "fitness.rouge_l=-0.5"]);
        let next = old.continued(&longer, manifest(), &reversed(&old), Millis(9));
        assert_ne!(next.identity.run, old.identity.run);
        let mut state = State::restore(next.clone()).unwrap();
        let worst = uninterrupted(&plan(&[])).candidates().iter().min_by_key(|c| c.fitness()).unwrap().id();
        assert_eq!(state.best().unwrap().0, worst);
        state.apply(Millis(10), Event::Start);
        let worker = registered(&mut state, Millis(10), registration(&longer, "w"));
        let mut outcomes = Vec::new();
        for sequence in 1.. {
            let e = proto::convert::Exchange { outcomes, ..exchange(worker, sequence, 2) };
            let answer = exchanged(&mut state, Millis(10), e);
            if state.end().is_some() {
                break;
            }
            outcomes = answer.grants.iter().map(|g| outcome(&longer, g)).collect();
        }
        assert_eq!((state.end(), state.candidates().len()), (Some(&End::Evaluations), 40));
        // What was there is as it was, but for its scores; what is new is asked for by what was told.
        let genomes = |d: &[crate::state::candidate::Candidate]| -> Vec<_> {
            d.iter().map(|c| c.genome().clone()).collect()
        };
        assert_eq!(genomes(&state.candidates()[..25]), genomes(&old.candidates));
        let unmoved = old.continued(&longer, Manifest::default(), &BTreeMap::new(), Millis(9));
        assert_ne!(unmoved.searched.snapshot, next.searched.snapshot);
    }

    #[test]
    fn what_ended_early_takes_no_bound_along() {
        let mut state = crate::testing::begun(&plan(&[]));
        let bound = Fitness::new(0.1).unwrap();
        let censored = Censored { bound, samples: 1, timings: Default::default() };
        let mut old = state.durable();
        old.candidates[0].censor(censored, Millis(5));
        let next = old.continued(&plan(&[]), manifest(), &BTreeMap::new(), Millis(9));
        assert_eq!(next.candidates[0].phase(), &Phase::Failed);
        assert_eq!(next.candidates[1].phase(), &Phase::Open);
        state = State::restore(next).unwrap();
        assert_eq!(state.candidates()[0].fitness(), None);
    }

    #[test]
    fn an_exhausted_budget_ends_the_new_run_at_once() {
        let old = uninterrupted(&plan(&[])).durable();
        let next = old.continued(&plan(&[]), Manifest::default(), &reversed(&old), Millis(9));
        let mut state = State::restore(next).unwrap();
        state.apply(Millis(10), Event::Start);
        assert_eq!((state.end(), state.candidates().len()), (Some(&End::Evaluations), 25));
    }
}
