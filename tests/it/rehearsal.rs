//! `jradievo-worker rehearse` as a whole process, at its smallest size.

use std::process::Command;
use tests::{Process, programs};

fn rehearse(folder: &std::path::Path, more: &[&str]) -> Command {
    let mut command = Command::new(programs().join("jradievo-worker"));
    command.args(["--threads", "1", "rehearse", "--params", "0.01b", "--device", "cpu", "--dir"]);
    command.arg(folder).args(more);
    command
}

#[test]
fn every_stage_is_timed_and_the_folder_goes() {
    let dir = tempfile::tempdir().unwrap();
    let more = ["--samples", "3", "--batch-size", "2", "--new-tokens", "4", "--json"];
    let output = rehearse(dir.path(), &more).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let stages = report["stages"].as_array().unwrap();
    let names: Vec<&str> = stages.iter().map(|s| s["name"].as_str().unwrap()).collect();
    let all =
        ["write", "digest", "open", "features", "load", "thresholds", "merge", "prefill", "decode", "score"];
    assert_eq!(names, all);
    for stage in stages.iter().filter(|s| s["floor_of"] == "arithmetic" || s["floor_of"] == "memory") {
        // A stage that beats what the machine can do by far has its bytes or operations counted wrongly. The rates are
        // measured on a machine that others use too, so nothing closer can be asked.
        let ratio = stage["seconds"].as_f64().unwrap() / stage["floor"].as_f64().unwrap();
        assert!(ratio > 0.1, "{stage}");
    }
    // Base, three sources and the VLM's own language model, in two bytes, and its vision.
    let parameters = report["parameters"].as_u64().unwrap();
    assert!(report["weights"].as_u64().unwrap() > 5 * 2 * parameters, "{report}");
    // 32 positions of text, 16 of the image, 62 of text; the end of text is one token in 8,192.
    assert_eq!((&report["prompt"], &report["samples"]), (&110.into(), &3.into()));
    assert!((3..=12).contains(&report["tokens"].as_u64().unwrap()), "{}", report["tokens"]);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

/// The size is the smallest at which the plan's own terms (weights, activations, cache, merged tensors) and not the program
/// and its allocator make up most of the peak: a fifth is theirs. One source and one sample keep it to some seconds.
#[test]
fn the_peak_of_memory_is_within_a_tenth_of_the_plan() {
    const WITHIN: f64 = 0.10;
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(programs().join("jradievo-worker"))
        .args(["--threads", "2", "rehearse", "--params", "0.1b", "--device", "cpu", "--sources", "1"])
        .args(["--samples", "1", "--new-tokens", "2", "--json", "--dir"])
        .arg(dir.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let bytes = |value: &serde_json::Value| value.as_f64().unwrap();
    let (peak, planned) = (bytes(&report["peak"]), bytes(&report["planned"]));
    assert!((peak / planned - 1.0).abs() <= WITHIN, "peak {peak}, planned {planned}");
    let fixed = report["plan"]["items"].as_array().unwrap().iter();
    let fixed =
        fixed.filter(|i| ["program", "kept by"].iter().any(|w| i["what"].as_str().unwrap().starts_with(w)));
    let fixed: f64 = fixed.map(|i| bytes(&i["bytes"])).sum();
    assert!(fixed < 0.3 * planned, "{fixed} of {planned} would be there without a model");
    // No stage takes more than its own phase's part of the plan says.
    for stage in report["stages"].as_array().unwrap().iter().filter(|s| !s["planned"].is_null()) {
        assert!(bytes(&stage["peak"]) <= (1.0 + WITHIN) * bytes(&stage["planned"]), "{stage}");
    }
    // On a CPU there is no GPU to report.
    assert!(report.get("device_peak").is_none());
}

#[test]
fn what_is_kept_is_an_ordinary_run() {
    let dir = tempfile::tempdir().unwrap();
    let more = ["--samples", "1", "--new-tokens", "1", "--sources", "1", "--keep"];
    let output = rehearse(dir.path(), &more).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("highest peak of own memory") && text.contains("thresholds"), "{text}");
    let folder = std::fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
    let check =
        Command::new(programs().join("jradievo")).arg("check").arg(folder.join("run.toml")).output().unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
}

#[test]
fn an_interrupted_rehearsal_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    // Long enough that the signal finds it at work: four thousand tokens of two rows.
    let more = ["--samples", "2", "--new-tokens", "4000"];
    let mut process = Process::start("rehearse", &mut rehearse(dir.path(), &more));
    process.wait_for("merge");
    process.signal("INT");
    process.expect(130);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn too_large_a_rehearsal_is_refused_with_the_number() {
    let dir = tempfile::tempdir().unwrap();
    let more = ["--samples", "4096", "--new-tokens", "4096"];
    // 4,096 rows of 4,918 positions, 262,144 bytes each: 5 TB, more than any machine that runs this test has.
    let output = Command::new(programs().join("jradievo-worker"))
        .args(["rehearse", "--params", "8b", "--device", "cpu", "--dir"])
        .arg(dir.path())
        .args(more)
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{message}");
    // The disk is looked at first.
    assert!(message.contains("are missing"), "{message}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
