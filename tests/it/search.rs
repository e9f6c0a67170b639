//! A search from run file to finished model.

use common::provenance::RecipeFile;
use std::process::Command;
use tests::{Run, jsonl, programs};

#[test]
fn the_same_genomes_and_best_whatever_the_number_of_workers() {
    let run = Run::new(6, 12);
    let ended = run.search("two", 2);
    assert!(ended.output.contains("12 of 12 evaluated"), "{}", ended.output);
    run.search("one", 1);
    let two = run.genomes("two");
    assert_eq!(two.len(), 12);
    assert_eq!(two, run.genomes("one"));
    // Run, date and attempts are each run's own; the merge and its scores are not.
    let best = |state| RecipeFile::parse(&run.look("recipe", state, &[])).unwrap();
    let (two, one) = (best("two"), best("one"));
    assert_eq!(two.recipe, one.recipe);
    let (two, one) = (two.provenance.unwrap(), one.provenance.unwrap());
    assert_ne!(two.run, one.run);
    assert_eq!((two.candidate, two.fitness, two.metrics), (one.candidate, one.fitness, one.metrics));
    assert_eq!((two.files, two.dataset_digest), (one.files, one.dataset_digest));
}

#[test]
fn what_was_scored_is_what_an_exported_model_scores() {
    let run = Run::new(8, 4);
    run.search("state", 1);
    let candidates = jsonl(&run.look("candidates", "state", &["--json"]));
    let took = |stage: &str| candidates.iter().map(|c| c["timings_ms"][stage].as_u64().unwrap()).sum::<u64>();
    assert!(took("features") > 0 && took("prefill") > 0 && took("prefill") < took("generate"));
    let recorded = &run.best("state")["metrics"];
    let evaluated = run.exported("state", "model");
    let out = run.path("model");
    for file in ["config.json", "tokenizer.json", "recipe.json", "README.md"] {
        assert!(out.join(file).is_file(), "{file}");
    }
    assert_eq!(evaluated["n"], 8);
    for metric in ["rouge_l", "term_f1", "bleu_4", "sacrebleu"] {
        let (there, here) =
            (recorded[metric].as_f64().unwrap(), evaluated["metrics"][metric]["mean"].as_f64().unwrap());
        assert!((there - here).abs() < 1e-9, "{metric}: {there} in the search, {here} from the folder");
        let interval = &evaluated["metrics"][metric];
        assert!(
            interval["low"].as_f64() <= interval["mean"].as_f64()
                && interval["mean"].as_f64() <= interval["high"].as_f64()
        );
    }
    // A second merge does not overwrite.
    let mut again = Command::new(programs().join("jradievo-worker"));
    let again = again.arg("merge").arg(run.path("model.json")).arg("--out").arg(&out).output().unwrap();
    assert_eq!(again.status.code(), Some(1));
}

#[test]
fn looking_commands_work_live_and_at_rest() {
    let run = Run::new(4, 8);
    let mut coordinator = run.start("state");
    let worker = coordinator.family_worker("w");
    coordinator.process.wait_for("generation 1");
    let live: serde_json::Value = serde_json::from_str(&run.look("status", "state", &["--json"])).unwrap();
    assert_eq!((live["live"].as_bool(), live["evaluations_budget"].as_u64()), (Some(true), Some(8)));
    coordinator.process.expect(0);
    worker.expect(0);
    let rest: serde_json::Value = serde_json::from_str(&run.look("status", "state", &["--json"])).unwrap();
    assert_eq!((rest["state"].as_str(), rest["evaluations_done"].as_u64()), (Some("finished"), Some(8)));
    let candidates = jsonl(&run.look("candidates", "state", &["--json"]));
    let best = candidates
        .iter()
        .max_by(|a, b| a["fitness"].as_f64().unwrap().total_cmp(&b["fitness"].as_f64().unwrap()));
    assert_eq!(best.unwrap()["fitness"], rest["best"]["fitness"]);
    let n = best.unwrap()["candidate"].to_string();
    let reports = jsonl(&run.look("reports", "state", &["--candidate", &n, "--json"]));
    assert_eq!(reports.len(), 4);
    let mean = reports.iter().map(|r| r["scores"]["rouge_l"].as_f64().unwrap()).sum::<f64>() / 4.0;
    assert!((mean - best.unwrap()["metrics"]["rouge_l"].as_f64().unwrap()).abs() < 1e-9);
}
