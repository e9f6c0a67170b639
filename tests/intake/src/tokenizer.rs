//! `tokenizer.json`, loaded as the worker does and used on texts.

use crate::scratch::Scratch;
use worker::generate::TextTokenizer;
use worker::merge::vocabulary::Tokens;

const TEXTS: [&str; 3] = ["", "両側肺野は清明。 No effusion .", "<|begin_of_text|>a\u{3000}ﾞ😀\n"];

thread_local! {
    static FOLDER: Scratch = Scratch::new();
}

/// A tokenizer that was accepted turns texts into ids and ids, also such as it never gave, into texts, or says why not.
pub fn tokenizer(bytes: &[u8]) {
    FOLDER.with(|folder| {
        let path = folder.fill(&[("tokenizer.json", bytes)]);
        let tokenizer = match TextTokenizer::from_folder(&path) {
            Ok(tokenizer) => tokenizer,
            Err(e) => return drop(e.to_string()),
        };
        for text in TEXTS {
            if let Ok(ids) = tokenizer.encode(text) {
                drop(tokenizer.decode(&ids).map_err(|e| e.to_string()));
            }
            drop(tokenizer.encode_bare(text).map_err(|e| e.to_string()));
        }
        drop(tokenizer.decode(&[0, 1, 2, 1000, u32::MAX]).map_err(|e| e.to_string()));
        let _ = tokenizer.special("<|end_of_text|>");
        let _ = tokenizer.vocab_size();
        drop(Tokens::read(&path).map(|tokens| tokens.len()).map_err(|e| e.to_string()));
    });
}
