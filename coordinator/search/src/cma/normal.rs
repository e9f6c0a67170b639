//! The normal distribution's cumulative function and its quantiles, to about 1e-14 of their value.
//!
//! Written out, since a stored run goes on bit for bit only if they do. `cumulative`: a series in the middle and
//! Laplace's continued fraction in the tail (M. Abramowitz and I. Stegun, 26.2.11 and 26.2.14). `quantile`: bisection of
//! it, as many halvings as an f64 has room for.

/// `P(Z ≤ x)`.
pub(super) fn cumulative(x: f64) -> f64 {
    if x.is_nan() {
        return 0.5;
    }
    if x > 0.0 {
        return 1.0 - cumulative(-x);
    }
    let density = (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
    if x > -3.0 {
        // x + x³/3 + x⁵/15 + …
        let (mut term, mut sum, mut odd) = (x, x, 1.0);
        while term.abs() > 1e-18 {
            odd += 2.0;
            term *= x * x / odd;
            sum += term;
        }
        return 0.5 + density * sum;
    }
    // From the inside out; 60 levels are enough from 3 on.
    let fraction = (1..=60).rev().fold(-x, |inner, k| -x + f64::from(k) / inner);
    density / fraction
}

/// The x with `P(Z ≤ x) = p`, for p from 1e-300 to a half.
pub(super) fn quantile(p: f64) -> f64 {
    let (mut low, mut high) = (-38.0, 0.0);
    for _ in 0..64 {
        let middle = 0.5 * (low + high);
        match cumulative(middle) < p {
            true => low = middle,
            false => high = middle,
        }
    }
    0.5 * (low + high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_scipy() {
        // scipy 1.17.1, scipy.stats.norm.cdf
        let theirs = [
            (-8.0, 6.22096057427174e-16),
            (-4.0, 3.1671241833119857e-05),
            (-2.9, 0.0018658133003840339),
            (-1.0, 0.15865525393145707),
            (0.0, 0.5),
            (1.5, 0.9331927987311419),
        ];
        for (x, p) in theirs {
            assert!((cumulative(x) - p).abs() <= 1e-13 * p, "{x}: {} {p}", cumulative(x));
            if x <= 0.0 {
                assert!((quantile(p) - x).abs() < 1e-11, "{p}: {} {x}", quantile(p));
            }
        }
    }
}
