//! Identifiers as types, so that a candidate's number is never taken for a lease's.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number_id! {
    /// A candidate of a run, numbered from 1 in the order in which the search asked for it.
    CandidateId
}
number_id! {
    /// A loan of one candidate to one worker. Numbers are never used twice within a run.
    LeaseId
}
number_id! {
    /// A worker's registration. A worker that restarts registers anew and gets a new number.
    WorkerId
}

/// A run: its name and a few digits that tell two runs of one name apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(pub String);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
