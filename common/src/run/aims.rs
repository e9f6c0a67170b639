//! `[objectives]`: what is sought at once, for a Pareto front.

use super::reader::Section;
use crate::fitness::{Aim, Direction, FITNESS};

/// Reads `[objectives]`; `metrics` are the names that it may use, beside `fitness`.
pub(super) fn read(s: &Section<'_>, metrics: &[String]) -> Vec<Aim> {
    let mut aims: Vec<Aim> = Vec::new();
    for (key, direction) in [("maximise", Direction::Maximise), ("minimise", Direction::Minimise)] {
        for metric in s.strings(key, "[\"rouge_l\", \"term_f1\"]").unwrap_or_default() {
            if metric != FITNESS && !metrics.contains(&metric) {
                let remedy = format!("name fitness, or one of {}", metrics.join(", "));
                s.note(Some(key), format!("{metric:?}: no such metric"), remedy);
            } else if aims.iter().any(|a| a.metric == metric) {
                s.note(Some(key), format!("{metric:?} stands twice"), "name each objective once");
            } else {
                aims.push(Aim { metric, direction });
            }
        }
    }
    if aims.len() > 8 {
        s.note(
            None,
            "more than 8 objectives",
            "nearly everything is on such a front: weigh some into the fitness",
        );
    }
    s.finish();
    aims
}

/// Aims as the section of a run file.
pub(super) fn as_toml(aims: &[Aim]) -> String {
    let named = |direction: Direction| -> Vec<&str> {
        aims.iter().filter(|a| a.direction == direction).map(|a| a.metric.as_str()).collect()
    };
    let list = |names: &[&str]| serde_json::to_string(names).expect("strings are JSON");
    let (maximise, minimise) = (list(&named(Direction::Maximise)), list(&named(Direction::Minimise)));
    format!("[objectives]\nmaximise = {maximise}\nminimise = {minimise}\n")
}
