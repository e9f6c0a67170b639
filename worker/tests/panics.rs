//! A panic that quotes a report: its place is told, on standard error and as the attempt's reason, and nothing of the text.
//!
//! The hook is the whole process's, so that what happens under it happens in a process of its own.

use common::evaluation::Timings;
use common::recipe::Recipe;
use std::process::Command;
use std::sync::Arc;
use worker::evaluator::{Control, EvaluateError, Evaluator};
use worker::slot::{Job, MakeEvaluator, Slots, Workplace};

/// Says that this process is the one that panics.
const CHILD: &str = "PANICS_CHILD";
const REPORT: &str = "右胸水を認める。";

/// Cuts a text within a character, for which the standard library quotes it.
struct Cutting;

impl Evaluator for Cutting {
    fn evaluate(&mut self, recipe: &Recipe, _: &Control) -> Result<Timings, EvaluateError> {
        let end = recipe.mask_seed as usize;
        Err(EvaluateError::Failed(REPORT[..end].to_string()))
    }
}

fn recipe() -> Recipe {
    let text = r#"{"format":1,"convention":"paper","base":{"name":"base","path":"/b"},"vlm":{"name":"vlm","path":"/v"},
        "sources":[],"scale":1.0,"mask":"shared","mask_seed":1}"#;
    Recipe::parse(text).unwrap()
}

fn child() {
    common::panics::install();
    let (sender, mut done) = tokio::sync::mpsc::unbounded_channel();
    let make: Arc<MakeEvaluator> = Arc::new(|| Ok(Box::new(Cutting)));
    let slots = Slots::start(1, Box::new(Cutting), make, sender).unwrap();
    assert!(slots.submit(Job { lease: 1, recipe: recipe(), control: Arc::default() }));
    println!("reason: {}", done.blocking_recv().unwrap().result.unwrap_err());
}

#[test]
fn a_panic_tells_its_place_and_nothing_of_what_it_quotes() {
    if std::env::var_os(CHILD).is_some() {
        return child();
    }
    let name = "a_panic_tells_its_place_and_nothing_of_what_it_quotes";
    let child = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8(child.stdout).unwrap(), String::from_utf8(child.stderr).unwrap());
    assert!(child.status.success(), "{out}{err}");
    assert!(
        out.contains("reason: ") && out.contains("the evaluation panicked at worker/tests/panics.rs:"),
        "{out}"
    );
    assert!(err.contains("thread slot-0 panicked at worker/tests/panics.rs:"), "{err}");
    assert!(!format!("{out}{err}").contains("胸水"), "{out}{err}");
}
