//! A recipe with its origin: the run and candidate that it is, what that candidate scored, and the files that the
//! run was pinned to.
//!
//! Provenance travels in the recipe's file under the key `provenance` and is no part of the [`Recipe`]: a merge is
//! the same with and without it, and so is the digest that results are matched by. It holds numbers, names and
//! digests; no report text.

use crate::digest::{Digest, FileDigest, Manifest};
use crate::recipe::{Recipe, RecipeError};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

const KEY: &str = "provenance";
/// Bounds on what a file may claim; a run is far below them.
const LONGEST_TEXT: usize = 200;
const MOST_METRICS: usize = 200;
const MOST_FILES: usize = 20_000;

/// What a recipe file holds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RecipeFile {
    /// Every number of the merge.
    #[serde(flatten)]
    pub recipe: Recipe,
    /// Where it came from; absent in recipes written by hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provenance: Option<Provenance>,
}

/// Where a recipe came from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// The run's id.
    pub run: String,
    /// The run's name, as its file gives it.
    pub name: String,
    /// BLAKE3 of the run's plan.
    pub plan_digest: Digest,
    /// [`dataset_digest`] of the samples and images that it was searched on, where they were pinned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset_digest: Option<Digest>,
    /// The search's algorithm.
    pub algorithm: String,
    /// The candidate's number.
    pub candidate: u64,
    /// The generation that it belongs to.
    pub generation: u64,
    /// Candidates that were evaluated when the recipe was written out.
    pub evaluations: u64,
    /// What the search was told, larger is better; absent when the candidate is not scored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fitness: Option<f64>,
    /// Mean of every metric over the search samples.
    #[serde(default)]
    pub metrics: BTreeMap<String, f64>,
    /// When it was scored, in milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scored_unix_ms: Option<u64>,
    /// The program that the run was made with.
    pub program_version: String,
    /// [`merge_digest`] of the recipe that all this is about.
    pub merge_digest: Digest,
    /// The files of the recipe's models that the run was pinned to, as `models/NAME/FILE`. Empty when none were yet.
    #[serde(default)]
    pub files: Vec<FileDigest>,
}

/// Why a recipe file is refused.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum FileError {
    /// The recipe itself.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// Its provenance has another form.
    #[error("provenance: {0}; take the recipe from `jradievo recipe` again, or remove the key `provenance`")]
    Form(String),
    /// Somebody changed the recipe since.
    #[error(
        "provenance belongs to another recipe: a number or a model's name was changed since the search wrote it; \
         remove the key `provenance` to merge it as a recipe of your own"
    )]
    OtherRecipe,
}

impl RecipeFile {
    /// Reads a recipe file's text, with or without provenance, and checks both.
    ///
    /// # Errors
    /// [`FileError`], naming the field.
    pub fn parse(text: &str) -> Result<RecipeFile, FileError> {
        let form = |e: serde_json::Error| FileError::Recipe(RecipeError::Form(e.to_string()));
        let mut keys: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(text).map_err(form)?;
        let Some(value) = keys.remove(KEY) else {
            return Ok(RecipeFile { recipe: Recipe::parse(text)?, provenance: None });
        };
        let recipe = Recipe::parse(&serde_json::Value::Object(keys).to_string())?;
        let provenance: Provenance =
            serde_json::from_value(value).map_err(|e| FileError::Form(e.to_string()))?;
        provenance.check().map_err(FileError::Form)?;
        if provenance.merge_digest != merge_digest(&recipe) {
            return Err(FileError::OtherRecipe);
        }
        Ok(RecipeFile { recipe, provenance: Some(provenance) })
    }

    /// The text of the file.
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("numbers and texts are JSON");
        text.push('\n');
        text
    }
}

impl Provenance {
    fn check(&self) -> Result<(), String> {
        let texts = [
            ("run", &self.run),
            ("name", &self.name),
            ("algorithm", &self.algorithm),
            ("program_version", &self.program_version),
        ];
        if let Some((field, _)) = texts.iter().find(|(_, text)| text.len() > LONGEST_TEXT) {
            return Err(format!("{field} is longer than {LONGEST_TEXT} bytes"));
        }
        if self.metrics.len() > MOST_METRICS || self.files.len() > MOST_FILES {
            return Err(format!("more than {MOST_METRICS} metrics or {MOST_FILES} files"));
        }
        if let Some((metric, _)) = self.metrics.iter().find(|(_, value)| !value.is_finite()) {
            return Err(format!("metrics.{metric} is not finite"));
        }
        match self.fitness {
            Some(fitness) if !fitness.is_finite() => Err("fitness is not finite".into()),
            _ => Ok(()),
        }
    }

    /// The pinned files.
    pub fn manifest(&self) -> Manifest {
        Manifest::new(self.files.clone())
    }
}

