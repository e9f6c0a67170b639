//! Parzen densities in the unit cube: a mixture of products, one kernel a point and one over the whole cube.
//!
//! Kernels and their widths are those of optuna 5.0.0 (`samplers/_tpe/parzen_estimator.py`,
//! `probability_distributions.py`, `_truncnorm.py`): normal and cut off at the bounds for real numbers, the mass of
//! such a kernel over a value's part for integers, a table for categories. Points come in the order in which they
//! were told, since older ones weigh less.

use super::Dimension;
use common::seed::Stream;
use std::f64::consts::{LN_2, PI, SQRT_2};

/// Newest points of full weight; the weights of older ones fall to 1 / n.
const FULL: usize = 25;
/// A kernel is never narrower than this part of the interval …
const NARROWEST: f64 = 100.0;

/// A density over the cube.
#[derive(Clone, Debug)]
pub(crate) struct Parzen {
    /// Logarithms of the kernels' shares; the last kernel is the one over the whole cube.
    log_weights: Vec<f64>,
    /// The same, summed up, to draw a kernel with.
    cumulative: Vec<f64>,
    axes: Vec<Axis>,
}

/// One coordinate of all kernels.
#[derive(Clone, Debug)]
struct Axis {
    dimension: Dimension,
    /// Middles, the last that of the kernel over the whole cube.
    middles: Vec<f64>,
    /// Standard deviations; unused for categories.
    widths: Vec<f64>,
    /// Logarithm of each kernel's mass inside the interval.
    log_inside: Vec<f64>,
}

impl Parzen {
    /// The density over points of these coordinates.
    pub fn new(dimensions: &[Dimension], points: &[&[f64]]) -> Parzen {
        let mut weights = ramp(points.len());
        weights.push(1.0);
        let sum: f64 = weights.iter().sum();
        let mut so_far = 0.0;
        let cumulative = weights.iter().map(|w| {
            so_far += w / sum;
            so_far
        });
        let cumulative = cumulative.collect();
        let axis = |(i, d): (usize, &Dimension)| Axis::new(*d, points.iter().map(|p| p[i]).collect());
        Parzen {
            log_weights: weights.iter().map(|w| (w / sum).ln()).collect(),
            cumulative,
            axes: dimensions.iter().enumerate().map(axis).collect(),
        }
    }

    /// A point drawn from the density. Counted values come as the middles of their parts.
    pub fn draw(&self, stream: &mut Stream) -> Vec<f64> {
        let u = stream.uniform();
        let kernel = self.cumulative.iter().position(|c| u < *c).unwrap_or(self.cumulative.len() - 1);
        self.axes.iter().map(|axis| axis.draw(kernel, stream)).collect()
    }

    /// Logarithm of the density at `point`; for counted values of the probability.
    pub fn log_density(&self, point: &[f64]) -> f64 {
        let mut terms = self.log_weights.clone();
        for (axis, x) in self.axes.iter().zip(point) {
            axis.add_log_densities(*x, &mut terms);
        }
        let top = terms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        match top.is_finite() {
            true => terms.iter().map(|t| (t - top).exp()).sum::<f64>().ln() + top,
            false => top,
        }
    }
}

/// optuna's `default_weights`: 1 for the newest, from 1 / n rising evenly for older ones.
fn ramp(n: usize) -> Vec<f64> {
    let old = n.saturating_sub(FULL);
    let least = 1.0 / n as f64;
    let step = if old > 1 { (1.0 - least) / (old - 1) as f64 } else { 0.0 };
    (0..n).map(|i| if i < old { least + step * i as f64 } else { 1.0 }).collect()
}

impl Axis {
    fn new(dimension: Dimension, values: Vec<f64>) -> Axis {
        let mut middles: Vec<f64> = values.into_iter().map(|x| dimension.snap(x)).collect();
        let mut widths = widths(&middles);
        middles.push(0.5);
        widths.push(1.0);
        let inside = |(m, w): (&f64, &f64)| log_mass((0.0 - m) / w, (1.0 - m) / w);
        let log_inside = middles.iter().zip(&widths).map(inside).collect();
        Axis { dimension, middles, widths, log_inside }
    }

    fn draw(&self, kernel: usize, stream: &mut Stream) -> f64 {
        if let Dimension::Category(count) = self.dimension {
            let (all, more) = self.category_shares(count);
            let own = (kernel + 1 < self.middles.len()).then(|| self.dimension.index(self.middles[kernel]));
            let own = own.flatten();
            // The kernel's own value, else any of all: together the shares of `category_shares`.
            let index = match own {
                Some(own) if stream.uniform() < more => own,
                _ => ((stream.uniform() * f64::from(count)) as u32).min(count - 1),
            };
            debug_assert!(all > 0.0);
            return self.dimension.middle(index);
        }
        // At least a third of every kernel lies inside: its middle does, and it is no wider than the interval.
        loop {
            let x = self.middles[kernel] + self.widths[kernel] * stream.normal();
            if (0.0..=1.0).contains(&x) {
                return self.dimension.snap(x);
            }
        }
    }

