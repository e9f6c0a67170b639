//! Batched greedy decoding.
//!
//! Samples run in groups of one prompt, so rows of a batch have equal length and differ in their image alone. The text before
//! the image is run once and its keys and values copied to every row; the rest is run in chunks of rows to bound memory; then
//! all rows advance together, one token a step. A row that stops is compacted away: the last running row takes its place in
//! the cache.

use std::time::{Duration, Instant};

use candle_core::Tensor;

use super::questions::Group;
use super::{Error, Questions, Result, TextTokenizer};
use crate::model::{Features, KvCache, Llama, LlamaConfig, Prompt};

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
}

impl Default for Options {
    /// 256 new tokens, 64 rows, no end ids, no bound on the sequence but the model's.
    fn default() -> Self {
        Self { max_new_tokens: 256, batch_size: 64, prefill_rows: None, eos: Vec::new(), max_length: None }
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
    fn check(&self) -> Result<()> {
        if self.cancelled.is_some_and(|cancelled| cancelled()) { Err(Error::Cancelled) } else { Ok(()) }
    }
}

/// Float32 logits of prefill attention that one chunk may take, in bytes.
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

/// Generates for candidate after candidate in the same cache memory.
#[derive(Debug, Default)]
pub struct Generator {
    cache: Option<KvCache>,
    prefix: Option<KvCache>,
    spent: Spent,
}

impl Generator {
    /// A generator without memory; the first run takes it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Where the time of the last run went.
    pub fn spent(&self) -> Spent {
        self.spent
    }

    /// Bytes of the cache that the last run left, its shared prefix included.
    pub fn cache_bytes(&self) -> usize {
        self.cache.iter().chain(&self.prefix).map(KvCache::bytes).sum()
    }

    /// Answers for all samples, in their order.
    ///
    /// # Errors
    /// [`Error::Option`], [`Error::Cancelled`], or [`Error::Model`], which includes prompts longer than the model allows.
    pub fn generate(
        &mut self,
        language: &Llama,
        tokenizer: &TextTokenizer,
        questions: &Questions,
        options: &Options,
        control: Control,
    ) -> Result<Vec<Generated>> {
        check(options)?;
        let shape = |g: &Group| Sizes::of(language, &g.prompt, &g.features, options);
        let shapes = questions.groups().iter().map(shape).collect::<Result<Vec<_>>>()?;
        self.make_room(language, &shapes)?;
        let mut progress = Progress { samples_done: 0, samples: questions.len(), tokens: 0 };
        let mut answers: Vec<Option<Generated>> = vec![None; questions.len()];
        for (Group { samples, prompt, features }, shape) in questions.groups().iter().zip(&shapes) {
            let rows = self.run(language, prompt, features, shape, options, control, &mut progress)?;
            for (&sample, (token_ids, stop)) in samples.iter().zip(rows) {
                let text = match stop {
                    Stop::NonFinite => String::new(),
                    _ => tokenizer.decode(&token_ids)?,
                };
                answers[sample] = Some(Generated { token_ids, text, stop });
            }
        }
        Ok(answers.into_iter().flatten().collect())
    }

    /// As [`Generator::generate`] for samples of one prompt, without text and in the order of their features.
    ///
    /// # Errors
    /// As [`Generator::generate`].
    pub fn token_ids(
        &mut self,
        language: &Llama,
        prompt: &Prompt,
        features: &Features,
        options: &Options,
        control: Control,
        progress: &mut Progress,
    ) -> Result<Vec<(Vec<u32>, Stop)>> {
        check(options)?;
        if features.is_empty() {
            return Ok(Vec::new());
        }
        let shape = Sizes::of(language, prompt, features, options)?;
        self.make_room(language, std::slice::from_ref(&shape))?;
        self.run(language, prompt, features, &shape, options, control, progress)
    }

    /// Runs the samples of one prompt in the memory taken before.
    #[allow(clippy::too_many_arguments)]
    fn run(
        &mut self,
        language: &Llama,
        prompt: &Prompt,
        features: &Features,
        shape: &Sizes,
        options: &Options,
        control: Control,
        progress: &mut Progress,
    ) -> Result<Vec<(Vec<u32>, Stop)>> {
        let mut began = Instant::now();
        self.run_prefix(language, prompt, shape)?;
        let mut results = Vec::with_capacity(features.len());
        for first in (0..features.len()).step_by(shape.rows) {
            let rows = shape.rows.min(features.len() - first);
            control.check()?;
            let logits = self.prefill(language, prompt, features, first, rows, shape, control)?;
            logits.device().synchronize().map_err(crate::model::Error::from)?;
            self.spent.prefill += began.elapsed();
            began = Instant::now();
            results.extend(self.decode(language, logits, rows, shape, options, control, progress)?);
            self.spent.decode += began.elapsed();
            began = Instant::now();
        }
        Ok(results)
    }

    /// Takes cache memory for the largest of the groups, or keeps what the last run left if it is as large.
    fn make_room(&mut self, language: &Llama, shapes: &[Sizes]) -> Result<()> {
        self.spent = Spent::default();
        let most = |size: fn(&Sizes) -> usize| shapes.iter().map(size).max().unwrap_or(0);
        let (rows, capacity, shared) = (most(|s| s.rows), most(|s| s.capacity), most(|s| s.shared).max(1));
        let fits = |cache: &KvCache| cache.rows() == rows && cache.capacity() == capacity;
        if !self.cache.as_ref().is_some_and(fits) {
            // Freed first: the old and the new one together may not fit.
            self.cache = None;
            self.cache = Some(language.new_cache(rows, capacity)?);
        }
        if self.prefix.as_ref().is_none_or(|c| c.capacity() != shared) {
            self.prefix = Some(language.new_cache(1, shared)?);
        }
        Ok(())
    }

