//! CMA-ES in the unit cube, as the paper ran it.
//!
//! Equation numbers are those of N. Hansen, "The CMA Evolution Strategy: A Tutorial", arXiv 1604.00772.
//! Constants and update follow the package `cmaes` 0.13.1 (CyberAgentAILab, `cmaes/_cma.py`) step by step,
//! with the settings of Optuna's sampler: mean 0.5, sigma 1/6, population 4 + ⌊3 ln n⌋, bounds by drawing
//! again up to 10·n times and then clipping. `tests/data/cma_reference.json` holds its steps.
//!
//! On purpose, this differs in:
//! - **Direction.** It maximises.
//! - **The square root.** A point is `m + σ C^½ z` with the symmetric root `B D Bᵀ`, where `cmaes` has `B D z`.
//!   The distribution is the same, but the point no longer depends on the signs and order of eigenvectors,
//!   which libraries choose as they like.
//! - **Failure.** A candidate without fitness ranks last. An update that would not be finite is not made, and
//!   the search ends, saying so.
//! - **Ends.** `cmaes` takes the square root of the condition number for the condition number, and variances
//!   for standard deviations in `tolx`; here they are what their names say.

use super::linalg::Matrix;
use super::told::ranked;
use super::{Search, Snapshot, Told};
use common::genome::Genome;
use common::seed::Stream;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Takes the place of an eigenvalue that rounding made negative, and guards a division (both as in `cmaes`).
const EPS: f64 = 1e-8;
const SIGMA_MAX: f64 = 1e32;
/// The search ends when the best and worst of many generations differ by less.
const TOL_FUN: f64 = 1e-12;
/// … when the distribution is this much narrower than it began.
const TOL_X: f64 = 1e-12;
/// … when it is this wide.
const TOL_X_UP: f64 = 1e4;
/// … when its covariance has this condition number.
const TOL_CONDITION: f64 = 1e14;

/// A CMA-ES with its random stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cma {
    population: usize,
    initial_sigma: f64,
    generation: u64,
    mean: Vec<f64>,
    sigma: f64,
    covariance: Matrix,
    path_sigma: Vec<f64>,
    path_c: Vec<f64>,
    /// Best and worst of the last generations, oldest first.
    history: VecDeque<(f64, f64)>,
    /// Why the search is over.
    ended: Option<String>,
    stream: Stream,
    /// Follows from `covariance`; computed when first needed, since a snapshot is taken after every update.
    #[serde(skip)]
    roots: Option<Roots>,
}

/// `C^½` and `C^-½`, and the axes that they came from.
#[derive(Clone, Debug, PartialEq)]
struct Roots {
    root: Matrix,
    inverse: Matrix,
    /// Lengths of the axes, `D`.
    lengths: Vec<f64>,
    /// Directions of the axes, `B`, as columns.
    axes: Matrix,
}

/// What follows from dimension and population alone.
#[derive(Clone, Debug, PartialEq)]
struct Constants {
    mu: usize,
    weights: Vec<f64>,
    mu_eff: f64,
    c1: f64,
    cmu: f64,
    c_sigma: f64,
    d_sigma: f64,
    cc: f64,
    chi_n: f64,
}

