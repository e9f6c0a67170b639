//! `jradievo-worker merge` of a mergekit configuration.

use super::OK;
use crate::cli;
use crate::merge::mergekit::{Error, Merge, Options};
use anyhow::{Context, Result, bail};
use common::files;
use common::location::{DEFAULT_REVISION, HubRef, SCHEME};
use common::mergekit::{ModelName, parse};
use hub::{Hub, Meter};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// Whether a file's text is a mergekit configuration and not a recipe: recipes are JSON objects with a format.
pub fn is_configuration(text: &str) -> bool {
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(value) => value.get("merge_method").is_some() && value.get("format").is_none(),
        // A recipe that is not sound JSON is still meant as one.
        Err(_) => !text.trim_start().starts_with('{') || text.contains("merge_method"),
    }
}

/// Runs the command for the configuration `text` that `args` names.
pub fn run(args: &cli::Merge, text: &str) -> Result<u8> {
    if args.text_only || args.proof.is_some() || args.allow_changed_sources {
        bail!(
            "--text-only, --proof and --allow-changed-sources are for recipes, not for mergekit configurations"
        );
    }
    let name = args.recipe.display().to_string();
    let parsed = parse(&name, text)?;
    for note in &parsed.notes {
        let line = note.line().map_or(String::new(), |line| format!("{line}: "));
        eprintln!("note: {name}:{line}{}: {} ({})", note.field, note.message, note.remedy);
    }
    let options = Options {
        seed: args.seed.unwrap_or(0),
        truncate_embeddings: args.truncate_embeddings,
        torch_threads: args.torch_threads as usize,
        ..Options::default()
    };
    let beside = args.recipe.parent().map(Path::to_path_buf).unwrap_or_default();
    let began = Instant::now();
    let get = |reference: &HubRef| Ok(Hub::from_env()?.obtain(reference, &Meter::stderr())?.folder);
    let merge =
        Merge::plan(parsed.config, options, |model| find(model, args.models.as_deref(), &beside, &get))
            .with_context(|| name.clone())?;
    for note in merge.notes() {
        eprintln!("note: {note}");
    }
    let mut digests = Vec::new();
    for (model, folder) in merge.models() {
        digests.extend(files::digest_model(&model.to_string(), folder)?);
    }
    merge.write(&args.out, text, &digests, &AtomicBool::new(false))?;
    eprintln!("{}: written in {:.1} s", args.out.display(), began.elapsed().as_secs_f64());
    Ok(OK)
}

/// The folder of a model: with `models`, the one in it that is called like the reference or like its last part; else
/// the reference as a path, from the configuration's folder or from where the program runs. What is no folder and could
/// be `owner/name` of a hub (with or without `hf://`) is taken from there by `get`.
fn find(
    model: &ModelName,
    models: Option<&Path>,
    beside: &Path,
    get: &dyn Fn(&HubRef) -> hub::Result<PathBuf>,
) -> Result<PathBuf, Error> {
    let path = Path::new(&model.path);
    let mut places = Vec::new();
    match models {
        Some(models) => {
            places.push(models.join(path));
            places.extend(path.file_name().map(|last| models.join(last)));
        }
        None => places.extend([beside.join(path), path.to_path_buf()]),
    }
    if let Some(found) = places.iter().find(|p| p.is_dir()) {
        return Ok(found.clone());
    }
    let repo = model.path.strip_prefix(SCHEME).unwrap_or(&model.path);
    let revision = model.revision.as_deref().unwrap_or(DEFAULT_REVISION);
    let fault = match format!("{SCHEME}{repo}@{revision}").parse::<HubRef>() {
        Ok(reference) => match get(&reference) {
            Ok(folder) => return Ok(folder),
            Err(e) => format!("no such folder: {}; from the hub: {e}", places[0].display()),
        },
        Err(_) => format!("no such folder: {}", places[0].display()),
    };
    let remedy = "give the folder that holds it with --models, or name owner/name of a hub".into();
    Err(Error::Config { field: model.to_string(), fault, remedy })
}

/// Refuses the options of a configuration for a recipe.
pub fn refuse_options(args: &cli::Merge) -> Result<()> {
    if args.truncate_embeddings || args.seed.is_some() {
        bail!(
            "--seed and --truncate-embeddings are for mergekit configurations; a recipe says itself what its seed is and \
             how vocabularies are matched"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_are_told_from_recipes() {
        assert!(is_configuration("merge_method: linear\nmodels: []"));
        assert!(is_configuration("{merge_method: linear, models: []}"));
        assert!(is_configuration("{\"merge_method\": \"linear\"}"));
        assert!(!is_configuration("{\"format\": 1, \"convention\": \"paper\"}"));
        assert!(!is_configuration("{\"format\": 1, "));
    }

    #[test]
    fn models_are_looked_for_in_their_places() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("owner/a")).unwrap();
        std::fs::create_dir_all(dir.path().join("b")).unwrap();
        let nobody = |r: &HubRef| Err(hub::Error::NoRepo { repo: r.repo(), endpoint: "the hub".into() });
        let found =
            |model: &str| find(&ModelName::new(model), Some(dir.path()), Path::new("/nowhere"), &nobody);
        assert_eq!(found("owner/a").unwrap(), dir.path().join("owner/a"));
        assert_eq!(found("owner/b").unwrap(), dir.path().join("b"));
        assert!(found("c").unwrap_err().to_string().contains("--models"));
        assert_eq!(find(&ModelName::new("b"), None, dir.path(), &nobody).unwrap(), dir.path().join("b"));
        let e = found("owner/c").unwrap_err().to_string();
        assert!(e.contains("no such folder") && e.contains("no model repository owner/c"), "{e}");
        let get = |r: &HubRef| Ok(PathBuf::from(r.to_string()));
        for written in ["owner/c", "hf://owner/c"] {
            let model = ModelName { revision: Some("v1".into()), ..ModelName::new(written) };
            let found = find(&model, Some(dir.path()), Path::new("/nowhere"), &get).unwrap();
            assert_eq!(found, PathBuf::from("hf://owner/c@v1"));
        }
    }
}
