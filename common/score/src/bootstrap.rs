//! Percentile bootstrap of a mean, and of the difference of two paired means.
//!
//! 10,000 resamples, the 2.5th and 97.5th percentiles with linear interpolation (numpy's default), after the
//! authors' evaluation. The random numbers are our own so that they need no library: splitmix64 (Steele, Lea
//! and Flood 2014) from seed 42, index = high 64 bits of draw × n. The same samples in the same order give the
//! same interval on every machine.

use serde::{Deserialize, Serialize};

/// Number of resamples.
pub const RESAMPLES: usize = 10_000;
/// Where the random numbers start.
pub const SEED: u64 = 42;

/// A mean and its 95 % interval, in the metric's unit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Mean of the samples themselves.
    pub mean: f64,
    /// 2.5th percentile of the resampled means.
    pub low: f64,
    /// 97.5th percentile of the resampled means.
    pub high: f64,
}

/// Resamples drawn once and used for several metrics, so that these stay comparable and the cost is shared.
#[derive(Debug, Clone)]
pub struct Resampler {
    indices: Vec<u32>,
    n: usize,
}

impl Resampler {
    /// Draws the resamples of `n` samples.
    pub fn new(n: usize) -> Self {
        let mut state = SEED;
        let draws = if n == 0 { 0 } else { RESAMPLES * n };
        let indices =
            (0..draws).map(|_| ((u128::from(splitmix64(&mut state)) * n as u128) >> 64) as u32).collect();
        Self { indices, n }
    }

    /// The mean of `values` with its interval; all NaN where there is no value.
    ///
    /// Panics: where the number of values is not the one that the resamples were drawn for.
    pub fn mean(&self, values: &[f64]) -> Interval {
        assert_eq!(values.len(), self.n, "resamples were drawn for another number of samples");
        if values.is_empty() {
            return Interval { mean: f64::NAN, low: f64::NAN, high: f64::NAN };
        }
        let n = values.len() as f64;
        let mut means: Vec<f64> = self
            .indices
            .chunks_exact(self.n)
            .map(|draw| draw.iter().map(|&i| values[i as usize]).sum::<f64>() / n)
            .collect();
        means.sort_unstable_by(f64::total_cmp);
        Interval {
            mean: values.iter().sum::<f64>() / n,
            low: percentile(&means, 2.5),
            high: percentile(&means, 97.5),
        }
    }
}

impl Resampler {
    /// For several columns over the same samples: in which share of the resamples each has the highest mean. Equal ones
    /// share a resample. All zero where there is no value.
    ///
    /// Panics: where the number of values is not the one that the resamples were drawn for.
    pub fn best_shares(&self, columns: &[&[f64]]) -> Vec<f64> {
        assert!(
            columns.iter().all(|c| c.len() == self.n),
            "resamples were drawn for another number of samples"
        );
        let mut shares = vec![0.0; columns.len()];
        if self.n == 0 {
            return shares;
        }
        for draw in self.indices.chunks_exact(self.n) {
            let sum = |column: &&[f64]| draw.iter().map(|&i| column[i as usize]).sum::<f64>();
            let sums: Vec<f64> = columns.iter().map(sum).collect();
            let most = sums.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let ahead: Vec<usize> = (0..sums.len()).filter(|i| sums[*i] == most).collect();
            ahead.iter().for_each(|i| shares[*i] += 1.0 / ahead.len() as f64);
        }
        shares.iter_mut().for_each(|share| *share /= RESAMPLES as f64);
        shares
    }
}

/// The mean of `values` with its 95 % interval.
pub fn mean(values: &[f64]) -> Interval {
    Resampler::new(values.len()).mean(values)
}

/// The mean of `a − b`, paired by position, with its 95 % interval: `a` is better where `low` is above zero.
///
/// Pairing takes the samples' common difficulty out of the interval, which two separate intervals would keep.
/// Panics: where the two differ in length.
pub fn paired_difference(a: &[f64], b: &[f64]) -> Interval {
    assert_eq!(a.len(), b.len(), "paired samples come in pairs");
    let differences: Vec<f64> = a.iter().zip(b).map(|(x, y)| x - y).collect();
    mean(&differences)
}

/// numpy's `percentile(…, method="linear")` of sorted values.
fn percentile(sorted: &[f64], percent: f64) -> f64 {
    let at = percent / 100.0 * (sorted.len() - 1) as f64;
    let (below, part) = (at.floor() as usize, at.fract());
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * part
}

fn splitmix64(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generator_is_the_published_one() {
        // First outputs of splitmix64 from state 0, as in its reference implementation.
        let mut state = 0;
        assert_eq!(splitmix64(&mut state), 0xe220_a839_7b1d_cdaf);
        assert_eq!(splitmix64(&mut state), 0x6e78_9e6a_a1b9_65f4);
    }

    #[test]
    fn percentiles_interpolate() {
        assert_eq!(percentile(&[0.0, 1.0, 2.0, 3.0], 50.0), 1.5);
        assert!((percentile(&[1.0, 2.0], 2.5) - 1.025).abs() < 1e-12);
        assert_eq!(percentile(&[7.0], 97.5), 7.0);
    }

    #[test]
    fn interval_is_near_the_normal_one() {
        let values: Vec<f64> = (0..100).map(|i| f64::from(i % 10)).collect();
        let i = mean(&values);
        let half = 1.96 * (8.25f64 / 100.0).sqrt();
        assert!((i.mean - 4.5).abs() < 1e-12);
        assert!((i.low - (4.5 - half)).abs() < 0.05 && (i.high - (4.5 + half)).abs() < 0.05, "{i:?}");
        assert_eq!(mean(&values), i);
    }

    #[test]
    fn pairing_narrows_the_interval() {
        let b: Vec<f64> = (0..50).map(|i| f64::from(i) / 50.0).collect();
        let a: Vec<f64> = b.iter().map(|x| x + 0.01).collect();
        let i = paired_difference(&a, &b);
        assert!(i.low > 0.0099 && i.high < 0.0101);
    }

    #[test]
    fn degenerate_sets() {
        assert!(mean(&[]).mean.is_nan());
        let one = mean(&[0.5]);
        assert_eq!((one.mean, one.low, one.high), (0.5, 0.5, 0.5));
    }
}
