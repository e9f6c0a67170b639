//! What a worker returns for a candidate.

use crate::digest::Digest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Why a row of a batch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stop {
    /// The model wrote an end token.
    End,
    /// The limit of new tokens was reached.
    Length,
    /// The logits held NaN or infinity; the text is empty and scored as such.
    NonFinite,
    /// The report went in circles; the text so far is kept and scored.
    Repetition,
    /// The report held nothing Japanese where it should long have; the text so far is kept and scored.
    NoJapanese,
}

impl Stop {
    /// Whether a run's choice ended the report before the model or the limit did.
    pub fn is_early(self) -> bool {
        matches!(self, Stop::Repetition | Stop::NoJapanese)
    }
}

/// One sample's report and scores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SampleResult {
    /// The sample's id in the dataset.
    pub sample: String,
    /// The generated report, trimmed, special tokens left out; empty where it is `kept`.
    pub text: String,
    /// New tokens, the end token included.
    pub tokens: u32,
    /// Why generation ended.
    pub stop: Stop,
    /// Metric name → value.
    pub scores: BTreeMap<String, f64>,
    /// What stands for a report that stays on the node where it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<Kept>,
}

/// What is known of a report elsewhere than where it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// Of its UTF-8 text.
    pub digest: Digest,
    /// Its length in characters.
    pub characters: u32,
}

impl SampleResult {
    /// The same without the report's text, of which digest and length are left.
    pub fn without_text(self) -> SampleResult {
        let kept = self.kept.unwrap_or_else(|| Kept {
            digest: Digest::of(self.text.as_bytes()),
            characters: self.text.chars().count() as u32,
        });
        SampleResult { text: String::new(), kept: Some(kept), ..self }
    }

    /// A score by its name, or one of [`crate::run::MEASURES`]: `tokens` written, `length` in characters.
    pub fn value(&self, metric: &str) -> Option<f64> {
        match metric {
            "tokens" => Some(f64::from(self.tokens)),
            "length" => Some(match self.kept {
                Some(kept) => f64::from(kept.characters),
                None => self.text.chars().count() as f64,
            }),
            _ => self.scores.get(metric).copied(),
        }
    }
}

/// Wall-clock milliseconds per stage of one candidate on one worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timings {
    /// Merging weights, in place.
    pub merge_ms: u64,
    /// Image features, where they were not yet there.
    pub features_ms: u64,
    /// Generating the reports.
    pub generate_ms: u64,
    /// Scoring the reports.
    pub score_ms: u64,
    /// Of the generating, running the prompts; the rest is decoding.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub prefill_ms: u64,
}

fn is_zero(ms: &u64) -> bool {
    *ms == 0
}

impl Timings {
    /// Both together, stage by stage.
    pub fn plus(self, other: Timings) -> Timings {
        Timings {
            merge_ms: self.merge_ms.saturating_add(other.merge_ms),
            features_ms: self.features_ms.saturating_add(other.features_ms),
            generate_ms: self.generate_ms.saturating_add(other.generate_ms),
            score_ms: self.score_ms.saturating_add(other.score_ms),
            prefill_ms: self.prefill_ms.saturating_add(other.prefill_ms),
        }
    }

    /// What `self` has beyond `earlier`, stage by stage.
    pub fn since(self, earlier: Timings) -> Timings {
        Timings {
            merge_ms: self.merge_ms.saturating_sub(earlier.merge_ms),
            features_ms: self.features_ms.saturating_sub(earlier.features_ms),
            generate_ms: self.generate_ms.saturating_sub(earlier.generate_ms),
            score_ms: self.score_ms.saturating_sub(earlier.score_ms),
            prefill_ms: self.prefill_ms.saturating_sub(earlier.prefill_ms),
        }
    }

    /// All stages.
    pub fn total_ms(&self) -> u64 {
        self.merge_ms + self.features_ms + self.generate_ms + self.score_ms
    }
}

/// Everything that one evaluation of one candidate yields.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluation {
    /// One entry per sample of the run, in the run's order.
    pub samples: Vec<SampleResult>,
    /// Where the time went.
    pub timings: Timings,
}

impl Evaluation {
    /// Mean over the samples of each metric, and of [`crate::run::MEASURES`].
    pub fn means(&self) -> BTreeMap<String, f64> {
        let mut sums: BTreeMap<String, f64> = BTreeMap::new();
        for sample in &self.samples {
            let measures = crate::run::MEASURES.iter().filter_map(|m| Some((*m, sample.value(m)?)));
            for (name, value) in sample.scores.iter().map(|(n, v)| (n.as_str(), *v)).chain(measures) {
                *sums.entry(name.to_string()).or_default() += value;
            }
        }
        let n = self.samples.len().max(1) as f64;
        sums.values_mut().for_each(|v| *v /= n);
        sums
    }
}
