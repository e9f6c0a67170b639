//! Whether a candidate can still reach the parents of the last generation: a paired bound over samples.
//!
//! The *bar* is fixed when a generation opens: the worst of the parents of the one before, that is its μ-th best
//! member (μ = half the population, as in CMA-ES), with what each sample contributed to its fitness. A candidate is
//! looked at when its leading batches are complete, batch after batch in the order of the samples. Let dᵢ be its
//! contribution less the bar's for the m samples seen of n, d̄ their mean and s their standard deviation. Sampling
//! without replacement, the mean over all n is estimated by d̄ with standard error s·√((1 − m/n)/m) (W. G. Cochran,
//! *Sampling Techniques*, 3rd ed., eq. 2.20), so
//!
//! ```text
//! u = d̄ + t(m − 1; 1 − α/L) · s · √((1 − m/n)/m)
//! ```
//!
//! is an upper bound of the mean difference in all of the L looks that a candidate has, but for a chance of α in all
//! (Bonferroni). It ends where u < 0, with `bar + u` as the bound that the search is told. Pairing takes out what
//! samples have in common: some are hard for every candidate.
//!
//! Everything here is a function of the plan, the bar, and the leading batches. Neither the number of workers nor the
//! order of arrival changes which candidates end, at which look, or with which bound. Therefore the coordinator decides,
//! not the worker: with a split candidate no worker has all leading batches. Results beyond the look that happen to be
//! there already do not count, although they are known: they would make the outcome depend on the order of arrival.
//!
//! What the bound assumes: that the samples' order has nothing to do with their difficulty, and that m ≥ 8 differences
//! are enough for Student's t. A sorted dataset is to be shuffled once, before the run.

use common::fitness::Fitness;
use common::id::CandidateId;
use serde::{Deserialize, Serialize};

/// Fewer differences say nothing.
const LEAST_SAMPLES: usize = 8;

/// What a candidate has to reach.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bar {
    /// Whose scores these are.
    pub candidate: CandidateId,
    /// Its fitness.
    pub fitness: Fitness,
    /// What each sample contributed: the fitness is their mean.
    pub parts: Vec<f64>,
}

/// The fitness that a candidate would at most have had, where that is below the bar; `None` while it may reach it.
///
/// `seen` are its contributions of the leading samples; `sure` is 1 − α; `looks` is L, at least 1.
pub fn hopeless(bar: &Bar, seen: &[f64], sure: f64, looks: u32) -> Option<Fitness> {
    let (m, n) = (seen.len(), bar.parts.len());
    if m < LEAST_SAMPLES || m >= n {
        return None;
    }
    let differences: Vec<f64> = seen.iter().zip(&bar.parts).map(|(x, r)| x - r).collect();
    let mean = differences.iter().sum::<f64>() / m as f64;
    let square = differences.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / (m - 1) as f64;
    let error = (square * (1.0 - m as f64 / n as f64) / m as f64).sqrt();
    let upper = mean + student_t((m - 1) as f64, (1.0 - sure) / f64::from(looks.max(1))) * error;
    match upper < 0.0 {
        true => Fitness::new(bar.fitness.value() + upper).ok(),
        false => None,
    }
}

/// The value that Student's t of so many degrees of freedom exceeds with probability `tail` (at most ½).
fn student_t(freedom: f64, tail: f64) -> f64 {
    // P(T > t) = ½ I(ν/(ν + t²); ν/2, ½) falls in t: doubled until past it, then halved to rounding.
    let exceeds = |t: f64| 0.5 * beta_share(freedom / (freedom + t * t), freedom / 2.0, 0.5);
    let (mut low, mut high) = (0.0, 1.0);
    while exceeds(high) > tail && high < 1e12 {
        high *= 2.0;
    }
    for _ in 0..200 {
        let middle = 0.5 * (low + high);
        match exceeds(middle) > tail {
            true => low = middle,
            false => high = middle,
        }
    }
    high
}

/// The regularised incomplete beta function I(x; a, b), by its continued fraction (DLMF 8.17.22), evaluated by Lentz's
/// method; where that converges slowly, by the reflection 8.17.4.
fn beta_share(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return x.clamp(0.0, 1.0);
    }
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - beta_share(1.0 - x, b, a);
    }
    let front = (a * x.ln() + b * (1.0 - x).ln() + ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b)).exp() / a;
    let away = |v: f64| if v.abs() < 1e-300 { 1e-300 } else { v };
    let (mut c, mut d) = (1.0, 1.0 / away(1.0 - (a + b) * x / (a + 1.0)));
    let mut fraction = d;
    for i in 1..1000 {
        let k = f64::from(i);
        let even = k * (b - k) * x / ((a + 2.0 * k - 1.0) * (a + 2.0 * k));
        let odd = -(a + k) * (a + b + k) * x / ((a + 2.0 * k) * (a + 2.0 * k + 1.0));
        let before = fraction;
        for step in [even, odd] {
            d = 1.0 / away(1.0 + step * d);
            c = away(1.0 + step / c);
            fraction *= c * d;
        }
        if (fraction - before).abs() <= 1e-16 * fraction.abs() {
            break;
        }
    }
    front * fraction
}

