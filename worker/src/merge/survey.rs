//! What a merge has to know of the whole model before any tensor is made: trim thresholds, and the sign for ties.
//!
//! [`Survey`] is who finds them: the host here, a GPU in `cuda`. Both count the same things of the same numbers, and counts
//! do not depend on their order, so the answers are the same.

use super::error::Result;
use super::flat::Flat;
use super::{paper, trim};
use std::sync::atomic::AtomicBool;

/// Passes over all tensors of a merge.
pub(crate) trait Survey {
    /// For each query the bits of the magnitude of its rank.
    ///
    /// # Errors
    /// [`super::Error::Stopped`] when `stop` was set, or what the device reports.
    fn thresholds(&self, flat: &Flat, queries: &[trim::Query], stop: &AtomicBool) -> Result<Vec<u32>>;

    /// The sum of all elected signs, ties counting nothing; thresholds are in the terms' rules.
    ///
    /// # Errors
    /// As [`Survey::thresholds`].
    fn signs(&self, flat: &Flat, stop: &AtomicBool) -> Result<i64>;

    /// Whether the host passes over the models, and so draws masks more than once.
    fn on_host(&self) -> bool {
        true
    }
}

/// On the threads of the current pool.
pub(crate) struct OnHost;

impl Survey for OnHost {
    fn thresholds(&self, flat: &Flat, queries: &[trim::Query], stop: &AtomicBool) -> Result<Vec<u32>> {
        trim::thresholds(flat, queries, stop)
    }

    fn signs(&self, flat: &Flat, stop: &AtomicBool) -> Result<i64> {
        let state = || (flat.scratch(), 0i64);
        let states = flat.walk(stop, state, |(scratch, total), tensor, spans| {
            for span in spans {
                paper::signs(scratch, tensor.base, &tensor.terms, span.first, span.count, total);
            }
        })?;
        Ok(states.iter().map(|(_, total)| total).sum())
    }
}
