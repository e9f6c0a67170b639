//! What the driver does when its disk does not do what it should.

use super::*;
use crate::state::Durable;
use crate::state::candidate::Candidate;
use crate::state::journal::Entry;
use crate::store::memory::Memory;
use crate::testing::{exchange, manifest, outcome, plan, registration};
use common::evaluation::Evaluation;
use common::id::CandidateId;
use proto::convert::{LeaseProgress, Stage};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};

/// A disk that takes its time over a commit, or has no room for it.
struct Faulty {
    inner: Memory,
    time: Arc<AtomicU64>,
    commits: u64,
    slow: Option<(u64, u64)>,
    full: Option<u64>,
    /// Who else may see what it does, and what was seen in the middle of the slow commit.
    outside: Arc<OnceLock<Handle>>,
    seen: Seen,
}

impl Store for Faulty {
    fn commit(&mut self, records: &[Record]) -> std::result::Result<(), crate::store::Error> {
        self.commits += 1;
        if self.full.is_some_and(|at| self.commits >= at) {
            let message = "no space left on device".into();
            return Err(crate::store::Error::Full { doing: "write to the store", message });
        }
        if let Some((_, ms)) = self.slow.filter(|(at, _)| *at == self.commits) {
            let now = Millis(self.time.fetch_add(ms, Ordering::SeqCst) + ms);
            *self.seen.lock().unwrap() = self.outside.get().and_then(|handle| handle.disk.overdue(now));
        }
        self.inner.commit(records)
    }

    fn load(&self) -> std::result::Result<Option<Durable>, crate::store::Error> {
        self.inner.load()
    }

    fn journal(&self, from: u64, most: usize) -> std::result::Result<Vec<Entry>, crate::store::Error> {
        self.inner.journal(from, most)
    }

    fn candidates(
        &self,
        from: CandidateId,
        most: usize,
    ) -> std::result::Result<Vec<Candidate>, crate::store::Error> {
        self.inner.candidates(from, most)
    }

    fn evaluation(&self, id: CandidateId) -> std::result::Result<Option<Evaluation>, crate::store::Error> {
        self.inner.evaluation(id)
    }

    fn audits(
        &self,
        from: CandidateId,
        most: usize,
    ) -> std::result::Result<Vec<(CandidateId, crate::state::Audited)>, crate::store::Error> {
        self.inner.audits(from, most)
    }

    fn copy(&self) -> Option<crate::store::copy::Copy> {
        None
    }
}

/// What the slow commit looked like from outside, in its midst.
type Seen = Arc<Mutex<Option<Duration>>>;

/// A driver on such a disk, in a thread of its own.
fn driven(
    slow: Option<(u64, u64)>,
    full: Option<u64>,
) -> (Handle, Arc<AtomicU64>, Seen, std::thread::JoinHandle<Result<State>>) {
    let (outside, seen) = (Arc::new(OnceLock::new()), Arc::new(Mutex::new(None)));
    let time = Arc::new(AtomicU64::new(1_000));
    let durable = Durable::new(&plan(&[]), manifest(), Millis(1));
    let inner = Memory::default();
    let store = Faulty {
        inner,
        time: time.clone(),
        commits: 0,
        slow,
        full,
        outside: outside.clone(),
        seen: seen.clone(),
    };
    let tells = time.clone();
    let clock: Clock = Arc::new(move || Millis(tells.load(Ordering::SeqCst)));
    let state = State::restore(durable).unwrap();
    let (driver, handle) = Driver::new(state, Box::new(store), clock, Box::new(Unwatched), Duration::ZERO);
    assert!(outside.set(handle.clone()).is_ok());
    (handle, time, seen, std::thread::spawn(move || driver.run()))
}

/// Ten minutes on a lease of thirty seconds: commits are start, registration, exchange.
#[tokio::test]
async fn while_the_disk_is_stuck_no_lease_runs_down() {
    let (handle, time, seen, driver) = driven(Some((3, 600_000)), None);
    let plan = plan(&[]);
    let worker = handle.register(registration(&plan, "w")).await.unwrap().worker;
    let grant = handle.exchange(exchange(worker, 1, 1)).await.unwrap().grants.remove(0);
    assert_eq!(time.load(Ordering::SeqCst), 601_000);
    assert_eq!(*seen.lock().unwrap(), Some(Duration::from_secs(600)), "it is told while it lasts");
    assert!(handle.tick());
    let running =
        vec![LeaseProgress { lease: grant.lease, stage: Stage::Merging, samples_done: 0, begun: 0 }];
    let answer = handle.exchange(Exchange { running, ..exchange(worker, 2, 0) }).await.unwrap();
    assert!(answer.cancelled.is_empty());
    // Time itself goes on: without a word from its worker the lease runs out.
    time.fetch_add(31_000, Ordering::SeqCst);
    assert!(handle.tick());
    let ended = handle.look(|state, _, _| Ok(state.candidates().kept()[0].attempts()[0].end.clone())).await;
    assert_eq!(ended.unwrap().unwrap().how.word(), "expired");
    handle.stop().await;
    let state = driver.join().unwrap().unwrap();
    assert!(state.elapsed() < Duration::from_secs(60), "{:?}", state.elapsed());
}

#[tokio::test]
async fn on_a_full_disk_nothing_is_acknowledged_and_the_driver_ends() {
    let (handle, _, _, driver) = driven(None, Some(4));
    let plan = plan(&[]);
    let worker = handle.register(registration(&plan, "w")).await.unwrap().worker;
    let grant = handle.exchange(exchange(worker, 1, 1)).await.unwrap().grants.remove(0);
    let outcomes = vec![outcome(&plan, &grant)];
    let answer = handle.exchange(Exchange { outcomes, ..exchange(worker, 2, 0) }).await;
    assert!(matches!(answer, Err(Class::Unavailable(_))), "{answer:?}");
    let e = driver.join().unwrap().unwrap_err();
    assert!(e.to_string().contains("make room, then go on with `jradievo resume`"), "{e}");
}
