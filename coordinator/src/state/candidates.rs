//! Candidates by number: all of a run at rest, of a run that is served only those that may still change.
//!
//! A run of a hundred thousand candidates must not grow with every one of them. What is final and no longer a member of
//! the generation being evaluated is never changed again; its record is in the store, and whoever wants to show it reads it
//! there.

use super::State;
use super::candidate::Candidate;
use common::id::CandidateId;
use std::ops::{Index, IndexMut};

/// A run's candidates. Numbers count from 1 without gaps.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Candidates {
    /// The first so many are in the store alone.
    forgotten: usize,
    /// The others, in order of number. The first `stale` of them are to be dropped with the next that are.
    kept: Vec<Candidate>,
    stale: usize,
}

impl Candidates {
    /// All candidates of a run, from number 1 on.
    pub fn all(candidates: Vec<Candidate>) -> Candidates {
        Candidates { forgotten: 0, kept: candidates, stale: 0 }
    }

    /// How many there are, kept or not.
    pub fn len(&self) -> usize {
        self.forgotten + self.kept().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Those that are here: the last ones, in order of number.
    pub fn kept(&self) -> &[Candidate] {
        &self.kept[self.stale..]
    }

    /// Those that are here.
    pub fn iter(&self) -> std::slice::Iter<'_, Candidate> {
        self.kept().iter()
    }

    /// How many are in the store alone: the first ones.
    pub fn forgotten(&self) -> usize {
        self.forgotten
    }

    /// Whether that one was there and is in the store alone.
    pub fn is_forgotten(&self, id: CandidateId) -> bool {
        (1..=self.forgotten as u64).contains(&id.0)
    }

    /// The candidate of that number, where it is here.
    pub fn get(&self, id: CandidateId) -> Option<&Candidate> {
        self.kept.get(self.place(id)?)
    }

    /// Adds the next.
    pub fn push(&mut self, candidate: Candidate) {
        debug_assert_eq!(candidate.id().0, self.len() as u64 + 1, "numbers have no gaps");
        self.kept.push(candidate);
    }

    /// Drops those before the `first`, all of which are final.
    pub fn forget_before(&mut self, first: CandidateId) {
        let last = self.len() as u64 + 1;
        let drop = (first.0.min(last) - 1).saturating_sub(self.forgotten as u64) as usize;
        self.forgotten += drop;
        self.stale += drop;
        // Moving the rest costs as much as dropping half did: a constant for each candidate.
        if self.stale > self.kept.len() / 2 {
            self.kept.drain(..self.stale);
            self.kept.shrink_to(2 * self.kept.len());
            self.stale = 0;
        }
    }

    fn place(&self, id: CandidateId) -> Option<usize> {
        let after = usize::try_from(id.0).ok()?.checked_sub(self.forgotten + 1)?;
        Some(self.stale + after)
    }
}

impl<'a> IntoIterator for &'a Candidates {
    type Item = &'a Candidate;
    type IntoIter = std::slice::Iter<'a, Candidate>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// The candidate of that number.
///
/// # Panics
/// Where it is not here. What is open, leased or of the generation being evaluated always is.
impl Index<CandidateId> for Candidates {
    type Output = Candidate;

    fn index(&self, id: CandidateId) -> &Candidate {
        self.get(id).expect("what may change is kept")
    }
}

impl IndexMut<CandidateId> for Candidates {
    fn index_mut(&mut self, id: CandidateId) -> &mut Candidate {
        let place = self.place(id).expect("what may change is kept");
        &mut self.kept[place]
    }
}

impl State {
    /// From now on, candidates that cannot change any more leave memory: for a run that is served with a store.
    pub fn keep_few(&mut self) {
        self.forgets = true;
        self.forget();
    }

    /// Drops what is final, is no member of the generation being evaluated, and is not waited for by the bar.
    pub(super) fn forget(&mut self) {
        if !self.forgets {
            return;
        }
        let next = CandidateId(self.candidates.len() as u64 + 1);
        let member = self.members().first().map_or(next, Candidate::id);
        let first = self.parts.keys().next().map_or(member, |scored| member.min(*scored));
        if let Some((best, _)) = self.best
            && best < first
            && let Some(best) = self.candidates.get(best)
        {
            self.forgotten_best = Some(best.clone());
        }
        self.candidates.forget_before(first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::digest::Digest;
    use common::genome::Genome;

    fn candidate(id: u64) -> Candidate {
        let genome = Genome::new(vec![0.5]).unwrap();
        Candidate::new(CandidateId(id), 1, genome, Digest::of(b"recipe"))
    }

    #[test]
    fn what_is_kept_is_found_by_its_number() {
        let mut all = Candidates::all((1..=5).map(candidate).collect());
        for first in [1, 2, 4, 3, 6, 9] {
            all.forget_before(CandidateId(first));
            all.push(candidate(all.len() as u64 + 1));
            let ids: Vec<u64> = all.kept().iter().map(|c| c.id().0).collect();
            assert_eq!(ids, (all.forgotten() as u64 + 1..=all.len() as u64).collect::<Vec<_>>());
            for id in 0..=all.len() as u64 + 1 {
                let id = CandidateId(id);
                let here = ids.contains(&id.0);
                assert_eq!(all.get(id).map(Candidate::id), here.then_some(id));
                assert_eq!(all.is_forgotten(id), !here && id.0 > 0 && id.0 <= all.len() as u64);
            }
        }
        assert_eq!((all.len(), all.kept().len()), (11, 3));
        assert!(all.kept.capacity() <= 8);
    }
}
