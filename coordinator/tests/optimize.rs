//! `jradievo optimize` as a process: a scripted objective at the other end of its pipes.

#![forbid(unsafe_code)]

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

const SPACE: &str = r#"
[search]
algorithm = "tpe"
evaluations = 40
[space]
rate = { low = 1e-4, high = 1.0, log = true }
layers = { low = 1, high = 6, integer = true }
kind = { values = ["a", "b"] }
"#;

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_jradievo"));
    command.arg("optimize").args(arguments).current_dir(folder);
    command
}

/// A running search. Killed when dropped, as by `kill -9`.
struct Search {
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl Search {
    fn start(folder: &Path, arguments: &[&str]) -> Search {
        let mut command = command(folder, arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Search { child, answers }
    }

    fn say(&mut self, request: &Value) -> Value {
        self.say_line(request.to_string().as_bytes())
    }

    fn say_line(&mut self, line: &[u8]) -> Value {
        let input = self.child.stdin.as_mut().unwrap();
        input.write_all(&[line, b"\n"].concat()).unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap()
    }

    /// One evaluation. Yields its point.
    fn step(&mut self) -> Value {
        let asked = self.say(&json!({"do": "ask"}))["asked"][0].clone();
        self.say(&json!({"do": "tell", "id": asked["id"], "value": loss(&asked["point"])}));
        asked["point"].clone()
    }
}

impl Drop for Search {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Least at rate = 0.01, layers = 3, kind = "b": 0 there.
fn loss(point: &Value) -> f64 {
    let rate = point["rate"].as_f64().unwrap().log10() + 2.0;
    let kind = if point["kind"] == "b" { 0.0 } else { 1.0 };
    rate * rate + (point["layers"].as_f64().unwrap() - 3.0).abs() + kind
}

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("space.toml"), SPACE).unwrap();
    dir
}

#[test]
fn a_killed_search_goes_on_exactly_and_finds_the_least() {
    let dir = folder();
    let whole: Vec<Value> = {
        let mut search = Search::start(dir.path(), &["space.toml", "--minimize"]);
        (0..40).map(|_| search.step()).collect()
    };
    let arguments = ["space.toml", "--minimize", "--state", "state.json"];
    let mut parts = Vec::new();
    {
        let mut search = Search::start(dir.path(), &arguments);
        parts.extend((0..17).map(|_| search.step()));
        // Asked for, and killed before the result is told: it is still under way afterwards.
        parts.push(search.say(&json!({"do": "ask"}))["asked"][0]["point"].clone());
    }
    let mut search = Search::start(dir.path(), &arguments);
    let status = search.say(&json!({"do": "status"}));
    let out = &status["outstanding"][0];
    assert_eq!((&status["told"], &out["point"]), (&json!(17), &parts[17]));
    search.say(&json!({"do": "tell", "id": out["id"], "value": loss(&out["point"])}));
    parts.extend((18..40).map(|_| search.step()));
    assert_eq!(parts, whole);
    let best = search.say(&json!({"do": "best"}));
    assert_eq!(best["objectives"], json!({"value": "minimize"}));
    let least = whole.iter().map(loss).fold(f64::INFINITY, f64::min);
    assert_eq!(best["best"]["value"].as_f64(), Some(least));
    assert!(least < 0.3, "{least}");
    assert!(best["stop"].as_str().unwrap().contains("budget"), "{best}");
    // What is no JSON, and what is no text, is answered, and the search goes on.
    for line in [b"{".as_slice(), b"\xff\xfe"] {
        assert!(search.say_line(line)["errors"][0]["message"].as_str().unwrap().contains("not JSON"));
    }
    assert_eq!(search.say(&json!({"do": "ask"}))["asked"], json!([]));
}

#[test]
fn another_algorithm_goes_on_from_the_same_results_without_a_space_file() {
    let dir = folder();
    {
        let mut search = Search::start(dir.path(), &["space.toml", "--state", "s.json"]);
        for _ in 0..12 {
            search.step();
        }
    }
    let arguments = ["space.toml", "--state", "s.json", "--set", "search.algorithm=de"];
    {
        let mut search = Search::start(dir.path(), &arguments);
        let status = search.say(&json!({"do": "status"}));
        assert_eq!((&status["algorithm"], &status["told"]), (&json!("de"), &json!(12)));
        search.step();
    }
    let mut search = Search::start(dir.path(), &["--state", "s.json"]);
    let status = search.say(&json!({"do": "status"}));
    assert_eq!((&status["algorithm"], &status["told"]), (&json!("de"), &json!(13)));
}

fn refused(dir: &Path, arguments: &[&str], code: i32, expected: &str) {
    let Output { status, stderr, .. } = command(dir, arguments).stdin(Stdio::null()).output().unwrap();
    let message = String::from_utf8_lossy(&stderr);
    assert_eq!(status.code(), Some(code), "{message}");
    assert!(message.contains(expected), "{expected:?} not in {message}");
}

#[test]
fn directions_that_contradict_and_files_that_do_not_fit_are_refused() {
    let dir = folder();
    let path = dir.path();
    refused(path, &[], 2, "nothing to search");
    refused(path, &["none.toml"], 2, "cannot read none.toml");
    refused(path, &["space.toml", "--set", "search.algorithm=cma"], 2, "choose one of");
    refused(path, &["space.toml", "--maximize", "--minimize"], 2, "cannot be used with");
    let loss = ["--set", "objectives={ loss = \"minimize\" }"];
    refused(path, &[&["space.toml", "--maximize"], &loss[..]].concat(), 2, "--maximize is not what");
    refused(path, &[&["space.toml", "--minimize"], &loss[..]].concat(), 2, "directions are given twice");
    Search::start(path, &["space.toml", "--state", "s.json"]).step();
    refused(path, &["space.toml", "--state", "s.json", "--minimize"], 3, "another objective or direction");
    refused(path, &["--state", "s.json", "--minimize"], 2, "--minimize is not what");
    std::fs::write(path.join("bad.json"), "{}").unwrap();
    refused(path, &["space.toml", "--state", "bad.json"], 3, "holds no search");
    std::fs::write(path.join("other.toml"), SPACE.replace("high = 6", "high = 7")).unwrap();
    refused(path, &["other.toml", "--state", "s.json"], 3, "another space");
    // An input that ends is an end like any other.
    let ended = command(path, &["space.toml"]).stdin(Stdio::null()).output().unwrap();
    assert_eq!((ended.status.code(), ended.stdout.len()), (Some(0), 0));
}
