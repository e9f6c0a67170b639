//! `jradievo optimize`: a space as a person writes it, `---` on a line of its own, then requests, one a line.
//!
//! A line in place of the space that begins with `{"format"` is a state file. One without a digest is of an earlier version
//! and taken at its word, so that it is left out here; so are large searches, which are the operator's to ask for.

use common::run::study::{StudyPlan, parse};
use search::Search;
use search::dialogue::{Dialogue, Saved, Study};

/// More parameters than this, …
const DIMENSIONS: usize = 24;
/// … a larger population, …
const POPULATION: usize = 64;
/// … or more points than this take their time with good reason.
const EVALUATIONS: u64 = 256;

/// Every line gets an answer that is JSON, and a study goes on from its state file with the answers that it would have
/// given.
pub fn optimize(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (space, lines) = text.split_once("\n---\n").unwrap_or((text, ""));
    let study = if space.starts_with("{\"format\"") {
        if !space.contains("\"digest\"") {
            return;
        }
        match Saved::from_text(space).and_then(|saved| Study::restore(saved, None)) {
            Ok(study) => study,
            Err(e) => return drop(e.to_string()),
        }
    } else {
        match parse("space.toml", space, &[], false) {
            Ok(plan) if is_small(&plan) => Study::new(plan),
            Ok(_) => return,
            Err(faults) => {
                assert!(!faults.faults.is_empty(), "a refusal without a reason");
                return drop(faults.to_string());
            }
        }
    };
    if !is_small(study.plan()) || study.search().population() > POPULATION {
        return;
    }
    let mut dialogue = Dialogue::new(study);
    for line in lines.lines().take(64) {
        let before = dialogue.study().save().to_text();
        let answer = dialogue.answer(line);
        assert_eq!(answer.is_none(), line.trim().is_empty());
        let Some(answer) = answer else { continue };
        assert!(serde_json::from_str::<serde_json::Value>(&answer.text).is_ok(), "{}", answer.text);
        let saved = Saved::from_text(&before).expect("a state is read again");
        let mut again = Dialogue::new(Study::restore(saved, None).expect("a state is a study"));
        let mut repeated = again.answer(line).expect("it was answered before").text;
        // Lines are counted from the beginning of a dialogue, and this one began anew.
        if answer.text.contains("\"errors\"") {
            repeated.clone_from(&answer.text);
        }
        assert_eq!(repeated, answer.text);
    }
}

fn is_small(plan: &StudyPlan) -> bool {
    let search = &plan.search;
    plan.space.len() <= DIMENSIONS && search.population <= POPULATION && search.evaluations <= EVALUATIONS
}