    fn caches(&self) -> Result<(&KvCache, &KvCache)> {
        match (&self.cache, &self.prefix) {
            (Some(cache), Some(prefix)) => Ok((cache, prefix)),
            _ => Err(Error::Option { option: "cache", reason: "was not prepared".into() }),
        }
    }

    /// Runs the text before the image once; its keys and values serve every row of every batch.
    fn run_prefix(&self, language: &Llama, prompt: &Prompt, shape: &Sizes) -> Result<()> {
        if shape.shared > 0 {
            language.forward(&prompt.embed_shared(language)?, self.caches()?.1, 0, 0)?;
        }
        Ok(())
    }

    /// Runs the rest of the prompt for `rows` rows and gives their logits (B, V).
    #[allow(clippy::too_many_arguments)]
    fn prefill(
        &self,
        language: &Llama,
        prompt: &Prompt,
        features: &Features,
        first: usize,
        rows: usize,
        shape: &Sizes,
        control: Control,
    ) -> Result<Tensor> {
        let (cache, prefix) = self.caches()?;
        cache.fill_prefix(prefix, shape.shared, rows)?;
        let mut logits = Vec::new();
        for row in (0..rows).step_by(shape.prefill_rows) {
            control.check()?;
            let count = shape.prefill_rows.min(rows - row);
            let features = features.rows(first + row, count).map_err(Error::Model)?;
            let embeds = prompt.embed_rest(language, &features)?;
            let hidden = language.forward(&embeds, cache, row, shape.shared)?;
            logits.push(language.logits(&hidden)?);
        }
        Ok(if logits.len() == 1 {
            logits.swap_remove(0)
        } else {
            Tensor::cat(&logits, 0).map_err(crate::model::Error::from)?
        })
    }

    /// Advances all rows until each has ended.
    #[allow(clippy::too_many_arguments)]
    fn decode(
        &mut self,
        language: &Llama,
        mut logits: Tensor,
        rows: usize,
        shape: &Sizes,
        options: &Options,
        control: Control,
        progress: &mut Progress,
    ) -> Result<Vec<(Vec<u32>, Stop)>> {
        let (mut steps, mut row_steps) = (0, 0);
        let cache = self.caches()?.0;
        let mut ids: Vec<Vec<u32>> = vec![Vec::new(); rows];
        let mut stops = vec![Stop::Length; rows];
        // Which sample runs in each row of the cache; its length is the number of running rows.
        let mut running: Vec<usize> = (0..rows).collect();
        for step in 0..shape.new_tokens {
            control.check()?;
            let chosen = language.greedy(&logits)?;
            let mut next: Vec<u32> = Vec::with_capacity(running.len());
            let mut ended = vec![false; running.len()];
            for ((&sample, choice), ended) in running.iter().zip(&chosen).zip(&mut ended) {
                match choice {
                    Some(id) => {
                        ids[sample].push(*id);
                        progress.tokens += 1;
                        next.push(*id);
                        if options.eos.contains(id) {
                            stops[sample] = Stop::Eos;
                            *ended = true;
                        }
                    }
                    None => {
                        stops[sample] = Stop::NonFinite;
                        next.push(0);
                        *ended = true;
                    }
                }
            }
            let last = step + 1 == shape.new_tokens;
            let before = running.len();
            if last {
                running.clear();
            } else {
                // From the end, so that the row that moves into a gap is one that runs on.
                for row in (0..before).rev().filter(|&row| ended[row]) {
                    let from = running.len() - 1;
                    cache.move_row(from, row)?;
                    running.swap_remove(row);
                    next.swap_remove(row);
                }
            }
            progress.samples_done += before - running.len();
            if let Some(report) = control.progress {
                report(*progress);
            }
            if running.is_empty() {
                break;
            }
            let embeds = language.embed(&next)?.unsqueeze(1).map_err(crate::model::Error::from)?;
            let hidden = language.forward(&embeds, cache, 0, shape.prompt + step)?;
            logits = language.logits(&hidden)?;
            steps += 1;
            row_steps += next.len();
        }
        self.spent.steps += steps;
        self.spent.row_steps += row_steps;
        Ok(ids.into_iter().zip(stops).collect())
    }
}

/// Whether the options are in range.
fn check(options: &Options) -> Result<()> {
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

/// The sizes of one run of a [`Generator`] over samples of one prompt: what it allocates follows from them alone, so a
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
    /// The sizes for `samples` samples whose prompt has `shared` positions before the image and `prompt` in all.
    ///
    /// # Errors
    /// [`Error::Option`] when the prompt leaves no room for a token.
    pub fn new(
        config: &LlamaConfig,
        shared: usize,
        prompt: usize,
        samples: usize,
        options: &Options,
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
        let each = 4 * config.num_attention_heads * prompt * prompt * size_of::<f32>();
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

    fn of(language: &Llama, prompt: &Prompt, features: &Features, options: &Options) -> Result<Self> {
        Self::new(language.config(), prompt.before.len(), prompt.positions(), features.len(), options)
    }
}
