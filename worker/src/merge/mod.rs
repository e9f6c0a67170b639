//! Merging language models: a recipe and opened checkpoints in, tensors out.
//!
//! A [`Merger`] holds the models of a run, opened once and shared by all candidates. [`Merger::plan`] checks a
//! recipe against them and makes the passes over the whole model that its method needs; the [`Prepared`] merge
//! then gives each tensor in one fused, multi-threaded pass, in the type asked for. Which tensors exist is the
//! base's to say. Results are the same bits whatever the number of threads.
//!
//! Not here: devices, the model that runs, renamed or resized tensors. Methods: `paper.rs` and `linear.rs`, with
//! `field.rs` (the random mask) and `trim.rs` (the exact global trim), each stating its formulas and their source.
//!
//! ```no_run
//! use std::sync::atomic::AtomicBool;
//! # fn f(recipe: common::recipe::Recipe) -> Result<(), worker::merge::Error> {
//! let merger = worker::merge::Merger::for_recipe(&recipe, |model| model.path.clone().into())?;
//! let merge = merger.plan(&recipe, &AtomicBool::new(false))?;
//! for name in merge.names() {
//!     let mut values = vec![half::f16::ZERO; merge.info(name).map_or(0, |i| i.elements)];
//!     merge.tensor_into(name, &mut values)?;
//! }
//! # Ok(())
//! # }
//! ```

mod block;
mod error;
mod export;
pub mod field;
mod flat;
mod linear;
pub mod mergekit;
mod paper;
mod prepare;
mod simd;
#[cfg(test)]
mod tests;
mod trim;

pub use block::Element;
pub use error::{Error, Result};
pub use export::Export;
pub use prepare::Prepared;

use crate::checkpoint::Checkpoint;
use common::recipe::{ModelRef, Recipe};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// The models of a run, opened once, by the names that recipes use.
#[derive(Debug, Default)]
pub struct Merger {
    models: BTreeMap<String, Arc<Checkpoint>>,
}

/// An opened model with its name.
#[derive(Clone)]
struct Opened {
    name: String,
    model: Arc<Checkpoint>,
}

impl Merger {
    /// Opens each model once, in the folder that `folder` gives for it.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] for a model that cannot be opened; [`Error::Ambiguous`] when one name has two folders
    /// or two sets of renamed prefixes.
    pub fn open<'a>(
        models: impl IntoIterator<Item = &'a ModelRef>,
        folder: impl Fn(&ModelRef) -> PathBuf,
    ) -> Result<Merger> {
        let mut merger = Merger::default();
        for model in models {
            let path = folder(model);
            if let Some(open) = merger.models.get(&model.name) {
                if open.folder() != path || *open.rename() != model.rename {
                    let words = |folder: &Path, rename: &BTreeMap<String, String>| match rename.is_empty() {
                        true => folder.display().to_string(),
                        false => format!("{} with renamed prefixes {rename:?}", folder.display()),
                    };
                    return Err(Error::Ambiguous {
                        model: model.name.clone(),
                        first: words(open.folder(), open.rename()),
                        second: words(&path, &model.rename),
                    });
                }
                continue;
            }
            let opened = Checkpoint::open_renamed(&path, &model.rename)?;
            merger.models.insert(model.name.clone(), Arc::new(opened));
        }
        Ok(merger)
    }

    /// Opens what one recipe names, the VLM included.
    ///
    /// # Errors
    /// As [`Merger::open`].
    pub fn for_recipe(recipe: &Recipe, folder: impl Fn(&ModelRef) -> PathBuf) -> Result<Merger> {
        let sources = recipe.sources.iter().flat_map(|s| std::iter::once(&s.model).chain(&s.base));
        Merger::open([&recipe.base, &recipe.vlm].into_iter().chain(sources), folder)
    }

    /// The opened model of that name.
    pub fn model(&self, name: &str) -> Option<&Arc<Checkpoint>> {
        self.models.get(name)
    }

    /// The opened models by name, sorted.
    pub fn models(&self) -> impl ExactSizeIterator<Item = (&str, &Arc<Checkpoint>)> {
        self.models.iter().map(|(name, model)| (name.as_str(), model))
    }

    /// Makes `recipe` ready: checks names, shapes and types, finds trim thresholds and the sign for ties. Models
    /// are looked up by name; the recipe's paths are not used. Setting `stop` ends it early.
    ///
    /// # Errors
    /// [`Error::Recipe`], [`Error::Unknown`], [`Error::Shape`], [`Error::Dtype`], [`Error::Missing`]: the recipe does not
    /// fit the models; [`Error::Stopped`].
    pub fn plan(&self, recipe: &Recipe, stop: &AtomicBool) -> Result<Prepared> {
        Prepared::new(recipe, |name| self.opened(name), stop)
    }

    fn opened(&self, name: &str) -> Result<Opened> {
        let unknown = || {
            let opened = self.models.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            Error::Unknown { model: name.into(), opened }
        };
        let model = self.models.get(name).ok_or_else(unknown)?;
        Ok(Opened { name: name.into(), model: model.clone() })
    }
}
