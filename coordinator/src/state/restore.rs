//! The state out of what was stored, and what of it is stored.
//!
//! The search is that of the last checkpoint, led through the journal's entries after it. Stores from before there was a
//! journal get one: their runs were generational, so that it follows from their candidates.

use super::candidate::{Candidate, Phase};
use super::journal::{Course, Entry, Place};
use super::record::first_search;
use super::{
    CHECKPOINT_BYTES_AN_ENTRY, CHECKPOINT_ENTRIES, Candidates, Contradiction, Durable, Record, Searched,
    State, generation, index, lease, roster,
};
use common::id::CandidateId;
use common::run::{Mode, RunPlan};
use common::time::Millis;
use std::collections::{BTreeSet, VecDeque};

impl State {
    /// The state as it was stored. Nothing is lent yet: that begins with [`super::Event::Start`].
    pub fn restore(durable: Durable) -> Result<State, Contradiction> {
        let Durable {
            identity,
            pinned,
            mut counters,
            mut searched,
            candidates,
            tail,
            partial,
            parts,
            bar,
            begun,
        } = durable;
        let plan = RunPlan::from_json(&identity.plan_json).map_err(Contradiction)?;
        check(&plan, &candidates)?;
        let mut unwritten = Vec::new();
        if searched.place.is_none() {
            let entries = upgrade(&plan, &mut searched, &candidates);
            counters.entries = entries.len() as u64;
            unwritten.extend((0..).zip(entries).map(|(at, entry)| Record::Journal(at, entry)));
            unwritten.push(Record::Searched(searched.clone()));
        }
        let mode = if plan.space.dimensions() == 0 { Mode::Generational } else { plan.search.mode };
        let place = searched.place.clone().unwrap_or_default();
        let mut course =
            Course::new(search::restore(searched.snapshot.clone()), mode, searched.generation, place);
        let mut budget = searched.budget.unwrap_or(plan.search.budget());
        for entry in &tail {
            follow(&plan, &mut course, entry, &candidates).map_err(Contradiction)?;
            if let Entry::Extended { budget: extended } = entry {
                budget = *extended;
            }
        }
        let open: BTreeSet<CandidateId> =
            candidates.iter().filter(|c| !c.is_final()).map(Candidate::id).collect();
        let finals = || candidates.iter().filter(|c| c.is_final());
        let phases = |wanted: fn(&Phase) -> bool| finals().filter(|c| wanted(c.phase())).count() as u64;
        let mut state = State {
            attempts_failed: finals().map(|c| c.counted_attempts() as u64).sum(),
            failed: phases(|p| *p == Phase::Failed),
            censored: phases(|p| matches!(p, Phase::Censored(_))),
            positions: plan.samples.iter().enumerate().map(|(i, s)| (s.clone(), i as u32)).collect(),
            idle_may_help: false,
            remark: course.search().remarks().pop(),
            partial,
            parts,
            bar,
            begun,
            plan,
            identity,
            pinned,
            written: counters.clone(),
            counters,
            course,
            budget,
            end: searched.end.clone(),
            checkpoint_after: checkpoint_after(&searched),
            checkpoint: searched,
            tail,
            candidates: Candidates::all(candidates),
            forgets: false,
            forgotten_best: None,
            front: Vec::new(),
            open,
            finals: VecDeque::new(),
            noticed: 0,
            best: None,
            leases: lease::Table::default(),
            roster: roster::Roster::default(),
            conduct: Default::default(),
            audits: Default::default(),
            stopping: false,
            clock: None,
            leases_good_until: Millis(0),
            roster_swept: Millis(0),
            workers_here: 0,
            unwritten,
        };
        let kept = state.candidates.kept().iter();
        let scored: Vec<_> = kept.clone().filter_map(|c| Some((c.id(), c.fitness()?))).collect();
        let vectors: Vec<_> = kept.map(|c| generation::objectives(&state.plan, c)).collect();
        scored.into_iter().for_each(|(id, fitness)| state.note_best(id, fitness));
        vectors.into_iter().for_each(|vector| state.note_front(vector));
        Ok(state)
    }

    /// What of this state is to outlive the process; of the candidates, those that are in memory.
    pub fn durable(&self) -> Durable {
        Durable {
            identity: self.identity.clone(),
            pinned: self.pinned.clone(),
            counters: self.written.clone(),
            searched: self.checkpoint.clone(),
            candidates: self.candidates.kept().to_vec(),
            tail: self.tail.clone(),
            partial: self.partial.clone(),
            parts: if self.has_bound() { self.parts.clone() } else { Default::default() },
            bar: self.bar.clone(),
            begun: self.begun.clone(),
        }
    }
}

