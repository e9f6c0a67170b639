use super::*;
use crate::state::journal::Entry;
use crate::state::{Durable, Event, Reply, State};
use crate::store::Store;
use crate::store::record::encode;
use crate::testing::{exchange, manifest, outcome, plan, registration, report, with_samples};
use common::id::CandidateId;
use common::run::RunPlan;
use common::time::Millis;
use proto::convert::Exchange;
use std::path::Path;

fn small() -> RunPlan {
    with_samples(plan(&["search.evaluations=12", "early_stop.hopeless=0.99"]), 3, 1)
}

/// A run in work, as its store has it: some candidates scored, one failed, one half done, some waiting.
fn in_work(folder: &Path) -> Sled {
    let plan = small();
    let durable = Durable::new(&plan, manifest(), Millis(1));
    let mut store = Sled::open_or_create(folder).unwrap();
    store.commit(&durable.records()).unwrap();
    let mut state = State::restore(durable).unwrap();
    let mut apply = |event| {
        let changes = state.apply(Millis(9), event);
        store.commit(&changes.records).unwrap();
        changes.reply
    };
    apply(Event::Start);
    let joined = apply(Event::Register(Box::new(registration(&plan, "w"))));
    let Some(Reply::Registered(Ok(joined))) = joined else { panic!("refused") };
    let mut outcomes = Vec::new();
    for sequence in 1..=9 {
        let e = Exchange { outcomes, ..exchange(joined.worker, sequence, 1) };
        let Some(Reply::Exchanged(Ok(answer))) = apply(Event::Exchange(Box::new(e))) else {
            panic!("refused")
        };
        outcomes = answer.grants.iter().map(|g| outcome(&plan, g)).collect();
        if sequence == 9 {
            let reports = vec![report(&plan, &answer.grants[0], &[0])];
            apply(Event::Exchange(Box::new(Exchange { reports, ..exchange(joined.worker, 10, 0) })));
        }
    }
    store
}

fn found(folder: &Path) -> Report {
    check(folder, &Sled::open_unwitnessed(folder).unwrap()).unwrap()
}

#[test]
fn a_run_in_work_and_a_finished_one_are_sound() {
    let dir = tempfile::tempdir().unwrap();
    drop(in_work(dir.path()));
    let report = found(dir.path());
    assert!(report.is_sound(), "{:?} {:?}", report.findings, report.older);
    assert_eq!((report.commits, report.reports), (report.acknowledged, 8));
    assert!(report.records["samples"] == 1 && report.replayed > 8, "{report:?}");
    let finished = tempfile::tempdir().unwrap();
    let plan = plan(&[]);
    let mut store = Sled::open_or_create(finished.path()).unwrap();
    let mut state = State::restore(Durable::new(&plan, manifest(), Millis(1))).unwrap();
    store.commit(&state.durable().records()).unwrap();
    crate::testing::to_the_end(&mut state, &plan, |changes| store.commit(&changes.records).unwrap());
    drop(store);
    let report = found(finished.path());
    assert!(report.is_sound(), "{:?}", report.findings);
    assert_eq!((report.candidates, report.reports), (25, 25));
}

#[test]
fn a_folder_without_a_run_is_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    let store = Sled::open_or_create(dir.path()).unwrap();
    assert!(matches!(check(dir.path(), &store), Err(Error::Empty { .. })));
}

type Trees = sled::Db;

/// What `harm` does to the trees of a run in work is found under that name, in such words, with such candidates.
fn harmed(harm: impl FnOnce(&Trees), record: &str, words: &str, candidates: &[u64]) {
    let dir = tempfile::tempdir().unwrap();
    drop(in_work(dir.path()));
    let db = sled::open(dir.path().join("store")).unwrap();
    harm(&db);
    drop(db);
    let report = found(dir.path());
    assert!(!report.is_sound() && !report.is_whole());
    let finding = report.findings.iter().find(|f| f.record == record && f.problem.contains(words));
    let finding = finding.unwrap_or_else(|| panic!("{record} {words:?} not in {:?}", report.findings));
    assert_eq!(finding.candidates, candidates);
}

fn remove(db: &Trees, tree: &str, key: &[u8]) {
    assert!(db.open_tree(tree).unwrap().remove(key).unwrap().is_some(), "{tree}");
}

#[test]
fn every_missing_record_is_missed() {
    let id = |n: u64| n.to_be_bytes();
    for name in ["identity", "counters", "searched"] {
        harmed(|db| remove(db, "run", name.as_bytes()), name, "missing", &[]);
    }
    harmed(|db| remove(db, "candidates", &id(3)), "candidate/3", "1 in a row", &[3]);
    harmed(|db| remove(db, "evaluations", &id(4)), "candidate/4", "its evaluation is missing", &[4]);
    harmed(|db| remove(db, "journal", &id(5)), "journal/5", "1 in a row", &[]);
    // The last ones have no successor: what counts them tells.
    let last = |db: &Trees, tree: &str| db.open_tree(tree).unwrap().last().unwrap().unwrap().0.to_vec();
    harmed(|db| remove(db, "journal", &last(db, "journal")), "journal", "were counted", &[]);
    harmed(|db| remove(db, "candidates", &last(db, "candidates")), "run", "there is none", &[]);
}

