//! The language model of a VLM as a folder of its own, in the layout that transformers loads as `LlamaForCausalLM`.

use super::error::{Error, Result};
use crate::checkpoint::write::Spec;
use crate::checkpoint::{Checkpoint, beside};
use crate::model::{LlamaConfig, expected_parameters};
use serde_json::{Map, Value, json};
use std::path::Path;

/// Keys of a VLM's config.json that speak of its language model.
const KEPT: [&str; 24] = [
    "attention_bias",
    "attention_dropout",
    "bos_token_id",
    "eos_token_id",
    "head_dim",
    "hidden_act",
    "hidden_size",
    "initializer_range",
    "intermediate_size",
    "max_position_embeddings",
    "mlp_bias",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "pad_token_id",
    "pretraining_tp",
    "rms_norm_eps",
    "rope_parameters",
    "rope_scaling",
    "rope_theta",
    "tie_word_embeddings",
    "transformers_version",
    "use_cache",
    "vocab_size",
];

/// Files of a VLM's folder that belong to its tokenizer as well as to a licence's text.
const TOKENIZER: [&str; 8] = [
    "tokenizer.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
];

/// A language model within a VLM's checkpoint.
#[derive(Debug)]
pub(super) struct TextOnly {
    /// Tensors, by the names that a Llama has.
    pub(super) specs: Vec<Spec>,
    /// The folder's other files.
    pub(super) files: Vec<(String, Vec<u8>)>,
}

impl TextOnly {
    /// Finds it: names and shapes by config.json, types as stored.
    pub(super) fn of(vlm: &Checkpoint, name: &str) -> Result<TextOnly> {
        let folder = vlm.folder();
        let path = folder.join("config.json");
        let missing = || Error::Beside { reason: format!("{}: is missing", path.display()) };
        let stored = object(folder, "config.json")?.ok_or_else(missing)?;
        let text = Value::Object(stored.clone()).to_string();
        let config = LlamaConfig::from_json(&text, &path.display().to_string())
            .map_err(|e| Error::Beside { reason: e.to_string() })?;
        let parameters = expected_parameters(&config);
        let specs = parameters.into_iter().map(|(tensor, expected)| {
            let Some(info) = vlm.info(&tensor) else {
                let why = "which its config.json asks for";
                return Err(Error::Missing { tensor, model: name.into(), why });
            };
            if info.shape != expected {
                let (model, found) = (name.into(), info.shape.clone());
                let base = format!("{name}'s config.json");
                return Err(Error::Shape { tensor, model, found, base, expected });
            }
            Ok(Spec { name: tensor, dtype: info.dtype, shape: expected })
        });
        let specs: Vec<Spec> = specs.collect::<Result<_>>()?;
        let files = files(folder, stored, torch_dtype(&specs))?;
        Ok(TextOnly { specs, files })
    }
}

/// The type that most elements have, as config.json calls it.
fn torch_dtype(specs: &[Spec]) -> &'static str {
    let elements = |dtype: &str| -> usize {
        let of = specs.iter().filter(|s| s.dtype.name() == dtype);
        of.map(|s| s.shape.iter().product::<usize>()).sum()
    };
    let types = [("F32", "float32"), ("F16", "float16"), ("BF16", "bfloat16")];
    types.into_iter().max_by_key(|(stored, _)| elements(stored)).map_or("float32", |(_, name)| name)
}

fn files(folder: &Path, stored: Map<String, Value>, dtype: &str) -> Result<Vec<(String, Vec<u8>)>> {
    let mut config: Map<String, Value> = stored
        .iter()
        .filter(|(k, _)| KEPT.contains(&k.as_str()))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    config.insert("architectures".into(), json!(["LlamaForCausalLM"]));
    config.insert("model_type".into(), "llama".into());
    config.insert("torch_dtype".into(), dtype.into());
    let generation = object(folder, "generation_config.json")?.unwrap_or_else(|| {
        let ids = ["bos_token_id", "eos_token_id", "pad_token_id"];
        let has = ids.into_iter().filter_map(|k| Some((k.to_string(), stored.get(k)?.clone())));
        has.filter(|(_, v)| !v.is_null()).collect()
    });
    let mut files = vec![
        ("config.json".to_string(), pretty(config)),
        ("generation_config.json".to_string(), pretty(generation)),
    ];
    if let Some(mut tokenizer) = object(folder, "tokenizer_config.json")? {
        // Code stays with the VLM, so its classes could not be loaded here; tokenizer.json says all that they did.
        if tokenizer.remove("auto_map").is_some() {
            tokenizer.insert("tokenizer_class".into(), "PreTrainedTokenizerFast".into());
        }
        files.push(("tokenizer_config.json".into(), pretty(tokenizer)));
    }
    for name in TOKENIZER {
        if let Some(content) = beside::content(folder, name)? {
            files.push((name.into(), content));
        }
    }
    Ok(files)
}

fn pretty(map: Map<String, Value>) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(&Value::Object(map)).expect("a JSON value is JSON");
    text.push(b'\n');
    text
}

fn object(folder: &Path, name: &str) -> Result<Option<Map<String, Value>>> {
    let Some(content) = beside::content(folder, name)? else { return Ok(None) };
    let fault =
        |e| Error::Beside { reason: format!("{}: not a JSON object: {e}", folder.join(name).display()) };
    serde_json::from_slice(&content).map(Some).map_err(fault)
}
