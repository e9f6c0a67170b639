//! Tests of prompt and text. Decoding itself is tested against reference values in `tests/vlm_golden.rs`.

use super::{Error, TextTokenizer, bunny_prompt, bunny_texts};

/// A tokenizer that maps letters to ids; with `bos`, it puts id 1 before every text, as Llama 3's does.
fn tokenizer(bos: bool) -> TextTokenizer {
    let mut vocab = serde_json::Map::new();
    for (id, token) in ["<unk>", "<s>", "</s>", "\n", " "].into_iter().map(String::from).enumerate() {
        vocab.insert(token, id.into());
    }
    for letter in (' '..='~').skip(1) {
        vocab.insert(letter.to_string(), vocab.len().into());
    }
    let special = |id: u32, content: &str| {
        serde_json::json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true})
    };
    let processor = serde_json::json!({"type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}});
    let json = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [special(1, "<s>"), special(2, "</s>")],
        "normalizer": null,
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "."}, "behavior": "Isolated", "invert": false},
        "post_processor": if bos { processor } else { serde_json::Value::Null },
        "decoder": {"type": "Fuse"},
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"},
    });
    let inner = tokenizers::Tokenizer::from_bytes(json.to_string()).expect("a valid tokenizer");
    TextTokenizer::new(inner, false)
}

#[test]
fn the_template_is_the_published_one() {
    let (before, after) = bunny_texts("read it.").expect("no mark");
    assert_eq!(
        format!("{before}<image>{after}"),
        "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, \
         and polite answers to the user's questions. USER: <image>\nread it. ASSISTANT:"
    );
    assert!(matches!(bunny_texts("two <image>"), Err(Error::Prompt(_))));
}

#[test]
fn the_second_begin_of_text_is_dropped() {
    let with = bunny_prompt(&tokenizer(true), "read", Some(1), 36).expect("a tokenizer that adds it");
    assert_eq!(with.before[0], 1);
    assert_eq!(with.after[0], 3, "the line feed follows the image");
    assert_eq!(with.before.last(), Some(&4), "the space before the image is kept");
    let without = bunny_prompt(&tokenizer(false), "read", None, 36).expect("no begin of text at all");
    assert_eq!(without.before, with.before[1..]);
    assert_eq!(without.after, with.after);
    assert_eq!(with.positions(), with.before.len() + 36 + with.after.len());
}

#[test]
fn a_tokenizer_without_begin_of_text_is_refused() {
    let error = bunny_prompt(&tokenizer(false), "read", Some(1), 36).expect_err("none is added");
    assert!(error.to_string().contains("begin-of-text id 1"), "{error}");
    assert!(bunny_prompt(&tokenizer(true), "read", Some(2), 36).is_err());
}

#[test]
fn decoding_skips_special_tokens_and_trims() {
    let tokenizer = tokenizer(true);
    let ids = tokenizer.encode(" No mass. ").expect("known letters");
    let ids = [&ids[..], &[2]].concat();
    assert_eq!(tokenizer.decode(&ids).expect("known ids"), "No mass.");
    assert_eq!(tokenizer.decode(&[]).expect("nothing"), "");
}
