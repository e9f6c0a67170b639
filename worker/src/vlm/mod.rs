//! A vision-language model as a folder on this machine, opened for use on one device.

pub mod bunny;
pub mod family;
pub mod minicpm;

pub use bunny::Bunny;
pub use family::{Encoded, Slices, VisionEncoder, VisionLanguageModel};
pub use minicpm::MiniCpm;

use crate::checkpoint::{Checkpoint, Dtype};
use crate::device::Chosen;
use crate::generate::{Questions, TextTokenizer};
use crate::image::{Rgb8, resize_bicubic};
use crate::memory::VisionNeeds;
use crate::model::weights::expected_parameters;
use crate::model::{
    Error as ModelError, Llama, LlamaWeights, Prompt, TensorSource, eos_from_generation_config,
};
use anyhow::{Context, Result, bail};
use candle_core::{Device, Tensor};
use std::path::Path;
use std::sync::Arc;

/// Lets a model read its tensors from a checkpoint's files.
struct Stored<'a>(&'a Checkpoint);

impl TensorSource for Stored<'_> {
    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.0.info(name).map(|i| i.shape.clone())
    }

    fn get(&self, name: &str) -> crate::model::Result<Tensor> {
        self.0
            .tensor(name, &Device::Cpu)
            .map_err(|e| ModelError::Source { name: name.into(), reason: e.to_string() })
    }
}

/// The type in which most of the language model is stored.
fn language_type(checkpoint: &Checkpoint, family: &dyn VisionLanguageModel) -> Dtype {
    let infos = expected_parameters(family.language());
    let infos = infos.iter().filter_map(|(name, _)| checkpoint.info(name));
    // Norms may differ; the largest tensor is never one.
    infos.max_by_key(|i| i.elements).map_or(Dtype::F16, |i| i.dtype)
}

/// An opened VLM: files, configuration and tokenizer; weights are read when a part is asked for.
#[derive(Debug)]
pub struct Vlm {
    /// The model's files, the language model's tensors under their usual names.
    pub checkpoint: Arc<Checkpoint>,
    /// What kind of model it is, and how its parts fit together.
    pub family: Box<dyn VisionLanguageModel>,
    /// The model's tokenizer.
    pub tokenizer: TextTokenizer,
    /// Ids that end an answer.
    pub eos: Vec<u32>,
    /// Where it runs, and in which type.
    pub chosen: Chosen,
}

impl Vlm {
    /// Opens the model in `folder`.
    pub fn open(folder: &Path, chosen: &Chosen) -> Result<Vlm> {
        let checkpoint = Checkpoint::open_renamed(folder, &family::renames(folder)?)?;
        Vlm::of(Arc::new(checkpoint), chosen)
    }

    /// The same for files that are open already, under the names that [`family::renames`] gives.
    pub fn of(checkpoint: Arc<Checkpoint>, chosen: &Chosen) -> Result<Vlm> {
        let folder = checkpoint.folder().to_path_buf();
        let family = family::open(&folder)?;
        let tokenizer = TextTokenizer::from_folder(&folder)?;
        let generation = folder.join("generation_config.json");
        let named = generation.is_file().then(|| eos_from_generation_config(&generation)).transpose()?;
        let eos = family.end_ids(&tokenizer, named).with_context(|| folder.display().to_string())?;
        if eos.is_empty() {
            bail!("{}: no eos_token_id in config.json or generation_config.json", folder.display());
        }
        let rows = family.language().vocab_size;
        if tokenizer.vocab_size() > rows {
            let tokens = tokenizer.vocab_size();
            bail!(
                "{}: tokenizer.json has {tokens} tokens, the model only {rows} rows; put the model's own tokenizer there",
                folder.display()
            );
        }
        if let Some(id) = eos.iter().find(|id| **id as usize >= rows) {
            bail!("{}: eos_token_id {id} is not below the vocabulary's {rows}; mend it", folder.display());
        }
        let chosen = chosen.suited(language_type(&checkpoint, &*family));
        Ok(Vlm { checkpoint, family, tokenizer, eos, chosen })
    }

    /// The model's prompt around a task, for a picture that is cut so.
    pub fn prompt(&self, task: &str, slices: Slices) -> Result<Prompt> {
        Ok(self.family.prompt(&self.tokenizer, task, slices)?)
    }

    /// The longest prompt that a run can have: that of its one picture size, or of whatever picture takes most.
    pub fn longest_prompt(&self, task: &str, resize: Option<[u32; 2]>) -> Result<Prompt> {
        let slices = match resize {
            Some([width, height]) => self.family.slices(width as usize, height as usize)?,
            None => self.family.most_slices(),
        };
        self.prompt(task, slices)
    }

    /// Encodes images with the tower, which is loaded for this call and dropped after it, and puts the task to each.
    pub fn questions(
        &self,
        images: impl Iterator<Item = Result<Rgb8>>,
        resize: Option<[u32; 2]>,
        task: &str,
    ) -> Result<Questions> {
        let Chosen { device, dtype, .. } = &self.chosen;
        let vision = self
            .family
            .load_vision(&Stored(&self.checkpoint), *dtype, device)
            .with_context(|| self.checkpoint.folder().display().to_string())?;
        let mut asked = Vec::new();
        for image in images {
            // One image at a time: the tower's activations for all of them would not fit at full size.
            let mut image = image?;
            if let Some([width, height]) = resize {
                image = resize_bicubic(&image, width as usize, height as usize)?;
            }
            let Encoded { features, slices } = vision.encode(&image)?;
            asked.push((self.prompt(task, slices)?, features));
        }
        Ok(Questions::new(asked)?)
    }

    /// What [`Vlm::questions`] will take of memory: weights, the widest image, and its features.
    pub fn vision_needs(&self) -> VisionNeeds {
        let tensors = self.family.vision_parameters();
        let widths =
            tensors.iter().filter_map(|(name, _)| self.checkpoint.info(name)).map(|i| i.dtype.width());
        self.family.vision_needs(self.chosen.dtype, widths.max().unwrap_or(4))
    }

    /// The model's own language model: what answers, once features are known.
    pub fn answering(&self) -> Result<Llama> {
        let Chosen { device, dtype, passes, .. } = &self.chosen;
        let (config, stored) = (self.family.language(), Stored(&self.checkpoint));
        let weights = LlamaWeights::load(config, &stored, *dtype, device)
            .with_context(|| self.checkpoint.folder().display().to_string())?;
        Ok(Llama::new(config.clone(), weights, *passes)?)
    }
}
