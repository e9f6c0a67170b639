//! A configuration made into a model folder.

use super::error::{Error, Result};
use super::folder;
use super::methods::{self, Call, Method, PIECE_BYTES, Put, Values};
use super::model::{EMBEDDING, Model};
use super::plan::{self, Plan, Rows, Tensor, Vocabulary};
use super::tokens::Matched;
use crate::background;
use crate::card::{Source, licence_texts};
use crate::checkpoint::write::{SHARD_BYTES, Spec, Writer};
use crate::checkpoint::{Checkpoint, Dtype};
use crate::merge::block::{BLOCK, CHUNK, narrow_bytes};
use crate::merge::vocabulary::Alignment;
use common::digest::FileDigest;
use common::mergekit::{Config, ModelName};
use half::{bf16, f16};
use rayon::prelude::*;
use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// What a configuration leaves open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Seed of random masks.
    pub seed: u64,
    /// Where vocabularies differ and no tokenizer is set: keep the rows that all have, which is right only where they
    /// stand for the same tokens. mergekit's `--unsafe-truncate-embeddings`.
    pub truncate_embeddings: bool,
    /// See [`Call::threads`].
    pub torch_threads: usize,
    /// Bound on a shard's data, in bytes.
    pub shard_bytes: u64,
    /// Whether the model card tells the digests of the models' files.
    pub digests: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            seed: 0,
            truncate_embeddings: false,
            torch_threads: 1,
            shard_bytes: SHARD_BYTES,
            digests: false,
        }
    }
}

/// What the folder tells of where it came from.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The folder's name, which is the model's.
    pub title: &'a str,
    /// The configuration's text.
    pub yaml: &'a str,
    /// The models with their licences.
    pub sources: &'a [Source],
}

/// A merge of which every tensor can be computed. Holds no weights itself.
pub struct Merge {
    config: Config,
    method: Method,
    pub(super) models: Vec<Model>,
    pub(super) tokens: Option<Matched>,
    pub(super) plan: Plan,
    pub(super) options: Options,
}

impl Merge {
    /// Opens the models, each in the folder that `folder` gives for it, and plans every tensor.
    ///
    /// # Errors
    /// [`Error::Config`], [`Error::File`], [`Error::Missing`], [`Error::Method`]: the configuration does not fit the
    /// models or asks for what is not supported; [`Error::Checkpoint`]; what `folder` says.
    pub fn plan(
        config: Config,
        options: Options,
        folder: impl Fn(&ModelName) -> Result<PathBuf>,
    ) -> Result<Merge> {
        let method: Method = config.method.parse()?;
        let names = config.models();
        let slice_bases = match &config.inputs {
            common::mergekit::Inputs::Slices(slices) => {
                slices.iter().filter_map(|s| s.base.as_ref()).collect()
            }
            common::mergekit::Inputs::Models(_) => vec![],
        };
        if let Some(base) = slice_bases.into_iter().find(|base| !names.contains(base)) {
            let fault = format!("{base} is not a source of any slice");
            return Err(Error::config("slices", fault, "name one of the slice's sources as its base_model"));
        }
        let models: Vec<Model> =
            names.iter().map(|name| Model::open(name, &folder(name)?)).collect::<Result<_>>()?;
        let first = models.first().ok_or_else(|| Error::config("models", "there are none", "name some"))?;
        if let Some(other) = models.iter().find(|m| m.architecture != first.architecture) {
            let fault = format!(
                "{} is a {}, {} a {}",
                first.name, first.architecture, other.name, other.architecture
            );
            return Err(Error::config("models", fault, "merge models of one architecture"));
        }
        let tokens = match &config.tokenizer {
            Some(setting) => Some(Matched::new(setting, &models, &folder)?),
            None => None,
        };
        let vocabulary = match &tokens {
            Some(matched) => Vocabulary::Rows(matched.rows),
            None if options.truncate_embeddings => Vocabulary::Cut,
            None => Vocabulary::Equal,
        };
        let plan = plan::plan(&config, method, &models, vocabulary)?;
        Ok(Merge { config, method, models, tokens, plan, options })
    }

    /// What is worth knowing though nothing is wrong: settings without effect, tensors and tokens left out.
    pub fn notes(&self) -> impl Iterator<Item = &str> {
        let tokens = self.tokens.iter().flat_map(|t| &t.notes);
        self.plan.notes.iter().chain(tokens).map(String::as_str)
    }

    /// The models by name, opened; the first gives configuration and, unless a tokenizer is set, the
    /// tokenizer.
    pub fn models(&self) -> impl Iterator<Item = (&ModelName, &Checkpoint)> {
        self.models.iter().map(|m| (&m.name, &m.checkpoint))
    }

    /// Every tensor of the result as it will be written.
    pub fn specs(&self) -> Vec<Spec> {
        let spec = |t: &Tensor| Spec { name: t.name.clone(), dtype: t.dtype, shape: t.shape.clone() };
        self.plan.tensors.iter().map(spec).collect()
    }

