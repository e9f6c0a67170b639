//! A new run that begins with the results of an earlier one.
//!
//! The new search begins anew and is told the earlier results, generation by generation, as results that it did not ask
//! for. So nothing that was evaluated is evaluated again, and what follows is a function of plan and results. What was not
//! final in the earlier run stays behind: its samples are of no use to a search that may score, or look, elsewhere.

use super::candidate::{Candidate, Score};
use super::generation::entered;
use super::journal::{Place, Standing};
use super::record::{Counters, Durable, Pinned, domain, starting};
use common::digest::Manifest;
use common::genome::Genome;
use common::id::CandidateId;
use common::run::RunPlan;
use common::seed::Stream;
use common::time::Millis;
use std::collections::BTreeMap;

/// A candidate of an earlier run, as a new one begins with it.
#[derive(Clone, Debug, PartialEq)]
pub struct Carried {
    /// Its number there.
    pub id: CandidateId,
    /// The point of the new space that is the same merge.
    pub genome: Genome,
    /// Its scores there, where they are others than it had.
    pub score: Option<Score>,
}

impl Durable {
    /// What of this run, whose plan is `old`, a run of `plan` can begin with: final candidates whose merge is a point of
    /// the new space, by their numbers here. Their new ones keep the order and have no gaps.
    pub fn carried(&self, old: &RunPlan, plan: &RunPlan) -> BTreeMap<CandidateId, Carried> {
        let finals = self.candidates.iter().filter(|c| c.is_final());
        let space = domain(plan);
        let moved = |c: &Candidate| match plan.space == old.space && plan.merge == old.merge {
            true => Some((c.id(), c.genome().clone())),
            false => Some((c.id(), space.genome(&plan.translate(old, c.genome())?))),
        };
        let numbered = finals.filter_map(moved).zip((1..).map(CandidateId));
        numbered.map(|((was, genome), id)| (was, Carried { id, genome, score: None })).collect()
    }

