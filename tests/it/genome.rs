//! Numbers by layer and name, from run file to finished model; and a search that goes on over more of them.

use common::provenance::RecipeFile;
use tests::{Run, jsonl};

/// What all of it is fixed to but weights and scale, so that a refined search can make the same merge again.
fn run(evaluations: usize) -> Run {
    Run::new(6, evaluations).with("parameters.drop_rate", "0.2").with("parameters.trim_rate", "0.3")
}

#[test]
fn a_finished_search_goes_on_by_layers_and_names() {
    let coarse = run(8);
    coarse.search("coarse", 1);
    let before = coarse.best("coarse");
    let folder = coarse.path("coarse").display().to_string();

    let divided = "{ low = 0.0, high = 2.0, layers = 5, filters = [\"embeddings\", \"mlp\", \"rest\"] }";
    let fine = run(8).with("parameters.weight", divided);
    let ended = fine.search_with("fine", 2, &["--refine", &folder]);
    assert!(ended.output.contains("refines demo-"), "{}", ended.output);
    // One scale; of each of four sources the embeddings, and five layers' MLPs and rest.
    assert!(ended.output.contains("45 parameters of its 5"), "{}", ended.output);

    // The best of before comes first and is the same merge: so is its score, to the last bit.
    let candidates = jsonl(&fine.look("candidates", "fine", &["--json"]));
    assert_eq!(candidates[0]["fitness"], before["fitness"]);
    assert_eq!(candidates[0]["metrics"], before["metrics"]);
    let close = |a: &serde_json::Value, b: &serde_json::Value| {
        (a.as_f64().unwrap() - b.as_f64().unwrap()).abs() < 1e-12
    };
    for (name, value) in candidates[0]["genome"].as_object().unwrap() {
        let parent = name.split('.').take(2).collect::<Vec<_>>().join(".");
        assert!(close(value, &before["genome"][&parent]), "{name}");
    }
    let last = candidates[7]["genome"].as_object().unwrap();
    assert!(last["weight.japanese.layers_1_of_5.mlp"] != last["weight.japanese.layers_5_of_5.mlp"]);
    let identity = std::fs::read_to_string(fine.path("fine/run.json")).unwrap();
    let identity: serde_json::Value = serde_json::from_str(&identity).unwrap();
    assert_eq!(identity["refined_from"]["first"], before["candidate"]);

    // What mattered has the groups' names, in the plot as well.
    let svg = fine.path("importance.svg");
    let told = fine.look("importance", "fine", &["--plot", &svg.display().to_string()]);
    let plot = std::fs::read_to_string(&svg).unwrap();
    for name in ["weight.japanese.embeddings", "weight.vlm.layers_1_of_5.rest"] {
        assert!(told.contains(name) && plot.contains(name), "{name}: {told}");
    }
}

#[test]
fn an_exported_merge_by_groups_scores_what_the_search_recorded() {
    let run = Run::new(6, 8)
        .with("parameters.trim_rate", "{ choices = [0.0, 0.5, 0.9], filters = [\"attention\", \"rest\"] }")
        .with("parameters.scale", "{ low = 0.5, high = 2.0, log = true }")
        .with("parameters.weight", "{ knots = 3, low = 0.0, high = 2.0, sources = { japanese = 1.0 } }")
        .with("parameters.mask_seed", "{ low = 1, high = 4 }");
    run.search("state", 2);
    let best = run.best("state");
    let trim = &best["genome"]["trim_rate.medical.attention"];
    assert!([0.0, 0.5, 0.9].iter().any(|x| trim == x), "{trim}");
    let recipe = RecipeFile::parse(&run.look("recipe", "state", &[])).unwrap().recipe;
    assert_eq!(recipe.sources[2].weight, 1.0);
    let seed = best["genome"]["mask_seed"].as_f64().unwrap();
    assert!((1..=4).contains(&recipe.mask_seed) && seed == recipe.mask_seed as f64, "{seed}");
    assert_eq!(recipe.sources[0].weight.numbers().len(), 3);

    let evaluated = run.exported("state", "model");
    for metric in ["rouge_l", "term_f1", "bleu_4"] {
        let (there, here) = (
            best["metrics"][metric].as_f64().unwrap(),
            evaluated["metrics"][metric]["mean"].as_f64().unwrap(),
        );
        assert!((there - here).abs() < 1e-9, "{metric}: {there} in the search, {here} from the folder");
    }
    let card = std::fs::read_to_string(run.path("model/README.md")).unwrap();
    assert!(card.contains("(3 numbers)") && card.contains("each is in `recipe.json`"), "{card}");
}
