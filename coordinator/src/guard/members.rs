//! Which certificate a worker's number belongs to: numbers can be guessed, so a worker that names another one's is found out.
//!
//! Held in memory alone: after a restart no number is known, and every worker registers again.

use crate::state::roster::most_frequent;
use common::id::WorkerId;
use proto::status::Class;
use secure::Identity;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The most numbers that are remembered. The oldest of the certificate that has the most goes first, and whoever has it
/// registers again.
const MOST: usize = 65_536;

/// Numbers, by the name in the certificate that registered them.
#[derive(Default)]
pub struct Members {
    names: Mutex<BTreeMap<WorkerId, String>>,
}

impl Members {
    fn names(&self) -> MutexGuard<'_, BTreeMap<WorkerId, String>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a certificate may register under a name.
    ///
    /// # Errors
    /// [`Class::Denied`], naming what would do.
    pub fn may_register(identity: &Identity, name: &str) -> Result<(), Class> {
        let own = &identity.name;
        match identity.covers(name) {
            true => Ok(()),
            false => Err(Class::Denied(format!(
                "this certificate is of {own:?}: register as {own:?}, or as \"{own}/\" and anything (--name {own}/1)"
            ))),
        }
    }

    /// Remembers who registered.
    pub fn registered(&self, worker: WorkerId, identity: &Identity) {
        let mut names = self.names();
        names.insert(worker, identity.name.clone());
        if names.len() > MOST {
            let most = most_frequent(names.values().map(String::as_str)).map(String::from);
            let oldest = names.iter().find(|(_, name)| Some(*name) == most.as_ref()).map(|(id, _)| *id);
            oldest.and_then(|id| names.remove(&id));
        }
    }

    /// Whether a certificate may speak as this worker.
    ///
    /// # Errors
    /// [`Class::UnknownWorker`] for a number that nobody has; [`Class::Denied`] for another one's.
    pub fn may_speak(&self, worker: WorkerId, identity: &Identity) -> Result<(), Class> {
        match self.names().get(&worker) {
            None => Err(Class::UnknownWorker),
            Some(name) if *name == identity.name => Ok(()),
            Some(_) => Err(Class::Denied(format!("worker {} is another node's", worker.0))),
        }
    }
}
