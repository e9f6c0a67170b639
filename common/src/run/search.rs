//! `[search]`: which algorithm looks where, and for how long.

use super::reader::Section;
use serde::{Deserialize, Serialize};

/// Search algorithms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    /// CMA-ES in the unit cube.
    CmaEs,
    /// Uniform random points: the baseline.
    Random,
}

impl Algorithm {
    /// Whether it is told every objective; others are told the fitness alone.
    pub fn takes_several_objectives(self) -> bool {
        match self {
            Algorithm::CmaEs | Algorithm::Random => false,
        }
    }
}

/// How the space is searched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SearchPlan {
    /// The algorithm.
    pub algorithm: Algorithm,
    /// Candidates a generation.
    pub population: usize,
    /// Initial standard deviation in the unit cube.
    pub sigma: f64,
    /// Candidates to evaluate in all.
    pub evaluations: u64,
    /// Wall-clock limit, in hours.
    pub hours: Option<f64>,
}

/// Reads `[search]` of a space of so many dimensions.
pub(super) fn read(s: &Section<'_>, dimensions: usize) -> Option<SearchPlan> {
    let algorithms = [("cma-es", Algorithm::CmaEs), ("random", Algorithm::Random)];
    // Hansen's default, which the paper's sampler uses: 4 + ⌊3 ln n⌋.
    let default = 4 + (3.0 * (dimensions.max(1) as f64).ln()).floor() as u64;
    let algorithm = s.choice("algorithm", &algorithms, Algorithm::CmaEs);
    let population = s.integer("population", 2..=100_000, "10").unwrap_or(default);
    let sigma = s.number("sigma", 1e-6..=1.0, "0.1667").unwrap_or(1.0 / 6.0);
    let evaluations = s.required_integer("evaluations", 1..=10_000_000, "1000");
    let hours = s.number("hours", 1e-4..=87_600.0, "24.0");
    s.finish();
    Some(SearchPlan { algorithm, population: population as usize, sigma, evaluations: evaluations?, hours })
}