/// BLAKE3 of a recipe without its paths: the same on every machine, whatever the folders are called.
pub fn merge_digest(recipe: &Recipe) -> Digest {
    let mut value = serde_json::to_value(recipe).expect("a recipe is JSON");
    without_paths(&mut value);
    // Maps are sorted by key, so the text is canonical.
    Digest::of(value.to_string().as_bytes())
}

fn without_paths(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(map) => {
            if map.contains_key("name") {
                map.remove("path");
            }
            map.values_mut().for_each(without_paths);
        }
        serde_json::Value::Array(list) => list.iter_mut().for_each(without_paths),
        _ => {}
    }
}

/// The pinned files of the models that a recipe names.
pub fn model_files(recipe: &Recipe, pinned: &Manifest) -> Vec<FileDigest> {
    let names: BTreeSet<&str> = recipe.model_refs().into_iter().map(|m| m.name.as_str()).collect();
    let of_recipe = |file: &&FileDigest| {
        let name = file.name.strip_prefix("models/").and_then(|rest| rest.split('/').next());
        name.is_some_and(|name| names.contains(name))
    };
    pinned.files().iter().filter(of_recipe).cloned().collect()
}

/// BLAKE3 over names, sizes and digests of all pinned dataset files. One number for all, since names of images may
/// say whose they are.
pub fn dataset_digest(pinned: &Manifest) -> Option<Digest> {
    let files = pinned.files().iter().filter(|f| f.name.starts_with("dataset/"));
    let lines: String = files.map(|f| format!("{}\t{}\t{}\n", f.name, f.bytes, f.digest)).collect();
    (!lines.is_empty()).then(|| Digest::of(lines.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::tests::sample;

    fn file(name: &str) -> FileDigest {
        FileDigest { name: name.into(), bytes: 1, digest: Digest::of(name.as_bytes()) }
    }

    fn provenance(recipe: &Recipe) -> Provenance {
        Provenance {
            run: "demo-1".into(),
            name: "demo".into(),
            plan_digest: Digest::of(b"plan"),
            dataset_digest: None,
            algorithm: "cma-es".into(),
            candidate: 3,
            generation: 1,
            evaluations: 12,
            fitness: Some(0.1 + 0.2),
            metrics: BTreeMap::from([("rouge_l".to_string(), 0.25)]),
            scored_unix_ms: Some(0),
            program_version: "0.1.0".into(),
            merge_digest: merge_digest(recipe),
            files: vec![file("models/a/config.json")],
        }
    }

    #[test]
    fn round_trips_and_leaves_the_recipe_alone() {
        let recipe = sample();
        let whole = RecipeFile { provenance: Some(provenance(&recipe)), recipe: recipe.clone() };
        let read = RecipeFile::parse(&whole.to_json()).unwrap();
        assert_eq!(read, whole);
        assert_eq!(read.recipe.digest(), recipe.digest());
        let plain = RecipeFile::parse(&recipe.to_json()).unwrap();
        assert_eq!((plain.recipe, plain.provenance), (recipe, None));
    }

    #[test]
    fn paths_may_change_and_numbers_may_not() {
        let recipe = sample();
        let whole = RecipeFile { provenance: Some(provenance(&recipe)), recipe };
        let moved = whole.to_json().replace("/models/", "/elsewhere/");
        assert_eq!(RecipeFile::parse(&moved).unwrap().recipe.base.path, "/elsewhere/base");
        let edited = whole.to_json().replacen("\"weight\": 0.5", "\"weight\": 0.75", 1);
        assert_eq!(RecipeFile::parse(&edited), Err(FileError::OtherRecipe));
        let long = whole.to_json().replace("cma-es", &"x".repeat(201));
        assert!(matches!(RecipeFile::parse(&long), Err(FileError::Form(_))));
        let form = RecipeFile::parse(&whole.to_json().replace("\"candidate\": 3", "\"candidate\": -3"));
        assert!(matches!(form, Err(FileError::Form(_))), "{form:?}");
    }

    #[test]
    fn only_the_recipes_models_are_listed_and_images_are_not_named() {
        let names =
            ["models/a/x", "models/ab/x", "models/base/x", "dataset/s.jsonl", "dataset/images/p7.png"];
        let pinned = Manifest::new(names.iter().map(|n| file(n)).collect());
        let listed: Vec<String> = model_files(&sample(), &pinned).into_iter().map(|f| f.name).collect();
        assert_eq!(listed, ["models/a/x", "models/base/x"]);
        let digest = dataset_digest(&pinned).unwrap();
        let fewer = Manifest::new(pinned.files()[1..].to_vec());
        assert_ne!(dataset_digest(&fewer), Some(digest));
        assert_eq!(dataset_digest(&Manifest::default()), None);
    }
}
