//! What a command says to people, without what reports say: logs and failures leave the node, reports do not.
//!
//! A stretch of text that also stands in a known report or reference is masked: four characters in a row where one of them
//! is not ASCII, twelve where all are, so that Japanese is caught early and a traceback stays readable. Names of samples
//! (ids, names of image files) are masked where they stand as a word, from three characters on: an id `12` is in every
//! traceback and says nothing. JSON's escapes of other characters are masked whatever they stand for. It is no proof against
//! a script that means harm: such a script could send reports anywhere, which is why operators must allow scripts at all.

use common::dataset::MAX_ID_BYTES;
use std::collections::{HashSet, VecDeque};
use std::path::Path;

const SHORT: usize = 4;
const LONG: usize = 12;
/// The shortest name that is masked, in characters.
const NAME: usize = 3;
/// Reports are remembered this far back, since what is written to stderr is read some time later.
const REMEMBERED: usize = 4096;
/// The longest line shown, in characters.
const SHOWN: usize = 300;

/// Texts and names that must not be shown.
#[derive(Debug, Default)]
pub(crate) struct Mask {
    /// References: as many as the dataset has.
    known: HashSet<String>,
    /// Ids and names of image files, likewise.
    names: HashSet<String>,
    /// Reports, the newest last.
    reports: VecDeque<String>,
    /// How many reports are remembered, where more than usual.
    room: usize,
}

impl Mask {
    /// Remembers a reference for good.
    pub fn know(&mut self, reference: &str) {
        if !reference.trim().is_empty() && !self.known.contains(reference) {
            self.known.insert(reference.to_string());
        }
    }

    /// Remembers a sample's id for good.
    pub fn name(&mut self, name: &str) {
        if name.chars().count() >= NAME && !self.names.contains(name) {
            self.names.insert(name.to_string());
        }
    }

    /// Remembers what an image's file is called, with and without its extension.
    pub fn name_of_file(&mut self, path: &str) {
        let path = Path::new(path);
        for name in [path.file_name(), path.file_stem()].into_iter().flatten().filter_map(|n| n.to_str()) {
            self.name(name);
        }
    }

    /// Lets so many reports be remembered at least: those of a candidate that is asked about as a whole.
    pub fn make_room(&mut self, reports: usize) {
        self.room = self.room.max(reports);
    }

    /// Remembers a report for a while.
    pub fn remember(&mut self, text: &str) {
        if text.trim().is_empty() || self.reports.iter().any(|t| t == text) {
            return;
        }
        if self.reports.len() >= self.room.max(REMEMBERED) {
            self.reports.pop_front();
        }
        self.reports.push_back(text.to_string());
    }

    /// The line with everything of these replaced by dots, cut to a length that a log bears.
    pub fn apply(&self, line: &str) -> String {
        // A little of what is cut away is looked at too: the end of what is shown may be the beginning of a name.
        let line: String =
            line.chars().take(SHOWN + MAX_ID_BYTES).map(|c| if c.is_control() { ' ' } else { c }).collect();
        let mut hidden = vec![false; line.len()];
        self.hide_texts(&line, &mut hidden);
        self.hide_names(&line, &mut hidden);
        hide_escapes(&line, &mut hidden);
        let shown = line.char_indices().take(SHOWN);
        shown.map(|(at, c)| if hidden[at] { '·' } else { c }).collect()
    }

    /// The line has a few hundred windows and the texts have millions: these are looked up among those.
    fn hide_texts(&self, line: &str, hidden: &mut [bool]) {
        let wanted: HashSet<&str> = windows(line).into_iter().map(|at| &line[at]).collect();
        let texts = self.known.iter().chain(&self.reports);
        let found: HashSet<&str> = texts
            .flat_map(|text| windows(text).into_iter().map(move |at| &text[at]))
            .filter(|window| wanted.contains(window))
            .collect();
        windows(line)
            .into_iter()
            .filter(|at| found.contains(&line[at.clone()]))
            .for_each(|at| hidden[at].fill(true));
    }

    fn hide_names(&self, line: &str, hidden: &mut [bool]) {
        let part = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        for name in &self.names {
            for (at, _) in line.match_indices(name.as_str()) {
                let end = at + name.len();
                if !part(line[..at].chars().next_back()) && !part(line[end..].chars().next()) {
                    hidden[at..end].fill(true);
                }
            }
        }
    }
}

/// Where the stretches lie that are compared: in bytes, of so many characters. A text shorter than one is not hidden; three
/// characters tell nothing.
fn windows(text: &str) -> Vec<std::ops::Range<usize>> {
    let mut starts: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
    starts.push(text.len());
    let all = |length: usize| starts.iter().zip(starts.iter().skip(length)).map(|(from, to)| *from..*to);
    all(SHORT).filter(|at| !text[at.clone()].is_ascii()).chain(all(LONG)).collect()
}

/// Hides `\u30ab` and the like.
fn hide_escapes(line: &str, hidden: &mut [bool]) {
    for (at, window) in line.as_bytes().windows(6).enumerate() {
        if window[0] == b'\\' && window[1] == b'u' && window[2..].iter().all(u8::is_ascii_hexdigit) {
            hidden[at..at + 6].fill(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_masked_and_tracebacks_are_not() {
        let mut mask = Mask::default();
        mask.remember("右胸水を認める。気胸なし。");
        mask.know("No pleural effusion is seen.");
        assert_eq!(mask.apply("KeyError: '右胸水を認める' in line 3"), "KeyError: '·······' in line 3");
        assert_eq!(mask.apply("bad text: pleural effusion!"), "bad text:·················!");
        let traceback = "Traceback (most recent call last): File \"m.py\", line 4, 異常";
        assert_eq!(mask.apply(traceback), traceback);
        assert_eq!(mask.apply("got \\u53f3\\u80f8"), "got ············");
        assert_eq!(mask.apply(&"x".repeat(1000)).len(), SHOWN);
    }

    #[test]
    fn names_are_masked_where_they_stand_as_a_word() {
        let mut mask = Mask::default();
        mask.name("p-0417");
        mask.name("12");
        mask.name_of_file("/data/images/yamada_taro.dcm");
        assert_eq!(mask.apply("KeyError: 'p-0417', line 12"), "KeyError: '······', line 12");
        assert_eq!(mask.apply("cannot open yamada_taro.png"), "cannot open ···········.png");
        assert_eq!(mask.apply("xp-0417 is another"), "xp-0417 is another");
    }

    #[test]
    fn references_are_known_for_good_and_so_many_reports_as_were_asked_about() {
        let mut mask = Mask::default();
        mask.know("右胸水を認める。");
        mask.make_room(REMEMBERED + 1);
        mask.remember("左肺野に結節影。");
        (0..REMEMBERED).for_each(|i| mask.remember(&format!("another report, number {i}")));
        assert_eq!(mask.apply("右胸水を: 左肺野に結節"), "····: ······");
        mask.remember("one more");
        assert_eq!(mask.apply("右胸水を: 左肺野に結節"), "····: 左肺野に結節");
    }
}
