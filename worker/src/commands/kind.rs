//! What a file is that somebody gave to `merge`.

use anyhow::{Result, bail};
use serde_json::Value;
use std::path::Path;

/// What `merge` makes models of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A recipe, as `jradievo recipe` prints it.
    Recipe,
    /// A mergekit configuration.
    Configuration,
}

/// Tells a file by its name and text. Whether it is sound is for its reader to say.
///
/// # Errors
/// For a file of this program, or of a model, that is no merge: what it is, and what to do.
pub fn of(path: &Path, text: &str) -> Result<Kind> {
    let name = path.display();
    match serde_json::from_str::<Value>(text) {
        Ok(value) => {
            let has = |key: &str| value.get(key).is_some();
            if has("format") {
                return Ok(Kind::Recipe);
            }
            if has("merge_method") {
                return Ok(Kind::Configuration);
            }
            if has("plan") || has("space") {
                bail!(
                    "{name}: the plan of a run, not a recipe; take a candidate's with `jradievo recipe STATE_DIR > best.json`"
                );
            }
            if has("recipes") && has("search") {
                bail!(
                    "{name}: a comparison, not a recipe; give the recipe that was compared, and this file with --proof"
                );
            }
            if has("architectures") || has("model_type") {
                bail!(
                    "{name}: the configuration of a model; give a recipe, or the model's folder with --text-only"
                );
            }
            Ok(Kind::Recipe)
        }
        // A recipe that is not sound JSON is still meant as one.
        Err(_) if text.trim_start().starts_with('{') && !text.contains("merge_method") => Ok(Kind::Recipe),
        Err(_) if is_run_file(path, text) => bail!(
            "{name}: a run file, which describes a search and no one merge; run it, then take the best candidate's recipe \
             with `jradievo recipe STATE_DIR > best.json` and merge that"
        ),
        Err(_) => Ok(Kind::Configuration),
    }
}

/// TOML, by its name or by a table's head; a mergekit configuration has neither.
fn is_run_file(path: &Path, text: &str) -> bool {
    let head =
        |line: &str| ["[models]", "[models.base]", "[merge]", "[dataset]", "[search]"].contains(&line.trim());
    path.extension().is_some_and(|e| e == "toml")
        || (!text.contains("merge_method") && text.lines().any(head))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_are_told_from_recipes() {
        let kind = |text: &str| of(Path::new("x"), text).unwrap();
        for text in [
            "merge_method: linear\nmodels: []",
            "{merge_method: linear, models: []}",
            "{\"merge_method\": \"linear\"}",
        ] {
            assert_eq!(kind(text), Kind::Configuration, "{text}");
        }
        for text in ["{\"format\": 1, \"convention\": \"paper\"}", "{\"format\": 1, "] {
            assert_eq!(kind(text), Kind::Recipe, "{text}");
        }
    }

    #[test]
    fn what_is_neither_is_named_with_a_remedy() {
        let refusal = |path: &str, text: &str| of(Path::new(path), text).unwrap_err().to_string();
        let run = include_str!("../../../scripts/runs/demo.toml");
        for path in ["run.toml", "run"] {
            let e = refusal(path, run);
            assert!(
                e.starts_with(path) && e.contains("a run file") && e.contains("jradievo recipe STATE_DIR"),
                "{e}"
            );
        }
        assert!(refusal("run.json", "{\"id\": \"a\", \"plan\": {}}").contains("the plan of a run"));
        assert!(refusal("proof.json", "{\"recipes\": {}, \"search\": {}}").contains("--proof"));
        assert!(refusal("m/config.json", "{\"model_type\": \"llama\"}").contains("--text-only"));
    }
}
