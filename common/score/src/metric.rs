//! The names of all metrics, and sets of them.

use crate::error::{Error, Result};

/// What a metric is, for tables and help texts.
#[derive(Debug, Clone, Copy)]
pub struct MetricInfo {
    /// Its name in run files and outputs.
    pub name: &'static str,
    /// Lowest and highest value; higher is better for all.
    pub range: (f64, f64),
    /// One line for people.
    pub description: &'static str,
    /// Where the definition comes from.
    pub source: &'static str,
}

const NLTK: &str = "nltk 3.10.4 sentence_bleu, smoothing method 1";
const SACREBLEU: &str = "sacrebleu 2.6.0 sentence_bleu, exp smoothing, effective order";
const ROUGE: &str = "rouge_score 0.1.2 over MeCab tokens";
const OURS: &str = "this project: src/term";

const fn info(name: &'static str, top: f64, description: &'static str, source: &'static str) -> MetricInfo {
    MetricInfo { name, range: (0.0, top), description, source }
}

/// Every metric, in the order of tables.
pub const METRICS: &[MetricInfo] = &[
    info("bleu_1", 1.0, "BLEU-1 over characters of the tokenised line, as in the paper", NLTK),
    info("bleu_2", 1.0, "BLEU-2 over characters of the tokenised line, as in the paper", NLTK),
    info("bleu_3", 1.0, "BLEU-3 over characters of the tokenised line, as in the paper (weights 0.33)", NLTK),
    info("bleu_4", 1.0, "BLEU-4 over characters of the tokenised line, as in the paper", NLTK),
    info("bleu_tok_4", 1.0, "BLEU-4 over tokens", NLTK),
    info("sacrebleu", 100.0, "sentence BLEU over ja-mecab (IPADIC) tokens", SACREBLEU),
    info("sacrebleu_char", 100.0, "sentence BLEU over characters", SACREBLEU),
    info("rouge_1", 1.0, "ROUGE-1 F-measure over tokens", ROUGE),
    info("rouge_2", 1.0, "ROUGE-2 F-measure over tokens", ROUGE),
    info("rouge_l", 1.0, "ROUGE-L F-measure over tokens, the paper's fitness", ROUGE),
    info("term_f1", 1.0, "F1 over findings where side, zone and assertion agree too", OURS),
    info("term_precision", 1.0, "precision of the same", OURS),
    info("term_recall", 1.0, "recall of the same", OURS),
    info("term_f1_finding", 1.0, "F1 over findings where the assertion agrees", OURS),
];

/// A set of metrics, so that a search need not compute what its fitness ignores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetricSet(u32);

impl MetricSet {
    /// Every metric.
    pub const ALL: Self = Self((1 << METRICS.len()) - 1);

    /// The metrics named.
    ///
    /// Errors: [`Error::Metric`] for a name that is not in [`METRICS`].
    pub fn named<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> Result<Self> {
        let mut set = Self(0);
        for name in names {
            let name = name.as_ref();
            let index = METRICS.iter().position(|m| m.name == name).ok_or_else(|| Error::Metric {
                name: name.into(),
                known: METRICS.iter().map(|m| m.name).collect::<Vec<_>>().join(", "),
            })?;
            set.0 |= 1 << index;
        }
        Ok(set)
    }

    /// Whether the set has the metric.
    pub fn contains(self, name: &str) -> bool {
        METRICS.iter().position(|m| m.name == name).is_some_and(|index| self.0 >> index & 1 == 1)
    }

    /// Whether the set has any of the metrics.
    pub(crate) fn any(self, names: &[&str]) -> bool {
        names.iter().any(|name| self.contains(name))
    }
}

impl Default for MetricSet {
    fn default() -> Self {
        Self::ALL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_by_name() {
        let set = MetricSet::named(["rouge_l", "term_f1"]).unwrap();
        assert!(set.contains("rouge_l") && !set.contains("bleu_1") && MetricSet::ALL.contains("bleu_1"));
        let message = MetricSet::named(["rouge"]).unwrap_err().to_string();
        assert!(message.starts_with("unknown metric \"rouge\"; known are bleu_1, "), "{message}");
    }
}
