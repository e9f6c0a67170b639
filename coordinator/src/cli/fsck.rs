//! `jradievo fsck`: what is wrong with a state folder, and what to do.

use super::look::print;
use super::{Failure, exit, json, tell};
use crate::fsck::{self, Report, Scratch};
use crate::store::sled::Sled;
use crate::store::witness;
use clap::Args;
use std::io::Write;
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub(super) struct Fsck {
    /// The run's state folder; no coordinator may be running on it. Nothing in it is changed
    #[arg(value_name = "DIR")]
    state: PathBuf,
    /// Where to make the copy that is looked at, which needs as much room as the store [default: in DIR]
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// Write what can be read of every candidate to this file, as JSON lines
    #[arg(long, value_name = "FILE")]
    salvage: Option<PathBuf>,
    /// Go on from a whole store that is older than what was acknowledged; its last results are evaluated again
    #[arg(long, conflicts_with_all = ["json", "salvage"])]
    accept_older: bool,
    /// Print JSON, for scripts
    #[arg(long)]
    json: bool,
}

pub(super) fn fsck(args: &Fsck) -> Result<u8, Failure> {
    let folder = &args.state;
    let scratch = Scratch::copy(folder, args.scratch.as_deref())?;
    let store = scratch.open();
    let report = match &store {
        Ok(store) => fsck::check(folder, store)?,
        Err(e) => Report::unreadable(e),
    };
    if args.accept_older {
        return accept(folder, &report);
    }
    match args.json {
        true => print(&json::fsck(&report)),
        false => print(words(folder, &report).trim_end()),
    };
    if let Some(file) = &args.salvage {
        salvage(&store?, file)?;
    }
    Ok(if report.is_sound() { exit::DONE } else { exit::FAILURE })
}

/// Goes on from an older state, if it is a whole one.
fn accept(folder: &Path, report: &Report) -> Result<u8, Failure> {
    if !report.is_whole() {
        tell(words(folder, report).trim_end());
        let text = "its age is not all that is wrong with it: it cannot be gone on with";
        return Err(Failure::Failed(text.into()));
    }
    if report.older.is_none() {
        print("it is the newest that was acknowledged: there is nothing to accept");
        return Ok(exit::DONE);
    }
    let commits = report.commits.unwrap_or(0);
    witness::accept(folder, commits)?;
    let lost = report.acknowledged.map(|all| all.saturating_sub(commits));
    let lost = lost.map_or("an unknown number of".into(), |lost| lost.to_string());
    print(&format!("taken as it is at commit {commits}; {lost} acknowledged commits are given up"));
    print(&format!("go on with: jradievo resume {}", folder.display()));
    Ok(exit::DONE)
}

/// Writes what can be read.
fn salvage(store: &Sled, path: &Path) -> Result<(), Failure> {
    let failed = |e: std::io::Error| Failure::Failed(format!("cannot write {}: {e}", path.display()));
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut out = std::io::BufWriter::new(options.open(path).map_err(failed)?);
    let count = fsck::salvage(store, |line| writeln!(out, "{line}"))?.map_err(failed)?;
    out.flush().map_err(failed)?;
    tell(&format!("{count} candidates written to {}", path.display()));
    Ok(())
}

fn words(folder: &Path, report: &Report) -> String {
    let shown = folder.display();
    let mut text = String::new();
    let mut line = |s: String| text.push_str(&(s + "\n"));
    if let (Some(run), Some(version)) = (&report.run, &report.program_version) {
        let commits = report.commits.map_or("not counted".into(), |n| n.to_string());
        let acknowledged = report.acknowledged.map_or("unknown".into(), |n| n.to_string());
        line(format!("{run}, begun by version {version}; commits: {commits}, acknowledged: {acknowledged}"));
    }
    let records = report.records.iter().map(|(tree, n)| format!("{n} {tree}")).collect::<Vec<_>>();
    line(format!("read: {}", records.join(", ")));
    line(format!(
        "{} candidates can be read, {} of them with whole reports",
        report.candidates, report.reports
    ));
    for finding in &report.findings {
        let touched = match finding.candidates.as_slice() {
            [] => String::new(),
            [one] => format!(" (candidate {one})"),
            [first, .., last] => format!(" (candidates {first} to {last})"),
        };
        line(format!("  {}: {}{touched}", finding.record, finding.problem));
    }
    if report.more > 0 {
        line(format!("  and {} more", report.more));
    }
    if let Some(older) = &report.older {
        line(format!("  {older}"));
    }
    match (report.is_sound(), report.is_whole()) {
        (true, _) => line(format!(
            "sound: the journal's {} entries lead from the plan to what is stored",
            report.replayed
        )),
        (false, true) => line("what it holds is whole".into()),
        (false, false) => {
            line("not sound. Nothing was changed. What to do:".into());
            line(format!("- keep {shown} as it is, and look at the disk that it is on"));
            line("- go on from a copy that `jradievo backup` made: jradievo resume COPY".into());
            line("- without one, begin anew; what can be read of this one: --salvage FILE".into());
        }
    }
    text
}
