//! When a run of CMA-ES has nothing left to find, and why.
//!
//! Definitions are those of pycma 4.5.0 (`_CMAStopDict`), which follow N. Hansen, "Benchmarking a BI-population CMA-ES on
//! the BBOB-2009 Function Testbed", table 1. On purpose, two differ: a flat fitness ends a run after [`FLAT`] generations,
//! not after one, and `tolfunhist` needs its whole window. Scores that are counted (right or wrong on fifty samples) tie
//! often, and a tie is no reason to throw a run away.

use super::distribution::Distribution;
use super::shape::Roots;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// The best and worst of many generations, and of the last one, differ by less.
const TOL_FUN: f64 = 1e-11;
/// The best of many generations differ by less.
const TOL_FUN_HIST: f64 = 1e-12;
/// The distribution is this much narrower than it began.
const TOL_X: f64 = 1e-12;
/// … this much wider.
const TOL_X_UP: f64 = 1e4;
/// The covariance has this condition number.
const TOL_CONDITION: f64 = 1e14;
/// Generations whose best equals three quarters of them.
const FLAT: u64 = 10;
/// Entries of the stagnation window: one each few generations, so that its size does not grow with n.
const STAGNATION_ENTRIES: usize = 100;

/// What must be remembered of past generations.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct History {
    /// Best and worst of the last generations, oldest first.
    ranges: VecDeque<(f64, f64)>,
    /// Best and median of every few of the last generations, oldest first.
    stagnation: VecDeque<(f64, f64)>,
    /// Generations whose best equalled three quarters of them, until now.
    flat: u64,
    /// The best of all, and the generation that it came in.
    best: Option<(f64, u64)>,
}

/// Size of a run, for the lengths of windows.
#[derive(Clone, Copy)]
pub(super) struct Size {
    pub dimensions: usize,
    pub population: usize,
}

impl Size {
    /// Generations that must all look alike.
    fn window(self) -> usize {
        10 + (30 * self.dimensions).div_ceil(self.population)
    }

    /// Generations without progress, pycma's `tolstagnation`.
    fn stagnation(self) -> u64 {
        (100.0 + 100.0 * (self.dimensions as f64).powf(1.5) / self.population as f64) as u64
    }
}

impl History {
    /// A history of which only the ranges are known.
    pub fn of_ranges(ranges: VecDeque<(f64, f64)>) -> History {
        History { ranges, ..History::default() }
    }

    /// Notes a generation's scores, best first, not empty.
    pub fn note(&mut self, scores: &[f64], generation: u64, size: Size) {
        let (best, worst) = (scores[0], scores[scores.len() - 1]);
        self.ranges.push_back((best, worst));
        while self.ranges.len() > size.window() {
            self.ranges.pop_front();
        }
        if generation.is_multiple_of(size.stagnation().div_ceil(STAGNATION_ENTRIES as u64)) {
            self.stagnation.push_back((best, scores[scores.len() / 2]));
        }
        while self.stagnation.len() > STAGNATION_ENTRIES {
            self.stagnation.pop_front();
        }
        // Where most of a generation has no score, equal ones among the rest say nothing.
        if 2 * scores.len() > size.population {
            self.flat = if best > scores[scores.len() * 3 / 4] { 0 } else { self.flat + 1 };
        }
        if self.best.is_none_or(|(b, _)| best > b) {
            self.best = Some((best, generation));
        }
    }

    /// Why the run is over, if it is.
    pub fn end(&self, d: &Distribution, roots: &Roots, initial_sigma: f64, size: Size) -> Option<String> {
        self.end_by_fitness(d.generation, size).or_else(|| end_by_distribution(d, roots, initial_sigma))
    }

    fn end_by_fitness(&self, generation: u64, size: Size) -> Option<String> {
        if self.ranges.len() >= size.window() {
            let fold = |f: fn(f64, f64) -> f64, of: fn(&(f64, f64)) -> f64| {
                self.ranges.iter().map(of).reduce(f).unwrap_or_default()
            };
            let (best, worst_best) = (fold(f64::max, |r| r.0), fold(f64::min, |r| r.0));
            if best - fold(f64::min, |r| r.1) < TOL_FUN {
                return Some(format!("fitness did not change for {} generations (tolfun)", size.window()));
            }
            if best - worst_best < TOL_FUN_HIST {
                let window = size.window();
                return Some(format!("the best of each of {window} generations is the same (tolfunhist)"));
            }
        }
        if self.flat >= FLAT {
            return Some(format!("three quarters of each of {FLAT} generations are equal (tolflatfitness)"));
        }
        match self.stagnates(generation, size) {
            true => Some(format!("no progress for {} generations (tolstagnation)", size.stagnation())),
            false => None,
        }
    }

