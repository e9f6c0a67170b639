//! What can go wrong between a reference and a folder.

use common::location::{BadHubRef, HubRef};
use std::path::{Path, PathBuf};

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why there is no commit, no file or no folder. Every message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An environment variable, or a file that it names, cannot be used.
    #[error("{variable}: {fault}")]
    Settings {
        /// The variable.
        variable: String,
        /// What is wrong with it.
        fault: String,
    },
    /// Not a reference.
    #[error(transparent)]
    Reference(#[from] BadHubRef),
    /// Without network, and the cache does not have it.
    #[error(
        "{reference}: {missing}, and {why}; on a machine with network run `jradievo-worker fetch` and carry the cache over"
    )]
    NotCached {
        /// What was asked for.
        reference: String,
        /// What the cache lacks.
        missing: String,
        /// Why the hub is not asked.
        why: String,
    },
    /// A branch or tag that neither hub nor cache resolves.
    #[error(
        "{reference}: cannot be pinned: {why}; write the commit yourself, as in hf://{repo}@0123…, 40 digits, from the \
         repository's list of commits"
    )]
    NotPinned {
        /// What was asked for.
        reference: String,
        /// `owner/name`.
        repo: String,
        /// Why not.
        why: String,
    },
    /// No answer.
    #[error(
        "{host} does not answer: {why}; HF_ENDPOINT names a mirror, HTTPS_PROXY a proxy, HF_HUB_OFFLINE=1 uses the cache alone"
    )]
    Unreachable {
        /// The host that was asked.
        host: String,
        /// What happened.
        why: String,
    },
    /// Access to the repository must be granted first.
    #[error(
        "{repo} is gated{}: accept its licence at {endpoint}/{repo} with your account, then set HF_TOKEN to a token of \
         that account", token_words(*.token)
    )]
    Gated {
        /// `owner/name`.
        repo: String,
        /// The hub's address.
        endpoint: String,
        /// Whether a token was sent.
        token: bool,
    },
    /// The hub refuses, gated or not.
    #[error(
        "{repo}: refused with status {status}{}: the repository is private or gated, the token is not valid, or there \
         is no such repository; check the name, and set HF_TOKEN to a token that may read it", token_words(*.token)
    )]
    Refused {
        /// `owner/name`.
        repo: String,
        /// 401 or 403.
        status: u16,
        /// Whether a token was sent.
        token: bool,
    },
    /// No such repository.
    #[error("{endpoint} has no model repository {repo}; check the spelling (a private one needs HF_TOKEN)")]
    NoRepo {
        /// `owner/name`.
        repo: String,
        /// The hub's address.
        endpoint: String,
    },
    /// No such branch, tag or commit.
    #[error("{repo} has no revision {revision:?}; check the spelling of the branch, tag or commit")]
    NoRevision {
        /// `owner/name`.
        repo: String,
        /// What was asked for.
        revision: String,
    },
    /// The listing names a file that the hub does not hand out.
    #[error("{reference}: the hub has no file {file}")]
    NoFile {
        /// What was asked for.
        reference: String,
        /// The file.
        file: String,
    },
    /// The repository holds no weights in a known form.
    #[error("{reference}: {fault}; choose a repository in Hugging Face's layout")]
    NotAModel {
        /// What was asked for.
        reference: String,
        /// What is missing.
        fault: String,
    },
    /// An answer that no hub gives.
    #[error("{url}: {fault}; is HF_ENDPOINT the address of a hub?")]
    Answer {
        /// What was asked.
        url: String,
        /// What is wrong with the answer.
        fault: String,
    },
    /// A file arrived, again and again, with another content than the hub states.
    #[error("{reference}: {file}: {fault}; try again, or another mirror")]
    Content {
        /// What was asked for.
        reference: String,
        /// The file.
        file: String,
        /// Size or digest, expected and found.
        fault: String,
    },
    /// The transfer broke off more often than is sensible.
    #[error("{reference}: {file}: the transfer broke off: {why}; start again to go on where it stopped")]
    Broken {
        /// What was asked for.
        reference: String,
        /// The file.
        file: String,
        /// What happened last.
        why: String,
    },
    /// The disk is too small.
    #[error(
        "{}: {} more are needed and {} are free; make room, or set HF_HUB_CACHE to a folder on another disk",
        folder.display(), crate::progress::bytes(*.needed), crate::progress::bytes(*.free)
    )]
    Space {
        /// The cache.
        folder: PathBuf,
        /// Bytes still to be written.
        needed: u64,
        /// Bytes free.
        free: u64,
    },
    /// The file system.
    #[error("cannot {doing} {}: {source}{}", path.display(), hint(source))]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The program was asked to stop.
    #[error("stopped; start again to go on where it stopped")]
    Stopped,
}

impl Error {
    pub(crate) fn io<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> Error + 'a {
        move |source| Error::Io { doing, path: path.to_path_buf(), source }
    }

    pub(crate) fn not_cached(
        reference: &HubRef,
        missing: impl Into<String>,
        why: impl Into<String>,
    ) -> Error {
        Error::NotCached { reference: reference.to_string(), missing: missing.into(), why: why.into() }
    }

    /// Whether the hub will not show the repository to this account, or not any more: what the cache has stays as good.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Error::Gated { .. } | Error::Refused { .. } | Error::NoRepo { .. })
    }

    /// Whether nobody answered, so that the cache may stand in.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Error::Unreachable { .. })
    }
}

fn token_words(token: bool) -> &'static str {
    if token { " (a token was sent)" } else { " (no token was sent)" }
}

fn hint(e: &std::io::Error) -> &'static str {
    match e.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            "; make room and start again: what has arrived is kept. HF_HUB_CACHE names a folder on another disk"
        }
        std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
            "; HF_HUB_CACHE names a folder that can be written"
        }
        _ => "",
    }
}