impl Constants {
    fn new(dimensions: usize, population: usize) -> Constants {
        let (n, lambda) = (dimensions as f64, population as f64);
        let mu = population / 2;
        // (eq. 49)
        let prime: Vec<f64> =
            (0..population).map(|i| ((lambda + 1.0) / 2.0).ln() - ((i + 1) as f64).ln()).collect();
        let effective = |w: &[f64]| w.iter().sum::<f64>().powi(2) / w.iter().map(|x| x * x).sum::<f64>();
        let (mu_eff, mu_eff_minus) = (effective(&prime[..mu]), effective(&prime[mu..]));

        let alpha_cov = 2.0;
        let c1 = alpha_cov / ((n + 1.3).powi(2) + mu_eff); // (eq. 57)
        let cmu = (alpha_cov * (mu_eff - 2.0 + 1.0 / mu_eff)
            / ((n + 2.0).powi(2) + alpha_cov * mu_eff / 2.0)) // (eq. 58)
            .min(1.0 - c1 - 1e-8); // for large populations

        let min_alpha = (1.0 + c1 / cmu) // (eq. 50)
            .min(1.0 + 2.0 * mu_eff_minus / (mu_eff + 2.0)) // (eq. 51)
            .min((1.0 - c1 - cmu) / (n * cmu)); // (eq. 52)
        let positive: f64 = prime.iter().filter(|w| **w > 0.0).sum();
        let negative: f64 = prime.iter().filter(|w| **w < 0.0).map(|w| w.abs()).sum();
        // (eq. 53)
        let weight = |w: &f64| if *w >= 0.0 { w / positive } else { min_alpha / negative * w };
        let weights = prime.iter().map(weight).collect();

        // (eq. 55), with `cmaes`'s 5 in the denominator, as in the tutorial; pycma has 3.
        let c_sigma = (mu_eff + 2.0) / (n + mu_eff + 5.0);
        let d_sigma = 1.0 + 2.0 * (((mu_eff - 1.0) / (n + 1.0)).sqrt() - 1.0).max(0.0) + c_sigma;
        let cc = (4.0 + mu_eff / n) / (n + 4.0 + 2.0 * mu_eff / n); // (eq. 56)
        // E‖N(0, I)‖ (p. 28)
        let chi_n = n.sqrt() * (1.0 - 1.0 / (4.0 * n) + 1.0 / (21.0 * n * n));
        Constants { mu, weights, mu_eff, c1, cmu, c_sigma, d_sigma, cc, chi_n }
    }
}

impl Cma {
    /// A search from the middle of the cube. `dimensions` is at least 1, `population` at least 2.
    pub fn new(dimensions: usize, population: usize, sigma: f64, stream: Stream) -> Cma {
        assert!(dimensions > 0 && population > 1 && sigma > 0.0, "the plan was checked");
        Cma {
            population,
            initial_sigma: sigma,
            generation: 0,
            mean: vec![0.5; dimensions],
            sigma,
            covariance: Matrix::identity(dimensions),
            path_sigma: vec![0.0; dimensions],
            path_c: vec![0.0; dimensions],
            history: VecDeque::new(),
            ended: None,
            stream,
            roots: None,
        }
    }

    /// A search that begins with the normal distribution of this mean and `sigma² · covariance`, which is positive
    /// definite: where an earlier search ended.
    pub fn from_distribution(
        mean: Vec<f64>,
        covariance: Matrix,
        sigma: f64,
        population: usize,
        stream: Stream,
    ) -> Cma {
        assert!(covariance.side() == mean.len(), "a covariance of the mean's coordinates");
        Cma { covariance, mean: mean.clone(), ..Cma::new(mean.len(), population, sigma, stream) }
    }

    /// Mean and covariance of what is drawn, the step size included.
    pub fn distribution(&self) -> (Vec<f64>, Vec<Vec<f64>>) {
        let n = self.mean.len();
        let cell = |i, j| self.sigma * self.sigma * self.covariance.at(i, j);
        (self.mean.clone(), (0..n).map(|i| (0..n).map(|j| cell(i, j)).collect()).collect())
    }

    /// A pure function of the covariance, or a restored search would differ from the saved one in its last bits.
    fn roots(&mut self) -> Roots {
        if let Some(roots) = &self.roots {
            return roots.clone();
        }
        let (squares, axes) = self.covariance.eigen().expect("only covariances that have one are kept");
        let lengths: Vec<f64> = squares.into_iter().map(|d| mended(d).sqrt()).collect();
        let inverse = axes.recompose(&lengths.iter().map(|d| 1.0 / d).collect::<Vec<_>>());
        let roots = Roots { root: axes.recompose(&lengths), inverse, lengths, axes };
        self.roots = Some(roots.clone());
        roots
    }