    /// Computes the tensor at that position of [`Merge::specs`], as little-endian bytes, piece by piece. Files that are needed
    /// meanwhile lie in the folder `spill`.
    fn tensor(&self, position: usize, spill: &Path, put: Put) -> Result<()> {
        let tensor = &self.plan.tensors[position];
        let mut copies = tensor.rows == Rows::Aligned;
        for input in &tensor.inputs {
            copies |= self.models[input.model].checkpoint.stored(&input.stored)?.1.is_some();
        }
        if copies {
            // Putting elements in order takes memory of its own.
            methods::forget_room();
        }
        let matrices = self.inputs(tensor)?;
        let stored = tensor.compute.stored();
        let sources: Vec<String> =
            tensor.inputs.iter().map(|i| self.models[i.model].name.to_string()).collect();
        let mut inputs = Vec::with_capacity(matrices.len());
        for ((input, bytes), source) in tensor.inputs.iter().zip(&matrices).zip(&sources) {
            let dtype = match tensor.rows {
                Rows::Aligned => stored,
                _ => self.models[input.model].info(&input.stored)?.dtype,
            };
            let values = Values::stored(bytes, dtype)?;
            inputs.push(methods::Input { source, values, parameters: &input.parameters });
        }
        let call = Call {
            tensor: &tensor.name,
            shape: &tensor.shape,
            compute: tensor.compute,
            inputs: &inputs,
            base: tensor.base,
            parameters: &tensor.shared,
            seed: self.options.seed,
            threads: self.options.torch_threads,
            spill: Some(spill),
        };
        methods::merge_pieces(tensor.method, &call, tensor.dtype, put)?;
        // Who digests reads the same pages.
        if !self.options.digests {
            tensor.inputs.par_iter().try_for_each(|input| {
                let checkpoint = &self.models[input.model].checkpoint;
                checkpoint.stored(&input.stored).map(|(bytes, _)| checkpoint.let_go(bytes))
            })?;
        }
        Ok(())
    }

    /// The elements of each input, with their rows where the result wants them.
    fn inputs(&self, tensor: &Tensor) -> Result<Vec<Cow<'_, [u8]>>> {
        let stored = |input: &plan::Input| -> Result<Cow<'_, [u8]>> {
            Ok(self.models[input.model].checkpoint.elements(&input.stored)?)
        };
        let Some(tokens) = self.tokens.as_ref().filter(|_| tensor.rows == Rows::Aligned) else {
            return tensor
                .inputs
                .iter()
                .map(|input| {
                    let bytes = stored(input)?;
                    let dtype = self.models[input.model].info(&input.stored)?.dtype;
                    let wanted = tensor.shape.iter().product::<usize>() * dtype.width();
                    Ok(match (tensor.rows, bytes) {
                        (Rows::Cut, Cow::Borrowed(bytes)) => Cow::Borrowed(&bytes[..wanted]),
                        (Rows::Cut, Cow::Owned(mut bytes)) => {
                            bytes.truncate(wanted);
                            Cow::Owned(bytes)
                        }
                        (_, bytes) => bytes,
                    })
                })
                .collect();
        };
        let models: Vec<usize> = tensor.inputs.iter().map(|i| i.model).collect();
        let alignment = tokens.alignment(&models, tensor.base)?;
        let mut sources = Vec::with_capacity(models.len());
        for input in &tensor.inputs {
            let info = self.models[input.model].info(&input.stored)?;
            sources.push(Matrix { bytes: stored(input)?, dtype: info.dtype, columns: tensor.shape[1] });
        }
        check_rows(tensor, &alignment, &sources)?;
        let one = |model: usize| Cow::Owned(align(tensor, &alignment, &sources, model));
        Ok((0..models.len()).map(one).collect())
    }

    /// Digests of the files that the merge is made from.
    fn digests(&self, go_on: &dyn Fn() -> bool) -> Result<Vec<FileDigest>> {
        let mut all = Vec::new();
        for model in &self.models {
            all.extend(model.checkpoint.digests(&model.name.to_string(), go_on)?);
        }
        Ok(all)
    }

    /// Writes the folder `out`, whole or not at all, with a few pieces of the result in memory. `stop` is looked at between
    /// tensors. Not to be called from a thread of rayon's global pool, whose threads it may wait for.
    ///
    /// # Errors
    /// [`Error::Stopped`]; [`Error::Checkpoint`] when `out` is not empty or cannot be written; [`Error::Digest`];
    /// [`Error::Method`] for parameters out of range; [`Error::Config`] for a token's setting that does not fit.
    pub fn write(&self, out: &Path, origin: &Origin<'_>, stop: &AtomicBool) -> Result<()> {
        let mut files = match &self.tokens {
            Some(tokens) => tokens.files()?,
            None => folder::tokenizer(&self.models[0])?,
        };
        if let Some(setting) = &self.config.chat_template {
            folder::chat_template(setting, &self.models, &mut files)?;
        }
        files.extend(folder::beside(&self.models[0])?);
        let rows = self.plan.tensors.iter().find(|t| t.name == EMBEDDING).map(|t| t.shape[0]);
        let changed = self.plan.tensors.iter().any(|t| t.rows != Rows::Same);
        let config = folder::config(&self.config, &self.models, &self.plan, rows.filter(|_| changed));
        files.push(("config.json".into(), config));
        files.push(("mergekit_config.yml".into(), origin.yaml.as_bytes().to_vec()));
        files.extend(licence_texts(origin.sources));

        let writer = Writer::create(out)?;
        for (name, content) in &files {
            writer.file(name, content)?;
        }
        drop(files);
        let specs = self.specs();
        let over = AtomicBool::new(false);
        let stopped = || stop.load(Ordering::Relaxed) || over.load(Ordering::Relaxed);
        // The models are digested meanwhile, by what processors the merge and the disk leave. What fails ends the other.
        let (written, digests) = std::thread::scope(|scope| {
            let digesting = scope.spawn(|| {
                if !self.options.digests {
                    return Ok(Vec::new());
                }
                let digests = background::beside_others(|| self.digests(&|| !stopped()));
                over.fetch_or(digests.is_err(), Ordering::Relaxed);
                digests
            });
            let unless_written = SetOnDrop(&over);
            let written = writer.pieces(&specs, self.options.shard_bytes, PIECE_BYTES, |spec, pieces| {
                if stopped() {
                    return Err(Error::Stopped);
                }
                let position = specs.iter().position(|s| s.name == spec.name).expect("a spec of the plan");
                self.tensor(position, writer.folder(), &mut |bytes, fill| pieces.put(bytes, fill))
            });
            methods::forget_room();
            if written.is_ok() {
                std::mem::forget(unless_written);
            } else {
                drop(unless_written);
            }
            (written, digesting.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        let digests = match (written, digests) {
            (Err(Error::Stopped), Err(fault)) if !stop.load(Ordering::Relaxed) => return Err(fault),
            _ if stop.load(Ordering::Relaxed) => return Err(Error::Stopped),
            (written, digests) => written.and(digests)?,
        };
        let random = self.method.random().then_some(self.options.seed);
        writer.file(
            "README.md",
            folder::card(&self.config, random, origin, self.options.digests.then_some(&digests[..]))
                .as_bytes(),
        )?;
        Ok(writer.finish()?)
    }
}

/// Tells another thread that this one is not going on, be it by a panic.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A stored matrix of one row a token.
struct Matrix<'a> {
    bytes: Cow<'a, [u8]>,
    dtype: Dtype,
    columns: usize,
}

impl Matrix<'_> {
    fn row(&self, row: usize, out: &mut [f32]) {
        let width = self.dtype.width();
        let bytes = &self.bytes[row * self.columns * width..(row + 1) * self.columns * width];
        for (out, b) in out.iter_mut().zip(bytes.chunks_exact(width)) {
            *out = match (self.dtype, b) {
                (Dtype::F32, &[a, b, c, d]) => f32::from_le_bytes([a, b, c, d]),
                (Dtype::Bf16, &[a, b]) => bf16::from_le_bytes([a, b]).to_f32(),
                (_, &[a, b]) => f16::from_le_bytes([a, b]).to_f32(),
                _ => f32::NAN,
            };
        }
    }
}

