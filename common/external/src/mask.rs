//! What a command says to people, without what reports say: logs and failures leave the node, reports do not.
//!
//! A stretch of text that also stands in a known report or reference is masked: four characters in a row where one of them
//! is not ASCII, twelve where all are, so that Japanese is caught early and a traceback stays readable. JSON's escapes of
//! other characters are masked whatever they stand for. It is no proof against a script that means harm: such a script
//! could send reports anywhere, which is why operators must allow scripts at all.

use std::collections::{HashSet, VecDeque};

const SHORT: usize = 4;
const LONG: usize = 12;
/// Texts are remembered this far back, since what is written to stderr is read some time later.
const REMEMBERED: usize = 4096;
/// The longest line shown, in characters.
const SHOWN: usize = 300;

/// Texts that must not be shown.
#[derive(Debug, Default)]
pub(crate) struct Mask {
    texts: VecDeque<String>,
}

impl Mask {
    /// Remembers a text that was sent.
    pub fn remember(&mut self, text: &str) {
        if text.trim().is_empty() || self.texts.contains(&text.to_string()) {
            return;
        }
        if self.texts.len() == REMEMBERED {
            self.texts.pop_front();
        }
        self.texts.push_back(text.to_string());
    }

    /// The line with everything of these texts replaced by dots, cut to a length that a log bears.
    pub fn apply(&self, line: &str) -> String {
        let line: Vec<char> =
            line.chars().take(SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect();
        let known: HashSet<String> = self.texts.iter().flat_map(|t| windows(t)).collect();
        let mut hidden = escapes(&line);
        for length in [SHORT, LONG] {
            for (at, window) in line.windows(length).enumerate() {
                if known.contains(&window.iter().collect::<String>()) {
                    hidden[at..at + length].fill(true);
                }
            }
        }
        line.iter().zip(hidden).map(|(c, hide)| if hide { '·' } else { *c }).collect()
    }
}

fn windows(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let short = chars.windows(SHORT).filter(|w| w.iter().any(|c| !c.is_ascii()));
    // A text shorter than a window is hidden as a whole only where it fills one; three characters tell nothing.
    short.chain(chars.windows(LONG)).map(|w| w.iter().collect()).collect()
}

/// Where `\u30ab` and the like stand.
fn escapes(line: &[char]) -> Vec<bool> {
    let mut hidden = vec![false; line.len()];
    for (at, window) in line.windows(6).enumerate() {
        if window[0] == '\\' && window[1] == 'u' && window[2..].iter().all(char::is_ascii_hexdigit) {
            hidden[at..at + 6].fill(true);
        }
    }
    hidden
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_masked_and_tracebacks_are_not() {
        let mut mask = Mask::default();
        mask.remember("右胸水を認める。気胸なし。");
        mask.remember("No pleural effusion is seen.");
        assert_eq!(mask.apply("KeyError: '右胸水を認める' in line 3"), "KeyError: '·······' in line 3");
        assert_eq!(mask.apply("bad text: pleural effusion!"), "bad text:·················!");
        let traceback = "Traceback (most recent call last): File \"m.py\", line 4, 異常";
        assert_eq!(mask.apply(traceback), traceback);
        assert_eq!(mask.apply("got \\u53f3\\u80f8"), "got ············");
        assert_eq!(mask.apply(&"x".repeat(1000)).len(), SHOWN);
    }
}
