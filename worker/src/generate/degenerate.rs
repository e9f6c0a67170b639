//! Reports that have gone wrong for good, told from what was written so far.
//!
//! Both signs are read off the row's own tokens alone. Which rows run beside it, on which worker, changes nothing.
//!
//! - **A cycle**: the last tokens are one piece of at most `period` tokens, standing at least `repeats` times in a row
//!   and over at least [`LEAST_CYCLE`] tokens. Greedy decoding that has repeated itself so often seldom finds out: each
//!   further turn makes the next more likely (J. Xu et al., "Learning to Break the Loop", arXiv 2206.02369, §2). The
//!   least length keeps short pieces that reports do hold, such as a row of dots or dashes.
//! - **Nothing Japanese**: after so many tokens the text holds no kana and no Chinese character. A merge that answers in
//!   another language does so to the end.

use super::TextTokenizer;

/// Tokens that a cycle must have covered, however short its piece.
pub const LEAST_CYCLE: usize = 16;

/// When a row ends early; off by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Early {
    /// The longest piece of a cycle, in tokens, and how often it must stand.
    pub cycle: Option<(usize, usize)>,
    /// Tokens after which a text must hold something Japanese.
    pub no_japanese_after: Option<usize>,
}

/// Watches one row for cycles.
#[derive(Clone, Debug)]
pub struct Cycles {
    repeats: usize,
    /// For each length of a piece: how many of the last tokens equal the one that far before them.
    runs: Vec<usize>,
}

impl Cycles {
    /// For pieces of up to `period` tokens that stand `repeats` times.
    pub fn new((period, repeats): (usize, usize)) -> Cycles {
        Cycles { repeats, runs: vec![0; period] }
    }

    /// Looks at the last of a row's tokens; each is to be shown once. True where they go in circles.
    pub fn push(&mut self, ids: &[u32]) -> bool {
        let Some((last, before)) = ids.split_last() else { return false };
        let mut circles = false;
        for (run, (period, earlier)) in self.runs.iter_mut().zip((1..).zip(before.iter().rev())) {
            *run = if earlier == last { *run + 1 } else { 0 };
            // The first of the pieces has nothing before it to equal.
            let covered = *run + period;
            circles |= covered >= (self.repeats * period).max(LEAST_CYCLE) && *run > 0;
        }
        circles
    }
}

/// Whether a text holds kana or Chinese characters. Punctuation and digits of any width do not count.
pub fn is_japanese(text: &str) -> bool {
    text.chars().any(|c| {
        matches!(c, '\u{3041}'..='\u{3096}' | '\u{309d}'..='\u{309f}' | '\u{30a1}'..='\u{30fa}' | '\u{30fd}'..='\u{30ff}')
            || matches!(c, '\u{3005}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}')
            || matches!(c, '\u{ff66}'..='\u{ff9d}' | '\u{20000}'..='\u{3ffff}')
    })
}

/// Whether these tokens hold nothing Japanese. One that is cut in the middle of a character may yet be it.
pub(super) fn lacks_japanese(tokenizer: &TextTokenizer, ids: &[u32]) -> super::Result<bool> {
    let text = tokenizer.decode(ids)?;
    Ok(!is_japanese(&text) && !text.contains(char::REPLACEMENT_CHARACTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many tokens were written when the cycle was seen.
    fn seen(limits: (usize, usize), ids: &[u32]) -> Option<usize> {
        let mut cycles = Cycles::new(limits);
        (1..=ids.len()).find(|n| cycles.push(&ids[..*n]))
    }

    #[test]
    fn a_cycle_is_seen_as_soon_as_it_has_stood_often_and_long_enough() {
        let text = |lead: usize, piece: &[u32], times: usize| -> Vec<u32> {
            let lead = (0..lead as u32).map(|i| 1000 + i);
            lead.chain(piece.iter().copied().cycle().take(piece.len() * times)).collect()
        };
        // Eight tokens four times.
        assert_eq!(seen((32, 4), &text(5, &[1, 2, 3, 4, 5, 6, 7, 8], 9)), Some(5 + 32));
        // One token: the least length counts.
        assert_eq!(seen((32, 4), &text(3, &[9], 40)), Some(3 + LEAST_CYCLE));
        assert_eq!(seen((32, 4), &text(3, &[9], LEAST_CYCLE - 1)), None);
        // A piece that is longer than looked for, and one that stands too seldom.
        let long: Vec<u32> = (0..33).collect();
        assert_eq!(seen((32, 4), &text(0, &long, 9)), None);
        assert_eq!(seen((32, 4), &text(0, &long[..32], 3)), None);
        assert_eq!(seen((32, 4), &text(0, &long[..32], 4)), Some(128));
        // What is broken begins anew.
        let broken = [&text(0, &[1, 2, 3, 4, 5], 3)[..], &[77], &text(0, &[1, 2, 3, 4, 5], 3)[..]].concat();
        assert_eq!(seen((32, 4), &broken), None);
        assert_eq!(seen((32, 4), &(0..500).collect::<Vec<_>>()), None);
    }

    #[test]
    fn japanese_is_kana_and_chinese_characters() {
        for text in ["胸", "あ", "no ア mass", "ｱ", "々"] {
            assert!(is_japanese(text), "{text}");
        }
        for text in ["", "No effusion. 12 %", "。、「」", "é — Ж", "１２", "한글", "・ー"] {
            assert!(!is_japanese(text), "{text}");
        }
    }
}
