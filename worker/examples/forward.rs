//! What a model computes, as a file that another program's values can be held against.
//!
//! ```sh
//! cargo run --release --example forward -- requests.json out.safetensors
//! ```
//!
//! `requests.json` is a list; entry `i` yields tensors called `i.NAME`.
//!
//! | request | tensors |
//! |---|---|
//! | `{"vlm": DIR, "dtype", "image": FILE, "task", "image_resize": [w, h] or null, "max_new_tokens"}` | `before`, `after`: prompt ids; `tower`: features before the projector; `projected`; `logits`: of the last prompt position; `ids`: greedy, end token included |
//! | `{"llama": DIR, "dtype", "prompts": [[id, …], …], "max_new_tokens"}` | per prompt `j`: `j.logits` (L, V) of every prompt position; `j.ids` greedy, without regard to end tokens; `j.gaps`: the largest logit minus the second, of every step |
//!
//! A `vlm` is a Bunny. `dtype` is float32, float16 or bfloat16: that of weights and activations, on the CPU. The scripts under `scripts/golden` that
//! end in `_parity.py` or `_transformers.py` are its callers.

#![forbid(unsafe_code)]

use anyhow::{Context, Result, bail};
use candle_core::{DType, Device, Tensor};
use serde::Deserialize;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use worker::checkpoint::Checkpoint;
use worker::device::Chosen;
use worker::generate::{Control, Generator, Options, Progress};
use worker::image::{Limits, Preprocess, decode};
use worker::model::bunny::Vision;
use worker::model::{BunnyConfig, Features, Llama, LlamaConfig};
use worker::vlm::{Slices, Vlm};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    vlm: Option<PathBuf>,
    llama: Option<PathBuf>,
    dtype: String,
    image: Option<PathBuf>,
    task: Option<String>,
    image_resize: Option<(usize, usize)>,
    #[serde(default)]
    prompts: Vec<Vec<u32>>,
    max_new_tokens: usize,
}

type Tensors = HashMap<String, Tensor>;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let (Some(requests), Some(out)) = (args.next(), args.next()) else {
        bail!("give a file of requests and a file to write")
    };
    let text = std::fs::read_to_string(&requests).with_context(|| requests.clone())?;
    let requests: Vec<Request> = serde_json::from_str(&text).with_context(|| requests.clone())?;
    let mut tensors = Tensors::new();
    for (i, request) in requests.iter().enumerate() {
        let dtype = match request.dtype.as_str() {
            "float32" => DType::F32,
            "float16" => DType::F16,
            "bfloat16" => DType::BF16,
            other => bail!("request {i}: dtype {other:?} is not known"),
        };
        let found = match (&request.vlm, &request.llama) {
            (Some(folder), None) => vlm(folder, request, dtype),
            (None, Some(folder)) => llama(folder, request, dtype),
            _ => bail!("request {i}: give either vlm or llama"),
        };
        let found = found.with_context(|| format!("request {i}"))?;
        tensors.extend(found.into_iter().map(|(name, tensor)| (format!("{i}.{name}"), tensor)));
    }
    candle_core::safetensors::save(&tensors, &out).with_context(|| out.clone())
}

fn ids(list: &[u32]) -> Result<Tensor> {
    Ok(Tensor::from_slice(list, list.len(), &Device::Cpu)?)
}

fn vlm(folder: &Path, request: &Request, dtype: DType) -> Result<Tensors> {
    let chosen = Chosen { dtype, ..Chosen::cpu(None) };
    let vlm = Vlm::open(folder, &chosen)?;
    let config = BunnyConfig::from_file(&folder.join("config.json"))?;
    let task = request.task.as_deref().context("a vlm needs a task")?;
    let prompt = vlm.prompt(task, Slices::NONE)?;
    let size = config.input_size();
    let prepare = Preprocess { pre_resize: request.image_resize, pad: config.pad, size };
    let image = decode(request.image.as_deref().context("a vlm needs an image")?, None, &Limits::default())?;
    let pixels = Tensor::from_vec(prepare.apply(&image)?, (3, size, size), &Device::Cpu)?;
    let vision = Vision::load(&config, &tensors(&Checkpoint::open(folder)?)?, dtype, &Device::Cpu)?;
    let (tower, projected) = (vision.tower_features(&pixels)?, vision.encode(&pixels)?);
    let language = vlm.answering()?;
    let features = Features::stack(std::slice::from_ref(&projected))?;
    let shared = prompt.embed_shared(&language)?;
    let embeds = Tensor::cat(&[&shared, &prompt.embed_rest(&language, features.tensor())?], 1)?;
    let cache = language.new_cache(1, embeds.dim(1)?)?;
    let logits = language.logits(&language.forward(&embeds, &cache, 0, 0)?)?;
    let options =
        Options { max_new_tokens: request.max_new_tokens, eos: vlm.eos.clone(), ..Options::default() };
    let mut progress = Progress { samples_done: 0, samples: 1, tokens: 0 };
    let control = Control::default();
    let written =
        Generator::new().token_ids(&language, &prompt, &features, &options, control, &mut progress)?;
    Ok(HashMap::from([
        ("before".to_string(), ids(&prompt.before)?),
        ("after".to_string(), ids(&prompt.after)?),
        ("tower".to_string(), tower.to_dtype(DType::F32)?),
        ("projected".to_string(), projected.to_dtype(DType::F32)?),
        ("logits".to_string(), logits.squeeze(0)?),
        ("ids".to_string(), ids(&written[0].0)?),
    ]))
}

fn llama(folder: &Path, request: &Request, dtype: DType) -> Result<Tensors> {
    let file = folder.join("config.json");
    let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let config = LlamaConfig::from_json(&text, &file.display().to_string())?;
    let model = Llama::load(&config, &tensors(&Checkpoint::open(folder)?)?, dtype, &Device::Cpu)?;
    let mut out = Tensors::new();
    for (j, prompt) in request.prompts.iter().enumerate() {
        let cache = model.new_cache(1, prompt.len() + request.max_new_tokens)?;
        let hidden = model.forward(&model.embed(prompt)?.unsqueeze(0)?, &cache, 0, 0)?;
        let positions = (0..prompt.len()).map(|p| Ok(model.logits(&hidden.narrow(1, p, 1)?)?));
        let rows = positions.collect::<Result<Vec<_>>>()?;
        let mut last = rows.last().context("a prompt has ids")?.clone();
        out.insert(format!("{j}.logits"), Tensor::cat(&rows, 0)?);
        let (mut written, mut gaps) = (Vec::new(), Vec::new());
        while written.len() < request.max_new_tokens {
            let token = model.greedy(&last)?[0].context("the logits are not finite")?;
            let row = last.squeeze(0)?.to_vec1::<f32>()?;
            let best = row[token as usize];
            let others = row.iter().enumerate().filter(|(i, _)| *i != token as usize);
            gaps.push(best - others.fold(f32::NEG_INFINITY, |most, (_, x)| most.max(*x)));
            written.push(token);
            let start = prompt.len() + written.len() - 1;
            let hidden = model.forward(&model.embed(&[token])?.unsqueeze(0)?, &cache, 0, start)?;
            last = model.logits(&hidden)?;
        }
        out.insert(format!("{j}.ids"), ids(&written)?);
        out.insert(format!("{j}.gaps"), Tensor::from_slice(&gaps, gaps.len(), &Device::Cpu)?);
    }
    Ok(out)
}

fn tensors(checkpoint: &Checkpoint) -> Result<Tensors> {
    let read = |name: &str| Ok((name.to_string(), checkpoint.tensor(name, &Device::Cpu)?));
    checkpoint.names().map(read).collect()
}
