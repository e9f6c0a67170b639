//! Why a command failed, with its exit code.

use super::exit;
use crate::store;

/// Why a command failed, with its exit code.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Wrong command line or run file.
    #[error("{0}")]
    Usage(String),
    /// The state folder.
    #[error("{0}")]
    Folder(String),
    /// Nobody or nothing there.
    #[error("{0}")]
    Absent(String),
    /// The disk.
    #[error("{0}")]
    Disk(String),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

impl Failure {
    /// See [`exit`].
    pub fn code(&self) -> u8 {
        match self {
            Failure::Usage(_) => exit::USAGE,
            Failure::Folder(_) => exit::FOLDER,
            Failure::Absent(_) => exit::ABSENT,
            Failure::Disk(_) => exit::DISK,
            Failure::Failed(_) => exit::FAILURE,
        }
    }
}

impl From<store::Error> for Failure {
    fn from(e: store::Error) -> Failure {
        match e {
            store::Error::InUse { .. } | store::Error::Empty { .. } | store::Error::NotEmpty { .. } => {
                Failure::Folder(e.to_string())
            }
            store::Error::Full { .. } | store::Error::Disk { .. } => Failure::Disk(e.to_string()),
            store::Error::Damaged { .. }
            | store::Error::Broken { .. }
            | store::Error::Format { .. }
            | store::Error::Older { .. }
            | store::Error::Unwitnessed { .. } => Failure::Failed(e.to_string()),
        }
    }
}

impl From<crate::error::Error> for Failure {
    fn from(e: crate::error::Error) -> Failure {
        match e {
            crate::error::Error::Store(e) => e.into(),
            e => Failure::Failed(e.to_string()),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(e: std::io::Error) -> Failure {
        Failure::Failed(e.to_string())
    }
}
