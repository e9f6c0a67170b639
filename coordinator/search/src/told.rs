//! What a search is told of an evaluated genome, and how such results are ranked.

use common::fitness::Fitness;
use common::genome::Genome;
use serde::{Deserialize, Serialize};

/// One evaluated genome, as a search is told of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// As it was asked for.
    pub genome: Genome,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a genome.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// One number per objective, larger is better. Searches of one objective look at the first alone.
    Scored(Vec<Fitness>),
    /// Its evaluation was ended early, since it could not have reached what others had. What is known of it is this
    /// bound: it would not have been better.
    Censored(Fitness),
    /// It could not be evaluated: worse than everything else, whatever that is.
    Failed,
}

impl Told {
    /// The first objective, where the genome was evaluated whole.
    pub fn fitness(&self) -> Option<Fitness> {
        match &self.outcome {
            Outcome::Scored(objectives) => objectives.first().copied(),
            Outcome::Censored(_) | Outcome::Failed => None,
        }
    }

    /// What it is ranked by: the first objective, a bound below equal scores, `None` for failure.
    fn key(&self) -> Option<(Fitness, bool)> {
        match &self.outcome {
            Outcome::Scored(objectives) => objectives.first().map(|f| (*f, true)),
            Outcome::Censored(bound) => Some((*bound, false)),
            Outcome::Failed => None,
        }
    }
}

/// Positions of results from best to worst. Equal ones keep their order, failed ones come last.
pub(crate) fn ranked(results: &[Told]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..results.len()).collect();
    // `None < Some`, so that reversing puts failures behind every fitness.
    order.sort_by_key(|i| std::cmp::Reverse(results[*i].key()));
    order
}