    /// A run of `plan` that begins with candidates of this one.
    ///
    /// Candidates that ended early count as failed: what bounded them were the earlier scores, and their reports
    /// are not all there.
    pub fn continued(
        &self,
        plan: &RunPlan,
        manifest: Manifest,
        carried: &BTreeMap<CandidateId, Carried>,
        created: Millis,
    ) -> Durable {
        let mut candidates = Vec::new();
        for (old, Carried { id, genome, score }) in carried {
            let recipe = plan.recipe(genome).digest();
            let mut candidate = self.candidates[super::index(*old)].moved(*id, genome.clone(), recipe);
            candidate.drop_bound();
            if let Some(score) = score {
                candidate.rescore(score.clone());
            }
            candidates.push(candidate);
        }
        // A stream of its own: the earlier one's would ask for what it has asked for before.
        let stream = Stream::new(plan.seed, &format!("search after {}", candidates.len()));
        let mut search = search::begin(&plan.search, &domain(plan), stream);
        let (mut standing, mut generation) = (Standing::default(), 0);
        for members in candidates.chunk_by(|a, b| a.generation() == b.generation()) {
            let results: Vec<_> = members.iter().map(|c| entered(plan, c)).collect();
            results.iter().for_each(|r| standing.note(r.fitness));
            search.tell(&results.into_iter().map(|r| r.told).collect::<Vec<_>>());
            generation = generation.max(members[0].generation());
        }
        let before: Vec<_> = candidates.iter().map(Candidate::genome).collect();
        let search = starting(plan, search, &before);
        let place = Place { asked: candidates.len() as u64, standing, ..Place::default() };
        let mut next = Durable {
            pinned: Pinned { manifest, complete: self.pinned.complete },
            // Numbers that were given before are not given again.
            counters: Counters {
                last_lease: self.counters.last_lease,
                last_worker: self.counters.last_worker,
                ..Counters::default()
            },
            candidates,
            ..Durable::new(plan, Manifest::default(), created)
        };
        next.begin_with(search.as_ref(), generation, place);
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::candidate::{Censored, Phase};
    use crate::state::{End, Event, Reply, State};
    use crate::store::{Store, memory::Memory};
    use crate::testing::{exchange, manifest, outcome, plan, registration, uninterrupted};
    use common::fitness::Fitness;
    use proto::convert::Exchange;

    /// The opposite of what the first search was told, so that going on with it shows.
    fn reversed(durable: &Durable, to: &RunPlan) -> BTreeMap<CandidateId, Carried> {
        let mut carried = durable.carried(&plan(&[]), to);
        for (id, c) in &mut carried {
            if let Phase::Scored(s) = durable.candidates[crate::state::index(*id)].phase() {
                let fitness = Fitness::new(-s.fitness.value()).unwrap();
                c.score = Some(Score { fitness, ..s.clone() });
            }
        }
        carried
    }

    /// As they were.
    fn all(durable: &Durable, to: &RunPlan) -> BTreeMap<CandidateId, Carried> {
        durable.carried(&plan(&[]), to)
    }

    #[test]
    fn goes_on_from_all_results_under_their_new_scores() {
        let old = uninterrupted(&plan(&[])).durable();
        let longer = plan(&["search.evaluations=40", "fitness.term_f1=-0.5", "fitness.rouge_l=-0.5"]);
        let next = old.continued(&longer, manifest(), &reversed(&old, &longer), Millis(9));
        assert_ne!(next.identity.run, old.identity.run);
        let mut state = State::restore(next.clone()).unwrap();
        let worst = uninterrupted(&plan(&[])).candidates().iter().min_by_key(|c| c.fitness()).unwrap().id();
        assert_eq!(state.best().unwrap().0, worst);
        let mut store = Memory::default();
        store.commit(&next.records()).unwrap();
        let mut apply = |event| {
            let changes = state.apply(Millis(10), event);
            store.commit(&changes.records).unwrap();
            changes.reply
        };
        apply(Event::Start);
        let joined = apply(Event::Register(Box::new(registration(&longer, "w"))));
        let Some(Reply::Registered(Ok(joined))) = joined else { panic!("refused") };
        let mut outcomes = Vec::new();
        for sequence in 1..40 {
            let e = Exchange { outcomes, ..exchange(joined.worker, sequence, 2) };
            let answer = apply(Event::Exchange(Box::new(e)));
            let Some(Reply::Exchanged(Ok(answer))) = answer else { panic!("refused") };
            outcomes = answer.grants.iter().map(|g| outcome(&longer, g)).collect();
        }
        assert_eq!((state.end(), state.candidates().len()), (Some(&End::Evaluations), 40));
        // The journal leads from there to here.
        let replayed = state.replay(|from, most| store.journal(from, most)).unwrap();
        assert_eq!((replayed.parts, replayed.results), (None, 40));
        // What was there is as it was, but for its scores; what is new is asked for by what was told.
        let genomes = |d: &[crate::state::candidate::Candidate]| -> Vec<_> {
            d.iter().map(|c| c.genome().clone()).collect()
        };
        assert_eq!(genomes(&state.candidates().kept()[..25]), genomes(&old.candidates));
        let unmoved = old.continued(&longer, Manifest::default(), &all(&old, &longer), Millis(9));
        assert_ne!(unmoved.searched.snapshot, next.searched.snapshot);
    }

    #[test]
    fn what_ended_early_takes_no_bound_along() {
        let mut state = crate::testing::begun(&plan(&[]));
        let bound = Fitness::new(0.1).unwrap();
        let censored = Censored { bound, samples: 1, timings: Default::default() };
        let mut old = state.durable();
        old.candidates[1].censor(censored, Millis(5));
        let next = old.continued(&plan(&[]), manifest(), &all(&old, &plan(&[])), Millis(9));
        // What was open stays behind, so that the second is the first now.
        assert_eq!((next.candidates.len(), next.candidates[0].phase()), (1, &Phase::Failed));
        assert_eq!(next.candidates[0].genome(), old.candidates[1].genome());
        state = State::restore(next).unwrap();
        assert_eq!(state.candidates().kept()[0].fitness(), None);
    }

    #[test]
    fn an_exhausted_budget_ends_the_new_run_at_once() {
        let old = uninterrupted(&plan(&[])).durable();
        let next = old.continued(&plan(&[]), Manifest::default(), &reversed(&old, &plan(&[])), Millis(9));
        let mut state = State::restore(next).unwrap();
        state.apply(Millis(10), Event::Start);
        assert_eq!((state.end(), state.candidates().len()), (Some(&End::Evaluations), 25));
    }

    #[test]
    fn other_bounds_take_along_what_lies_within_them() {
        let old = uninterrupted(&plan(&[])).durable();
        let narrower = plan(&["parameters.scale={ low = 0.5, high = 1.5 }", "search.evaluations=40"]);
        let carried = old.carried(&plan(&[]), &narrower);
        assert!(!carried.is_empty() && carried.len() < 25, "{}", carried.len());
        let next = old.continued(&narrower, manifest(), &carried, Millis(9));
        for ((was, _), now) in carried.iter().zip(&next.candidates) {
            let was = &old.candidates[crate::state::index(*was)];
            assert!(narrower.recipe(now.genome()).is_nearly(&plan(&[]).recipe(was.genome())));
            assert_eq!(now.fitness(), was.fitness());
        }
        let state = State::restore(next).unwrap();
        assert_eq!(state.told(), carried.len() as u64);
    }
}
