//! Recipe → merged weights → reports → scores: the evaluator that a worker runs.
//!
//! What does not change between candidates is made once: opened files, image features, prompt, tokenised
//! references, cache memory. A candidate overwrites the language model's weights in place. They are rounded to the
//! type that the VLM is stored in first, so that what is scored is what an exported model holds.

use crate::checkpoint::Dtype;
use crate::data::read_image;
use crate::device::Chosen;
use crate::evaluator::{Control, EvaluateError, Evaluator, Stage};
use crate::generate::{
    Control as GenerateControl, Early, Error as GenerateError, Generated, Generator, Options, Questions,
    Spent,
};
use crate::locate::Locator;
use crate::memory::MemoryPlan;
use crate::merge::{self, Fit, Merger, Mill, Placement, Prepared};
use crate::model::Llama;
use crate::vlm::Vlm;
use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use common::dataset::Reference;
use common::digest::Digest;
use common::evaluation::{Evaluation, SampleResult, Stop, Timings};
use common::recipe::Recipe;
use common::run::{DatasetPlan, EarlyStopPlan, ExternalPlan, GenerationPlan, Reports, RunPlan, ScoringPlan};
use external::{Fault, Metrics, Row};
use half::{bf16, f16};
use score::term::LexiconChoice;
use score::{MetricSet, Scorer};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Samples with everything about them that no candidate changes.
#[derive(Debug)]
pub struct Exam {
    references: Vec<Reference>,
    /// Each sample's image on this machine, for metrics that look at it.
    images: Vec<String>,
    /// The references, tokenised and searched for terms.
    prepared: Vec<score::Reference>,
    questions: Questions,
    options: Options,
    /// What encoding the images took, in milliseconds, until an evaluation has told it.
    features_ms: AtomicU64,
}

impl Exam {
    /// Encodes the samples' images and prepares their references.
    pub fn prepare(
        vlm: &Vlm,
        scorer: &Scorer,
        dataset: &DatasetPlan,
        references: Vec<Reference>,
        task: &str,
        generation: &GenerationPlan,
    ) -> Result<Exam> {
        let paths =
            references.iter().map(|r| Path::new(&dataset.images).join(&r.image).display().to_string());
        let paths = paths.collect();
        let images = references.iter().enumerate().map(|(i, r)| read_image(dataset, i, r));
        let began = Instant::now();
        let questions = vlm.questions(images, generation.image_resize, task)?;
        let features_ms = AtomicU64::new(whole_millis(began.elapsed()));
        let prepared = references.iter().map(|r| scorer.prepare(&r.text)).collect();
        let options = options(vlm, generation);
        Ok(Exam { references, images: paths, prepared, questions, options, features_ms })
    }

    /// The samples, in order.
    pub fn references(&self) -> &[Reference] {
        &self.references
    }

    /// The same samples with reports that end early as a run wants it.
    pub fn ending_early(mut self, plan: Option<&EarlyStopPlan>) -> Exam {
        self.options.early = Early {
            cycle: plan.and_then(|p| p.repetition).map(|r| (r.period as usize, r.repeats as usize)),
            no_japanese_after: plan.and_then(|p| p.no_japanese_after).map(|n| n as usize),
        };
        self
    }

    /// The built-in scores of given texts, one per sample in order, as if a model had written them.
    pub fn score_texts(&self, scorer: &Scorer, texts: &[String]) -> Vec<SampleResult> {
        let score =
            |(sample, text): (usize, &String)| self.score_text(scorer, sample, text.clone(), 0, Stop::End);
        texts.iter().enumerate().map(score).collect()
    }

    /// Adds what external metrics say of samples, given with their positions, in one call of each metric.
    fn add_external(
        &self,
        external: &mut Metrics,
        samples: &mut [(usize, SampleResult)],
        control: &Control,
    ) -> Result<(), Fault> {
        if external.is_empty() || samples.is_empty() {
            return Ok(());
        }
        let mut rows = Vec::with_capacity(samples.len());
        for (position, sample) in samples.iter() {
            let (reference, image) = (&self.references[*position], self.images[*position].as_str());
            let (id, truth) = (&reference.id, &reference.text);
            let (position, text) = (*position, &sample.text);
            rows.push(Row { position, sample: id, text, reference: truth, image: Some(image) });
        }
        let scores = external.score(&rows, &|| control.is_cancelled())?;
        samples.iter_mut().zip(scores).for_each(|((_, sample), scores)| sample.scores.extend(scores));
        Ok(())
    }

