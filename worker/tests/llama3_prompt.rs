//! The prompt's ids under the real Llama 3 vocabulary.
//!
//! `data/llama3_prompt/reference.json` holds the ids around the image for the paper's task, 32 before and 62 after, as the
//! whole vocabulary gives them; `tokenizer.json` beside it holds the part of the vocabulary that this one prompt can touch.
//! Both are written by `scripts/golden/llama3_tokenizer.py`. With `JRADIEVO_LLAMA3_TOKENIZER` naming a whole tokenizer.json,
//! that one is asked too.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use worker::asking::PAPER_TASK;
use worker::generate::{TextTokenizer, bunny_prompt};
use worker::model::Prompt;

fn data(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/llama3_prompt").join(file)
}

fn reference() -> Prompt {
    let text = std::fs::read_to_string(data("reference.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let ids = |key: &str| serde_json::from_value(json[key].clone()).unwrap();
    // One image of Bunny's is 729 rows.
    Prompt::around(ids("before"), 729, ids("after"))
}

#[test]
fn the_papers_prompt_is_32_and_62_ids() {
    let expected = reference();
    assert_eq!((expected.before.len(), expected.after.len()), (32, 62));
    let mut tokenizers = vec![data("tokenizer.json")];
    tokenizers.extend(std::env::var_os("JRADIEVO_LLAMA3_TOKENIZER").map(PathBuf::from));
    for file in tokenizers {
        let tokenizer = TextTokenizer::from_file(&file).unwrap();
        let prompt = bunny_prompt(&tokenizer, PAPER_TASK, Some(128_000), 729).unwrap();
        assert_eq!(prompt, expected, "{}", file.display());
        assert_eq!(prompt.positions(), 823);
        let text = tokenizer.decode(&prompt.after).unwrap();
        assert!(text.contains(PAPER_TASK) && text.ends_with("ASSISTANT:"), "{text}");
    }
}
