//! The tokens of the result: whose tokenizer it has, which tokens are added, which row of each model is whose.
//!
//! A vocabulary is what transformers makes of a folder: `tokenizer.json`, then the tokens that `tokenizer_config.json`
//! names and that are not in it. Source of the rules: `mergekit/tokenizer/build.py` of mergekit 0.1.5. Where mergekit
//! leaves an order to chance (new tokens of a union come in the order of a hash table there), the order here is that
//! of the models in the file and of the tokens' numbers.

use super::error::{Error, Result};
use super::model::Model;
use crate::merge::vocabulary::{Alignment, Row, Tokens};
use common::bounded;
use common::mergekit::{ModelName, TokenRow, TokenSetting, Tokenizer, TokenizerSource};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

/// Bytes of a place in a table by text: key, number, and a byte of the table's own.
const PLACE: usize = size_of::<(String, u32)>() + 1;
/// Least piece of memory that the allocator gives, which holds the text of most tokens.
const PIECE: usize = 32;
/// Keys of `tokenizer_config.json` that name one token each.
const SPECIAL: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// One model's tokens.
#[derive(Clone)]
struct Vocabulary {
    folder: PathBuf,
    /// Token and number, by number; what was added last may stand at the end.
    tokens: Vec<(String, usize)>,
    /// The same by token.
    numbers: HashMap<String, usize>,
    /// Entries of `added_tokens` by token.
    added: BTreeMap<String, Value>,
    /// The number of the next token that is added: behind the tokenizer's model and behind every added token.
    next: usize,
}

/// The tokenizer of the result and how every model's rows belong to it.
pub(super) struct Matched {
    out: Vocabulary,
    /// Tokens of the result that its donor's files lack, with their entries, by number.
    additions: Vec<(usize, Value)>,
    /// Tokens whose number is not below this were dropped.
    dropped_from: Option<usize>,
    vocabularies: Vec<Vocabulary>,
    sizes: Vec<usize>,
    /// Rows of the result.
    pub(super) rows: usize,
    settings: Vec<(String, TokenSetting)>,
    names: Vec<ModelName>,
    /// What is worth knowing though nothing is wrong.
    pub(super) notes: Vec<String>,
}

impl Matched {
    /// Reads the vocabularies and makes the result's. The first of `models` is the base; `folder` finds a model that is
    /// named for its tokenizer alone.
    pub(super) fn new(
        setting: &Tokenizer,
        models: &[Model],
        folder: &dyn Fn(&ModelName) -> Result<PathBuf>,
    ) -> Result<Matched> {
        let mut notes = Vec::new();
        let mut vocabularies: Vec<Vocabulary> = Vec::with_capacity(models.len());
        let mut sizes = Vec::with_capacity(models.len());
        let mut dropped_from = None;
        for (i, model) in models.iter().enumerate() {
            let own = model.checkpoint.folder();
            let mut vocabulary = match own.join("tokenizer.json").is_file() || i == 0 {
                true => Vocabulary::read(own)?,
                false => {
                    notes.push(format!(
                        "{} has no tokenizer.json: its tokens are taken to be those of {}",
                        model.name, models[0].name
                    ));
                    vocabularies[0].clone()
                }
            };
            let size = model.vocabulary.unwrap_or(vocabulary.tokens.len());
            let beyond = vocabulary.tokens.iter().filter(|(_, n)| *n >= size).count();
            if beyond > 0 {
                let what = if i == 0 { "are dropped" } else { "count as missing there" };
                notes.push(format!("{}: {beyond} tokens beyond its {size} rows {what}", model.name));
            }
            if i == 0 && beyond > 0 {
                vocabulary.drop_from(size);
                dropped_from = Some(size);
            }
            vocabularies.push(vocabulary);
            sizes.push(size);
        }
        let mut out = match &setting.source {
            TokenizerSource::Base | TokenizerSource::Union => vocabularies[0].clone(),
            TokenizerSource::Model(name) => {
                dropped_from = None;
                match models.iter().position(|m| m.name == *name) {
                    Some(i) if i > 0 => vocabularies[i].clone(),
                    _ => Vocabulary::read(&folder(name)?)?,
                }
            }
        };
        let mut additions = Vec::new();
        if setting.source == TokenizerSource::Union {
            let (own, added) = union(&vocabularies, &sizes);
            for token in own {
                out.add(&token, None, &mut additions);
            }
            for (token, entry) in added {
                out.add(&token, Some(&entry), &mut additions);
            }
        }
        for (token, _) in &setting.tokens {
            out.add(token, None, &mut additions);
        }
        let count = out.tokens.len();
        if let Some((token, number)) = out.tokens.iter().find(|(_, n)| *n >= count) {
            return Err(Error::File {
                file: out.folder.join("tokenizer.json"),
                fault: format!("token {token:?} has number {number}, but there are only {count} tokens"),
                remedy: "choose the tokenizer of another model: a merge needs numbers without gaps",
            });
        }
        let rows = setting.pad_to_multiple_of.map_or(count, |n| count.next_multiple_of(n));
        Ok(Matched {
            out,
            additions,
            dropped_from,
            vocabularies,
            sizes,
            rows,
            settings: setting.tokens.clone(),
            names: models.iter().map(|m| m.name.clone()).collect(),
            notes,
        })
    }

