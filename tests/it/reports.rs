//! Where the texts of reports are, and where they are not.

use std::path::Path;
use tests::{Run, jsonl};

/// Whether any file under a folder holds these bytes.
fn holds(folder: &Path, bytes: &[u8]) -> bool {
    std::fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => holds(&path, bytes),
            false => std::fs::read(&path).unwrap().windows(bytes.len()).any(|w| w == bytes),
        }
    })
}

#[test]
fn reports_stay_where_they_were_written_and_are_brought_together_for_a_new_score() {
    let run = Run::new(4, 6);
    run.search("told", 1);
    let texts = jsonl(&run.look("reports", "told", &["--candidate", "3", "--json"]));
    let longest =
        texts.iter().map(|r| r["text"].as_str().unwrap()).max_by_key(|t| t.len()).unwrap().to_string();
    assert!(longest.chars().count() > 10 && holds(&run.path("told"), longest.as_bytes()), "{longest}");

    let run = run.with("reports", "local");
    let coordinator = run.start("state");
    let kept = run.path("kept").display().to_string();
    let worker = coordinator.worker("w", &["--reports", &kept]);
    coordinator.process.expect(0);
    let said = worker.expect(0).output;
    assert!(said.contains("reports stay on this node") && !said.contains(&longest), "{said}");
    // The search is the same, since scores are; nothing of a text reached the run's folder.
    assert_eq!(run.genomes("state"), run.genomes("told"));
    assert!(!holds(&run.path("state"), longest.as_bytes()), "a report left its node");
    let shown = jsonl(&run.look("reports", "state", &["--candidate", "3", "--json"]));
    for (shown, told) in shown.iter().zip(&texts) {
        let characters = told["text"].as_str().unwrap().chars().count();
        assert_eq!((&shown["text"], &shown["kept"]["characters"]), (&"".into(), &characters.into()));
        assert_eq!(shown["scores"], told["scores"]);
    }

    let folder = std::fs::read_dir(&kept).unwrap().next().unwrap().unwrap().path();
    assert!(holds(&folder, longest.as_bytes()));
    let again = run.look(
        "rescore",
        "state",
        &["--json", "--set", "fitness.term_f1=1", "--reports", &folder.display().to_string()],
    );
    let whole = run.look("rescore", "told", &["--json", "--set", "fitness.term_f1=1"]);
    let fitness = |text: &str| jsonl(text).iter().map(|c| c["fitness"].clone()).collect::<Vec<_>>();
    assert_eq!(fitness(&again), fitness(&whole));
}
