//! Why a merge is refused or stops.

use crate::checkpoint;
use common::recipe::RecipeError;
use std::path::PathBuf;

/// Why a merge is refused or stops.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A model folder cannot be read or written.
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
    /// The recipe's numbers are out of range.
    #[error("recipe refused: {0}")]
    Recipe(#[from] RecipeError),
    /// A recipe names a model that was not opened.
    #[error(
        "model {model} is not among the opened ones ({opened}); open the merger with every model of the run"
    )]
    Unknown {
        /// The name in the recipe.
        model: String,
        /// The names that are open, comma separated.
        opened: String,
    },
    /// A vision-language model's configuration, or a file beside it, is at fault.
    #[error("model {model}: {reason}")]
    Family {
        /// The model's name.
        model: String,
        /// The file, the key and what is wrong with it.
        reason: String,
    },
    /// Two references give one name to different folders.
    #[error("model name {model} stands for both {first} and {second}; give each model a name of its own")]
    Ambiguous {
        /// The name.
        model: String,
        /// The folder that was opened first.
        first: String,
        /// The other folder.
        second: String,
    },
    /// A model's vocabulary has another number of rows than the base's, and nothing was chosen for that.
    #[error(
        "{}: tensor {tensor} of {model} has {found} rows, that of {base} has {expected}: the vocabularies differ; \
         set vocabulary in [merge] or at the source: \"align\" matches rows by token (each model's tokenizer.json), \
         \"cut\" takes the leading rows", file.display()
    )]
    Vocabulary {
        /// The file that holds the model's tensor.
        file: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// The model.
        model: String,
        /// Its rows.
        found: usize,
        /// The model that it must fit.
        base: String,
        /// That model's rows.
        expected: usize,
    },
    /// A tokenizer that is needed to match vocabularies cannot be read, or matches nothing.
    #[error(
        "{}: of no use for matching vocabularies: {reason}; vocabulary = \"align\" matches rows by the tokens in this file: put the \
         model's own there, or choose \"cut\"", file.display()
    )]
    Tokens {
        /// The tokenizer's file.
        file: PathBuf,
        /// Why it is of no use.
        reason: String,
    },
    /// A model's tensor has another shape than the base's.
    #[error(
        "tensor {tensor}: {model} has shape {found:?}, the base {base} has {expected:?}; the models must share one \
         architecture and vocabulary"
    )]
    Shape {
        /// The tensor's name.
        tensor: String,
        /// The model whose tensor does not fit.
        model: String,
        /// Its shape.
        found: Vec<usize>,
        /// The base model.
        base: String,
        /// The base tensor's shape.
        expected: Vec<usize>,
    },
    /// A tensor is stored as something other than float32, float16 or bfloat16.
    #[error(
        "tensor {tensor} of {model} is stored as {dtype}; merging reads F32, F16 and BF16: convert the model"
    )]
    Dtype {
        /// The tensor's name.
        tensor: String,
        /// The model that holds it.
        model: String,
        /// The stored type.
        dtype: &'static str,
    },
    /// A model lacks a tensor that cannot be taken as unchanged.
    #[error("tensor {tensor} is missing from {model}, {why}")]
    Missing {
        /// The tensor's name.
        tensor: String,
        /// The model that lacks it.
        model: String,
        /// Why it is needed there.
        why: &'static str,
    },
    /// A number of the recipe differs by group, and a tensor is in none.
    #[error(
        "tensor {tensor}: no case of the {number} fits it; add \"rest\" to the filters of the run file, or a case \
         without a filter to the recipe"
    )]
    NoCase {
        /// The tensor's name.
        tensor: String,
        /// Which number.
        number: String,
    },
    /// Weights that differ by group sum to zero in one.
    #[error(
        "tensor {tensor}: the weights of a linear merge sum to zero there; give one source a weight in every group"
    )]
    NoWeight {
        /// The tensor's name.
        tensor: String,
    },
    /// A buffer of another length than the tensor's.
    #[error("tensor {tensor} has {expected} elements, the buffer {found}")]
    Buffer {
        /// The tensor's name.
        tensor: String,
        /// Elements of the tensor.
        expected: usize,
        /// Elements of the buffer.
        found: usize,
    },
    /// A file beside the weights that cannot be used.
    #[error("{reason}")]
    Beside {
        /// The file, and what is wrong with it.
        reason: String,
    },
    /// The device on which a merge runs failed.
    #[error("the GPU could not merge: {reason}; --merge-on host merges on the host")]
    Device {
        /// What its driver or compiler said.
        reason: String,
    },
    /// The caller asked to stop.
    #[error("merge stopped on request")]
    Stopped,
}

/// Result of planning or computing a merge.
pub type Result<T> = std::result::Result<T, Error>;
