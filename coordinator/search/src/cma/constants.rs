//! Weights and learning rates: what follows from dimension, population and a choice of constants alone.
//!
//! Equation numbers are those of N. Hansen, "The CMA Evolution Strategy: A Tutorial", arXiv 1604.00772. `Tutorial` is as
//! in `cmaes` 0.13.1 (`cmaes/_cma.py`), `Pycma` as in pycma 4.5.0 (`sigma_adaptation.py`,
//! `restricted_gaussian_sampler.py`: `CMAParameters`), separable ones as in `cmaes/_sepcma.py` (R. Ros and N. Hansen,
//! "A Simple Modification in CMA-ES Achieving Linear Time and Space Complexity", PPSN 2008).

use common::run::CmaConstants;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Constants {
    /// One per rank, best first. The positive ones sum to 1; the negative ones only shape the covariance.
    pub weights: Vec<f64>,
    pub mu_eff: f64,
    pub c1: f64,
    pub cmu: f64,
    pub c_sigma: f64,
    pub d_sigma: f64,
    pub cc: f64,
    /// `E‖N(0, I)‖`.
    pub chi_n: f64,
}

fn effective(w: &[f64]) -> f64 {
    w.iter().sum::<f64>().powi(2) / w.iter().map(|x| x * x).sum::<f64>()
}

fn chi(n: f64) -> f64 {
    n.sqrt() * (1.0 - 1.0 / (4.0 * n) + 1.0 / (21.0 * n * n)) // (p. 28)
}

fn damping(n: f64, mu_eff: f64, c_sigma: f64) -> f64 {
    1.0 + 2.0 * (((mu_eff - 1.0) / (n + 1.0)).sqrt() - 1.0).max(0.0) + c_sigma
}

impl Constants {
    /// For a full covariance.
    pub fn full(dimensions: usize, population: usize, choice: CmaConstants) -> Constants {
        let (n, lambda) = (dimensions as f64, population as f64);
        let mu = population / 2;
        // (eq. 49)
        let prime: Vec<f64> =
            (0..population).map(|i| ((lambda + 1.0) / 2.0).ln() - ((i + 1) as f64).ln()).collect();
        let (mu_eff, mu_eff_minus) = (effective(&prime[..mu]), effective(&prime[mu..]));

        let alpha_cov = 2.0;
        let c1 = alpha_cov / ((n + 1.3).powi(2) + mu_eff); // (eq. 57)
        // pycma lets a quarter of the rank-μ update stay where μ_eff is 1.
        let (least, path) = match choice {
            CmaConstants::Tutorial => (0.0, 5.0),
            CmaConstants::Pycma => (0.25, 3.0),
        };
        let cmu = (alpha_cov * (least + mu_eff - 2.0 + 1.0 / mu_eff)
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

        // (eq. 55)
        let c_sigma = (mu_eff + 2.0) / (n + mu_eff + path);
        let d_sigma = damping(n, mu_eff, c_sigma);
        let cc = (4.0 + mu_eff / n) / (n + 4.0 + 2.0 * mu_eff / n); // (eq. 56)
        Constants { weights, mu_eff, c1, cmu, c_sigma, d_sigma, cc, chi_n: chi(n) }
    }

    /// For a diagonal covariance, which learns (n + 2) / 3 times as fast. No negative weights.
    pub fn separable(dimensions: usize, population: usize) -> Constants {
        let n = dimensions as f64;
        let mu = population / 2;
        let prime: Vec<f64> = (0..mu).map(|i| (mu as f64 + 1.0).ln() - ((i + 1) as f64).ln()).collect();
        let sum: f64 = prime.iter().sum();
        let mut weights: Vec<f64> = prime.iter().map(|w| w / sum).collect();
        let mu_eff = 1.0 / weights.iter().map(|w| w * w).sum::<f64>();
        weights.resize(population, 0.0);

        let c1 = 2.0 / ((n + 1.3).powi(2) + mu_eff);
        let full = 2.0 / mu_eff / (n + std::f64::consts::SQRT_2).powi(2)
            + (1.0 - 1.0 / mu_eff) * ((2.0 * mu_eff - 1.0) / ((n + 2.0).powi(2) + mu_eff)).min(1.0);
        // `cmaes` lacks the cap, and its covariance turns negative with large populations.
        let cmu = ((n + 2.0) / 3.0 * full).min(1.0 - c1);
        let c_sigma = (mu_eff + 2.0) / (n + mu_eff + 3.0);
        let d_sigma = damping(n, mu_eff, c_sigma);
        Constants { weights, mu_eff, c1, cmu, c_sigma, d_sigma, cc: 4.0 / (n + 4.0), chi_n: chi(n) }
    }

    /// Weights of results in ranked order, first for the mean, then for the covariance. Ranks whose results cannot be
    /// compared with each other (`shared`) all get the mean weight of those ranks.
    pub fn shared(&self, shared: &[bool]) -> (Vec<f64>, Vec<f64>) {
        let members = shared.iter().filter(|s| **s).count().max(1) as f64;
        let level = |weights: Vec<f64>| -> Vec<f64> {
            let sum: f64 = weights.iter().zip(shared).filter(|(_, s)| **s).map(|(w, _)| w).sum();
            weights.iter().zip(shared).map(|(w, s)| if *s { sum / members } else { *w }).collect()
        };
        (level(self.weights.iter().map(|w| w.max(0.0)).collect()), level(self.weights.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Half a unit of the last digit printed by pycma 4.5.0, `CMAEvolutionStrategy(n * [0], 1).sp` and `.adapt_sigma`.
    const PRINTED: f64 = 1e-12;

    #[test]
    fn are_those_of_pycma() {
        let k = Constants::full(10, 10, CmaConstants::Pycma);
        let theirs = [
            0.015283824524751714,
            0.02355177665041747,
            0.29499038303562225,
            0.3196142529106334,
            1.3196142529106334,
        ];
        for (a, b) in [k.c1, k.cmu, k.cc, k.c_sigma, k.d_sigma].into_iter().zip(theirs) {
            assert!((a - b).abs() < PRINTED, "{a} {b}");
        }
    }

    #[test]
    fn sharing_keeps_the_sums() {
        let k = Constants::full(10, 10, CmaConstants::Tutorial);
        let shared: Vec<bool> = (0..10).map(|i| i == 3 || i > 6).collect();
        let (mean, covariance) = k.shared(&shared);
        assert!((mean.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        assert!((covariance.iter().sum::<f64>() - k.weights.iter().sum::<f64>()).abs() < 1e-12);
        assert_eq!(covariance[3], covariance[9]);
        assert_eq!((mean[0], covariance[0]), (k.weights[0], k.weights[0]));
    }
}