    /// Lifts eigenvalues that rounding made negative, as `cmaes` does. False where there are none to be had.
    fn mend(&mut self) -> bool {
        let Some((squares, axes)) = self.covariance.eigen() else { return false };
        if squares.iter().any(|d| *d <= 0.0) {
            self.covariance = axes.recompose(&squares.into_iter().map(mended).collect::<Vec<_>>());
        }
        self.covariance.is_finite()
    }

    /// The next point, made of the standard normal numbers that `normal` yields.
    fn draw(&mut self, normal: &mut dyn FnMut() -> f64) -> Vec<f64> {
        let n = self.mean.len();
        let roots = self.roots();
        let mut sample = || -> Vec<f64> {
            let z: Vec<f64> = (0..n).map(|_| normal()).collect();
            let y = roots.root.times(&z);
            self.mean.iter().zip(y).map(|(m, y)| m + self.sigma * y).collect()
        };
        for _ in 0..10 * n {
            let x = sample();
            if x.iter().all(|v| (0.0..=1.0).contains(v)) {
                return x;
            }
        }
        sample().into_iter().map(|v| v.clamp(0.0, 1.0)).collect()
    }

    /// One generation's update. `points` are sorted from best to worst.
    fn update(&mut self, points: &[&[f64]]) {
        let n = self.mean.len();
        let k = Constants::new(n, points.len());
        let roots = self.roots();
        self.roots = None;
        let g = self.generation;
        let scaled = |x: &&[f64]| -> Vec<f64> {
            x.iter().zip(&self.mean).map(|(x, m)| (x - m) / self.sigma).collect()
        };
        let y: Vec<Vec<f64>> = points.iter().map(scaled).collect();

        // (eq. 41), (eq. 42) with c_m = 1
        let y_w: Vec<f64> = (0..n).map(|j| (0..k.mu).map(|i| y[i][j] * k.weights[i]).sum()).collect();
        for (m, y) in self.mean.iter_mut().zip(&y_w) {
            *m += self.sigma * y;
        }

        // (eq. 43)
        let push = (k.c_sigma * (2.0 - k.c_sigma) * k.mu_eff).sqrt();
        for (p, z) in self.path_sigma.iter_mut().zip(roots.inverse.times(&y_w)) {
            *p = (1.0 - k.c_sigma) * *p + push * z;
        }
        let norm = length(&self.path_sigma);
        // (eq. 44)
        self.sigma *= ((k.c_sigma / k.d_sigma) * (norm / k.chi_n - 1.0)).exp();
        self.sigma = self.sigma.min(SIGMA_MAX);

        // (p. 28)
        let settled = norm / (1.0 - (1.0 - k.c_sigma).powf(2.0 * (g + 1) as f64)).sqrt();
        let h_sigma = f64::from(settled < (1.4 + 2.0 / (n as f64 + 1.0)) * k.chi_n);
        // (eq. 45)
        let push = h_sigma * (k.cc * (2.0 - k.cc) * k.mu_eff).sqrt();
        for (p, y) in self.path_c.iter_mut().zip(&y_w) {
            *p = (1.0 - k.cc) * *p + push * y;
        }

        // (eq. 46)
        let stretched = |(w, y): (&f64, &Vec<f64>)| match *w >= 0.0 {
            true => *w,
            false => w * n as f64 / (length(&roots.inverse.times(y)).powi(2) + EPS),
        };
        let weights_io: Vec<f64> = k.weights.iter().zip(&y).map(stretched).collect();
        // (eq. 47)
        let delta = (1.0 - h_sigma) * k.cc * (2.0 - k.cc);
        let sum: f64 = k.weights.iter().sum();
        self.covariance.scale(1.0 + k.c1 * delta - k.c1 - k.cmu * sum);
        self.covariance.add_outer(k.c1, &self.path_c);
        for (w, y) in weights_io.iter().zip(&y) {
            self.covariance.add_outer(k.cmu * w, y);
        }
    }

    fn is_finite(&self) -> bool {
        let all = |v: &[f64]| v.iter().all(|x| x.is_finite());
        let numbers = all(&self.mean) && all(&self.path_sigma) && all(&self.path_c);
        numbers && self.sigma.is_finite() && self.sigma > 0.0 && self.covariance.is_finite()
    }

