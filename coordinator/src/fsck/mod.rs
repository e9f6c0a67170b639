//! What is wrong with a store: every record is read, and compared with those it belongs to.
//!
//! | file | what |
//! |---|---|
//! | `records` | each record by itself: checksum, format, whether it can be read |
//! | `run` | what the records say together |
//! | `salvage` | what can be read of a damaged one, for people |
//! | `scratch` | a copy to look at, since opening a store repairs it |
//!
//! Nothing is mended here, and nothing of the store is written to. A finding names the record, says what is wrong with it
//! and which candidates are touched; what to do is the same for all of them and is the command's to say.

mod records;
mod run;
mod salvage;
mod scratch;

pub use salvage::salvage;
pub use scratch::Scratch;

use crate::store::key::{self, Place};
use crate::store::sled::Sled;
use crate::store::{Error, witness};
use records::Records;
use std::collections::BTreeMap;
use std::path::Path;

/// So many findings are kept; the rest are counted.
const KEPT: usize = 1000;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// The record, such as `candidate/7`.
    pub record: String,
    /// What is wrong with it.
    pub problem: String,
    /// Candidates that it touches.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<u64>,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The run's id, where it can be read.
    pub run: Option<String>,
    /// The program that began it.
    pub program_version: Option<String>,
    /// Commits that the store holds; `None` where they were not counted yet.
    pub commits: Option<u64>,
    /// Commits that were acknowledged, where that is known.
    pub acknowledged: Option<u64>,
    /// Whether it holds fewer commits than were acknowledged, or nobody knows. Not among the findings.
    pub older: Option<String>,
    /// Records that were read, by tree.
    pub records: BTreeMap<&'static str, u64>,
    /// Candidates that can be read, and those whose reports can.
    pub candidates: u64,
    /// Candidates whose reports can be read whole.
    pub reports: u64,
    /// Entries of the journal that lead, from the plan, to what is stored.
    pub replayed: u64,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// Further findings that were not kept.
    pub more: u64,
}

impl Report {
    /// Of a store of which nothing can be read.
    pub fn unreadable(e: &Error) -> Report {
        let mut report = Report::default();
        report.add("store", problem(e), &[]);
        report
    }

    /// Nothing is wrong with it, and it is the newest.
    pub fn is_sound(&self) -> bool {
        self.is_whole() && self.older.is_none()
    }

    /// Nothing is wrong with it but perhaps its age.
    pub fn is_whole(&self) -> bool {
        self.findings.is_empty()
    }

    fn add(&mut self, record: impl Into<String>, problem: impl Into<String>, candidates: &[u64]) {
        match self.findings.len() < KEPT {
            true => self.findings.push(Finding {
                record: record.into(),
                problem: problem.into(),
                candidates: candidates.to_vec(),
            }),
            false => self.more += 1,
        }
    }
}

/// Checks the store of a state folder; `store` is that one, or a copy of it.
///
/// # Errors
/// When there is no run in it, and never was one.
pub fn check(folder: &Path, store: &Sled) -> Result<Report, Error> {
    let mut report = Report::default();
    match store.counted() {
        Ok(commits) => {
            report.commits = commits;
            report.older = witness::check(folder, commits).err().map(|e| e.to_string());
        }
        Err(e) => report.add(key::COMMITS, problem(&e), &[]),
    }
    report.acknowledged = witness::read(folder).ok().flatten();
    for name in store.tree_names().into_iter().filter(|name| Place::named(name).is_none()) {
        report.add(format!("tree {name:?}"), "no version up to this one writes such a tree", &[]);
    }
    let records = Records::read(store, &mut report);
    if records.is_empty() && report.is_sound() {
        return Err(Error::Empty { folder: folder.to_path_buf() });
    }
    run::check(store, &records, &mut report);
    Ok(report)
}

/// What an error says is wrong with a record that is named beside it.
fn problem(e: &Error) -> String {
    match e {
        Error::Damaged { message, .. } => message.clone(),
        Error::Format { found, known, .. } => {
            format!(
                "its format is {found}, and this program reads up to {known}; use the version that wrote it"
            )
        }
        e => e.to_string(),
    }
}

#[cfg(test)]
mod tests;
