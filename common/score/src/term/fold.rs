//! One spelling for the many of a text, with the way back to the original's bytes.

use std::ops::Range;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::canonical_combining_class;

/// A text as the matcher sees it.
#[derive(Debug, Clone, Default)]
pub struct Folded {
    /// The folded characters.
    pub chars: Vec<char>,
    /// For each, the bytes of the original that it came from.
    spans: Vec<(usize, usize)>,
}

impl Folded {
    /// Folds a text: NFKC where wanted, radicals that PDFs write for ideographs, ASCII lower case.
    pub fn new(text: &str, nfkc: bool) -> Self {
        let mut folded = Self::default();
        let mut start = 0;
        // NFKC joins a character with the marks after it (ﾊ + ﾟ), so it is done per base and its marks.
        let mut ends: Vec<usize> = text
            .char_indices()
            .filter(|&(at, c)| at > 0 && !(nfkc && is_mark(c)))
            .map(|(at, _)| at)
            .collect();
        ends.push(text.len());
        for end in ends {
            let piece = &text[start..end];
            if nfkc {
                folded.push(piece.nfkc(), (start, end));
            } else {
                folded.push(piece.chars(), (start, end));
            }
            start = end;
        }
        folded
    }

    fn push(&mut self, chars: impl Iterator<Item = char>, span: (usize, usize)) {
        for c in chars {
            self.chars.push(radical(c).to_ascii_lowercase());
            self.spans.push(span);
        }
    }

    /// The bytes of the original that the folded characters `range` came from.
    pub fn original(&self, range: Range<usize>) -> Range<usize> {
        if range.is_empty() {
            return 0..0;
        }
        self.spans[range.start].0..self.spans[range.end - 1].1
    }
}

/// Whether NFKC attaches `c` to the character before it.
fn is_mark(c: char) -> bool {
    // The half-width voicing marks decompose to combining ones.
    matches!(c, '\u{ff9e}' | '\u{ff9f}') || canonical_combining_class(c) != 0
}

/// The ideograph for a radical of the CJK supplement, which NFKC leaves alone.
fn radical(c: char) -> char {
    match c {
        '⻑' => '長',
        '⻘' => '青',
        '⻣' => '骨',
        '⻆' => '角',
        '⻄' => '西',
        '⻩' => '黄',
        '⻭' => '歯',
        '⻝' => '食',
        '⻤' => '鬼',
        '⺠' => '民',
        '⻁' => '虎',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_become_one_and_keep_their_place() {
        let text = "⻣ﾍﾟｰｽＡB";
        let folded = Folded::new(text, true);
        assert_eq!(folded.chars.iter().collect::<String>(), "骨ペースab");
        assert_eq!(&text[folded.original(1..4)], "ﾍﾟｰｽ");
        assert_eq!(Folded::new("ﾍﾟＡB", false).chars.iter().collect::<String>(), "ﾍﾟＡb");
    }

    #[test]
    fn empty_and_marks_alone() {
        for text in ["", "\u{3099}", "が\u{301}", "ﾞﾟ"] {
            let folded = Folded::new(text, true);
            assert!(folded.original(0..folded.chars.len()).end <= text.len());
        }
    }
}