    fn add_log_densities(&self, x: f64, terms: &mut [f64]) {
        match self.dimension {
            Dimension::Category(count) => {
                let (all, more) = self.category_shares(count);
                let index = self.dimension.index(x);
                let last = terms.len() - 1;
                for (k, term) in terms.iter_mut().enumerate() {
                    *term += if k == last {
                        -f64::from(count).ln()
                    } else if self.dimension.index(self.middles[k]) == index {
                        (all + more).ln()
                    } else {
                        all.ln()
                    };
                }
            }
            Dimension::Integer(count) => {
                let half = 0.5 / f64::from(count);
                for (k, term) in terms.iter_mut().enumerate() {
                    let (m, w) = (self.middles[k], self.widths[k]);
                    *term += log_mass((x - half - m) / w, (x + half - m) / w) - self.log_inside[k];
                }
            }
            Dimension::Real => {
                for (k, term) in terms.iter_mut().enumerate() {
                    let z = (x - self.middles[k]) / self.widths[k];
                    *term -= 0.5 * z * z + 0.5 * (2.0 * PI).ln() + self.widths[k].ln() + self.log_inside[k];
                }
            }
        }
    }

    /// Probability that a point's kernel gives to every value, and what it gives its own value more.
    fn category_shares(&self, count: u32) -> (f64, f64) {
        let prior = 1.0 / self.middles.len() as f64;
        let sum = 1.0 + f64::from(count) * prior;
        (prior / sum, 1.0 / sum)
    }
}

/// Each kernel reaches to the farther of its neighbours; the outermost only to their one neighbour.
fn widths(middles: &[f64]) -> Vec<f64> {
    let n = middles.len();
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|a, b| middles[*a].total_cmp(&middles[*b]));
    let at = |rank: usize| middles[order[rank]];
    let narrowest = 1.0 / (2.0 + n as f64).min(NARROWEST);
    let mut widths = vec![0.0; n];
    for rank in 0..n {
        let left = (rank > 0).then(|| at(rank) - at(rank - 1));
        let right = (rank + 1 < n).then(|| at(rank + 1) - at(rank));
        let reach = match (left, right) {
            (Some(left), Some(right)) => left.max(right),
            (Some(one), None) | (None, Some(one)) => one,
            // A point alone reaches to the farther bound.
            (None, None) => at(rank).max(1.0 - at(rank)),
        };
        widths[order[rank]] = reach.clamp(narrowest, 1.0);
    }
    widths
}

/// Logarithm of the standard normal distribution's mass between `a` and `b`.
fn log_mass(a: f64, b: f64) -> f64 {
    if a > 0.0 {
        // The left tail is the exact one.
        return log_mass(-b, -a);
    }
    if b <= 0.0 {
        let (low, high) = (log_phi(a), log_phi(b));
        return high + (-(low - high).exp()).ln_1p();
    }
    (-phi(a) - phi(-b)).ln_1p()
}

fn phi(x: f64) -> f64 {
    0.5 * libm::erfc(-x / SQRT_2)
}

/// Logarithm of the standard normal distribution function for x ≤ 0.
fn log_phi(x: f64) -> f64 {
    if x > -20.0 {
        return libm::erfc(-x / SQRT_2).ln() - LN_2;
    }
    // Abramowitz and Stegun, 26.2.12: the first terms left out are below 1e-13 here.
    let (mut sum, mut term) = (1.0, 1.0);
    for k in 1..10 {
        term *= -f64::from(2 * k - 1) / (x * x);
        sum += term;
    }
    -0.5 * x * x - (-x).ln() - 0.5 * (2.0 * PI).ln() + f64::ln(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_masses_hold_in_both_tails() {
        // ln erf(1/√2); scipy 1.17.1: norm.logcdf(-19), norm.logcdf(-25).
        assert!((log_mass(-1.0, 1.0) - -0.38171514630212616).abs() < 1e-13);
        assert!((log_phi(-19.0) - -184.36612866916096).abs() < 1e-10);
        assert!((log_phi(-25.0) - -316.63940800802027).abs() < 1e-10);
        let near = |x: f64| (log_phi(x + 1e-9) - log_phi(x - 1e-9)).abs();
        // No step where the series takes over.
        assert!(near(-20.0) < 1e-7, "{}", near(-20.0));
        assert!((log_mass(3.0, 4.0) - log_mass(-4.0, -3.0)).abs() < 1e-15);
    }

    #[test]
    fn a_density_sums_to_one() {
        let dimensions = [Dimension::Real, Dimension::Integer(5), Dimension::Category(3)];
        let points: Vec<Vec<f64>> = (0..40).map(|i| vec![f64::from(i) / 40.0, 0.3, 0.9]).collect();
        let points: Vec<&[f64]> = points.iter().map(Vec::as_slice).collect();
        let density = Parzen::new(&dimensions, &points);
        let mut sum = 0.0;
        for i in 0..2000 {
            for j in 0..5 {
                for k in 0..3 {
                    let x = [(f64::from(i) + 0.5) / 2000.0, dimensions[1].middle(j), dimensions[2].middle(k)];
                    sum += density.log_density(&x).exp() / 2000.0;
                }
            }
        }
        // The midpoint rule's error on 2000 cells of kernels at least 1/42 wide.
        assert!((sum - 1.0).abs() < 1e-4, "{sum}");
    }

    #[test]
    fn what_is_drawn_has_the_density() {
        let dimensions = [Dimension::Category(4)];
        let points: [&[f64]; 3] = [&[0.1], &[0.1], &[0.6]];
        let density = Parzen::new(&dimensions, &points);
        let mut stream = Stream::new(3, "parzen");
        let mut counts = [0.0; 4];
        for _ in 0..40_000 {
            counts[dimensions[0].index(density.draw(&mut stream)[0]).unwrap() as usize] += 1.0 / 40_000.0;
        }
        for (i, count) in counts.iter().enumerate() {
            let p = density.log_density(&[dimensions[0].middle(i as u32)]).exp();
            // Five standard deviations at most.
            assert!((p - count).abs() < 0.0125, "{i}: {p} {count}");
        }
    }
}
