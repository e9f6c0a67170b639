//! Dictionaries into memory: the two built-in ones, and a user's.

use std::collections::HashSet;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use common::bounded;
use contain::contained;
use vibrato::{Dictionary, SystemDictionaryBuilder, Tokenizer};

use super::layout;
use crate::error::{Error, Result};

/// Pins the built-in UniDic-lite: its source package and the form that was made from it.
pub const UNIDIC_LITE_IDENTITY: &str = "unidic-lite 1.0.8 segmentation 1";
/// Pins the built-in IPADIC.
pub const IPADIC_IDENTITY: &str = "ipadic 1.0.0 segmentation 1";

/// The limit on a run of one character class that becomes a single unknown word; MeCab's default.
const MAX_GROUPING_LEN: usize = 24;
/// Every zstd frame starts with these bytes.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// So many times its size, and no more, may a dictionary unpack to; real ones do to some 10 times.
const MOST_RATIO: u64 = 256;

pub static UNIDIC_LITE: &[u8] = include_bytes!("../../data/unidic-lite.dic.zst");
pub static IPADIC: &[u8] = include_bytes!("../../data/ipadic.dic.zst");

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
        compile([&files[0], &files[1], &files[2], &files[3]]).map_err(bad)?
    } else {
        let bytes = read(path)?;
        hasher.update(&bytes);
        decode(&bytes).map_err(bad)?
    };
    Ok((tokenizer(dictionary).map_err(bad)?, hasher.finalize().to_hex().to_string()))
}

fn decode(bytes: &[u8]) -> std::result::Result<Dictionary, String> {
    if !bytes.starts_with(&ZSTD_MAGIC) {
        return read(bytes);
    }
    let most = bounded::DICTIONARY_BYTES.min(MOST_RATIO.saturating_mul(bytes.len() as u64));
    let mut plain = Vec::new();
    let stream = ruzstd::decoding::StreamingDecoder::new(bytes).map_err(|e| e.to_string())?;
    stream.take(most + 1).read_to_end(&mut plain).map_err(|e| e.to_string())?;
    if plain.len() as u64 > most {
        return Err(format!("it unpacks to more than {most} bytes"));
    }
    read(&plain)
}

fn read(bytes: &[u8]) -> std::result::Result<Dictionary, String> {
    layout::check(bytes)?;
    let read = contained(|| Dictionary::read(bytes));
    read.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
}

/// Lexicon, matrix, characters, unknown words.
fn compile(files: [&[u8]; 4]) -> std::result::Result<Dictionary, String> {
    let [words, matrix, characters, unknown] = files;
    if let Some(category) = without_words(characters, unknown) {
        return Err(format!("char.def has the category {category:?}, for which unk.def has no row; add one"));
    }
    let built = contained(|| SystemDictionaryBuilder::from_readers(words, matrix, characters, unknown));
    built.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
}

/// A category of characters that no unknown word belongs to: a text with such a character could not be cut at all. MeCab
/// refuses it too (`tokenizer.cpp`, "cannot find UNK category").
fn without_words(characters: &[u8], unknown: &[u8]) -> Option<String> {
    let (characters, unknown) = (String::from_utf8_lossy(characters), String::from_utf8_lossy(unknown));
    let known: HashSet<&str> =
        unknown.lines().filter_map(|row| Some(row.split(',').next()?.trim_matches('"'))).collect();
    let lines = characters.lines().map(str::trim);
    let mut defined = lines
        .filter(|l| !l.starts_with("0x") && !l.starts_with('#'))
        .filter_map(|l| l.split_whitespace().next());
    defined.find(|category| !known.contains(category)).map(String::from)
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

    /// Found by fuzzing: vibrato 0.5.3 panics at a last row that ends behind its third comma.
    #[test]
    fn files_at_which_vibrato_panics_are_refused_by_their_folder() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("lex.csv", "胸水,0,0,1,"),
            ("matrix.def", "1 1\n0 0 0"),
            ("char.def", "DEFAULT 0 1 0\nSPACE 0 1 0\n0x0020 SPACE\n"),
            ("unk.def", "DEFAULT,0,0,100,*\nSPACE,0,0,100,*\n"),
        ] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let error = from_path(folder.path()).err().unwrap().to_string();
        assert!(error.contains(&folder.path().display().to_string()), "{error}");
        assert!(error.contains("malformed in a way that its reader does not expect"), "{error}");
    }

    /// Found by fuzzing: vibrato 0.5.3 accepts it, and panics at the first text.
    #[test]
    fn a_category_without_unknown_words_is_refused_by_its_name() {
        let characters = b"DEFAULT 0 1 0\n# KANJI 0 0 0\nSPACE 0 1 0\n0x0020 SPACE\n";
        let missing = |unknown: &[u8]| without_words(characters, unknown);
        assert_eq!(missing(b"DEFAULT,0,0,100,*\nSPACE,0,0,100,*\n"), None);
        assert_eq!(missing(b"DEFAULT,0,0,100,*\nSPA,0,0,100,*\n").as_deref(), Some("SPACE"));
    }

    /// 265 bytes that unpack to 8 MiB (RFC 8878, 3.1.1.2).
    #[test]
    fn a_packed_dictionary_does_not_unpack_without_bound() {
        let mut bomb = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58];
        // Blocks of one repeated byte, 128 KiB each.
        for _ in 0..64 {
            bomb.extend([0x02, 0x00, 0x10, 0x00]);
        }
        bomb.extend([1, 0, 0]);
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), bomb).unwrap();
        let error = from_path(file.path()).err().unwrap().to_string();
        assert!(error.contains("it unpacks to more than"), "{error}");
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
