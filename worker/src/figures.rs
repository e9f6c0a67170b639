//! Samples' scores → means with intervals, and the difference between two models on the same samples.

use common::evaluation::SampleResult;
use common::fitness::Objective;
use score::bootstrap::{Interval, Resampler, paired_difference};
use std::collections::BTreeMap;

/// Metric → mean with its 95 % bootstrap interval.
pub type Figures = BTreeMap<String, Interval>;

/// The metric that [`add_fitness`] adds.
pub const FITNESS: &str = "fitness";

/// Means of every metric that all samples have.
pub fn figures(samples: &[SampleResult]) -> Figures {
    let resampler = Resampler::new(samples.len());
    let names = samples.first().map(|s| s.scores.keys()).into_iter().flatten();
    names.filter_map(|name| Some((name.clone(), resampler.mean(&column(samples, name)?)))).collect()
}

/// Adds each sample's part of the fitness to its scores, as the metric `fitness`.
pub fn add_fitness(samples: &mut [SampleResult], objective: &Objective) {
    for sample in samples {
        if let Ok(fitness) = objective.sample(sample) {
            sample.scores.insert(FITNESS.into(), fitness);
        }
    }
}

/// Mean of `ours − theirs` per metric, paired by sample: ours is better where `low` is above zero.
pub fn differences(ours: &[SampleResult], theirs: &[SampleResult]) -> Figures {
    let names = ours.first().map(|s| s.scores.keys()).into_iter().flatten();
    let paired = |name: &String| {
        let (a, b) = (column(ours, name)?, column(theirs, name)?);
        (a.len() == b.len()).then(|| (name.clone(), paired_difference(&a, &b)))
    };
    names.filter_map(paired).collect()
}

fn column(samples: &[SampleResult], name: &str) -> Option<Vec<f64>> {
    samples.iter().map(|s| s.scores.get(name).copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::evaluation::Stop;

    fn samples(values: &[f64]) -> Vec<SampleResult> {
        let sample = |(i, v): (usize, &f64)| SampleResult {
            sample: i.to_string(),
            text: String::new(),
            tokens: 0,
            stop: Stop::End,
            scores: BTreeMap::from([("rouge_l".to_string(), *v)]),
            kept: None,
        };
        values.iter().enumerate().map(sample).collect()
    }

    #[test]
    fn fitness_is_a_metric_like_others_and_differences_are_paired() {
        let objective = Objective { weights: BTreeMap::from([("rouge_l".to_string(), 2.0)]) };
        let mut ours = samples(&[0.2, 0.4, 0.9]);
        let mut theirs = samples(&[0.1, 0.3, 0.8]);
        add_fitness(&mut ours, &objective);
        add_fitness(&mut theirs, &objective);
        assert!((figures(&ours)[FITNESS].mean - 1.0).abs() < 1e-12);
        let d = differences(&ours, &theirs);
        assert!((d["rouge_l"].mean - 0.1).abs() < 1e-12 && d["rouge_l"].low > 0.099);
        assert!((d[FITNESS].low - 0.2).abs() < 1e-9);
        assert!(figures(&[]).is_empty());
    }
}
