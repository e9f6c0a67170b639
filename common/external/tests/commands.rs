//! Real commands, small ones in sh: what they answer, and everything that they can do wrong.

#![forbid(unsafe_code)]

use common::run::{EvaluatorPlan, ExternalPlan, Given, Per, ProgramPlan, Reports};
use external::evaluator::Request;
use external::{Evaluator, Fault, Metrics, Row, Trouble};
use std::collections::BTreeMap;

fn program(script: &str) -> ProgramPlan {
    ProgramPlan {
        command: ["sh", "-c", script].map(String::from).to_vec(),
        files: Vec::new(),
        environment: vec!["CARGO_MANIFEST_DIR".into()],
        // Long enough for a busy machine; only what hangs is ended by it.
        timeout_seconds: 60.0,
        start_seconds: 0.0,
    }
}

fn metrics(per: Per, scores: &[&str], program: ProgramPlan) -> Metrics {
    let scores = scores.iter().map(|s| s.to_string()).collect();
    Metrics::new(&BTreeMap::from([("m".to_string(), ExternalPlan { program, per, scores })]))
}

fn rows(n: usize) -> Vec<Row<'static>> {
    const IDS: [&str; 3] = ["a", "b", "c"];
    let row = |(position, sample)| Row {
        position,
        sample,
        text: "右胸水を認める。",
        reference: "胸水なし。",
        image: None,
    };
    IDS.into_iter().enumerate().take(n).map(row).collect()
}

fn never() -> bool {
    false
}

fn trouble(fault: Fault) -> (String, Trouble) {
    match fault {
        Fault::Trouble { about, trouble, .. } => (about, trouble),
        Fault::Cancelled => panic!("nobody cancelled"),
    }
}

#[test]
fn one_line_a_report_from_one_process() {
    // It counts its lines: the numbers show that it is kept running, and asked in order.
    let script = r#"n=0; while read -r line; do n=$((n+1)); echo "{\"score\": $n}"; done"#;
    let mut m = metrics(Per::Report, &[], program(script));
    let first = m.score(&rows(3), &never).unwrap();
    assert_eq!(first.iter().map(|s| s["m"]).collect::<Vec<_>>(), [1.0, 2.0, 3.0]);
    assert_eq!(m.score(&rows(1), &never).unwrap()[0]["m"], 4.0);
}

#[test]
fn the_request_is_what_is_documented() {
    // The script compares the line itself, so that no JSON reader is needed.
    let wanted = r#"{"sample":"a","text":"右胸水を認める。","reference":"胸水なし。"}"#;
    let script = format!(
        "while read -r line; do [ \"$line\" = '{wanted}' ] && echo '{{\"score\":1}}' || echo '{{\"score\":0}}'; done"
    );
    assert_eq!(metrics(Per::Report, &[], program(&script)).score(&rows(1), &never).unwrap()[0]["m"], 1.0);
}

