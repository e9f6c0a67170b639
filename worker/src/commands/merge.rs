//! `jradievo-worker merge`: a recipe file, or a mergekit configuration, becomes a model folder.

use super::{OK, mergekit};
use crate::card::licence::Licence;
use crate::card::{Card, Contents, Source};
use crate::cli;
use crate::locate::Locator;
use crate::memory;
use crate::merge::{Export, Merger, Part};
use crate::obtain::obtain;
use crate::summary::Summary;
use crate::vlm::family;
use anyhow::{Context, Result, bail};
use common::digest::{FileDigest, Manifest};
use common::files;
use common::provenance::{self, RecipeFile};
use common::recipe::{Arithmetic, Convention, FORMAT, Mask, ModelRef, Recipe, Vocabulary};
use hub::Meter;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// Files of figures are small; a larger one is something else.
const LARGEST_PROOF: u64 = 16 << 20;

/// Reads and checks a recipe file.
pub fn read_recipe(path: &Path) -> Result<Recipe> {
    Ok(read_recipe_file(path)?.recipe)
}

/// The same with where it came from.
pub fn read_recipe_file(path: &Path) -> Result<RecipeFile> {
    let text = std::fs::read_to_string(path).with_context(|| {
        format!("{}: cannot read the recipe (make one with `jradievo recipe`)", path.display())
    })?;
    RecipeFile::parse(&text).with_context(|| path.display().to_string())
}

/// Runs the command.
pub fn run(args: &cli::Merge) -> Result<u8> {
    if let Ok(text) = std::fs::read_to_string(&args.recipe)
        && mergekit::is_configuration(&text)
    {
        return mergekit::run(args, &text);
    }
    mergekit::refuse_options(args)?;
    let began = Instant::now();
    let part = if args.text_only { Part::Language } else { Part::Whole };
    let (mut file, extracted) = match args.recipe.is_dir() {
        true if part == Part::Whole => bail!(
            "{}: a folder; give a recipe file, or --text-only to take the language model out of this model",
            args.recipe.display()
        ),
        true => (own_language_model(&args.recipe)?, true),
        false => (read_recipe_file(&args.recipe)?, false),
    };
    let summary = args.proof.as_deref().map(read_proof).transpose()?;
    let proof =
        summary.as_ref().map(|s| Ok::<_, anyhow::Error>((s, row_of(s, &file.recipe)?))).transpose()?;
    let mut locator = Locator::new(args.models.clone(), None);
    obtain(&mut locator, file.recipe.model_refs(), &Meter::stderr())?;
    let merger = Merger::for_recipe(&file.recipe, |m| locator.model(m))?;
    // What is written beside the weights names the commits.
    locator.pin(file.recipe.models_mut());
    let recipe = &file.recipe;
    let sources = sources(&merger, recipe);
    let mut digests = Vec::new();
    for (name, model) in merger.models() {
        digests.extend(files::digest_model(name, model.folder())?);
    }
    let changed = changed(&file, &digests);
    if !changed.is_empty() && !args.allow_changed_sources {
        bail!(
            "the files here are not those that the run was pinned to:\n  {}\nGet the run's files, or merge these with \
             --allow-changed-sources (the model card will say so)",
            changed.join("\n  ")
        );
    }
    memory::guard(&memory::for_merge(&merger, recipe)?, args.memory.ignore_memory_plan)?;
    let stop = AtomicBool::new(false);
    let vlm = merger.model(&recipe.vlm.name).context("a recipe has a VLM")?;
    let prepared = (!extracted).then(|| merger.plan(recipe, &stop)).transpose()?;
    let title = std::path::absolute(&args.out)?;
    let title = title.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let contents = match part {
        _ if extracted => Contents::Extracted,
        Part::Language => Contents::Language,
        Part::Whole => Contents::Whole { code: carries_code(vlm.folder()) },
    };
    let card = Card {
        title: &title,
        contents,
        file: &file,
        sources: &sources,
        digests: &digests,
        changed: &changed,
        proof,
    };
    let mut documents = vec![
        ("recipe.json".to_string(), file.to_json().into_bytes()),
        ("README.md".to_string(), card.text().into_bytes()),
    ];
    documents.extend(licence_texts(&sources));
    Export { part, documents, ..Export::new(recipe, prepared.as_ref(), vlm) }.write(&args.out, &stop)?;
    report(&args.out, &sources, began);
    Ok(OK)
}

