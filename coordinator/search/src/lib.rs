//! Searches: algorithms that ask for genomes and are told how good they were.
//!
//! A search knows nothing of candidates, workers or time. It is asked for one genome after the other, is told
//! results in the order in which they were recorded, and can be saved between any two calls: its random
//! stream is part of the snapshot, so that a restored search goes on exactly as the saved one would have.
//! Larger is better everywhere; nothing here minimises.
//!
//! How the two modes use it:
//! - **generational**: a whole population is asked for, and told when all of it is final, in the order in which it was
//!   asked for;
//! - **asynchronous**: a genome is asked for whenever one is wanted, and each result is told when it is recorded. A
//!   search collects results until they make a step, whatever distribution they were drawn from.
//!
//! Genomes that the search did not ask for (starting points, results of another search) are told like any other.

#![forbid(unsafe_code)]

pub mod cma;
pub mod de;
pub mod dialogue;
pub mod domain;
pub mod fixed;
mod forest;
pub mod importance;
pub mod linalg;
pub mod nsga2;
mod outstanding;
pub mod pareto;
mod parzen;
pub mod random;
pub mod sobol;
pub mod starting;
pub mod told;
pub mod tpe;
mod worth;

pub use domain::{Dimension, Domain};
pub use starting::Starting;
pub use told::{Outcome, Told};

use common::genome::Genome;
use common::run::{Algorithm, SearchPlan};
use common::seed::Stream;
use serde::{Deserialize, Serialize};
use std::fmt::Debug;

/// A search algorithm.
pub trait Search: Debug + Send {
    /// Results that make one step of learning, at least 1; the size of the next generation.
    fn population(&self) -> usize;

    /// The next genome. Never waits for results.
    fn ask(&mut self) -> Genome;

    /// Learns from results, in the order in which they were recorded: a generation, or any other number of them.
    fn tell(&mut self, results: &[Told]);

    /// Why asking on is useless, once it is.
    fn stop(&self) -> Option<String>;

    /// Step size of the distribution that genomes are drawn from, where there is one.
    fn step_size(&self) -> Option<f64>;

    /// What happened that a report should say, such as restarts and their reasons; the latest, in order.
    fn remarks(&self) -> Vec<String> {
        Vec::new()
    }

    /// Everything that [`restore`] needs to go on exactly from here.
    fn snapshot(&self) -> Snapshot;
}

/// A saved search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Snapshot {
    /// See [`cma`].
    CmaEs(cma::Saved),
    /// See [`random`].
    Random(random::Random),
    /// See [`sobol`].
    Sobol(sobol::Sobol),
    /// See [`tpe`].
    Tpe(Box<tpe::Tpe>),
    /// See [`de`].
    De(Box<de::De>),
    /// See [`nsga2`].
    Nsga2(Box<nsga2::Nsga2>),
    /// See [`starting`].
    Starting {
        /// Genomes that come first.
        queue: std::collections::VecDeque<Genome>,
        /// The search behind them.
        search: Box<Snapshot>,
    },
    /// See [`fixed`].
    Fixed(fixed::Fixed),
}

/// The search that a plan asks for, at its beginning.
pub fn begin(plan: &SearchPlan, domain: &Domain, stream: Stream) -> Box<dyn Search> {
    let dimensions = domain.dimensions.len();
    match plan.algorithm {
        _ if dimensions == 0 => Box::new(fixed::Fixed::default()),
        Algorithm::CmaEs => Box::new(cma::Cma::new(cma::Settings::of(plan), domain, stream)),
        Algorithm::Random => Box::new(random::Random::new(domain, plan.population, stream)),
        Algorithm::Sobol => Box::new(sobol::Sobol::new(domain, plan.population, stream)),
        Algorithm::Tpe => {
            let mut choices = tpe::Choices { independent: plan.independent, ..Default::default() };
            choices.startup = plan.startup.unwrap_or(choices.startup);
            Box::new(tpe::Tpe::new(domain, plan.population, choices, stream))
        }
        Algorithm::De => Box::new(de::De::new(domain, plan.population, plan.evaluations, stream)),
        Algorithm::Nsga2 => Box::new(nsga2::Nsga2::new(domain, plan.population, stream)),
    }
}

/// A CMA-ES that begins with a distribution known to be good, whatever algorithm the plan names: from earlier results
/// ([`cma::Start::from_results`]) or a search of fewer dimensions ([`cma::Start::given`]). The start's sigma counts, not
/// the plan's.
///
/// Panics where the domain has no dimension, or the start another number of them.
pub fn begin_at(plan: &SearchPlan, domain: &Domain, start: &cma::Start, stream: Stream) -> Box<dyn Search> {
    Box::new(cma::Cma::from_start(cma::Settings::of(plan), domain, start, stream))
}

/// What a search begins from, beside its plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Beginning {
    /// Genomes to be evaluated first.
    pub starts: Vec<Genome>,
    /// What is known already, in the order in which it was recorded, whichever algorithm asked for it.
    pub history: Vec<Told>,
}

/// A genome was made for another space.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "a genome has {found} coordinates and the space {expected}: results of another space are no history of this one"
)]
pub struct OtherSpace {
    /// Coordinates of the space.
    pub expected: usize,
    /// Coordinates of the genome.
    pub found: usize,
}

/// The search that a plan asks for, with starting points and with what is known already. So a search goes on with
/// another algorithm: its earlier results are the history of the new one.
pub fn begin_from(
    plan: &SearchPlan,
    domain: &Domain,
    stream: Stream,
    beginning: Beginning,
) -> Result<Starting, OtherSpace> {
    let expected = domain.dimensions.len();
    let genomes = beginning.starts.iter().chain(beginning.history.iter().map(|t| &t.genome));
    let other = |found: usize| (found != expected).then_some(OtherSpace { expected, found });
    if let Some(error) = genomes.map(|g| g.coordinates().len()).find_map(other) {
        return Err(error);
    }
    let mut search = begin(plan, domain, stream);
    if !beginning.history.is_empty() {
        search.tell(&beginning.history);
    }
    Ok(Starting::new(beginning.starts, search))
}

/// The search as it was when the snapshot was taken.
pub fn restore(snapshot: Snapshot) -> Box<dyn Search> {
    match snapshot {
        Snapshot::CmaEs(s) => s.restore(),
        Snapshot::Random(s) => Box::new(s),
        Snapshot::Fixed(s) => Box::new(s),
        Snapshot::Sobol(s) => Box::new(s),
        Snapshot::Tpe(s) => s,
        Snapshot::De(s) => s,
        Snapshot::Nsga2(s) => s,
        Snapshot::Starting { queue, search } => Box::new(Starting::new(queue, restore(*search))),
    }
}

#[cfg(test)]
mod tests;
