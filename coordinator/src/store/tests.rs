//! One suite for every store.

use super::memory::Memory;
use super::sled::Sled;
use super::{Error, Store};
use crate::state::{Counters, Durable, Event, Record, Reply, State};
use crate::testing::{exchange, manifest, outcome, plan, registration, uninterrupted};
use common::id::CandidateId;
use common::run::RunPlan;
use common::time::Millis;
use proto::convert::Exchange;
use std::path::Path;

/// What every store does.
fn suite(mut store: Box<dyn Store>) {
    assert_eq!(store.load().unwrap(), None);
    assert_eq!(store.evaluation(CandidateId(1)).unwrap(), None);
    let plan = plan(&[]);
    let durable = Durable::new(&plan, manifest(), Millis(7));
    store.commit(&durable.records()).unwrap();
    assert_eq!(store.load().unwrap().as_ref(), Some(&durable));

    let finished = uninterrupted(&plan).durable();
    store.commit(&finished.records()).unwrap();
    assert_eq!(store.load().unwrap().as_ref(), Some(&finished));

    // The last of several records of one kind stays.
    let counters = |last_lease| Record::Counters(Counters { last_lease, ..Counters::default() });
    store.commit(&[counters(5), counters(6)]).unwrap();
    assert_eq!(store.load().unwrap().unwrap().counters.last_lease, 6);
    store.commit(&[]).unwrap();

    let evaluation = crate::testing::evaluate(&plan, &plan.authors_middle());
    store.commit(&[Record::Evaluation(CandidateId(300), evaluation.clone())]).unwrap();
    assert_eq!(store.evaluation(CandidateId(300)).unwrap(), Some(evaluation));
    assert_eq!(store.evaluation(CandidateId(1)).unwrap(), None);
}

#[test]
fn memory_conforms() {
    suite(Box::new(Memory::default()));
}

#[test]
fn sled_conforms() {
    let dir = tempfile::tempdir().unwrap();
    suite(Box::new(Sled::open_or_create(dir.path()).unwrap()));
}

#[test]
fn a_second_opener_is_refused_and_a_missing_run_named() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Sled::open(dir.path()), Err(Error::Empty { .. })));
    let first = Sled::open_or_create(dir.path()).unwrap();
    let e = Sled::open(dir.path()).unwrap_err();
    assert!(matches!(e, Error::InUse { .. }), "{e}");
    assert!(e.to_string().contains("in use by another coordinator"), "{e}");
    drop(first);
}

#[cfg(unix)]
#[test]
fn nobody_else_may_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let mut store = Sled::open_or_create(dir.path()).unwrap();
    store.commit(&uninterrupted(&plan(&[])).durable().records()).unwrap();
    let mode = |p: &Path| std::fs::metadata(p).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir.path().join("store")), 0o700);
}

#[test]
fn a_damaged_record_is_named_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Sled::open_or_create(dir.path()).unwrap();
    store.commit(&uninterrupted(&plan(&[])).durable().records()).unwrap();
    drop(store);
    let db = sled::open(dir.path().join("store")).unwrap();
    let tree = db.open_tree("candidates").unwrap();
    let key = 3u64.to_be_bytes();
    let mut bytes = tree.get(key).unwrap().unwrap().to_vec();
    let last = bytes.len() - 2;
    bytes[last] ^= 1;
    tree.insert(key, bytes).unwrap();
    drop((tree, db));
    let e = Sled::open(dir.path()).unwrap().load().unwrap_err();
    assert!(matches!(&e, Error::Damaged { key, .. } if key == "candidate/3"), "{e}");
}

/// Closed after any number of results and opened again, the run goes on to the genomes that it would have had.
#[test]
fn a_reopened_store_goes_on_to_equal_genomes() {
    let plan = plan(&[]);
    let whole = uninterrupted(&plan);
    for stop_after in [0, 1, 5, 6, 13] {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Sled::open_or_create(dir.path()).unwrap();
        store.commit(&Durable::new(&plan, manifest(), Millis(0)).records()).unwrap();
        work(&plan, &mut store, stop_after);
        // Dropped without a word, as by kill -9.
        drop(store);
        let mut store = Sled::open(dir.path()).unwrap();
        let state = work(&plan, &mut store, usize::MAX);
        assert_eq!(crate::testing::found(&state), crate::testing::found(&whole), "{stop_after}");
        assert!(state.candidates().iter().all(|c| c.fitness().is_some()));
        for c in state.candidates().iter() {
            assert!(store.evaluation(c.id()).unwrap().is_some());
        }
    }
}

/// One worker, until `results` are recorded or the run is over.
pub(super) fn work(plan: &RunPlan, store: &mut Sled, results: usize) -> State {
    let mut state = State::restore(store.load().unwrap().unwrap()).unwrap();
    let mut apply = |state: &mut State, now, event| {
        let changes = state.apply(Millis(now), event);
        store.commit(&changes.records).unwrap();
        changes.reply
    };
    apply(&mut state, 60_000, Event::Start);
    // Past the grace in which open attempts wait for their worker.
    apply(&mut state, 90_000, Event::Tick);
    let join = Event::Register(Box::new(registration(plan, "w")));
    let Some(Reply::Registered(Ok(joined))) = apply(&mut state, 90_000, join) else {
        panic!("an honest worker is taken")
    };
    let (mut outcomes, mut recorded) = (Vec::new(), 0);
    for sequence in 1.. {
        recorded += outcomes.len();
        let e = Exchange { outcomes: std::mem::take(&mut outcomes), ..exchange(joined.worker, sequence, 1) };
        let Some(Reply::Exchanged(Ok(answer))) = apply(&mut state, 90_000, Event::Exchange(Box::new(e)))
        else {
            panic!("a known worker is answered")
        };
        outcomes.extend(answer.grants.iter().map(|g| outcome(plan, g)));
        if recorded >= results || state.end().is_some() {
            break;
        }
    }
    state
}
