//! Evaluation → one number, or one an objective. This is the only place where scores become fitness.

use crate::evaluation::{Evaluation, SampleResult};
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::{BTreeMap, HashSet};

/// The fitness of a candidate: larger is better, never NaN, so that it orders totally.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Fitness(f64);

/// Fitness was NaN or infinite.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("fitness is not a finite number")]
pub struct NotFinite;

impl Fitness {
    /// Refuses NaN and infinities.
    pub fn new(value: f64) -> Result<Fitness, NotFinite> {
        match value.is_finite() {
            // Adding zero turns −0 into +0, so that equal values are equal bits.
            true => Ok(Fitness(value + 0.0)),
            false => Err(NotFinite),
        }
    }

    /// The number.
    pub fn value(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Fitness {
    type Error = NotFinite;
    fn try_from(v: f64) -> Result<Fitness, NotFinite> {
        Fitness::new(v)
    }
}

impl From<Fitness> for f64 {
    fn from(f: Fitness) -> f64 {
        f.0
    }
}

impl Eq for Fitness {}

impl PartialOrd for Fitness {
    fn partial_cmp(&self, other: &Fitness) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Fitness {
    fn cmp(&self, other: &Fitness) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// Which way an objective is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// The more the better.
    Maximise,
    /// A cost.
    Minimise,
}

/// One objective of several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Aim {
    /// A metric, `tokens`, `length`, or `fitness` for the weighted sum.
    pub metric: String,
    /// Which way it is better.
    pub direction: Direction,
}

/// One number per aim, larger is better: means over the samples, costs negated. None where a mean is missing or not
/// finite.
pub fn vector(aims: &[Aim], fitness: Fitness, means: &BTreeMap<String, f64>) -> Option<Vec<Fitness>> {
    let value = |aim: &Aim| {
        let mean = if aim.metric == FITNESS { fitness.value() } else { *means.get(&aim.metric)? };
        let towards = match aim.direction {
            Direction::Maximise => mean,
            Direction::Minimise => -mean,
        };
        Fitness::new(towards).ok()
    };
    aims.iter().map(value).collect()
}

/// The name by which an aim means the weighted sum.
pub const FITNESS: &str = "fitness";

/// A weighted sum of named metrics, averaged over the samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Objective {
    /// Metric name → weight.
    pub weights: BTreeMap<String, f64>,
}

/// Why an evaluation has no fitness. The coordinator treats it as a worker's failure, and logs it: an id may say who a
/// patient is, so samples are named by their position, counted from 1.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum EvaluationError {
    /// Samples missing, unknown, repeated or out of order.
    #[error("samples differ from the run's: {0}")]
    Samples(String),
    /// A metric of the objective is missing.
    #[error("no score {metric:?}")]
    Missing {
        /// Metric name.
        metric: String,
    },
    /// A score is NaN or infinite.
    #[error("{metric:?} is {value}")]
    NotFinite {
        /// Metric name.
        metric: String,
        /// The value found.
        value: f64,
    },
    /// One of the above, of one sample of several.
    #[error("sample {position}: {fault}")]
    At {
        /// Where the sample stands among the run's, from 1.
        position: usize,
        /// What is wrong with it.
        fault: Box<EvaluationError>,
    },
}

impl EvaluationError {
    /// The same of the sample at an index.
    pub fn at(self, index: usize) -> EvaluationError {
        EvaluationError::At { position: index + 1, fault: Box::new(self) }
    }
}

impl Objective {
    /// One sample's part of the fitness.
    pub fn sample(&self, sample: &SampleResult) -> Result<f64, EvaluationError> {
        let mut sum = 0.0;
        for (metric, weight) in &self.weights {
            let missing = || EvaluationError::Missing { metric: metric.clone() };
            sum += weight * sample.value(metric).ok_or_else(missing)?;
        }
        Ok(sum)
    }

