//! Error class ↔ gRPC status. No other file of either program chooses a code.

use crate::convert::Refused;
use crate::wire;
use common::digest::Difference;
use prost::Message;
use tonic::{Code, Status};

/// Of files that differ so many bytes are said, in UTF-8. They travel once as text, percent-encoded to at most three times
/// that, and once in base64: together less than the 16 KiB that clients take as headers.
const MOST_FILE_BYTES: usize = 3 << 10;

/// Whether and when the same call may succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// At once.
    Now,
    /// After a pause that grows.
    Later,
    /// Not before something is mended.
    Never,
}

/// What went wrong, as both sides understand it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Class {
    /// A field of the request is unusable.
    #[error("{field}: {message}")]
    BadInput {
        /// Path of the field.
        field: String,
        /// What is wrong with it.
        message: String,
    },
    /// The worker's files are not those that the run was started with.
    #[error("files differ from the run's: {}", files.join("; "))]
    Files {
        /// One line per file, beginning with its name.
        files: Vec<String>,
    },
    /// Program, protocol or plan differ.
    #[error("{0}")]
    Version(String),
    /// The coordinator does not know this registration: register again, then hand in what is held.
    #[error("unknown worker: register again")]
    UnknownWorker,
    /// What was asked for does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The coordinator is stopping, or cannot be reached.
    #[error("{0}")]
    Unavailable(String),
    /// The peer's certificate, or token, does not allow this.
    #[error("not allowed: {0}")]
    Denied(String),
    /// A failure of the coordinator itself.
    #[error("{0}")]
    Internal(String),
}

impl Class {
    /// The class of files that differ: the first ones named, the others counted. A status travels in headers, which have
    /// their limit on either side.
    pub fn files(differences: &[Difference]) -> Class {
        let (mut files, mut bytes) = (Vec::new(), 0);
        for difference in differences {
            let line = difference.to_string();
            bytes += line.len();
            if bytes > MOST_FILE_BYTES {
                files.push(format!("and {} more", differences.len() - files.len()));
                break;
            }
            files.push(line);
        }
        Class::Files { files }
    }

    /// Whether and when to try again.
    pub fn retry(&self) -> Retry {
        match self {
            Class::UnknownWorker => Retry::Now,
            Class::Unavailable(_) | Class::Internal(_) => Retry::Later,
            Class::BadInput { .. }
            | Class::Files { .. }
            | Class::Version(_)
            | Class::NotFound(_)
            | Class::Denied(_) => Retry::Never,
        }
    }

    fn code(&self) -> Code {
        match self {
            Class::BadInput { .. } => Code::InvalidArgument,
            Class::Files { .. } | Class::Version(_) => Code::FailedPrecondition,
            // The detail tells them apart: a bare NOT_FOUND may come from anything on the way.
            Class::UnknownWorker | Class::NotFound(_) => Code::NotFound,
            Class::Unavailable(_) => Code::Unavailable,
            Class::Denied(_) => Code::PermissionDenied,
            Class::Internal(_) => Code::Internal,
        }
    }
}

impl From<Refused> for Class {
    fn from(r: Refused) -> Class {
        Class::BadInput { field: r.field, message: r.message }
    }
}

impl From<Class> for Status {
    fn from(class: Class) -> Status {
        let retry = match class.retry() {
            Retry::Now => wire::Retry::Now,
            Retry::Later => wire::Retry::Later,
            Retry::Never => wire::Retry::Never,
        };
        let mut detail = wire::ErrorDetail { retry: retry as i32, ..Default::default() };
        let mut text = class.to_string();
        match &class {
            // The reader puts the field's name back in front.
            Class::BadInput { field, message } => {
                detail.field = field.clone();
                text = message.clone();
            }
            Class::Files { files } => detail.files = files.clone(),
            Class::UnknownWorker => detail.register_again = true,
            // The reader's class says again what it is.
            Class::Denied(message) => text = message.clone(),
            _ => {}
        }
        Status::with_details(class.code(), text, detail.encode_to_vec().into())
    }
}

impl From<&Status> for Class {
    fn from(status: &Status) -> Class {
        // An unreadable detail is as good as none: the code alone then decides.
        let detail = wire::ErrorDetail::decode(status.details()).unwrap_or_default();
        let text = told(status);
        match status.code() {
            Code::InvalidArgument => Class::BadInput { field: detail.field, message: text },
            Code::FailedPrecondition if !detail.files.is_empty() => Class::Files { files: detail.files },
            Code::FailedPrecondition => Class::Version(text),
            Code::NotFound if detail.register_again => Class::UnknownWorker,
            Code::NotFound => Class::NotFound(text),
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Aborted => {
                Class::Unavailable(text)
            }
            Code::PermissionDenied | Code::Unauthenticated => Class::Denied(text),
            // A server that does not know this service or call is another program.
            Code::Unimplemented => Class::Version(format!("not a coordinator of this protocol: {text}")),
            // A message over a size limit, on either side, fails the same way each time.
            Code::OutOfRange | Code::ResourceExhausted => {
                Class::BadInput { field: "message".into(), message: text }
            }
            _ => Class::Internal(text),
        }
    }
}

/// The message, and where the connection itself failed the innermost reason too: the outer ones only say that it did.
fn told(status: &Status) -> String {
    let message = status.message();
    let first = std::error::Error::source(status);
    let innermost = std::iter::successors(first, |e| e.source()).last().map(|e| e.to_string());
    match innermost {
        Some(reason) if !message.contains(&reason) => format!("{message}: {reason}"),
        _ => message.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_survive_the_wire() {
        let classes = [
            Class::BadInput { field: "slots".into(), message: "0 is not 1 to 64".into() },
            Class::Files { files: vec!["models/a/x.bin: missing here".into()] },
            Class::Version("other program".into()),
            Class::UnknownWorker,
            Class::NotFound("no candidate 7".into()),
            Class::Unavailable("stopping".into()),
            Class::Denied("a worker may not".into()),
            Class::Internal("disk".into()),
        ];
        for class in classes {
            let status = Status::from(class.clone());
            assert_eq!(Class::from(&status), class);
        }
    }

    #[test]
    fn hundreds_of_files_that_differ_fit_in_a_clients_headers() {
        let name = |n: u32| format!("models/胸部/日本語の名前を持つ重み-{n:05}.safetensors");
        let differences: Vec<_> = (0..500).map(|n| Difference::Missing { name: name(n) }).collect();
        let class = Class::files(&differences);
        let Class::Files { files } = &class else { panic!("another class") };
        assert!(files.len() > 10 && files[0].starts_with(&name(0)), "{files:?}");
        assert_eq!(*files.last().unwrap(), format!("and {} more", 500 - (files.len() - 1)));
        let status = Status::from(class.clone());
        assert_eq!(Class::from(&status), class);
        let response = status.into_http::<String>();
        let bytes: usize = response.headers().iter().map(|(n, v)| n.as_str().len() + v.len() + 32).sum();
        assert!(bytes < 16 << 10, "{bytes}");
    }

    #[test]
    fn a_foreign_status_without_detail_is_still_classed() {
        assert_eq!(Class::from(&Status::unavailable("x")).retry(), Retry::Later);
        assert_eq!(Class::from(&Status::deadline_exceeded("x")).retry(), Retry::Later);
        assert_eq!(Class::from(&Status::unimplemented("x")).retry(), Retry::Never);
        assert_eq!(Class::from(&Status::not_found("x")), Class::NotFound("x".into()));
        let garbage = Status::with_details(Code::FailedPrecondition, "x", vec![255u8; 9].into());
        assert_eq!(Class::from(&garbage), Class::Version("x".into()));
    }
}
