//! Where a search begins: the middle of the cube, a given mean and covariance, or what earlier results promise.

use super::Cma;
use super::latent::Latent;
use super::shape::Shape;
use crate::Told;
use crate::linalg::Matrix;
use crate::told::ranked;

/// A first distribution, in the coordinates of genomes.
#[derive(Clone, Debug, PartialEq)]
pub struct Start {
    /// Mean, each coordinate in [0, 1].
    pub mean: Vec<f64>,
    /// Step size.
    pub sigma: f64,
    /// Covariance of the distribution in units of sigma²; a sphere where there is none.
    pub covariance: Option<Matrix>,
}

/// Share of earlier results that count as good, and the width that is added to what they span. Both of WS-CMA-ES.
const GOOD: f64 = 0.1;
const PRIOR: f64 = 0.1;

impl Start {
    /// The middle of the cube.
    pub fn middle(dimensions: usize, sigma: f64) -> Start {
        Start { mean: vec![0.5; dimensions], sigma, covariance: None }
    }

    /// A mean and the whole covariance of the points to draw (σ² C): σ becomes the geometric mean of its axes.
    ///
    /// `None` where the covariance is not positive definite, or sizes or numbers do not fit.
    pub fn given(mean: Vec<f64>, covariance: &Matrix) -> Option<Start> {
        let n = mean.len();
        if n == 0 || covariance.side() != n || !mean.iter().all(|m| (0.0..=1.0).contains(m)) {
            return None;
        }
        let (squares, _) = covariance.eigen()?;
        if squares.iter().any(|s| *s <= 0.0) {
            return None;
        }
        let sigma = (squares.iter().map(|s| s.ln()).sum::<f64>() / 2.0 / n as f64).exp();
        let unit = Matrix::from_fn(n, |i, j| covariance.at(i, j) / (sigma * sigma));
        Some(Start { mean, sigma, covariance: Some(unit) })
    }

    /// The distribution that the best tenth of earlier results promises. `None` where fewer than ten were scored.
    ///
    /// Source: M. Nomura, S. Watanabe, Y. Akimoto, Y. Ozaki and M. Onishi, "Warm Starting CMA-ES for Hyperparameter
    /// Optimization", AAAI 2021, arXiv 2012.06932; as `cmaes.get_warm_start_mgd` of 0.13.1 with its defaults.
    pub fn from_results(results: &[Told]) -> Option<Start> {
        let scored: Vec<Told> = results.iter().filter(|t| t.fitness().is_some()).cloned().collect();
        let count = (scored.len() as f64 * GOOD).floor() as usize;
        let good: Vec<&[f64]> =
            ranked(&scored).into_iter().take(count).map(|i| scored[i].genome.coordinates()).collect();
        let n = good.first()?.len();
        if n == 0 || good.iter().any(|x| x.len() != n) {
            return None;
        }
        let average = |f: &dyn Fn(&[f64]) -> f64| good.iter().map(|x| f(x)).sum::<f64>() / count as f64;
        let mean: Vec<f64> = (0..n).map(|i| average(&|x| x[i])).collect();
        let covariance = Matrix::from_fn(n, |i, j| {
            let prior = if i == j { PRIOR * PRIOR } else { 0.0 };
            prior + average(&|x| (x[i] - mean[i]) * (x[j] - mean[j]))
        });
        Start::given(mean, &covariance)
    }

    /// Where a search stands. Covariances with categories are zero, and their variance is that of their values'
    /// coordinates on the whole. `None` where the search was begun anew since: it may be anywhere then.
    ///
    /// Bent bounds count as if they were straight and folded alone, as [`Cma::from_start`] has them.
    pub fn of(cma: &Cma) -> Option<Start> {
        if cma.schedule.restarts > 0 {
            return None;
        }
        let (d, ordered, integers) = (&cma.distribution, cma.latent.ordered(), cma.latent.integers());
        let mut mean = cma.favourite();
        for (m, at) in mean.iter_mut().zip(&ordered) {
            // Integers' before they are rounded.
            let rounded = at.filter(|at| integers.iter().any(|(integer, _)| integer == at));
            *m = rounded.map_or(*m, |at| d.mean[at]).clamp(0.0, 1.0);
        }
        let n = d.mean.len();
        let level = (0..n).map(|i| d.shape.variance(i)).sum::<f64>() / n as f64;
        let real = |i: usize| !integers.iter().any(|(integer, _)| *integer == i);
        let sign = |i: usize| if real(i) && cma.latent.is_folded(d.mean[i]) { -1.0 } else { 1.0 };
        let cell = |i: usize, j: usize| match (ordered[i], ordered[j], &d.shape) {
            (Some(i), Some(j), Shape::Full(c)) => sign(i) * sign(j) * c.at(i, j),
            (Some(i), Some(j), Shape::Diagonal(c)) if i == j => c[i],
            (None, None, _) if i == j => level,
            _ => 0.0,
        };
        let covariance = Some(Matrix::from_fn(mean.len(), cell));
        Some(Start { mean, sigma: d.sigma, covariance })
    }

    /// σ² C, the covariance of the points to draw.
    pub fn spread(&self) -> Matrix {
        let n = self.mean.len();
        let unit = |i, j| self.covariance.as_ref().map_or(f64::from(u8::from(i == j)), |c| c.at(i, j));
        Matrix::from_fn(n, |i, j| self.sigma * self.sigma * unit(i, j))
    }

    /// The covariance as a search keeps it, in its latent coordinates. A diagonal one drops what it cannot hold.
    pub(super) fn shape(&self, latent: &Latent, diagonal: bool) -> Shape {
        let n = latent.dimensions();
        let Some(c) = &self.covariance else { return Shape::identity(n, diagonal) };
        let mut coordinate = vec![None; n];
        for (i, at) in latent.ordered().into_iter().enumerate() {
            if let Some(at) = at {
                coordinate[at] = Some(i);
            }
        }
        let cell = |a: usize, b: usize| match (coordinate[a], coordinate[b]) {
            (Some(i), Some(j)) => c.at(i, j),
            _ => f64::from(u8::from(a == b)),
        };
        match diagonal {
            true => Shape::Diagonal((0..n).map(|a| cell(a, a)).collect()),
            false => Shape::Full(Matrix::from_fn(n, cell)),
        }
    }
}
