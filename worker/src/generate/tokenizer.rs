//! A tokenizer file and the little around it that decides what text comes out.

use std::path::Path;

use common::bounded;

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
        let fault = |reason: String| Error::Tokenizer { file: file.display().to_string(), reason };
        let content = bounded::read(file, bounded::TOKENIZER_BYTES).map_err(|e| fault(e.to_string()))?;
        let inner = tokenizers::Tokenizer::from_bytes(&content).map_err(|e| fault(e.to_string()))?;
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
        let encoding = self
            .inner
            .encode_fast(text, true)
            .map_err(|e| Error::Text { what: "tokenize the prompt", reason: e.to_string() })?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Ids of a text without what the post-processor adds: of a template that writes its begin of text itself.
    ///
    /// # Errors
    /// [`Error::Text`].
    pub fn encode_bare(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self
            .inner
            .encode_fast(text, false)
            .map_err(|e| Error::Text { what: "tokenize the prompt", reason: e.to_string() })?;
        Ok(encoding.get_ids().to_vec())
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
        let text = self
            .inner
            .decode(ids, true)
            .map_err(|e| Error::Text { what: "decode tokens", reason: e.to_string() })?;
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

    #[test]
    fn a_missing_file_is_named() {
        let error = TextTokenizer::from_file(Path::new("/nonexistent/tokenizer.json")).expect_err("missing");
        assert!(error.to_string().contains("/nonexistent/tokenizer.json"));
    }
}
