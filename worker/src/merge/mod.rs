//! Merging language models: a recipe and opened checkpoints in, tensors out.
//!
//! A [`Merger`] holds the models of a run, opened once and shared by all candidates. [`Merger::plan`] checks a
//! recipe against them and makes the passes over the whole model that its method needs; the [`Prepared`] merge
//! then gives each tensor in one fused, multi-threaded pass, in the type asked for. Which tensors exist is the
//! base's to say. Results are the same bits whatever the number of threads.
//!
//! A [`Mill`] does passes and tensors on a GPU, by the kernels in `cuda/`, with the same outcome.
//!
//! Not here: the model that runs. Where a model's tensors do not meet the base's one by one: names are mapped
//! by [`Checkpoint::open_renamed`], rows of vocabularies by `vocabulary.rs` and `fit.rs`, and `placement.rs` finds the merge's
//! place in the VLM. Methods: `paper.rs` and `linear.rs`, with
//! `numbers.rs` (which number is for which tensor), `field.rs` (the random mask) and `trim.rs` (the exact trim), each stating its formulas and their source.
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

#[cfg(target_arch = "x86_64")]
mod avx512;
mod block;
#[cfg(any(feature = "cuda", test))]
mod cuda;
mod error;
mod export;
pub mod field;
mod fit;
mod flat;
mod known;
mod language;
mod linear;
mod masks;
pub mod mergekit;
mod mill;
mod numbers;
mod paper;
mod placement;
mod prepare;
pub(crate) mod simd;
mod survey;
#[cfg(test)]
mod tests;
mod text_only;
mod trim;
pub mod vocabulary;

pub use block::Element;
pub use error::{Error, Result};
pub use export::{Export, Part};
pub use fit::Fit;
pub use masks::{mask_bytes, mask_elements};
pub use mill::{Mill, mill, staging_bytes};
pub use placement::Placement;
pub use prepare::Prepared;
pub use trim::scratch_bytes as trim_scratch_bytes;

use crate::checkpoint::{Checkpoint, Dtype};
use block::Elements;
use common::recipe::{ModelRef, Recipe};
use known::Known;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use survey::OnHost;
use vocabulary::Tokens;

/// The models of a run, opened once, by the names that recipes use.
#[derive(Debug, Default)]
pub struct Merger {
    models: BTreeMap<String, Opened>,
    known: Arc<Known>,
}

/// An opened model with its name.
#[derive(Clone, Debug)]
struct Opened {
    name: String,
    model: Arc<Checkpoint>,
    /// Its tokens, once somebody has asked for them.
    tokens: Arc<Mutex<Option<Arc<Tokens>>>>,
}

impl Opened {
    fn new(name: &str, model: Arc<Checkpoint>) -> Opened {
        Opened { name: name.into(), model, tokens: Arc::default() }
    }

    /// The model's tokens, read once.
    fn tokens(&self) -> Result<Arc<Tokens>> {
        let mut known = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tokens) = &*known {
            return Ok(tokens.clone());
        }
        Ok(known.insert(Arc::new(Tokens::read(self.model.folder())?)).clone())
    }
}

/// The stored elements of a tensor, in a type that merging reads.
fn elements<'a>(opened: &'a Opened, name: &str) -> Result<Elements<'a>> {
    let model: &'a Arc<Checkpoint> = &opened.model;
    let (bytes, strided) = model.stored(name)?;
    let dtype = model.info(name).map_or(Dtype::U8, |i| i.dtype);
    if !dtype.mergeable() {
        return Err(Error::Dtype { tensor: name.into(), model: opened.name.clone(), dtype: dtype.name() });
    }
    Ok(Elements::new(bytes, dtype).in_order(strided))
}

