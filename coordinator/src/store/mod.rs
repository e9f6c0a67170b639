//! Stores: what outlives the process.
//!
//! | record | why it is durable |
//! |---|---|
//! | identity | run id, plan and program version: without them nothing else means anything |
//! | pinned | the files that every worker must have, also those that join after a restart |
//! | counters | lease and worker numbers are never used twice; the time budget spans restarts |
//! | searched | a checkpoint of the search with its random stream: a resumed run asks for the same genomes |
//! | journal | what was asked and recorded, in order: leads the checkpoint to the present, and a replay through the whole run |
//! | candidate | genome, attempts with their reasons, score |
//! | sample | a text and its scores while the candidate is open: nothing recorded is generated again |
//! | evaluation | every text and score, for people and for fitness functions yet to come |
//! | audit | what another worker made of a candidate, beside what counts |
//! | parts, bar | what each sample contributed, and what candidates must be able to reach: early stops stay the same |
//!
//! Leases and the roster are not here: workers that come back bring them. All records of one event are one
//! transaction that is flushed before anything is answered.
//!
//! | file | what |
//! |---|---|
//! | `sled` | the store on disk |
//! | `key` | trees, keys and names of records |
//! | `record` | values as bytes |
//! | `flush` | what it takes to reach the disk |
//! | `witness` | how many commits were acknowledged, beside the store: one that was rolled back is not taken for the newest |
//! | `copy` | a consistent copy while the store is written to |
//! | `memory` | the store of tests |

pub mod copy;
mod flush;
pub mod key;
pub mod memory;
pub mod record;
pub mod sled;
pub mod witness;

use crate::state::candidate::Candidate;
use crate::state::journal::Entry;
use crate::state::{Audited, Durable, Record};
use common::evaluation::{Evaluation, SampleResult, Timings};
use common::id::CandidateId;
use std::path::PathBuf;

/// Why a store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process has it open.
    #[error(
        "{} is in use by another coordinator (or by a command that is reading it); stop it first, or try again",
        folder.display()
    )]
    InUse {
        /// The state folder.
        folder: PathBuf,
    },
    /// No run was ever stored there.
    #[error("{} holds no run; begin one with `jradievo start RUN.toml --state {}`", folder.display(), folder.display())]
    Empty {
        /// The state folder.
        folder: PathBuf,
    },
    /// There is a run already.
    #[error(
        "{} holds a run already; go on with it by `jradievo resume {}`, or choose another folder",
        folder.display(), folder.display()
    )]
    NotEmpty {
        /// The state folder.
        folder: PathBuf,
    },
    /// A record is not what was written.
    #[error("record {key} is damaged: {message}")]
    Damaged {
        /// Which record.
        key: String,
        /// What is wrong with it.
        message: String,
    },
    /// Its files are not what was written.
    #[error(
        "the store's files are damaged ({message}); keep them, look at the disk, and go on from a copy that `jradievo backup` \
         made"
    )]
    Broken {
        /// What is wrong with them.
        message: String,
    },
    /// Written by a later version.
    #[error(
        "record {key} has format {found}, this program reads up to {known}; use the version that wrote it"
    )]
    Format {
        /// Which record.
        key: String,
        /// The format found.
        found: u8,
        /// The newest format known here.
        known: u8,
    },
    /// It is a whole, earlier state of what was acknowledged.
    #[error(
        "{} was rolled back: it holds {stored} commits, and {acknowledged} were acknowledged, so that its newest records \
         are gone (a file was cut or replaced, or the disk did not keep what it wrote). Restore a backup; or go on \
         from the older state with `jradievo fsck {} --accept-older`, which evaluates again what was lost",
        folder.display(), folder.display()
    )]
    Older {
        /// The state folder.
        folder: PathBuf,
        /// Commits that it holds.
        stored: u64,
        /// Commits that were acknowledged.
        acknowledged: u64,
    },
    /// Whether it is the newest state cannot be told.
    #[error(
        "{}/{} {what}, so that nobody can tell whether the store is the newest: copy both, or make copies with \
         `jradievo backup`; `jradievo fsck {} --accept-older` takes the store as it is",
        folder.display(), witness::FILE, folder.display()
    )]
    Unwitnessed {
        /// The state folder.
        folder: PathBuf,
        /// What is wrong with the witness.
        what: String,
    },
    /// There is no room on the disk.
    #[error(
        "the disk is full: cannot {doing} ({message}). Everything that was acknowledged is stored; make room, then go on \
         with `jradievo resume`"
    )]
    Full {
        /// What was being done.
        doing: &'static str,
        /// What the disk said.
        message: String,
    },
    /// The disk failed.
    #[error("cannot {doing}: {message}")]
    Disk {
        /// What was being done.
        doing: &'static str,
        /// What the disk said.
        message: String,
    },
}

/// Where a run is kept.
pub trait Store: Send {
    /// Everything but the texts; `None` where no run was stored.
    fn load(&self) -> Result<Option<Durable>, Error>;

    /// Writes all records or none. When it returns, they have reached the disk.
    fn commit(&mut self, records: &[Record]) -> Result<(), Error>;

    /// Up to `most` entries of the journal, from position `from` on.
    fn journal(&self, from: u64, most: usize) -> Result<Vec<Entry>, Error>;

    /// Up to `most` candidates from that number on, in order of number.
    fn candidates(&self, from: CandidateId, most: usize) -> Result<Vec<Candidate>, Error>;

    /// Texts and scores of one candidate, as far as they are there; `None` where there are none.
    fn evaluation(&self, id: CandidateId) -> Result<Option<Evaluation>, Error>;

    /// Up to `most` second evaluations by other workers, of candidates from that number on, in order of number.
    fn audits(&self, from: CandidateId, most: usize) -> Result<Vec<(CandidateId, Audited)>, Error>;

    /// Begins a copy of everything, which stays consistent while more is committed; `None` where there is no disk to copy
    /// from.
    fn copy(&self) -> Option<copy::Copy>;
}

/// The samples of a candidate that is not final, as an evaluation.
fn so_far(samples: Vec<SampleResult>) -> Evaluation {
    Evaluation { samples, timings: Timings::default() }
}

#[cfg(test)]
mod fixture_tests;
#[cfg(test)]
mod tests;
