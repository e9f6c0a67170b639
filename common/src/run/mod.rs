//! Run files: what a person types → [`RunPlan`], checked once, immutable, digested.
//!
//! [`parse`] reports every fault at once, each with its line, field and remedy; unknown keys are faults. It
//! opens no file: paths are only made absolute, relative to the run file's folder.

mod division;
mod fault;
mod file;
mod parameters;
mod plan;
mod reader;
mod search;
mod tree;

pub use fault::{Fault, Faults};
pub use file::{RunFile, parse};
pub use plan::{
    DatasetPlan, EmptyReference, FORMAT, GenerationPlan, MergePlan, ModelsPlan, RunPlan, SchedulingPlan,
    ScoringPlan, SourcePlan,
};
pub(crate) use reader::edit_distance;
pub use search::{Algorithm, SearchPlan};
