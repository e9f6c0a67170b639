//! What people and scripts see of the command line.

use std::process::{Command, Output};
use tests::{Run, family, programs, root};

fn jradievo(arguments: &[&str]) -> Output {
    Command::new(programs().join("jradievo")).args(arguments).output().unwrap()
}

fn worker(arguments: &[&str]) -> Output {
    Command::new(programs().join("jradievo-worker")).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_bad_run_file_is_refused_with_every_fault_at_once() {
    let run = Run::new(2, 4);
    let path = run.path("bad.toml");
    let good = std::fs::read_to_string(run.path("run.toml")).unwrap();
    let bad = good.replace("seed = 1", "sede = 1").replace("population = 10", "population = \"ten\"");
    std::fs::write(&path, bad + "\n[scoring]\nabsent_weight = -1\n").unwrap();
    for command in [vec!["check"], vec!["start", "--state", "/nonexistent/state"]] {
        let output = jradievo(&[&command[..], &[path.to_str().unwrap()]].concat());
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{message}");
        for expected in
            ["sede: unknown key (did you mean seed?)", "search.population", "scoring.absent_weight"]
        {
            assert!(message.contains(expected), "{expected:?} not in {message}");
        }
        assert!(message.contains("bad.toml:"), "{message}");
    }
}

#[test]
fn the_shipped_run_files_are_sound() {
    let demo = root().join("scripts/runs/demo.toml");
    let output = jradievo(&["check", demo.to_str().unwrap(), "--set", "search.evaluations=40"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    // The paper's models and data are not here; everything else about its file must be right.
    let paper = root().join("scripts/runs/paper.toml");
    let output = jradievo(&["check", paper.to_str().unwrap()]);
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains("search.jsonl") && !message.contains("unknown key"), "{message}");
}

#[test]
fn both_programs_know_the_same_metrics() {
    let run = Run::new(2, 4);
    let output = jradievo(&["check", run.path("run.toml").to_str().unwrap(), "--set", "fitness.nothing=1"]);
    let message = text(&output.stderr);
    let scores = score_json(&run, "胸水なし。", "胸水なし。");
    let listed = message.split("metrics are ").nth(1).unwrap().split(')').next().unwrap();
    let mut listed: Vec<&str> = listed.split(", ").collect();
    // What every report has without being compared is no score.
    for measure in ["tokens", "length"] {
        let known = listed.iter().position(|name| *name == measure).unwrap();
        listed.remove(known);
    }
    listed.sort_unstable();
    let mut scored: Vec<&String> = scores["metrics"].as_object().unwrap().keys().collect();
    scored.sort_unstable();
    assert_eq!(listed, scored);
}

fn score_json(run: &Run, reference: &str, prediction: &str) -> serde_json::Value {
    let line = |t: &str| serde_json::json!({"id": "a", "text": t}).to_string() + "\n";
    std::fs::write(run.path("r.jsonl"), line(reference)).unwrap();
    std::fs::write(run.path("p.jsonl"), line(prediction)).unwrap();
    let (r, p) = (run.path("r.jsonl"), run.path("p.jsonl"));
    let arguments =
        ["score", "--references", r.to_str().unwrap(), "--predictions", p.to_str().unwrap(), "--json"];
    let output = worker(&arguments);
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn score_knows_a_negation_from_a_finding() {
    let run = Run::new(2, 4);
    let same = score_json(&run, "右胸水を認める。", "右胸水を認める。");
    assert_eq!((same["n"].as_u64(), same["metrics"]["term_f1"]["mean"].as_f64()), (Some(1), Some(1.0)));
    assert_eq!(same["samples"][0]["id"], "a");
    assert_eq!(same["samples"][0]["rouge_l"], 1.0);
    let negated = score_json(&run, "胸水なし。", "胸水あり。");
    assert_eq!(negated["metrics"]["term_f1"]["mean"].as_f64(), Some(0.0));
}

#[test]
fn score_refuses_sides_that_do_not_pair() {
    let run = Run::new(2, 4);
    std::fs::write(run.path("r.jsonl"), "{\"id\":\"a\",\"text\":\"x\"}\n{\"id\":\"b\",\"text\":\"x\"}\n")
        .unwrap();
    std::fs::write(run.path("p.jsonl"), "{\"id\":\"a\",\"text\":\"x\"}\n").unwrap();
    let (r, p) = (run.path("r.jsonl"), run.path("p.jsonl"));
    let output =
        worker(&["score", "--references", r.to_str().unwrap(), "--predictions", p.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("the id of text 2 of"), "{}", text(&output.stderr));
}

#[test]
fn doctor_finds_what_is_missing() {
    let run = Run::new(2, 4);
    let good = worker(&["doctor", run.path("run.toml").to_str().unwrap(), "--json"]);
    assert!(good.status.success(), "{}", text(&good.stdout));
    let broken = run.path("broken.toml");
    let text_of = std::fs::read_to_string(run.path("run.toml")).unwrap();
    std::fs::write(&broken, text_of.replace("family/japanese", "family/klingon")).unwrap();
    let bad = worker(&["doctor", broken.to_str().unwrap()]);
    assert_eq!(bad.status.code(), Some(1));
    assert!(text(&bad.stdout).contains("klingon"), "{}", text(&bad.stdout));
}

#[test]
fn doctor_plans_memory_before_weights_are_read() {
    let run = Run::new(5, 4);
    let path = run.path("run.toml");
    let output = worker(&["doctor", path.to_str().unwrap(), "--slots", "2", "--device", "cpu", "--json"]);
    let checks: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(output.status.success(), "{checks}");
    let checks = checks.as_array().unwrap();
    let plan = &checks.iter().find(|c| c["what"] == "memory plan").unwrap()["plan"];
    let item = |what: &str| {
        let items = plan["items"].as_array().unwrap();
        let found = items.iter().find(|i| i["what"].as_str().unwrap().starts_with(what));
        found.unwrap_or_else(|| panic!("no {what} in {plan}"))["bytes"].as_u64().unwrap()
    };
    // 1,185,152 parameters in float32, two slots; five images of 36 positions and 128 channels.
    assert_eq!(item("language model weights"), 2 * 4 * 1_185_152);
    assert_eq!(item("image features"), 5 * 36 * 128 * 4);
    assert_eq!(plan["host"]["missing"], 0);
    assert_eq!(plan["peaks"].as_array().unwrap().len(), 5);
    // The VLM is a source too, in its own folder: five folders.
    let mapped = plan["items"].as_array().unwrap().iter().filter(|i| i["place"] == "mapped");
    assert_eq!(mapped.count(), 5);
    let text =
        String::from_utf8(worker(&["doctor", path.to_str().unwrap(), "--device", "cpu"]).stdout).unwrap();
    for expected in ["key-value cache, 5 rows of", "peak", "prefill", "base and sources are mapped"] {
        assert!(text.contains(expected), "{expected:?} not in {text}");
    }
}

#[test]
fn doctor_plans_a_mergekit_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("merge.yml");
    let write = |models: &str| {
        let text = format!(
            "merge_method: ties\nbase_model: base\nparameters: {{weight: 1, density: 0.5}}\nmodels: [{models}]\n"
        );
        std::fs::write(&path, text).unwrap();
    };
    let family = family();
    let arguments =
        ["--threads", "2", "doctor", path.to_str().unwrap(), "--models", family.to_str().unwrap()];
    write("{model: japanese}, {model: medical}");
    let output = worker(&[&arguments[..], &["--json"]].concat());
    let checks: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(output.status.success(), "{checks}");
    let plan = &checks.as_array().unwrap().iter().find(|c| c["what"] == "memory plan").unwrap()["plan"];
    // Base and two sources are mapped; 131,072 elements of the embedding are ranked for both at once, each by four bytes and
    // six bits, with a bit for the outcome.
    let items = plan["items"].as_array().unwrap();
    assert_eq!(items.iter().filter(|i| i["place"] == "mapped").count(), 3, "{plan}");
    let ranking =
        items.iter().find(|i| i["what"].as_str().unwrap().starts_with("masks and ranking")).unwrap();
    assert_eq!(ranking["bytes"], 2 * (131_072 * 4 + 6 * 131_072 / 8 + 131_072 / 8), "{plan}");
    let said = text(&worker(&arguments).stdout);
    assert!(said.contains("weights of japanese") && said.contains("models are mapped"), "{said}");
    write("{model: japanese}, {model: klingon}");
    let bad = worker(&arguments);
    assert_eq!(bad.status.code(), Some(1));
    assert!(text(&bad.stdout).contains("klingon"), "{}", text(&bad.stdout));
}

#[test]
fn options_of_a_configuration_are_refused_for_other_merges() {
    let run = Run::new(2, 4);
    let (folder, out) = (run.path("."), run.path("out"));
    let model = folder.to_str().unwrap();
    for option in [&["--digests"][..], &["--seed", "1"], &["--truncate-embeddings"]] {
        let mut arguments = vec!["merge", model, "--text-only", "--out", out.to_str().unwrap()];
        arguments.extend(option);
        let output = worker(&arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("are for mergekit configurations") && said.contains(option[0]), "{said}");
    }
}

#[test]
fn a_run_file_given_to_merge_is_called_by_its_name() {
    let run = Run::new(2, 4);
    let out = run.path("out");
    let output = worker(&["merge", run.path("run.toml").to_str().unwrap(), "--out", out.to_str().unwrap()]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("run.toml: a run file") && said.contains("jradievo recipe STATE_DIR"), "{said}");
}