#[test]
fn several_scores_and_one_line_a_candidate() {
    let each = r#"read -r line; echo '{"samples":[{"scores":{"x":1,"y":2}},{"sample":"b","scores":{"x":3,"y":4}}]}'"#;
    let scores = metrics(Per::Candidate, &["x", "y"], program(each)).score(&rows(2), &never).unwrap();
    assert_eq!((scores[0]["m_x"], scores[1]["m_y"]), (1.0, 4.0));
    let whole = metrics(Per::Candidate, &[], program(r#"read -r line; echo '{"score":0.25}'"#));
    let scores = { whole }.score(&rows(3), &never).unwrap();
    assert!(scores.iter().all(|s| s["m"] == 0.25));
}

#[test]
fn a_fault_names_sample_and_cause_and_the_command_is_started_anew() {
    // Every second line ends the process.
    let script = r#"read -r line; echo '{"score":1}'; read -r line; exit 3"#;
    let mut m = metrics(Per::Report, &[], program(script));
    let fault = m.score(&rows(2), &never).unwrap_err();
    let text = fault.to_string();
    assert!(text.starts_with("metric \"m\", sample 2: ended without an answer (exit status: 3)"), "{text}");
    assert_eq!(m.score(&rows(1), &never).unwrap()[0]["m"], 1.0);
}

#[test]
fn what_commands_do_wrong_is_told_apart() {
    let ask = |script: &str| {
        let (about, trouble) =
            trouble(metrics(Per::Report, &[], program(script)).score(&rows(2), &never).unwrap_err());
        (about, trouble.to_string())
    };
    let (about, text) = ask("read -r line; echo hello; cat >/dev/null");
    assert!(about == "sample 1" && text.contains("not JSON"), "{about}: {text}");
    let (_, text) = ask("read -r line; echo '{\"sample\":\"b\",\"score\":1}'; cat >/dev/null");
    assert!(text.contains("names another sample where sample 1 was asked"), "{text}");
    let (_, text) = ask("read -r line; head -c 2000000 /dev/zero | tr '\\0' x; cat >/dev/null");
    assert!(text.contains("more than 1048576 bytes"), "{text}");
    let (_, text) = ask("read -r line; printf '\\377\\n'; cat >/dev/null");
    assert!(text.contains("not UTF-8"), "{text}");
    let missing = ProgramPlan { command: vec!["/nowhere/metric".into()], ..program("") };
    let fault = metrics(Per::Report, &[], missing).score(&rows(1), &never).unwrap_err().to_string();
    assert!(fault.contains("cannot start \"/nowhere/metric\""), "{fault}");
    let (_, text) =
        ask(r#"read -r line; echo '{"error":"no words for 右胸水を認める here"}'; cat >/dev/null"#);
    assert_eq!(text, "it says: no words for ······· here");
}

#[test]
fn what_was_not_asked_for_is_refused() {
    // Whether the second line is there already when the second question is put is up to the machine; it is refused
    // both before and after.
    let script = r#"read -r line; printf '{"score":1}\n{"sample":"z","score":2}\n'; cat >/dev/null"#;
    let mut m = metrics(Per::Report, &[], program(script));
    assert_eq!(m.score(&rows(1), &never).unwrap()[0]["m"], 1.0);
    let second = trouble(m.score(&rows(1), &never).unwrap_err()).1;
    let other = Trouble::Answer("it names another sample where sample 1 was asked about".into());
    assert!(second == Trouble::Unasked || second == other, "{second}");
}

#[test]
fn a_script_that_changes_meanwhile_is_not_started_again() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("m.sh").display().to_string();
    std::fs::write(&script, "read -r line; echo '{\"score\":1}'; read -r line; exit 1").unwrap();
    let pinned = ProgramPlan {
        command: vec!["sh".into(), script.clone()],
        files: vec![script.clone()],
        ..program("")
    };
    let mut m = metrics(Per::Report, &[], pinned);
    assert!(m.score(&rows(2), &never).unwrap_err().to_string().contains("exit status: 1"));
    std::fs::write(&script, "read -r line; echo '{\"score\":9}'").unwrap();
    let fault = m.score(&rows(1), &never).unwrap_err().to_string();
    assert!(fault.contains("m.sh has changed since it was first started"), "{fault}");
}

#[test]
fn a_late_answer_ends_the_command_and_all_that_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let grandchild = folder.path().join("pid");
    let script = format!("sleep 600 & echo $! > '{}'; read -r line; wait", grandchild.display());
    let late = ProgramPlan { timeout_seconds: 0.3, ..program(&script) };
    let (about, trouble) = trouble(metrics(Per::Report, &[], late).score(&rows(1), &never).unwrap_err());
    assert_eq!((about.as_str(), &trouble), ("sample 1", &Trouble::Timeout { seconds: 0.3 }));
    // Where the shell had come so far within its time, what it started is gone (or waits to be buried).
    if let Ok(pid) = std::fs::read_to_string(&grandchild)
        && let Ok(status) = std::fs::read_to_string(format!("/proc/{}/status", pid.trim()))
    {
        let state = status.lines().find(|l| l.starts_with("State:")).unwrap_or_default();
        assert!(state.contains('Z') || state.contains('X'), "{state}");
    }
}

#[test]
fn a_cancelled_wait_ends_at_once() {
    let mut m = metrics(Per::Report, &[], program("cat >/dev/null"));
    assert_eq!(m.score(&rows(1), &|| true).unwrap_err(), Fault::Cancelled);
}

#[test]
fn folder_and_environment_are_its_own() {
    let script = r#"read -r line; n=$(ls -A | wc -l); [ -n "$CARGO_MANIFEST_DIR" ] && [ -z "$CARGO_PKG_NAME" ] &&
        [ -n "$PATH" ] && [ "$PYTHONUNBUFFERED" = 1 ] && echo "{\"score\": $n}" || echo '{"error":"environment"}'"#;
    assert_eq!(metrics(Per::Report, &[], program(script)).score(&rows(1), &never).unwrap()[0]["m"], 0.0);
}

fn evaluated(script: &str) -> Result<Vec<common::evaluation::SampleResult>, Fault> {
    evaluate(script, Reports::Coordinator)
}

fn evaluate(script: &str, reports: Reports) -> Result<Vec<common::evaluation::SampleResult>, Fault> {
    let plan =
        EvaluatorPlan { program: program(script), gets: Given::Recipe, scores: vec!["accuracy".into()] };
    let recipe = r#"{"format":1,"convention":"paper","base":{"name":"base","path":"/b"},"vlm":{"name":"vlm","path":"/v"},
        "sources":[],"scale":1.0,"mask":"shared","mask_seed":1}"#;
    let recipe = common::recipe::Recipe::parse(recipe).unwrap();
    let samples = ["q1".to_string(), "q2".to_string()];
    let request = Request {
        recipe: &recipe,
        models: BTreeMap::new(),
        model: None,
        dataset: "/d.jsonl",
        samples: &samples,
    };
    let mut evaluator = Evaluator::new(&plan).keeping_words(reports);
    evaluator.remember("patient-0417", "images/yamada.png", "右胸水を認める。");
    evaluator.evaluate(&request, &never)
}

