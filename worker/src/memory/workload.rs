//! What is to be held, as numbers: from checkpoint headers, configuration and run plan, before a weight is read.

use super::Machine;
use super::activations::VisionNeeds;
use crate::asking::Question;
use crate::generate::{Options, Sizes};
use crate::merge::mask_elements;
use crate::model::weights::expected_parameters;
use crate::model::{Kernels, LlamaConfig, Passes, Prompt};
use crate::pipeline::{Bench, options};
use crate::vlm::Vlm;
use anyhow::{Context, Result};
use candle_core::DType;
use common::recipe::{Convention, Mask};
use common::run::RunPlan;
use common::space::{Coefficient, Origin, SourceCoefficients};

/// Weights that stay in their files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// The model's name in the run.
    pub name: String,
    /// Bytes that every merge reads of it.
    pub bytes: u64,
}

/// What a worker is to hold.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Base, sources and their own bases, each folder once.
    pub mapped: Vec<Mapped>,
    /// Sources of a merge.
    pub sources: usize,
    /// Those of them that have a base of their own.
    pub own_bases: usize,
    /// Elements of the masks that sources may be thinned out by.
    pub masked: u64,
    /// Whether a GPU is to merge: the convention is one that it knows, and nobody asked otherwise.
    pub kernels: bool,
    /// Bytes of the widest element among base and sources.
    pub merged_width: u64,
    /// Shape of the language model.
    pub language: LlamaConfig,
    /// Type of weights and activations where the model runs.
    pub compute: DType,
    /// How it is run.
    pub passes: Kernels,
    /// Elements of the language model's largest tensor.
    pub largest: u64,
    /// Bytes of an element as the VLM stores it.
    pub stored: u64,
    /// Copies of a merged tensor that are there at once: two where rows of a vocabulary are put in their places.
    pub merge_copies: u64,
    /// Tower and projector.
    pub vision: VisionNeeds,
    /// Samples whose features are kept.
    pub samples: usize,
    /// Positions of the text before the image.
    pub shared: usize,
    /// Positions of the whole prompt.
    pub prompt: usize,
    /// Limits of generation.
    pub options: Options,
    /// Candidates at once, each with its own weights and cache.
    pub slots: usize,
}

/// Whether a drop rate is anything but 0 for good.
fn drops(rate: &Coefficient) -> bool {
    rate.origins().iter().any(|origin| !matches!(origin, Origin::Fixed(0.0)))
}

impl Workload {
    /// What a worker of `slots` slots holds in a run over `samples` samples.
    ///
    /// # Errors
    /// When the task cannot be tokenised, or a model of the run is not open.
    pub fn of_run(bench: &Bench, run: &RunPlan, samples: usize, slots: usize) -> Result<Workload> {
        let vlm = &bench.vlm;
        let base = bench.merger.model(&run.models.base.name).context("a run has a base")?;
        let mut folders = Vec::new();
        let mut mapped = Vec::new();
        let mut merged_width = 0;
        for model in run.merged_models() {
            let opened = bench.merger.model(&model.name).with_context(|| model.name.clone())?;
            if folders.contains(&opened.folder()) {
                continue;
            }
            folders.push(opened.folder());
            let infos = base.names().filter_map(|name| opened.info(name));
            let sizes: Vec<_> = infos.map(|i| (i.elements as u64, i.dtype.width() as u64)).collect();
            merged_width = sizes.iter().map(|(_, width)| *width).fold(merged_width, u64::max);
            let bytes = sizes.iter().map(|(elements, width)| elements * width).sum();
            mapped.push(Mapped { name: model.name.clone(), bytes });
        }
        let prompt: Prompt = vlm.longest_prompt(&run.task, run.generation.image_resize)?;
        let sources = &run.models.sources;
        let dropping = match run.merge.convention {
            Convention::Paper => run.space.sources.iter().filter(|c| drops(&c.drop_rate)).count(),
            Convention::Linear => 0,
        };
        let sizes = || base.names().filter_map(|name| base.info(name)).map(|i| i.elements as u64);
        // Where the mask is searched for, it may be one for each tensor; where rates differ from layer to layer, so do masks.
        let by_layers = |c: &SourceCoefficients| matches!(c.drop_rate, Coefficient::Cases(_));
        let many = run.space.mask.is_some() || run.space.sources.iter().any(by_layers);
        let mask = if many { Mask::Independent } else { run.merge.mask };
        Ok(Workload {
            mapped,
            masked: mask_elements(mask, dropping, sizes().sum(), sizes().max().unwrap_or(0)),
            sources: sources.len(),
            own_bases: sources.iter().filter(|s| s.base.is_some()).count(),
            kernels: vlm.chosen.merges_on_gpu && run.merge.convention == Convention::Paper,
            merged_width,
            merge_copies: if bench.placement.resized().next().is_some() { 2 } else { 1 },
            options: options(vlm, &run.generation),
            slots,
            ..Workload::answering(vlm, &prompt, samples)
        })
    }

