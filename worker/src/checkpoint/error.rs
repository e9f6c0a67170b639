//! What can be wrong with a model folder, each with the file, the field and a remedy.

use std::path::PathBuf;

/// Why a model folder cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system refused. Trying again may help, the content is not in question.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was attempted, such as `open`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The folder holds no weights in any form that is read here.
    #[error(
        "{}: no weights found; expected model.safetensors, model.safetensors.index.json, pytorch_model.bin or \
         pytorch_model.bin.index.json", folder.display()
    )]
    NoWeights {
        /// The model folder.
        folder: PathBuf,
    },
    /// A file does not hold what its format promises.
    #[error("{}: {field}: {fault}; {remedy}", file.display())]
    Malformed {
        /// The offending file.
        file: PathBuf,
        /// The part of it: a tensor's name, `header`, an index key.
        field: String,
        /// What is wrong, with expected and found values.
        fault: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// A tensor is stored in a type that is not read here.
    #[error("{}: tensor {tensor} has dtype {dtype}, which is not supported; {remedy}", file.display())]
    Dtype {
        /// The file that holds the tensor.
        file: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// The type as the file spells it.
        dtype: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// A pickle asks for something other than tensors. Nothing was executed.
    #[error(
        "{}: the pickle asks for {global}, which is not needed to read tensors; it may be malicious: do not load it \
         elsewhere, get the model in safetensors form", file.display()
    )]
    Pickle {
        /// The offending file.
        file: PathBuf,
        /// The Python object it names.
        global: String,
    },
    /// The model has no tensor of that name.
    #[error("{}: no tensor named {tensor}; the model may have another architecture", folder.display())]
    NoTensor {
        /// The model folder.
        folder: PathBuf,
        /// The name asked for.
        tensor: String,
    },
    /// The folder to be written already holds something.
    #[error("{}: exists and is not empty; choose another folder or remove it first", path.display())]
    OutExists {
        /// The folder that was to be written.
        path: PathBuf,
    },
    /// The disk is too small for what is to be written.
    #[error(
        "{}: {} of disk are missing: {} are to be written, {} are free; make room, or choose a folder on another disk",
        folder.display(), hub::size(*.missing), hub::size(*.needed), hub::size(*.free)
    )]
    Space {
        /// Where it was to be written.
        folder: PathBuf,
        /// Bytes that are missing.
        missing: u64,
        /// Bytes that will be written.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// The caller asked to stop.
    #[error("stopped on request")]
    Stopped,
}

/// Result of reading or writing a model folder.
pub type Result<T> = std::result::Result<T, Error>;

pub(crate) const DOWNLOAD: &str = "the file may be incomplete or damaged: download it again";

impl Error {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.into();
        move |source| Error::Io { action, path, source }
    }

    /// A damaged file; the remedy is to download it again.
    pub(crate) fn malformed(
        file: impl Into<PathBuf>,
        field: impl Into<String>,
        fault: impl Into<String>,
    ) -> Error {
        Error::Malformed { file: file.into(), field: field.into(), fault: fault.into(), remedy: DOWNLOAD }
    }
}
