//! The checked form of a run: everything that fixes its result, and nothing else.

use super::external::{self, EvaluatorPlan, ExternalPlan};
use super::scheduling::{EarlyStopPlan, Redo, SchedulingPlan};
use super::search::SearchPlan;
use crate::dataset::Columns;
use crate::digest::Digest;
use crate::evaluation::{Evaluation, SampleResult};
use crate::fitness::{self, Aim, EvaluationError, Fitness, Objective};
use crate::genome::Genome;
use crate::recipe::{self, Arithmetic, Convention, Mask, ModelRef, Recipe, SourceTerm, Vocabulary};
use crate::report::{MissingPart, Part};
use crate::space::{Coefficient, Form, SourceCoefficients, Space};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The format that this program writes.
pub const FORMAT: u32 = 1;

/// A run as it was started: immutable, stored, sent to the workers, and pinned by its digest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunPlan {
    /// Format version, [`FORMAT`].
    pub format: u32,
    /// The run's name, for people.
    pub name: String,
    /// Seed of every random stream of the run.
    pub seed: u64,
    /// The models.
    pub models: ModelsPlan,
    /// How they merge.
    pub merge: MergePlan,
    /// What is searched.
    pub space: Space,
    /// How it is searched.
    pub search: SearchPlan,
    /// The samples that candidates are scored on.
    pub dataset: DatasetPlan,
    /// Samples that the search never sees, for `jradievo-worker compare`.
    pub held_out: Option<DatasetPlan>,
    /// Samples that the search never sees, on which the winner is chosen among the best few.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<DatasetPlan>,
    /// How many of the best are compared on them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finalists: Option<FinalistsPlan>,
    /// What the model is asked.
    pub task: String,
    /// How it answers.
    pub generation: GenerationPlan,
    /// How the answers are scored.
    pub scoring: ScoringPlan,
    /// The command that evaluates candidates, where the worker's own generating and scoring do not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluator: Option<EvaluatorPlan>,
    /// How scores become fitness.
    pub objective: Objective,
    /// What is sought beside it, for a Pareto front; empty where fitness is all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objectives: Vec<Aim>,
    /// Leases and attempts.
    pub scheduling: SchedulingPlan,
    /// When work ends early.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub early_stop: Option<EarlyStopPlan>,
    /// Where the texts of reports are.
    #[serde(default, skip_serializing_if = "Reports::is_coordinator")]
    pub reports: Reports,
    /// Ids of the samples that count, in order. Filled in when the dataset is read.
    pub samples: Vec<String>,
}

/// Where the texts of reports are: patient data, in what a model makes of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reports {
    /// With the run, in its store. Plans from before there was a choice say nothing and mean this.
    #[default]
    Coordinator,
    /// On the node of the worker that wrote them; scores, lengths and digests alone travel.
    Local,
}

impl Reports {
    fn is_coordinator(&self) -> bool {
        *self == Reports::Coordinator
    }
}

/// Base, vision-language model and sources.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelsPlan {
    /// Task vectors are added to this model.
    pub base: ModelRef,
    /// Its language model is replaced.
    pub vlm: ModelRef,
    /// What is merged.
    pub sources: Vec<SourcePlan>,
}

/// A source and, where it differs, its own base.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourcePlan {
    /// The source model.
    pub model: ModelRef,
    /// What its task vector is taken against, where that is not the run's base.
    pub base: Option<ModelRef>,
    /// What happens where its vocabulary is not the base's, where it differs from the run's choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vocabulary: Option<Vocabulary>,
}

/// The merge's fixed choices.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MergePlan {
    /// How sources are combined.
    pub convention: Convention,
    /// What keys DARE's mask.
    pub mask: Mask,
    /// Seed of DARE's mask.
    pub mask_seed: u64,
    /// What merges compute in.
    #[serde(default, skip_serializing_if = "is_float32")]
    pub arithmetic: Arithmetic,
    /// What happens where a vocabulary is not the base's.
    #[serde(default, skip_serializing_if = "is_refuse")]
    pub vocabulary: Vocabulary,
}

// Choices that came later leave no trace where they are not made, so that digests of earlier plans stay.
fn is_float32(arithmetic: &Arithmetic) -> bool {
    *arithmetic == Arithmetic::Float32
}

fn is_refuse(vocabulary: &Vocabulary) -> bool {
    *vocabulary == Vocabulary::Refuse
}

/// What happens to a sample whose reference (after a part was taken from it) is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EmptyReference {
    /// It does not count (the authors' way).
    Skip,
    /// It counts; only an empty report scores.
    Keep,
    /// The run is refused.
    Refuse,
}

/// A dataset and what of its reports is the reference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetPlan {
    /// JSONL or CSV file.
    pub file: String,
    /// Folder that image paths are relative to.
    pub images: String,
    /// Which fields hold what.
    pub columns: Columns,
    /// The report's part that is the reference.
    pub part: Part,
    /// What a report without that part counts as.
    pub without_part: MissingPart,
    /// What happens to empty references.
    pub empty_reference: EmptyReference,
    /// Which frame of a DICOM file of several is the image, from 1; none refuses such files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame: Option<u32>,
}

