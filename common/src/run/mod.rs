//! Run files: what a person types → [`RunPlan`], checked once, immutable, digested.
//!
//! [`parse`] reports every fault at once, each with its line, field and remedy; unknown keys are faults. It
//! opens no file: paths are only made absolute, relative to the run file's folder.

mod aims;
mod external;
mod fault;
mod file;
mod parameters;
mod plan;
mod reader;
mod rescoring;
mod scoring;
mod search;
mod tree;

pub use external::{EvaluatorPlan, ExternalPlan, Given, Per, ProgramPlan};
pub use fault::{Fault, Faults};
pub use file::{RunFile, parse};
pub use plan::{
    DatasetPlan, EmptyReference, FORMAT, FinalistsPlan, GenerationPlan, MergePlan, ModelsPlan, RunPlan,
    SchedulingPlan, ScoringPlan, SourcePlan,
};
pub(crate) use reader::edit_distance;
pub use rescoring::{Rescoring, rescoring};
pub use search::{Algorithm, SearchPlan};

/// What is known of every report without comparing it: tokens written, and characters of its text. `[fitness]` and
/// `[objectives]` may use them like metrics.
pub const MEASURES: [&str; 2] = ["tokens", "length"];
