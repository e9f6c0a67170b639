//! What can go wrong between a model's files and its outputs.

/// Why a model could not be built, changed or run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read.
    #[error("cannot read {file}: {source}")]
    Read {
        /// The file as the caller named it.
        file: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not the JSON expected.
    #[error("{file}: {reason}")]
    Json {
        /// The file as the caller named it.
        file: String,
        /// What the parser said, with line and column.
        reason: String,
    },
    /// A configuration key is missing, out of range, or not supported.
    #[error("{file}: {field}: {reason}")]
    Config {
        /// The file as the caller named it.
        file: String,
        /// The key, dotted when nested.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The checkpoint lacks a tensor that the model needs.
    #[error("tensor {name} is missing, expected shape {expected:?}")]
    MissingTensor {
        /// The tensor's name.
        name: String,
        /// The shape it should have.
        expected: Vec<usize>,
    },
    /// A tensor has another shape than the configuration says.
    #[error("tensor {name} has shape {found:?}, expected {expected:?}")]
    Shape {
        /// The tensor's name.
        name: String,
        /// The shape it should have.
        expected: Vec<usize>,
        /// The shape it has.
        found: Vec<usize>,
    },
    /// The model has no parameter of that name.
    #[error("the language model has no parameter named {name}")]
    UnknownParameter {
        /// The name asked for.
        name: String,
    },
    /// A tensor's values could not be had from its source.
    #[error("tensor {name}: {reason}")]
    Source {
        /// The tensor's name.
        name: String,
        /// What the source said.
        reason: String,
    },
    /// A call's arguments do not fit the model.
    #[error("{what}: expected {expected}, got {got}")]
    Argument {
        /// The argument.
        what: &'static str,
        /// What it must be.
        expected: String,
        /// What it was.
        got: String,
    },
    /// The tensor library failed, mostly for want of memory.
    #[error("tensor operation failed: {0}")]
    Tensor(#[from] candle_core::Error),
}

impl Error {
    /// What preparing a picture reported.
    pub(crate) fn image(e: &crate::image::Error) -> Self {
        Error::Argument {
            what: "image",
            expected: "a picture that can be resized".into(),
            got: e.to_string(),
        }
    }
}

/// A result with this module's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
