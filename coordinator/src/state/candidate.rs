//! One candidate: open (waiting, or lent under one open attempt), then scored or failed for good.
//!
//! What cannot happen here: two open attempts, a change of anything once scored or failed.

use common::digest::Digest;
use common::evaluation::Timings;
use common::fitness::Fitness;
use common::genome::Genome;
use common::id::{CandidateId, LeaseId, WorkerId};
use common::time::Millis;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Attempts that ended without anybody's fault (interrupted, handed back) are not counted against the limit,
/// but there must be an end to them too.
pub const MAX_UNCOUNTED_ATTEMPTS: usize = 100;

/// A genome with a number, and everything that became of it. Texts are kept apart, on disk alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Candidate {
    id: CandidateId,
    generation: u64,
    genome: Genome,
    recipe: Digest,
    phase: Phase,
    attempts: Vec<Attempt>,
}

/// Whether a candidate is final.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Phase {
    /// To be evaluated. Lent while an attempt is open.
    Open,
    /// Evaluated.
    Scored(Score),
    /// Given up: the worst of its generation.
    Failed,
}

/// The numbers of an evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Score {
    /// What the search is told.
    pub fitness: Fitness,
    /// Mean of every metric.
    pub means: BTreeMap<String, f64>,
    /// Where the time went.
    pub timings: Timings,
}

/// One lease that was begun.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attempt {
    /// Counts from 1.
    pub number: u32,
    /// The lease.
    pub lease: LeaseId,
    /// Whose it was first.
    pub worker: WorkerId,
    /// That worker's name.
    pub worker_name: String,
    /// When it was granted.
    pub begun: Millis,
    /// How it ended; open where absent.
    pub end: Option<Ended>,
}

/// How and when an attempt ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ended {
    /// When.
    pub at: Millis,
    /// How.
    pub how: How,
    /// Why, where that needs words.
    pub reason: String,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// With the result that counts.
    Scored,
    /// The worker said that it failed.
    Failed,
    /// Nobody renewed the lease.
    Expired,
    /// Its result was nonsense.
    Refused,
    /// The coordinator was restarted and nobody came back with it.
    Interrupted,
    /// The worker left and gave it back.
    HandedBack,
    /// Another attempt's result came first, or the run ended.
    Superseded,
}

impl How {
    /// Whether an attempt that ended so counts towards the limit.
    pub fn counts(self) -> bool {
        matches!(self, How::Failed | How::Expired | How::Refused)
    }

    /// The word that people and scripts see.
    pub fn word(self) -> &'static str {
        match self {
            How::Scored => "scored",
            How::Failed => "failed",
            How::Expired => "expired",
            How::Refused => "refused",
            How::Interrupted => "interrupted",
            How::HandedBack => "handed-back",
            How::Superseded => "superseded",
        }
    }
}

impl Candidate {
    /// A candidate that nobody has tried yet.
    pub fn new(id: CandidateId, generation: u64, genome: Genome, recipe: Digest) -> Candidate {
        Candidate { id, generation, genome, recipe, phase: Phase::Open, attempts: Vec::new() }
    }

    /// Its number.
    pub fn id(&self) -> CandidateId {
        self.id
    }

    /// The generation that it belongs to, from 1.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The point of the search space.
    pub fn genome(&self) -> &Genome {
        &self.genome
    }

    /// Digest of the recipe that it stands for.
    pub fn recipe(&self) -> Digest {
        self.recipe
    }

    /// Whether it is final, and how.
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// Every attempt, oldest first.
    pub fn attempts(&self) -> &[Attempt] {
        &self.attempts
    }

    /// Scored or failed.
    pub fn is_final(&self) -> bool {
        self.phase != Phase::Open
    }

    /// Neither final nor lent.
    pub fn is_waiting(&self) -> bool {
        !self.is_final() && self.open_attempt().is_none()
    }

    /// What the search is told; `None` unless scored.
    pub fn fitness(&self) -> Option<Fitness> {
        match &self.phase {
            Phase::Scored(s) => Some(s.fitness),
            Phase::Open | Phase::Failed => None,
        }
    }

    /// The attempt that is being made.
    pub fn open_attempt(&self) -> Option<&Attempt> {
        self.attempts.iter().find(|a| a.end.is_none())
    }

    /// Attempts that count towards the limit.
    pub fn counted_attempts(&self) -> usize {
        self.attempts.iter().flat_map(|a| &a.end).filter(|e| e.how.counts()).count()
    }

    /// Whether a worker of that name has ended an attempt of this candidate in a way that counts.
    pub fn failed_on(&self, worker: &str) -> bool {
        let ended = |a: &Attempt| a.end.as_ref().is_some_and(|e| e.how.counts());
        self.attempts.iter().any(|a| a.worker_name == worker && ended(a))
    }

    /// Lends it.
    ///
    /// # Panics
    /// Unless it is waiting.
    pub(super) fn begin(&mut self, lease: LeaseId, worker: WorkerId, name: &str, now: Millis) -> u32 {
        assert!(self.is_waiting(), "only a waiting candidate is lent");
        let number = self.attempts.len() as u32 + 1;
        let worker_name = name.to_string();
        self.attempts.push(Attempt { number, lease, worker, worker_name, begun: now, end: None });
        number
    }

