//! A tokenizer of the right size: Llama 3's form, with words of the rehearsal's prompt and made-up ones.

use super::Size;
use crate::generate::bunny_texts;
use anyhow::{Result, anyhow};
use serde_json::{Map, Value, json};
use std::str::FromStr;
use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, Tokenizer};

/// Words after the image in the paper's prompt, the line feed and `ASSISTANT:` not counted: 62 positions in all.
const TASK_WORDS: usize = 59;

/// A task text that takes as many positions as the paper's.
pub(super) fn task() -> String {
    let words = "Read the chest radiograph and write the findings in Japanese minding lungs heart and bones";
    words.split(' ').cycle().take(TASK_WORDS).collect::<Vec<_>>().join(" ")
}

/// The character that stands for a byte in byte-level vocabularies: itself where it can be seen, else one beyond U+0100.
fn byte_char(byte: u8) -> char {
    let seen = |b: u8| matches!(b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    match seen(byte) {
        true => char::from(byte),
        false => {
            let before = (0..byte).filter(|&b| !seen(b)).count() as u32;
            char::from_u32(256 + before).unwrap_or('\u{100}')
        }
    }
}

fn spelled(text: &str) -> String {
    text.bytes().map(byte_char).collect()
}

fn json_of(vocabulary: Map<String, Value>, begin: usize) -> Value {
    let special = |i: usize| {
        let content = match i {
            0 => "<|begin_of_text|>".to_string(),
            1 => "<|end_of_text|>".to_string(),
            9 => "<|eot_id|>".to_string(),
            i => format!("<|reserved_special_token_{i}|>"),
        };
        json!({"id": begin + i, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    };
    let begin_of_text = "<|begin_of_text|>";
    let first = json!({"SpecialToken": {"id": begin_of_text, "type_id": 0}});
    json!({
        "version": "1.0",
        "added_tokens": (0..256).map(special).collect::<Vec<_>>(),
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "behavior": "Isolated", "invert": false, "pattern": {"Regex":
                "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"}},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}]},
        "post_processor": {"type": "TemplateProcessing",
            "single": [first, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [first, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {begin_of_text: {"id": begin_of_text, "ids": [begin], "tokens": [begin_of_text]}}},
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "ignore_merges": true, "vocab": vocabulary, "merges": []},
    })
}

/// `tokenizer.json`: the 256 bytes, every piece of the prompt as one token, then pairs of Japanese characters up to the
/// size, and 256 special tokens.
pub(super) fn tokenizer_json(size: &Size) -> Result<String> {
    let begin = size.begin_of_text();
    let mut vocabulary = Map::new();
    let add = |vocabulary: &mut Map<String, Value>, token: String| {
        if vocabulary.len() < begin && !vocabulary.contains_key(&token) {
            let id = vocabulary.len();
            vocabulary.insert(token, id.into());
        }
    };
    (0..=255).for_each(|b| add(&mut vocabulary, byte_char(b).to_string()));
    let failed = |e: tokenizers::Error| anyhow!("the rehearsal's tokenizer: {e}");
    let bytes_only = Tokenizer::from_str(&json_of(vocabulary.clone(), begin).to_string()).map_err(failed)?;
    let (before, after) = bunny_texts(&task())?;
    for text in [before, after] {
        let mut pieces = PreTokenizedString::from(text);
        if let Some(cut) = bytes_only.get_pre_tokenizer() {
            cut.pre_tokenize(&mut pieces).map_err(failed)?;
        }
        for (piece, _, _) in pieces.get_splits(OffsetReferential::Original, OffsetType::Byte) {
            add(&mut vocabulary, piece.to_string());
        }
    }
    let kana = ('\u{3042}'..='\u{3093}').chain('\u{30A2}'..='\u{30F3}').chain('\u{4E00}'..='\u{4F00}');
    let kana: Vec<char> = kana.collect();
    'full: for first in &kana {
        for second in &kana {
            if vocabulary.len() >= begin {
                break 'full;
            }
            add(&mut vocabulary, spelled(&format!("{first}{second}")));
        }
    }
    Ok(json_of(vocabulary, begin).to_string())
}

#[cfg(test)]
mod tests {
    use super::super::SIZES;
    use super::*;
    use crate::generate::{TextTokenizer, bunny_prompt};

    #[test]
    fn the_prompt_takes_the_papers_positions_and_ids_become_japanese() {
        for size in [SIZES[2], SIZES[3]] {
            let json = tokenizer_json(&size).expect("words");
            let tokenizer = TextTokenizer::new(Tokenizer::from_str(&json).expect("a tokenizer"), false);
            assert_eq!(tokenizer.vocab_size(), size.vocabulary);
            let begin = size.begin_of_text() as u32;
            let prompt = bunny_prompt(&tokenizer, &task(), Some(begin), 9).expect("a prompt");
            assert_eq!((prompt.before.len(), prompt.after.len()), (32, 62));
            assert_eq!(tokenizer.decode(&[begin - 1, begin + 1]).expect("ids").chars().count(), 2);
        }
    }
}
