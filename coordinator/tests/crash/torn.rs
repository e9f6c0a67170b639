//! The newest files of a store are cut, zeroed or removed.

use super::Chance;
use super::model::Model;
use coordinator::fsck;
use coordinator::store::sled::Sled;
use std::fmt;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// What became of harmed stores.
#[derive(Debug, Default)]
pub struct Seen {
    whole: u64,
    older: u64,
    damaged: u64,
    unreadable: u64,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Seen { whole, older, damaged, unreadable } = self;
        write!(
            f,
            "harmed stores: {whole} whole and complete; {older} an earlier whole state, refused; {damaged} damaged, refused; \
             {unreadable} not openable"
        )
    }
}

/// Harms copies of a store in so many ways. Each copy is either complete, or refused with words.
///
/// An earlier state, where the store opens with one, has to be a whole one: then it can be gone on with.
pub fn harm(model: &Model, folder: &Path, times: u64, chance: &mut Chance) -> Seen {
    let mut seen = Seen::default();
    for _ in 0..times {
        let dir = tempfile::tempdir().unwrap();
        copy(folder, dir.path());
        let how = once(&dir.path().join("store"), chance);
        match Sled::open(dir.path()).map_err(|e| e.to_string()) {
            Ok(store) => {
                let report = fsck::check(dir.path(), &store).unwrap();
                match report.is_sound() {
                    true => {
                        model
                            .agree(&model.promised(), &store)
                            .unwrap_or_else(|e| panic!("{how}: silently not what it was: {e}"));
                        seen.whole += 1;
                    }
                    false => {
                        assert!(!report.findings.is_empty(), "{how}");
                        seen.damaged += 1;
                    }
                }
            }
            Err(e) if e.contains("was rolled back") => {
                let scratch = fsck::Scratch::copy(dir.path(), None).unwrap();
                match scratch.open().map(|store| fsck::check(dir.path(), &store)) {
                    Ok(Ok(report)) if report.is_whole() || report.commits.is_none() => seen.older += 1,
                    other => panic!("{how}: an earlier state that is not whole: {other:?}"),
                }
            }
            Err(e) => {
                if std::env::var_os("CRASH_SHOWN").is_some() {
                    println!("{how}: {e}");
                }
                assert!(!e.is_empty(), "{how}");
                seen.unreadable += 1;
            }
        }
    }
    seen
}

fn files(store: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(store).unwrap().map(|e| e.unwrap().path());
    let mut files: Vec<PathBuf> = entries.filter(|p| p.is_file()).collect();
    files.sort();
    files
}

/// One harm. Says which.
fn once(store: &Path, chance: &mut Chance) -> String {
    let files = files(store);
    let log = store.join("db");
    // The last segment is not full: behind what was written last there are zeros.
    let bytes = std::fs::read(&log).unwrap();
    let length = bytes.iter().rposition(|b| *b != 0).unwrap() as u64 + 1;
    let reach = [64, 4096, length][chance.below(3) as usize];
    let at = length - 1 - chance.below(length.min(reach));
    let file = || OpenOptions::new().write(true).open(&log).unwrap();
    match chance.below(8) {
        0..=2 => {
            file().set_len(at).unwrap();
            format!("log cut at {at} of {length}")
        }
        3..=5 => {
            let many = (length - at).min(1 + chance.below(8192));
            file().write_all_at(&vec![0; many as usize], at).unwrap();
            format!("{many} bytes of the log zeroed at {at} of {length}")
        }
        6 => {
            let path = &files[chance.below(files.len() as u64) as usize];
            std::fs::remove_file(path).unwrap();
            format!("{} removed", path.display())
        }
        _ => {
            let path = &files[chance.below(files.len() as u64) as usize];
            let length = path.metadata().unwrap().len();
            let at = chance.below(length.max(1));
            OpenOptions::new().write(true).open(path).unwrap().set_len(at).unwrap();
            format!("{} cut at {at} of {length}", path.display())
        }
    }
}

/// Copies a folder with what is in it.
pub fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).unwrap();
        }
    }
}
