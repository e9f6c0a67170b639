//! What evaluates a candidate, as the rest of the worker sees it.

use common::evaluation::{SampleResult, Timings};
use common::recipe::Recipe;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::Notify;

/// Which part of an evaluation is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// Merging weights into the model.
    Merging = 1,
    /// Encoding images (once per worker).
    Features = 2,
    /// Writing reports.
    Generating = 3,
    /// Comparing reports with references.
    Scoring = 4,
}

/// What an evaluation is to do and what it shows of itself, and the flag that stops it. Shared between the slot's
/// thread, which writes, and the link, which reads.
#[derive(Debug, Default)]
pub struct Control {
    cancelled: AtomicBool,
    stage: AtomicU8,
    samples_done: AtomicU32,
    begun: AtomicU32,
    /// Positions of the samples to evaluate, ascending. Others may take some over while the evaluation runs.
    wanted: Mutex<Vec<u32>>,
    /// Finished samples that the link has not fetched yet, and what the evaluation took so far.
    finished: Mutex<(Vec<SampleResult>, Timings)>,
    /// Woken when a batch has ended.
    nudge: Arc<Notify>,
}

impl Control {
    /// For an evaluation of these samples, by position, that wakes `nudge` after each batch.
    pub fn new(samples: Vec<u32>, nudge: Arc<Notify>) -> Control {
        Control { wanted: Mutex::new(samples), nudge, ..Control::default() }
    }

    /// Asks the evaluation to stop at its next chance.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// The flag itself, for passes that look at one.
    pub fn flag(&self) -> &AtomicBool {
        &self.cancelled
    }

    /// Whether someone asked.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Notes that a stage begins.
    pub fn enter(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Relaxed);
    }

    /// The stage begun last.
    pub fn stage(&self) -> Stage {
        match self.stage.load(Ordering::Relaxed) {
            2 => Stage::Features,
            3 => Stage::Generating,
            4 => Stage::Scoring,
            _ => Stage::Merging,
        }
    }

    /// How many samples have a finished report.
    pub fn samples_done(&self) -> u32 {
        self.samples_done.load(Ordering::Relaxed)
    }

    /// One past the position of the last sample that was begun; 0 before the first.
    pub fn begun(&self) -> u32 {
        self.begun.load(Ordering::Relaxed)
    }

    /// Leaves the evaluation these samples alone, as far as it has not begun others.
    pub fn keep(&self, samples: &[u32]) {
        locked(&self.wanted).retain(|position| samples.binary_search(position).is_ok());
    }

    /// The samples of a batch that are to be evaluated, which herewith are begun.
    pub fn begin(&self, batch: Range<usize>) -> Vec<usize> {
        let wanted = locked(&self.wanted);
        let begun: Vec<usize> =
            wanted.iter().map(|p| *p as usize).filter(|position| batch.contains(position)).collect();
        if let Some(last) = begun.last() {
            self.begun.store(*last as u32 + 1, Ordering::Relaxed);
        }
        begun
    }

    /// Hands over a finished sample, and what the evaluation took so far.
    pub fn finish(&self, sample: SampleResult, timings: Timings) {
        let mut finished = locked(&self.finished);
        finished.0.push(sample);
        finished.1 = timings;
        self.samples_done.fetch_add(1, Ordering::Relaxed);
    }

    /// Tells the link that a batch has ended, so that it need not wait to report it.
    pub fn batch_ended(&self) {
        self.nudge.notify_one();
    }

    /// Whether there is something to fetch.
    pub fn has_finished(&self) -> bool {
        !locked(&self.finished).0.is_empty()
    }

    /// Fetches what was finished since the last time, and what the evaluation took so far.
    pub fn fetch(&self) -> (Vec<SampleResult>, Timings) {
        let mut finished = locked(&self.finished);
        (std::mem::take(&mut finished.0), finished.1)
    }
}

/// A panic in an evaluation leaves whole values behind: each change under these locks is one.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

/// Why there is no evaluation.
#[derive(Debug, thiserror::Error)]
pub enum EvaluateError {
    /// [`Control::cancel`] was called.
    #[error("cancelled")]
    Cancelled,
    /// This worker could not; another, or a second try, may.
    #[error("{0}")]
    Failed(String),
    /// No worker can: the recipe itself is at fault.
    #[error("{0}")]
    Impossible(String),
}

/// Turns a recipe into reports and scores. One per slot; lives on the slot's thread.
pub trait Evaluator: Send {
    /// Merges, then generates and scores the samples that `control` names, batch by batch. Each goes to `control` as
    /// soon as it is finished. Texts and scores depend on the recipe and the run alone.
    fn evaluate(&mut self, recipe: &Recipe, control: &Control) -> Result<Timings, EvaluateError>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::evaluation::Stop;
    use std::collections::BTreeMap;

    fn row(sample: &str) -> SampleResult {
        let (text, scores) = (String::new(), BTreeMap::new());
        SampleResult { sample: sample.into(), text, tokens: 1, stop: Stop::End, scores, kept: None }
    }

    #[test]
    fn what_others_took_is_not_begun_and_what_was_begun_goes_on() {
        let control = Control::new(vec![1, 2, 5, 6, 7], Arc::default());
        assert_eq!(control.begun(), 0);
        assert_eq!(control.begin(0..3), [1, 2]);
        assert_eq!(control.begun(), 3);
        // Others do the rest but for one, which was never this one's.
        control.keep(&[1, 2, 4, 5]);
        assert_eq!(control.begin(3..6), [5]);
        assert_eq!(control.begin(6..9), [] as [usize; 0]);
        assert_eq!(control.begun(), 6);
    }

    #[test]
    fn finished_samples_are_fetched_once() {
        let control = Control::new(vec![0, 1], Arc::default());
        let took = |generate_ms| Timings { generate_ms, ..Timings::default() };
        assert!(!control.has_finished());
        control.finish(row("a"), took(3));
        control.finish(row("b"), took(5));
        assert!(control.has_finished());
        let (rows, timings) = control.fetch();
        assert_eq!((rows.len(), timings, control.samples_done()), (2, took(5), 2));
        assert_eq!(control.fetch(), (Vec::new(), took(5)));
    }
}
