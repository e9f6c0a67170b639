//! Why a configuration cannot be merged.

use super::methods::MethodError;
use crate::checkpoint;
use std::path::PathBuf;

/// Why a configuration cannot be merged.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A model folder cannot be read or written.
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
    /// A file of a model cannot be digested.
    #[error(transparent)]
    Digest(#[from] common::files::FilesError),
    /// A tensor's inputs or parameters do not suit the method.
    #[error(transparent)]
    Method(#[from] MethodError),
    /// The configuration does not fit its models.
    #[error("{field}: {fault} ({remedy})")]
    Config {
        /// The part of the configuration, such as `slices[1].sources`.
        field: String,
        /// What is wrong.
        fault: String,
        /// What to do about it.
        remedy: String,
    },
    /// A file of a model says something that cannot be used.
    #[error("{}: {fault} ({remedy})", file.display())]
    File {
        /// The file or folder.
        file: PathBuf,
        /// What is wrong.
        fault: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// A model lacks a tensor.
    #[error("{}: no tensor {tensor}, which {wanted} (merge models of one architecture)", folder.display())]
    Missing {
        /// The model's folder.
        folder: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// Why it is needed.
        wanted: &'static str,
    },
    /// The caller asked to stop.
    #[error("merge stopped on request")]
    Stopped,
}

/// Result of planning or computing a merge.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(super) fn config(
        field: impl Into<String>,
        fault: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Error {
        Error::Config { field: field.into(), fault: fault.into(), remedy: remedy.into() }
    }
}
