//! TPE, the tree-structured Parzen estimator, for one objective.
//!
//! Results are split into a few good ones and the rest; a density is laid over each part (`parzen`); points
//! are drawn from the good one's density, and the one where good is likeliest against bad is asked for.
//!
//! Sources: J. Bergstra et al., "Algorithms for Hyper-Parameter Optimization", NeurIPS 2011; S. Watanabe,
//! "Tree-Structured Parzen Estimator", arXiv 2304.11127. Every choice is that of `TPESampler` in optuna 5.0.0 as it is
//! by default: 10 random points first, the best ⌈n / 10⌉ (at most 25) are good, 24 points are drawn, one density over
//! all coordinates. `tests/data/tpe_reference.json` holds its scores of points.
//!
//! - **Groups.** optuna splits a space that depends on its own values into groups of parameters that occur together.
//!   A genome has all its coordinates always, so there is exactly one group, and the density is over all of them: it
//!   can follow a ridge. `independent` searches each coordinate alone, as the first TPE did: less sharp, and better
//!   where there are many more coordinates than results.
//! - **Outstanding genomes** count as bad (optuna's constant liar), so that many workers do not ask for one place.
//! - **Failed** results, which optuna leaves out, count as bad: a region that fails is to be left. They are never good.
//! - **Memory.** Of a long search the 25 best and the newest 1000 are kept: older ones weigh little by
//!   optuna's ramp, and each question would cost more than the one before.

use super::outstanding::Outstanding;
use super::parzen::Parzen;
use super::worth::Worth;
use super::{Dimension, Domain, Search, Snapshot, Told};
use common::genome::Genome;
use common::seed::Stream;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;

/// Results that are kept beside the best.
const REMEMBERED: usize = 1000;
/// Most results that count as good.
const GOOD: usize = 25;
/// Points that are drawn to choose from.
const DRAWN: usize = 24;

/// What a person may choose about TPE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choices {
    /// Results before the densities are used; random points until then.
    pub startup: usize,
    /// Whether each coordinate is searched alone.
    pub independent: bool,
}

impl Default for Choices {
    fn default() -> Choices {
        Choices { startup: 10, independent: false }
    }
}

/// A TPE with its results and its random stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tpe {
    domain: Domain,
    population: usize,
    choices: Choices,
    /// All results ever told; those that were forgotten count too.
    told: u64,
    results: Vec<(Genome, Worth)>,
    outstanding: Outstanding<()>,
    stream: Stream,
}

impl Tpe {
    /// A search of a domain with at least one coordinate. The population only groups candidates.
    pub fn new(domain: &Domain, population: usize, choices: Choices, stream: Stream) -> Tpe {
        Tpe {
            domain: domain.clone(),
            population: population.max(1),
            choices,
            told: 0,
            results: Vec::new(),
            outstanding: Outstanding::default(),
            stream,
        }
    }

    /// Positions of the results from best to worst; equal ones in the order in which they were told.
    fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.results.len()).collect();
        order.sort_by_key(|i| Reverse(self.results[*i].1));
        order
    }

    /// The good points and the others, each in the order in which they were told; outstanding ones last.
    fn split(&self) -> (Vec<&[f64]>, Vec<&[f64]>) {
        // ⌈n / 10⌉
        let most = (self.told.div_ceil(10) as usize).min(GOOD);
        let mut is_good = vec![false; self.results.len()];
        for i in self.order().into_iter().take(most).filter(|i| self.results[*i].1 > Worth::Failed) {
            is_good[i] = true;
        }
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        for ((genome, _), is_good) in self.results.iter().zip(is_good) {
            if is_good { &mut good } else { &mut bad }.push(genome.coordinates());
        }
        bad.extend(self.outstanding.iter().map(|(genome, ())| genome.coordinates()));
        (good, bad)
    }

    /// The next point of these coordinates, of which `good` and `bad` hold values.
    fn choose(dimensions: &[Dimension], good: &[&[f64]], bad: &[&[f64]], stream: &mut Stream) -> Vec<f64> {
        let (good, bad) = (Parzen::new(dimensions, good), Parzen::new(dimensions, bad));
        let mut best: Option<(f64, Vec<f64>)> = None;
        for _ in 0..DRAWN {
            let point = good.draw(stream);
            let score = good.log_density(&point) - bad.log_density(&point);
            // The first of equals, as numpy's argmax.
            if best.as_ref().is_none_or(|(s, _)| score > *s) {
                best = Some((score, point));
            }
        }
        best.expect("points were drawn").1
    }

    fn forget(&mut self) {
        if self.results.len() <= GOOD + REMEMBERED {
            return;
        }
        let best: Vec<usize> = self.order().into_iter().take(GOOD).collect();
        // The results stay in order, so the oldest that is not among the best is near the front.
        let oldest =
            (0..self.results.len()).find(|i| !best.contains(i)).expect("more than the best are kept");
        self.results.remove(oldest);
    }
}

impl Search for Tpe {
    fn population(&self) -> usize {
        self.population
    }

    fn ask(&mut self) -> Genome {
        let mut stream = self.stream.clone();
        let genome = if self.told < self.choices.startup as u64 {
            self.domain.uniform(&mut stream)
        } else {
            let (good, bad) = self.split();
            let dimensions = &self.domain.dimensions;
            let point = if self.choices.independent {
                let alone = |i: usize| {
                    let good: Vec<&[f64]> = good.iter().map(|p| &p[i..=i]).collect();
                    let bad: Vec<&[f64]> = bad.iter().map(|p| &p[i..=i]).collect();
                    Tpe::choose(&dimensions[i..=i], &good, &bad, &mut stream)[0]
                };
                (0..dimensions.len()).map(alone).collect()
            } else {
                Tpe::choose(dimensions, &good, &bad, &mut stream)
            };
            self.domain.genome(&point)
        };
        self.stream = stream;
        self.outstanding.add(&genome, ());
        genome
    }

    fn tell(&mut self, results: &[Told]) {
        for told in results {
            self.outstanding.take(&told.genome);
            self.told += 1;
            self.results.push((told.genome.clone(), Worth::of(told)));
            self.forget();
        }
    }

    fn stop(&self) -> Option<String> {
        None
    }

    fn step_size(&self) -> Option<f64> {
        None
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot::Tpe(Box::new(self.clone()))
    }
}

#[cfg(test)]
#[path = "tpe_tests.rs"]
mod tests;
