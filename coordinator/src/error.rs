//! The crate's error: what can end a coordinator.

use crate::{state, store};

/// Shorthand.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a coordinator ended, or did not begin.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store failed: disk full, damaged, or in use.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// What the store holds contradicts itself.
    #[error(transparent)]
    Contradiction(#[from] state::Contradiction),
    /// The gRPC server failed.
    #[error("the server failed: {0}")]
    Server(String),
    /// A run belongs to the program that began it.
    #[error(
        "this run was begun by version {stored} and scores may differ between versions; go on with that version \
         (this is {here})"
    )]
    Version {
        /// The program that began the run.
        stored: String,
        /// This program.
        here: String,
    },
    /// An invariant does not hold.
    #[error("the coordinator stopped because its state is not as it must be: {0}")]
    Broken(String),
}
