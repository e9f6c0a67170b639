//! Real programs, real files, loopback: what end-to-end tests are made of.
//!
//! Nothing here waits by the clock: tests wait for a line that a program prints, or for its end. The limits
//! only turn a hang into a failure.

#![forbid(unsafe_code)]

mod hub_server;
mod process;
mod run;

pub use hub_server::{HubServer, Request, Trouble};
pub use process::{Ended, Process};
pub use run::{Coordinator, Run, is_private, jsonl, open_to_others, programs, worker_of};

use std::path::{Path, PathBuf};

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the repository is there")
}

/// The embedded family.
pub fn family() -> PathBuf {
    root().join("tests/data/family")
}
