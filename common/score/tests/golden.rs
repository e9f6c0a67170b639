//! Metrics and segmentation against sacrebleu, nltk, rouge_score and MeCab.
//!
//! The expected values are written by `scripts/golden/metrics/make.py` with the versions pinned there.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use score::{SampleScores, Scorer, Settings};
use serde::Deserialize;

/// Largest difference allowed: the order of additions and logarithms differs, nothing else.
const TOLERANCE: f64 = 1e-9;

#[derive(Deserialize)]
struct Pair {
    reference: String,
    prediction: String,
    values: BTreeMap<String, f64>,
}

#[derive(Deserialize)]
struct CorpusRow {
    begin: usize,
    end: usize,
    sacrebleu: f64,
    sacrebleu_char: f64,
}

#[derive(Deserialize)]
struct Segmented {
    text: String,
    #[serde(rename = "unidic-lite")]
    unidic_lite: String,
    ipadic: String,
}

fn rows<T: for<'de> Deserialize<'de>>(text: &str) -> Vec<T> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn metrics_equal_the_references() {
    let pairs: Vec<Pair> = rows(include_str!("golden/metrics.jsonl"));
    assert!(pairs.len() >= 200);
    let scorer = Scorer::new(Settings::default()).unwrap();
    let mut largest: f64 = 0.0;
    let mut samples: Vec<SampleScores> = Vec::new();
    for Pair { reference, prediction, values } in &pairs {
        let scores = scorer.score(reference, prediction);
        for (name, expected) in values {
            let got = scores.metrics[name];
            let difference = (got - expected).abs();
            assert!(difference <= TOLERANCE, "{name}: {got} not {expected}\n{reference:?}\n{prediction:?}");
            largest = largest.max(difference);
        }
        samples.push(scores);
    }
    let corpora: Vec<CorpusRow> = serde_json::from_str(include_str!("golden/corpora.json")).unwrap();
    for row in corpora {
        let corpus = scorer.corpus(&samples[row.begin..row.end]);
        for (name, expected) in [("sacrebleu", row.sacrebleu), ("sacrebleu_char", row.sacrebleu_char)] {
            let difference = (corpus.metrics[name] - expected).abs();
            assert!(difference <= TOLERANCE, "corpus {name}: {} not {expected}", corpus.metrics[name]);
            largest = largest.max(difference);
        }
    }
    println!("{} pairs, largest difference {largest:e}", pairs.len());
}

#[test]
fn segmentation_equals_mecab() {
    let (unidic, ipadic) = (score::tokenize::Tokenizer::unidic_lite(), score::tokenize::Tokenizer::ipadic());
    for row in rows::<Segmented>(include_str!("golden/segmentation.jsonl")) {
        assert_eq!(unidic.wakati(&row.text), row.unidic_lite, "unidic-lite, {:?}", row.text);
        assert_eq!(ipadic.wakati(&row.text), row.ipadic, "ipadic, {:?}", row.text);
    }
}
