//! Run files, recipes and mergekit's configurations: texts that become plans and merges.

use common::genome::Genome;
use common::mergekit;
use common::provenance::{RecipeFile, merge_digest};
use common::recipe::Recipe;
use common::run::{Rescoring, RunFile, RunPlan, parse, rescoring};
use std::path::Path;

/// A plan that was accepted is the same after it was written down and read, decodes the middle and the corners of its
/// space to recipes that are accepted, and divides its samples without a gap.
pub fn run_file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let metrics: Vec<&str> = score::METRICS.iter().map(|m| m.name).collect();
    // What follows a line of its own is laid over the file, as from the command line.
    let (text, overrides) = text.split_once("\n---\n").unwrap_or((text, ""));
    let overrides: Vec<String> = overrides.lines().take(8).map(String::from).collect();
    let folder = Path::new("/runs");
    let file = RunFile { name: "run.toml", text, folder, overrides: &overrides, metrics: &metrics };
    let mut plan = match parse(&file) {
        Ok(plan) => plan,
        Err(faults) => {
            assert!(!faults.faults.is_empty(), "a refusal without a reason");
            return drop(faults.to_string());
        }
    };
    let new = Rescoring { file: Some(("new.toml", text)), folder, overrides: &overrides, metrics: &metrics };
    drop(rescoring(&plan, &new).map_err(|faults| faults.to_string()));
    plan.samples = (0..7).map(|i| format!("s{i}")).collect();
    let json = plan.to_json();
    let again = RunPlan::from_json(&json).expect("a plan that was accepted is read again");
    assert_eq!(again.to_json(), json);
    check_recipes(&plan);
    let batches: Vec<u32> = (0..plan.batches()).flat_map(|b| plan.batch(b)).collect();
    assert_eq!(batches, (0..7).collect::<Vec<u32>>());
    drop(plan.space.describe());
}

fn check_recipes(plan: &RunPlan) {
    for x in [0.0, 0.5, 1.0] {
        let genome = Genome::new(vec![x; plan.space.dimensions()]).expect("a point of the cube");
        let recipe = plan.recipe(&genome);
        // The weights of a linear merge may cancel at a point of the space: that merge fails, and says so.
        if recipe.check() == Err(common::recipe::RecipeError::NoWeight) {
            continue;
        }
        assert_eq!(Recipe::parse(&recipe.to_json()).expect("a recipe of a plan"), recipe);
    }
}

/// A recipe that was accepted is the same after it was written and read, with what it says of its origin; what can be made
/// of it for mergekit is read by the reader of mergekit's files.
pub fn recipe(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let file = match RecipeFile::parse(text) {
        Ok(file) => file,
        Err(e) => return drop(e.to_string()),
    };
    let again = RecipeFile::parse(&file.to_json()).expect("a recipe that was accepted is read again");
    assert_eq!(again, file);
    assert_eq!(merge_digest(&again.recipe), merge_digest(&file.recipe));
    assert!(file.recipe.is_nearly(&file.recipe));
    for model in file.recipe.model_refs() {
        model.location().expect("a location that was checked");
    }
    if let Ok(yaml) = mergekit::from_recipe(&file.recipe, None) {
        mergekit::parse("made.yml", &yaml).expect("what is written for mergekit can be read");
    }
    for index in 0..file.recipe.sources.len() {
        drop(file.recipe.single(index));
    }
    drop((file.recipe.uniform().check(), file.recipe.base_alone().check()));
}

/// Whatever is not accepted is refused with a line, and what is accepted names the models of every slice.
pub fn mergekit(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match mergekit::parse("config.yml", text) {
        Err(faults) => {
            assert!(!faults.faults.is_empty(), "a refusal without a reason");
            drop(faults.to_string());
        }
        Ok(parsed) => {
            let models = parsed.config.models();
            assert!(models.iter().all(|m| !m.path.is_empty()), "a model without a path");
            // The same text says the same.
            assert_eq!(mergekit::parse("config.yml", text).expect("it was read before"), parsed);
        }
    }
}
