//! The files of the result beside its weights: configuration, tokenizer, chat template, model card.

use super::build::Origin;
use super::error::{Error, Result};
use super::model::Model;
use super::plan::Plan;
use crate::card::markdown::{code, text};
use crate::card::sources;
use crate::checkpoint::beside;
use common::digest::FileDigest;
use common::mergekit::Config;
use serde_json::{Map, Value, json};
use std::fmt::Write;
use std::path::Path;

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

/// Files of the first model that hold for the result too. Licences are those of all models, and stand in `licences/`.
const TAKEN_OVER: [&str; 1] = ["generation_config.json"];

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
    let read = |name: &&str| match beside::content(folder, name) {
        Ok(content) => Some(Ok((name.to_string(), content?))),
        Err(e) => Some(Err(e.into())),
    };
    names.iter().filter_map(read).collect()
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
    let read = |name: &str| beside::content(folder, name).ok()?;
    let file = read("chat_template.jinja").and_then(|content| String::from_utf8(content).ok());
    let text = file.or_else(|| {
        let settings = read("tokenizer_config.json")?;
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

/// The text of README.md. `random` is the seed of a method that draws masks.
pub(super) fn card(
    config: &Config,
    random: Option<u64>,
    origin: &Origin<'_>,
    digests: Option<&[FileDigest]>,
) -> String {
    let mut out = String::from("---\n");
    sources::front_matter(&mut out, origin.sources, "merge");
    // Writing to a String cannot fail.
    let _ = write!(
        out,
        "library_name: transformers\npipeline_tag: text-generation\ntags:\n- merge\n- mergekit\n- jradievo\n---\n\n# {}\n\n",
        text(origin.title)
    );
    sources::displayed(&mut out, origin.sources);
    let _ = write!(
        out,
        "A merged language model, made by jradievo-worker {} with the method {} of mergekit 0.1.5's convention",
        env!("CARGO_PKG_VERSION"),
        code(&config.method)
    );
    if let Some(base) = &config.base {
        let _ = write!(out, ", on the base {}", code(&base.to_string()));
    }
    out.push_str(". `mergekit_config.yml` repeats the merge");
    match random {
        Some(seed) => {
            let _ = write!(out, "; its random masks have the seed {seed} (`--seed`).\n\n");
        }
        None => out.push_str(".\n\n"),
    }
    sources::licences(&mut out, origin.sources, origin.title);
    out.push_str("## Configuration\n\n");
    let longest = origin.yaml.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(3.max(longest + 1));
    let _ = write!(out, "{fence}yaml\n{}\n{fence}\n\n", origin.yaml.trim_end());
    match digests {
        Some(digests) => sources::files(&mut out, digests),
        None => out.push_str("The models' files were not digested (`--digests` does).\n"),
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::card::Source;
    use crate::card::licence::Licence;

    #[test]
    fn the_card_names_licences_commits_and_what_a_llama_asks() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let yaml = "merge_method: linear\nmodels: [{model: o/a, parameters: {weight: 1}}]\n";
        let config = common::mergekit::parse("x", yaml).unwrap().config;
        let source = |name: &str, id: &str| Source {
            name: name.into(),
            title: name.into(),
            pinned: format!("hf://{name}@{commit}").parse().ok(),
            licence: Licence { id: Some(id.into()), ..Licence::default() },
        };
        let sources = [source("o/a", "llama3"), source("o/b", "mit")];
        let text = card(&config, Some(7), &Origin { title: "merged", yaml, sources: &sources }, Some(&[]));
        let block = text.strip_prefix("---\n").unwrap().split_once("---\n").unwrap().0;
        for line in
            ["base_model:\n- \"o/a\"\n- \"o/b\"\n", "license: \"other\"", "base_model_relation: merge"]
        {
            assert!(block.contains(line), "{line} in {block}");
        }
        for part in [
            &format!("| `o/b` | `hf://o/b@{commit}` | `mit` |"),
            "**Built with Meta Llama 3**",
            "rename it first",
            "have the seed 7",
            "```yaml\nmerge_method: linear",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
