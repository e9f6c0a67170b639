//! Batched greedy decoding.
//!
//! Samples run in batches of `batch_size`, in their order, so that which samples run together is a function of the run
//! alone. Within a batch those of one prompt run together: rows have equal length and differ in their image alone. The
//! text before the image is run once and its keys and values copied to every row; the rest is run in chunks of rows to
//! bound memory; then all rows advance together, one token a step. A row that stops is handed over at once and compacted
//! away: the last running row takes its place in the cache.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use candle_core::Tensor;

use super::batch::{Control, Generated, Options, Progress, Sizes, Spent, Stop, check};
use super::degenerate::{Cycles, lacks_japanese};
use super::questions::Group;
use super::{Error, Questions, Result, TextTokenizer};
use crate::model::{Features, KvCache, Llama, Prompt};

/// Generates for candidate after candidate in the same cache memory.
#[derive(Debug, Default)]
pub struct Generator {
    cache: Option<KvCache>,
    prefix: Option<KvCache>,
    spent: Spent,
    clock: Clock,
}

/// What the present run has spent on prompts so far, for who is told of answers while it lasts.
#[derive(Clone, Debug, Default)]
pub struct Clock(Arc<AtomicU64>);

impl Clock {
    /// So far.
    pub fn prefill(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Relaxed))
    }

    fn set(&self, prefill: Duration) {
        self.0.store(u64::try_from(prefill.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// Rows of one prompt that run together.
struct Batch<'a> {
    language: &'a Llama,
    /// Told what a row says where that decides whether it goes on.
    tokenizer: Option<&'a TextTokenizer>,
    prompt: &'a Prompt,
    features: &'a Features,
    /// Which of the features, ascending.
    rows: &'a [usize],
    shape: &'a Sizes,
    options: &'a Options,
    control: Control<'a>,
}

/// Told of each row that has ended: its number among the rows of its batch, its ids, and why it ended.
type Ended<'a> = &'a mut dyn FnMut(usize, Vec<u32>, Stop) -> Result<()>;

impl Generator {
    /// A generator without memory; the first run takes it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Where the time of the last run went.
    pub fn spent(&self) -> Spent {
        self.spent
    }

    /// Where the time of the present run goes, for the callbacks of [`Generator::generate_each`].
    pub fn clock(&self) -> Clock {
        self.clock.clone()
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
        let mut answers: Vec<Option<Generated>> = vec![None; questions.len()];
        let mut every = |batch: Range<usize>| batch.collect();
        let mut each = |sample: usize, generated| {
            answers[sample] = Some(generated);
            Ok(())
        };
        self.generate_each(language, tokenizer, questions, options, control, &mut every, &mut each)?;
        Ok(answers.into_iter().flatten().collect())
    }

    /// Answers batch after batch, and hands over each answer as soon as it has ended.
    ///
    /// As each batch begins, `begin` is told its samples and says which of them to answer, ascending. `each` is told
    /// the sample's number and its answer.
    ///
    /// # Errors
    /// As [`Generator::generate`], and what `each` returns.
    #[allow(clippy::too_many_arguments)]
    pub fn generate_each(
        &mut self,
        language: &Llama,
        tokenizer: &TextTokenizer,
        questions: &Questions,
        options: &Options,
        control: Control,
        begin: &mut dyn FnMut(Range<usize>) -> Vec<usize>,
        each: &mut dyn FnMut(usize, Generated) -> Result<()>,
    ) -> Result<()> {
        check(options)?;
        let shape = |g: &Group| Sizes::of(language, &g.prompt, &g.features, options);
        let shapes = questions.groups().iter().map(shape).collect::<Result<Vec<_>>>()?;
        self.make_room(language, &shapes)?;
        let mut progress = Progress { samples_done: 0, samples: questions.len(), tokens: 0 };
        let mut prefix = None;
        for first in (0..questions.len()).step_by(options.batch_size) {
            control.check()?;
            let wanted = begin(first..(first + options.batch_size).min(questions.len()));
            for (number, (group, shape)) in questions.groups().iter().zip(&shapes).enumerate() {
                let Group { samples, prompt, features } = group;
                let rows: Vec<usize> =
                    wanted.iter().filter_map(|sample| samples.binary_search(sample).ok()).collect();
                if rows.is_empty() {
                    continue;
                }
                if prefix != Some(number) {
                    self.run_prefix(language, prompt, shape)?;
                    prefix = Some(number);
                }
                let (rows, tokenizer) = (&rows[..], Some(tokenizer));
                let batch = Batch { language, tokenizer, prompt, features, rows, shape, options, control };
                let mut ended = |row: usize, token_ids: Vec<u32>, stop| {
                    let text = match (stop, tokenizer) {
                        (Stop::NonFinite, _) | (_, None) => String::new(),
                        (_, Some(tokenizer)) => tokenizer.decode(&token_ids)?,
                    };
                    each(samples[rows[row]], Generated { token_ids, text, stop })
                };
                self.run(&batch, &mut progress, &mut ended)?;
            }
        }
        Ok(())
    }

    /// As [`Generator::generate`] for samples of one prompt, without text and in the order of their features. No answer
    /// is looked at for its language.
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
        let shape = &Sizes::of(language, prompt, features, options)?;
        self.make_room(language, std::slice::from_ref(shape))?;
        self.run_prefix(language, prompt, shape)?;
        let mut answers = vec![(Vec::new(), Stop::Length); features.len()];
        let all: Vec<usize> = (0..features.len()).collect();
        for rows in all.chunks(shape.rows) {
            let batch = Batch { language, tokenizer: None, prompt, features, rows, shape, options, control };
            self.run(&batch, progress, &mut |row, ids, stop| {
                answers[rows[row]] = (ids, stop);
                Ok(())
            })?;
        }
        Ok(answers)
    }

    /// Runs one batch in the memory taken before; its prefix has been run.
    fn run(&mut self, batch: &Batch, progress: &mut Progress, ended: Ended) -> Result<()> {
        batch.control.check()?;
        let began = Instant::now();
        let logits = self.prefill(batch)?;
        logits.device().synchronize().map_err(crate::model::Error::from)?;
        self.spent.prefill += began.elapsed();
        self.clock.set(self.spent.prefill);
        let (began, mut elsewhere) = (Instant::now(), Duration::ZERO);
        self.decode(batch, logits, progress, &mut |row, ids, stop| {
            let began = Instant::now();
            let told = ended(row, ids, stop);
            elsewhere += began.elapsed();
            told
        })?;
        self.spent.decode += began.elapsed().saturating_sub(elsewhere);
        Ok(())
    }

    /// Takes cache memory for the largest of the groups, or keeps what the last run left if it is as large.
    fn make_room(&mut self, language: &Llama, shapes: &[Sizes]) -> Result<()> {
        self.spent = Spent::default();
        self.clock.set(Duration::ZERO);
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

    /// Runs the text before the image once; its keys and values serve every row of every batch of this prompt.
    fn run_prefix(&mut self, language: &Llama, prompt: &Prompt, shape: &Sizes) -> Result<()> {
        let began = Instant::now();
        if shape.shared > 0 {
            language.forward(&prompt.embed_shared(language)?, self.caches()?.1, 0, 0)?;
        }
        self.spent.prefill += began.elapsed();
        self.clock.set(self.spent.prefill);
        Ok(())
    }

    /// Runs the rest of the prompt for the rows and gives their logits (B, V).
    fn prefill(&self, batch: &Batch) -> Result<Tensor> {
        let Batch { language, prompt, features, rows, shape, .. } = batch;
        let (cache, prefix) = self.caches()?;
        cache.fill_prefix(prefix, shape.shared, rows.len())?;
        let mut logits = Vec::new();
        for (chunk, numbers) in rows.chunks(shape.prefill_rows).enumerate() {
            batch.control.check()?;
            // The copy of the features is gone before the pass.
            let embeds = prompt.embed_rest(language, &features.pick(numbers).map_err(Error::Model)?)?;
            let hidden = language.forward(&embeds, cache, chunk * shape.prefill_rows, shape.shared)?;
            logits.push(language.logits(&hidden)?);
        }
        Ok(if logits.len() == 1 {
            logits.swap_remove(0)
        } else {
            Tensor::cat(&logits, 0).map_err(crate::model::Error::from)?
        })
    }

    /// Advances all rows until each has ended.
    fn decode(
        &mut self,
        batch: &Batch,
        mut logits: Tensor,
        progress: &mut Progress,
        ended: Ended,
    ) -> Result<()> {
        let Batch { language, shape, .. } = batch;
        let (mut steps, mut row_steps) = (0, 0);
        let cache = self.caches()?.0;
        let mut rows = Rows::new(batch);
        for step in 0..shape.new_tokens {
            batch.control.check()?;
            let chosen = language.greedy(&logits)?;
            let (mut next, stops) = rows.take(&chosen, step + 1 == shape.new_tokens)?;
            progress.tokens += chosen.iter().flatten().count();
            // From the end, so that the row that moves into a gap is one that runs on.
            for (row, stop) in stops.into_iter().enumerate().rev() {
                let Some(stop) = stop else { continue };
                let (number, ids) = rows.leave(row);
                ended(number, ids, stop)?;
                progress.samples_done += 1;
                cache.move_row(rows.running.len(), row)?;
                next.swap_remove(row);
            }
            if let Some(report) = batch.control.progress {
                report(*progress);
            }
            if rows.running.is_empty() {
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
        Ok(())
    }
}

/// What the rows of a batch have written.
struct Rows<'a> {
    options: &'a Options,
    tokenizer: Option<&'a TextTokenizer>,
    ids: Vec<Vec<u32>>,
    cycles: Vec<Option<Cycles>>,
    /// Which row of the batch runs in each row of the cache; its length is the number of running rows.
    running: Vec<usize>,
}

impl<'a> Rows<'a> {
    fn new(batch: &Batch<'a>) -> Rows<'a> {
        let count = batch.rows.len();
        Rows {
            options: batch.options,
            tokenizer: batch.tokenizer,
            ids: vec![Vec::new(); count],
            cycles: vec![batch.options.early.cycle.map(Cycles::new); count],
            running: (0..count).collect(),
        }
    }

    /// Takes the tokens chosen for the running rows. Yields what each goes on with, and why it ends where it does.
    fn take(&mut self, chosen: &[Option<u32>], last: bool) -> Result<(Vec<u32>, Vec<Option<Stop>>)> {
        let mut next = Vec::with_capacity(chosen.len());
        let mut stops = Vec::with_capacity(chosen.len());
        for (choice, &row) in chosen.iter().zip(&self.running) {
            next.push(choice.unwrap_or(0));
            let Some(id) = choice else {
                stops.push(Some(Stop::NonFinite));
                continue;
            };
            let ids = &mut self.ids[row];
            ids.push(*id);
            // Looked at even where the row ends otherwise: every token is to be shown once.
            let circles = self.cycles[row].as_mut().is_some_and(|c| c.push(ids));
            let looked_at = self.options.early.no_japanese_after == Some(ids.len());
            stops.push(match self.tokenizer {
                _ if self.options.eos.contains(id) => Some(Stop::Eos),
                _ if last => Some(Stop::Length),
                _ if circles => Some(Stop::Repetition),
                Some(tokenizer) if looked_at && lacks_japanese(tokenizer, ids)? => Some(Stop::NoJapanese),
                _ => None,
            });
        }
        Ok((next, stops))
    }

    /// Takes a row out; the last running one takes its place.
    fn leave(&mut self, row: usize) -> (usize, Vec<u32>) {
        let number = self.running.swap_remove(row);
        (number, std::mem::take(&mut self.ids[number]))
    }
}
