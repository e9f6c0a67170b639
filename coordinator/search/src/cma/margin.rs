//! Integers with margin: however narrow the distribution becomes, the values beside the most likely one keep a least
//! probability, so that an integer never freezes.
//!
//! Source: R. Hamano, S. Saito, M. Nomura and S. Shirakawa, "CMA-ES with Margin", GECCO 2022, arXiv 2205.13482; steps as in
//! `cmaes` 0.13.1, `_cmawm.py`, with the unit interval's k parts as the grid.

use super::distribution::Distribution;
use super::latent::{middle, value};
use super::normal::{cumulative, quantile};
use serde::{Deserialize, Serialize};

/// The stretched rounding of integers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Margin {
    /// Latent position and number of values of each integer.
    integers: Vec<(usize, u32)>,
    /// Least probability of the values beyond the most likely one, both sides together.
    probability: f64,
    /// How much wider the rounding sees each integer's distribution: diagonal of the paper's A.
    pub(super) stretch: Vec<f64>,
}

impl Margin {
    pub fn new(integers: Vec<(usize, u32)>, dimensions: usize, population: usize) -> Margin {
        let probability = 1.0 / (dimensions * population) as f64;
        let stretch = vec![1.0; integers.len()];
        Margin { integers, probability, stretch }
    }

    /// See the field.
    pub fn probability(&self) -> f64 {
        self.probability
    }

    /// The middle of the part that a latent value of the integer at a position is rounded to.
    pub fn round(&self, at: usize, v: f64, mean: f64, values: u32) -> f64 {
        let a = self.stretch_at(at);
        middle(nearest((v - mean) * a + mean, values), values)
    }

    /// The latent value that is rounded to a coordinate and lies nearest to the distribution.
    pub fn unround(&self, at: usize, coordinate: f64, mean: f64) -> f64 {
        mean + (coordinate - mean) / self.stretch_at(at)
    }

    fn stretch_at(&self, at: usize) -> f64 {
        self.integers.iter().position(|(i, _)| *i == at).map_or(1.0, |i| self.stretch[i])
    }

    /// Moves mean and stretch so that the margin is kept. Section 4 of the paper.
    pub fn correct(&mut self, distribution: &mut Distribution) {
        let alpha = self.probability;
        for (&(at, k), a) in self.integers.iter().zip(&mut self.stretch) {
            let m = distribution.mean[at];
            let deviation = distribution.deviation(at);
            // Limits of the value that the mean is rounded to; at an end, of its only limit and the next.
            let position = nearest(m, k);
            let limit = |below: u32| f64::from(below + 1) / f64::from(k);
            let low = limit(position.saturating_sub(1).min(k - 2));
            let high = limit(position.min(k - 2));
            let p_low = cumulative((low - m) / (*a * deviation));
            let p_high = cumulative((m - high) / (*a * deviation));
            let middle = 1.0 - (p_low + p_high);
            // √(χ²-quantile of one degree of freedom at 1 − 2p) is the normal quantile at 1 − p.
            let distance = |p: f64| -quantile(p);
            if p_low.max(p_high) > 0.5 {
                if p_low.min(p_high) < alpha {
                    let side = if m > high {
                        1.0
                    } else if m < high {
                        -1.0
                    } else {
                        0.0
                    };
                    distribution.mean[at] = high + side * deviation * *a * distance(alpha);
                }
            } else {
                let half = alpha / 2.0;
                let (l, h) = (p_low.max(half), p_high.max(half));
                let over = (1.0 - l - h - middle) / (l + middle + h - 3.0 * half);
                let fit = |p: f64| (p + over * (p - half)).clamp(1e-10, 0.5 - 1e-10);
                let (to_low, to_high) = (distance(fit(l)), distance(fit(h)));
                *a = (high - low) / ((to_low + to_high) * deviation);
                distribution.mean[at] = (low * to_high + high * to_low) / (to_low + to_high);
            }
        }
    }
}

/// The value nearest to a latent coordinate; of two the lower.
fn nearest(v: f64, values: u32) -> u32 {
    let index = value(v.clamp(0.0, 1.0), values);
    if index > 0 && v <= f64::from(index) / f64::from(values) { index - 1 } else { index }
}
