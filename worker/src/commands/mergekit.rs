//! `jradievo-worker merge` of a mergekit configuration.

use super::OK;
use super::merge::{report, title};
use crate::card::Source;
use crate::checkpoint::part;
use crate::cli;
use crate::memory::{self, MemoryPlan};
use crate::merge::mergekit::{Error, Merge, Options, Origin};
use anyhow::{Context, Result, bail};
use common::location::{DEFAULT_REVISION, HubRef, SCHEME};
use common::mergekit::{ModelName, parse};
use hub::{Hub, Meter};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// Runs the command for the configuration `text` that `args` names.
pub fn run(args: &cli::Merge, text: &str, stop: &AtomicBool) -> Result<u8> {
    if args.text_only || args.proof.is_some() || args.allow_changed_sources {
        bail!(
            "--text-only, --proof and --allow-changed-sources are for recipes, not for mergekit configurations"
        );
    }
    let options = Options {
        seed: args.seed.unwrap_or(0),
        truncate_embeddings: args.truncate_embeddings,
        torch_threads: args.torch_threads as usize,
        digests: args.digests,
        ..Options::default()
    };
    let began = Instant::now();
    let pinned: RefCell<BTreeMap<PathBuf, HubRef>> = RefCell::default();
    let get = |reference: &HubRef| {
        let snapshot = Hub::from_env()?.obtain(reference, &Meter::stderr())?;
        pinned.borrow_mut().insert(snapshot.folder.clone(), snapshot.reference);
        Ok(snapshot.folder)
    };
    let (merge, notes) = open(&args.recipe, text, options, args.models.as_deref(), &get)?;
    notes.iter().for_each(|note| eprintln!("note: {note}"));
    part::check_space(&args.out, &merge.specs())?;
    memory::guard(&memory::for_mergekit(&merge)?, args.memory.ignore_memory_plan)?;
    let mut sources = Vec::new();
    for (model, checkpoint) in merge.models() {
        let (name, folder) = (model.to_string(), checkpoint.folder());
        let path = pinned.borrow().get(folder).map_or_else(|| model.path.clone(), HubRef::to_string);
        sources.push(Source::of_folder(&name, &path, &std::path::absolute(folder)?));
    }
    let title = title(&args.out)?;
    merge.write(&args.out, &Origin { title: &title, yaml: text, sources: &sources }, stop)?;
    report(&args.out, &sources, began);
    Ok(OK)
}

/// The configuration `text` of the file `path` with its models opened, and what is worth knowing of both though nothing is
/// wrong. Models of a hub are brought, or only looked for, by `get`.
fn open(
    path: &Path,
    text: &str,
    options: Options,
    models: Option<&Path>,
    get: &dyn Fn(&HubRef) -> hub::Result<PathBuf>,
) -> Result<(Merge, Vec<String>)> {
    let name = path.display().to_string();
    let parsed = parse(&name, text)?;
    let beside = path.parent().map(Path::to_path_buf).unwrap_or_default();
    let merge = Merge::plan(parsed.config, options, |model| find(model, models, &beside, get))
        .with_context(|| name.clone())?;
    let of_text = parsed.notes.iter().map(|note| {
        let line = note.line().map_or(String::new(), |line| format!("{line}: "));
        format!("{name}:{line}{}: {} ({})", note.field, note.message, note.remedy)
    });
    let notes = of_text.chain(merge.notes().map(String::from)).collect();
    Ok((merge, notes))
}

/// What `doctor` finds out about a configuration: each finding is told to `note`. Gives the memory plan, unless the models
/// do not fit the configuration. Nothing is fetched, and no vocabulary is cut.
pub fn examine(
    path: &Path,
    text: &str,
    models: Option<&Path>,
    note: &mut dyn FnMut(&str, Result<String>),
) -> Option<MemoryPlan> {
    let get = |reference: &HubRef| Ok(Hub::from_env()?.cached(reference)?.folder);
    let (merge, notes) = match open(path, text, Options::default(), models, &get) {
        Ok(opened) => opened,
        Err(e) => {
            note("merge", Err(e));
            return None;
        }
    };
    notes.into_iter().for_each(|known| note("note", Ok(known)));
    for (model, checkpoint) in merge.models() {
        note(&model.to_string(), Ok(checkpoint.folder().display().to_string()));
    }
    note("merge", Ok(format!("{} tensors can be made", merge.specs().len())));
    match memory::for_mergekit(&merge) {
        Ok(plan) => Some(plan),
        Err(e) => {
            note("memory plan", Err(e.into()));
            None
        }
    }
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
    if args.truncate_embeddings || args.seed.is_some() || args.digests {
        bail!(
            "--seed, --truncate-embeddings and --digests are for mergekit configurations; a recipe says itself what its \
             seed is and how vocabularies are matched, and its models are always digested"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

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