    /// Checks that the evaluation covers exactly `samples` in that order with finite scores, and takes the mean.
    pub fn fitness(&self, evaluation: &Evaluation, samples: &[String]) -> Result<Fitness, EvaluationError> {
        if evaluation.samples.len() != samples.len() {
            let text = format!("{} results for {} samples", evaluation.samples.len(), samples.len());
            return Err(EvaluationError::Samples(text));
        }
        let mut seen = HashSet::new();
        let mut sum = 0.0;
        for (index, (result, expected)) in evaluation.samples.iter().zip(samples).enumerate() {
            if result.sample != *expected || !seen.insert(&result.sample) {
                let text = format!("another stands where sample {} belongs", index + 1);
                return Err(EvaluationError::Samples(text));
            }
            if let Some((metric, value)) = result.scores.iter().find(|(_, v)| !v.is_finite()) {
                let (metric, value) = (metric.clone(), *value);
                return Err(EvaluationError::NotFinite { metric, value }.at(index));
            }
            sum += self.sample(result).map_err(|e| e.at(index))?;
        }
        let mean = sum / samples.len().max(1) as f64;
        Fitness::new(mean).map_err(|_| EvaluationError::Samples("the mean overflows".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::{Stop, Timings};

    fn evaluation(scores: &[(&str, f64)]) -> Evaluation {
        let sample = |(id, rouge): &(&str, f64)| SampleResult {
            sample: id.to_string(),
            text: String::new(),
            tokens: 1,
            stop: Stop::End,
            scores: BTreeMap::from([("rouge_l".into(), *rouge), ("term_f1".into(), 1.0)]),
            kept: None,
        };
        Evaluation { samples: scores.iter().map(sample).collect(), timings: Timings::default() }
    }

    fn objective() -> Objective {
        Objective { weights: BTreeMap::from([("rouge_l".into(), 0.5), ("term_f1".into(), 0.5)]) }
    }

    #[test]
    fn is_the_mean_of_weighted_sums() {
        let ids = ["a".to_string(), "b".to_string()];
        let f = objective().fitness(&evaluation(&[("a", 0.0), ("b", 1.0)]), &ids).unwrap();
        assert_eq!(f.value(), 0.75);
    }

    #[test]
    fn refuses_other_samples_nan_and_missing_metrics() {
        let ids = ["a".to_string(), "b".to_string()];
        let refuse = |e: &Evaluation| objective().fitness(e, &ids).unwrap_err();
        assert!(matches!(refuse(&evaluation(&[("a", 0.0)])), EvaluationError::Samples(_)));
        assert!(matches!(refuse(&evaluation(&[("b", 0.0), ("a", 0.0)])), EvaluationError::Samples(_)));
        let nan = refuse(&evaluation(&[("a", 0.0), ("b", f64::NAN)]));
        assert_eq!(nan.to_string(), "sample 2: \"rouge_l\" is NaN");
        let mut short = evaluation(&[("a", 0.0), ("b", 0.0)]);
        short.samples[1].scores.remove("rouge_l");
        assert_eq!(refuse(&short).to_string(), "sample 2: no score \"rouge_l\"");
    }

    #[test]
    fn faults_name_samples_by_position_and_never_by_id() {
        let ids = ["taro".to_string(), "hanako".to_string()];
        let refuse = |e: &Evaluation| objective().fitness(e, &ids).unwrap_err().to_string();
        let mut short = evaluation(&[("taro", 0.0), ("hanako", 0.0)]);
        short.samples[1].scores.remove("rouge_l");
        for (fault, said) in [
            (refuse(&evaluation(&[("hanako", 0.0), ("taro", 0.0)])), "another stands where sample 1 belongs"),
            (refuse(&evaluation(&[("taro", 0.0), ("hanako", f64::NAN)])), "sample 2"),
            (refuse(&short), "sample 2"),
            (objective().sample(&short.samples[1]).unwrap_err().to_string(), "no score"),
        ] {
            assert!(fault.contains(said) && !fault.contains("taro") && !fault.contains("hanako"), "{fault}");
        }
    }

    #[test]
    fn orders_totally() {
        let f = |x| Fitness::new(x).unwrap();
        assert!(f(0.2) < f(0.3));
        assert_eq!(f(-0.0), f(0.0));
        assert_eq!(Fitness::new(f64::NAN), Err(NotFinite));
        assert_eq!(Fitness::new(f64::INFINITY), Err(NotFinite));
    }
}
