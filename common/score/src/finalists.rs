//! The last round of a search: the best few on samples that the search never saw, and which of them is the best.
//!
//! The best of many noisy results is in part the luckiest (the winner's curse), so what a search calls best owes some of its
//! score to its samples. On other samples that part is gone. Here is what follows from the scores there: the mean of each
//! finalist with its interval, how far each is behind the winner paired by sample, and how often each is ahead when the
//! samples are drawn anew. The bootstrap is that of [`crate::bootstrap`].

use crate::bootstrap::{Interval, Resampler};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The format of the file.
pub const FORMAT: u32 = 1;

/// A finalist before its scores are compared.
#[derive(Debug, Clone, PartialEq)]
pub struct Entrant {
    /// The candidate's number in its run.
    pub candidate: u64,
    /// BLAKE3 of its recipe without paths, in hexadecimal digits.
    pub merge_digest: String,
    /// What it scored in the search.
    pub search_fitness: f64,
    /// Its fitness on each sample, in one order for all.
    pub fitness: Vec<f64>,
    /// Means of its metrics.
    pub metrics: BTreeMap<String, f64>,
}

/// A finalist among the others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finalist {
    /// The candidate's number in its run.
    pub candidate: u64,
    /// BLAKE3 of its recipe without paths.
    pub merge_digest: String,
    /// What it scored in the search.
    pub search_fitness: f64,
    /// What it scores on the finalists' samples.
    pub fitness: Interval,
    /// The winner's fitness minus its own, paired by sample; zero for the winner.
    pub behind: Interval,
    /// In which share of the resamples it is the best.
    pub best_share: f64,
    /// Means of its metrics.
    pub metrics: BTreeMap<String, f64>,
}

/// What the last round found: the file that `jradievo-worker finalists` writes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finalists {
    /// [`FORMAT`].
    pub format: u32,
    /// The run whose candidates these are.
    pub run: String,
    /// Candidates that had been evaluated when the finalists were chosen.
    pub evaluations: u64,
    /// The program that scored them.
    pub program_version: String,
    /// Number of samples.
    pub n: usize,
    /// BLAKE3 over the samples' files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset_digest: Option<String>,
    /// The candidate with the highest mean.
    pub winner: u64,
    /// All of them, best first.
    pub finalists: Vec<Finalist>,
}

impl Finalists {
    /// Reads a file's text, and checks that its winner is one of its finalists.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Finalists, String> {
        let read: Finalists = serde_json::from_str(text).map_err(|e| e.to_string())?;
        match read.finalists.first() {
            _ if read.format != FORMAT => Err(format!("format {} is not known here", read.format)),
            Some(first) if first.candidate == read.winner => Ok(read),
            _ => Err("its winner is not the first of its finalists".into()),
        }
    }
}

/// Ranks finalists by their mean; of equal ones the better in the search comes first, then the one given first.
///
/// # Panics
/// Where they have different numbers of samples.
pub fn rank(mut entrants: Vec<Entrant>) -> Vec<Finalist> {
    let mean = |e: &Entrant| e.fitness.iter().sum::<f64>() / e.fitness.len().max(1) as f64;
    entrants.sort_by(|a, b| {
        mean(b).total_cmp(&mean(a)).then_with(|| b.search_fitness.total_cmp(&a.search_fitness))
    });
    let Some(n) = entrants.first().map(|e| e.fitness.len()) else { return Vec::new() };
    let resampler = Resampler::new(n);
    let columns: Vec<&[f64]> = entrants.iter().map(|e| e.fitness.as_slice()).collect();
    let shares = resampler.best_shares(&columns);
    let behind = |e: &Entrant| {
        let differences: Vec<f64> = columns[0].iter().zip(&e.fitness).map(|(best, own)| best - own).collect();
        resampler.mean(&differences)
    };
    let finalist = |(e, best_share): (&Entrant, f64)| Finalist {
        candidate: e.candidate,
        merge_digest: e.merge_digest.clone(),
        search_fitness: e.search_fitness,
        fitness: resampler.mean(&e.fitness),
        behind: behind(e),
        best_share,
        metrics: e.metrics.clone(),
    };
    entrants.iter().zip(shares).map(finalist).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entrant(candidate: u64, search_fitness: f64, fitness: &[f64]) -> Entrant {
        let (merge_digest, metrics) = (String::new(), BTreeMap::new());
        Entrant { candidate, merge_digest, search_fitness, fitness: fitness.to_vec(), metrics }
    }

    #[test]
    fn the_luckiest_of_the_search_need_not_win() {
        let base: Vec<f64> = (0..40).map(|i| f64::from(i % 10) / 10.0).collect();
        let shifted = |by: f64| base.iter().map(|x| x + by).collect::<Vec<_>>();
        let ranked = rank(vec![
            entrant(7, 0.9, &shifted(-0.1)),
            entrant(3, 0.8, &shifted(0.0)),
            entrant(5, 0.7, &shifted(-0.001)),
        ]);
        assert_eq!(ranked.iter().map(|f| f.candidate).collect::<Vec<_>>(), [3, 5, 7]);
        // All differences are constant, so pairing leaves nothing to chance.
        assert!((ranked[2].behind.low - 0.1).abs() < 1e-9 && (ranked[2].behind.high - 0.1).abs() < 1e-9);
        assert_eq!((ranked[0].behind.mean, ranked[0].best_share), (0.0, 1.0));
        assert!(ranked[0].fitness.high - ranked[0].fitness.low > 0.1);
    }

    #[test]
    fn equal_ones_share_and_keep_the_searchs_order() {
        let ranked = rank(vec![entrant(1, 0.5, &[0.0, 1.0]), entrant(2, 0.6, &[1.0, 0.0])]);
        assert_eq!(ranked[0].candidate, 2);
        assert!((ranked[0].best_share - 0.5).abs() < 0.02, "{}", ranked[0].best_share);
        assert!((ranked.iter().map(|f| f.best_share).sum::<f64>() - 1.0).abs() < 1e-9);
        assert!(rank(Vec::new()).is_empty());
    }
}
