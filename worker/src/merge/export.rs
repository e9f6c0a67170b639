//! A merge as a model folder: the VLM with its language model replaced, or that language model alone.

use super::error::{Error, Result};
use super::prepare::Prepared;
use super::text_only::TextOnly;
use crate::checkpoint::write::{SHARD_BYTES, Spec, Writer};
use crate::checkpoint::{Checkpoint, part};
use common::recipe::Recipe;
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// Which part of the VLM is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Everything: tower, projector, code and configuration as the VLM has them.
    Whole,
    /// The language model, as a `LlamaForCausalLM`.
    Language,
}

/// Everything that goes into the folder.
pub struct Export<'a> {
    /// Names base and VLM, and says what happens where their vocabularies differ.
    pub recipe: &'a Recipe,
    /// The merge of that recipe; without one the VLM's own weights are written.
    pub merged: Option<&'a Prepared>,
    /// Gives all other tensors, every tensor's type, configuration and tokenizer.
    pub vlm: &'a Checkpoint,
    /// Which part is written.
    pub part: Part,
    /// Files written besides, by their path within the folder: recipe, model card, licences.
    pub documents: Vec<(String, Vec<u8>)>,
    /// Bound on a shard's data, in bytes; [`SHARD_BYTES`] is usual.
    pub shard_bytes: u64,
}

impl<'a> Export<'a> {
    /// An export of the whole model with shards of the usual size and no documents.
    pub fn new(
        recipe: &'a Recipe,
        merged: impl Into<Option<&'a Prepared>>,
        vlm: &'a Checkpoint,
    ) -> Export<'a> {
        let merged = merged.into();
        Export { recipe, merged, vlm, part: Part::Whole, documents: Vec::new(), shard_bytes: SHARD_BYTES }
    }

    /// Whether the disk has room for the folder `out`.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] with the number that is missing; as [`Export::write`] for a VLM that cannot be written.
    pub fn check_space(&self, out: &Path) -> Result<()> {
        let specs = match self.part {
            Part::Whole => self.as_stored().into_iter().map(|(_, spec)| spec).collect(),
            Part::Language => TextOnly::of(self.vlm, &self.recipe.vlm.name)?.specs,
        };
        Ok(part::check_space(out, &specs)?)
    }

    /// Writes the folder `out`, whole or not at all, with one tensor in memory and the one before, which is being written. `stop` is looked at between tensors.
    /// Code in the VLM's folder is copied and never run.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Shape`] or [`Error::Vocabulary`] when the VLM lacks a tensor or has it in another
    /// shape; [`Error::Beside`] for a configuration that cannot be used; [`Error::Stopped`]; [`Error::Checkpoint`] when
    /// `out` is not empty or cannot be written.
    pub fn write(&self, out: &Path, stop: &AtomicBool) -> Result<()> {
        let (name, choice) = (&self.recipe.vlm.name, self.recipe.vocabulary);
        let placement = self.merged.map(|m| m.placement(name, self.vlm, choice)).transpose()?;
        let (writer, specs) = match self.part {
            Part::Whole => {
                let writer = Writer::create(out)?;
                writer.copy_beside(self.vlm)?;
                (writer, self.as_stored())
            }
            Part::Language => {
                let language = TextOnly::of(self.vlm, name)?;
                let writer = Writer::create(out)?;
                for (file, content) in &language.files {
                    writer.file(file, content)?;
                }
                (writer, language.specs.into_iter().map(|s| (s.name.clone(), s)).collect())
            }
        };
        for (file, content) in &self.documents {
            writer.file(file, content)?;
        }
        // What is written under a name, and under which it is known here.
        let known: HashMap<String, String> = specs.iter().map(|(n, s)| (s.name.clone(), n.clone())).collect();
        let specs: Vec<Spec> = specs.into_iter().map(|(_, spec)| spec).collect();
        writer.tensors(&specs, self.shard_bytes, |spec, buffer| {
            if stop.load(Ordering::Relaxed) {
                return Err(Error::Stopped);
            }
            let name = &known[&spec.name];
            let merged = self.merged.filter(|m| m.info(name).is_some());
            match merged.zip(placement.as_ref()) {
                Some((merged, placement)) => placement.tensor_bytes(merged, self.vlm, name, buffer)?,
                None => buffer.extend_from_slice(&self.vlm.elements(name)?),
            }
            Ok(())
        })?;
        Ok(writer.finish()?)
    }

    /// Every tensor by the name that is used here, with the name and type that it is stored under: the VLM may be read
    /// under other names than it is stored under, and is written as it is stored.
    fn as_stored(&self) -> Vec<(String, Spec)> {
        let spec = |name: &str| {
            let (info, stored) = (self.vlm.info(name)?, self.vlm.stored_name(name)?);
            let spec = Spec { name: stored.into(), dtype: info.dtype, shape: info.shape.clone() };
            Some((name.to_string(), spec))
        };
        self.vlm.names().filter_map(spec).collect()
    }
}
