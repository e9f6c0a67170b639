//! What recipes are pinned to: references of their models, and the digests of the files that their run had.

use crate::merge::Merger;
use crate::summary::Summary;
use anyhow::{Result, bail};
use common::digest::{FileDigest, Manifest};
use common::location::Location;
use common::provenance::{self, RecipeFile};
use common::recipe::{ModelRef, Recipe};
use common::run::RunPlan;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Digests of all files of the opened models, by the models' names. A folder with two names is read once.
///
/// # Errors
/// A file that cannot be read.
pub fn digests(merger: &Merger) -> Result<Vec<FileDigest>> {
    let mut known: BTreeMap<PathBuf, (String, Vec<FileDigest>)> = BTreeMap::new();
    let mut all = Vec::new();
    for (name, model) in merger.models() {
        let folder = std::fs::canonicalize(model.folder()).unwrap_or_else(|_| model.folder().into());
        if let Some((first, digests)) = known.get(&folder) {
            let (from, to) = (format!("models/{first}/"), format!("models/{name}/"));
            let renamed = |d: &FileDigest| FileDigest { name: d.name.replacen(&from, &to, 1), ..d.clone() };
            all.extend(digests.iter().map(renamed));
            continue;
        }
        let digests = model.digests(name, &|| true)?;
        all.extend(digests.iter().cloned());
        known.insert(folder, (name.into(), digests));
    }
    Ok(all)
}

/// How the files here differ from those that the recipe's run was pinned to. Empty where it was pinned to none.
pub fn changed(file: &RecipeFile, digests: &[FileDigest]) -> Vec<String> {
    match file.provenance.as_ref().filter(|p| !p.files.is_empty()) {
        Some(provenance) => differences(&file.recipe, &provenance.files, digests),
        None => Vec::new(),
    }
}

/// Refuses changed files unless they are allowed. `doing` is what is about to be done with them.
pub fn refuse(changed: &[String], allowed: bool, doing: &str) -> Result<()> {
    if changed.is_empty() || allowed {
        return Ok(());
    }
    bail!(
        "the files here are not those that the run was pinned to:\n  {}\nGet the run's files, or {doing} these with \
         --allow-changed-sources (the result will say so)",
        changed.join("\n  ")
    )
}

/// Refuses a comparison that was made with other files than those that are about to be merged.
pub fn check_proof(summary: &Summary, recipe: &Recipe, digests: &[FileDigest]) -> Result<()> {
    if summary.models.is_empty() {
        bail!(
            "the comparison given with --proof does not say which files it was made with; compare again: jradievo-worker \
             compare RUN.toml --recipe FILE --out proof.json"
        );
    }
    let differ = differences(recipe, &summary.models, digests);
    if !differ.is_empty() {
        bail!(
            "the comparison given with --proof was made with other files than these:\n  {}\nCompare again with the files \
             that are merged",
            differ.join("\n  ")
        );
    }
    Ok(())
}

/// Differences among the files of the recipe's models.
fn differences(recipe: &Recipe, pinned: &[FileDigest], here: &[FileDigest]) -> Vec<String> {
    let of =
        |files: &[FileDigest]| Manifest::new(provenance::model_files(recipe, &Manifest::new(files.to_vec())));
    of(pinned).differences(&of(here)).iter().map(ToString::to_string).collect()
}

/// Takes into the plan what the recipes pin: a hub's model at the recipe's commit, in place of the branch that the run file
/// names. A folder of the run file stays, as it may be another on every machine.
///
/// # Errors
/// When a recipe names a model that the run file does not, or renames its tensors otherwise; when two recipes pin one model
/// to different commits.
pub fn adopt(plan: &mut RunPlan, run: &Path, recipes: &[(&Path, &Recipe)]) -> Result<()> {
    let mut pinned: BTreeMap<String, (String, &Path)> = BTreeMap::new();
    for (path, recipe) in recipes {
        for model in recipe.model_refs() {
            let known = plan.model_refs().into_iter().find(|m| m.name == model.name).cloned();
            check_known(model, known.as_ref(), path, run)?;
            let Ok(Location::Hub(reference)) = model.location() else { continue };
            if reference.commit().is_none() {
                continue;
            }
            match pinned.get(&model.name) {
                Some((other, first)) if *other != model.path => bail!(
                    "model {:?} is {other} in {} and {} in {}; compare recipes of one run",
                    model.name,
                    first.display(),
                    model.path,
                    path.display()
                ),
                _ => drop(pinned.insert(model.name.clone(), (model.path.clone(), path))),
            }
        }
    }
    for model in plan.models_mut() {
        if let Some((path, _)) = pinned.get(&model.name)
            && matches!(model.location(), Ok(Location::Hub(_)))
        {
            model.path = path.clone();
        }
    }
    Ok(())
}

