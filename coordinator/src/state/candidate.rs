//! One candidate: open (waiting, or lent under one open attempt or several), then scored, censored or failed for good.
//!
//! What is lent is batches of the plan. Which of their samples are there already is `results`' affair.
//!
//! What cannot happen here: a change of anything once the candidate is final, an open attempt after that.

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
    /// Ended early: it could not have reached the parents of its generation.
    Censored(Censored),
    /// Given up: the worst of its generation.
    Failed,
}

/// What is known of a candidate that ended early.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Censored {
    /// Its fitness would not have been above this.
    pub bound: Fitness,
    /// Samples that were there when it ended.
    pub samples: u32,
    /// Where the time went.
    pub timings: Timings,
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
    /// The batches lent, ascending; all where empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub batches: Vec<u32>,
    /// Samples that were recorded from it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub samples: u32,
    /// What its worker said that it took.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub timings: Timings,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

fn is_nothing(timings: &Timings) -> bool {
    *timings == Timings::default()
}

impl Attempt {
    /// Whether it was lent this batch.
    pub fn holds(&self, batch: u32) -> bool {
        self.batches.is_empty() || self.batches.binary_search(&batch).is_ok()
    }

    /// Whether it counts towards the limit: it ended badly and yielded nothing. One that brought samples forward did
    /// not try in vain; of these there may be as many again. Nonsense counts whatever came before it.
    pub fn counts(&self) -> bool {
        self.ended_badly() && (self.samples == 0 || self.end.as_ref().is_some_and(|e| e.how == How::Refused))
    }

    fn ended_badly(&self) -> bool {
        self.end.as_ref().is_some_and(|e| e.how.counts())
    }
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
    /// With the last sample of the result that counts.
    Scored,
    /// All its samples are there; others of the candidate are not.
    Partial,
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
    /// The candidate could not have reached the parents of its generation.
    Censored,
}

impl How {
    /// Whether an attempt that ended so without yielding anything counts towards the limit.
    pub fn counts(self) -> bool {
        matches!(self, How::Failed | How::Expired | How::Refused)
    }

    /// Whether it ended by nobody's fault and did no good.
    fn is_futile(self) -> bool {
        matches!(self, How::Interrupted | How::HandedBack)
    }

    /// The word that people and scripts see.
    pub fn word(self) -> &'static str {
        match self {
            How::Scored => "scored",
            How::Partial => "partial",
            How::Failed => "failed",
            How::Expired => "expired",
            How::Refused => "refused",
            How::Interrupted => "interrupted",
            How::HandedBack => "handed-back",
            How::Superseded => "superseded",
            How::Censored => "censored",
        }
    }
}

impl Candidate {
    /// A candidate that nobody has tried yet.
    pub fn new(id: CandidateId, generation: u64, genome: Genome, recipe: Digest) -> Candidate {
        Candidate { id, generation, genome, recipe, phase: Phase::Open, attempts: Vec::new() }
    }

