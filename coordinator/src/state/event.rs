//! What goes into the state machine and what comes out of it.

use super::candidate::How;
use super::conduct::Bench;
use super::record::Record;
use common::fitness::Fitness;
use common::id::{CandidateId, WorkerId};
use common::run::{Budget, Extension};
use proto::convert::{Exchange, ExchangeAnswer, Registered, Registration};
use proto::status::Class;

/// What happens to the state.
#[derive(Clone, Debug)]
pub enum Event {
    /// The coordinator was started, for the first time or again.
    Start,
    /// A worker wants to join.
    Register(Box<Registration>),
    /// A worker reports and asks for work.
    Exchange(Box<Exchange>),
    /// The last exchange of a worker is still unanswered: is there something to say now?
    Poll(WorkerId),
    /// Time has passed.
    Tick,
    /// The operator stops the coordinator.
    Stop,
    /// The operator wants nothing to be lent (true), or everything as before.
    Pause(bool),
    /// The operator changes what ends the run.
    Extend(Extension),
    /// The operator wants the workers of that name to finish what they have and go (true), or to stay.
    Drain(String, bool),
}

/// What an event led to. The driver commits the records, then answers.
#[derive(Debug, Default)]
pub struct Changes {
    /// To be written in one transaction.
    pub records: Vec<Record>,
    /// To be told to people.
    pub notes: Vec<Note>,
    /// To be sent once the records stand.
    pub reply: Option<Reply>,
}

/// An answer to a worker.
#[derive(Clone, Debug)]
pub enum Reply {
    /// To [`Event::Register`].
    Registered(Result<Registered, Class>),
    /// To [`Event::Exchange`] and [`Event::Poll`].
    Exchanged(Result<ExchangeAnswer, Class>),
    /// To [`Event::Extend`].
    Extended(Result<Budget, Class>),
    /// To [`Event::Drain`]: leases that they still hold.
    Drained(Result<u64, Class>),
}

/// Something that people may want to know. Never holds report text.
#[derive(Clone, Debug, PartialEq)]
pub enum Note {
    /// A worker joined.
    Joined {
        /// Its registration.
        worker: WorkerId,
        /// Its name.
        name: String,
        /// Its device.
        device: String,
    },
    /// A worker left, on its own account.
    Left {
        /// Its name.
        name: String,
    },
    /// The operator drains a node (true), or lends to it again.
    Drained {
        /// Its name.
        name: String,
        /// Whether it is to go.
        drained: bool,
    },
    /// A node failed where others succeeded: it is not lent to for a while.
    Benched {
        /// Its name.
        name: String,
        /// How long, and why.
        bench: Bench,
    },
    /// An attempt ended without a result.
    AttemptEnded {
        /// The candidate.
        candidate: CandidateId,
        /// Which attempt.
        attempt: u32,
        /// Whose.
        worker: String,
        /// How.
        how: How,
        /// Why.
        reason: String,
    },
    /// A candidate was given up.
    CandidateFailed {
        /// The candidate.
        candidate: CandidateId,
    },
    /// A candidate was ended early.
    Censored {
        /// The candidate.
        candidate: CandidateId,
        /// Its fitness would not have been above this.
        bound: Fitness,
        /// Samples that were there.
        samples: u32,
    },
    /// A second result of a sample is another one: two workers compute differently.
    Disagreement {
        /// The candidate.
        candidate: CandidateId,
        /// The first of its samples that differs, by its position from 1: an id may say who a patient is.
        sample: u32,
        /// What counts of that sample.
        first: Fitness,
        /// The one that came later.
        second: Fitness,
        /// Whose that was.
        worker: String,
    },
    /// A worker could not evaluate a candidate again.
    AuditFailed {
        /// The candidate.
        candidate: CandidateId,
        /// The worker.
        worker: String,
        /// Why.
        reason: String,
    },
    /// A candidate that was evaluated again by another node came to another fitness.
    AuditDisagrees {
        /// The candidate.
        candidate: CandidateId,
        /// What the search was told.
        first: Fitness,
        /// By whom.
        first_by: String,
        /// What came out the second time.
        second: Fitness,
        /// By whom.
        second_by: String,
        /// Samples that differ.
        samples: u32,
    },
    /// A generation is final.
    GenerationClosed {
        /// Its number.
        generation: u64,
        /// Its best member.
        best: Option<(CandidateId, Fitness)>,
    },
    /// Something happened to the search, such as a restart.
    Remark(String),
    /// The operator paused the run (true), or let it go on.
    Paused(bool),
    /// The operator changed what ends the run.
    Extended(Budget),
    /// The run ended.
    Finished {
        /// Why.
        reason: String,
    },
}