#[test]
fn records_that_contradict_each_other_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let store = in_work(dir.path());
    let scored = store.evaluation(CandidateId(2)).unwrap().unwrap();
    drop(store);
    let put = |db: &Trees, tree: &str, key: &[u8], value: Vec<u8>| {
        db.open_tree(tree).unwrap().insert(key, value).unwrap();
    };
    let id = |n: u64| n.to_be_bytes();
    let mut better = scored.clone();
    better.samples[0].scores.iter_mut().for_each(|(_, v)| *v += 0.25);
    let value = encode("evaluation/2", &better);
    harmed(|db| put(db, "evaluations", &id(2), value), "candidate/2", "its evaluation makes it", &[2]);
    let mut shorter = scored.clone();
    shorter.samples.pop();
    let value = encode("evaluation/2", &shorter);
    harmed(|db| put(db, "evaluations", &id(2), value), "candidate/2", "not whole", &[2]);
    let value = encode("evaluation/99", &scored);
    harmed(|db| put(db, "evaluations", &id(99), value), "evaluation/99", "no such candidate", &[99]);
    let row = |id: u64| encode(&key::sample(id, 1), &scored.samples[1]);
    let at = |n: u64| [&id(n)[..], &1u32.to_be_bytes()[..]].concat();
    harmed(|db| put(db, "samples", &at(2), row(2)), "sample/2/1", "its candidate is final", &[2]);
    harmed(|db| put(db, "samples", &at(77), row(77)), "sample/77/1", "no such candidate", &[77]);
    let other = encode(&key::sample(9, 1), &scored.samples[2]);
    harmed(|db| put(db, "samples", &at(9), other), "sample/9/1", "does not stand there", &[9]);
    let parts = encode("parts/8", &vec![0.5, 0.5, 0.5]);
    harmed(|db| put(db, "parts", &id(8), parts), "parts/8", "contribute", &[8]);
    let entry = Entry::Recorded { candidate: CandidateId(1), outcome: search::Outcome::Failed };
    let value = encode("journal/1", &entry);
    harmed(|db| put(db, "journal", &id(1), value), "run", "ended otherwise", &[]);
    let value = encode("surprise", &1);
    harmed(|db| put(db, "run", b"surprise", value), "\"surprise\"", "no version up to this one", &[]);
    harmed(|db| put(db, "elsewhere", b"a", vec![1]), "tree \"elsewhere\"", "no version up to this one", &[]);
}

#[test]
fn a_flipped_bit_of_any_record_is_found_by_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let store = in_work(dir.path());
    let all: Vec<(Place, Vec<u8>, Vec<u8>)> = Place::ALL
        .into_iter()
        .flat_map(|place| store.raw(place).map(move |r| r.map(|(k, v)| (place, k, v)).unwrap()))
        .collect();
    drop(store);
    let db = sled::open(dir.path().join("store")).unwrap();
    assert!(all.len() > 30);
    for (place, key, value) in all {
        let tree = db.open_tree(place.name()).unwrap();
        let mut bad = value.clone();
        let middle = bad.len() / 2;
        bad[middle] ^= 4;
        tree.insert(&key, bad).unwrap();
        let before = place.name();
        let mut report = Report::default();
        // Without the lock of a second opener: the trees are the same.
        let copy = tempfile::tempdir().unwrap();
        let other = sled::open(copy.path().join("store")).unwrap();
        other.import(db.export());
        drop(other);
        let store = Sled::open_unwitnessed(copy.path()).unwrap();
        match store.counted() {
            Ok(_) => drop(Records::read(&store, &mut report)),
            Err(e) => report.add(key::COMMITS, problem(&e), &[]),
        }
        assert_eq!(report.findings.len(), 1, "{before} {key:?}: {:?}", report.findings);
        assert!(report.findings[0].problem.contains("checksum"), "{:?}", report.findings);
        tree.insert(&key, value).unwrap();
    }
}

#[test]
fn what_can_be_read_of_a_damaged_store_is_salvaged() {
    let dir = tempfile::tempdir().unwrap();
    drop(in_work(dir.path()));
    let db = sled::open(dir.path().join("store")).unwrap();
    db.open_tree("candidates").unwrap().insert(3u64.to_be_bytes(), b"?").unwrap();
    drop(db);
    let store = Sled::open_unwitnessed(dir.path()).unwrap();
    let mut lines = Vec::new();
    let count = salvage(&store, |line| {
        lines.push(serde_json::from_str::<serde_json::Value>(line).unwrap());
        Ok(())
    });
    assert_eq!(count.unwrap().unwrap(), lines.len() as u64);
    assert!(lines.iter().all(|l| l["candidate"] != 3));
    let second = lines.iter().find(|l| l["candidate"] == 2).unwrap();
    assert_eq!(
        (second["state"].as_str(), second["reports"][0]["text"].as_str()),
        (Some("scored"), Some("report of s1"))
    );
    assert!(second["genome"].as_object().unwrap().len() == 6 && second["fitness"].is_f64());
}
