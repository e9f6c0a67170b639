//! Dictionaries into memory: the two built-in ones, and a user's.

use std::io::Read;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use common::bounded;
use vibrato::{Dictionary, SystemDictionaryBuilder, Tokenizer};

use crate::error::{Error, Result};

/// Pins the built-in UniDic-lite: its source package and the form that was made from it.
pub const UNIDIC_LITE_IDENTITY: &str = "unidic-lite 1.0.8 segmentation 1";
/// Pins the built-in IPADIC.
pub const IPADIC_IDENTITY: &str = "ipadic 1.0.0 segmentation 1";

/// The limit on a run of one character class that becomes a single unknown word; MeCab's default.
const MAX_GROUPING_LEN: usize = 24;
/// Every zstd frame starts with these bytes.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

static UNIDIC_LITE: &[u8] = include_bytes!("../../data/unidic-lite.dic.zst");
static IPADIC: &[u8] = include_bytes!("../../data/ipadic.dic.zst");

/// UniDic-lite, decoded at the first call.
pub fn unidic_lite() -> Arc<Tokenizer> {
    static LOADED: OnceLock<Arc<Tokenizer>> = OnceLock::new();
    Arc::clone(LOADED.get_or_init(|| Arc::new(built_in(UNIDIC_LITE))))
}

/// IPADIC, decoded at the first call.
pub fn ipadic() -> Arc<Tokenizer> {
    static LOADED: OnceLock<Arc<Tokenizer>> = OnceLock::new();
    Arc::clone(LOADED.get_or_init(|| Arc::new(built_in(IPADIC))))
}

fn built_in(bytes: &[u8]) -> Tokenizer {
    decode(bytes).and_then(tokenizer).expect("the bytes are part of this program and every test decodes them")
}

/// A user's dictionary and the digest of its content.
pub fn from_path(path: &Path) -> Result<(Tokenizer, String)> {
    let bad = |reason: String| Error::Dictionary { path: path.into(), reason };
    let read = |file: &Path| {
        let read = bounded::read(file, bounded::DICTIONARY_BYTES);
        read.map_err(|source| Error::Read { path: file.into(), source })
    };
    let mut hasher = blake3::Hasher::new();
    let dictionary = if path.is_dir() {
        let mut files = Vec::new();
        for name in ["lex.csv", "matrix.def", "char.def", "unk.def"] {
            let bytes = read(&path.join(name))?;
            hasher.update(&(bytes.len() as u64).to_le_bytes()).update(&bytes);
            files.push(bytes);
        }
        SystemDictionaryBuilder::from_readers(&files[0][..], &files[1][..], &files[2][..], &files[3][..])
            .map_err(|e| bad(e.to_string()))?
    } else {
        let bytes = read(path)?;
        hasher.update(&bytes);
        decode(&bytes).map_err(bad)?
    };
    Ok((tokenizer(dictionary).map_err(bad)?, hasher.finalize().to_hex().to_string()))
}

fn decode(bytes: &[u8]) -> std::result::Result<Dictionary, String> {
    if bytes.starts_with(&ZSTD_MAGIC) {
        let mut plain = Vec::new();
        ruzstd::decoding::StreamingDecoder::new(bytes)
            .map_err(|e| e.to_string())?
            .take(bounded::DICTIONARY_BYTES + 1)
            .read_to_end(&mut plain)
            .map_err(|e| e.to_string())?;
        if plain.len() as u64 > bounded::DICTIONARY_BYTES {
            return Err(format!("it unpacks to more than {} bytes", bounded::DICTIONARY_BYTES));
        }
        Dictionary::read(&plain[..]).map_err(|e| e.to_string())
    } else {
        Dictionary::read(bytes).map_err(|e| e.to_string())
    }
}

fn tokenizer(dictionary: Dictionary) -> std::result::Result<Tokenizer, String> {
    let tokenizer = Tokenizer::new(dictionary).ignore_space(true).map_err(|e| e.to_string())?;
    Ok(tokenizer.max_grouping_len(MAX_GROUPING_LEN))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_folder_of_text_files_is_a_dictionary() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("lex.csv", "胸水,0,0,1,*\nなし,0,0,1,*\n"),
            ("matrix.def", "1 1\n0 0 0"),
            ("char.def", "DEFAULT 0 1 0\nSPACE 0 1 0\n0x0020 SPACE\n"),
            ("unk.def", "DEFAULT,0,0,100,*\nSPACE,0,0,100,*\n"),
        ] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let (tokenizer, digest) = from_path(folder.path()).unwrap();
        let mut worker = tokenizer.new_worker();
        worker.reset_sentence("胸水なし");
        worker.tokenize();
        assert_eq!(worker.num_tokens(), 2);
        assert_eq!(digest.len(), 64);
    }

    #[test]
    fn faults_name_the_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "not a dictionary").unwrap();
        let text = from_path(file.path()).err().unwrap().to_string();
        assert!(text.contains("not a usable dictionary"), "{text}");
        let text = from_path(Path::new("nowhere.dic")).err().unwrap().to_string();
        assert!(text.starts_with("cannot read nowhere.dic"), "{text}");
    }
}
