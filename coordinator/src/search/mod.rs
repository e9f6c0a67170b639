//! Searches: algorithms that ask for genomes and are told how good they were.
//!
//! A search knows nothing of candidates, workers or time. It is asked for one genome after the other, is told
//! whole generations in the order in which it was asked, and can be saved between any two calls: its random
//! stream is part of the snapshot, so that a restored search goes on exactly as the saved one would have.
//! Larger is better everywhere; nothing here minimises.

pub mod cma;
pub mod fixed;
pub mod linalg;
pub mod random;

use common::fitness::Fitness;
use common::genome::Genome;
use common::run::{Algorithm, RunPlan};
use common::seed::Stream;
use serde::{Deserialize, Serialize};
use std::fmt::Debug;

/// One evaluated genome, as a search is told of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// As it was asked for.
    pub genome: Genome,
    /// `None` where it could not be evaluated: the worst of its generation, whatever the others are.
    pub fitness: Option<Fitness>,
}

/// A search algorithm.
pub trait Search: Debug + Send {
    /// Genomes in a generation, at least 1.
    fn population(&self) -> usize;

    /// The next genome.
    fn ask(&mut self) -> Genome;

    /// Learns from a whole generation, in the order in which it was asked for.
    fn tell(&mut self, generation: &[Told]);

    /// Why asking on is useless, once it is.
    fn stop(&self) -> Option<String>;

    /// Step size of the distribution that genomes are drawn from, where there is one.
    fn step_size(&self) -> Option<f64>;

    /// Everything that [`restore`] needs to go on exactly from here.
    fn snapshot(&self) -> Snapshot;
}

/// A saved search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Snapshot {
    /// See [`cma`].
    CmaEs(Box<cma::Cma>),
    /// See [`random`].
    Random(random::Random),
    /// See [`fixed`].
    Fixed(fixed::Fixed),
}

/// The search that a plan asks for, at its beginning.
pub fn begin(plan: &RunPlan) -> Box<dyn Search> {
    let dimensions = plan.space.dimensions();
    let stream = Stream::new(plan.seed, "search");
    match plan.search.algorithm {
        _ if dimensions == 0 => Box::new(fixed::Fixed::default()),
        Algorithm::CmaEs => {
            Box::new(cma::Cma::new(dimensions, plan.search.population, plan.search.sigma, stream))
        }
        Algorithm::Random => Box::new(random::Random::new(dimensions, plan.search.population, stream)),
    }
}

/// The search as it was when the snapshot was taken.
pub fn restore(snapshot: Snapshot) -> Box<dyn Search> {
    match snapshot {
        Snapshot::CmaEs(s) => s,
        Snapshot::Random(s) => Box::new(s),
        Snapshot::Fixed(s) => Box::new(s),
    }
}

/// Positions of a generation from best to worst. Equal ones keep their order, failed ones come last.
fn ranked(generation: &[Told]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..generation.len()).collect();
    // `None < Some`, so that reversing puts failures behind every fitness.
    order.sort_by(|a, b| generation[*b].fitness.cmp(&generation[*a].fitness));
    order
}

#[cfg(test)]
mod tests;
