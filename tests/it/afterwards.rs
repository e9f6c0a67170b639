//! What is done with a run that is over: scored anew, its front drawn, its winner chosen.

use common::provenance::RecipeFile;
use std::process::Command;
use tests::{Run, jsonl, programs};

fn worker(arguments: &[&str], run: &Run) -> String {
    let output = Command::new(programs().join("jradievo-worker"))
        .args(arguments)
        .args(run.overrides())
        .args(["--device", "cpu"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn history_is_scored_anew_and_the_winner_is_chosen_on_other_samples() {
    let validation = tests::root().join("tests/data/held_out/samples.jsonl");
    let lines = std::fs::read_to_string(&validation).unwrap();
    let run = Run::new(6, 8)
        .with("objectives", "{ maximise = [\"rouge_l\", \"term_f1\"], minimise = [\"tokens\"] }")
        .with("finalists", "{ count = 3 }");
    // The first held-out samples choose the winner; the proof would be on the rest.
    let (first, rest): (Vec<&str>, Vec<&str>) =
        (lines.lines().take(6).collect(), lines.lines().skip(6).collect());
    let images = validation.parent().unwrap().display().to_string();
    for (name, part) in [("validation", first), ("held_out", rest)] {
        std::fs::write(run.path(&format!("{name}.jsonl")), part.join("\n")).unwrap();
    }
    let dataset = |name: &str| {
        let file = run.path(&format!("{name}.jsonl"));
        format!("{{ file = \"{}\", images = \"{images}\", part = \"所見\" }}", file.display())
    };
    let (validation, held_out) = (dataset("validation"), dataset("held_out"));
    let run = run.with("validation", &validation).with("held_out", &held_out);
    run.search("state", 1);

    // The same scoring gives the same scores.
    let same = jsonl(&run.look("rescore", "state", &["--json"]));
    assert_eq!(same.len(), 8);
    assert!(same.iter().all(|c| c["fitness"] == c["old_fitness"] && c["rank"] == c["old_rank"]), "{same:?}");
    // Other weights give what the stored means say; the file has every sample.
    let out = run.path("scores.jsonl");
    let new = run.look(
        "rescore",
        "state",
        &["--set", "fitness.term_f1=0", "--json", "--out", &out.display().to_string()],
    );
    for c in jsonl(&new) {
        let expected = 0.5 * c["metrics"]["rouge_l"].as_f64().unwrap();
        assert!((c["fitness"].as_f64().unwrap() - expected).abs() < 1e-12, "{c}");
    }
    assert!(tests::is_private(&out), "ids and scores are open to others");
    let written = jsonl(&std::fs::read_to_string(&out).unwrap());
    assert_eq!((written.len(), written[0]["fitness"]["term_f1"].as_f64()), (9, Some(0.0)));
    assert_eq!(written[8]["samples"].as_array().unwrap().len(), 6);

    // Under other weights the search goes on from all of its results.
    let next = run.path("next").display().to_string();
    run.look("rescore", "state", &["--set", "fitness.term_f1=0", "--begin", &next, "--evaluations", "12"]);
    let coordinator = run.resume("next");
    let went_on = coordinator.worker("w", &[]);
    coordinator.process.expect(0);
    went_on.expect(0);
    let (before, after) = (run.genomes("state"), run.genomes("next"));
    assert_eq!((before.len(), after.len()), (8, 12));
    assert!(before.iter().zip(&after).all(|(b, a)| b.1 == a.1));
    assert!(jsonl(&run.look("candidates", "next", &["--json"])).iter().all(|c| {
        (c["fitness"].as_f64().unwrap() - 0.5 * c["metrics"]["rouge_l"].as_f64().unwrap()).abs() < 1e-12
    }));

    // The front holds the best of each objective, and status counts it.
    let svg = run.path("front.svg");
    let front = jsonl(&run.look("front", "state", &["--json", "--plot", &svg.display().to_string()]));
    let all = jsonl(&run.look("candidates", "state", &["--json"]));
    let most = |name: &str| all.iter().map(|c| c["metrics"][name].as_f64().unwrap()).fold(f64::MIN, f64::max);
    for metric in ["rouge_l", "term_f1"] {
        let reached =
            front.iter().map(|c| c["objectives"][metric].as_f64().unwrap()).fold(f64::MIN, f64::max);
        assert_eq!(reached, most(metric));
    }
    assert_eq!(all.iter().filter(|c| c["front"] == true).count(), front.len());
    assert!(std::fs::read_to_string(&svg).unwrap().contains("tokens (less is better)"));
    let status: serde_json::Value = serde_json::from_str(&run.look("status", "state", &["--json"])).unwrap();
    assert_eq!(status["front_candidates"].as_u64().unwrap() as usize, front.len());

    // The last round, and what goes by it.
    let finalists = run.look("finalists", "state", &[]);
    assert_eq!(finalists.lines().count(), 3);
    std::fs::write(run.path("finalists.jsonl"), &finalists).unwrap();
    let (recipes, found) = (run.path("finalists.jsonl"), run.path("finalists.json"));
    let (recipes, found) = (recipes.display().to_string(), found.display().to_string());
    let run_file = run.path("run.toml").display().to_string();
    worker(&["finalists", &run_file, "--recipes", &recipes, "--out", &found], &run);
    assert!(tests::is_private(found.as_ref()), "scores are open to others");
    run.look("finalists", "state", &["--record", &found]);
    let found: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&found).unwrap()).unwrap();
    assert_eq!((found["n"].as_u64(), found["finalists"].as_array().unwrap().len()), (Some(6), 3));
    let means: Vec<f64> = found["finalists"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f["fitness"]["mean"].as_f64().unwrap())
        .collect();
    assert!(means.is_sorted_by(|a, b| a >= b), "{means:?}");
    let recipe = RecipeFile::parse(&run.look("recipe", "state", &[])).unwrap();
    assert_eq!(recipe.provenance.unwrap().candidate, found["winner"].as_u64().unwrap());
    assert!(run.look("status", "state", &[]).contains(&format!("candidate {}", found["winner"])));
}

#[test]
fn a_fork_begins_with_what_lies_within_its_bounds() {
    let run = Run::new(6, 8).with("search.start_points", "[\"sources\", \"uniform\"]");
    run.search("old", 2);
    let old = jsonl(&run.look("candidates", "old", &["--json"]));
    // The start points come first: each of the sources alone, then all alike.
    for (candidate, alone) in old.iter().zip(["medical", "biomedical", "japanese", "vlm"]) {
        for name in ["medical", "biomedical", "japanese", "vlm"] {
            let expected = if name == alone { 1.0 } else { 0.0 };
            assert_eq!(candidate["genome"][format!("weight.{name}")].as_f64(), Some(expected), "{candidate}");
        }
    }
    assert_eq!(old[4]["genome"]["weight.medical"].as_f64(), Some(0.25));

    // Weights of 1 lie outside of the new bounds; whatever stays has its reports and its new fitness.
    let state = run.path("new").display().to_string();
    let run_file = run.path("run.toml").display().to_string();
    let sets = ["parameters.weight={ low = 0.0, high = 0.9 }", "fitness.term_f1=0.0", "search.algorithm=tpe"];
    let own = run.overrides();
    let mut arguments = vec![run_file.as_str(), "--state", &state];
    arguments.extend(own.iter().map(String::as_str).chain(sets.iter().flat_map(|s| ["--set", s])));
    run.look("fork", "old", &arguments);
    let within = |c: &&serde_json::Value| {
        let weights = c["genome"].as_object().unwrap().iter().filter(|(name, _)| name.starts_with("weight."));
        weights.into_iter().all(|(_, w)| w.as_f64().unwrap() <= 0.9)
    };
    let kept: Vec<_> = old.iter().filter(within).collect();
    assert!(!kept.is_empty() && kept.len() <= 4, "{}", kept.len());
    run.look("replay", "new", &[]);
    let coordinator = run.resume("new");
    let worker = coordinator.worker("w", &[]);
    coordinator.process.expect(0);
    worker.expect(0);
    let new = jsonl(&run.look("candidates", "new", &["--json"]));
    assert_eq!(new.len(), 8);
    for (was, is) in kept.iter().zip(&new) {
        assert_eq!(was["metrics"], is["metrics"]);
        let expected = 0.5 * is["metrics"]["rouge_l"].as_f64().unwrap();
        assert!((is["fitness"].as_f64().unwrap() - expected).abs() < 1e-12);
    }
    let number = |c: &serde_json::Value| c["candidate"].as_u64().unwrap().to_string();
    let reports = |state: &str, c| run.look("reports", state, &["--candidate", &number(c), "--json"]);
    let texts = |text: &str| -> Vec<String> { jsonl(text).iter().map(|r| r["text"].to_string()).collect() };
    assert_eq!(texts(&reports("old", kept[0])), texts(&reports("new", &new[0])));
    assert!(run.look("replay", "new", &[]).contains("exact"));
}
