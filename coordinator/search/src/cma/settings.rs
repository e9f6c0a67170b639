//! What a CMA-ES is told to be.

use super::constants::Constants;
use common::run::{CmaConstants, CmaPlan, Covariance, LearningRate, SearchPlan};
use serde::{Deserialize, Serialize};

/// Choices that stay for the whole search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Population of the first run, at least 2.
    pub population: usize,
    /// Initial standard deviation in the unit cube.
    pub sigma: f64,
    /// Evaluations that the search may have in all.
    pub evaluations: u64,
    /// What is particular to CMA-ES.
    pub cma: CmaPlan,
}

impl Settings {
    /// Those of a plan.
    pub fn of(plan: &SearchPlan) -> Settings {
        let (population, sigma, evaluations) = (plan.population, plan.sigma, plan.evaluations);
        Settings { population, sigma, evaluations, cma: plan.cma.clone() }
    }

    /// The paper's: bounds by drawing again, the tutorial's constants, no restarts.
    pub fn paper(population: usize, sigma: f64) -> Settings {
        Settings { population, sigma, evaluations: u64::MAX, cma: CmaPlan::default() }
    }

    pub(super) fn diagonal(&self) -> bool {
        self.cma.covariance == Covariance::Separable
    }

    pub(super) fn adapts_rates(&self) -> bool {
        self.cma.learning_rate == LearningRate::Adaptive
    }

    pub(super) fn constants(&self, dimensions: usize, population: usize) -> Constants {
        match self.diagonal() {
            true => Constants::separable(dimensions, population),
            false => Constants::full(dimensions, population, self.constants_choice()),
        }
    }

    fn constants_choice(&self) -> CmaConstants {
        self.cma.constants
    }
}
