//! From a text to its mentions: the lexicon's words, found longest first, sentence by sentence.

use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::assertion::{Draft, read_sentence};
use super::fold::Folded;
use super::lexicon::{CueKind, Lexicon, Located, Role};
use super::place::{Place, merge};
use super::{Assertion, Side};

/// One statement of a report about one finding at one place, with what it was read from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mention {
    /// Id of the concept in the lexicon.
    pub finding: String,
    /// CheXpert category of the concept.
    pub category: String,
    /// Side, from the words before it in the clause or after it.
    pub side: Side,
    /// Zones, in the lexicon's order.
    pub zones: Vec<String>,
    /// What is said of it.
    pub assertion: Assertion,
    /// Bytes of the finding's words in the original text.
    pub span: Range<usize>,
    /// The finding's words in the original text.
    pub text: String,
    /// What decided the assertion; `None` where nothing did and a bare mention counts as present.
    pub cue: Option<Cue>,
}

/// The words that decided an assertion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cue {
    /// Bytes in the original text.
    pub span: Range<usize>,
    /// The words in the original text.
    pub text: String,
}

/// A word of the lexicon in a sentence; positions count folded characters.
#[derive(Debug, Clone)]
pub(super) struct Item<'l> {
    pub start: usize,
    pub end: usize,
    pub roles: &'l [Role],
}

/// Reads mentions with one lexicon.
#[derive(Debug, Clone)]
pub struct Matcher {
    lexicon: Arc<Lexicon>,
    nfkc: bool,
}

impl Matcher {
    /// Makes a matcher; `nfkc` folds full-width, half-width and compatibility characters first.
    pub fn new(lexicon: Arc<Lexicon>, nfkc: bool) -> Self {
        Self { lexicon, nfkc }
    }

    /// The lexicon.
    pub fn lexicon(&self) -> &Lexicon {
        &self.lexicon
    }

    /// All mentions of a text in the order of their words; repeated ones are kept.
    pub fn mentions(&self, text: &str) -> Vec<Mention> {
        let folded = Folded::new(text, self.nfkc);
        let items = find(&self.lexicon, &folded.chars);
        let mut drafts = Vec::new();
        let mut from = 0;
        for sentence in sentences(&folded.chars) {
            let to = from + items[from..].iter().take_while(|item| item.start < sentence.end).count();
            drafts.extend(read_sentence(&self.lexicon, &folded.chars, sentence, &items[from..to]));
            from = to;
        }
        drafts.sort_by_key(|draft| draft.span.0);
        drafts.iter().flat_map(|draft| self.expand(draft, &folded, text)).collect()
    }

    /// A draft has one mention per place.
    fn expand(&self, draft: &Draft, folded: &Folded, text: &str) -> Vec<Mention> {
        let concept = &self.lexicon.concepts()[usize::from(draft.finding)];
        let keep = |place: &Place| Place {
            side: if concept.located == Located::None { Side::None } else { place.side },
            zones: if concept.located == Located::Zone { place.zones } else { 0 },
        };
        let mut places = merge(&draft.places.iter().map(keep).collect::<Vec<_>>());
        if places.is_empty() {
            places.push(Place::default());
        }
        let span = folded.original(draft.span.0..draft.span.1);
        let cue = draft.cue.map(|(start, end)| {
            let span = folded.original(start..end);
            Cue { text: text[span.clone()].into(), span }
        });
        let names = |zones: u32| {
            let all = self.lexicon.zones.iter().enumerate();
            all.filter(|(i, _)| zones >> (*i).min(31) & 1 == 1).map(|(_, zone)| zone.clone()).collect()
        };
        let mention = |place: Place| Mention {
            finding: concept.id.clone(),
            category: concept.category.clone(),
            side: place.side,
            zones: names(place.zones),
            assertion: draft.assertion,
            span: span.clone(),
            text: text[span.clone()].into(),
            cue: cue.clone(),
        };
        places.into_iter().map(mention).collect()
    }
}

/// Where each sentence begins and ends; bullets and line feeds end one too.
fn sentences(chars: &[char]) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut start = 0;
    for (at, &c) in chars.iter().enumerate() {
        let next = chars.get(at + 1).copied().unwrap_or(' ');
        let ends = match c {
            '。' | '\n' | '\r' | '!' | '！' | ';' | '；' | '｡' | '■' | '◆' | '●' | '○' | '※' | '【'
            | '】' => true,
            // A point ends a sentence unless it is inside a number or an abbreviation.
            '.' | '．' => !next.is_alphanumeric(),
            _ => false,
        };
        if ends {
            ranges.push(start..at + 1);
            start = at + 1;
        }
    }
    ranges.push(start..chars.len());
    ranges
}

/// Words of the lexicon, none over another: longer ones first, then findings before all else, then the earlier.
fn find<'l>(lexicon: &'l Lexicon, chars: &[char]) -> Vec<Item<'l>> {
    let is_word = |at: Option<&char>| at.is_some_and(char::is_ascii_alphanumeric);
    let mut found = Vec::new();
    for start in 0..chars.len() {
        let Some(terms) = lexicon.terms.get(&chars[start]) else { continue };
        let rest = &chars[start..];
        for term in terms.iter().filter(|term| rest.starts_with(&term.chars)) {
            let end = start + term.chars.len();
            let cut = term.word && (start > 0 && is_word(chars.get(start - 1)) || is_word(chars.get(end)));
            if !cut {
                found.push(Item { start, end, roles: &term.roles });
            }
        }
    }
    let is_finding = |item: &Item| !item.roles.iter().any(|role| matches!(role, Role::Finding(_)));
    found.sort_by_key(|item| (std::cmp::Reverse(item.end - item.start), is_finding(item), item.start));
    let mut taken = vec![false; chars.len()];
    found.retain(|item| {
        let free = !taken[item.start..item.end].contains(&true);
        if free {
            taken[item.start..item.end].fill(true);
        }
        free
    });
    found.retain(|item| item.roles != [Role::Cue(CueKind::Ignore)]);
    found.sort_by_key(|item| item.start);
    found
}
