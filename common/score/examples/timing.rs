//! Prints how long loading and scoring take: `cargo run --release -p score --example timing`.
//!
//! Scores the first 50 golden pairs that are whole reports, references prepared beforehand, as a worker does.

#![forbid(unsafe_code)]

use std::time::Instant;

use score::tokenize::Tokenizer;
use score::{MetricSet, Scorer, Settings, summarise};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let begin = Instant::now();
    Tokenizer::unidic_lite();
    println!("load unidic-lite {:?}", begin.elapsed());
    let begin = Instant::now();
    Tokenizer::ipadic();
    println!("load ipadic {:?}", begin.elapsed());
    let begin = Instant::now();
    let scorer = Scorer::new(Settings::default())?;
    println!("lexicon {:?}", begin.elapsed());

    let mut pairs = Vec::new();
    for line in include_str!("../tests/golden/metrics.jsonl").lines() {
        let row: serde_json::Value = serde_json::from_str(line)?;
        let text = |key: &str| row[key].as_str().unwrap_or_default().to_string();
        if text("reference").chars().count() > 80 && text("prediction").chars().count() > 80 {
            pairs.push((text("reference"), text("prediction")));
        }
    }
    pairs.truncate(50);
    let chars: usize = pairs.iter().map(|(_, p)| p.chars().count()).sum();
    let begin = Instant::now();
    let references: Vec<_> = pairs.iter().map(|(r, _)| scorer.prepare(r)).collect();
    println!("prepare {} references {:?}", references.len(), begin.elapsed());
    let sets = [
        ("every metric", MetricSet::ALL),
        ("rouge_l and term_f1", MetricSet::named(["rouge_l", "term_f1"])?),
        ("term_f1", MetricSet::named(["term_f1"])?),
        ("sacrebleu", MetricSet::named(["sacrebleu"])?),
        ("bleu_4", MetricSet::named(["bleu_4"])?),
    ];
    for (name, set) in sets {
        let mut samples = Vec::new();
        let mut best = f64::MAX;
        for _ in 0..10 {
            let begin = Instant::now();
            samples =
                references.iter().zip(&pairs).map(|(r, (_, p))| scorer.score_prepared(r, p, set)).collect();
            best = best.min(begin.elapsed().as_secs_f64());
        }
        println!(
            "score {} reports of {} characters, {name}: {:.1} ms",
            samples.len(),
            chars / samples.len(),
            best * 1e3
        );
        let begin = Instant::now();
        let summary = summarise(&samples);
        println!("  summary of {} metrics {:?}", summary.metrics.len(), begin.elapsed());
    }
    Ok(())
}