#[test]
fn an_evaluator_answers_every_sample_in_any_order() {
    let results = evaluated(
        r#"read -r line; case "$line" in *'"samples":["q1","q2"]'*) ;; *) exit 1;; esac
        echo '{"samples":[{"sample":"q2","score":0},{"sample":"q1","score":1,"text":"yes"}]}'"#,
    )
    .unwrap();
    assert_eq!(
        (results[0].sample.as_str(), results[0].scores["accuracy"], results[0].text.as_str()),
        ("q1", 1.0, "yes")
    );
    assert_eq!(results[1].scores["accuracy"], 0.0);
    for (answer, expected) in [
        (r#"{"score":1}"#, "expected \"samples\""),
        (r#"{"samples":[{"score":1},{"score":1}]}"#, "samples[0] does not name its sample"),
        (r#"{"samples":[{"sample":"q1","score":1}]}"#, "sample 2 is missing"),
        (
            r#"{"samples":[{"sample":"q1","score":1},{"sample":"q1","score":1}]}"#,
            "samples[1] is of the same sample as samples[0]",
        ),
        (
            r#"{"samples":[{"sample":"q1","score":1},{"sample":"q2","score":1},{"sample":"q3","score":1}]}"#,
            "samples[2] is of a sample that was not asked for",
        ),
    ] {
        let fault = evaluated(&format!("read -r line; echo '{answer}'")).unwrap_err().to_string();
        assert!(
            fault.starts_with("evaluator, the candidate: unusable answer") && fault.contains(expected),
            "{fault}"
        );
        assert!(!["q1", "q2", "q3"].iter().any(|id| fault.contains(id)), "an id in {fault}");
    }
}

#[test]
fn an_evaluators_words_hold_nothing_of_samples_references_and_answers() {
    let said = |answer: &str, reports| {
        evaluate(&format!("read -r line; echo '{answer}'"), reports).unwrap_err().to_string()
    };
    let error =
        r#"{"error":"patient-0417 (yamada.png) has 右胸水を認める for 左肺野に結節","text":"左肺野に結節"}"#;
    assert_eq!(
        said(error, Reports::Coordinator),
        "evaluator, the candidate: it says: ············ (··········) has ······· for ······"
    );
    let key = r#"{"samples":[{"sample":"q1","score":1,"右胸水を認める":2}]}"#;
    assert_eq!(
        said(key, Reports::Coordinator),
        "evaluator, the candidate: unusable answer: samples[0]: unknown key: \"·······\""
    );
}

/// Masks know what they were told alone; where reports stay, a command's own words stay whatever they are.
#[test]
fn where_reports_stay_nothing_that_a_command_says_leaves() {
    for (answer, expected) in [
        (r#"{"error":"Suzuki Ichiro, 74"}"#, "the command failed; its words are in this worker"),
        (r#"{"score":1,"Suzuki":74}"#, "unknown key; which one is in this worker"),
        (r#"{"scores":{"m":1,"Suzuki":1}}"#, "not among the declared ones (m); which one"),
    ] {
        let script = format!("read -r line; echo '{answer}'; cat >/dev/null");
        let told = metrics(Per::Report, &[], program(&script)).keeping_words(Reports::Coordinator);
        assert!({ told }.score(&rows(1), &never).unwrap_err().to_string().contains("Suzuki"));
        let kept = metrics(Per::Report, &[], program(&script)).keeping_words(Reports::Local);
        let fault = { kept }.score(&rows(1), &never).unwrap_err().to_string();
        assert!(fault.contains(expected) && !fault.contains("Suzuki"), "{fault}");
        let answer =
            answer.replace("\"m\"", "\"accuracy\"").replace("{\"score\"", "{\"sample\":\"q1\",\"score\"");
        let fault = evaluate(&format!("read -r line; echo '{answer}'"), Reports::Local).unwrap_err();
        assert!(!fault.to_string().contains("Suzuki"), "{fault}");
    }
}
