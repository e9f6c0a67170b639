//! Recipe → merged weights → reports → scores: the evaluator that a worker runs.
//!
//! What does not change between candidates is made once: opened files, image features, prompt, tokenised
//! references, cache memory. A candidate overwrites the language model's weights in place. They are rounded to the
//! type that the VLM is stored in first, so that what is scored is what an exported model holds.

use crate::data::read_image;
use crate::device::Chosen;
use crate::evaluator::{Control, EvaluateError, Evaluator, Stage};
use crate::generate::{
    Control as GenerateControl, Error as GenerateError, Generated, Generator, Options, Questions, Spent,
};
use crate::locate::Locator;
use crate::merge::{Fit, Merger, Placement, Prepared};
use crate::model::Llama;
use crate::vlm::Vlm;
use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use common::dataset::Reference;
use common::evaluation::{Evaluation, SampleResult, Stop, Timings};
use common::recipe::Recipe;
use common::run::{DatasetPlan, ExternalPlan, GenerationPlan, RunPlan, ScoringPlan};
use external::{Fault, Metrics, Row};
use half::{bf16, f16};
use score::term::LexiconChoice;
use score::{MetricSet, Scorer};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

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
        let images = references.iter().map(|r| read_image(dataset, r));
        let questions = vlm.questions(images, generation.image_resize, task)?;
        let prepared = references.iter().map(|r| scorer.prepare(&r.text)).collect();
        Ok(Exam { references, images: paths, prepared, questions, options: options(vlm, generation) })
    }

    /// The samples, in order.
    pub fn references(&self) -> &[Reference] {
        &self.references
    }

    /// What external metrics are asked of given texts, one per sample in order.
    fn rows<'a>(&'a self, texts: &'a [String]) -> Vec<Row<'a>> {
        let row = |((r, image), text): ((&'a Reference, &'a String), &'a String)| Row {
            sample: &r.id,
            text,
            reference: &r.text,
            image: Some(image),
        };
        self.references.iter().zip(&self.images).zip(texts).map(row).collect()
    }

    /// The built-in scores of given texts, one per sample in order, as if a model had written them.
    pub fn score_texts(&self, scorer: &Scorer, texts: &[String]) -> Vec<SampleResult> {
        let row = |((reference, prepared), text): ((&Reference, &score::Reference), &String)| SampleResult {
            sample: reference.id.clone(),
            text: text.clone(),
            tokens: 0,
            stop: Stop::End,
            scores: scorer.score_prepared(prepared, text, MetricSet::ALL).metrics,
        };
        self.references.iter().zip(&self.prepared).zip(texts).map(row).collect()
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
    /// Metrics that are commands, by name.
    pub external: BTreeMap<String, ExternalPlan>,
}

impl Bench {
    /// Opens the models of a run on the chosen device.
    pub fn open(plan: &RunPlan, locator: &Locator, chosen: &Chosen) -> Result<Bench> {
        let merger = Merger::open(plan.model_refs(), |m| locator.model(m))?;
        let vlm = merger.model(&plan.models.vlm.name).context("a run has a VLM")?;
        let vlm = Vlm::of(vlm.clone(), chosen)?;
        // What does not fit is said now, not at the first candidate.
        let recipe = Recipe { convention: plan.merge.convention, ..plan.authors_middle() };
        let fits = merger.fits(&recipe)?;
        let placement = merger.placement(&recipe)?;
        let external = plan.scoring.external.clone();
        Ok(Bench { vlm, merger, fits, placement, scorer: scorer(&plan.scoring)?, external })
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
    external: Metrics,
}

impl Pipeline {
    /// Takes memory for one candidate at a time.
    pub fn new(bench: Arc<Bench>, exam: Arc<Exam>) -> Result<Pipeline> {
        let language = bench.vlm.answering()?;
        let external = Metrics::new(&bench.external);
        Ok(Pipeline { bench, exam, language, generator: Generator::new(), external })
    }

    /// Goes on with other samples and the same model.
    pub fn set_exam(&mut self, exam: Arc<Exam>) {
        self.exam = exam;
    }

