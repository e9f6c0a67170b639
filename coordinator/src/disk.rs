//! Whether the store waits for its disk, and for how long already, as others than the driver see it: the driver waits too, and
//! of a disk that never moves again it would never speak.

use common::time::Millis;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A commit that takes so long is told while it lasts; again after twice the time, …
const FIRST_TOLD: u64 = 5_000;
/// … at most so long after the last time. In milliseconds, both.
const LONGEST_SILENCE: u64 = 600_000;

/// The commit that is under way. Times are the driver's clock's.
#[derive(Debug, Default)]
pub struct Disk {
    commit: Mutex<Option<Commit>>,
}

#[derive(Debug)]
struct Commit {
    begun: Millis,
    /// How long it must take to be told of, in milliseconds.
    due: u64,
}

impl Disk {
    fn commit(&self) -> MutexGuard<'_, Option<Commit>> {
        self.commit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A commit begins.
    pub fn begin(&self, now: Millis) {
        *self.commit() = Some(Commit { begun: now, due: FIRST_TOLD });
    }

    /// It stands.
    pub fn end(&self) {
        *self.commit() = None;
    }

    /// How long the commit has taken so far, where that is to be told now.
    pub fn overdue(&self, now: Millis) -> Option<Duration> {
        let mut commit = self.commit();
        let commit = commit.as_mut()?;
        let taken = now.0.saturating_sub(commit.begun.0);
        if taken < commit.due {
            return None;
        }
        commit.due = taken + taken.min(LONGEST_SILENCE);
        Some(Duration::from_millis(taken))
    }

    /// Logs a commit that is overdue.
    pub fn look(&self, now: Millis) {
        if let Some(taken) = self.overdue(now) {
            let seconds = taken.as_secs();
            tracing::error!(
                seconds,
                "the disk does not answer: nothing is lost and no lease runs down, but nothing goes on; look at the disk of the state folder"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_never_moves_again_is_told_of_ever_less_often() {
        let disk = Disk::default();
        assert_eq!(disk.overdue(Millis(1 << 40)), None, "nothing is under way");
        disk.begin(Millis(1000));
        let day = (0..86_400).filter_map(|s| disk.overdue(Millis(1000 + 1000 * s))).map(|t| t.as_secs());
        let told: Vec<u64> = day.collect();
        assert_eq!(told[..8], [5, 10, 20, 40, 80, 160, 320, 640]);
        assert_eq!(told[8] - told[7], 600);
        assert_eq!(told.len(), 8 + (86_399 - 640) / 600);
        disk.end();
        assert_eq!(disk.overdue(Millis(1 << 40)), None);
        disk.begin(Millis(1 << 40));
        assert_eq!(disk.overdue(Millis((1 << 40) + 5000)), Some(Duration::from_secs(5)), "each commit anew");
    }
}
