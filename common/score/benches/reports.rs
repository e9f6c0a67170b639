//! Scoring the reports of one candidate: `cargo bench -p score`.

#![forbid(unsafe_code)]

use divan::{Bencher, counter::ItemsCount};
use score::{MetricSet, Reference, Scorer, Settings};

fn main() {
    divan::main();
}

/// Whole reports of the golden pairs, as many as a candidate has, references prepared as a worker does.
fn candidate(scorer: &Scorer) -> Vec<(Reference, String)> {
    let rows = include_str!("../tests/golden/metrics.jsonl").lines();
    let rows =
        rows.map(|line| serde_json::from_str::<serde_json::Value>(line).expect("golden lines are JSON"));
    let text = |row: &serde_json::Value, key: &str| row[key].as_str().unwrap_or_default().to_string();
    let pairs = rows.map(|row| (text(&row, "reference"), text(&row, "prediction")));
    let whole = pairs.filter(|(r, p)| r.chars().count() > 80 && p.chars().count() > 80);
    whole.take(50).map(|(r, p)| (scorer.prepare(&r), p)).collect()
}

#[divan::bench(args = ["all", "rouge_l", "term_f1", "bleu_4", "sacrebleu"])]
fn fifty_reports(bencher: Bencher, metric: &str) {
    let scorer = Scorer::new(Settings::default()).expect("the built-in settings");
    let set = match metric {
        "all" => MetricSet::ALL,
        one => MetricSet::named([one]).expect("a metric's name"),
    };
    let reports = candidate(&scorer);
    bencher.counter(ItemsCount::new(reports.len())).bench_local(|| {
        let score = |(reference, text): &(Reference, String)| scorer.score_prepared(reference, text, set);
        reports.iter().map(score).collect::<Vec<_>>()
    });
}
