//! `jradievo fsck` as people and scripts use it: its options, what it prints, its exit codes. What is found in which store is
//! tested beside the code.

#![forbid(unsafe_code)]

#[path = "../examples/simulated/mod.rs"]
mod simulated;

use common::evaluation::Timings;
use common::time::Millis;
use coordinator::state::{Durable, Event, Reply, State};
use coordinator::store::Store;
use coordinator::store::sled::Sled;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const EVALUATIONS: usize = 16;
/// Exchanges after which the older store was left.
const HALF: u64 = 6;

/// A finished run's state folder, and its store as it was in the middle.
struct Run {
    home: tempfile::TempDir,
}

impl Run {
    fn new() -> Run {
        let run = Run { home: tempfile::tempdir().unwrap() };
        let sets = [format!("search.evaluations={EVALUATIONS}"), "search.population=8".into()];
        let plan = simulated::plan(2, &sets);
        let durable = Durable::new(&plan, Default::default(), Millis(1));
        let mut store = Sled::open_or_create(&run.state()).unwrap();
        store.commit(&durable.records()).unwrap();
        let mut state = State::restore(durable).unwrap();
        let mut apply = |store: &mut Sled, event| {
            let changes = state.apply(Millis(9), event);
            store.commit(&changes.records).unwrap();
            changes.reply
        };
        apply(&mut store, Event::Start);
        let join = simulated::registration(&plan, "only".into(), 1);
        let joined = apply(&mut store, Event::Register(Box::new(join)));
        let Some(Reply::Registered(Ok(joined))) = joined else { panic!("refused") };
        let mut outcomes = Vec::new();
        for sequence in 1..=EVALUATIONS as u64 + 1 {
            let e = simulated::exchange(joined.worker, sequence, 1, std::mem::take(&mut outcomes));
            let reply = apply(&mut store, Event::Exchange(Box::new(e)));
            let Some(Reply::Exchanged(Ok(answer))) = reply else { panic!("not answered") };
            let score = |id: u64| 1.0 / (id + 1) as f64;
            let part = |id: u64| simulated::part(&[0, 1], score(id), Timings::default());
            outcomes = answer.grants.iter().map(|g| simulated::outcome(g, part(g.candidate.0))).collect();
            if sequence == HALF {
                drop(store);
                copy(&run.state().join("store"), &run.home.path().join("older"));
                store = Sled::open(&run.state()).unwrap();
            }
        }
        drop(store);
        run
    }

    fn state(&self) -> PathBuf {
        self.home.path().join("state")
    }

    /// Puts the older store in the place of the newest.
    fn roll_back(&self) {
        fs::remove_dir_all(self.state().join("store")).unwrap();
        fs::rename(self.home.path().join("older"), self.state().join("store")).unwrap();
    }

    /// Makes a record unreadable.
    fn damage(&self, candidate: u64) {
        let db = sled::open(self.state().join("store")).unwrap();
        db.open_tree("candidates").unwrap().insert(candidate.to_be_bytes(), b"?").unwrap();
        db.flush().unwrap();
    }

    fn fsck(&self, more: &[&str]) -> Output {
        jradievo("fsck", &self.state(), more)
    }

    /// What `--json` prints, with the exit code.
    fn report(&self) -> (Value, Option<i32>) {
        let output = self.fsck(&["--json"]);
        (serde_json::from_slice(&output.stdout).unwrap(), output.status.code())
    }

    /// Every file below the state folder, with its content.
    fn content(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let (mut found, mut folders) = (BTreeMap::new(), vec![self.state()]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => drop(found.insert(path.clone(), fs::read(path).unwrap())),
                }
            }
        }
        found
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy(&path, &to),
            false => drop(fs::copy(&path, to).unwrap()),
        }
    }
}

fn jradievo(command: &str, folder: &Path, more: &[&str]) -> Output {
    let mut process = Command::new(env!("CARGO_BIN_EXE_jradievo"));
    process.arg(command).arg(folder).args(more).output().unwrap()
}

/// What was told on standard error.
fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_sound_run_is_said_to_be_and_nothing_of_it_changes() {
    let run = Run::new();
    let before = run.content();
    let words = run.fsck(&[]);
    assert!(words.status.success(), "{}", told(&words));
    assert!(String::from_utf8_lossy(&words.stdout).contains("16 candidates can be read"), "{words:?}");
    let (report, code) = run.report();
    assert_eq!((code, &report["sound"], &report["whole"]), (Some(0), &true.into(), &true.into()));
    assert_eq!((&report["candidates"], &report["reports"]), (&16.into(), &16.into()));
    assert_eq!((&report["older"], &report["more_findings"]), (&Value::Null, &0.into()));
    assert!(report["findings"].as_array().unwrap().is_empty());
    assert!(report["commits"].as_u64().unwrap() > HALF && report["commits"] == report["acknowledged"]);
    assert!(report["replayed"].as_u64().unwrap() > 0 && report["records"]["candidates"] == 16);
    assert!(report["run"].is_string() && report["program_version"].is_string());
    assert_eq!(run.content(), before);
}

