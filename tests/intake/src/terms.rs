//! What a report is scored with: a lexicon of terms, and a tokeniser's dictionary.

use crate::scratch::Scratch;
use score::TokenizerKind;
use score::term::{Lexicon, LexiconChoice, Matcher};
use score::tokenize::Tokenizer;
use std::sync::Arc;

const TEXTS: [&str; 3] = [
    "右胸水を認める。気胸なし。心陰影の拡大(CTR 58%)は否定できない。",
    "no effusion or pneumothorax, ?nodule",
    "\u{3000}ﾞ😀\0a",
];

thread_local! {
    static FOLDER: Scratch = Scratch::new();
}

/// Bytes that begin with `finding` or `term` are a CSV, anything else TOML; over the built-in lexicon if they end with a blank
/// line, else in its place, since the built-in one takes its time. A lexicon that was accepted finds mentions whose spans
/// are those of the text.
pub fn lexicon(bytes: &[u8]) {
    let csv = bytes.starts_with(b"finding") || bytes.starts_with(b"term");
    let name = if csv { "lexicon.csv" } else { "lexicon.toml" };
    FOLDER.with(|folder| {
        let path = folder.fill(&[(name, bytes)]).join(name);
        let choice = match bytes.ends_with(b"\n\n") {
            true => LexiconChoice::Extend(path),
            false => LexiconChoice::Path(path),
        };
        let lexicon = match Lexicon::load(&choice) {
            Ok(lexicon) => lexicon,
            Err(e) => return drop(e.to_string()),
        };
        let matcher = Matcher::new(Arc::new(lexicon), true);
        for text in TEXTS {
            for mention in matcher.mentions(text) {
                assert_eq!(&text[mention.span.clone()], mention.text);
            }
        }
    });
}

/// The table of a compiled dictionary takes far more than all the rest of a small one.
fn with_table(bytes: &[u8]) -> Vec<u8> {
    const CHARACTERS: usize = 1 << 16;
    let table = [&(CHARACTERS as u64).to_le_bytes()[..], &vec![0; 4 * CHARACTERS]].concat();
    match bytes.windows(2).position(|w| w == [0x0c; 2]) {
        Some(at) => [&bytes[..at], &table, &bytes[at + 2..]].concat(),
        None => bytes.to_vec(),
    }
}

/// Bytes with three form feeds are the four text files of a dictionary; one that was accepted cuts any text into tokens that
/// are the text, blanks left out: where its `char.def` calls no other character one, all of it. (It may, and what it says of
/// U+0000 holds for all beyond the sixteen bits of its table, as in MeCab.) Anything else is a compiled dictionary, in which two form feeds stand for a table of
/// characters; it is loaded and not used, since that its numbers fit each other is not promised (`score::tokenize::layout`).
pub fn dictionary(bytes: &[u8]) {
    let parts: Vec<&[u8]> = bytes.split(|b| *b == 0x0c).collect();
    FOLDER.with(|folder| {
        let path = match parts[..] {
            [lexicon, matrix, classes, unknown] => folder.fill(&[
                ("lex.csv", lexicon),
                ("matrix.def", matrix),
                ("char.def", classes),
                ("unk.def", unknown),
            ]),
            _ => {
                let path = folder.fill(&[("one.dic", &with_table(bytes))]).join("one.dic");
                return drop(Tokenizer::load(&TokenizerKind::Path(path)).map_err(|e| e.to_string()));
            }
        };
        let tokenizer = match Tokenizer::load(&TokenizerKind::Path(path)) {
            Ok(tokenizer) => tokenizer,
            Err(e) => return drop(e.to_string()),
        };
        // The category of blanks on any range but that of the blank itself.
        let of_blanks = |line: &str| line.starts_with("0x") && line.contains("SPACE");
        let classes = String::from_utf8_lossy(parts[2]);
        let mut ranges = classes.lines().map(str::trim).filter(|line| of_blanks(line));
        let own_blanks = ranges.any(|line| line.split_whitespace().next() != Some("0x0020"));
        for text in TEXTS {
            let bare = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
            let seen = text.split('\0').next().unwrap_or_default();
            let (found, seen) = (bare(&tokenizer.wakati(text)), bare(seen));
            match own_blanks {
                false => assert_eq!(found, seen),
                true => {
                    let mut rest = seen.chars();
                    assert!(found.chars().all(|c| rest.any(|r| r == c)), "{found:?} is not within {seen:?}");
                }
            }
        }
    });
}
