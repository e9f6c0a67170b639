//! Symmetric matrices, as much of them as CMA-ES needs.
//!
//! Written out here, not taken from a crate: a stored run goes on bit for bit only if the eigendecomposition
//! does, whatever version of a library is built in. Jacobi's method is the slow one (a few n³ per sweep) and
//! the accurate one; at the tens of parameters searched here it takes well under a millisecond.
//!
//! Source: G. H. Golub and C. F. Van Loan, "Matrix Computations", 4th ed., section 8.5 (cyclic Jacobi).

use serde::{Deserialize, Serialize};

/// A square matrix, row by row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Matrix {
    side: usize,
    cells: Vec<f64>,
}

/// Sweeps after which Jacobi's method gives up. It converges quadratically; 6 to 10 are usual.
const MAX_SWEEPS: usize = 64;

impl Matrix {
    /// The identity.
    pub fn identity(side: usize) -> Matrix {
        let mut m = Matrix { side, cells: vec![0.0; side * side] };
        (0..side).for_each(|i| *m.at_mut(i, i) = 1.0);
        m
    }

    /// The matrix whose cells are `f(row, column)`.
    pub fn from_fn(side: usize, f: impl Fn(usize, usize) -> f64) -> Matrix {
        Matrix { side, cells: (0..side * side).map(|i| f(i / side, i % side)).collect() }
    }

    /// All cells, row by row.
    pub fn cells(&self) -> &[f64] {
        &self.cells
    }

    /// `self · other`.
    pub fn product(&self, other: &Matrix) -> Matrix {
        Matrix::from_fn(self.side, |i, j| (0..self.side).map(|k| self.at(i, k) * other.at(k, j)).sum())
    }

    /// Multiplies row and column of one axis.
    pub fn scale_axis(&mut self, axis: usize, factor: f64) {
        for i in 0..self.side {
            *self.at_mut(axis, i) *= factor;
            *self.at_mut(i, axis) *= factor;
        }
    }

    /// `Σ factors[k] · v_k v_kᵀ` over the columns of `self`, which makes `B f(D²) Bᵀ` of eigenvectors.
    pub fn recompose(&self, factors: &[f64]) -> Matrix {
        let n = self.side;
        let mut out = Matrix { side: n, cells: vec![0.0; n * n] };
        for i in 0..n {
            for j in 0..=i {
                let sum: f64 = (0..n).map(|k| factors[k] * self.at(i, k) * self.at(j, k)).sum();
                *out.at_mut(i, j) = sum;
                *out.at_mut(j, i) = sum;
            }
        }
        out
    }

    /// Rows (and columns).
    pub fn side(&self) -> usize {
        self.side
    }

    /// One cell.
    pub fn at(&self, row: usize, column: usize) -> f64 {
        self.cells[row * self.side + column]
    }

    fn at_mut(&mut self, row: usize, column: usize) -> &mut f64 {
        &mut self.cells[row * self.side + column]
    }

    /// `self · v`.
    pub fn times(&self, v: &[f64]) -> Vec<f64> {
        self.cells.chunks(self.side).map(|row| row.iter().zip(v).map(|(a, b)| a * b).sum()).collect()
    }

    /// Multiplies every cell.
    pub fn scale(&mut self, factor: f64) {
        self.cells.iter_mut().for_each(|c| *c *= factor);
    }

    /// Adds `factor · v vᵀ`.
    pub fn add_outer(&mut self, factor: f64, v: &[f64]) {
        for (row, a) in self.cells.chunks_mut(self.side).zip(v) {
            row.iter_mut().zip(v).for_each(|(c, b)| *c += factor * (a * b));
        }
    }

    /// Whether every cell is a number.
    pub fn is_finite(&self) -> bool {
        self.cells.iter().all(|c| c.is_finite())
    }