    /// Scores one sample's text.
    fn score_text(
        &self,
        scorer: &Scorer,
        sample: usize,
        text: String,
        tokens: u32,
        stop: Stop,
    ) -> SampleResult {
        let scores = scorer.score_prepared(&self.prepared[sample], &text, MetricSet::ALL).metrics;
        SampleResult { sample: self.references[sample].id.clone(), text, tokens, stop, scores, kept: None }
    }
}

/// Decoding limits as the generator takes them.
pub fn options(vlm: &Vlm, generation: &GenerationPlan) -> Options {
    Options {
        max_new_tokens: generation.max_new_tokens as usize,
        batch_size: generation.batch_size as usize,
        eos: vlm.eos.clone(),
        ..Options::default()
    }
}

/// Makes the scorer of a run.
pub fn scorer(plan: &ScoringPlan) -> Result<Scorer> {
    let ScoringPlan { tokenizer, lexicon, extend_lexicon, absent_weight, nfkc, .. } = plan;
    let settings =
        score::Settings { nfkc: *nfkc, absent_weight: *absent_weight, ..score::Settings::default() };
    let lexicon = LexiconChoice::of_files(lexicon.as_deref(), extend_lexicon.as_deref())?;
    Ok(Scorer::new(score::Settings { tokenizer: tokenizer.clone().into(), lexicon, ..settings })?)
}

/// What all slots of a worker share.
#[derive(Debug)]
pub struct Bench {
    /// The run's models, opened.
    pub merger: Merger,
    /// How the sources and their own bases fit the base.
    pub fits: Vec<Fit>,
    /// Where merges go in the VLM.
    pub placement: Placement,
    /// The VLM among them.
    pub vlm: Vlm,
    /// Compares texts.
    pub scorer: Scorer,
    /// Merges on the GPU; none where the host does.
    pub mill: Option<Arc<dyn Mill>>,
    /// Metrics that are commands, by name.
    pub external: BTreeMap<String, ExternalPlan>,
    /// Whose texts they score: where reports stay here, what commands say stays here too.
    pub reports: Reports,
}

impl Bench {
    /// A model by itself, that answers and is not merged.
    pub fn of_model(vlm: Vlm, scorer: Scorer, external: BTreeMap<String, ExternalPlan>) -> Bench {
        let (merger, placement) = (Merger::default(), Placement::default());
        let reports = Reports::Coordinator;
        Bench { merger, fits: Vec::new(), placement, vlm, scorer, mill: None, external, reports }
    }

    /// Opens the models of a run on the chosen device.
    pub fn open(plan: &RunPlan, locator: &Locator, chosen: &Chosen) -> Result<Bench> {
        let merger = Merger::open(plan.model_refs(), |m| locator.model(m))?;
        let vlm = merger.model(&plan.models.vlm.name).context("a run has a VLM")?;
        let vlm = Vlm::of(vlm.clone(), chosen)?;
        // What does not fit is said now, not at the first candidate.
        let recipe = Recipe { convention: plan.merge.convention, ..plan.authors_middle() };
        let fits = merger.fits(&recipe)?;
        let placement = merger.placement(&recipe)?;
        let (scorer, external) = (scorer(&plan.scoring)?, plan.scoring.external.clone());
        Ok(Bench { vlm, merger, fits, placement, scorer, mill: None, external, reports: plan.reports })
    }

    /// Merges from now on where the memory plan has it: on the GPU, base and sources kept there or streamed, or on the host.
    ///
    /// # Errors
    /// When the GPU cannot be used for it.
    pub fn follow(&mut self, plan: &MemoryPlan) -> Result<()> {
        let Chosen { device, merges_on_gpu, .. } = &self.vlm.chosen;
        self.mill = if *merges_on_gpu { merge::mill(device, plan.resident)? } else { None };
        Ok(())
    }

