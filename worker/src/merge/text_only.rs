//! The language model of a VLM as a folder of its own, in the layout that transformers loads as `LlamaForCausalLM`.

use super::error::{Error, Result};
use crate::checkpoint::Checkpoint;
use crate::checkpoint::write::Spec;
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

/// The largest file that is read whole beside the weights; real tokenizers are below 20 MB.
const LARGEST_BESIDE: u64 = 256 << 20;

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
        let stored = object(&path)?.ok_or_else(|| beside(&path, "is missing".into()))?;
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
    let path = folder.join("generation_config.json");
    let generation = object(&path)?.unwrap_or_else(|| {
        let ids = ["bos_token_id", "eos_token_id", "pad_token_id"];
        let has = ids.into_iter().filter_map(|k| Some((k.to_string(), stored.get(k)?.clone())));
        has.filter(|(_, v)| !v.is_null()).collect()
    });
    let mut files = vec![
        ("config.json".to_string(), pretty(config)),
        ("generation_config.json".to_string(), pretty(generation)),
    ];
    let path = folder.join("tokenizer_config.json");
    if let Some(mut tokenizer) = object(&path)? {
        // Code stays with the VLM, so its classes could not be loaded here; tokenizer.json says all that they did.
        if tokenizer.remove("auto_map").is_some() {
            tokenizer.insert("tokenizer_class".into(), "PreTrainedTokenizerFast".into());
        }
        files.push(("tokenizer_config.json".into(), pretty(tokenizer)));
    }
    for name in TOKENIZER {
        if let Some(content) = content(&folder.join(name))? {
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

fn object(path: &Path) -> Result<Option<Map<String, Value>>> {
    let Some(content) = content(path)? else { return Ok(None) };
    serde_json::from_slice(&content).map(Some).map_err(|e| beside(path, format!("not a JSON object: {e}")))
}

/// A file's content, where there is such a file.
fn content(path: &Path) -> Result<Option<Vec<u8>>> {
    match std::fs::metadata(path) {
        Ok(found) if found.len() > LARGEST_BESIDE => {
            Err(beside(path, format!("has {} bytes; at most {LARGEST_BESIDE} are read", found.len())))
        }
        Ok(found) if found.is_file() => {
            std::fs::read(path).map(Some).map_err(|e| beside(path, e.to_string()))
        }
        _ => Ok(None),
    }
}

fn beside(path: &Path, reason: String) -> Error {
    Error::Beside { reason: format!("{}: {reason}", path.display()) }
}
