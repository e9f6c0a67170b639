//! Uniform random points: the baseline that every claim about a search is compared to.

use super::{Domain, Search, Snapshot, Told};
use common::genome::Genome;
use common::seed::Stream;
use serde::{Deserialize, Serialize};

/// Draws each coordinate uniformly and learns nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Random {
    domain: Domain,
    population: usize,
    stream: Stream,
}

impl Random {
    /// A search of a domain. The population only groups candidates for display.
    pub fn new(domain: &Domain, population: usize, stream: Stream) -> Random {
        Random { domain: domain.clone(), population: population.max(1), stream }
    }
}

impl Search for Random {
    fn population(&self) -> usize {
        self.population
    }

    fn ask(&mut self) -> Genome {
        self.domain.uniform(&mut self.stream)
    }

    fn tell(&mut self, _: &[Told]) {}

    fn stop(&self) -> Option<String> {
        None
    }

    fn step_size(&self) -> Option<f64> {
        None
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot::Random(self.clone())
    }
}
