//! Metrics and evaluators that are commands, in whole searches.

use std::process::Command;
use tests::{Run, jsonl, programs};

/// A score of its own for every text: the line's length as digits behind the point.
const STYLE: &str = "while read -r line; do echo \"{\\\"score\\\": 0.${#line}}\"; done\n";

fn with_style(run: Run, script: &str) -> Run {
    std::fs::write(run.path("style.sh"), script).unwrap();
    run.with("scoring.external.style", "{ command = [\"sh\", \"style.sh\"], files = [\"style.sh\"] }")
        .with("fitness", "{ style = 1.0, rouge_l = 0.5 }")
}

#[test]
fn a_search_by_a_metric_of_ones_own_and_a_worker_that_is_not_told_that_it_may() {
    let run = with_style(Run::new(4, 4), STYLE);
    let coordinator = run.start("state");
    let refused = coordinator.worker("careful", &[]).expect(1);
    for text in ["external/style: sh ", "/style.sh", "--allow-external"] {
        assert!(refused.output.contains(text), "{text:?} is not in:\n{}", refused.output);
    }
    let worker = coordinator.worker("w", &["--allow-external"]);
    coordinator.process.expect(0);
    worker.expect(0);
    for c in jsonl(&run.look("candidates", "state", &["--json"])) {
        let metric = |name: &str| c["metrics"][name].as_f64().unwrap();
        let fitness = c["fitness"].as_f64().unwrap();
        assert!(
            metric("style") > 0.1 && (fitness - metric("style") - 0.5 * metric("rouge_l")).abs() < 1e-12,
            "{c}"
        );
    }
    // `score` asks the same command about the same texts.
    let reports = run.look("reports", "state", &["--candidate", "1", "--json"]);
    std::fs::write(run.path("reports.jsonl"), &reports).unwrap();
    let references: String = std::fs::read_to_string(run.path("samples.jsonl"))
        .unwrap()
        .lines()
        .map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap())
        .map(|s| {
            format!(
                "{}\n",
                serde_json::json!({"id": s["id"], "text": finding(s["report"].as_str().unwrap())})
            )
        })
        .collect();
    std::fs::write(run.path("references.jsonl"), references).unwrap();
    let scored = Command::new(programs().join("jradievo-worker"))
        .arg("score")
        .arg("--references")
        .arg(run.path("references.jsonl"))
        .arg("--predictions")
        .arg(run.path("reports.jsonl"))
        .arg("--run")
        .arg(run.path("run.toml"))
        .args(run.overrides())
        .arg("--json")
        .output()
        .unwrap();
    assert!(scored.status.success(), "{}", String::from_utf8_lossy(&scored.stderr));
    let scored: serde_json::Value = serde_json::from_slice(&scored.stdout).unwrap();
    let rouge = jsonl(&reports).iter().map(|r| r["scores"]["rouge_l"].as_f64().unwrap()).sum::<f64>() / 4.0;
    assert!((scored["metrics"]["rouge_l"]["mean"].as_f64().unwrap() - rouge).abs() < 1e-12);
    assert!(scored["samples"][0]["style"].as_f64().unwrap() > 0.1);
}

/// What stands under 所見.
fn finding(report: &str) -> &str {
    report.split("所見:\n").nth(1).unwrap().split("\n印象:").next().unwrap()
}

#[test]
fn a_command_that_fails_costs_attempts_and_not_the_worker() {
    // The first process ends at its second report; those after it work.
    let script = "if mkdir \"$HOME/seen\" 2>/dev/null; then read -r line; echo '{\"score\":1}'; read -r line; exit 7; fi\n";
    let run = with_style(Run::new(4, 4), &format!("{script}{STYLE}"));
    std::fs::create_dir(run.path("home")).unwrap();
    let coordinator = run.start("state");
    let worker = coordinator.worker_with("w", &["--allow-external"], &[("HOME", run.path("home").as_path())]);
    coordinator.process.expect(0);
    worker.expect(0);
    let all = jsonl(&run.look("candidates", "state", &["--json"]));
    assert!(all.iter().all(|c| c["state"] == "scored"), "{all:?}");
    let reason = all[0]["attempts"][0]["reason"].as_str().unwrap();
    assert!(
        reason.contains("metric \"style\", sample 2: ended without an answer (exit status: 7)"),
        "{reason}"
    );
    assert_eq!(all[0]["attempts"][1]["end"], "scored");
}

#[test]
fn a_metric_of_whole_candidates_is_asked_about_all_their_reports_however_many_nodes_there_are() {
    let script = r#"while read -r line; do
        asked=$(printf '%s' "$line" | grep -o '"sample":' | wc -l)
        case $((asked)) in 6) echo "{\"score\": 0.${#line}}" ;; *) echo '{"error":"a part"}' ;; esac
    done
    "#;
    let run = Run::new(6, 4);
    std::fs::write(run.path("whole.sh"), script).unwrap();
    let metric = "{ command = [\"sh\", \"whole.sh\"], files = [\"whole.sh\"], per = \"candidate\" }";
    let run = run
        .with("scoring.external.whole", metric)
        .with("fitness", "{ whole = 1.0, rouge_l = 0.5 }")
        .with("generation.batch_size", "2");
    let coordinator = run.start("state");
    let workers = ["a", "b"].map(|name| coordinator.worker(name, &["--allow-external"]));
    coordinator.process.expect(0);
    workers.into_iter().for_each(|w| drop(w.expect(0)));
    for c in jsonl(&run.look("candidates", "state", &["--json"])) {
        assert!(c["metrics"]["whole"].as_f64().unwrap() > 0.1, "{c}");
        let attempts = c["attempts"].as_array().unwrap();
        assert!(attempts.iter().all(|a| a["end"] != "failed" && a["end"] != "partial"), "{c}");
    }
}

#[test]
fn an_evaluator_of_ones_own_gets_the_merged_language_model() {
    let run = Run::new(3, 4);
    // Scores by what only a merged model's folder holds, so that a missing one fails.
    let script = r#"while read -r line; do
        model=$(printf '%s' "$line" | sed 's/.*"model":"\([^"]*\)".*/\1/')
        grep -q LlamaForCausalLM "$model/config.json" || { echo '{"error":"no model"}'; continue; }
        size=$(cat "$model"/*.safetensors | cksum | cut -d ' ' -f 1)
        printf '{"samples":[{"sample":"s001","score":0.%s},{"sample":"s002","score":0},{"sample":"s003","score":1}]}\n' "$size"
    done
    "#;
    std::fs::write(run.path("task.sh"), script).unwrap();
    let evaluator = "{ command = [\"sh\", \"task.sh\"], files = [\"task.sh\"], gets = \"language\", scores = [\"accuracy\"] }";
    let run = run.with("evaluator", evaluator).with("fitness", "{ accuracy = 1.0 }");
    let coordinator = run.start("state");
    let worker = coordinator.worker("w", &["--allow-external"]);
    coordinator.process.expect(0);
    worker.expect(0);
    let genomes = run.genomes("state");
    let fitness: std::collections::BTreeSet<String> = genomes.iter().map(|g| g.2.to_string()).collect();
    assert_eq!(fitness.len(), 4, "every merge has other weights: {fitness:?}");
}