#[test]
fn the_copy_that_is_looked_at_is_made_where_it_is_wanted() {
    let run = Run::new();
    // What one left that was killed, here and where the copy is to be: the one goes, the other is not touched.
    let scratch = tempfile::tempdir().unwrap();
    for folder in [&run.state(), scratch.path()] {
        fs::create_dir(folder.join(".fsck")).unwrap();
        fs::write(folder.join(".fsck/left"), "x").unwrap();
    }
    let before = run.content();
    let output = run.fsck(&["--scratch", scratch.path().to_str().unwrap()]);
    assert!(output.status.success(), "{}", told(&output));
    assert_eq!(run.content(), before);
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
    // A file in its place.
    let file = scratch.path().join("file");
    fs::write(&file, "x").unwrap();
    let output = run.fsck(&["--scratch", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(5), "{}", told(&output));
    assert!(told(&output).contains(file.to_str().unwrap()), "{}", told(&output));
}

#[test]
fn what_can_be_read_of_a_damaged_run_is_written_where_nothing_was() {
    let run = Run::new();
    run.damage(3);
    let (report, code) = run.report();
    assert_eq!((code, &report["sound"], &report["whole"]), (Some(1), &false.into(), &false.into()));
    assert_eq!((&report["candidates"], &report["replayed"]), (&15.into(), &0.into()));
    let finding = report["findings"].as_array().unwrap().iter().find(|f| f["record"] == "candidate/3");
    assert_eq!(finding.unwrap()["candidates"], Value::from(vec![3]), "{report}");

    let file = run.home.path().join("salvaged.jsonl");
    let salvage = ["--salvage", file.to_str().unwrap()];
    let output = run.fsck(&salvage);
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert!(told(&output).contains("15 candidates written to"), "{}", told(&output));
    let text = fs::read_to_string(&file).unwrap();
    let lines: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert!(lines.len() == 15 && lines.iter().all(|l| l["candidate"] != 3 && l["state"] == "scored"));
    assert!(lines.iter().all(|l| l["fitness"].is_f64() && l["reports"][1]["text"].is_string()));
    // Reports are somebody's: nobody else reads them, and no file is written over.
    #[cfg(unix)]
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file).unwrap().permissions()) & 0o777,
        0o600
    );
    let output = run.fsck(&salvage);
    assert_eq!(output.status.code(), Some(1));
    assert!(told(&output).contains("cannot write") && told(&output).contains("salvaged.jsonl"));
    assert_eq!(fs::read_to_string(&file).unwrap(), text);

    let before = run.content();
    let output = run.fsck(&["--accept-older"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(told(&output).contains("its age is not all that is wrong"), "{}", told(&output));
    assert_eq!(run.content(), before);
}

#[test]
fn an_older_store_is_refused_until_it_is_accepted() {
    let run = Run::new();
    let acknowledged = run.report().0["commits"].as_u64().unwrap();
    run.roll_back();
    let (report, code) = run.report();
    assert_eq!((code, &report["sound"], &report["whole"]), (Some(1), &false.into(), &true.into()));
    let held = report["commits"].as_u64().unwrap();
    assert!(report["older"].is_string() && report["acknowledged"] == acknowledged && held < acknowledged);
    assert!(report["findings"].as_array().unwrap().is_empty());
    assert_eq!(jradievo("status", &run.state(), &[]).status.code(), Some(1));

    let accepted = run.fsck(&["--accept-older"]);
    assert!(accepted.status.success(), "{}", told(&accepted));
    let said = String::from_utf8_lossy(&accepted.stdout).into_owned();
    let (at, lost) = (format!("at commit {held};"), format!("{} acknowledged commits", acknowledged - held));
    assert!(said.contains(&at) && said.contains(&lost) && said.contains("jradievo resume"), "{said}");
    let (report, code) = run.report();
    assert_eq!((code, &report["sound"], &report["acknowledged"]), (Some(0), &true.into(), &held.into()));
    assert!(jradievo("status", &run.state(), &[]).status.success());
    let again = run.fsck(&["--accept-older"]);
    assert!(again.status.success() && String::from_utf8_lossy(&again.stdout).contains("nothing to accept"));
}

#[test]
fn what_cannot_be_asked_is_said_with_its_code() {
    let run = Run::new();
    for more in [&["--accept-older", "--json"][..], &["--accept-older", "--salvage", "x"], &["--mend"]] {
        assert_eq!(run.fsck(more).status.code(), Some(2), "{more:?}");
    }
    let empty = tempfile::tempdir().unwrap();
    let output = jradievo("fsck", empty.path(), &["--json"]);
    assert_eq!(output.status.code(), Some(3), "{}", told(&output));
    assert!(output.stdout.is_empty() && told(&output).contains(empty.path().to_str().unwrap()));
    // Nobody looks at a store that somebody writes to.
    let _open = Sled::open(&run.state()).unwrap();
    let output = run.fsck(&[]);
    assert_eq!(output.status.code(), Some(3), "{}", told(&output));
}