    /// Goes on with an attempt that was given up too early. False where that cannot be: the candidate is
    /// final or lent to another, or the attempt ended by more than silence.
    pub(super) fn reopen(&mut self, lease: LeaseId) -> bool {
        let waiting = self.is_waiting();
        let silent = |a: &&mut Attempt| {
            let how = a.end.as_ref().map(|e| e.how);
            a.lease == lease && matches!(how, Some(How::Expired | How::Interrupted))
        };
        match self.attempts.iter_mut().find(silent) {
            Some(attempt) if waiting => {
                attempt.end = None;
                true
            }
            _ => false,
        }
    }

    /// Ends an open attempt without a result, and fails the candidate when that was the last one allowed.
    /// False where the attempt is not open.
    pub(super) fn end(&mut self, lease: LeaseId, ended: Ended, limit: u32) -> bool {
        assert!(ended.how != How::Scored, "a score is entered by `score`");
        let Some(attempt) = self.attempts.iter_mut().find(|a| a.lease == lease && a.end.is_none()) else {
            return false;
        };
        attempt.end = Some(ended);
        let counted = self.counted_attempts();
        if counted >= limit as usize || self.attempts.len() - counted >= MAX_UNCOUNTED_ATTEMPTS {
            self.fail();
        }
        true
    }

    /// Gives the candidate up.
    ///
    /// # Panics
    /// When it is scored.
    pub(super) fn fail(&mut self) {
        assert!(!matches!(self.phase, Phase::Scored(_)), "a scored candidate never changes");
        self.phase = Phase::Failed;
    }

    /// Puts other numbers in place of those of a scored candidate: its reports were scored anew, for another run.
    ///
    /// # Panics
    /// Unless it is scored.
    pub(super) fn rescore(&mut self, score: Score) {
        assert!(matches!(self.phase, Phase::Scored(_)), "only what has reports can be scored anew");
        self.phase = Phase::Scored(score);
    }

    /// Enters the result that counts. The attempt that yielded it may have ended before, by silence.
    ///
    /// # Panics
    /// When the candidate is final.
    pub(super) fn score(&mut self, lease: LeaseId, score: Score, now: Millis) {
        assert!(!self.is_final(), "the first result is never overwritten");
        self.phase = Phase::Scored(score);
        for attempt in &mut self.attempts {
            let how = if attempt.lease == lease { How::Scored } else { How::Superseded };
            if attempt.lease == lease || attempt.end.is_none() {
                attempt.end = Some(Ended { at: now, how, reason: String::new() });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate() -> Candidate {
        let genome = Genome::new(vec![0.5]).unwrap();
        Candidate::new(CandidateId(1), 1, genome, Digest::of(b"recipe"))
    }

    fn ended(how: How) -> Ended {
        Ended { at: Millis(9), how, reason: "why".into() }
    }

    fn score() -> Score {
        let (fitness, means) = (Fitness::new(0.5).unwrap(), BTreeMap::new());
        Score { fitness, means, timings: Timings::default() }
    }

    #[test]
    fn fails_after_as_many_counted_attempts_as_allowed() {
        let mut c = candidate();
        for (i, how) in [How::Failed, How::Interrupted, How::HandedBack, How::Expired].into_iter().enumerate()
        {
            assert!(c.is_waiting());
            let lease = LeaseId(i as u64 + 1);
            assert_eq!(c.begin(lease, WorkerId(1), "w", Millis(1)), i as u32 + 1);
            assert!(!c.is_waiting());
            assert!(c.end(lease, ended(how), 2));
        }
        assert_eq!((c.phase(), c.counted_attempts()), (&Phase::Failed, 2));
    }

    #[test]
    fn attempts_without_fault_end_too() {
        let mut c = candidate();
        for i in 1..=MAX_UNCOUNTED_ATTEMPTS as u64 {
            c.begin(LeaseId(i), WorkerId(1), "w", Millis(1));
            c.end(LeaseId(i), ended(How::HandedBack), 3);
        }
        assert_eq!(c.phase(), &Phase::Failed);
    }

    #[test]
    fn a_late_result_counts_and_supersedes_the_open_attempt() {
        let mut c = candidate();
        c.begin(LeaseId(1), WorkerId(1), "w", Millis(1));
        c.end(LeaseId(1), ended(How::Expired), 3);
        c.begin(LeaseId(2), WorkerId(2), "v", Millis(2));
        c.score(LeaseId(1), score(), Millis(3));
        let how: Vec<How> = c.attempts().iter().map(|a| a.end.as_ref().unwrap().how).collect();
        assert_eq!(how, [How::Scored, How::Superseded]);
        assert!(c.fitness().is_some() && c.is_final() && !c.reopen(LeaseId(2)));
    }

    #[test]
    fn only_silence_is_forgiven() {
        let mut c = candidate();
        c.begin(LeaseId(1), WorkerId(1), "w", Millis(1));
        c.end(LeaseId(1), ended(How::Expired), 3);
        assert!(c.reopen(LeaseId(1)));
        assert_eq!(c.counted_attempts(), 0);
        c.end(LeaseId(1), ended(How::Failed), 3);
        assert!(!c.reopen(LeaseId(1)));
    }

    #[test]
    #[should_panic(expected = "never overwritten")]
    fn a_scored_candidate_cannot_be_scored_again() {
        let mut c = candidate();
        c.score(LeaseId(1), score(), Millis(1));
        c.score(LeaseId(1), score(), Millis(2));
    }
}
