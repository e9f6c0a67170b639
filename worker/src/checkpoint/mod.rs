//! Model folders: reading their weights without copying, digesting and writing them.
//!
//! [`Checkpoint::open`] maps every weight file read-only and checks its directory of tensors, after which each
//! tensor is a slice of mapped memory. Read are `model.safetensors`, safetensors shards with
//! `model.safetensors.index.json`, `pytorch_model.bin`, and shards of it with `pytorch_model.bin.index.json`;
//! where several are present the first in this order is used, as transformers does.
//! Nothing here executes code from a checkpoint, converts a dtype, or downloads.
//!
//! ```no_run
//! let model = worker::checkpoint::Checkpoint::open("models/base".as_ref())?;
//! for name in model.names() {
//!     let info = model.info(name).expect("a listed name has an entry");
//!     println!("{name} {:?} {}", info.shape, info.dtype.name());
//! }
//! # Ok::<(), worker::checkpoint::Error>(())
//! ```

mod aligned;
pub(crate) mod beside;
mod dtype;
mod error;
mod index;
mod map;
pub mod part;
mod rename;
mod safetensors;
mod sink;
#[cfg(test)]
mod tests;
mod torch;
mod torch_pickle;
mod torch_zip;
pub mod write;

pub use dtype::Dtype;
pub use error::{Error, Result};
pub(crate) use torch::Strided;

use common::digest::FileDigest;
use common::{bounded, files};
use map::Map;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const SAFETENSORS: &str = "model.safetensors";
const SAFETENSORS_INDEX: &str = "model.safetensors.index.json";
const TORCH: &str = "pytorch_model.bin";
const TORCH_INDEX: &str = "pytorch_model.bin.index.json";

/// What is known of a tensor without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Type of an element.
    pub dtype: Dtype,
    /// Length of each axis, outermost first; the elements lie in row-major order. Empty for a scalar.
    pub shape: Vec<usize>,
    /// Product of `shape`.
    pub elements: usize,
}

/// A tensor and the place of its bytes. Readers make it only of ranges that lie within the file.
struct Entry {
    /// The stored name.
    name: String,
    info: TensorInfo,
    /// Which of the checkpoint's weight files.
    file: usize,
    /// First byte within that file.
    offset: usize,
    /// From there to the end of the last element.
    bytes: usize,
    /// Where the elements do not lie in row-major order.
    strided: Option<torch::Strided>,
}

/// A model folder, opened. Cheap to share between threads; holds address space, not memory.
pub struct Checkpoint {
    folder: PathBuf,
    /// Weight files by name, each with its map.
    weights: Vec<(String, Map)>,
    /// The index file, where the weights are sharded.
    index: Option<&'static str>,
    /// By the names that are used for them.
    tensors: BTreeMap<String, Entry>,
    rename: BTreeMap<String, String>,
}

impl std::fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Checkpoint({}, {} tensors)", self.folder.display(), self.tensors.len())
    }
}

impl Checkpoint {
    /// Maps the weights in `folder` and checks where every tensor lies.
    ///
    /// The files must not be changed in place while the checkpoint is open.
    ///
    /// # Errors
    /// [`Error::NoWeights`] when no known form is there; [`Error::Malformed`], [`Error::Dtype`] or
    /// [`Error::Pickle`] naming file and field when a file is not sound; [`Error::Io`].
    pub fn open(folder: &Path) -> Result<Checkpoint> {
        Checkpoint::open_renamed(folder, &BTreeMap::new())
    }

