//! Stores as earlier versions wrote them (`tests/data/stores`, each file compressed): read, compared with what they held,
//! found sound, and led to the end that the version that wrote them would have come to.

use super::Store;
use super::sled::{FOLDER, Sled};
use super::witness;
use crate::fsck;
use crate::state::candidate::Phase;
use crate::state::{Durable, Event, State};
use crate::testing::{exchange, manifest, part, plan, to_the_end, uninterrupted};
use common::id::WorkerId;
use common::run::RunPlan;
use common::time::Millis;
use proto::convert::{Exchange, Report};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

const EXPECTED: &str = "expected.json";

/// Genome and fitness of every candidate.
type Rows = Vec<(Vec<f64>, Option<f64>)>;

/// What its writer knew: the run as stored, and as it would have ended.
#[derive(serde::Serialize, serde::Deserialize)]
struct Expected {
    stored: Rows,
    whole: Rows,
}

fn rows<'a>(candidates: impl IntoIterator<Item = &'a crate::state::candidate::Candidate>) -> Rows {
    let row = |c: &crate::state::candidate::Candidate| {
        (c.genome().coordinates().to_vec(), c.fitness().map(|f| f.value()))
    };
    candidates.into_iter().map(row).collect()
}

fn fixtures() -> Vec<PathBuf> {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/stores");
    let mut folders: Vec<PathBuf> = std::fs::read_dir(all)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    folders
}

fn unpack(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_stem().unwrap());
        if path.is_dir() {
            unpack(&path, &to.join(path.file_name().unwrap()));
        } else if path.extension().is_some_and(|e| e == "gz") {
            let mut bytes = Vec::new();
            let packed = std::fs::File::open(&path).unwrap();
            flate2::read::GzDecoder::new(packed).read_to_end(&mut bytes).unwrap();
            std::fs::write(target, bytes).unwrap();
        }
    }
    // Not kept by version control where it is empty.
    if to.ends_with(FOLDER) {
        std::fs::create_dir_all(to.join("blobs")).unwrap();
    }
}

fn sound(folder: &Path, store: &Sled) -> fsck::Report {
    let report = fsck::check(folder, store).unwrap();
    assert!(report.is_sound(), "{}: {:?} {:?}", folder.display(), report.findings, report.older);
    report
}

#[test]
fn stores_of_every_version_are_read_upgraded_and_led_to_their_end() {
    let fixtures = fixtures();
    assert_eq!(fixtures.len(), 4, "{fixtures:?}");
    for fixture in fixtures {
        let shown = fixture.display();
        let expected = std::fs::read_to_string(fixture.join(EXPECTED)).unwrap();
        let expected: Expected = serde_json::from_str(&expected).unwrap();
        let dir = tempfile::tempdir().unwrap();
        unpack(&fixture, dir.path());
        let mut store = Sled::open(dir.path()).unwrap();
        let report = sound(dir.path(), &store);
        let durable = store.load().unwrap().unwrap();
        assert_eq!(rows(&durable.candidates), expected.stored, "{shown}");
        for c in durable.candidates.iter().filter(|c| matches!(c.phase(), Phase::Scored(_))) {
            let texts = store.evaluation(c.id()).unwrap().unwrap().samples;
            assert_eq!((texts.len(), texts[2].text.as_str()), (3, "report of s3"), "{shown}");
        }
        let plan = RunPlan::from_json(&durable.identity.plan_json).unwrap();
        let mut state = State::restore(durable).unwrap();
        to_the_end(&mut state, &plan, |changes| store.commit(&changes.records).unwrap());
        assert_eq!(rows(state.candidates()), expected.whole, "{shown}");
        drop(store);
        // Now it is one of this version.
        let store = Sled::open(dir.path()).unwrap();
        let after = sound(dir.path(), &store);
        assert!(after.commits > report.commits && after.acknowledged == after.commits, "{shown}: {after:?}");
        assert_eq!((after.reports, after.replayed > 25), (25, true), "{shown}: {after:?}");
    }
}

/// Makes the fixture of the present version in the folder `FIXTURE`:
/// `FIXTURE=tests/data/stores/5-name cargo test -p coordinator make_a_fixture -- --ignored`. To be done when a format is about
/// to change.
#[test]
#[ignore = "writes a folder"]
fn make_a_fixture() {
    let to = std::env::var_os("FIXTURE").map(PathBuf::from).expect("FIXTURE names a folder");
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(&["early_stop.hopeless=0.99"]);
    let durable = Durable::new(&plan, manifest(), Millis(0));
    let mut store = Sled::open_or_create(dir.path()).unwrap();
    store.commit(&durable.records()).unwrap();
    let mut state = super::tests::work(&plan, &mut store, 9);
    // And one sample of the candidate that is lent.
    let open = state.candidates().iter().find_map(|c| Some((c, c.open_attempts().next()?))).unwrap();
    let recipe = plan.recipe(open.0.genome());
    let (lease, worker, candidate): (_, WorkerId, _) = (open.1.lease, open.1.worker, open.0.id());
    let part = part(&plan, &recipe, &[0]);
    let reports = vec![Report { lease, candidate, recipe: recipe.digest(), part }];
    let e = Exchange { reports, ..exchange(worker, 1000, 0) };
    let changes = state.apply(Millis(90_000), Event::Exchange(Box::new(e)));
    store.commit(&changes.records).unwrap();
    drop(store);
    let expected =
        Expected { stored: rows(state.candidates()), whole: rows(uninterrupted(&plan).candidates()) };
    pack(&dir.path().join(FOLDER), &to.join(FOLDER));
    pack_file(&dir.path().join(witness::FILE), &to);
    std::fs::write(to.join(EXPECTED), serde_json::to_string(&expected).unwrap() + "\n").unwrap();
}

fn pack(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => pack(&path, &to.join(path.file_name().unwrap())),
            false => pack_file(&path, to),
        }
    }
}

fn pack_file(from: &Path, to: &Path) {
    let name = format!("{}.gz", from.file_name().unwrap().to_string_lossy());
    let file = std::fs::File::create(to.join(name)).unwrap();
    let mut packed = flate2::write::GzEncoder::new(file, flate2::Compression::best());
    packed.write_all(&std::fs::read(from).unwrap()).unwrap();
    packed.finish().unwrap();
}
