//! BLEU in the three forms that are asked for.
//!
//! - [`nltk`]: `sentence_bleu` with smoothing method 1, values 0 to 1. The paper's `bleu_1 … bleu_4` are this
//!   over the *characters* of MeCab's output line, since the authors pass nltk the unsplit string.
//! - [`sacrebleu`]: sacrebleu's `compute_bleu` with exponential smoothing, values 0 to 100.
//!
//! Source: Papineni et al. 2002; nltk 3.10.4 `translate/bleu_score.py`; sacrebleu 2.6.0 `metrics/bleu.py`.
//! Held to both by `tests/golden.rs`.

use serde::{Deserialize, Serialize};

use crate::ngram::{MAX_ORDER, Ngrams};

/// Weights of the paper's four scores; the third is 0.33 each, as in the authors' evaluation, not a third.
pub const PAPER_WEIGHTS: [&[f64]; 4] = [&[1.0], &[0.5, 0.5], &[0.33, 0.33, 0.33], &[0.25; 4]];

/// nltk's smoothing method 1: what stands for a count of zero.
const EPSILON: f64 = 0.1;

/// The counts that BLEU is made from; those of a set are the sums of those of its samples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Clipped matches by order.
    pub matches: [u64; MAX_ORDER],
    /// n-grams of the prediction by order.
    pub totals: [u64; MAX_ORDER],
    /// Tokens in the prediction.
    pub prediction_len: u64,
    /// Tokens in the reference.
    pub reference_len: u64,
}

impl Counts {
    /// Counts one prediction against its one reference.
    pub fn new(reference: &Ngrams, prediction: &Ngrams) -> Self {
        let mut counts = Self {
            prediction_len: prediction.len as u64,
            reference_len: reference.len as u64,
            ..Self::default()
        };
        for n in 1..=MAX_ORDER {
            counts.matches[n - 1] = prediction.common(reference, n) as u64;
            counts.totals[n - 1] = prediction.total(n) as u64;
        }
        counts
    }

    /// Adds another sample's counts.
    pub fn add(&mut self, other: &Self) {
        for n in 0..MAX_ORDER {
            self.matches[n] += other.matches[n];
            self.totals[n] += other.totals[n];
        }
        self.prediction_len += other.prediction_len;
        self.reference_len += other.reference_len;
    }

    /// exp(1 − r/h) for a prediction shorter than its reference, else 1; 0 for an empty one.
    fn brevity_penalty(&self) -> f64 {
        if self.prediction_len >= self.reference_len && self.prediction_len > 0 {
            1.0
        } else if self.prediction_len == 0 {
            0.0
        } else {
            (1.0 - self.reference_len as f64 / self.prediction_len as f64).exp()
        }
    }
}

/// nltk's `sentence_bleu(…, smoothing_function=SmoothingFunction().method1)`, 0 to 1.
///
/// Orders longer than the prediction count as 0 of 1, so they are smoothed to 0.1, as nltk has it.
pub fn nltk(counts: &Counts, weights: &[f64]) -> f64 {
    if counts.matches[0] == 0 {
        return 0.0;
    }
    let log_mean: f64 = weights
        .iter()
        .zip(counts.matches.iter().zip(&counts.totals))
        .map(|(weight, (&matches, &total))| {
            let matches = if matches == 0 { EPSILON } else { matches as f64 };
            weight * (matches / total.max(1) as f64).ln()
        })
        .sum();
    counts.brevity_penalty() * log_mean.exp()
}

/// sacrebleu's score with `smooth_method="exp"`, 0 to 100.
///
/// `effective_order` leaves out orders longer than the prediction: sacrebleu's `sentence_bleu` sets it, its
/// `corpus_bleu` does not.
pub fn sacrebleu(counts: &Counts, effective_order: bool) -> f64 {
    if counts.matches.iter().all(|&m| m == 0) {
        return 0.0;
    }
    // sacrebleu's logarithm of zero, which makes the product vanish without an infinity.
    const LOG_OF_ZERO: f64 = -9_999_999_999.0;
    let mut smoothing = 1.0;
    let mut order = MAX_ORDER;
    let mut logs = [LOG_OF_ZERO; MAX_ORDER];
    for (n, log) in logs.iter_mut().enumerate() {
        if counts.totals[n] == 0 {
            break;
        }
        if effective_order {
            order = n + 1;
        }
        let total = counts.totals[n] as f64;
        let precision = if counts.matches[n] == 0 {
            smoothing *= 2.0;
            100.0 / (smoothing * total)
        } else {
            100.0 * counts.matches[n] as f64 / total
        };
        *log = precision.ln();
    }
    counts.brevity_penalty() * (logs[..order].iter().sum::<f64>() / order as f64).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(reference: &str, prediction: &str) -> Counts {
        let tokens = |text: &str| text.chars().map(u32::from).collect::<Vec<_>>();
        Counts::new(&Ngrams::new(&tokens(reference)), &Ngrams::new(&tokens(prediction)))
    }

    #[test]
    fn identical_is_full() {
        let c = counts("胸水を認めない。", "胸水を認めない。");
        assert!((nltk(&c, PAPER_WEIGHTS[3]) - 1.0).abs() < 1e-12);
        assert!((sacrebleu(&c, true) - 100.0).abs() < 1e-9);
    }

    #[test]
    fn empty_is_zero() {
        for (r, p) in [("", ""), ("胸水", ""), ("", "胸水")] {
            let c = counts(r, p);
            assert_eq!((nltk(&c, PAPER_WEIGHTS[0]), sacrebleu(&c, true)), (0.0, 0.0), "{r:?} {p:?}");
        }
    }

    #[test]
    fn short_texts_use_their_own_order_in_sentences_only() {
        let c = counts("胸水", "胸水");
        assert!((sacrebleu(&c, true) - 100.0).abs() < 1e-9);
        assert_eq!(sacrebleu(&c, false), 0.0);
    }
}
