//! The search distribution `N(m, σ² C)`, its evolution paths, and one step of learning from ranked points.
//!
//! Equation numbers are those of the tutorial (arXiv 1604.00772); the steps are those of `cmaes` 0.13.1.

use super::constants::Constants;
use super::shape::{EPS, Roots, Shape};
use serde::{Deserialize, Serialize};

const SIGMA_MAX: f64 = 1e32;

/// A normal distribution in latent coordinates, and how it moved of late.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Distribution {
    pub mean: Vec<f64>,
    pub sigma: f64,
    pub shape: Shape,
    pub path_sigma: Vec<f64>,
    pub path_c: Vec<f64>,
    /// Steps made.
    pub generation: u64,
}

/// A point that takes part in a step.
pub(super) struct Point {
    /// Where it lies from the mean, in units of sigma: `(x − m) / σ`.
    pub y: Vec<f64>,
    /// The same within the distribution that drew it; equals `y` where that is the present one.
    pub own: Vec<f64>,
}

impl Distribution {
    pub fn new(mean: Vec<f64>, sigma: f64, shape: Shape) -> Distribution {
        let n = mean.len();
        Distribution { mean, sigma, shape, path_sigma: vec![0.0; n], path_c: vec![0.0; n], generation: 0 }
    }

    /// Distance of a latent point from the mean, in units of sigma.
    pub fn scaled(&self, x: &[f64]) -> Vec<f64> {
        x.iter().zip(&self.mean).map(|(x, m)| (x - m) / self.sigma).collect()
    }

    /// Standard deviation of a coordinate.
    pub fn deviation(&self, i: usize) -> f64 {
        self.sigma * self.shape.variance(i).max(0.0).sqrt()
    }

    /// One generation's update. `points` are sorted from best to worst; `incomparable` marks those that share weights.
    pub fn update(&mut self, points: &[Point], incomparable: &[bool], k: &Constants, roots: &Roots) {
        let n = self.mean.len();
        let (recombined, spread) = k.shared(incomparable);
        self.generation += 1;
        let weighted = |of: fn(&Point) -> &Vec<f64>| -> Vec<f64> {
            let term = |j: usize| points.iter().zip(&recombined).map(move |(p, w)| of(p)[j] * w);
            (0..n).map(|j| term(j).sum()).collect()
        };

        // (eq. 41), (eq. 42) with c_m = 1
        let y_w = weighted(|p| &p.y);
        for (m, y) in self.mean.iter_mut().zip(&y_w) {
            *m += self.sigma * y;
        }

        // (eq. 43)
        let push = (k.c_sigma * (2.0 - k.c_sigma) * k.mu_eff).sqrt();
        for (p, z) in self.path_sigma.iter_mut().zip(roots.whiten(&weighted(|p| &p.own))) {
            *p = (1.0 - k.c_sigma) * *p + push * z;
        }
        let norm = length(&self.path_sigma);
        // (eq. 44)
        self.sigma *= ((k.c_sigma / k.d_sigma) * (norm / k.chi_n - 1.0)).exp();
        self.sigma = self.sigma.min(SIGMA_MAX);

        // (p. 28)
        let settled = norm / (1.0 - (1.0 - k.c_sigma).powf(2.0 * (self.generation + 1) as f64)).sqrt();
        let h_sigma = f64::from(settled < (1.4 + 2.0 / (n as f64 + 1.0)) * k.chi_n);
        // (eq. 45)
        let push = h_sigma * (k.cc * (2.0 - k.cc) * k.mu_eff).sqrt();
        for (p, y) in self.path_c.iter_mut().zip(weighted(|p| &p.own)) {
            *p = (1.0 - k.cc) * *p + push * y;
        }

        // (eq. 46)
        let stretched = |(w, p): (&f64, &Point)| match *w >= 0.0 {
            true => *w,
            false => w * n as f64 / (length(&roots.whiten(&p.own)).powi(2) + EPS),
        };
        let balanced: Vec<f64> = spread.iter().zip(points).map(stretched).collect();
        // (eq. 47)
        let delta = (1.0 - h_sigma) * k.cc * (2.0 - k.cc);
        let sum: f64 = spread.iter().sum();
        self.shape.scale(1.0 + k.c1 * delta - k.c1 - k.cmu * sum);
        self.shape.add_outer(k.c1, &self.path_c);
        for (w, p) in balanced.iter().zip(points).filter(|(w, _)| **w != 0.0) {
            self.shape.add_outer(k.cmu * w, &p.own);
        }
    }

    /// Keeps every coordinate's standard deviation at or below a limit.
    pub fn limit(&mut self, deviation: f64) {
        for i in 0..self.mean.len() {
            let now = self.deviation(i);
            if now > deviation {
                self.shape.stretch(i, deviation / now);
            }
        }
    }

    pub fn is_finite(&self) -> bool {
        let all = |v: &[f64]| v.iter().all(|x| x.is_finite());
        let numbers = all(&self.mean) && all(&self.path_sigma) && all(&self.path_c);
        numbers && self.sigma.is_finite() && self.sigma > 0.0 && self.shape.is_finite()
    }
}

pub(super) fn length(v: &[f64]) -> f64 {
    v.iter().map(|x| x * x).sum::<f64>().sqrt()
}
