use super::*;
use crate::run::{RunFile, parse};
use std::path::Path;

const RUN: &str = r#"
    name = "r"
    models = { base = "m/base", vlm = "m/vlm", sources = [
        { name = "med", model = "hf://org/Medical-8B" }, { name = "ja", model = "m/Japanese-8B" } ] }
    search = { evaluations = 25 }
    dataset = { file = "d.jsonl" }
    prompt = { task = "describe" }
    fitness = { rouge_l = 1.0 }
"#;

fn plan(sets: &[&str]) -> RunPlan {
    let overrides: Vec<String> = sets.iter().map(|s| s.to_string()).collect();
    let (folder, metrics) = (Path::new("/runs"), &["rouge_l"][..]);
    parse(&RunFile { name: "r.toml", text: RUN, folder, overrides: &overrides, metrics })
        .unwrap_or_else(|e| panic!("{e}"))
}

/// Values by parameter of every start point.
fn starts(plan: &RunPlan) -> Vec<(String, Vec<(String, f64)>)> {
    let values = |point: Vec<f64>| {
        let values = plan.space.values(&Genome::new(point).unwrap());
        plan.space.parameters.iter().map(|p| p.name.clone()).zip(values).collect()
    };
    plan.start_points().into_iter().map(|(name, point)| (name, values(point))).collect()
}

fn value(start: &(String, Vec<(String, f64)>), name: &str) -> f64 {
    start.1.iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("no {name}")).1
}

#[test]
fn named_points_are_what_their_names_say() {
    let plan = plan(&["search.start_points=[\"sources\", \"uniform\", \"middle\", \"uniform\"]"]);
    let starts = starts(&plan);
    let names: Vec<&str> = starts.iter().map(|s| s.0.as_str()).collect();
    assert_eq!(names, ["med alone", "ja alone", "uniform", "middle"]);
    let weights: Vec<_> = starts.iter().map(|s| (value(s, "weight.med"), value(s, "weight.ja"))).collect();
    assert_eq!(weights, [(1.0, 0.0), (0.0, 1.0), (0.5, 0.5), (0.5, 0.5)]);
    assert_eq!((value(&starts[0], "drop_rate"), value(&starts[3], "drop_rate")), (0.0, 0.5));
    assert_eq!((value(&starts[0], "trim_rate.ja"), value(&starts[2], "scale")), (0.0, 1.0));
    assert_eq!(RunPlan::from_json(&plan.to_json()).unwrap(), plan);
}

#[test]
fn what_is_out_of_the_box_is_moved_to_its_edge() {
    let plan = plan(&[
        "search.start_points=[\"sources\"]",
        "parameters.weight={ low = 0.2, high = 0.8 }",
        "parameters.drop_rate=0.3",
    ]);
    let starts = starts(&plan);
    assert_eq!((value(&starts[0], "weight.med"), value(&starts[0], "weight.ja")), (0.8, 0.2));
    // Where weights are one number, no source can be alone: one point is left.
    let shared = plan_shared();
    assert_eq!(shared.start_points().len(), 2);
}

fn plan_shared() -> RunPlan {
    plan(&["search.start_points=[\"sources\"]", "parameters.weight={ shared = true }"])
}

#[test]
fn a_mergekit_configuration_gives_weights_and_rates() {
    let plan = plan(&[]);
    let text = "
merge_method: dare_ties
base_model: /elsewhere/base
slices:
- sources:
  - {model: org/Medical-8B, layer_range: [0, 4], parameters: {weight: 0.2, density: 0.5}}
  - {model: /elsewhere/Japanese-8B, layer_range: [0, 4], parameters: {weight: 0.6, density: 0.9}}
- sources:
  - {model: org/Medical-8B, layer_range: [4, 8], parameters: {weight: 0.4, density: 0.7}}
  - {model: /elsewhere/Japanese-8B, layer_range: [4, 8], parameters: {weight: 0.8, density: 0.9}}
parameters: {lambda: 1.2}
dtype: bfloat16
";
    let numbers = Numbers::read(&plan, "/x/best.yaml", text).unwrap();
    assert_eq!(numbers.scale, 1.2);
    let close = |a: &[f64; 3], b: [f64; 3]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12);
    assert!(close(&numbers.sources[0], [0.3, 0.4, 0.0]), "{numbers:?}");
    assert!(close(&numbers.sources[1], [0.7, 0.1, 0.0]), "{numbers:?}");
    let trims = text.replace("dare_ties", "ties");
    let numbers = Numbers::read(&plan, "/x/best.yaml", &trims).unwrap();
    assert!(close(&numbers.sources[0], [0.3, 0.0, 0.4]), "{numbers:?}");
    let strange = text.replace("Medical-8B", "Other").replace("Japanese-8B", "Another");
    let e = Numbers::read(&plan, "/x/best.yaml", &strange).unwrap_err();
    assert!(e.contains("none of the run's sources (med, ja)"), "{e}");
}

#[test]
fn a_recipe_is_its_own_start() {
    let plan = plan(&[]);
    let point: Vec<f64> = (0..plan.space.dimensions()).map(|i| 0.1 + 0.1 * i as f64).collect();
    let recipe = plan.recipe(&Genome::new(point.clone()).unwrap());
    let numbers = Numbers::read(&plan, "/x/recipe.json", &recipe.to_json()).unwrap();
    let back = plan.point(&numbers);
    assert!(back.iter().zip(&point).all(|(a, b)| (a - b).abs() < 1e-12), "{back:?}");
}

#[test]
fn a_genome_is_translated_where_its_numbers_can_be() {
    let old = plan(&[]);
    let genome = Genome::new((0..old.space.dimensions()).map(|i| 0.3 + 0.05 * i as f64).collect()).unwrap();
    let wider = plan(&["parameters.weight={ low = 0.0, high = 2.0 }"]);
    let point = wider.translate(&old, &genome).unwrap();
    assert!(wider.recipe(&Genome::new(point).unwrap()).is_nearly(&old.recipe(&genome)));
    let narrower = plan(&["parameters.weight={ low = 0.0, high = 0.1 }"]);
    assert_eq!(narrower.translate(&old, &genome), None);
    let fixed = plan(&["parameters.scale=1.0"]);
    assert_eq!(fixed.translate(&old, &genome), None, "the scale was another");
    let back = old.translate(&fixed, &Genome::new(vec![0.4; fixed.space.dimensions()]).unwrap());
    assert!(back.is_some(), "what was fixed has a value");
    let seeded = plan(&["merge.mask_seed=7"]);
    assert_eq!(seeded.translate(&old, &genome), None, "another mask is another merge");
}

#[test]
fn unknown_names_are_refused() {
    let overrides = vec!["search.start_points=[\"nowhere\"]".to_string()];
    let (folder, metrics) = (Path::new("/runs"), &["rouge_l"][..]);
    let file = RunFile { name: "r.toml", text: RUN, folder, overrides: &overrides, metrics };
    let e = parse(&file).unwrap_err().to_string();
    assert!(e.contains("\"nowhere\" is no start point"), "{e}");
}
