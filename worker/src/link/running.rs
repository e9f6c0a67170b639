//! A candidate in work.

use crate::evaluator::Control;
use crate::keep::Keeper;
use common::digest::Digest;
use common::evaluation::{Evaluation, SampleResult, Timings};
use common::id::{CandidateId, LeaseId};
use proto::convert::Report;
use std::sync::Arc;

/// A candidate that this worker is evaluating.
pub(super) struct Running {
    pub candidate: CandidateId,
    pub recipe: Digest,
    pub control: Arc<Control>,
    pub keeper: Arc<Keeper>,
    /// Finished, and in no answered exchange yet.
    pub unsent: Vec<SampleResult>,
    /// What it took so far.
    pub timings: Timings,
}

impl Running {
    pub fn fetch(&mut self) {
        let (rows, timings) = self.control.fetch();
        self.unsent.extend(self.keeper.keep(self.candidate, rows));
        self.timings = timings;
    }

    pub fn report(&self, lease: LeaseId, samples: Vec<SampleResult>) -> Report {
        let part = Evaluation { samples, timings: self.timings };
        Report { lease, candidate: self.candidate, recipe: self.recipe, part }
    }
}