/// Whether the candidates are those of the plan, each in its place.
fn check(plan: &RunPlan, candidates: &[Candidate]) -> Result<(), Contradiction> {
    for (i, c) in candidates.iter().enumerate() {
        if c.id().0 != i as u64 + 1 {
            return Err(Contradiction(format!("candidate {} stands where {} belongs", c.id(), i + 1)));
        }
        // Recipes of final candidates are only shown; making all of them again would cost every look at a long run.
        if c.genome().coordinates().len() != plan.space.dimensions()
            || (!c.is_final() && plan.recipe(c.genome()).digest() != c.recipe())
        {
            return Err(Contradiction(format!("candidate {}'s recipe is not its genome's", c.id())));
        }
    }
    Ok(())
}

/// Leads a search through one entry of the journal. What it asks for has to be what was asked for.
///
/// # Errors
/// Where the two part, in words.
pub(super) fn follow(
    plan: &RunPlan,
    course: &mut Course,
    entry: &Entry,
    candidates: &[Candidate],
) -> Result<(), String> {
    let known = |id: CandidateId| {
        let place = id.0.checked_sub(1).and_then(|i| candidates.get(usize::try_from(i).ok()?));
        place.ok_or_else(|| format!("the journal names candidate {id}, and there is none"))
    };
    match entry {
        Entry::Asked { first, count, opens } => {
            if *count > candidates.len() as u64 {
                return Err(format!(
                    "{count} candidates from {first} on were asked for, and there are fewer"
                ));
            }
            for (genome, id) in course.ask(*count, *opens).iter().zip(first.0..) {
                if known(CandidateId(id))?.genome() != genome {
                    return Err(format!("candidate {id} is another than the search asks for"));
                }
            }
        }
        Entry::Recorded { candidate, outcome } => {
            let entered = generation::entered(plan, known(*candidate)?);
            if entered.told.outcome != *outcome {
                return Err(format!("candidate {candidate} ended otherwise than the journal says"));
            }
            course.record(*candidate, entered);
        }
        Entry::Extended { .. } => {}
    }
    Ok(())
}

/// After how many entries a search of that size is written again.
pub(super) fn checkpoint_after(searched: &Searched) -> usize {
    let mut bytes = Count(0);
    serde_json::to_writer(&mut bytes, searched).expect("records hold nothing JSON cannot say");
    (bytes.0 / CHECKPOINT_BYTES_AN_ENTRY).max(CHECKPOINT_ENTRIES)
}

/// Counts bytes.
struct Count(usize);

impl std::io::Write for Count {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The journal that a generational run without one would have, and its place beside the saved search. Within a
/// generation the order of arrival is not known; it cannot have mattered.
fn upgrade(plan: &RunPlan, searched: &mut Searched, candidates: &[Candidate]) -> Vec<Entry> {
    let mut course = Course::new(first_search(plan), Mode::Generational, 0, Place::default());
    let mut entries = Vec::new();
    for generation in 1..=searched.generation {
        let members: Vec<&Candidate> = candidates.iter().filter(|c| c.generation() == generation).collect();
        let Some(first) = members.first() else { break };
        entries.push(Entry::Asked { first: first.id(), count: members.len() as u64, opens: true });
        entries.extend(
            members
                .iter()
                .filter(|c| c.is_final())
                .map(|c| (c.id(), generation::entered(plan, c).told.outcome))
                .map(|(candidate, outcome)| Entry::Recorded { candidate, outcome }),
        );
    }
    // That the genomes are the search's own is for `replay` to say.
    let mut exact = true;
    for entry in &entries {
        match entry {
            Entry::Asked { first, count, opens } => {
                let asked = course.ask(*count, *opens);
                let stored = candidates[index(*first)..].iter().map(Candidate::genome);
                exact &= asked.iter().eq(stored.take(asked.len()));
            }
            Entry::Recorded { candidate, .. } => {
                course.record(*candidate, generation::entered(plan, &candidates[index(*candidate)]));
            }
            Entry::Extended { .. } => {}
        }
    }
    // Earlier versions saved less of a search than it has now. Where it asks for the same genomes it is the same search.
    if exact && course.generation() == searched.generation {
        searched.snapshot = course.search().snapshot();
    }
    searched.place = Some(course.place());
    searched.entries = entries.len() as u64;
    entries
}
