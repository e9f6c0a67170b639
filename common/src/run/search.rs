//! `[search]`: which algorithm looks where, and for how long.

use super::budget::{self, Budget, Mode};
use super::cma::{self, CmaPlan, is_default};
use super::reader::Section;
use super::starts::{self, StartPoint};
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
    /// When the search learns and is asked.
    #[serde(default, skip_serializing_if = "Mode::is_generational")]
    pub mode: Mode,
    /// Limit of the time that slots hold candidates, in hours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_hours: Option<f64>,
    /// A fitness that is good enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_fitness: Option<f64>,
    /// Results without a better one after which the run ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stagnation: Option<u64>,
    /// What is evaluated before the search asks for points of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub start_points: Vec<StartPoint>,
}

impl SearchPlan {
    /// A plan that says no more than this.
    pub fn new(algorithm: Algorithm, population: usize, sigma: f64, evaluations: u64) -> SearchPlan {
        SearchPlan {
            algorithm,
            population,
            sigma,
            evaluations,
            hours: None,
            cma: CmaPlan::default(),
            startup: None,
            independent: false,
            mode: Mode::default(),
            device_hours: None,
            target_fitness: None,
            stagnation: None,
            start_points: Vec::new(),
        }
    }

    /// What ends the run, unless it is extended.
    pub fn budget(&self) -> Budget {
        Budget {
            evaluations: self.evaluations,
            hours: self.hours,
            device_hours: self.device_hours,
            target_fitness: self.target_fitness,
            stagnation: self.stagnation,
        }
    }
}

/// Reads `[search]` of a space of so many dimensions. `evaluations` is what a file without that key means; `path` makes
/// paths absolute, where the space is one of merges, so that points of it have names.
pub(super) fn read(
    s: &Section<'_>,
    dimensions: usize,
    evaluations: Option<u64>,
    path: Option<&dyn Fn(String) -> String>,
) -> Option<SearchPlan> {
    let algorithm = s.choice("algorithm", &ALGORITHMS, Algorithm::CmaEs);
    let cma = cma::read(s);
    let population = s.integer("population", 2..=100_000, "10");
    let sigma = s.number("sigma", 1e-6..=1.0, "0.1667").unwrap_or(1.0 / 6.0);
    let evaluations = match evaluations {
        Some(default) => s.integer("evaluations", 1..=10_000_000, "1000").or(Some(default)),
        None => s.required_integer("evaluations", 1..=10_000_000, "1000"),
    };
    let hours = s.number("hours", 1e-4..=87_600.0, "24.0");
    let limits = budget::read(s);
    let start_points = path.map(|path| starts::read(s, path)).unwrap_or_default();
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
    let budget::Limits { mode, device_hours, target_fitness, stagnation } = limits;
    Some(SearchPlan {
        algorithm,
        population,
        sigma,
        evaluations,
        hours,
        cma,
        startup,
        independent,
        mode,
        device_hours,
        target_fitness,
        stagnation,
        start_points,
    })
}
