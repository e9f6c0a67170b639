//! Text into tokens, as MeCab cuts it.
//!
//! MeCab decides the numbers: the same BLEU formula gives other values over other tokens. The engine is
//! `vibrato` in its MeCab-compatible mode; `tests/golden.rs` holds it to mecab-python3 1.0.12, and
//! `scripts/golden/metrics/compare_segmentation.py` does so over thousands of lines.
//!
//! Three quirks of MeCab and of those who call it are kept on purpose:
//!
//! - it prints each token followed by a blank, then a line feed, and for an empty text a line feed alone;
//! - text after a NUL character is not seen, since MeCab reads a C string;
//! - callers cut MeCab's line by Python's `str.split`, so a token that is an ideographic space vanishes.

mod layout;
pub(crate) mod load;

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::Result;

/// Which tokeniser to use; in text form `"unidic-lite"`, `"ipadic"`, `"char"` or a path.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum TokenizerKind {
    /// MeCab with UniDic-lite, what mecab-python3 uses without arguments: the paper's ROUGE-L.
    #[default]
    UnidicLite,
    /// MeCab with IPADIC, what sacrebleu's `ja-mecab` uses.
    Ipadic,
    /// One token per character that is not white space; needs no dictionary.
    Char,
    /// A vibrato 0.5 dictionary file (plain or zstd), or a folder with MeCab's text files.
    Path(PathBuf),
}

impl From<String> for TokenizerKind {
    fn from(text: String) -> Self {
        match text.as_str() {
            "unidic-lite" => Self::UnidicLite,
            "ipadic" => Self::Ipadic,
            "char" => Self::Char,
            _ => Self::Path(text.into()),
        }
    }
}

impl From<TokenizerKind> for String {
    fn from(kind: TokenizerKind) -> Self {
        match kind {
            TokenizerKind::UnidicLite => "unidic-lite".into(),
            TokenizerKind::Ipadic => "ipadic".into(),
            TokenizerKind::Char => "char".into(),
            TokenizerKind::Path(path) => path.to_string_lossy().into_owned(),
        }
    }
}

/// A loaded tokeniser; clones share one dictionary.
#[derive(Clone)]
pub struct Tokenizer {
    engine: Engine,
    identity: String,
}

#[derive(Clone)]
enum Engine {
    Mecab(Arc<vibrato::Tokenizer>),
    Char,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// Loads the dictionary; the two built-in ones are decoded once per process and shared.
    ///
    /// Errors: [`Error::Read`](crate::Error::Read), [`Error::Dictionary`](crate::Error::Dictionary), only for
    /// a path.
    pub fn load(kind: &TokenizerKind) -> Result<Self> {
        match kind {
            TokenizerKind::UnidicLite => Ok(Self::unidic_lite()),
            TokenizerKind::Ipadic => Ok(Self::ipadic()),
            TokenizerKind::Char => Ok(Self { engine: Engine::Char, identity: "char".into() }),
            TokenizerKind::Path(path) => {
                let (engine, digest) = load::from_path(path)?;
                Ok(Self { engine: Engine::Mecab(Arc::new(engine)), identity: format!("dictionary {digest}") })
            }
        }
    }

    /// The built-in UniDic-lite.
    pub fn unidic_lite() -> Self {
        Self { engine: Engine::Mecab(load::unidic_lite()), identity: load::UNIDIC_LITE_IDENTITY.into() }
    }

    /// The built-in IPADIC.
    pub fn ipadic() -> Self {
        Self { engine: Engine::Mecab(load::ipadic()), identity: load::IPADIC_IDENTITY.into() }
    }

    /// The identity of the built-in IPADIC, without loading it.
    pub fn ipadic_identity() -> &'static str {
        load::IPADIC_IDENTITY
    }

    /// What pins the segmentation: name and version of a built-in dictionary, or the content digest of a
    /// given one. Paths are not part of it.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// The line that MeCab's `-Owakati` prints: each token with a blank after it, then a line feed.
    pub fn wakati(&self, text: &str) -> String {
        let text = text.split('\0').next().unwrap_or_default();
        let mut line = String::with_capacity(text.len() * 2);
        match &self.engine {
            Engine::Mecab(tokenizer) => {
                let mut worker = tokenizer.new_worker();
                worker.reset_sentence(text);
                worker.tokenize();
                for token in worker.token_iter() {
                    line.push_str(token.surface());
                    line.push(' ');
                }
            }
            Engine::Char => {
                for c in text.chars().filter(|&c| !is_python_space(c)) {
                    line.push(c);
                    line.push(' ');
                }
            }
        }
        line.push('\n');
        line
    }
}

/// Cuts a line as Python's `str.split()` does: at runs of white space, without empty pieces.
pub fn split(line: &str) -> impl Iterator<Item = &str> {
    line.split(is_python_space).filter(|piece| !piece.is_empty())
}

/// Whether Python counts `c` as white space: Unicode's White_Space and the four ASCII separators.
pub fn is_python_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_as_mecab_does() {
        let t = Tokenizer::unidic_lite();
        assert_eq!(t.wakati("胸水なし。 心拡大\n(CTR 58%)"), "胸水 なし 。 心 拡大 ( CTR 58 % ) \n");
        for empty in ["", " ", " \n\t", "\0胸水"] {
            assert_eq!(t.wakati(empty), "\n", "{empty:?}");
        }
        assert_eq!(t.wakati("a\u{3000}b\u{a0}c\0d"), "a \u{3000} b \u{a0} c \n");
    }

    #[test]
    fn splits_as_python_does() {
        let pieces: Vec<_> = split(" a\u{3000}b\u{1c}c\u{a0} \n").collect();
        assert_eq!(pieces, ["a", "b", "c"]);
    }

    #[test]
    fn kinds_are_read_from_text() {
        for (text, kind) in [
            ("unidic-lite", TokenizerKind::UnidicLite),
            ("ipadic", TokenizerKind::Ipadic),
            ("char", TokenizerKind::Char),
            ("./my.dic", TokenizerKind::Path("./my.dic".into())),
        ] {
            assert_eq!(TokenizerKind::from(text.to_string()), kind);
            assert_eq!(String::from(kind), text);
        }
    }
}
