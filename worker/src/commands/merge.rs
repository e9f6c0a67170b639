//! `jradievo-worker merge`: a recipe file becomes a model folder.

use super::OK;
use crate::cli;
use crate::locate::Locator;
use crate::merge::{Export, Merger};
use anyhow::{Context, Result};
use common::files;
use common::recipe::Recipe;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// Reads and checks a recipe file.
pub fn read_recipe(path: &Path) -> Result<Recipe> {
    let text = std::fs::read_to_string(path).with_context(|| {
        format!("{}: cannot read the recipe (make one with `jradievo recipe`)", path.display())
    })?;
    Recipe::parse(&text).with_context(|| path.display().to_string())
}

/// Runs the command.
pub fn run(args: &cli::Merge) -> Result<u8> {
    let recipe = read_recipe(&args.recipe)?;
    let locator = Locator { models: args.models.clone(), data: None };
    let merger = Merger::for_recipe(&recipe, |m| locator.model(m))?;
    let began = Instant::now();
    let mut digests = Vec::new();
    for (name, model) in merger.models() {
        digests.extend(files::digest_model(name, model.folder())?);
    }
    let stop = AtomicBool::new(false);
    let prepared = merger.plan(&recipe, &stop)?;
    let vlm = merger.model(&recipe.vlm.name).context("a recipe has a VLM")?;
    Export { digests: &digests, ..Export::new(&recipe, &prepared, vlm) }.write(&args.out, &stop)?;
    eprintln!("{}: written in {:.1} s", args.out.display(), began.elapsed().as_secs_f64());
    Ok(OK)
}
