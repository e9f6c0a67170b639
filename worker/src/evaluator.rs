//! What evaluates a candidate, as the rest of the worker sees it.

use common::evaluation::Evaluation;
use common::recipe::Recipe;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};

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

/// What an evaluation shows of itself, and the flag that stops it. Shared between the slot's thread, which
/// writes, and the link, which reads.
#[derive(Debug, Default)]
pub struct Control {
    cancelled: AtomicBool,
    stage: AtomicU8,
    samples_done: AtomicU32,
}

impl Control {
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

    /// Notes how many samples have a finished report.
    pub fn set_samples_done(&self, n: usize) {
        self.samples_done.store(u32::try_from(n).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// How many samples have a finished report.
    pub fn samples_done(&self) -> u32 {
        self.samples_done.load(Ordering::Relaxed)
    }
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
    /// Merges, generates and scores. Texts and scores depend on the recipe and the run alone.
    fn evaluate(&mut self, recipe: &Recipe, control: &Control) -> Result<Evaluation, EvaluateError>;
}