    /// Makes a recipe ready, where merges are made.
    ///
    /// # Errors
    /// As [`Merger::plan`] and [`Merger::plan_with`].
    pub fn prepare(&self, recipe: &Recipe, stop: &AtomicBool) -> merge::Result<Prepared> {
        match &self.mill {
            Some(mill) => self.merger.plan_with(&**mill, recipe, stop),
            None => self.merger.plan(recipe, stop),
        }
    }

    /// Encodes and prepares a dataset of the run.
    pub fn exam(&self, plan: &RunPlan, dataset: &DatasetPlan, references: Vec<Reference>) -> Result<Exam> {
        Exam::prepare(&self.vlm, &self.scorer, dataset, references, &plan.task, &plan.generation)
    }
}

/// One slot: a language model that candidates are written into, and cache memory.
pub struct Pipeline {
    bench: Arc<Bench>,
    exam: Arc<Exam>,
    language: Llama,
    generator: Generator,
    /// The recipe whose merge `language` holds.
    held: Option<Digest>,
    external: Metrics,
}

impl Pipeline {
    /// Takes memory for one candidate at a time.
    pub fn new(bench: Arc<Bench>, exam: Arc<Exam>) -> Result<Pipeline> {
        let language = bench.vlm.answering()?;
        let external = Metrics::new(&bench.external).keeping_words(bench.reports);
        Ok(Pipeline { bench, exam, language, generator: Generator::new(), held: None, external })
    }

    /// Goes on with other samples and the same model.
    pub fn set_exam(&mut self, exam: Arc<Exam>) {
        self.exam = exam;
    }

    /// Where the time of the last generation went.
    pub fn spent(&self) -> Spent {
        self.generator.spent()
    }

    /// Overwrites the language model with the merge of `recipe`, unless that is what it holds.
    pub fn merge(&mut self, recipe: &Recipe, cancelled: &dyn Fn() -> bool) -> Result<(), EvaluateError> {
        let wanted = Some(recipe.digest());
        if self.held == wanted {
            return Ok(());
        }
        // The passes over the whole model are short against a tensor's, so they are not interrupted.
        let bench = self.bench.clone();
        let prepared = bench.prepare(recipe, &AtomicBool::new(false)).map_err(refusal)?;
        self.write(&prepared, cancelled)?;
        self.held = wanted;
        Ok(())
    }

    /// Overwrites the language model with a merge that is ready, tensor by tensor.
    pub fn write(&mut self, prepared: &Prepared, cancelled: &dyn Fn() -> bool) -> Result<(), EvaluateError> {
        // Until all is written it is nobody's merge.
        self.held = None;
        for name in prepared.names() {
            if cancelled() {
                return Err(EvaluateError::Cancelled);
            }
            if self.written_there(prepared, name).map_err(failure)? {
                continue;
            }
            let merged = match self.bench.placement.is_whole(name) {
                true => merged_tensor(prepared, name, self.stored_dtype(name)).map_err(failure)?,
                false => self.placed_tensor(prepared, name).map_err(failure)?,
            };
            self.language.weights().overwrite(name, &merged).map_err(failure)?;
        }
        // What a GPU was told to do is done, so that the time of a merge is its own.
        self.bench.vlm.chosen.device.synchronize().map_err(failure)
    }

    /// Lets the GPU merge a tensor where its weight lies. False where that is left to the host.
    fn written_there(&self, prepared: &Prepared, name: &str) -> merge::Result<bool> {
        let weight = self.language.weights().parameter(name);
        let whole = self.bench.placement.is_whole(name);
        let (Some(mill), Some(weight), true) = (&self.bench.mill, weight, whole) else { return Ok(false) };
        let stored = self.bench.vlm.checkpoint.info(name).map_or(Dtype::F32, |i| i.dtype);
        mill.write(prepared, name, stored, weight)
    }