    /// How the rows of some models belong to the result's. `models` are positions; `base` is a position in that list.
    pub(super) fn alignment(&self, models: &[usize], base: Option<usize>) -> Result<Alignment> {
        let out = self.out.lookup();
        let tokens: Vec<Tokens> = models.iter().map(|&m| self.vocabularies[m].lookup()).collect();
        let sized: Vec<(&Tokens, usize)> =
            tokens.iter().zip(models).map(|(t, &m)| (t, self.sizes[m])).collect();
        let mut alignment = Alignment::new(&out, self.rows, &sized, base);
        for (token, setting) in &self.settings {
            let row = out.number(token).map_or(0, |n| n as usize);
            let needed = setting.force || (0..models.len()).any(|m| alignment.map(m).get(row).is_none());
            if !needed {
                continue;
            }
            let field = format!("tokenizer.tokens.{token}");
            let position = |name: &ModelName| {
                models.iter().position(|&m| self.names[m] == *name).ok_or_else(|| {
                    let fault = format!("{name} is not among the models of this tensor");
                    Error::config(&field, fault, "name a model of the first slice and of the last")
                })
            };
            let lacking = |name: &ModelName, what: String| {
                Error::config(&field, format!("{name} has no {what}"), "name a model that has it")
            };
            let from = match &setting.row {
                None => {
                    let remedy = "add source: a model's name, {kind: zero}, or {kind: model_token, …}";
                    return Err(Error::config(
                        &field,
                        "some models lack the token, and there is no source",
                        remedy,
                    ));
                }
                Some(TokenRow::Zero) => Row::Zero,
                Some(TokenRow::Model(name)) => {
                    let model = position(name)?;
                    let row = alignment.map(model).get(row);
                    Row::Of { model, row: row.ok_or_else(|| lacking(name, format!("token {token:?}")))? }
                }
                Some(TokenRow::Token(name, other)) => {
                    let model = position(name)?;
                    let number = tokens[model].number(other).map(|n| n as usize);
                    let number = number.filter(|&n| n < sized[model].1);
                    Row::Of { model, row: number.ok_or_else(|| lacking(name, format!("token {other:?}")))? }
                }
                Some(TokenRow::Row(name, number)) => {
                    let model = position(name)?;
                    if *number >= sized[model].1 {
                        return Err(lacking(name, format!("row {number}")));
                    }
                    Row::Of { model, row: *number }
                }
            };
            alignment.set(row, from, setting.force);
        }
        Ok(alignment)
    }