fn report(out: &Path, sources: &[Source], began: Instant) {
    eprintln!("{}: written in {:.1} s", out.display(), began.elapsed().as_secs_f64());
    let unknown: Vec<&str> =
        sources.iter().filter(|s| s.licence.is_unknown()).map(|s| s.name.as_str()).collect();
    if !unknown.is_empty() {
        eprintln!("note: no licence is stated in the folders of {}", unknown.join(", "));
    }
    if let Some(terms) = sources.iter().find_map(|s| s.licence.llama()) {
        let (built, begins) = (terms.built_with, terms.name_begins);
        eprintln!("note: to distribute it, see README.md: “{built}”, a name that begins with “{begins}”");
    }
}

/// A recipe that stands for a model as it is.
fn own_language_model(folder: &Path) -> Result<RecipeFile> {
    let absolute = std::path::absolute(folder)?;
    let name = absolute.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let mut model = ModelRef::new(name, absolute.display().to_string());
    // Some families keep their language model's tensors under names of their own.
    model.rename = family::open(folder)?.renames();
    let recipe = Recipe {
        format: FORMAT,
        convention: Convention::Paper,
        base: model.clone(),
        vlm: model,
        sources: Vec::new(),
        scale: 1.0,
        mask: Mask::Independent,
        mask_seed: 0,
        arithmetic: Arithmetic::Float32,
        vocabulary: Vocabulary::Refuse,
    };
    Ok(RecipeFile { recipe, provenance: None })
}

/// Every model of the recipe once, with what its folder says.
fn sources(merger: &Merger, recipe: &Recipe) -> Vec<Source> {
    let models = recipe.model_refs();
    models
        .into_iter()
        .filter_map(|m| {
            let opened = merger.model(&m.name)?;
            let folder =
                std::path::absolute(opened.folder()).unwrap_or_else(|_| PathBuf::from(opened.folder()));
            Some(Source::of_folder(&m.name, &m.path, &folder))
        })
        .collect()
}

/// How the files here differ from those that the run was pinned to.
fn changed(file: &RecipeFile, digests: &[FileDigest]) -> Vec<String> {
    let Some(provenance) = file.provenance.as_ref().filter(|p| !p.files.is_empty()) else {
        return Vec::new();
    };
    let here = Manifest::new(provenance::model_files(&file.recipe, &Manifest::new(digests.to_vec())));
    provenance.manifest().differences(&here).iter().map(ToString::to_string).collect()
}

/// Whether transformers would find code for this model in its folder.
fn carries_code(folder: &Path) -> bool {
    let config = std::fs::read_to_string(folder.join("config.json")).unwrap_or_default();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap_or_default();
    config["auto_map"].is_object()
}

fn licence_texts(sources: &[Source]) -> Vec<(String, Vec<u8>)> {
    let safe = |name: &str| -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '_' };
        name.chars().map(plain).take(100).collect()
    };
    let of = |s: &Source| {
        let Licence { texts, .. } = s.licence.clone();
        let folder = safe(&s.name);
        texts.into_iter().map(move |t| (format!("licences/{folder}/{}", t.file), t.content))
    };
    sources.iter().flat_map(of).collect()
}

fn read_proof(path: &Path) -> Result<Summary> {
    let name = path.display().to_string();
    let bytes = std::fs::metadata(path).with_context(|| name.clone())?.len();
    if bytes > LARGEST_PROOF {
        bail!("{name}: {bytes} bytes; not a file that `jradievo-worker compare --out` wrote");
    }
    let text = std::fs::read_to_string(path).with_context(|| name.clone())?;
    serde_json::from_str(&text)
        .with_context(|| format!("{name}: not what `jradievo-worker compare --out` writes; compare again"))
}

/// The row of a comparison that is about this very recipe.
fn row_of<'a>(summary: &'a Summary, recipe: &Recipe) -> Result<&'a str> {
    let digest = provenance::merge_digest(recipe);
    let row = summary.recipes.iter().find(|(_, d)| **d == digest);
    row.map(|(name, _)| name.as_str()).context(
        "the comparison given with --proof is about other recipes; compare this one: \
         jradievo-worker compare RUN.toml --recipe FILE --out summary.json",
    )
}
