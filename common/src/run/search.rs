//! `[search]`: which algorithm looks where, and for how long.

use super::cma::{self, CmaPlan, is_default};
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
    /// Sobol's sequence, scrambled.
    Sobol,
    /// The tree-structured Parzen estimator.
    Tpe,
    /// Differential evolution, L-SHADE.
    De,
    /// NSGA-II, for several objectives.
    #[serde(rename = "nsga-ii")]
    Nsga2,
}

/// Every algorithm by the name that run files call it.
pub const ALGORITHMS: [(&str, Algorithm); 6] = [
    ("cma-es", Algorithm::CmaEs),
    ("tpe", Algorithm::Tpe),
    ("de", Algorithm::De),
    ("nsga-ii", Algorithm::Nsga2),
    ("sobol", Algorithm::Sobol),
    ("random", Algorithm::Random),
];

impl Algorithm {
    /// The name that run files call it.
    pub fn name(self) -> &'static str {
        ALGORITHMS.iter().find(|(_, a)| *a == self).expect("every algorithm has a name").0
    }

    /// Whether it searches for a front of several objectives; others are told the fitness alone.
    pub fn takes_several_objectives(self) -> bool {
        match self {
            Algorithm::Nsga2 | Algorithm::Sobol | Algorithm::Random => true,
            Algorithm::CmaEs | Algorithm::Tpe | Algorithm::De => false,
        }
    }

    /// Candidates a generation where nothing is said.
    fn default_population(self, dimensions: usize) -> u64 {
        // Hansen's default, which the paper's sampler uses: 4 + ⌊3 ln n⌋.
        let hansen = 4 + (3.0 * (dimensions.max(1) as f64).ln()).floor() as u64;
        match self {
            Algorithm::CmaEs | Algorithm::Tpe | Algorithm::Sobol | Algorithm::Random => hansen,
            // L-SHADE's own 18 n is for 10,000 n evaluations; with 100 n it would see half a dozen generations.
            Algorithm::De => 2 * hansen,
            // A front needs members to spread over.
            Algorithm::Nsga2 => 4 * hansen,
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
    /// What is particular to CMA-ES; nothing is written where all is as in the paper.
    #[serde(default, skip_serializing_if = "is_default")]
    pub cma: CmaPlan,
    /// TPE: results before its densities are used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup: Option<usize>,
    /// TPE: each coordinate is searched alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub independent: bool,
}

/// Reads `[search]` of a space of so many dimensions. `evaluations` is what a file without that key means.
pub(super) fn read(s: &Section<'_>, dimensions: usize, evaluations: Option<u64>) -> Option<SearchPlan> {
    let algorithm = s.choice("algorithm", &ALGORITHMS, Algorithm::CmaEs);
    let cma = cma::read(s);
    let population = s.integer("population", 2..=100_000, "10");
    let sigma = s.number("sigma", 1e-6..=1.0, "0.1667").unwrap_or(1.0 / 6.0);
    let evaluations = match evaluations {
        Some(default) => s.integer("evaluations", 1..=10_000_000, "1000").or(Some(default)),
        None => s.required_integer("evaluations", 1..=10_000_000, "1000"),
    };
    let hours = s.number("hours", 1e-4..=87_600.0, "24.0");
    let startup = s.integer("startup", 1..=100_000, "10").map(|n| n as usize);
    let independent = s.boolean("independent").unwrap_or(false);
    for key in ["startup", "independent"] {
        if s.has(key) && algorithm != Algorithm::Tpe {
            s.note(Some(key), "is for TPE alone", "remove it, or set algorithm = \"tpe\"");
        }
    }
    s.finish();
    let evaluations = evaluations?;
    let population = population.unwrap_or_else(|| match algorithm {
        Algorithm::CmaEs => cma.population(dimensions, evaluations) as u64,
        _ => algorithm.default_population(dimensions),
    }) as usize;
    Some(SearchPlan { algorithm, population, sigma, evaluations, hours, cma, startup, independent })
}