    /// The same with prefixes of stored names replaced: `{"llm.": ""}` shows `llm.model.norm.weight` as
    /// `model.norm.weight`. The longest prefix that fits a name counts.
    ///
    /// # Errors
    /// As [`Checkpoint::open`]; [`Error::Malformed`] when a prefix fits no name or two tensors would have one name.
    pub fn open_renamed(folder: &Path, rename: &BTreeMap<String, String>) -> Result<Checkpoint> {
        std::fs::read_dir(folder).map_err(Error::io("open the model folder", folder))?;
        let has = |name: &str| folder.join(name).is_file();
        let (index, expected) = if has(SAFETENSORS) {
            (None, single(SAFETENSORS))
        } else if has(SAFETENSORS_INDEX) {
            (Some(SAFETENSORS_INDEX), index::read(&folder.join(SAFETENSORS_INDEX), "safetensors")?)
        } else if has(TORCH) {
            (None, single(TORCH))
        } else if has(TORCH_INDEX) {
            (Some(TORCH_INDEX), index::read(&folder.join(TORCH_INDEX), "bin")?)
        } else {
            return Err(no_weights(folder));
        };

        let mut weights = Vec::with_capacity(expected.len());
        let mut tensors: BTreeMap<String, Entry> = BTreeMap::new();
        for (file, (name, promised)) in expected.into_iter().enumerate() {
            let path = folder.join(&name);
            let map = Map::open(&path)?;
            let entries = match name.ends_with(".safetensors") {
                true => safetensors::entries(&path, map.bytes(), file)?,
                false => torch::entries(&path, map.bytes(), file)?,
            };
            weights.push((name, map));
            for entry in entries {
                if let Some(other) = tensors.get(&entry.name) {
                    let fault = format!("also stored in {}", weights[other.file].0);
                    return Err(Error::malformed(path, entry.name, fault));
                }
                tensors.insert(entry.name.clone(), entry);
            }
            let lacking = promised.iter().find(|t| tensors.get(*t).is_none_or(|e| e.file != file));
            if let Some(tensor) = lacking {
                let fault = "the index places the tensor in this file, which does not hold it";
                return Err(Error::malformed(path, tensor, fault));
            }
        }
        let tensors = rename::apply(folder, tensors, rename)?;
        Ok(Checkpoint { folder: folder.into(), weights, index, tensors, rename: rename.clone() })
    }

    /// The prefixes that it was opened with.
    pub fn rename(&self) -> &BTreeMap<String, String> {
        &self.rename
    }

    /// The name under which the tensor of that name is stored.
    pub fn stored_name(&self, name: &str) -> Option<&str> {
        self.tensors.get(name).map(|e| e.name.as_str())
    }

