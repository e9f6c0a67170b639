//! Run files: what a person types → [`RunPlan`], checked once, immutable, digested.
//!
//! [`parse`] reports every fault at once, each with its line, field and remedy; unknown keys are faults. It
//! opens no file: paths are only made absolute, relative to the run file's folder.

mod aims;
mod budget;
mod cma;
mod division;
mod external;
mod fault;
mod file;
mod parameters;
mod plan;
pub mod reader;
mod rescoring;
mod scheduling;
mod scoring;
mod search;
mod starts;
pub mod study;
pub mod tree;

pub use budget::{Budget, Extension, Mode};
pub use cma::{CmaBounds, CmaConstants, CmaPlan, Covariance, LearningRate, Restarts};
pub use external::{EvaluatorPlan, ExternalPlan, Given, Per, ProgramPlan};
pub use fault::{Fault, Faults};
pub use file::{RunFile, parse};
pub use plan::{
    DatasetPlan, EmptyReference, FORMAT, FinalistsPlan, GenerationPlan, MergePlan, ModelsPlan, Reports,
    RunPlan, ScoringPlan, SourcePlan,
};
pub(crate) use reader::edit_distance;
pub use rescoring::{Rescoring, rescoring};
pub use scheduling::{EarlyStopPlan, Redo, Repetition, SchedulingPlan};
pub use search::{ALGORITHMS, Algorithm, SearchPlan};
pub use starts::{Numbers, StartPoint};

/// What is known of every report without comparing it: tokens written, and characters of its text. `[fitness]` and
/// `[objectives]` may use them like metrics.
pub const MEASURES: [&str; 2] = ["tokens", "length"];
