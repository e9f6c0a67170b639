//! Scores a generated chest X-ray report against its reference.
//!
//! ```
//! use score::{Scorer, Settings};
//!
//! let scorer = Scorer::new(Settings::default())?;
//! let scores = scorer.score("右胸水を認める。気胸なし。", "右に胸水あり。気胸は認めない。");
//! assert_eq!(scores.metrics["term_f1"], 1.0);
//! assert!(scores.metrics["rouge_l"] < 1.0);
//! # Ok::<(), score::Error>(())
//! ```
//!
//! In go two texts, out come numbers by name ([`METRICS`]): BLEU in three forms, ROUGE, and a medical-term F1
//! that knows denial and doubt. Every function is pure; nothing here reads a data set, touches a network or
//! loads a model. Dictionaries and lexicon are part of the program, see `data/README.md`.
//!
//! Reading order: [`tokenize`] (text to tokens), [`ngram`], [`bleu`], [`rouge`] (tokens to numbers), [`term`]
//! (text to mentions to numbers), [`bootstrap`] (numbers to intervals), [`finalists`]
//! (intervals to a winner), [`Scorer`] (all of it).
#![forbid(unsafe_code)]

pub mod bleu;
pub mod bootstrap;
pub mod built_in;
pub mod error;
pub mod finalists;
pub mod metric;
pub mod ngram;
pub mod rouge;
mod scorer;
pub mod term;
pub mod tokenize;

pub use bootstrap::{Interval, paired_difference};
pub use error::{Error, Result};
pub use metric::{METRICS, MetricInfo, MetricSet};
pub use scorer::{Corpus, Reference, SampleScores, Scorer, Settings, Summary, summarise};
pub use tokenize::TokenizerKind;