/// ln Γ(x) for x > 0: Lanczos's approximation with g = 7 and nine terms (P. Godfrey's coefficients), good to 1e-15.
fn ln_gamma(x: f64) -> f64 {
    const TERMS: [f64; 9] = [
        0.999_999_999_999_809_9,
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    if x < 0.5 {
        return (std::f64::consts::PI / (std::f64::consts::PI * x).sin()).ln() - ln_gamma(1.0 - x);
    }
    let x = x - 1.0;
    let base = x + 7.5;
    let sum = TERMS.iter().enumerate().skip(1).fold(TERMS[0], |s, (i, c)| s + c / (x + i as f64));
    0.5 * (2.0 * std::f64::consts::PI).ln() + (x + 0.5) * base.ln() - base + sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(parts: Vec<f64>) -> Bar {
        let fitness = Fitness::new(parts.iter().sum::<f64>() / parts.len() as f64).unwrap();
        Bar { candidate: CandidateId(1), fitness, parts }
    }

    /// scipy 1.17.1: `scipy.stats.t.isf(tail, freedom)`.
    #[test]
    fn students_t_equals_scipys() {
        for (freedom, tail, want) in T_ISF {
            let got = student_t(freedom, tail);
            assert!((got / want - 1.0).abs() < 1e-10, "t({freedom}; {tail}) = {got}, scipy {want}");
        }
    }

    const T_ISF: [(f64, f64, f64); 6] = [
        (7.0, 0.005, 3.4994832973504932),
        (9.0, 0.0025, 3.689662392304231),
        (19.0, 0.0025, 3.173724530792316),
        (39.0, 1e-06, 5.577384158087601),
        (1.0, 0.25, 1.0),
        (999.0, 0.01, 2.3300864190394575),
    ];

    #[test]
    fn far_below_ends_and_near_or_above_goes_on() {
        let bar = bar((0..40).map(|i| 0.5 + 0.01 * f64::from(i % 7)).collect());
        let shifted = |by: f64, m: usize| -> Vec<f64> {
            bar.parts[..m].iter().enumerate().map(|(i, r)| r + by + 0.1 * f64::from((i % 3) as u8)).collect()
        };
        let bound = hopeless(&bar, &shifted(-0.4, 10), 0.99, 3).unwrap();
        assert!(bound < bar.fitness && bound.value() > bar.fitness.value() - 0.4);
        // More samples tighten it.
        assert!(hopeless(&bar, &shifted(-0.4, 20), 0.99, 3).unwrap() < bound);
        assert_eq!(hopeless(&bar, &shifted(-0.1, 10), 0.99, 3), None);
        assert_eq!(hopeless(&bar, &shifted(0.4, 10), 0.99, 3), None);
        assert_eq!(hopeless(&bar, &shifted(-0.4, LEAST_SAMPLES - 1), 0.99, 3), None, "too few");
        assert_eq!(hopeless(&bar, &shifted(-0.4, 40), 0.99, 3), None, "all are there: it is scored");
        // What equals the bar everywhere is not below it.
        assert_eq!(hopeless(&bar, &bar.parts[..20], 0.99, 3), None);
    }

    /// Candidates that are as good as the bar over all samples, looked at four times, in random orders: no more than
    /// α of them may end. Seeded, so that it cannot fail by chance.
    #[test]
    fn a_candidate_that_would_reach_the_bar_seldom_ends() {
        let mut stream = common::seed::Stream::new(5, "bound");
        let (mut wrong, trials) = (0, 4000);
        for _ in 0..trials {
            let reference: Vec<f64> = (0..50).map(|_| 0.4 + 0.15 * stream.normal()).collect();
            let mut differences: Vec<f64> = (0..50).map(|_| 0.2 * stream.normal()).collect();
            let mean = differences.iter().sum::<f64>() / 50.0;
            differences.iter_mut().for_each(|d| *d -= mean);
            let parts: Vec<f64> = reference.iter().zip(&differences).map(|(r, d)| r + d).collect();
            let bar = bar(reference);
            let ends = |m: usize| hopeless(&bar, &parts[..m], 0.95, 4).is_some();
            wrong += u32::from([10, 20, 30, 40].into_iter().any(ends));
        }
        assert!(f64::from(wrong) <= 0.05 * f64::from(trials), "{wrong} of {trials}");
        assert!(wrong > 0, "the bound is not idle");
    }
}