    /// What one model holds that answers a question about each of `samples` images; nothing is merged.
    ///
    /// # Errors
    /// When the task cannot be tokenised.
    pub fn of_model(vlm: &Vlm, question: &Question, samples: usize) -> Result<Workload> {
        let prompt = vlm.longest_prompt(&question.task, question.generation.image_resize)?;
        let options = options(vlm, &question.generation);
        Ok(Workload { options, ..Workload::answering(vlm, &prompt, samples) })
    }

    /// One slot of a model without merges, at the generator's ordinary limits.
    fn answering(vlm: &Vlm, prompt: &Prompt, samples: usize) -> Workload {
        let parameters = expected_parameters(vlm.family.language());
        let widths =
            parameters.iter().filter_map(|(n, _)| vlm.checkpoint.info(n)).map(|i| i.dtype.width() as u64);
        let elements = parameters.iter().map(|(_, shape)| shape.iter().product::<usize>() as u64);
        Workload {
            mapped: Vec::new(),
            sources: 0,
            own_bases: 0,
            masked: 0,
            kernels: false,
            merged_width: 0,
            language: vlm.family.language().clone(),
            compute: vlm.chosen.dtype,
            passes: vlm.chosen.passes,
            largest: elements.max().unwrap_or(0),
            stored: widths.max().unwrap_or(4),
            merge_copies: 1,
            vision: vlm.vision_needs(),
            samples,
            shared: prompt.before.len(),
            prompt: prompt.positions(),
            options: Options::default(),
            slots: 1,
        }
    }

    /// Whether merges are made on the machine's GPU.
    pub fn merges_on_gpu(&self, machine: &Machine) -> bool {
        self.kernels && machine.gpu.is_some() && !self.mapped.is_empty()
    }

    /// The sizes that the generator will work with.
    ///
    /// # Errors
    /// When the prompt leaves no room for a token.
    pub fn sizes(&self, passes: Passes) -> Result<Sizes> {
        Ok(Sizes::new(&self.language, self.shared, self.prompt, self.samples, &self.options, passes)?)
    }

    /// Parameters of the language model.
    pub fn elements(&self) -> u64 {
        let parameters = expected_parameters(&self.language);
        parameters.iter().map(|(_, shape)| shape.iter().product::<usize>() as u64).sum()
    }

    /// Bytes of the language model's weights where it runs.
    pub fn language_bytes(&self) -> u64 {
        self.elements() * self.compute.size_in_bytes() as u64
    }

    /// Bytes of the cache of one slot, the shared text's included.
    ///
    /// # Errors
    /// As [`Workload::sizes`].
    pub fn cache_bytes(&self) -> Result<u64> {
        // The cache is the same wherever the model runs.
        let sizes = self.sizes(Passes::of(self.passes, self.compute, false))?;
        let c = &self.language;
        let position = 2 * c.num_hidden_layers * c.num_key_value_heads * c.head_dim;
        let positions = sizes.rows * sizes.capacity + sizes.shared.max(1);
        Ok((position * positions * self.compute.size_in_bytes()) as u64)
    }

    /// Bytes that a merge reads: every source and base element.
    pub fn merge_reads(&self) -> u64 {
        self.mapped.iter().map(|m| m.bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_that_is_zero_for_good_drops_nothing() {
        assert!(!drops(&Coefficient::Fixed(0.0)));
        assert!(drops(&Coefficient::Fixed(0.1)) && drops(&Coefficient::Searched(0)));
    }
}