fn check_known(model: &ModelRef, known: Option<&ModelRef>, path: &Path, run: &Path) -> Result<()> {
    let (path, run) = (path.display(), run.display());
    let Some(known) = known else {
        bail!("{path}: model {:?} is not in {run}; give the run file that the recipe came from", model.name);
    };
    if known.rename != model.rename {
        bail!(
            "{path}: model {:?} has renamed prefixes {:?}, in {run} it has {:?}; compare by the run file that the recipe \
             came from",
            model.name,
            model.rename,
            known.rename
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::asking::read_run;
    use common::digest::Digest;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    fn plan() -> RunPlan {
        let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/runs/demo.toml");
        let mut plan = read_run(&run, &[]).unwrap();
        plan.models.base.path = "hf://lab/base@main".into();
        plan
    }

    fn adopted(plan: &mut RunPlan, recipes: &[&Recipe]) -> Result<()> {
        let named: Vec<(&Path, &Recipe)> = recipes.iter().map(|r| (Path::new("best.json"), *r)).collect();
        adopt(plan, Path::new("run.toml"), &named)
    }

    #[test]
    fn a_recipes_commit_takes_the_place_of_the_run_files_branch() {
        let mut plan = plan();
        let mut recipe = plan.authors_middle();
        recipe.base.path = format!("hf://lab/base@{COMMIT}");
        // The node's own folder stays, whatever the recipe's machine had.
        let vlm = std::mem::replace(&mut recipe.vlm.path, format!("hf://lab/vlm@{COMMIT}"));
        adopted(&mut plan, &[&recipe]).unwrap();
        assert_eq!(plan.models.base.path, recipe.base.path);
        assert_eq!(plan.models.vlm.path, vlm);
        let mut other = recipe.clone();
        other.base.path = other.base.path.replace("0123", "9999");
        let e = adopted(&mut plan, &[&recipe, &other]).unwrap_err().to_string();
        assert!(e.contains("model \"base\"") && e.contains("@9999") && e.contains("one run"), "{e}");
    }

    #[test]
    fn every_model_of_a_recipe_must_be_the_run_files() {
        let mut plan = plan();
        let recipe = plan.authors_middle();
        let mut stranger = recipe.clone();
        stranger.sources[0].base = Some(ModelRef::new("stranger", "/x"));
        let e = adopted(&mut plan, &[&stranger]).unwrap_err().to_string();
        assert!(e.starts_with("best.json: model \"stranger\" is not in run.toml"), "{e}");
        let mut renamed = recipe.clone();
        renamed.vlm.rename.insert("llm.".into(), String::new());
        let e = adopted(&mut plan, &[&renamed]).unwrap_err().to_string();
        assert!(e.contains("renamed prefixes"), "{e}");
        let mut base = recipe;
        base.base.name = "another".into();
        assert!(adopted(&mut plan, &[&base]).unwrap_err().to_string().contains("\"another\""));
    }

    #[test]
    fn a_folder_with_two_names_has_its_files_under_both() {
        let folder = tempfile::tempdir().unwrap();
        let family = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/family/base");
        for entry in std::fs::read_dir(family).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
        }
        let models = ["a", "b"].map(|n| ModelRef::new(n, folder.path().display().to_string()));
        let merger = Merger::open(&models, |m| m.path.clone().into()).unwrap();
        let digests = digests(&merger).unwrap();
        let of = |name: &str| -> Vec<(String, Digest)> {
            let own = digests.iter().filter_map(|d| Some((d.name.strip_prefix(name)?.to_string(), d.digest)));
            own.collect()
        };
        assert!(!of("models/a/").is_empty());
        assert_eq!(of("models/a/"), of("models/b/"));
        assert_eq!(digests.len(), 2 * of("models/a/").len());
    }
}