    fn stagnates(&self, generation: u64, size: Size) -> bool {
        let (n, lambda) = (size.dimensions as f64, size.population as f64);
        let recent = self.best.is_none_or(|(_, at)| 2 * (generation - at) <= size.stagnation());
        let enough = self.stagnation.len() >= STAGNATION_ENTRIES
            || self.stagnation.len() as u64 * size.stagnation().div_ceil(STAGNATION_ENTRIES as u64)
                >= size.stagnation();
        if recent || !enough || (generation as f64) <= n * (5.0 + 100.0 / lambda) {
            return false;
        }
        let half = self.stagnation.len() / 2;
        let median = |later: bool, of: fn(&(f64, f64)) -> f64| {
            let skipped = if later { self.stagnation.len() - half } else { 0 };
            let mut values: Vec<f64> = self.stagnation.iter().skip(skipped).take(half).map(of).collect();
            values.sort_by(f64::total_cmp);
            values[half / 2]
        };
        median(true, |s| s.0) <= median(false, |s| s.0) && median(true, |s| s.1) <= median(false, |s| s.1)
    }
}

fn end_by_distribution(d: &Distribution, roots: &Roots, initial_sigma: f64) -> Option<String> {
    let n = d.mean.len();
    let fold = |f: fn(f64, f64) -> f64, first: f64| roots.lengths().iter().copied().fold(first, f);
    let (longest, shortest) = (fold(f64::max, 0.0), fold(f64::min, f64::INFINITY));
    let deviations: Vec<f64> = (0..n).map(|i| d.deviation(i)).collect();
    let tol_x = TOL_X * initial_sigma;
    if deviations.iter().all(|s| *s < tol_x) && d.path_c.iter().all(|p| (d.sigma * p).abs() < tol_x) {
        return Some("the distribution shrank to a point (tolx)".into());
    }
    if d.sigma * longest > TOL_X_UP * initial_sigma {
        return Some("the distribution diverged (tolxup)".into());
    }
    if (longest / shortest).powi(2) > TOL_CONDITION {
        return Some("the covariance is degenerate (tolconditioncov)".into());
    }
    if d.mean.iter().zip(&deviations).any(|(m, s)| *m == m + 0.2 * s) {
        return Some("a coordinate no longer changes within floating-point precision (noeffectcoord)".into());
    }
    // One axis per generation, as pycma does it.
    let axis = (d.generation % n as u64) as usize;
    let step = 0.1 * d.sigma * roots.lengths()[axis];
    match (0..n).all(|i| d.mean[i] == d.mean[i] + step * roots.along(axis, i)) {
        true => Some("an axis no longer changes within floating-point precision (noeffectaxis)".into()),
        false => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cma::shape::Shape;

    const SIZE: Size = Size { dimensions: 4, population: 8 };

    /// The reason after so many generations with these scores, and the number of the last generation.
    fn reason(generations: u64, scores: impl Fn(u64) -> Vec<f64>) -> Option<(String, u64)> {
        let mut history = History::default();
        let mut d = Distribution::new(vec![0.5; 4], 0.1, Shape::identity(4, false));
        let roots = d.shape.roots().unwrap();
        (1..=generations).find_map(|g| {
            history.note(&scores(g), g, SIZE);
            d.generation = g;
            history.end(&d, &roots, 0.1, SIZE).map(|reason| (reason, g))
        })
    }

    fn ends(generations: u64, scores: impl Fn(u64) -> Vec<f64>, rule: &str, at: u64) {
        let (reason, generation) = reason(generations, scores).expect(rule);
        assert!(reason.contains(rule) && generation == at, "{reason} at {generation}");
    }

    #[test]
    fn each_rule_ends_a_run_with_its_name_and_not_before() {
        let progress = |g: u64| vec![g as f64, g as f64 - 0.5, 0.0];
        assert_eq!(reason(1000, progress), None);
        // The window of 10 + 30 · 4 / 8 generations.
        ends(100, |g| vec![1.0, 1.0 - 1e-13 * (g % 3) as f64 - 1e-14, 1.0 - 1e-12], "(tolfun)", 25);
        ends(100, |g| vec![1.0, 0.3, -((g % 5) as f64), -9.0, -9.5], "(tolfunhist)", 25);
        // Three quarters equal, the best of generations not.
        ends(100, |g| vec![(g % 3) as f64; 8], "(tolflatfitness)", FLAT);
        // Most of each generation failed: the three that did not say nothing of flatness.
        assert_eq!(reason(20, |g| vec![(g % 3) as f64; 3]), None);
        // 100 + 100 · 4^1.5 / 8 generations, each better than the last until the tenth.
        let stagnant = |g: u64| vec![10f64.min(g as f64) + 1e-3 * ((g * 7) % 5) as f64, 1.0, 0.0, -1.0, -2.0];
        ends(500, stagnant, "(tolstagnation)", 200);
    }

    #[test]
    fn a_distribution_ends_a_run_by_its_size_and_form() {
        let end = |sigma: f64, variance: f64, mean: f64| {
            let mut shape = Shape::identity(2, true);
            shape.stretch(0, variance.sqrt());
            let d = Distribution::new(vec![mean; 2], sigma, shape);
            end_by_distribution(&d, &d.shape.roots().unwrap(), 0.1).unwrap_or_default()
        };
        assert_eq!(end(0.1, 1.0, 0.5), "");
        assert!(end(1e-14, 1.0, 0.0).contains("(tolx)"));
        assert!(end(2e3, 1.0, 0.5).contains("(tolxup)"));
        assert!(end(1e-5, 1e15, 0.5).contains("(tolconditioncov)"));
        assert!(end(1e-12, 1.0, 1e6).contains("(noeffectcoord)"));
    }
}
