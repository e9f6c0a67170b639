//! Medical-term F1: which findings two reports agree on, with side, zone and assertion.
//!
//! A text is read by [`Matcher`] into [`Mention`]s with the words of a [`Lexicon`]; [`compare`](score::compare)
//! counts what two texts have in common. Without assertions 「胸水なし」 would count as a hit for 胸水, the trap
//! that this metric exists to avoid. There is no reference implementation: what a sentence is taken to mean is
//! stated case by case in `tests/mentions.rs`.
//!
//! Reading order: `lexicon` (data), `fold` (spelling), `matcher` (words in a text), `assertion` (what they
//! say), `score` (counts).

pub mod assertion;
pub mod fold;
pub mod lexicon;
mod lexicon_file;
pub mod matcher;
pub mod place;
pub mod score;

pub use lexicon::{Lexicon, LexiconChoice};
pub use matcher::{Cue, Matcher, Mention};
pub use score::{FindingCounts, TermCounts};

use serde::{Deserialize, Serialize};

/// The body side that a mention is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Not stated, or the finding has none.
    #[default]
    None,
    /// The patient's right.
    Right,
    /// The patient's left.
    Left,
    /// Both sides.
    Both,
}

/// What a report says of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Assertion {
    /// It is there; also 「減少」「改善」「既知の」: it is still there.
    Present,
    /// It is not there.
    Absent,
    /// It may be there: 疑い, 可能性, 否定できない, 考えられる.
    Uncertain,
    /// It was there: 術後, 既往.
    History,
}
