//! Run files: what a person types → [`RunPlan`], checked once, immutable, digested.
//!
//! [`parse`] reports every fault at once, each with its line, field and remedy; unknown keys are faults. It
//! opens no file: paths are only made absolute, relative to the run file's folder.

mod cma;
mod fault;
mod file;
mod parameters;
mod plan;
pub mod reader;
mod scheduling;
mod search;
pub mod study;
pub mod tree;

pub use cma::{CmaBounds, CmaConstants, CmaPlan, Covariance, LearningRate, Restarts};
pub use fault::{Fault, Faults};
pub use file::{RunFile, parse};
pub use plan::{
    DatasetPlan, EmptyReference, FORMAT, GenerationPlan, MergePlan, ModelsPlan, RunPlan, ScoringPlan,
    SourcePlan,
};
pub(crate) use reader::edit_distance;
pub use scheduling::{EarlyStopPlan, Redo, Repetition, SchedulingPlan};
pub use search::{ALGORITHMS, Algorithm, SearchPlan};
