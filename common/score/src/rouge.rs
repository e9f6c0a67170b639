//! ROUGE-1, ROUGE-2 and ROUGE-L F-measures over tokens.
//!
//! ROUGE-L is the longest common subsequence over the whole text (rouge_score's `rougeL`, not `rougeLsum`).
//! There is no stemming, and rouge_score's own tokeniser is not used: it keeps only ASCII letters and digits
//! and would leave nothing of a Japanese report.
//!
//! Source: Lin 2004; rouge_score 0.1.2 `rouge_scorer.py`. Held to it by `tests/golden.rs`.

use crate::ngram::Ngrams;

/// ROUGE-N F-measure of order `n`, 0 to 1.
pub fn rouge_n(reference: &Ngrams, prediction: &Ngrams, n: usize) -> f64 {
    let common = prediction.common(reference, n) as f64;
    f_measure(common / prediction.total(n).max(1) as f64, common / reference.total(n).max(1) as f64)
}

/// ROUGE-L F-measure, 0 to 1; an empty text against anything is 0.
pub fn rouge_l(reference: &[u32], prediction: &[u32]) -> f64 {
    if reference.is_empty() || prediction.is_empty() {
        return 0.0;
    }
    let common = common_subsequence_len(reference, prediction) as f64;
    f_measure(common / prediction.len() as f64, common / reference.len() as f64)
}

fn f_measure(precision: f64, recall: f64) -> f64 {
    if precision + recall > 0.0 { 2.0 * precision * recall / (precision + recall) } else { 0.0 }
}

/// Length of the longest common subsequence, by rows of the usual table.
fn common_subsequence_len(a: &[u32], b: &[u32]) -> usize {
    let mut row = vec![0usize; b.len() + 1];
    for x in a {
        let mut diagonal = 0;
        for (j, y) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = if x == y { diagonal + 1 } else { above.max(row[j]) };
            diagonal = above;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let (r, p) = ([1, 2, 3, 4], [1, 3, 4, 9, 2]);
        assert!((rouge_l(&r, &p) - 2.0 * 0.6 * 0.75 / 1.35).abs() < 1e-12);
        assert!((rouge_n(&Ngrams::new(&r), &Ngrams::new(&p), 1) - 2.0 * 0.8 / 1.8).abs() < 1e-12);
        assert_eq!(rouge_l(&[], &[]), 0.0);
        assert_eq!(rouge_n(&Ngrams::new(&[]), &Ngrams::new(&[]), 2), 0.0);
    }
}
