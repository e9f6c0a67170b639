//! Results in one total order, for searches that compare one with another.
//!
//! A bound says that the genome would not have been better than that. Whether it was better than something scored
//! below the bound nobody knows, so that a bound counts less than every score, and more than failure.

use super::{Outcome, Told};
use common::fitness::Fitness;
use serde::{Deserialize, Serialize};

/// What a result is worth to a search of one objective. The order of the variants is the order of worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Worth {
    Failed,
    Censored(Fitness),
    Scored(Fitness),
}

impl Worth {
    pub fn of(told: &Told) -> Worth {
        match &told.outcome {
            Outcome::Scored(objectives) => objectives.first().map_or(Worth::Failed, |f| Worth::Scored(*f)),
            Outcome::Censored(bound) => Worth::Censored(*bound),
            Outcome::Failed => Worth::Failed,
        }
    }

    pub fn score(self) -> Option<f64> {
        match self {
            Worth::Scored(fitness) => Some(fitness.value()),
            Worth::Censored(_) | Worth::Failed => None,
        }
    }
}
