//! What can go wrong with a command. No message holds a report, a reference or a sample's id: faults become reasons of failed
//! attempts, which both sides log.

/// A fault of one command.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Fault {
    /// Whoever waits no longer wants the answer.
    #[error("cancelled")]
    Cancelled,
    /// Something went wrong.
    #[error("{command}, {about}: {trouble}")]
    Trouble {
        /// `metric "NAME"` or `evaluator`.
        command: String,
        /// `sample N`, counted from 1 in the run's order, or `the candidate`.
        about: String,
        /// What.
        trouble: Trouble,
    },
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Trouble {
    /// It cannot be run.
    #[error("cannot start {program:?}: {message}")]
    Start {
        /// The program.
        program: String,
        /// Why not.
        message: String,
    },
    /// A file of it is no longer what it was when the worker joined.
    #[error("{file} has changed since it was first started; start the worker again")]
    Changed {
        /// The file.
        file: String,
    },
    /// It ended without an answer.
    #[error("ended without an answer ({how}); its last words are in this worker's log")]
    Ended {
        /// Exit code or signal.
        how: String,
    },
    /// It took too long.
    #[error(
        "no answer within {seconds} s; set timeout_seconds (or start_seconds, for the first) higher, or make it quicker"
    )]
    Timeout {
        /// The limit.
        seconds: f64,
    },
    /// Its line does not end.
    #[error("a line of more than {limit} bytes")]
    TooLong {
        /// The limit.
        limit: usize,
    },
    /// It said something before it was asked.
    #[error(
        "wrote a line that was not asked for: one line is read for each line written, and logs belong on stderr"
    )]
    Unasked,
    /// Its answer cannot be used. Nothing of it is quoted.
    #[error("unusable answer: {0}")]
    Answer(String),
    /// Its answer cannot be used, for something in it.
    #[error("unusable answer: {message}: {quote:?}")]
    Quoting {
        /// What is wrong.
        message: String,
        /// The key that it is wrong with, as the command wrote it.
        quote: String,
    },
    /// It said itself that it failed.
    #[error("it says: {0}")]
    Said(String),
    /// The same, where what it says stays on its node.
    #[error("the command failed; its words are in this worker's log")]
    Failed,
}

impl Trouble {
    /// The same without words of the command's own; `None` where it holds none.
    pub(crate) fn without_words(&self) -> Option<Trouble> {
        match self {
            Trouble::Said(_) => Some(Trouble::Failed),
            Trouble::Quoting { message, .. } => {
                Some(Trouble::Answer(format!("{message}; which one is in this worker's log")))
            }
            _ => None,
        }
    }
}