impl Merger {
    /// Opens each model once, in the folder that `folder` gives for it.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] for a model that cannot be opened; [`Error::Ambiguous`] when one name has two folders
    /// or two sets of renamed prefixes; [`Error::Family`] for a VLM whose configuration is at fault.
    pub fn open<'a>(
        models: impl IntoIterator<Item = &'a ModelRef>,
        folder: impl Fn(&ModelRef) -> PathBuf,
    ) -> Result<Merger> {
        let mut merger = Merger::default();
        for model in models {
            let path = folder(model);
            // What the run file says of names counts; where it is silent, a VLM's family knows its own.
            let rename = match model.rename.is_empty() {
                true => crate::vlm::family::renames(&path)
                    .map_err(|e| Error::Family { model: model.name.clone(), reason: e.to_string() })?,
                false => model.rename.clone(),
            };
            if let Some(open) = merger.model(&model.name) {
                if open.folder() != path || *open.rename() != rename {
                    let words = |folder: &Path, rename: &BTreeMap<String, String>| match rename.is_empty() {
                        true => folder.display().to_string(),
                        false => format!("{} with renamed prefixes {rename:?}", folder.display()),
                    };
                    return Err(Error::Ambiguous {
                        model: model.name.clone(),
                        first: words(open.folder(), open.rename()),
                        second: words(&path, &rename),
                    });
                }
                continue;
            }
            let opened = Checkpoint::open_renamed(&path, &rename)?;
            merger.models.insert(model.name.clone(), Opened::new(&model.name, Arc::new(opened)));
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
        self.models.get(name).map(|o| &o.model)
    }

    /// The opened models by name, sorted.
    pub fn models(&self) -> impl ExactSizeIterator<Item = (&str, &Arc<Checkpoint>)> {
        self.models.iter().map(|(name, opened)| (name.as_str(), &opened.model))
    }

    /// Makes `recipe` ready: checks names, shapes and types, finds trim thresholds and the sign for ties. Models
    /// are looked up by name; the recipe's paths are not used. Setting `stop` ends it early.
    ///
    /// # Errors
    /// [`Error::Recipe`], [`Error::Unknown`], [`Error::Shape`], [`Error::Dtype`], [`Error::Missing`]: the recipe does not
    /// fit the models; [`Error::Stopped`].
    pub fn plan(&self, recipe: &Recipe, stop: &AtomicBool) -> Result<Prepared> {
        Prepared::new(recipe, |name| self.opened(name), &OnHost, &self.known, stop)
    }

    /// The same with the passes over the whole model made by `mill`.
    ///
    /// # Errors
    /// As [`Merger::plan`], and [`Error::Device`].
    pub fn plan_with(&self, mill: &dyn Mill, recipe: &Recipe, stop: &AtomicBool) -> Result<Prepared> {
        mill.prepare(self, recipe, stop)
    }

    /// How the recipe's sources and their own bases fit its base, without the passes that [`Merger::plan`] makes.
    ///
    /// # Errors
    /// As [`Merger::plan`] where models do not fit.
    pub fn fits(&self, recipe: &Recipe) -> Result<Vec<Fit>> {
        Ok(Prepared::fitted(recipe, |name| self.opened(name))?.fits())
    }

    /// Names of the tensors that merges of `recipe` make, without the passes that [`Merger::plan`] makes.
    ///
    /// # Errors
    /// As [`Merger::plan`] where models do not fit.
    pub fn merged(&self, recipe: &Recipe) -> Result<Vec<String>> {
        Ok(Prepared::fitted(recipe, |name| self.opened(name))?.names().map(String::from).collect())
    }

    /// Where merges of `recipe` go in its VLM.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Shape`], [`Error::Vocabulary`], [`Error::Dtype`]: base and VLM do not fit;
    /// [`Error::Unknown`]; [`Error::Tokens`].
    pub fn placement(&self, recipe: &Recipe) -> Result<Placement> {
        let (base, vlm) = (self.opened(&recipe.base.name)?, self.opened(&recipe.vlm.name)?);
        Placement::new(&base, &vlm.name, &vlm.model, recipe.vocabulary)
    }

    fn opened(&self, name: &str) -> Result<Opened> {
        let unknown = || {
            let opened = self.models.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            Error::Unknown { model: name.into(), opened }
        };
        self.models.get(name).cloned().ok_or_else(unknown)
    }
}
