//! The keys of `[search]` that only CMA-ES has.
//!
//! [`CmaPlan::default`] is what plans without these keys mean: the paper's settings. What a run file without them gets,
//! [`CmaPlan::usual`], is written into its plan.

use super::reader::Section;
use serde::{Deserialize, Serialize};

/// How points are kept in the cube.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CmaBounds {
    /// Drawn again, at last clipped: the paper's sampler.
    #[default]
    Resample,
    /// A smooth map of the line onto the interval.
    Transform,
}

/// Learning rates of CMA-ES.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CmaConstants {
    /// Of Hansen's tutorial and the package `cmaes`: the paper's.
    #[default]
    Tutorial,
    /// Of pycma 4.5.0.
    Pycma,
}

/// What is learned of how coordinates go together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Covariance {
    /// Every pair.
    #[default]
    Full,
    /// Each coordinate's own width alone, for many dimensions.
    Separable,
}

/// Whether learning rates follow the noise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LearningRate {
    /// Steps are taken in full.
    #[default]
    Fixed,
    /// Steps are shortened where they contradict each other.
    Adaptive,
}

/// What follows when a run has nothing left to find.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restarts {
    /// The search ends.
    #[default]
    None,
    /// A run of twice the population.
    Ipop,
    /// The same, and small runs between.
    Bipop,
}

/// What is particular to CMA-ES.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CmaPlan {
    /// Key `bounds`.
    #[serde(skip_serializing_if = "is_default")]
    pub bounds: CmaBounds,
    /// Key `constants`.
    #[serde(skip_serializing_if = "is_default")]
    pub constants: CmaConstants,
    /// Key `covariance`.
    #[serde(skip_serializing_if = "is_default")]
    pub covariance: Covariance,
    /// Key `learning_rate`.
    #[serde(skip_serializing_if = "is_default")]
    pub learning_rate: LearningRate,
    /// Key `restarts`.
    #[serde(skip_serializing_if = "is_default")]
    pub restarts: Restarts,
}

/// Evaluations a dimension up to which a small population is ahead: where it was measured (docs/BENCHMARKS.md).
const SMALL_BUDGET: u64 = 100;

impl CmaPlan {
    /// What a run file without these keys gets: what was ahead on BBOB at 100 n evaluations (docs/BENCHMARKS.md).
    pub fn usual() -> CmaPlan {
        CmaPlan { constants: CmaConstants::Pycma, ..CmaPlan::default() }
    }

    /// The population where none is given: Hansen's 4 + ⌊3 ln n⌋, which the paper's sampler uses; with pycma's constants
    /// and a small budget 4 + ⌊1.5 ln n⌋, which makes more and smaller steps.
    pub fn population(&self, dimensions: usize, evaluations: u64) -> usize {
        let small = self.constants == CmaConstants::Pycma && evaluations <= SMALL_BUDGET * dimensions as u64;
        let grows = if small { 1.5 } else { 3.0 };
        4 + (grows * (dimensions.max(1) as f64).ln()).floor() as usize
    }
}

/// Whether a value is what its absence means, and so need not be written.
pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Reads the keys out of `[search]`.
pub(super) fn read(s: &Section<'_>) -> CmaPlan {
    let usual = CmaPlan::usual();
    let bounds = [("resample", CmaBounds::Resample), ("transform", CmaBounds::Transform)];
    let bounds = s.choice("bounds", &bounds, usual.bounds);
    let constants = [("pycma", CmaConstants::Pycma), ("tutorial", CmaConstants::Tutorial)];
    let constants = s.choice("constants", &constants, usual.constants);
    let covariance = [("full", Covariance::Full), ("separable", Covariance::Separable)];
    let covariance = s.choice("covariance", &covariance, usual.covariance);
    let rates = [("fixed", LearningRate::Fixed), ("adaptive", LearningRate::Adaptive)];
    let learning_rate = s.choice("learning_rate", &rates, usual.learning_rate);
    let restarts = [("none", Restarts::None), ("ipop", Restarts::Ipop), ("bipop", Restarts::Bipop)];
    let restarts = s.choice("restarts", &restarts, usual.restarts);
    if covariance == Covariance::Separable && learning_rate == LearningRate::Adaptive {
        let message = "adaptive learning rates need the full covariance";
        s.note(Some("learning_rate"), message, "leave covariance or learning_rate at its default");
    }
    CmaPlan { bounds, constants, covariance, learning_rate, restarts }
}
