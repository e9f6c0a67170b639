//! What follows when a run of CMA-ES is over and the budget is not.
//!
//! - **IPOP**: again from a random mean, with twice the population. A. Auger and N. Hansen, "A Restart CMA Evolution
//!   Strategy With Increasing Population Size", CEC 2005.
//! - **BIPOP**: the same, and between those, runs of small population and small sigma, as long as these have not used more
//!   evaluations than the large ones. N. Hansen, "Benchmarking a BI-Population CMA-ES on the BBOB-2009 Function Testbed",
//!   GECCO 2009 workshop; accounts as in pycma 4.5.0, `fmin2(bipop=True)`.
//!
//! Aware of the budget: a population is not doubled beyond what leaves room for [`LEAST_GENERATIONS`].

use common::run::Restarts;
use common::seed::Stream;
use serde::{Deserialize, Serialize};

/// Generations that a restart should have room for.
const LEAST_GENERATIONS: u64 = 30;
/// Reasons that are kept, the latest; snapshots must not grow with the number of restarts.
const KEPT: usize = 50;

/// Runs made until now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    kind: Restarts,
    /// Evaluations in all.
    budget: u64,
    /// Results told, of all runs.
    told: u64,
    /// Results told before the present run.
    before: u64,
    small: bool,
    spent_small: u64,
    spent_large: u64,
    doublings: u32,
    /// Number of restarts.
    pub(super) restarts: u64,
    pub(super) remarks: Vec<String>,
}

/// The next run.
#[derive(Debug, PartialEq)]
pub(super) struct Next {
    pub population: usize,
    /// Factor of the initial sigma.
    pub narrower: f64,
}

impl Schedule {
    pub fn new(kind: Restarts, budget: u64) -> Schedule {
        Schedule {
            kind,
            budget,
            told: 0,
            before: 0,
            small: true,
            spent_small: 0,
            spent_large: 0,
            doublings: 0,
            restarts: 0,
            remarks: Vec::new(),
        }
    }

    /// Counts a result.
    pub fn count(&mut self) {
        self.told += 1;
    }

    /// The run that follows one that ended for `reason`; `first` is the first run's population. `None` without restarts.
    pub fn next(&mut self, reason: &str, first: usize, stream: &mut Stream) -> Option<Next> {
        if self.kind == Restarts::None {
            return None;
        }
        let spent = self.told - self.before;
        self.before = self.told;
        match self.small {
            true => self.spent_small += spent,
            false => self.spent_large += spent,
        }
        self.small = self.kind == Restarts::Bipop && self.restarts > 0 && self.spent_small < self.spent_large;
        let next = match self.small {
            true => {
                let large = f64::from(1u32 << self.doublings);
                let (u, v) = (stream.uniform(), stream.uniform());
                let population = (first as f64 * (0.5 * large).powf(u * u)) as usize;
                Next { population: population.max(first), narrower: 10f64.powf(-2.0 * v) }
            }
            false => {
                let room = self.budget.saturating_sub(self.told) / LEAST_GENERATIONS;
                if (first as u64) << (self.doublings + 1) <= room && self.doublings < 20 {
                    self.doublings += 1;
                }
                Next { population: first << self.doublings, narrower: 1.0 }
            }
        };
        self.restarts += 1;
        if self.remarks.len() == KEPT {
            self.remarks.remove(0);
        }
        let (restart, told, population) = (self.restarts, self.told, next.population);
        self.remarks
            .push(format!("restart {restart} after {told} results, population {population}: {reason}"));
        Some(next)
    }
}
