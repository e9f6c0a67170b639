//! Samples are kept as they are finished, whoever finishes the rest.

use tests::{Run, jsonl};

/// `key=value` of a log line as a number.
fn number(line: &str, key: &str) -> u64 {
    let at = line.find(&format!("{key}=")).unwrap_or_else(|| panic!("no {key} in {line}")) + key.len() + 1;
    let digits: String = line[at..].chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|_| panic!("no number {key} in {line}"))
}

/// Log lines without the colours that a terminal would show.
fn plain(text: &str) -> String {
    let mut out = String::new();
    let mut parts = text.split('\u{1b}');
    out += parts.next().unwrap_or_default();
    for part in parts {
        out += part.split_once('m').map_or(part, |(_, rest)| rest);
    }
    out
}

#[test]
fn the_next_worker_generates_only_what_a_killed_one_left() {
    // Fifty samples two by two, so that the first candidate is in the middle of its batches when its worker is killed.
    let run = Run::new(50, 4).with("scheduling.lease_seconds", "2").with("generation.batch_size", "2");
    run.search("calm", 1);
    let coordinator = run.start("state");
    let mut doomed = coordinator.worker("doomed", &[]);
    doomed.wait_for("begins");
    // Some of its samples are recorded; the attempt goes on.
    let recorded = loop {
        let first = &jsonl(&run.look("candidates", "state", &["--json"]))[0];
        assert_eq!(first["state"], "leased", "it was too fast to be killed in the middle: {first}");
        if first["samples_done"].as_u64() >= Some(4) {
            break first["samples_done"].as_u64().unwrap();
        }
    };
    doomed.kill();
    let survivor = coordinator.worker("survivor", &[]);
    coordinator.process.expect(0);
    let told = plain(&survivor.expect(0).output);
    assert_eq!(run.genomes("state"), run.genomes("calm"));

    let first = &jsonl(&run.look("candidates", "state", &["--json"]))[0];
    let kept = first["attempts"][0]["samples"].as_u64().unwrap();
    let redone = first["attempts"][1]["samples"].as_u64().unwrap();
    assert!(kept >= recorded && kept < 50, "{first}");
    assert_eq!(kept + redone, 50, "{first}");
    assert_eq!(
        (&first["attempts"][0]["end"], &first["attempts"][1]["end"]),
        (&"expired".into(), &"scored".into())
    );
    // What the survivor itself says that it generated.
    let done = told.lines().find(|l| l.contains("done") && l.contains("candidate=1 ")).unwrap();
    assert_eq!(number(done, "samples"), redone, "{done}");
}

#[test]
fn a_stopped_worker_hands_back_with_what_it_finished() {
    let run = Run::new(50, 4).with("generation.batch_size", "2");
    let coordinator = run.start("state");
    let mut leaving = coordinator.worker("leaving", &[]);
    leaving.wait_for("begins");
    while jsonl(&run.look("candidates", "state", &["--json"]))[0]["samples_done"].as_u64() < Some(4) {}
    leaving.signal("INT");
    leaving.expect(130);
    let survivor = coordinator.worker("survivor", &[]);
    coordinator.process.expect(0);
    survivor.expect(0);
    let first = &jsonl(&run.look("candidates", "state", &["--json"]))[0];
    let samples = |i: usize| first["attempts"][i]["samples"].as_u64().unwrap();
    assert_eq!(first["attempts"][0]["end"], "handed-back", "{first}");
    assert!(samples(0) >= 4 && samples(0) + samples(1) == 50, "{first}");
}

#[test]
fn idle_workers_share_the_last_candidate_and_early_stops_are_told() {
    let run = Run::new(50, 12)
        .with("generation.batch_size", "5")
        .with("early_stop.hopeless", "0.9")
        .with("early_stop.repetition", "true")
        .with("early_stop.no_japanese_after", "16");
    run.search("one", 1);
    run.search("three", 3);
    let all = |state: &str| jsonl(&run.look("candidates", state, &["--json"]));
    let (one, three) = (all("one"), all("three"));
    for (a, b) in one.iter().zip(&three) {
        for key in ["genome", "state", "fitness", "bound", "metrics"] {
            assert_eq!(a[key], b[key], "candidate {}: {key}", a["candidate"]);
        }
    }
    let status: serde_json::Value = serde_json::from_str(&run.look("status", "one", &["--json"])).unwrap();
    let censored = one.iter().filter(|c| c["state"] == "censored");
    assert_eq!(status["saved"]["candidates"], censored.count());
    let samples_left: u64 = one
        .iter()
        .filter(|c| c["state"] == "censored")
        .map(|c| 50 - c["samples_done"].as_u64().unwrap())
        .sum();
    assert_eq!(status["saved"]["samples"], samples_left);
    let early = |c: &serde_json::Value| {
        let reports = run.look("reports", "one", &["--candidate", &c["candidate"].to_string(), "--json"]);
        jsonl(&reports).iter().filter(|r| r["stop"] == "repetition" || r["stop"] == "no-japanese").count()
    };
    assert_eq!(status["saved"]["reports"], one.iter().map(early).sum::<usize>());
    assert!(status["saved"]["reports"].as_u64() > Some(0), "the family's first merges do not speak Japanese");
}
