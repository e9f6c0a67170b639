//! From image features and a task text to written answers: prompt, batched greedy decoding, text.
//!
//! In: a [`Llama`](crate::model::Llama) and [`Questions`], features and prompt of every sample. Out: one [`Generated`] a
//! sample. Only greedy decoding: the repetition penalty is 1.0, which is none, and nothing is drawn.

mod batch;
mod degenerate;
mod generator;
mod prompt;
mod questions;
#[cfg(test)]
mod tests;
mod tokenizer;

pub use batch::{Control, Generated, Options, Progress, Sizes, Spent, Stop};
pub use degenerate::{Early, LEAST_CYCLE, is_japanese};
pub use generator::{Clock, Generator};
pub use prompt::{TEMPLATE_AFTER, TEMPLATE_BEFORE, bunny_prompt, bunny_texts};
pub use questions::{Group, Questions};
pub use tokenizer::TextTokenizer;
pub(crate) use tokenizer::load as load_tokenizer;

/// Why nothing was generated.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A tokenizer file could not be read or is not a tokenizer.
    #[error("cannot load tokenizer {file}: {reason}")]
    Tokenizer {
        /// The file as the caller named it.
        file: String,
        /// What the reader said.
        reason: String,
    },
    /// A text could not be turned into tokens, or tokens into text.
    #[error("cannot {what}: {reason}")]
    Text {
        /// What was tried.
        what: &'static str,
        /// What the tokenizer said.
        reason: String,
    },
    /// The prompt's tokens are not what the model was trained with.
    #[error("prompt: {0}")]
    Prompt(String),
    /// An option is out of range.
    #[error("{option}: {reason}")]
    Option {
        /// The option's name.
        option: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The caller asked to stop.
    #[error("generation was cancelled")]
    Cancelled,
    /// The model could not be run.
    #[error(transparent)]
    Model(#[from] crate::model::Error),
}

/// A result with this module's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
