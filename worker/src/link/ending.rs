//! How a link ends, well or not.

use proto::status::Class;

/// Why the link ended without the run being over.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The coordinator will not have this worker: files, version or message differ.
    #[error("turned away by the coordinator: {0}")]
    TurnedAway(Class),
    /// The coordinator sent something unusable.
    #[error("unusable answer from the coordinator: {0}")]
    Answer(#[from] proto::convert::Refused),
    /// The coordinator now serves another run than the one that this worker was set up for.
    #[error("the coordinator now serves another run; start the worker again")]
    OtherRun,
    /// The coordinator could not be reached for the time allowed.
    #[error("no coordinator for {seconds} s: {last}")]
    GivenUp {
        /// How long was tried.
        seconds: u64,
        /// The last failure.
        last: String,
    },
    /// No slot has come back from what it was to stop.
    #[error(
        "every slot has been stuck for {seconds} s in something that cannot be stopped; start the worker again"
    )]
    Stuck {
        /// For how long.
        seconds: u64,
    },
    /// Every slot's thread has ended.
    #[error("all slots have ended")]
    NoSlots,
}

/// How the link ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The run is over.
    Finished,
    /// The operator stopped this worker; its leases were handed back.
    Stopped,
    /// The coordinator's operator drained this worker; it finished what it had.
    Drained,
}