    /// Where the time of the last generation went.
    pub fn spent(&self) -> Spent {
        self.generator.spent()
    }

    /// Overwrites the language model with the merge of `recipe`.
    pub fn merge(&self, recipe: &Recipe, cancelled: &dyn Fn() -> bool) -> Result<(), EvaluateError> {
        // The passes over the whole model are short against a tensor's, so they are not interrupted.
        let prepared = self.bench.merger.plan(recipe, &AtomicBool::new(false)).map_err(refusal)?;
        self.write(&prepared, cancelled)
    }

    /// Overwrites the language model with a merge that is ready, tensor by tensor.
    pub fn write(&self, prepared: &Prepared, cancelled: &dyn Fn() -> bool) -> Result<(), EvaluateError> {
        for name in prepared.names() {
            if cancelled() {
                return Err(EvaluateError::Cancelled);
            }
            let merged = match self.bench.placement.is_whole(name) {
                true => merged_tensor(prepared, name, self.stored_dtype(name)).map_err(failure)?,
                false => self.placed_tensor(prepared, name).map_err(failure)?,
            };
            self.language.weights().overwrite(name, &merged).map_err(failure)?;
        }
        Ok(())
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

    /// Writes a report for each sample with the weights as they are.
    pub fn generate(&mut self, control: &Control) -> Result<Vec<Generated>, EvaluateError> {
        let cancelled = || control.is_cancelled();
        let progress = |p: crate::generate::Progress| control.set_samples_done(p.samples_done);
        let control = GenerateControl { cancelled: Some(&cancelled), progress: Some(&progress) };
        let Exam { questions, options, .. } = &*self.exam;
        let tokenizer = &self.bench.vlm.tokenizer;
        let written = self.generator.generate(&self.language, tokenizer, questions, options, control);
        written.map_err(|e| match e {
            GenerateError::Cancelled => EvaluateError::Cancelled,
            other => EvaluateError::Failed(other.to_string()),
        })
    }

    /// Every score of given texts, one per sample in order, as if a model had written them.
    pub fn score(&mut self, texts: &[String], control: &Control) -> Result<Vec<SampleResult>, EvaluateError> {
        let mut samples = self.exam.score_texts(&self.bench.scorer, texts);
        if !self.external.is_empty() {
            let scores = self.external.score(&self.exam.rows(texts), &|| control.is_cancelled())?;
            samples.iter_mut().zip(scores).for_each(|(sample, scores)| sample.scores.extend(scores));
        }
        Ok(samples)
    }

    /// Generates and scores with the weights as they are; `merge_ms` is what it took to make them.
    pub fn answer(&mut self, control: &Control, merge_ms: u64) -> Result<Evaluation, EvaluateError> {
        control.enter(Stage::Generating);
        let began = Instant::now();
        let written = self.generate(control)?;
        let generate_ms = millis(began);
        control.enter(Stage::Scoring);
        let began = Instant::now();
        let (texts, ends): (Vec<String>, Vec<_>) =
            written.into_iter().map(|g| (g.text, (g.token_ids.len(), g.stop))).unzip();
        let mut samples = self.score(&texts, control)?;
        for (sample, (tokens, stop)) in samples.iter_mut().zip(ends) {
            sample.tokens = tokens as u32;
            sample.stop = stop.into();
        }
        let timings = Timings { merge_ms, features_ms: 0, generate_ms, score_ms: millis(began) };
        Ok(Evaluation { samples, timings })
    }
}

impl From<crate::generate::Stop> for Stop {
    fn from(stop: crate::generate::Stop) -> Stop {
        match stop {
            crate::generate::Stop::Eos => Stop::End,
            crate::generate::Stop::Length => Stop::Length,
            crate::generate::Stop::NonFinite => Stop::NonFinite,
        }
    }
}

impl Evaluator for Pipeline {
    fn evaluate(&mut self, recipe: &Recipe, control: &Control) -> Result<Evaluation, EvaluateError> {
        control.enter(Stage::Merging);
        let began = Instant::now();
        self.merge(recipe, &|| control.is_cancelled())?;
        self.answer(control, millis(began))
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

fn millis(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)
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
