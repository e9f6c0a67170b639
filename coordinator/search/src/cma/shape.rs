//! The covariance of a search distribution, full or diagonal, and its roots.

use crate::linalg::Matrix;
use serde::{Deserialize, Serialize};

/// Takes the place of an eigenvalue that rounding made negative (as in `cmaes`).
pub(super) const EPS: f64 = 1e-8;

/// A covariance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// Every pair of coordinates.
    Full(Matrix),
    /// Variances alone: time and memory grow with n, not n³ and n².
    Diagonal(Vec<f64>),
}

/// `C^½` and `C^-½`, and the axes that they came from.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Roots {
    Full { root: Matrix, inverse: Matrix, lengths: Vec<f64>, axes: Matrix },
    Diagonal { lengths: Vec<f64> },
}

impl Shape {
    pub fn identity(dimensions: usize, diagonal: bool) -> Shape {
        match diagonal {
            true => Shape::Diagonal(vec![1.0; dimensions]),
            false => Shape::Full(Matrix::identity(dimensions)),
        }
    }

    /// Variance of a coordinate.
    pub fn variance(&self, i: usize) -> f64 {
        match self {
            Shape::Full(c) => c.at(i, i),
            Shape::Diagonal(c) => c[i],
        }
    }

    pub fn scale(&mut self, factor: f64) {
        match self {
            Shape::Full(c) => c.scale(factor),
            Shape::Diagonal(c) => c.iter_mut().for_each(|c| *c *= factor),
        }
    }

    pub fn add_outer(&mut self, factor: f64, v: &[f64]) {
        match self {
            Shape::Full(c) => c.add_outer(factor, v),
            Shape::Diagonal(c) => c.iter_mut().zip(v).for_each(|(c, v)| *c += factor * (v * v)),
        }
    }

    /// Multiplies the deviation of one coordinate, correlations kept.
    pub fn stretch(&mut self, i: usize, factor: f64) {
        match self {
            Shape::Full(c) => c.scale_axis(i, factor),
            Shape::Diagonal(c) => c[i] *= factor * factor,
        }
    }

    pub fn is_finite(&self) -> bool {
        match self {
            Shape::Full(c) => c.is_finite(),
            Shape::Diagonal(c) => c.iter().all(|c| c.is_finite()),
        }
    }

    /// Lifts eigenvalues that rounding made negative, as `cmaes` does, and takes the roots. `None` where there are none.
    pub fn mend(&mut self) -> Option<Roots> {
        match self {
            Shape::Full(c) => {
                let (squares, axes) = c.eigen()?;
                if squares.iter().all(|d| *d > 0.0) {
                    return Some(full_roots(squares, axes));
                }
                *c = axes.recompose(&squares.into_iter().map(mended).collect::<Vec<_>>());
            }
            Shape::Diagonal(c) => c.iter_mut().for_each(|c| *c = mended(*c)),
        }
        self.is_finite().then(|| self.roots()).flatten()
    }

    /// A pure function of the covariance, or a restored search would differ from the saved one in its last bits.
    pub fn roots(&self) -> Option<Roots> {
        match self {
            Shape::Full(c) => c.eigen().map(|(squares, axes)| full_roots(squares, axes)),
            Shape::Diagonal(c) => {
                Some(Roots::Diagonal { lengths: c.iter().map(|d| mended(*d).sqrt()).collect() })
            }
        }
    }
}

fn full_roots(squares: Vec<f64>, axes: Matrix) -> Roots {
    let lengths: Vec<f64> = squares.into_iter().map(|d| mended(d).sqrt()).collect();
    let inverse = axes.recompose(&lengths.iter().map(|d| 1.0 / d).collect::<Vec<_>>());
    Roots::Full { root: axes.recompose(&lengths), inverse, lengths, axes }
}

fn mended(square: f64) -> f64 {
    if square > 0.0 { square } else { EPS }
}

impl Roots {
    /// `C^½ z`.
    pub fn colour(&self, z: &[f64]) -> Vec<f64> {
        match self {
            Roots::Full { root, .. } => root.times(z),
            Roots::Diagonal { lengths } => z.iter().zip(lengths).map(|(z, d)| d * z).collect(),
        }
    }

    /// `C^-½ y`.
    pub fn whiten(&self, y: &[f64]) -> Vec<f64> {
        match self {
            Roots::Full { inverse, .. } => inverse.times(y),
            Roots::Diagonal { lengths } => y.iter().zip(lengths).map(|(y, d)| y / d).collect(),
        }
    }

    /// Lengths of the axes.
    pub fn lengths(&self) -> &[f64] {
        match self {
            Roots::Full { lengths, .. } | Roots::Diagonal { lengths } => lengths,
        }
    }

    /// Coordinate of the unit vector along an axis.
    pub fn along(&self, axis: usize, coordinate: usize) -> f64 {
        match self {
            Roots::Full { axes, .. } => axes.at(coordinate, axis),
            Roots::Diagonal { .. } => f64::from(axis == coordinate),
        }
    }
}
