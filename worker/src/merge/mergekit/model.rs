//! A model of a configuration: its weights, and what `config.json` says that a merge has to know.

use super::error::{Error, Result};
use crate::checkpoint::{self, Checkpoint, TensorInfo};
use common::mergekit::ModelName;
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::path::Path;

pub(super) const EMBEDDING: &str = "model.embed_tokens.weight";
pub(super) const NORM: &str = "model.norm.weight";
pub(super) const HEAD: &str = "lm_head.weight";
const LAYERS: &str = "model.layers.";

/// Architectures that are one stack of layers and nothing else: what their folders hold besides is not weights.
const TEXT_ONLY: [&str; 5] =
    ["LlamaForCausalLM", "LLaMaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"];

/// An opened model.
pub(super) struct Model {
    pub(super) name: ModelName,
    pub(super) checkpoint: Checkpoint,
    pub(super) config: Map<String, Value>,
    pub(super) architecture: String,
    /// Layers that config.json tells of.
    pub(super) layers: usize,
    /// Rows of the vocabulary that config.json tells of.
    pub(super) vocabulary: Option<usize>,
}

impl Model {
    /// Opens the model in `folder` and checks that it is a language model of one stack of layers.
    pub(super) fn open(name: &ModelName, folder: &Path) -> Result<Model> {
        let checkpoint = Checkpoint::open(folder)?;
        let file = || folder.join("config.json");
        let bad = |fault: &str| Error::File {
            file: file(),
            fault: fault.into(),
            remedy: "get the model's own file",
        };
        let config: Map<String, Value> =
            serde_json::from_str(&checkpoint.config_json()?).map_err(|e| bad(&format!("not JSON: {e}")))?;
        let count = |key: &str| config.get(key).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
        let layers =
            count("num_hidden_layers").ok_or_else(|| bad("num_hidden_layers is not a whole number"))?;
        let vocabulary = count("vocab_size");
        let architecture = match config.get("architectures").and_then(Value::as_array).map(Vec::as_slice) {
            Some([Value::String(one)]) => one.clone(),
            _ => return Err(bad("architectures does not name one architecture")),
        };
        let model = Model { name: name.clone(), checkpoint, config, architecture, layers, vocabulary };
        model.check_stack(folder)?;
        Ok(model)
    }

    fn check_stack(&self, folder: &Path) -> Result<()> {
        for tensor in [EMBEDDING, NORM] {
            if self.checkpoint.info(tensor).is_none() {
                let wanted = "every language model in Llama's layout has";
                return Err(Error::Missing { folder: folder.into(), tensor: tensor.into(), wanted });
            }
        }
        let foreign = self.others().next();
        if let Some(tensor) = foreign.filter(|_| !TEXT_ONLY.contains(&self.architecture.as_str())) {
            return Err(Error::File {
                file: folder.into(),
                fault: format!(
                    "{} holds {tensor}, which is no part of a language model's stack of layers",
                    self.architecture
                ),
                remedy: "merge language models; the one inside a vision-language model can be written as a folder of \
                         its own with `jradievo-worker merge RECIPE --text-only`",
            });
        }
        Ok(())
    }

    /// Tensors that belong to no layer and are neither embedding, norm nor head.
    pub(super) fn others(&self) -> impl Iterator<Item = &str> {
        let known = |name: &&str| layer(name).is_some() || [EMBEDDING, NORM, HEAD].contains(name);
        self.checkpoint.names().filter(move |name| !known(name))
    }

    /// What the tensors of a layer are called, without the layer's prefix. Frequencies that old checkpoints
    /// store are left out: they are computed from the configuration.
    pub(super) fn layer_parts(&self) -> BTreeSet<String> {
        let parts = self.checkpoint.names().filter_map(layer).map(|(_, part)| part.to_string());
        parts.filter(|part| !part.ends_with("rotary_emb.inv_freq")).collect()
    }

    /// The tensor that is stored for `tensor`: for a head that is tied to the embedding, the embedding.
    pub(super) fn stored<'a>(&self, tensor: &'a str) -> Option<&'a str> {
        let has = |name: &str| self.checkpoint.info(name).is_some();
        match tensor {
            _ if has(tensor) => Some(tensor),
            HEAD if has(EMBEDDING) => Some(EMBEDDING),
            _ => None,
        }
    }

    pub(super) fn info(&self, stored: &str) -> Result<&TensorInfo> {
        self.checkpoint.info(stored).ok_or_else(|| {
            Error::Checkpoint(checkpoint::Error::NoTensor {
                folder: self.checkpoint.folder().into(),
                tensor: stored.into(),
            })
        })
    }
}

/// The name of a layer's tensor.
pub(super) fn layer_name(layer: usize, part: &str) -> String {
    format!("{LAYERS}{layer}.{part}")
}

/// The layer that a tensor belongs to, and what it is called there.
fn layer(name: &str) -> Option<(usize, &str)> {
    let (number, part) = name.strip_prefix(LAYERS)?.split_once('.')?;
    Some((number.parse().ok()?, part))
}
