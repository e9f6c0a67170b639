//! `[scoring]` and `[fitness]`: how reports become numbers, and these one number.

use super::MEASURES;
use super::external::{self, EvaluatorPlan};
use super::plan::ScoringPlan;
use super::reader::{Section, edit_distance};
use crate::fitness::Objective;
use std::collections::BTreeMap;

/// Names that `[fitness]` and `[objectives]` may use. An evaluator's scores stand alone.
pub(super) fn metric_names(
    scoring: &ScoringPlan,
    evaluator: Option<&EvaluatorPlan>,
    built_in: &[&str],
) -> Vec<String> {
    if let Some(evaluator) = evaluator {
        return evaluator.scores.clone();
    }
    let external = scoring.external.iter().flat_map(|(name, plan)| plan.metrics(name));
    built_in.iter().chain(&MEASURES).map(|m| m.to_string()).chain(external).collect()
}

/// Reads `[scoring]`; `metrics` are the built-in names.
pub(super) fn read(s: &Section<'_>, path: &dyn Fn(String) -> String, metrics: &[&str]) -> ScoringPlan {
    let taken: Vec<&str> = metrics.iter().chain(&MEASURES).chain(&["fitness"]).copied().collect();
    let tokenizer = s.string("tokenizer", "\"unidic-lite\"").unwrap_or_else(|| "unidic-lite".into());
    let built_in = ["unidic-lite", "ipadic", "char"].contains(&tokenizer.as_str());
    let plan = ScoringPlan {
        tokenizer: if built_in { tokenizer } else { path(tokenizer) },
        lexicon: s.string("lexicon", "\"lexicon.toml\"").map(path),
        extend_lexicon: s.string("extend_lexicon", "\"more.csv\"").map(path),
        absent_weight: s.number("absent_weight", 0.0..=1000.0, "1.0").unwrap_or(1.0),
        nfkc: s.boolean("nfkc").unwrap_or(true),
        external: external::read_metrics(&s.section("external"), path, &taken),
    };
    if plan.lexicon.is_some() && plan.extend_lexicon.is_some() {
        let remedy = "keep lexicon (in place of the built-in one) or extend_lexicon (laid over it)";
        s.note(Some("extend_lexicon"), "given beside lexicon", remedy);
    }
    s.finish();
    plan
}

/// Reads `[fitness]`. `own` are the scores of an evaluator, of which a single one needs no weight.
pub(super) fn read_fitness(s: &Section<'_>, metrics: &[String], own: Option<&[String]>) -> Objective {
    let mut weights = BTreeMap::new();
    for key in s.keys() {
        if !metrics.iter().any(|m| m == key) {
            s.get(key);
            let nearest = metrics.iter().min_by_key(|m| edit_distance(m, key)).map_or("rouge_l", |m| m);
            let remedy = format!("did you mean {nearest}? metrics are {}", metrics.join(", "));
            s.note(Some(key), "no such metric", remedy);
        } else if let Some(weight) = s.number(key, -1000.0..=1000.0, "0.5") {
            weights.insert(key.to_string(), weight);
        }
    }
    match own {
        _ if s.keys().next().is_some() => {
            if !weights.is_empty() && weights.values().all(|w| *w == 0.0) {
                s.note(None, "all weights are zero", "give at least one metric a weight");
            }
        }
        None => weights = BTreeMap::from([("rouge_l".into(), 0.5), ("term_f1".into(), 0.5)]),
        Some([only]) => weights = BTreeMap::from([(only.clone(), 1.0)]),
        Some(_) => s.note(None, "the evaluator has several scores", "add [fitness] with the weight of each"),
    }
    s.finish();
    Objective { weights }
}