    /// Bytes that finding rows takes for these models: each one's tokens, and the result's, looked up by text.
    pub(super) fn tables_bytes(&self, models: &[usize]) -> u64 {
        let tables = models.iter().map(|&m| &self.vocabularies[m]).chain([&self.out]);
        tables.map(|v| lookup_bytes(v.tokens.len())).sum()
    }

    /// Bytes that [`Matched::files`] takes.
    pub(super) fn files_bytes(&self) -> u64 {
        let bytes = |name: &&str| std::fs::metadata(self.out.folder.join(name)).map_or(0, |m| m.len());
        let read: u64 = super::folder::TOKENIZER_FILES.iter().map(bytes).sum();
        // The new text beside the old one, and once more in part while it grows. Its values find the room that was taken when
        // the vocabularies were read.
        if self.changed() { read * 5 / 2 } else { read }
    }

    /// Whether the files say something else than the folder's that they are from.
    fn changed(&self) -> bool {
        self.dropped_from.is_some() || !self.additions.is_empty()
    }

    /// The files of the result's tokenizer, name and content.
    pub(super) fn files(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let changed = self.changed();
        let mut files = Vec::new();
        for name in super::folder::TOKENIZER_FILES {
            let path = self.out.folder.join(name);
            if !path.is_file() {
                continue;
            }
            match (name, changed) {
                ("tokenizer.json", true) => files.push((name.to_string(), self.tokenizer(&path)?)),
                ("tokenizer_config.json", true) => files.push((name.to_string(), self.settings_file(&path)?)),
                // What other forms say of the vocabulary is no longer true.
                ("tokenizer.model" | "added_tokens.json" | "vocab.json" | "merges.txt", true) => {}
                _ => files.push((name.to_string(), read(&path)?)),
            }
        }
        Ok(files)
    }

    fn tokenizer(&self, path: &Path) -> Result<Vec<u8>> {
        let mut root = object(path)?;
        if let Some(limit) = self.dropped_from {
            drop_tokens(path, &mut root, limit)?;
        }
        let entries = root.entry("added_tokens").or_insert_with(|| json!([]));
        if let Value::Array(entries) = entries {
            let number = |entry: &Value| entry.get("id").and_then(Value::as_u64).unwrap_or(u64::MAX);
            entries.extend(self.additions.iter().map(|(_, entry)| entry.clone()));
            entries.sort_by_key(number);
        }
        Ok(serde_json::to_vec(&root).expect("what was read can be written"))
    }

    fn settings_file(&self, path: &Path) -> Result<Vec<u8>> {
        let mut root = object(path)?;
        if let Some(Value::Object(decoder)) = root.get_mut("added_tokens_decoder") {
            if let Some(limit) = self.dropped_from {
                decoder.retain(|number, _| number.parse::<usize>().is_ok_and(|n| n < limit));
            }
            for (number, entry) in &self.additions {
                let mut entry = entry.clone();
                entry.as_object_mut().map(|e| e.remove("id"));
                decoder.insert(number.to_string(), entry);
            }
        }
        let mut text = serde_json::to_vec_pretty(&root).expect("what was read can be written");
        text.push(b'\n');
        Ok(text)
    }
}