    /// Generations that must all look alike before the search ends for want of differences.
    fn history_length(&self) -> usize {
        10 + (30 * self.mean.len()).div_ceil(self.population)
    }

    fn find_end(&mut self) -> Option<String> {
        let roots = self.roots();
        let n = self.mean.len();
        let fold = |f: fn(f64, f64) -> f64, first: f64| roots.lengths.iter().copied().fold(first, f);
        let (longest, shortest) = (fold(f64::max, 0.0), fold(f64::min, f64::INFINITY));
        let deviations: Vec<f64> =
            (0..n).map(|i| self.sigma * self.covariance.at(i, i).max(0.0).sqrt()).collect();
        if self.history.len() >= self.history_length() {
            let best = self.history.iter().fold(f64::NEG_INFINITY, |a, h| a.max(h.0));
            let worst = self.history.iter().fold(f64::INFINITY, |a, h| a.min(h.1));
            if best - worst < TOL_FUN {
                return Some(format!("fitness did not change for {} generations", self.history.len()));
            }
        }
        let tol_x = TOL_X * self.initial_sigma;
        if deviations.iter().all(|d| *d < tol_x) && self.path_c.iter().all(|p| (self.sigma * p).abs() < tol_x)
        {
            return Some("the distribution shrank to a point".into());
        }
        if self.sigma * longest > TOL_X_UP {
            return Some("the distribution diverged".into());
        }
        if (longest / shortest).powi(2) > TOL_CONDITION {
            return Some("the covariance is degenerate".into());
        }
        if self.mean.iter().zip(&deviations).any(|(m, d)| *m == m + 0.2 * d) {
            return Some("a coordinate no longer changes within floating-point precision".into());
        }
        // One axis per generation, as pycma does it.
        let axis = (self.generation % n as u64) as usize;
        let step = 0.1 * self.sigma * roots.lengths[axis];
        match (0..n).all(|i| self.mean[i] == self.mean[i] + step * roots.axes.at(i, axis)) {
            true => Some("an axis no longer changes within floating-point precision".into()),
            false => None,
        }
    }
}

impl Search for Cma {
    fn population(&self) -> usize {
        self.population
    }

    fn ask(&mut self) -> Genome {
        // The stream leaves `self` for the time of the call, since drawing borrows both.
        let mut stream = self.stream.clone();
        let x = self.draw(&mut || stream.normal());
        self.stream = stream;
        Genome::new(x).expect("what was drawn lies in the cube")
    }

    /// A generation of another size than asked for (the last, cut by the budget) teaches nothing: weights are
    /// made for whole generations.
    fn tell(&mut self, generation: &[Told]) {
        if generation.len() != self.population || self.ended.is_some() {
            return;
        }
        let order = ranked(generation);
        let scores: Vec<f64> = order.iter().filter_map(|i| generation[*i].fitness()).map(f64::from).collect();
        let Some((best, worst)) = scores.first().zip(scores.last()) else {
            // Nothing was scored, so the order says nothing; the next generation tries elsewhere.
            return;
        };
        let before = self.clone();
        self.generation += 1;
        self.history.push_back((*best, *worst));
        if self.history.len() > self.history_length() {
            self.history.pop_front();
        }
        let points: Vec<&[f64]> = order.iter().map(|i| generation[*i].genome.coordinates()).collect();
        self.update(&points);
        if self.is_finite() && self.mend() {
            self.ended = self.find_end();
        } else {
            *self = Cma { ended: Some("the distribution left the range of numbers".into()), ..before };
        }
    }

    fn stop(&self) -> Option<String> {
        self.ended.clone()
    }

    fn step_size(&self) -> Option<f64> {
        Some(self.sigma)
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot::CmaEs(Box::new(Cma { roots: None, ..self.clone() }))
    }
}

fn mended(square: f64) -> f64 {
    if square > 0.0 { square } else { EPS }
}

fn length(v: &[f64]) -> f64 {
    v.iter().map(|x| x * x).sum::<f64>().sqrt()
}

#[cfg(test)]
#[path = "cma_tests.rs"]
mod tests;
