//! What can be wrong with files, certificates and tokens: the file, the fault and the remedy. No text of a key or token.

use std::path::Path;

/// Shorthand.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something secret or signed cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refused.
    #[error("cannot {what} {path}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: String,
        /// The system's word.
        source: std::io::Error,
    },
    /// A file that is there and cannot be used.
    #[error("{path}: {fault}")]
    File {
        /// Which.
        path: String,
        /// What is wrong, and what to do.
        fault: String,
    },
    /// A name that a certificate cannot carry.
    #[error("the name {name:?} cannot stand in a certificate: give 1 to {most} letters, digits, dots, dashes or underscores, the first a letter or digit", most = crate::identity::MAX_NAME)]
    Name {
        /// The name, as it was given.
        name: String,
    },
    /// A certificate that says nothing of JRadiEvo.
    #[error(
        "the certificate holds no role: it needs exactly one URI such as jradievo://worker/NAME as an alternative name"
    )]
    NoRole,
    /// A certificate that cannot be read.
    #[error("the certificate cannot be read: {0}")]
    Certificate(String),
    /// A request for a certificate that is not one, or is signed by another key.
    #[error("the request for a certificate cannot be used: {0}")]
    Request(String),
    /// A certificate could not be made.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// TLS itself.
    #[error("{0}")]
    Tls(String),
    /// A token that does not let anybody in.
    #[error("{0}")]
    Token(TokenFault),
    /// Somebody else holds the name.
    #[error(
        "another node holds a certificate for {name:?}: choose another --name, or, if that node is gone, let the operator say jradievo pki revoke {name}"
    )]
    NameInUse {
        /// Which.
        name: String,
    },
    /// A certificate is renewed when some of its time is over.
    #[error("this certificate is too young to be renewed")]
    TooYoung,
}

/// Why a token does not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// Not of the form.
    #[error("this is no join token: it begins with jradievo-join. and is printed by jradievo token")]
    Form,
    /// No such token.
    #[error("the coordinator does not know this join token: ask the operator for a new one")]
    Unknown,
    /// Its time is over.
    #[error("this join token has expired: ask the operator for a new one")]
    Expired,
    /// All its uses are over.
    #[error("this join token has been used up: ask the operator for a new one")]
    Used,
    /// It is for another node.
    #[error("this join token is for a node of another name: give --name as the operator said")]
    Name,
}

impl Error {
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.display().to_string();
        move |source| Error::Io { what, path, source }
    }

    pub(crate) fn file(path: &Path, fault: impl Into<String>) -> Error {
        Error::File { path: path.display().to_string(), fault: fault.into() }
    }
}