impl Vocabulary {
    fn read(folder: &Path) -> Result<Vocabulary> {
        let path = folder.join("tokenizer.json");
        if !path.is_file() {
            return Err(Error::File {
                file: path,
                fault: "missing, and the tokenizer setting needs it".into(),
                remedy: "get the file of that model, or remove the tokenizer setting if all models have one \
                         vocabulary",
            });
        }
        let root = object(&path)?;
        let bad = |fault: &str| Error::File {
            file: path.clone(),
            fault: fault.into(),
            remedy: "get the model's own file",
        };
        let model = root.get("model").and_then(|m| m.get("vocab"));
        let mut numbers: HashMap<String, usize> = HashMap::new();
        match model {
            Some(Value::Object(vocab)) => {
                for (token, number) in vocab {
                    numbers.insert(
                        token.clone(),
                        index(number).ok_or_else(|| bad("a token's number is no number"))?,
                    );
                }
            }
            // Unigram: pieces with their scores, numbered in order.
            Some(Value::Array(pieces)) => {
                for (number, piece) in pieces.iter().enumerate() {
                    let token =
                        piece.get(0).and_then(Value::as_str).ok_or_else(|| bad("a piece has no text"))?;
                    numbers.insert(token.into(), number);
                }
            }
            _ => return Err(bad("model.vocab is not there")),
        }
        // As many as the tokenizer's model has itself.
        let mut next = numbers.len();
        let mut added = BTreeMap::new();
        for entry in root.get("added_tokens").and_then(Value::as_array).into_iter().flatten() {
            let token = entry.get("content").and_then(Value::as_str);
            let number = entry.get("id").and_then(index);
            let (Some(token), Some(number)) = (token, number) else {
                return Err(bad("an added token has no content or no id"));
            };
            numbers.insert(token.into(), number);
            next = next.max(number + 1);
            added.insert(token.to_string(), entry.clone());
        }
        let mut tokens: Vec<(String, usize)> = numbers.iter().map(|(token, n)| (token.clone(), *n)).collect();
        tokens.sort_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
        let mut vocabulary = Vocabulary { folder: folder.into(), tokens, numbers, added, next };
        for (token, entry) in configured(folder)? {
            vocabulary.add(&token, entry.as_ref(), &mut Vec::new());
        }
        Ok(vocabulary)
    }

    fn lookup(&self) -> Tokens {
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        self.tokens.iter().map(|(token, n)| (token.clone(), number(*n))).collect()
    }

    /// Adds a token, under the next number unless it is there already. A token of the tokenizer's model for which an
    /// entry is given becomes an added one.
    fn add(&mut self, token: &str, entry: Option<&Value>, additions: &mut Vec<(usize, Value)>) {
        let present = self.numbers.get(token).copied();
        if self.added.contains_key(token) || (present.is_some() && entry.is_none()) {
            return;
        }
        let number = present.unwrap_or(self.next);
        self.next = self.next.max(number + 1);
        let flag = |key: &str, default: bool| {
            entry.and_then(|e| e.get(key)).and_then(Value::as_bool).unwrap_or(default)
        };
        let special = flag("special", false);
        let entry = json!({
            "id": number,
            "content": token,
            "single_word": flag("single_word", false),
            "lstrip": flag("lstrip", false),
            "rstrip": flag("rstrip", false),
            "normalized": flag("normalized", !special),
            "special": special,
        });
        if present.is_none() {
            self.tokens.push((token.into(), number));
            self.numbers.insert(token.into(), number);
        }
        self.added.insert(token.into(), entry.clone());
        additions.push((number, entry));
    }

    fn drop_from(&mut self, limit: usize) {
        self.tokens.retain(|(_, n)| *n < limit);
        self.numbers.retain(|_, n| *n < limit);
        self.added.retain(|token, _| self.numbers.contains_key(token));
        let own = self.tokens.iter().filter(|(t, _)| !self.added.contains_key(t)).count();
        let last = self.added.values().filter_map(|e| e.get("id").and_then(index)).max();
        self.next = last.map_or(own, |last| own.max(last + 1));
    }
}

/// Tokens that `tokenizer_config.json` names, in the order in which transformers adds those that are missing.
fn configured(folder: &Path) -> Result<Vec<(String, Option<Value>)>> {
    let path = folder.join("tokenizer_config.json");
    if !path.is_file() {
        return Ok(Vec::new());
    }
    let root = object(&path)?;
    let mut named = Vec::new();
    if let Some(Value::Object(decoder)) = root.get("added_tokens_decoder") {
        let mut entries: Vec<(usize, &Value)> =
            decoder.iter().filter_map(|(n, e)| Some((n.parse().ok()?, e))).collect();
        entries.sort_by_key(|(n, _)| *n);
        for (_, entry) in entries {
            if let Some(token) = entry.get("content").and_then(Value::as_str) {
                named.push((token.to_string(), Some(entry.clone())));
            }
        }
    }
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        other => other.get("content").and_then(Value::as_str).map(String::from),
    };
    let special = || Some(json!({"special": true, "normalized": false}));
    let single = SPECIAL.iter().filter_map(|key| root.get(*key));
    let lists = ["additional_special_tokens", "extra_special_tokens"].iter().filter_map(|key| root.get(*key));
    let listed = lists.filter_map(Value::as_array).flatten();
    named.extend(single.chain(listed).filter_map(text).map(|token| (token, special())));
    Ok(named)
}