    /// A tensor of which the VLM keeps rows of its own.
    fn placed_tensor(&self, prepared: &Prepared, name: &str) -> Result<Tensor> {
        let vlm = &self.bench.vlm.checkpoint;
        let mut bytes = Vec::new();
        self.bench.placement.tensor_bytes(prepared, vlm, name, &mut bytes)?;
        let shape = &vlm.info(name).context("a placed tensor is the VLM's")?.shape;
        Ok(Tensor::from_raw_buffer(&bytes, self.stored_dtype(name), shape, &Device::Cpu)?)
    }

    fn stored_dtype(&self, name: &str) -> DType {
        let info = self.bench.vlm.checkpoint.info(name);
        info.and_then(|i| i.dtype.candle()).unwrap_or(DType::F32)
    }

    /// Generates and scores what `begin` asks for of each batch, with the weights as they are, and hands each sample to
    /// `each` as soon as it has ended; where a metric looks at all reports of a candidate, once all have. Yields what
    /// that took.
    fn write_reports(
        &mut self,
        control: &Control,
        merge_ms: u64,
        begin: &mut dyn FnMut(Range<usize>) -> Vec<usize>,
        each: &mut dyn FnMut(usize, SampleResult, Timings),
    ) -> Result<Timings, EvaluateError> {
        control.enter(Stage::Generating);
        let began = Instant::now();
        let mut scoring = Duration::ZERO;
        let (exam, bench) = (self.exam.clone(), self.bench.clone());
        // Images are encoded once, before the first candidate, whose time that is.
        let features_ms = exam.features_ms.swap(0, Ordering::Relaxed);
        let clock = self.generator.clock();
        let timings = |scoring: Duration| Timings {
            merge_ms,
            features_ms,
            generate_ms: whole_millis(began.elapsed().saturating_sub(scoring)),
            score_ms: whole_millis(scoring),
            prefill_ms: whole_millis(clock.prefill()),
        };
        let (generator, language, external) = (&mut self.generator, &self.language, &mut self.external);
        let whole = external.want_whole_candidates();
        let (mut held, mut fault) = (Vec::new(), None);
        let mut ended = |sample: usize, g: Generated| {
            let began = Instant::now();
            let tokens = g.token_ids.len() as u32;
            let row = exam.score_text(&bench.scorer, sample, g.text, tokens, g.stop.into());
            held.push((sample, row));
            let asked = if whole { Ok(()) } else { exam.add_external(external, &mut held, control) };
            scoring += began.elapsed();
            if let Err(e) = asked {
                fault = Some(e);
                return Err(GenerateError::Cancelled);
            }
            if !whole {
                held.drain(..).for_each(|(sample, row)| each(sample, row, timings(scoring)));
            }
            Ok(())
        };
        let cancelled = || control.is_cancelled();
        let watched = GenerateControl { cancelled: Some(&cancelled), progress: None };
        let (questions, options) = (&exam.questions, &exam.options);
        let tokenizer = &bench.vlm.tokenizer;
        let written =
            generator.generate_each(language, tokenizer, questions, options, watched, begin, &mut ended);
        if let Some(fault) = fault {
            return Err(fault.into());
        }
        written.map_err(|e| match e {
            GenerateError::Cancelled => EvaluateError::Cancelled,
            other => EvaluateError::Failed(other.to_string()),
        })?;
        if whole {
            control.enter(Stage::Scoring);
            let began = Instant::now();
            // Rows end in any order; a metric is asked about them in theirs.
            held.sort_by_key(|(sample, _)| *sample);
            exam.add_external(external, &mut held, control)?;
            scoring += began.elapsed();
            held.into_iter().for_each(|(sample, row)| each(sample, row, timings(scoring)));
        }
        Ok(timings(scoring))
    }

    /// Every score of given texts, one per sample in order, as if a model had written them.
    pub fn score(&mut self, texts: &[String], control: &Control) -> Result<Vec<SampleResult>, EvaluateError> {
        let exam = self.exam.clone();
        let mut samples: Vec<_> =
            exam.score_texts(&self.bench.scorer, texts).into_iter().enumerate().collect();
        exam.add_external(&mut self.external, &mut samples, control)?;
        Ok(samples.into_iter().map(|(_, sample)| sample).collect())
    }

