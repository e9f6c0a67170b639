//! Wire → checked values and back. Every limit of the protocol stands here, and nothing past this module
//! meets a value that did not pass it.
//!
//! Requests are read by the coordinator with `TryFrom<wire::…Request>`, replies by the
//! worker with `TryFrom<wire::…Reply>`; the way out is `From`, which cannot fail. An error names the field
//! as the schema calls it.

mod evaluation;
mod join;
mod operate;
mod reply;
mod request;

pub use join::{Joining, MAX_CERTIFICATE_REQUEST, Renewing};
pub use reply::{
    Acknowledgement, Description, ExchangeAnswer, Grant, Progress, Receipt, Registered, Remainder, RunState,
};
pub use request::{
    End, Exchange, FailureKind, Held, LeaseProgress, MAX_SLOTS, MAX_WAIT_MS, Outcome, Registration, Report,
    Stage,
};

use common::digest::Digest;

/// The longest name of a worker, a metric or a sample, in bytes.
pub const MAX_NAME_BYTES: usize = 256;
/// The longest line meant for people (a device, a reason), in bytes. Longer ones are cut, not refused.
pub const MAX_LINE_BYTES: usize = 2048;
/// The most files in a manifest.
pub const MAX_FILES: usize = 65_536;
/// The most leases named in one message.
pub const MAX_LEASES: usize = 1024;
/// The most metrics of one sample.
pub const MAX_METRICS: usize = 64;
/// The longest recipe, in bytes.
pub const MAX_RECIPE_BYTES: usize = 1 << 20;
/// The longest plan, in bytes.
pub const MAX_PLAN_BYTES: usize = 48 << 20;

/// Why a message is refused: which field, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct Refused {
    /// Path of the field, such as `outcomes[0].evaluation.samples[3].text`.
    pub field: String,
    /// What is wrong.
    pub message: String,
}

impl Refused {
    fn new(field: impl Into<String>, message: impl Into<String>) -> Refused {
        Refused { field: field.into(), message: message.into() }
    }

    /// The same fault seen from the message around it.
    fn within(self, outer: impl std::fmt::Display) -> Refused {
        Refused { field: format!("{outer}.{}", self.field), message: self.message }
    }
}

/// A name of 1 to [`MAX_NAME_BYTES`] bytes without control characters.
fn name(field: &str, text: String) -> Result<String, Refused> {
    match text.len() {
        0 => Err(Refused::new(field, "empty")),
        n if n > MAX_NAME_BYTES => Err(Refused::new(field, format!("{n} bytes, more than {MAX_NAME_BYTES}"))),
        _ if text.chars().any(char::is_control) => Err(Refused::new(field, "holds a control character")),
        _ => Ok(text),
    }
}

/// A worker's name, as an operator gives it.
pub fn worker_name(field: &str, text: String) -> Result<String, Refused> {
    name(field, text)
}

/// A line for people: control characters become spaces, what is too long is cut at a character's border.
fn line(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars().map(|c| if c.is_control() { ' ' } else { c }) {
        if out.len() + c.len_utf8() > MAX_LINE_BYTES {
            break;
        }
        out.push(c);
    }
    out
}

fn digest(field: &str, text: &str) -> Result<Digest, Refused> {
    text.parse().map_err(|e: common::digest::ParseDigestError| Refused::new(field, e.to_string()))
}

fn at_most(field: &str, count: usize, most: usize) -> Result<(), Refused> {
    match count <= most {
        true => Ok(()),
        false => Err(Refused::new(field, format!("{count}, more than {most}"))),
    }
}

fn not_zero(field: &str, number: u64) -> Result<u64, Refused> {
    match number {
        0 => Err(Refused::new(field, "0 is no number of anything here")),
        n => Ok(n),
    }
}

#[cfg(test)]
mod tests;