type Own = Vec<String>;
type Added = Vec<(String, Value)>;

/// The tokens of all models, each once: those of the tokenizers' models, and those that are added to them.
fn union(vocabularies: &[Vocabulary], sizes: &[usize]) -> (Own, Added) {
    let (mut own, mut added): (Own, Added) = (vec![], vec![]);
    let mut seen: HashSet<&str> = HashSet::new();
    let mut seen_added: HashSet<&str> = HashSet::new();
    for (vocabulary, &size) in vocabularies.iter().zip(sizes) {
        for (token, _) in vocabulary.tokens.iter().filter(|(_, n)| *n < size) {
            match vocabulary.added.get(token) {
                Some(entry) if seen_added.insert(token) => added.push((token.clone(), entry.clone())),
                None if seen.insert(token) => own.push(token.clone()),
                _ => {}
            }
        }
    }
    own.retain(|token| !seen_added.contains(token.as_str()));
    (own, added)
}

/// Removes the tokens from `limit` on from a tokenizer's file.
fn drop_tokens(path: &Path, root: &mut Map<String, Value>, limit: usize) -> Result<()> {
    if root["model"].get("type").and_then(Value::as_str) != Some("BPE") {
        return Err(Error::File {
            file: path.into(),
            fault: format!(
                "has tokens beyond the model's {limit} rows, and only those of a BPE can be dropped"
            ),
            remedy: "choose the tokenizer of another model",
        });
    }
    let beyond = |number: &Value| index(number).is_none_or(|n| n >= limit);
    if let Some(Value::Array(entries)) = root.get_mut("added_tokens") {
        entries.retain(|entry| entry.get("id").is_some_and(|id| !beyond(id)));
    }
    let mut dropped = HashSet::new();
    if let Some(Value::Object(vocab)) = root["model"].get_mut("vocab") {
        vocab.retain(|token, number| {
            let goes = beyond(number);
            if goes {
                dropped.insert(token.clone());
            }
            !goes
        });
    }
    if let Some(Value::Array(merges)) = root["model"].get_mut("merges") {
        merges.retain(|merge| match merge {
            Value::String(pair) => !pair.split(' ').any(|part| dropped.contains(part)),
            Value::Array(pair) => !pair.iter().filter_map(Value::as_str).any(|part| dropped.contains(part)),
            _ => true,
        });
    }
    Ok(())
}

/// Bytes of a table of so many tokens, of whose places at most seven in eight are taken.
fn lookup_bytes(tokens: usize) -> u64 {
    (PLACE * (tokens * 8 / 7).next_power_of_two() + PIECE * tokens) as u64
}

fn index(number: &Value) -> Option<usize> {
    // A row's number fits 32 bits.
    number.as_u64().and_then(|n| u32::try_from(n).ok()).map(|n| n as usize)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let io = |source| crate::checkpoint::Error::Io { action: "read", path: path.into(), source };
    Ok(bounded::read(path, bounded::TOKENIZER_BYTES).map_err(io)?)
}

fn object(path: &Path) -> Result<Map<String, Value>> {
    serde_json::from_slice(&read(path)?).map_err(|e| Error::File {
        file: path.into(),
        fault: format!("not a JSON object: {e}"),
        remedy: "get the model's own file",
    })
}

#[cfg(test)]
#[path = "tokens_tests.rs"]
mod tests;
