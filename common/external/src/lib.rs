//! Metrics and evaluators of the user's own: commands that are asked one JSON line and answer one.
//!
//! | module | what |
//! |---|---|
//! | [`metric`] | reports in, named scores out |
//! | [`evaluator`] | a recipe in, scores of every sample out |
//! | `answer` | what a line may say: the single place that distrusts a command |
//! | `command` | a command of the plan: when it is started, and started anew |
//! | `process` | the command as a process: started, asked, bounded in time and output, ended |
//! | `mask` | what a command says to people, without what reports say |
//! | [`fault`] | everything that can go wrong, named |
//!
//! Whether a command may be run at all is decided by who calls this; nothing here asks a network or reads a data set.
//! `docs/EXTERNAL.md` has the protocol as its users see it.

#![forbid(unsafe_code)]

mod answer;
mod command;
pub mod evaluator;
pub mod fault;
mod mask;
pub mod metric;
mod process;

pub use evaluator::Evaluator;
pub use fault::{Fault, Trouble};
pub use metric::{Metrics, Row};

use common::run::RunPlan;
use std::collections::BTreeMap;

/// Every command that a plan makes a machine run, one a line, for whoever is to allow it.
pub fn commands(plan: &RunPlan) -> Vec<String> {
    let line = |(name, p): (String, &common::run::ProgramPlan)| format!("{name}: {}", p.command.join(" "));
    plan.programs().into_iter().map(line).collect()
}

/// The scores that a command's line gives, each name asked for once: for whoever tests what of a line is believed.
///
/// # Errors
/// [`Trouble::Answer`] or [`Trouble::Said`].
#[doc(hidden)]
pub fn read_answer(line: &str, names: &[String]) -> Result<Vec<BTreeMap<String, f64>>, Trouble> {
    Ok(match answer::read(line, names)? {
        answer::Answer::One(scored) => vec![scored.scores],
        answer::Answer::Each(all) => all.into_iter().map(|scored| scored.scores).collect(),
    })
}