/// Decoding is greedy; these are its limits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenerationPlan {
    /// Width and height that images are resized to before the model's own preprocessing.
    pub image_resize: Option<[u32; 2]>,
    /// Most new tokens a report, the end token included.
    pub max_new_tokens: u32,
    /// Samples generated together.
    pub batch_size: u32,
}

/// How a report is compared with its reference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScoringPlan {
    /// `unidic-lite`, `ipadic`, `char`, or a dictionary's path.
    pub tokenizer: String,
    /// A lexicon in place of the built-in one.
    pub lexicon: Option<String>,
    /// A lexicon laid over it.
    pub extend_lexicon: Option<String>,
    /// Weight of absent findings in term F1.
    pub absent_weight: f64,
    /// Whether text is NFKC-normalised before terms are matched.
    pub nfkc: bool,
    /// Metrics that are commands, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub external: BTreeMap<String, ExternalPlan>,
}

/// The last round of a search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FinalistsPlan {
    /// Candidates that take part.
    pub count: usize,
}

impl RunPlan {
    /// The plan as canonical JSON: one line, fields in declaration order.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a plan holds nothing JSON cannot say")
    }

    /// Reads what [`RunPlan::to_json`] wrote, and checks what a hostile sender could have changed.
    pub fn from_json(text: &str) -> Result<RunPlan, String> {
        let plan: RunPlan = serde_json::from_str(text).map_err(|e| format!("not a plan: {e}"))?;
        if plan.format != FORMAT {
            return Err(format!(
                "plan format {} is not known here (this program reads {FORMAT})",
                plan.format
            ));
        }
        if plan.space.sources.len() != plan.models.sources.len() {
            return Err("the plan's space has another number of sources than its models".into());
        }
        plan.space.check()?;
        plan.scheduling.check()?;
        plan.early_stop.as_ref().map_or(Ok(()), EarlyStopPlan::check)?;
        if plan.generation.batch_size == 0 {
            return Err("generation.batch_size is 0".into());
        }
        for (name, program) in plan.programs() {
            external::check(&name, program)?;
        }
        for model in plan.model_refs() {
            model.location().map_err(|e| format!("model {}: {e}", model.name))?;
        }
        Ok(plan)
    }

    /// Whether a candidate is evaluated as one piece: an evaluator, or a metric that looks at all of its reports, must not
    /// be asked about some of them.
    pub fn is_whole(&self) -> bool {
        let per_candidate = |m: &ExternalPlan| m.per == external::Per::Candidate;
        self.evaluator.is_some() || self.scoring.external.values().any(per_candidate)
    }

    /// Samples that are given away together.
    fn batch_size(&self) -> u32 {
        if self.is_whole() { self.samples.len().max(1) as u32 } else { self.generation.batch_size }
    }

    /// What of a batch is done again where some of its samples are missing.
    pub fn redo(&self) -> Redo {
        if self.is_whole() { Redo::Batch } else { self.scheduling.redo }
    }

    /// How many batches the samples make: `generation.batch_size` of them, in their order, each; one of all where a
    /// candidate is one piece.
    pub fn batches(&self) -> u32 {
        self.samples.len().div_ceil(self.batch_size() as usize) as u32
    }

    /// Positions of the samples of one batch.
    pub fn batch(&self, number: u32) -> std::ops::Range<u32> {
        let (size, samples) = (self.batch_size(), self.samples.len() as u32);
        number.saturating_mul(size).min(samples)..(number + 1).saturating_mul(size).min(samples)
    }

    /// Digest of the canonical JSON.
    pub fn digest(&self) -> Digest {
        Digest::of(self.to_json().as_bytes())
    }

    /// The merge that a genome stands for.
    ///
    /// # Panics
    /// When the genome is not one of this plan's space.
    pub fn recipe(&self, genome: &Genome) -> Recipe {
        let values = self.space.values(genome);
        let number = |c: &Coefficient| self.space.resolve(c, &values);
        let term = |(source, c): (&SourcePlan, &SourceCoefficients)| SourceTerm {
            model: source.model.clone(),
            base: source.base.clone(),
            vocabulary: source.vocabulary,
            weight: number(&c.weight),
            drop_rate: number(&c.drop_rate),
            trim_rate: number(&c.trim_rate),
        };
        Recipe {
            format: recipe::FORMAT,
            convention: self.merge.convention,
            base: self.models.base.clone(),
            vlm: self.models.vlm.clone(),
            sources: self.models.sources.iter().zip(&self.space.sources).map(term).collect(),
            scale: number(&self.space.scale),
            mask: self.mask(&values),
            mask_seed: self.space.mask_seed.map_or(self.merge.mask_seed, |i| values[i] as u64),
            arithmetic: self.merge.arithmetic,
            vocabulary: self.merge.vocabulary,
        }
    }

    fn mask(&self, values: &[f64]) -> Mask {
        let word = self.space.mask.and_then(|i| match &self.space.parameters[i].form {
            Form::Words(words) => words.get(values[i] as usize),
            _ => None,
        });
        word.and_then(|w| Mask::from_word(w)).unwrap_or(self.merge.mask)
    }

    /// The fitness of an evaluation of this run's samples, in which every objective is there too.
    ///
    /// # Errors
    /// As [`Objective::fitness`].
    pub fn fitness(&self, evaluation: &Evaluation) -> Result<Fitness, EvaluationError> {
        let fitness = self.objective.fitness(evaluation, &self.samples)?;
        for (index, sample) in evaluation.samples.iter().enumerate() {
            self.has_objectives(sample).map_err(|e| e.at(index))?;
        }
        Ok(fitness)
    }

    /// What one sample contributes to the fitness, where every objective is there too.
    ///
    /// # Errors
    /// As [`Objective::sample`].
    pub fn contribution(&self, sample: &SampleResult) -> Result<f64, EvaluationError> {
        self.has_objectives(sample)?;
        self.objective.sample(sample)
    }

    fn has_objectives(&self, sample: &SampleResult) -> Result<(), EvaluationError> {
        let mut aims = self.objectives.iter().filter(|a| a.metric != fitness::FITNESS);
        match aims.find(|a| sample.value(&a.metric).is_none()) {
            Some(aim) => Err(EvaluationError::Missing { metric: aim.metric.clone() }),
            None => Ok(()),
        }
    }

    /// Whether the search is told the objectives rather than the fitness.
    fn tells_objectives(&self) -> bool {
        self.search.algorithm.takes_several_objectives() && !self.objectives.is_empty()
    }

    /// Numbers that the search is told of each candidate.
    pub fn numbers_told(&self) -> usize {
        if self.tells_objectives() { self.objectives.len() } else { 1 }
    }

    /// What the search is told of a candidate with this fitness and these means; none where a mean is missing.
    pub fn told(&self, fitness: Fitness, means: &BTreeMap<String, f64>) -> Option<Vec<Fitness>> {
        match self.tells_objectives() {
            true => fitness::vector(&self.objectives, fitness, means),
            false => Some(vec![fitness]),
        }
    }

    /// The merge at the middle of the authors' box, whatever this run's bounds are: drop and trim rates 0.5,
    /// weights 0.5, scale 1. It is where their search begins.
    pub fn authors_middle(&self) -> Recipe {
        let term = |source: &SourcePlan| SourceTerm {
            model: source.model.clone(),
            base: source.base.clone(),
            vocabulary: source.vocabulary,
            weight: 0.5.into(),
            drop_rate: 0.5.into(),
            trim_rate: 0.5.into(),
        };
        Recipe {
            format: recipe::FORMAT,
            convention: Convention::Paper,
            base: self.models.base.clone(),
            vlm: self.models.vlm.clone(),
            sources: self.models.sources.iter().map(term).collect(),
            scale: 1.0.into(),
            mask: self.merge.mask,
            mask_seed: self.merge.mask_seed,
            arithmetic: self.merge.arithmetic,
            vocabulary: self.merge.vocabulary,
        }
    }

    /// The models that a merge reads, each name once: base, then sources and their own bases.
    pub fn merged_models(&self) -> Vec<&ModelRef> {
        let sources = self.models.sources.iter().flat_map(|s| std::iter::once(&s.model).chain(&s.base));
        let mut refs: Vec<&ModelRef> = Vec::new();
        for model in std::iter::once(&self.models.base).chain(sources) {
            if !refs.iter().any(|r| r.name == model.name) {
                refs.push(model);
            }
        }
        refs
    }

    /// Every model of the run, each name once: base, vlm, then sources and their own bases.
    pub fn model_refs(&self) -> Vec<&ModelRef> {
        let sources = self.models.sources.iter().flat_map(|s| std::iter::once(&s.model).chain(&s.base));
        let mut refs: Vec<&ModelRef> = Vec::new();
        for model in [&self.models.base, &self.models.vlm].into_iter().chain(sources) {
            if !refs.iter().any(|r| r.name == model.name) {
                refs.push(model);
            }
        }
        refs
    }

    /// Every command that the plan makes a worker run, by the name that messages and pinned files have for it.
    pub fn programs(&self) -> Vec<(String, &super::external::ProgramPlan)> {
        let metrics = self.scoring.external.iter().map(|(n, e)| (format!("external/{n}"), &e.program));
        metrics.chain(self.evaluator.iter().map(|e| ("evaluator".to_string(), &e.program))).collect()
    }

    /// Whether a candidate can only be scored with all its samples at once: an evaluator answers for all, and a metric of the
    /// whole candidate has no value for some of them.
    pub fn scores_as_a_whole(&self) -> bool {
        let whole = |e: &ExternalPlan| e.per == external::Per::Candidate;
        self.evaluator.is_some() || self.scoring.external.values().any(whole)
    }

    /// Every place where the plan names a model, to write pinned references there.
    pub fn models_mut(&mut self) -> impl Iterator<Item = &mut ModelRef> {
        let models = &mut self.models;
        let sources =
            models.sources.iter_mut().flat_map(|s| std::iter::once(&mut s.model).chain(&mut s.base));
        [&mut models.base, &mut models.vlm].into_iter().chain(sources)
    }
}