    /// Eigenvalues and, as columns, eigenvectors of the symmetric part. In no particular order.
    ///
    /// `None` where a cell is not finite or the method does not converge.
    pub fn eigen(&self) -> Option<(Vec<f64>, Matrix)> {
        let n = self.side;
        if !self.is_finite() {
            return None;
        }
        let mut a = self.clone();
        for i in 0..n {
            for j in 0..i {
                let mean = 0.5 * (self.at(i, j) + self.at(j, i));
                *a.at_mut(i, j) = mean;
                *a.at_mut(j, i) = mean;
            }
        }
        let mut vectors = Matrix::identity(n);
        for _ in 0..MAX_SWEEPS {
            let mut rotated = false;
            for p in 0..n {
                for q in p + 1..n {
                    rotated |= rotate(&mut a, &mut vectors, p, q);
                }
            }
            if !rotated {
                let values = (0..n).map(|i| a.at(i, i)).collect();
                return Some((values, vectors));
            }
        }
        None
    }
}

/// Makes cell (p, q) zero by a rotation. False where it is negligible already.
fn rotate(a: &mut Matrix, vectors: &mut Matrix, p: usize, q: usize) -> bool {
    let (app, aqq, apq) = (a.at(p, p), a.at(q, q), a.at(p, q));
    // Relative to the diagonal, which keeps small eigenvalues accurate; absolute where that is zero too.
    let negligible = f64::EPSILON * 0.5 * (app.abs() * aqq.abs()).sqrt();
    if apq.abs() <= negligible.max(f64::MIN_POSITIVE) {
        return false;
    }
    let tau = (aqq - app) / (2.0 * apq);
    let t = tau.signum() / (tau.abs() + (1.0 + tau * tau).sqrt());
    let c = 1.0 / (1.0 + t * t).sqrt();
    let s = t * c;
    let n = a.side;
    for k in 0..n {
        let (akp, akq) = (a.at(k, p), a.at(k, q));
        *a.at_mut(k, p) = c * akp - s * akq;
        *a.at_mut(k, q) = s * akp + c * akq;
    }
    for k in 0..n {
        let (apk, aqk) = (a.at(p, k), a.at(q, k));
        *a.at_mut(p, k) = c * apk - s * aqk;
        *a.at_mut(q, k) = s * apk + c * aqk;
    }
    *a.at_mut(p, q) = 0.0;
    *a.at_mut(q, p) = 0.0;
    for k in 0..n {
        let (vkp, vkq) = (vectors.at(k, p), vectors.at(k, q));
        *vectors.at_mut(k, p) = c * vkp - s * vkq;
        *vectors.at_mut(k, q) = s * vkp + c * vkq;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::seed::Stream;

    /// Rounding of a few n operations on numbers near the largest eigenvalue.
    const CLOSE: f64 = 1e-12;

    fn check(m: &Matrix) {
        let (values, vectors) = m.eigen().unwrap();
        let again = vectors.recompose(&values);
        let unit = vectors.recompose(&vec![1.0; m.side()]);
        let largest = values.iter().fold(1e-300f64, |a, v| a.max(v.abs()));
        for i in 0..m.side() {
            for j in 0..m.side() {
                assert!((again.at(i, j) - m.at(i, j)).abs() <= CLOSE * largest, "{m:?}");
                assert!((unit.at(i, j) - f64::from(i == j)).abs() <= CLOSE, "{m:?}");
            }
        }
    }

    #[test]
    fn recomposes_what_it_took_apart() {
        let mut stream = Stream::new(1, "linalg");
        for side in [1, 2, 3, 5, 20, 40] {
            let mut m = Matrix::identity(side);
            m.scale(1e-3);
            for _ in 0..side {
                let v: Vec<f64> = (0..side).map(|_| stream.normal()).collect();
                m.add_outer(10f64.powf(6.0 * stream.uniform() - 3.0), &v);
                check(&m);
            }
        }
        check(&Matrix::identity(4));
        let mut zero = Matrix::identity(3);
        zero.scale(0.0);
        check(&zero);
        let mut singular = zero.clone();
        singular.add_outer(1.0, &[1.0, 1.0, 0.0]);
        check(&singular);
    }

    #[test]
    fn what_is_not_finite_has_no_eigenvalues() {
        for bad in [f64::NAN, f64::INFINITY] {
            let mut m = Matrix::identity(2);
            *m.at_mut(0, 1) = bad;
            assert!(m.eigen().is_none());
        }
    }
}
