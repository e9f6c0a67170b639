//! A tokenizer file and the little around it that decides what text comes out.

use std::path::Path;

use common::bounded;
use contain::contained;

use super::{Error, Result};

/// A model folder's tokenizer.
#[derive(Clone, Debug)]
pub struct TextTokenizer {
    inner: tokenizers::Tokenizer,
    clean_up: bool,
}

impl TextTokenizer {
    /// Loads `tokenizer.json` of a model folder, and `clean_up_tokenization_spaces` of its `tokenizer_config.json`.
    ///
    /// Where the configuration or the key is absent, spaces are left as they are.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] naming the file.
    pub fn from_folder(folder: &Path) -> Result<Self> {
        let mut tokenizer = Self::from_file(&folder.join("tokenizer.json"))?;
        let path = folder.join("tokenizer_config.json");
        let fault = |reason: String| Error::Tokenizer { file: path.display().to_string(), reason };
        match bounded::text(&path, bounded::SETTINGS_BYTES) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(fault(e.to_string())),
            Ok(text) => {
                let config: serde_json::Value =
                    serde_json::from_str(&text).map_err(|e| fault(e.to_string()))?;
                tokenizer.clean_up = config["clean_up_tokenization_spaces"].as_bool().unwrap_or(false);
            }
        }
        Ok(tokenizer)
    }

    /// Loads one tokenizer file; spaces are left as they are.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] naming the file.
    pub fn from_file(file: &Path) -> Result<Self> {
        let inner =
            load(file).map_err(|reason| Error::Tokenizer { file: file.display().to_string(), reason })?;
        Ok(Self::new(inner, false))
    }

    /// Wraps a tokenizer. With `clean_up`, spaces before English punctuation are removed after decoding.
    pub fn new(inner: tokenizers::Tokenizer, clean_up: bool) -> Self {
        Self { inner, clean_up }
    }

    /// Ids of a text, with what the tokenizer's own post-processor adds.
    ///
    /// # Errors
    /// [`Error::Text`].
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.ids(text, true)
    }

    fn ids(&self, text: &str, with_special: bool) -> Result<Vec<u32>> {
        let failed = |reason: String| Error::Text { what: "tokenize the prompt", reason };
        let encoding = contained(|| self.inner.encode_fast(text, with_special))
            .map_err(|e| failed(e.to_string()))?
            .map_err(|e| failed(e.to_string()))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Ids of a text without what the post-processor adds: of a template that writes its begin of text itself.
    ///
    /// # Errors
    /// [`Error::Text`].
    pub fn encode_bare(&self, text: &str) -> Result<Vec<u32>> {
        self.ids(text, false)
    }

    /// The id of a token that is one in every text: a special token.
    pub fn special(&self, token: &str) -> Option<u32> {
        let id = self.inner.token_to_id(token)?;
        // A word of the vocabulary that is no added token would be taken apart.
        (self.encode_bare(token).ok()? == [id]).then_some(id)
    }

    /// The text of ids: special tokens left out, spaces tidied where configured, trimmed.
    ///
    /// # Errors
    /// [`Error::Text`].
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        let failed = |reason: String| Error::Text { what: "decode tokens", reason };
        let text = contained(|| self.inner.decode(ids, true))
            .map_err(|e| failed(e.to_string()))?
            .map_err(|e| failed(e.to_string()))?;
        let text = if self.clean_up { clean_up(&text) } else { text };
        Ok(text.trim().to_string())
    }

    /// Ids from 0 up to this are known, added tokens included.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The tokenizer itself.
    pub fn inner(&self) -> &tokenizers::Tokenizer {
        &self.inner
    }
}

/// Reads a tokenizer file, or says what is wrong with it.
///
/// Padding and truncation that it names are not used, as transformers uses neither unless it is asked to: a stranger's file
/// must not make a prompt of any length of its own.
pub(crate) fn load(file: &Path) -> std::result::Result<tokenizers::Tokenizer, String> {
    let content = bounded::read(file, bounded::TOKENIZER_BYTES).map_err(|e| e.to_string())?;
    let mut inner = contained(|| tokenizers::Tokenizer::from_bytes(&content))
        .map_err(|e| e.to_string())?
        .map_err(|e| e.to_string())?;
    inner.with_padding(None);
    inner.with_truncation(None).map_err(|e| e.to_string())?;
    Ok(inner)
}

/// Removes spaces before English punctuation and contractions.
///
/// Source: transformers, `PreTrainedTokenizerBase.clean_up_tokenization`, in its order.
fn clean_up(text: &str) -> String {
    let mut text = text.to_string();
    for (from, to) in [
        (" .", "."),
        (" ?", "?"),
        (" !", "!"),
        (" ,", ","),
        (" ' ", "'"),
        (" n't", "n't"),
        (" 'm", "'m"),
        (" 's", "'s"),
        (" 've", "'ve"),
        (" 're", "'re"),
    ] {
        if text.contains(from) {
            text = text.replace(from, to);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spaces_before_punctuation_go() {
        assert_eq!(
            clean_up("No effusion . It 's clear , isn 't it ?"),
            "No effusion. It's clear, isn 't it?"
        );
        assert_eq!(clean_up("do n't"), "don't");
    }

    /// Found by fuzzing: the library panics where a decoder is no JSON (tokenizers 0.23.2, `decoders/mod.rs`).
    #[test]
    fn a_file_at_which_the_library_panics_is_refused_by_its_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("tokenizer.json");
        std::fs::write(&file, r#"{"version":"1.0","decoder":x}"#).expect("written");
        let error = TextTokenizer::from_folder(folder.path()).expect_err("no JSON").to_string();
        assert!(error.contains(&file.display().to_string()), "{error}");
        assert!(error.contains("malformed in a way that its reader does not expect"), "{error}");
    }

    /// As transformers reads it: neither is used unless it is asked for.
    #[test]
    fn padding_and_truncation_of_the_file_are_not_used() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("tokenizer.json");
        let json = serde_json::json!({
            "version": "1.0",
            "truncation": {"direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 0},
            "padding": {"strategy": {"Fixed": 1u64 << 40}, "direction": "Right", "pad_to_multiple_of": null,
                        "pad_id": 0, "pad_type_id": 0, "pad_token": "a"},
            "added_tokens": [], "normalizer": null, "pre_tokenizer": {"type": "Whitespace"},
            "post_processor": null, "decoder": null,
            "model": {"type": "WordLevel", "vocab": {"a": 0, "b": 1}, "unk_token": "a"},
        });
        std::fs::write(&file, json.to_string()).expect("written");
        let tokenizer = TextTokenizer::from_file(&file).expect("a tokenizer");
        assert_eq!(tokenizer.encode("a b").expect("ids"), [0, 1]);
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = TextTokenizer::from_file(Path::new("/nonexistent/tokenizer.json")).expect_err("missing");
        assert!(error.to_string().contains("/nonexistent/tokenizer.json"));
    }
}