    /// Gives back memory that a final candidate no longer needs: it stays as it is, as many others do.
    pub(super) fn compact(&mut self) {
        self.attempts.shrink_to_fit();
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

    /// Scored, censored or failed.
    pub fn is_final(&self) -> bool {
        self.phase != Phase::Open
    }

    /// Neither final nor lent.
    pub fn is_waiting(&self) -> bool {
        !self.is_final() && self.open_attempts().next().is_none()
    }

    /// Being evaluated by somebody.
    pub fn is_lent(&self) -> bool {
        self.open_attempts().next().is_some()
    }

    /// What its attempts took together, as far as their workers told.
    pub fn timings(&self) -> Timings {
        self.attempts.iter().fold(Timings::default(), |sum, a| sum.plus(a.timings))
    }

    /// What the search is told; `None` unless scored.
    pub fn fitness(&self) -> Option<Fitness> {
        match &self.phase {
            Phase::Scored(s) => Some(s.fitness),
            Phase::Open | Phase::Censored(_) | Phase::Failed => None,
        }
    }

    /// Attempts that are being made.
    pub fn open_attempts(&self) -> impl Iterator<Item = &Attempt> {
        self.attempts.iter().filter(|a| a.end.is_none())
    }

    /// How many of the attempts that are being made were lent this batch.
    pub fn lent(&self, batch: u32) -> usize {
        self.open_attempts().filter(|a| a.holds(batch)).count()
    }

    /// The attempt under that lease.
    pub fn attempt(&self, lease: LeaseId) -> Option<&Attempt> {
        self.attempts.iter().find(|a| a.lease == lease)
    }

    /// Attempts that count towards the limit.
    pub fn counted_attempts(&self) -> usize {
        self.attempts.iter().filter(|a| a.counts()).count()
    }

    /// Attempts that ended by nobody's fault without yielding anything.
    pub fn futile_attempts(&self) -> usize {
        let futile = |a: &&Attempt| a.samples == 0 && a.end.as_ref().is_some_and(|e| e.how.is_futile());
        self.attempts.iter().filter(futile).count()
    }

    /// Whether a worker of that name has ended an attempt of this candidate in a way that counts.
    pub fn failed_on(&self, worker: &str) -> bool {
        self.attempts.iter().any(|a| a.worker_name == worker && a.counts())
    }

    /// Lends batches of it; all, where none is named.
    ///
    /// # Panics
    /// When it is final.
    pub(super) fn begin(
        &mut self,
        lease: LeaseId,
        worker: WorkerId,
        name: &str,
        batches: Vec<u32>,
        now: Millis,
    ) -> u32 {
        assert!(!self.is_final(), "a final candidate is not lent");
        let number = self.attempts.len() as u32 + 1;
        let (worker_name, timings) = (name.to_string(), Timings::default());
        let (begun, end) = (now, None);
        self.attempts.push(Attempt {
            number,
            lease,
            worker,
            worker_name,
            begun,
            end,
            batches,
            samples: 0,
            timings,
        });
        number
    }

    /// Leaves an open attempt these batches alone; others do the rest.
    pub(super) fn shrink(&mut self, lease: LeaseId, batches: Vec<u32>) {
        if let Some(attempt) = self.attempts.iter_mut().find(|a| a.lease == lease && a.end.is_none()) {
            attempt.batches = batches;
        }
    }

    /// Notes samples that were recorded from an attempt, and what it took so far. Yields what it took since the last
    /// time.
    pub(super) fn note(&mut self, lease: LeaseId, samples: u32, timings: Timings) -> Timings {
        let Some(attempt) = self.attempts.iter_mut().find(|a| a.lease == lease) else {
            return Timings::default();
        };
        attempt.samples += samples;
        let since = timings.since(attempt.timings);
        attempt.timings = attempt.timings.plus(since);
        since
    }

    /// Goes on with an attempt that was given up too early, with these batches. False where that cannot be: the
    /// candidate is final, or the attempt ended by more than silence.
    pub(super) fn reopen(&mut self, lease: LeaseId, batches: Vec<u32>) -> bool {
        let is_final = self.is_final();
        let silent = |a: &&mut Attempt| {
            let how = a.end.as_ref().map(|e| e.how);
            a.lease == lease && matches!(how, Some(How::Expired | How::Interrupted))
        };
        match self.attempts.iter_mut().find(silent) {
            Some(attempt) if !is_final => {
                (attempt.end, attempt.batches) = (None, batches);
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
        let at = ended.at;
        attempt.end = Some(ended);
        if self.is_hopeless(limit as usize) {
            self.fail(at);
        }
        true
    }

    /// So many attempts in vain, or twice as many one after the other that ended badly though some samples came of them:
    /// what kills its worker after each first sample would else cost as many workers as there are samples.
    fn is_hopeless(&self, limit: usize) -> bool {
        self.counted_attempts() >= limit
            || self.bad_in_turn() >= 2 * limit
            || self.futile_attempts() >= MAX_UNCOUNTED_ATTEMPTS
    }

    /// Attempts that ended badly, of those that were made at once only one: a rack that loses its power, on which the
    /// batches of this candidate lay, says nothing of it.
    fn bad_in_turn(&self) -> usize {
        let ends = |a: &Attempt| a.end.as_ref().filter(|_| a.ended_badly()).map(|e| (e.at, a.begun));
        // By their ends, so that one long attempt does not stand for many short ones within it.
        let mut bad: Vec<(Millis, Millis)> = self.attempts.iter().filter_map(ends).collect();
        bad.sort_unstable();
        let (mut count, mut last) = (0, None);
        for (end, begun) in bad {
            if last.is_none_or(|last| begun >= last) {
                (count, last) = (count + 1, Some(end));
            }
        }
        count
    }

    /// Gives the candidate up.
    ///
    /// # Panics
    /// When it is scored or censored.
    pub(super) fn fail(&mut self, now: Millis) {
        assert!(matches!(self.phase, Phase::Open | Phase::Failed), "a result never changes");
        self.phase = Phase::Failed;
        self.end_others(How::Superseded, now);
    }

    /// Puts other numbers in place of those of a scored candidate: its reports were scored anew, for another run.
    ///
    /// # Panics
    /// Unless it is scored.
    pub(super) fn rescore(&mut self, score: Score) {
        assert!(matches!(self.phase, Phase::Scored(_)), "only what has reports can be scored anew");
        self.phase = Phase::Scored(score);
    }

    /// The same merge under the number, genome and recipe that it has in another run.
    pub(super) fn moved(&self, id: CandidateId, genome: Genome, recipe: Digest) -> Candidate {
        Candidate { id, genome, recipe, ..self.clone() }
    }

    /// Gives it up if it ended early: its bound is one of the scores that another run had.
    pub(super) fn drop_bound(&mut self) {
        if matches!(self.phase, Phase::Censored(_)) {
            self.phase = Phase::Failed;
        }
    }

    /// Enters the result that counts. The attempt that yielded its last sample may have ended before, by silence.
    ///
    /// # Panics
    /// When the candidate is final.
    pub(super) fn score(&mut self, lease: LeaseId, score: Score, now: Millis) {
        assert!(!self.is_final(), "the first result is never overwritten");
        self.phase = Phase::Scored(score);
        if let Some(attempt) = self.attempts.iter_mut().find(|a| a.lease == lease) {
            attempt.end = Some(Ended { at: now, how: How::Scored, reason: String::new() });
        }
        self.end_others(How::Superseded, now);
    }

    /// Ends it early.
    ///
    /// # Panics
    /// When the candidate is final.
    pub(super) fn censor(&mut self, censored: Censored, now: Millis) {
        assert!(!self.is_final(), "the first result is never overwritten");
        self.phase = Phase::Censored(censored);
        self.end_others(How::Censored, now);
    }

    fn end_others(&mut self, how: How, now: Millis) {
        for attempt in self.attempts.iter_mut().filter(|a| a.end.is_none()) {
            attempt.end = Some(Ended { at: now, how, reason: String::new() });
        }
    }
}

#[cfg(test)]
#[path = "candidate_tests.rs"]
mod tests;
