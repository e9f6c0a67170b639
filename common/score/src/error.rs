//! What can go wrong: only settings and the files they name; scoring itself cannot fail.

use std::path::PathBuf;

/// The reason why a scorer could not be made or a metric's name was not understood.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A dictionary or lexicon file that cannot be read; the remedy is in the operating system's message.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file as the settings name it.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A tokeniser dictionary that is not in a form this crate reads.
    #[error(
        "{path} is not a usable dictionary: {reason}; give a file made by vibrato 0.5 (plain, or compressed \
         with zstd), or a folder with lex.csv, matrix.def, char.def and unk.def"
    )]
    Dictionary {
        /// The file or folder as the settings name it.
        path: PathBuf,
        /// What was wrong with it.
        reason: String,
    },
    /// A lexicon file with a fault.
    #[error("{file}, line {line}: {fault}; {remedy}")]
    Lexicon {
        /// The file as the settings name it, or `the built-in lexicon`.
        file: String,
        /// Line of the fault, from 1.
        line: usize,
        /// What is wrong, naming the field.
        fault: String,
        /// What to do about it.
        remedy: String,
    },
    /// A setting outside its range.
    #[error("{field} is {got}, expected {expected}")]
    Setting {
        /// The field's name in the settings.
        field: &'static str,
        /// The value given.
        got: String,
        /// What would be accepted.
        expected: &'static str,
    },
    /// A metric name that does not exist.
    #[error("unknown metric {name:?}; known are {known}")]
    Metric {
        /// The name given.
        name: String,
        /// All names, separated by commas.
        known: String,
    },
}

/// A result whose error is [`Error`].
pub type Result<T> = std::result::Result<T, Error>;
