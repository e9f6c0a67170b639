//! Does the journal lead from the plan to what is stored? Asks a fresh search for every genome again, tells it every
//! result in the order in which it was recorded, and compares on the way.

use super::candidate::Candidate;
use super::journal::{Course, Entry, Place};
use super::record::first_search;
use super::restore::follow;
use super::{Record, State};
use common::fitness::Fitness;
use common::id::CandidateId;
use std::cmp::Reverse;
use std::collections::HashSet;

/// Entries that are read at once.
const CHUNK: usize = 4096;

/// What a replay found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// Entries that were followed.
    pub entries: u64,
    /// Candidates that were asked for by then.
    pub candidates: u64,
    /// Results that were told by then.
    pub results: u64,
    /// Where journal and store part: what does not fit. The entry is the one after `entries`.
    pub parts: Option<String>,
}

impl State {
    /// Replays the journal, which `read` yields from a position on, so many entries at most.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn replay<E>(&self, read: impl Fn(u64, usize) -> Result<Vec<Entry>, E>) -> Result<Replayed, E> {
        let mut replay = Replay::begin(self);
        // The journal of a store that had none is not written yet.
        let unwritten = self.unwritten.iter().filter_map(|r| match r {
            Record::Journal(_, entry) => Some(entry.clone()),
            _ => None,
        });
        let mut chunk: Vec<Entry> = unwritten.collect();
        if chunk.is_empty() {
            chunk = read(0, CHUNK)?;
        }
        let mut parts = None;
        while !chunk.is_empty() && parts.is_none() {
            parts = chunk.iter().find_map(|entry| replay.step(entry).err());
            chunk = read(replay.at, CHUNK)?;
        }
        let parts = parts.or_else(|| replay.end().err());
        let Replay { at: entries, course, recorded, .. } = replay;
        Ok(Replayed { entries, candidates: course.asked(), results: recorded.len() as u64, parts })
    }
}

struct Replay<'a> {
    state: &'a State,
    course: Course,
    recorded: HashSet<CandidateId>,
    best: Option<(Fitness, Reverse<CandidateId>)>,
    at: u64,
}

impl<'a> Replay<'a> {
    /// Where the run began: at the plan's own beginning, or with what it took over from an earlier run.
    fn begin(state: &'a State) -> Replay<'a> {
        let (search, generation, place) = match &state.begun {
            None => (first_search(&state.plan), 0, Place::default()),
            Some(b) => {
                (search::restore(b.snapshot.clone()), b.generation, b.place.clone().unwrap_or_default())
            }
        };
        let taken_over = state.candidates.kept().iter().take(place.asked as usize);
        let recorded: HashSet<CandidateId> = taken_over.clone().map(Candidate::id).collect();
        let best = taken_over.filter_map(|c| Some((c.fitness()?, Reverse(c.id())))).max();
        let course = Course::new(search, state.mode(), generation, place);
        Replay { state, course, recorded, best, at: 0 }
    }

    fn step(&mut self, entry: &Entry) -> Result<(), String> {
        self.compare_checkpoint()?;
        follow(&self.state.plan, &mut self.course, entry, self.state.candidates.kept())?;
        if let Entry::Recorded { candidate, .. } = entry {
            if !self.recorded.insert(*candidate) {
                return Err(format!("candidate {candidate} is recorded twice"));
            }
            let fitness = self.state.candidate(*candidate).and_then(|c| c.fitness());
            self.best = self.best.max(fitness.map(|f| (f, Reverse(*candidate))));
        }
        self.at += 1;
        Ok(())
    }

    fn compare_checkpoint(&self) -> Result<(), String> {
        let saved = &self.state.checkpoint;
        let same =
            self.course.search().snapshot() == saved.snapshot && self.course.generation() == saved.generation;
        match saved.entries == self.at && !same {
            true => Err("the search that was saved here is another than the journal leads to".into()),
            false => Ok(()),
        }
    }

    fn end(&self) -> Result<(), String> {
        self.compare_checkpoint()?;
        let (state, entries) = (self.state, self.state.counters.entries);
        let finals = state.candidates.len() - state.open.len();
        let best = self.best.map(|(fitness, Reverse(id))| (id, fitness));
        let differs = [
            (self.at != entries, format!("the journal has {} entries and should have {entries}", self.at)),
            (
                self.course.asked() != state.candidates.len() as u64,
                format!(
                    "{} candidates are stored, {} were asked for",
                    state.candidates.len(),
                    self.course.asked()
                ),
            ),
            (
                self.recorded.len() != finals,
                format!("{finals} candidates are final, {} were recorded", self.recorded.len()),
            ),
            (best != state.best, "the best of the journal is not the best of the store".into()),
            (
                self.course.search().snapshot() != state.course.search().snapshot(),
                "the search is another than the journal leads to".into(),
            ),
        ];
        differs.into_iter().find(|(differs, _)| *differs).map_or(Ok(()), |(_, what)| Err(what))
    }
}