/// Whether each model stores the rows that its configuration tells of.
fn check_rows(tensor: &Tensor, alignment: &Alignment, sources: &[Matrix<'_>]) -> Result<()> {
    for (model, matrix) in sources.iter().enumerate() {
        let stored = matrix.bytes.len() / (matrix.columns * matrix.dtype.width()).max(1);
        let largest = (0..alignment.rows()).filter_map(|row| alignment.map(model).get(row)).max();
        if largest.is_some_and(|row| row >= stored) {
            let fault = format!("an input has {stored} rows, fewer than vocab_size in its config.json");
            return Err(Error::config(&tensor.name, fault, "correct config.json of that model"));
        }
    }
    Ok(())
}

/// One input's rows in the result's order, in the type of the arithmetic.
fn align(tensor: &Tensor, alignment: &Alignment, sources: &[Matrix<'_>], model: usize) -> Vec<u8> {
    let columns = tensor.shape[1];
    let compute = tensor.compute;
    let dtype = compute.stored();
    let mut values = vec![0f32; alignment.rows() * columns];
    let fetch = |model: usize, row: usize, out: &mut [f32]| {
        sources[model].row(row, out);
        out.iter_mut().for_each(|x| *x = compute.round(*x));
    };
    alignment.tensor(model, columns, fetch, |x| compute.round(x), &mut values);
    let mut bytes = vec![0; values.len() * dtype.width()];
    narrow(&values, dtype, &mut bytes);
    bytes
}

/// Rounds a whole tensor, on all threads.
fn narrow(values: &[f32], dtype: Dtype, out: &mut [u8]) {
    let width = dtype.width();
    let chunks = out.par_chunks_mut(CHUNK * width).zip(values.par_chunks(CHUNK));
    chunks.for_each(|(out, values)| {
        for (out, values) in out.chunks_mut(BLOCK * width).zip(values.chunks(BLOCK)) {
            narrow_bytes(values, dtype, out);
        }
    });
}