    /// Generates and scores all samples with the weights as they are; `merge_ms` is what it took to make them.
    pub fn answer(&mut self, control: &Control, merge_ms: u64) -> Result<Evaluation, EvaluateError> {
        let mut rows: Vec<Option<SampleResult>> = vec![None; self.exam.references.len()];
        let mut each = |sample: usize, row, _| rows[sample] = Some(row);
        let timings = self.write_reports(control, merge_ms, &mut |batch| batch.collect(), &mut each)?;
        Ok(Evaluation { samples: rows.into_iter().flatten().collect(), timings })
    }

    /// Merges, and generates and scores all samples.
    pub fn assess(&mut self, recipe: &Recipe) -> Result<Evaluation, EvaluateError> {
        let began = Instant::now();
        self.merge(recipe, &|| false)?;
        self.answer(&Control::default(), whole_millis(began.elapsed()))
    }
}

impl From<crate::generate::Stop> for Stop {
    fn from(stop: crate::generate::Stop) -> Stop {
        match stop {
            crate::generate::Stop::Eos => Stop::End,
            crate::generate::Stop::Length => Stop::Length,
            crate::generate::Stop::NonFinite => Stop::NonFinite,
            crate::generate::Stop::Repetition => Stop::Repetition,
            crate::generate::Stop::NoJapanese => Stop::NoJapanese,
        }
    }
}

impl Evaluator for Pipeline {
    fn evaluate(&mut self, recipe: &Recipe, control: &Control) -> Result<Timings, EvaluateError> {
        control.enter(Stage::Merging);
        let began = Instant::now();
        self.merge(recipe, &|| control.is_cancelled())?;
        let merge_ms = whole_millis(began.elapsed());
        let mut first = true;
        let mut begin = |batch| {
            // Asked for the next batch means that the one before has ended.
            if !std::mem::take(&mut first) && control.has_finished() {
                control.batch_ended();
            }
            control.begin(batch)
        };
        self.write_reports(control, merge_ms, &mut begin, &mut |_, row, timings| control.finish(row, timings))
    }
}

impl From<Fault> for EvaluateError {
    fn from(fault: Fault) -> EvaluateError {
        match fault {
            Fault::Cancelled => EvaluateError::Cancelled,
            // Another node, or the command started anew, may do better.
            Fault::Trouble { .. } => EvaluateError::Failed(fault.to_string()),
        }
    }
}

fn whole_millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

fn failure(e: impl std::fmt::Display) -> EvaluateError {
    EvaluateError::Failed(e.to_string())
}

/// A recipe that does not fit the models fits them on no worker; anything else may pass elsewhere.
pub(crate) fn refusal(e: crate::merge::Error) -> EvaluateError {
    use crate::merge::Error as Merge;
    match e {
        Merge::Recipe(_) | Merge::Unknown { .. } => EvaluateError::Impossible(e.to_string()),
        other => EvaluateError::Failed(other.to_string()),
    }
}

/// One merged tensor on the host, rounded to `dtype`.
fn merged_tensor(prepared: &Prepared, name: &str, dtype: DType) -> Result<Tensor> {
    let info = prepared.info(name).with_context(|| format!("{name}: not a tensor of the base"))?;
    let n = info.elements;
    let shape = info.shape.as_slice();
    Ok(match dtype {
        DType::F16 => {
            let mut values = vec![f16::ZERO; n];
            prepared.tensor_into(name, &mut values)?;
            Tensor::from_vec(values, shape, &Device::Cpu)?
        }
        DType::BF16 => {
            let mut values = vec![bf16::ZERO; n];
            prepared.tensor_into(name, &mut values)?;
            Tensor::from_vec(values, shape, &Device::Cpu)?
        }
        _ => {
            let mut values = vec![0f32; n];
            prepared.tensor_into(name, &mut values)?;
            Tensor::from_vec(values, shape, &Device::Cpu)?
        }
    })
}
