//! What goes into a run of the generator and what comes out of it, and the sizes that follow from it.

use std::time::Duration;

use super::degenerate::Early;
use super::{Error, Result};
use crate::model::{Features, Llama, LlamaConfig, Passes, Prompt};

/// What a run fixes about generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Most tokens a sample may get, the stop token included; at least 1.
    pub max_new_tokens: usize,
    /// Rows that advance together; at least 1. Results do not depend on it beyond rounding.
    pub batch_size: usize,
    /// Rows whose prompts are run together; none picks a number from a memory bound.
    pub prefill_rows: Option<usize>,
    /// Ids that end an answer.
    pub eos: Vec<u32>,
    /// Longest sequence, prompt and answer together, below the model's own bound; none leaves it at that.
    pub max_length: Option<usize>,
    /// Which answers end before the model or the limit ends them.
    pub early: Early,
}

impl Default for Options {
    /// 256 new tokens, 64 rows, no end ids, no bound on the sequence but the model's.
    fn default() -> Self {
        Self {
            max_new_tokens: 256,
            batch_size: 64,
            prefill_rows: None,
            eos: Vec::new(),
            max_length: None,
            early: Early::default(),
        }
    }
}

/// Why a row ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// An end id was chosen.
    Eos,
    /// `max_new_tokens` was reached.
    Length,
    /// A logit was NaN or infinite; the text is empty, whatever was written before.
    NonFinite,
    /// It went in circles; the text so far is kept.
    Repetition,
    /// It held nothing Japanese where it should long have; the text so far is kept.
    NoJapanese,
}

/// One sample's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generated {
    /// The ids chosen, in order. The end id is included when one was chosen, as transformers returns it.
    pub token_ids: Vec<u32>,
    /// The ids decoded: special tokens left out, trimmed. Empty after [`Stop::NonFinite`].
    pub text: String,
    /// Why it ended.
    pub stop: Stop,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Samples that have ended.
    pub samples_done: usize,
    /// Samples in all.
    pub samples: usize,
    /// Tokens chosen so far.
    pub tokens: usize,
}

/// How a caller watches and stops a run. Both are called between steps.
#[derive(Clone, Copy, Default)]
pub struct Control<'a> {
    /// Returns true to end the run with [`Error::Cancelled`].
    pub cancelled: Option<&'a dyn Fn() -> bool>,
    /// Told after every step.
    pub progress: Option<&'a dyn Fn(Progress)>,
}

impl Control<'_> {
    pub(super) fn check(&self) -> Result<()> {
        if self.cancelled.is_some_and(|cancelled| cancelled()) { Err(Error::Cancelled) } else { Ok(()) }
    }
}

/// Scores of prefill attention that one chunk may take, in bytes.
const PREFILL_BYTES: usize = 512 << 20;

/// Where the time of a run went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Running prompts.
    pub prefill: Duration,
    /// Advancing rows by one token a step.
    pub decode: Duration,
    /// Passes over the weights that decoding took.
    pub steps: usize,
    /// Rows of all those passes together.
    pub row_steps: usize,
}

/// Whether the options are in range.
pub(super) fn check(options: &Options) -> Result<()> {
    let given = [
        ("max_new_tokens", Some(options.max_new_tokens)),
        ("batch_size", Some(options.batch_size)),
        ("prefill_rows", options.prefill_rows),
    ];
    match given.iter().find(|(_, value)| *value == Some(0)) {
        Some((option, _)) => Err(Error::Option { option, reason: "must be at least 1".into() }),
        None => Ok(()),
    }
}

/// The sizes of one run of a [`super::Generator`] over samples of one prompt: what it allocates follows from them alone, so a
/// memory plan asks here too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Rows of the cache: samples that advance together.
    pub rows: usize,
    /// Positions of the text before the image, which all samples share.
    pub shared: usize,
    /// Positions of the whole prompt, the image's included.
    pub prompt: usize,
    /// Most new tokens a sample.
    pub new_tokens: usize,
    /// Positions that a row of the cache holds.
    pub capacity: usize,
    /// Rows whose prompts are run together.
    pub prefill_rows: usize,
}

impl Sizes {
    /// The sizes for `samples` samples whose prompt has `shared` positions before the image and `prompt` in all, by a model whose passes
    /// are computed in that way.
    ///
    /// # Errors
    /// [`Error::Option`] when the prompt leaves no room for a token.
    pub fn new(
        config: &LlamaConfig,
        shared: usize,
        prompt: usize,
        samples: usize,
        options: &Options,
        passes: Passes,
    ) -> Result<Self> {
        let rows = options.batch_size.min(samples).max(1);
        let limit = options.max_length.unwrap_or(usize::MAX).min(config.max_position_embeddings);
        let room = limit.saturating_sub(prompt);
        if room == 0 {
            return Err(Error::Option {
                option: "prompt",
                reason: format!("takes {prompt} positions, which leaves no room within {limit}"),
            });
        }
        let new_tokens = options.max_new_tokens.min(room);
        // Attention scores are the largest temporary of a plain prefill, and a few of them are alive at once.
        let alive = if passes == Passes::Gpu { 1 } else { 4 };
        let each = alive * config.num_attention_heads * prompt * prompt * size_of::<f32>();
        let prefill_rows = options.prefill_rows.unwrap_or(PREFILL_BYTES / each.max(1)).clamp(1, rows);
        Ok(Self {
            rows,
            shared,
            prompt,
            new_tokens,
            // The last token chosen is never run, so it needs no place.
            capacity: prompt + new_tokens - 1,
            prefill_rows,
        })
    }

    pub(super) fn of(
        language: &Llama,
        prompt: &Prompt,
        features: &Features,
        options: &Options,
    ) -> Result<Self> {
        let (shared, positions) = (prompt.before.len(), prompt.positions());
        Self::new(language.config(), shared, positions, features.len(), options, language.passes())
    }
}