    /// The folder it was opened from.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Type and shape of the tensor of that name.
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name).map(|e| &e.info)
    }

    /// The mapped bytes that the tensor lies in: its elements, little endian, in row-major order, unless a torch file
    /// holds them in another order ([`Checkpoint::elements`] is right for both).
    /// The address may be odd: do not assume any alignment.
    ///
    /// # Errors
    /// [`Error::NoTensor`].
    pub fn bytes(&self, name: &str) -> Result<&[u8]> {
        Ok(self.stored(name)?.0)
    }

    /// The same with the order of the elements, where that is not row-major.
    pub(crate) fn stored(&self, name: &str) -> Result<(&[u8], Option<&torch::Strided>)> {
        let entry = self.entry(name)?;
        let bytes = &self.weights[entry.file].1.bytes()[entry.offset..entry.offset + entry.bytes];
        Ok((bytes, entry.strided.as_ref()))
    }

    /// The tensor's elements, little endian, in row-major order: where the file is mapped, or, where a torch file holds
    /// them in another order, a copy that is the caller's and is kept nowhere else.
    ///
    /// # Errors
    /// [`Error::NoTensor`].
    pub fn elements(&self, name: &str) -> Result<Cow<'_, [u8]>> {
        let (stored, strided) = self.stored(name)?;
        let Some(strided) = strided else { return Ok(Cow::Borrowed(stored)) };
        let info = &self.entry(name)?.info;
        let mut ordered = vec![0; info.elements * info.dtype.width()];
        strided.gather(stored, info.dtype.width(), 0, &mut ordered);
        Ok(Cow::Owned(ordered))
    }

    /// Tells the system that a part of what [`Checkpoint::bytes`] gave will be read soon.
    pub fn will_need(&self, part: &[u8]) {
        self.weights.iter().for_each(|(_, map)| map.will_need(part));
    }

    /// Tells the system that a part of what [`Checkpoint::bytes`] gave will not be read soon. Reading it again is slower, not wrong.
    pub fn let_go(&self, part: &[u8]) {
        self.weights.iter().for_each(|(_, map)| map.let_go(part));
    }

    /// The tensor copied to `device`, in its stored type.
    ///
    /// # Errors
    /// [`Error::NoTensor`]; [`Error::Dtype`] for types that candle lacks; [`Error::Malformed`] when the device
    /// refuses.
    pub fn tensor(&self, name: &str, device: &candle_core::Device) -> Result<candle_core::Tensor> {
        let entry = self.entry(name)?;
        let file = || self.folder.join(&self.weights[entry.file].0);
        let dtype = entry.info.dtype.candle().ok_or_else(|| Error::Dtype {
            file: file(),
            tensor: name.into(),
            dtype: entry.info.dtype.name().into(),
            remedy: "convert the model to float32, bfloat16 or float16",
        })?;
        candle_core::Tensor::from_raw_buffer(&self.elements(name)?, dtype, &entry.info.shape, device)
            .map_err(|e| Error::malformed(file(), name, e.to_string()))
    }

    /// The path of the file that holds the tensor, for messages.
    pub fn file_of(&self, name: &str) -> Option<PathBuf> {
        self.tensors.get(name).map(|e| self.folder.join(&self.weights[e.file].0))
    }

    /// The text of `config.json`.
    ///
    /// # Errors
    /// [`Error::Io`] when it is missing, too large, or not UTF-8.
    pub fn config_json(&self) -> Result<String> {
        let path = self.folder.join("config.json");
        bounded::text(&path, bounded::SETTINGS_BYTES).map_err(Error::io("read", path))
    }

    /// Names of the files in the folder that define the model, sorted: configuration, tokenizer, weights, index.
    /// Weights in a form that is not used, READMEs and code are not among them.
    pub fn files(&self) -> Vec<String> {
        let beside =
            files::BESIDE.into_iter().filter(|name| self.folder.join(name).is_file()).map(String::from);
        let weights = self.weights.iter().map(|(name, _)| name.clone());
        let mut files: Vec<String> = beside.chain(weights).chain(self.index.map(String::from)).collect();
        files.sort();
        files
    }

    /// Digests of these files, as [`files::digest_model`] of the folder gives them. Ends early, with an error, once `go_on` says no.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn digests(
        &self,
        name: &str,
        go_on: &dyn Fn() -> bool,
    ) -> std::result::Result<Vec<FileDigest>, files::FilesError> {
        let mapped = |file: &str| self.weights.iter().find(|(f, _)| f == file).map(|(_, map)| map.bytes());
        files::digest_opened_model(name, &self.folder, mapped, go_on)
    }

    fn entry(&self, name: &str) -> Result<&Entry> {
        let missing = || Error::NoTensor { folder: self.folder.clone(), tensor: name.into() };
        self.tensors.get(name).ok_or_else(missing)
    }
}

/// Why there are no weights: shards whose index was forgotten are told apart from a folder of something else.
fn no_weights(folder: &Path) -> Error {
    let shard = |name: &String| {
        name.starts_with("model-") && name.ends_with(".safetensors")
            || name.starts_with("pytorch_model-") && name.ends_with(".bin")
    };
    let names = std::fs::read_dir(folder).into_iter().flatten().flatten();
    match names.filter_map(|e| e.file_name().into_string().ok()).filter(shard).min() {
        Some(shard) => Error::Malformed {
            file: folder.into(),
            field: shard,
            fault: "a shard of weights, but no index says which tensors are where".into(),
            remedy: "put model.safetensors.index.json or pytorch_model.bin.index.json of the same model beside it",
        },
        None => Error::NoWeights { folder: folder.into() },
    }
}

/// One file that promises no tensor in particular.
fn single(name: &str) -> BTreeMap<String, Vec<String>> {
    BTreeMap::from([(name.to_string(), Vec::new())])
}
