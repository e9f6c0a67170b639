//! A merge as a model folder: the VLM with its language model replaced.

use super::error::{Error, Result};
use super::prepare::Prepared;
use crate::checkpoint::Checkpoint;
use crate::checkpoint::write::{SHARD_BYTES, Spec, Writer};
use common::digest::FileDigest;
use common::recipe::{Arithmetic, Convention, Mask, Recipe};
use std::collections::HashMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// Everything that goes into the folder.
pub struct Export<'a> {
    /// The recipe, written beside the weights and told in the model card.
    pub recipe: &'a Recipe,
    /// The merge of that recipe.
    pub prepared: &'a Prepared,
    /// Gives all other tensors, every tensor's type, configuration and tokenizer.
    pub vlm: &'a Checkpoint,
    /// The files that the merge was made from, for the model card. May be empty.
    pub digests: &'a [FileDigest],
    /// Bound on a shard's data, in bytes; [`SHARD_BYTES`] is usual.
    pub shard_bytes: u64,
}

impl<'a> Export<'a> {
    /// An export with shards of the usual size and no digests.
    pub fn new(recipe: &'a Recipe, prepared: &'a Prepared, vlm: &'a Checkpoint) -> Export<'a> {
        Export { recipe, prepared, vlm, digests: &[], shard_bytes: SHARD_BYTES }
    }

    /// Writes the folder `out`, whole or not at all, one tensor in memory at a time. `stop` is looked at between tensors.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Shape`] or [`Error::Vocabulary`] when the VLM lacks a merged tensor or has it in another
    /// shape;
    /// [`Error::Stopped`]; [`Error::Checkpoint`] when `out` is not empty or cannot be written.
    pub fn write(&self, out: &Path, stop: &AtomicBool) -> Result<()> {
        let recipe = self.recipe;
        let placement = self.prepared.placement(&recipe.vlm.name, self.vlm, recipe.vocabulary)?;
        // The VLM may be read under other names than it is stored under; it is written as it is stored.
        let names: HashMap<&str, &str> =
            self.vlm.names().filter_map(|name| Some((self.vlm.stored_name(name)?, name))).collect();
        let specs: Vec<Spec> = self
            .vlm
            .names()
            .filter_map(|name| {
                let (info, stored) = (self.vlm.info(name)?, self.vlm.stored_name(name)?);
                Some(Spec { name: stored.into(), dtype: info.dtype, shape: info.shape.clone() })
            })
            .collect();
        let writer = Writer::create(out)?;
        writer.copy_beside(self.vlm)?;
        writer.file("recipe.json", self.recipe.to_json().as_bytes())?;
        writer.file("README.md", card(self.recipe, self.digests).as_bytes())?;
        writer.tensors(&specs, self.shard_bytes, |spec, buffer| {
            if stop.load(Ordering::Relaxed) {
                return Err(Error::Stopped);
            }
            let name = names[spec.name.as_str()];
            if self.prepared.info(name).is_none() {
                buffer.extend_from_slice(self.vlm.bytes(name)?);
                return Ok(());
            }
            placement.tensor_bytes(self.prepared, self.vlm, name, buffer)
        })?;
        Ok(writer.finish()?)
    }
}

/// The text of README.md: what was merged, with every number, and from which files.
fn card(recipe: &Recipe, digests: &[FileDigest]) -> String {
    let mut text = String::from("# A merged vision-language model\n\n");
    let convention = match recipe.convention {
        Convention::Paper => "JRadiEvo's: DARE, global trim, elected signs, disjoint mean (arXiv 2411.09933)",
        Convention::Linear => "linear: the weighted average of the sources",
    };
    let mask = match recipe.mask {
        Mask::Independent => "independent per source and tensor",
        Mask::Shared => "one for all sources and tensors",
    };
    let arithmetic = match recipe.arithmetic {
        Arithmetic::Float32 => "float32",
        Arithmetic::Float16 => "float16, as the authors'",
    };
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "The language model of `{}` was replaced by a merge; vision tower and projector are its own.\n\
         `recipe.json` repeats the merge exactly.\n\n\
         | | |\n|---|---|\n| convention | {convention} |\n| base | `{}` |\n| scale | {} |\n| mask | {mask}, seed {} |\n\
         | arithmetic | {arithmetic} |\n\n\
         | source | base | weight | drop rate | trim rate |\n|---|---|---|---|---|\n",
        recipe.vlm.name, recipe.base.name, recipe.scale, recipe.mask_seed
    );
    for s in &recipe.sources {
        let base = s.base.as_ref().map_or(&recipe.base.name, |b| &b.name);
        let _ = writeln!(
            text,
            "| `{}` | `{base}` | {} | {} | {} |",
            s.model.name, s.weight, s.drop_rate, s.trim_rate
        );
    }
    text.push_str("\nThe licences of all models named above apply.\n");
    if !digests.is_empty() {
        text.push_str("\n## Made from\n\n| file | bytes | BLAKE3 |\n|---|---|---|\n");
        for d in digests {
            let _ = writeln!(text, "| `{}` | {} | `{}` |", d.name, d.bytes, d.digest);
        }
    }
    text
}
