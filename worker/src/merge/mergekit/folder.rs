//! The files of the result beside its weights: configuration, tokenizer, chat template, model card.

use super::error::{Error, Result};
use super::model::Model;
use super::plan::Plan;
use crate::checkpoint;
use common::digest::FileDigest;
use common::mergekit::{Config, ModelName};
use serde_json::{Map, Value, json};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// What a tokenizer may consist of.
pub(super) const TOKENIZER_FILES: [&str; 9] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
];

/// Files of the first model that hold for the result too. Its licence is one of those that apply.
const TAKEN_OVER: [&str; 4] = ["generation_config.json", "LICENSE", "LICENSE.txt", "NOTICE"];

pub(super) type Files = Vec<(String, Vec<u8>)>;

/// `config.json`: the first model's, with the result's layers, rows and type.
pub(super) fn config(config: &Config, models: &[Model], plan: &Plan, rows: Option<usize>) -> Vec<u8> {
    let mut out = models[0].config.clone();
    // A path of the machine that the first model was made on.
    out.remove("_name_or_path");
    if let Some(dtype) = config.out_dtype.or(config.dtype) {
        // transformers 5 writes dtype, before it was torch_dtype; both versions read either.
        let mut keys: Vec<&str> =
            ["dtype", "torch_dtype"].into_iter().filter(|k| out.contains_key(*k)).collect();
        if keys.is_empty() {
            keys.push("torch_dtype");
        }
        for key in keys {
            out.insert(key.into(), json!(dtype.name()));
        }
    }
    if plan.layers.len() != models[0].layers {
        out.insert("num_hidden_layers".into(), json!(plan.layers.len()));
    }
    // Where each layer has a kind of its own, the result's layers have those of the layers that they come from.
    if out.get("layer_types").is_some_and(Value::is_array) {
        let kind =
            |&(model, layer): &(usize, usize)| models[model].config.get("layer_types")?.get(layer).cloned();
        if let Some(kinds) = plan.layers.iter().map(kind).collect::<Option<Vec<Value>>>() {
            out.insert("layer_types".into(), Value::Array(kinds));
        }
    }
    if let Some(rows) = rows {
        out.insert("vocab_size".into(), json!(rows));
    }
    pretty(&out)
}

fn pretty(value: &Map<String, Value>) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(value).expect("what was read can be written");
    text.push(b'\n');
    text
}

/// The first model's tokenizer as it is.
pub(super) fn tokenizer(model: &Model) -> Result<Files> {
    taken(model.checkpoint.folder(), &TOKENIZER_FILES)
}

/// What else is taken over from the first model.
pub(super) fn beside(model: &Model) -> Result<Files> {
    taken(model.checkpoint.folder(), &TAKEN_OVER)
}

fn taken(folder: &Path, names: &[&str]) -> Result<Files> {
    let there = names.iter().map(|name| (name, folder.join(name))).filter(|(_, path)| path.is_file());
    there.map(|(name, path)| Ok((name.to_string(), read(path)?))).collect()
}

fn read(path: PathBuf) -> Result<Vec<u8>> {
    Ok(std::fs::read(&path).map_err(|source| checkpoint::Error::Io { action: "read", path, source })?)
}

/// Sets the chat template in the tokenizer's files: the setting's text, or with `auto` the one that most models have.
pub(super) fn chat_template(setting: &str, models: &[Model], files: &mut Files) -> Result<()> {
    let text = match setting {
        "auto" => match most_common(models) {
            Some(text) => text,
            None => return Ok(()),
        },
        text if text.len() >= 20 && text.contains('{') => text.to_string(),
        name => {
            let fault = format!("{name:?} is not a template's text");
            let remedy = "give the text itself, or auto; mergekit's own templates by name are not part of this program";
            return Err(Error::config("chat_template", fault, remedy));
        }
    };
    let settings = files.iter_mut().find(|(name, _)| name == "tokenizer_config.json");
    if let Some((_, content)) = settings
        && let Ok(Value::Object(mut root)) = serde_json::from_slice(content)
    {
        root.insert("chat_template".into(), json!(text));
        *content = pretty(&root);
    }
    // Where this file is there it counts more than the key.
    files.retain(|(name, _)| name != "chat_template.jinja" && name != "chat_template.json");
    files.push(("chat_template.jinja".into(), text.into_bytes()));
    Ok(())
}

/// The template that most models have, of two the one that comes first.
fn most_common(models: &[Model]) -> Option<String> {
    let mut counts: Vec<(String, usize)> = Vec::new();
    for template in models.iter().filter_map(template) {
        match counts.iter_mut().find(|(text, _)| *text == template) {
            Some((_, count)) => *count += 1,
            None => counts.push((template, 1)),
        }
    }
    let most = counts.iter().map(|(_, count)| *count).max()?;
    counts.into_iter().find(|(_, count)| *count == most).map(|(text, _)| text)
}

fn template(model: &Model) -> Option<String> {
    let folder = model.checkpoint.folder();
    let file = std::fs::read_to_string(folder.join("chat_template.jinja")).ok();
    let text = file.or_else(|| {
        let settings = std::fs::read(folder.join("tokenizer_config.json")).ok()?;
        let settings: Value = serde_json::from_slice(&settings).ok()?;
        match settings.get("chat_template")? {
            Value::String(text) => Some(text.clone()),
            // Several by name.
            Value::Array(named) => named
                .iter()
                .find(|t| t.get("name").and_then(Value::as_str) == Some("default"))
                .and_then(|t| t.get("template")?.as_str().map(String::from)),
            _ => None,
        }
    });
    text.map(|t| t.trim().to_string()).filter(|t| !t.is_empty())
}

/// The text of README.md.
pub(super) fn card(
    config: &Config,
    names: &[&ModelName],
    yaml: &str,
    random: Option<u64>,
    digests: &[FileDigest],
) -> String {
    let mut text = String::from(
        "---\nlibrary_name: transformers\ntags:\n- merge\n- mergekit\n---\n# A merged language model\n\n",
    );
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "Made by jradievo-worker {} with the method `{}` of mergekit 0.1.5's convention",
        env!("CARGO_PKG_VERSION"),
        config.method
    );
    if let Some(base) = &config.base {
        let _ = write!(text, ", on the base `{base}`");
    }
    let _ = write!(text, ". `mergekit_config.yml` repeats the merge");
    match random {
        Some(seed) => {
            let _ = write!(text, "; its random masks have the seed {seed} (`--seed`).\n\n");
        }
        None => text.push_str(".\n\n"),
    }
    text.push_str("Models:\n\n");
    for name in names {
        let _ = writeln!(text, "- `{name}`");
    }
    text.push_str("\nThe licences of all models named above apply.\n\n## Configuration\n\n");
    let longest = yaml.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(3.max(longest + 1));
    let _ = write!(text, "{fence}yaml\n{}\n{fence}\n", yaml.trim_end());
    if !digests.is_empty() {
        text.push_str("\n## Made from\n\n| file | bytes | BLAKE3 |\n|---|---|---|\n");
        for d in digests {
            let _ = writeln!(text, "| `{}` | {} | `{}` |", d.name, d.bytes, d.digest);
        }
    }
    text
}
