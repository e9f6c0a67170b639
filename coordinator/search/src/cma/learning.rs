//! Learning rates that follow the ratio of signal to noise: for noisy objectives and those of many optima.
//!
//! A step of the update is taken in full only where steps keep agreeing with each other; where they contradict each other
//! the rates of mean and covariance fall, which does what a larger population would.
//!
//! Source: M. Nomura, Y. Akimoto and I. Ono, "CMA-ES with Learning Rate Adaptation", GECCO 2023, arXiv 2304.03473; steps as
//! in `cmaes` 0.13.1, `_cma.py` (`_lr_adaptation`).

use super::distribution::{Distribution, length};
use super::shape::{Roots, Shape};
use crate::linalg::Matrix;
use serde::{Deserialize, Serialize};

/// Signal-to-noise ratio aimed at, and hyperparameters of the paper's section 3.3.
const ALPHA: f64 = 1.4;
const BETA_MEAN: f64 = 0.1;
const BETA_SIGMA: f64 = 0.03;
const GAMMA: f64 = 0.1;

/// Rates and moving averages of the steps that they follow from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Learning {
    mean: Rate,
    covariance: Rate,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rate {
    eta: f64,
    /// Moving average of the local step.
    step: Vec<f64>,
    /// Moving average of its squared length.
    square: f64,
}

impl Rate {
    fn new(numbers: usize) -> Rate {
        Rate { eta: 1.0, step: vec![0.0; numbers], square: 0.0 }
    }

    fn follow(&mut self, local: &[f64], beta: f64) {
        for (e, d) in self.step.iter_mut().zip(local) {
            *e = (1.0 - beta) * *e + beta * d;
        }
        self.square = (1.0 - beta) * self.square + beta * length(local).powi(2);
        let signal = length(&self.step).powi(2);
        let ratio = (signal - beta / (2.0 - beta) * self.square) / (self.square - signal);
        // Steps that were all alike, or all nothing, say nothing of noise.
        let relative = (ratio / ALPHA / self.eta - 1.0).clamp(-1.0, 1.0);
        if relative.is_finite() {
            self.eta = (self.eta * ((GAMMA * self.eta).min(beta) * relative).exp()).min(1.0);
        }
    }
}

impl Learning {
    pub fn new(dimensions: usize) -> Learning {
        Learning { mean: Rate::new(dimensions), covariance: Rate::new(dimensions * dimensions) }
    }

    /// Rates of mean and covariance.
    #[cfg(test)]
    pub fn rates(&self) -> [f64; 2] {
        [self.mean.eta, self.covariance.eta]
    }

    /// Shortens the step from `before` to `after`. Does nothing for a diagonal covariance, which the paper has no rates
    /// for.
    pub fn shorten(&mut self, before: &Distribution, after: &mut Distribution, roots: &Roots) {
        let (Shape::Full(old), Shape::Full(new), Roots::Full { inverse, .. }) =
            (&before.shape, &after.shape, roots)
        else {
            return;
        };
        let n = before.mean.len();
        let moved: Vec<f64> = after.mean.iter().zip(&before.mean).map(|(a, b)| a - b).collect();
        let (old_square, new_square) = (before.sigma * before.sigma, after.sigma * after.sigma);
        let changed = Matrix::from_fn(n, |i, j| new_square * new.at(i, j) - old_square * old.at(i, j));

        let local_mean: Vec<f64> = inverse.times(&moved).into_iter().map(|v| v / before.sigma).collect();
        let scale = 1.0 / (old_square * std::f64::consts::SQRT_2);
        let local = inverse.product(&changed).product(inverse);
        let local_covariance: Vec<f64> = local.cells().iter().map(|c| c * scale).collect();
        let eta_before = self.mean.eta;
        self.mean.follow(&local_mean, BETA_MEAN);
        self.covariance.follow(&local_covariance, BETA_SIGMA);

        let eta = self.covariance.eta;
        let covariance = Matrix::from_fn(n, |i, j| old_square * old.at(i, j) + eta * changed.at(i, j));
        // σ is the geometric mean of the axes; where rounding took one, the step is left as it was.
        let Some((squares, _)) = covariance.eigen().filter(|(s, _)| s.iter().all(|s| *s > 0.0)) else {
            return;
        };
        for ((m, b), d) in after.mean.iter_mut().zip(&before.mean).zip(&moved) {
            *m = b + self.mean.eta * d;
        }
        let sigma = (squares.iter().map(|s| s.ln()).sum::<f64>() / 2.0 / n as f64).exp();
        after.shape = Shape::Full(Matrix::from_fn(n, |i, j| covariance.at(i, j) / (sigma * sigma)));
        // Step-size correction: a shorter mean step goes with a longer reach.
        after.sigma = sigma * eta_before / self.mean.eta;
    }
}
