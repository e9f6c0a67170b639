//! A vision-language model as a folder on this machine, opened for use on one device.

use crate::checkpoint::Checkpoint;
use crate::device::Chosen;
use crate::generate::{TextTokenizer, bunny_prompt};
use crate::image::{Preprocess, Rgb8};
use crate::model::bunny::Vision;
use crate::model::{
    Bunny, BunnyConfig, Error as ModelError, Features, Llama, Prompt, TensorSource,
    eos_from_generation_config,
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

/// An opened VLM: files, configuration and tokenizer; weights are read when a part is asked for.
#[derive(Debug)]
pub struct Vlm {
    /// The model's files.
    pub checkpoint: Arc<Checkpoint>,
    /// Shapes of tower, projector and language model.
    pub config: BunnyConfig,
    /// The model's tokenizer.
    pub tokenizer: TextTokenizer,
    /// Ids that end an answer.
    pub eos: Vec<u32>,
    /// Where it runs.
    pub chosen: Chosen,
}

impl Vlm {
    /// Opens the model in `folder`.
    pub fn open(folder: &Path, chosen: &Chosen) -> Result<Vlm> {
        let checkpoint = Checkpoint::open(folder)?;
        Vlm::of(Arc::new(checkpoint), chosen)
    }

    /// The same for files that are open already.
    pub fn of(checkpoint: Arc<Checkpoint>, chosen: &Chosen) -> Result<Vlm> {
        let folder = checkpoint.folder().to_path_buf();
        let config = BunnyConfig::from_file(&folder.join("config.json"))?;
        let tokenizer = TextTokenizer::from_folder(&folder)?;
        let generation = folder.join("generation_config.json");
        let mut eos = config.eos_token_ids.clone();
        if generation.is_file() {
            eos = eos_from_generation_config(&generation)?;
        }
        if eos.is_empty() {
            bail!("{}: no eos_token_id in config.json or generation_config.json", folder.display());
        }
        if tokenizer.vocab_size() > config.llama.vocab_size {
            let (tokens, rows) = (tokenizer.vocab_size(), config.llama.vocab_size);
            bail!(
                "{}: tokenizer.json has {tokens} tokens, the model only {rows} rows; put the model's own tokenizer there",
                folder.display()
            );
        }
        if let Some(id) = eos.iter().find(|id| **id as usize >= config.llama.vocab_size) {
            let rows = config.llama.vocab_size;
            bail!("{}: eos_token_id {id} is not below the vocabulary's {rows}; mend it", folder.display());
        }
        Ok(Vlm { checkpoint, config, tokenizer, eos, chosen: chosen.clone() })
    }

    /// The model's prompt around a task.
    pub fn prompt(&self, task: &str) -> Result<Prompt> {
        Ok(bunny_prompt(&self.tokenizer, task, self.config.bos_token_id)?)
    }

    /// Encodes images with the tower, which is loaded for this call and dropped after it.
    pub fn features(
        &self,
        images: impl Iterator<Item = Result<Rgb8>>,
        resize: Option<[u32; 2]>,
    ) -> Result<Features> {
        let Chosen { device, dtype, .. } = &self.chosen;
        let vision = Vision::load(&self.config, &Stored(&self.checkpoint), *dtype, device)
            .with_context(|| self.checkpoint.folder().display().to_string())?;
        let size = self.config.input_size();
        let pre_resize = resize.map(|[w, h]| (w as usize, h as usize));
        let prepare = Preprocess { pre_resize, pad: self.config.pad, size };
        let mut encoded = Vec::new();
        for image in images {
            // One image at a time: the tower's activations for all of them would not fit at full size.
            let pixels = Tensor::from_vec(prepare.apply(&image?)?, (3, size, size), device)?;
            encoded.push(vision.encode(&pixels)?);
        }
        Ok(Features::stack(&encoded)?)
    }

    /// The model with its own language model and without its tower: what answers, once features are known.
    pub fn answering(&self) -> Result<Bunny> {
        let Chosen { device, dtype, .. } = &self.chosen;
        let language = Llama::load(&self.config.llama, &Stored(&self.checkpoint), *dtype, device)
            .with_context(|| self.checkpoint.folder().display().to_string())?;
        Ok(Bunny::from_parts(self.config.clone(), None, language))
    }
}
