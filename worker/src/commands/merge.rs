//! `jradievo-worker merge`: a recipe file, or a mergekit configuration, becomes a model folder.

use super::kind::{self, Kind};
use super::signal::{clean_up_when_stopped, remove_folder};
use super::{OK, mergekit, pins};
use crate::card::{Card, Contents, Source, licence_texts};
use crate::checkpoint::part;
use crate::cli;
use crate::locate::Locator;
use crate::memory;
use crate::merge::{Export, Merger, Part};
use crate::obtain::obtain;
use crate::summary::Summary;
use crate::vlm::family;
use anyhow::{Context, Result, bail};
use common::bounded;
use common::location::Location;
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
    let text = bounded::given(path, bounded::SETTINGS_BYTES).with_context(|| {
        format!("{}: cannot read the recipe (make one with `jradievo recipe`)", path.display())
    })?;
    RecipeFile::parse(&text).with_context(|| path.display().to_string())
}

/// Runs the command. When it is stopped, nothing half-written stays.
pub fn run(args: &cli::Merge) -> Result<u8> {
    let half_written = part::folder(&args.out)?;
    let watch = clean_up_when_stopped(move || remove_folder(&half_written))?;
    let result = made(args, watch.flag());
    watch.ended(result)
}

fn made(args: &cli::Merge, stop: &AtomicBool) -> Result<u8> {
    if let Some(model) = model_given(&args.recipe)? {
        return of_recipe(args, Given::Model(model), stop);
    }
    let name = args.recipe.display();
    let text = bounded::given(&args.recipe, bounded::SETTINGS_BYTES)
        .with_context(|| format!("{name}: cannot read the recipe (make one with `jradievo recipe`)"))?;
    match kind::of(&args.recipe, &text)? {
        Kind::Configuration => mergekit::run(args, &text, stop),
        Kind::Recipe => {
            let file = RecipeFile::parse(&text).with_context(|| name.to_string())?;
            of_recipe(args, Given::Recipe(Box::new(file)), stop)
        }
    }
}

/// What a folder is made of.
enum Given {
    Recipe(Box<RecipeFile>),
    /// A model of which the language model is taken out as it is.
    Model(Location),
}

/// The model that the argument names, where it does not name a file.
fn model_given(argument: &Path) -> Result<Option<Location>> {
    // What is not Unicode is a path.
    Ok(match argument.to_str().map(str::parse::<Location>).transpose()? {
        Some(Location::Hub(reference)) => Some(Location::Hub(reference)),
        _ if argument.is_dir() => Some(Location::Folder(argument.into())),
        _ => None,
    })
}

fn of_recipe(args: &cli::Merge, given: Given, stop: &AtomicBool) -> Result<u8> {
    mergekit::refuse_options(args)?;
    let began = Instant::now();
    let part = if args.text_only { Part::Language } else { Part::Whole };
    let mut locator = Locator::new(args.models.clone(), None);
    let (mut file, extracted) = match given {
        Given::Model(_) if part == Part::Whole => bail!(
            "{}: a model; give a recipe file, or --text-only to take the language model out of this model",
            args.recipe.display()
        ),
        Given::Model(model) => (own_language_model(model, &mut locator)?, true),
        Given::Recipe(file) => (*file, false),
    };
    let summary = args.proof.as_deref().map(read_proof).transpose()?;
    let proof =
        summary.as_ref().map(|s| Ok::<_, anyhow::Error>((s, row_of(s, &file.recipe)?))).transpose()?;
    obtain(&mut locator, file.recipe.model_refs(), &Meter::stderr())?;
    let merger = Merger::for_recipe(&file.recipe, |m| locator.model(m))?;
    // What is written beside the weights names the commits.
    locator.pin(file.recipe.models_mut());
    let recipe = &file.recipe;
    let vlm = merger.model(&recipe.vlm.name).context("a recipe has a VLM")?;
    // Before hours of work, and once more when it is written.
    Export { part, ..Export::new(recipe, None, vlm) }.check_space(&args.out)?;
    memory::guard(&memory::for_merge(&merger, recipe)?, args.memory.ignore_memory_plan)?;
    let sources = sources(&merger, recipe);
    let digests = pins::digests(&merger)?;
    let changed = pins::changed(&file, &digests);
    pins::refuse(&changed, args.allow_changed_sources, "merge")?;
    if let Some(summary) = &summary {
        pins::check_proof(summary, recipe, &digests)?;
    }
    if let Some(left_out) = merger.placement(recipe).ok().filter(|_| !extracted).and_then(|p| p.note()) {
        eprintln!("note: {left_out}");
    }
    let prepared = (!extracted).then(|| merger.plan(recipe, stop)).transpose()?;
    let title = title(&args.out)?;
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
    Export { part, documents, ..Export::new(recipe, prepared.as_ref(), vlm) }.write(&args.out, stop)?;
    report(&args.out, &sources, began);
    Ok(OK)
}

/// The name of the folder that is written.
pub(super) fn title(out: &Path) -> Result<String> {
    let out = std::path::absolute(out)?;
    Ok(out.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default())
}

/// What is said once the folder is there.
pub(super) fn report(out: &Path, sources: &[Source], began: Instant) {
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

/// A recipe that stands for a model as it is. A model of a hub is brought here.
fn own_language_model(model: Location, locator: &mut Locator) -> Result<RecipeFile> {
    let mut model = match model {
        Location::Hub(reference) => ModelRef::new(reference.name(), reference.to_string()),
        Location::Folder(folder) => {
            let absolute = std::path::absolute(&folder)?;
            ModelRef::new(title(&folder)?, absolute.display().to_string())
        }
    };
    let folder = match model.location()? {
        Location::Folder(folder) => folder,
        Location::Hub(_) => {
            obtain(locator, [&model], &Meter::stderr())?;
            let folder = locator.model(&model);
            locator.pin([&mut model]);
            folder
        }
    };
    // Some families keep their language model's tensors under names of their own.
    model.rename = family::open(&folder)?.renames();
    let recipe = Recipe {
        format: FORMAT,
        convention: Convention::Paper,
        base: model.clone(),
        vlm: model,
        sources: Vec::new(),
        scale: 1.0.into(),
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

/// Whether transformers would find code for this model in its folder.
fn carries_code(folder: &Path) -> bool {
    let config = bounded::text(&folder.join("config.json"), bounded::SETTINGS_BYTES).unwrap_or_default();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap_or_default();
    config["auto_map"].is_object()
}

fn read_proof(path: &Path) -> Result<Summary> {
    let name = path.display().to_string();
    let text = bounded::given(path, LARGEST_PROOF)
        .with_context(|| format!("{name}: cannot read what `jradievo-worker compare --out` wrote"))?;
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
