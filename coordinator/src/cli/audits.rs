//! `jradievo audits`: candidates that a second worker evaluated again, beside what counts.

use super::look::{Source, print, refused};
use super::{Failure, Looked, exit, json};
use crate::report;
use common::id::CandidateId;
use proto::wire;

/// Audits that are read from a store at once: they hold reports.
const CHUNK: usize = 16;

pub(super) async fn audits(args: Looked) -> Result<u8, Failure> {
    let mut sum = Sum::default();
    let show = |audit: &wire::AuditView| {
        sum.add(audit);
        print(&if args.json { json::audit(audit) } else { line(audit) })
    };
    each(&args, show).await?;
    if !args.json {
        print(&sum.in_words());
    }
    Ok(exit::DONE)
}

/// Shows every audit, in order of number, as long as `show` wants more.
async fn each(args: &Looked, mut show: impl FnMut(&wire::AuditView) -> bool) -> Result<(), Failure> {
    match Source::open(&args.target).await? {
        Source::Live(mut client) => {
            let mut stream = client.audits(wire::AuditsRequest {}).await.map_err(refused)?.into_inner();
            while let Some(audit) = stream.message().await.map_err(refused)? {
                if !show(&audit) {
                    break;
                }
            }
        }
        Source::Rest(_, store) => {
            let mut from = CandidateId(0);
            loop {
                let chunk = report::audits(&store, from, CHUNK).map_err(super::look::from_class)?;
                let Some(last) = chunk.last() else { break };
                from = CandidateId(last.candidate + 1);
                if !chunk.iter().all(&mut show) {
                    break;
                }
            }
        }
    }
    Ok(())
}

fn line(a: &wire::AuditView) -> String {
    let word = if a.agree { "agrees" } else { "DISAGREES" };
    let first_by = a.first_by.join(", ");
    let differing = match a.differing.as_slice() {
        [] => "no sample differs".to_string(),
        [only] => format!("sample {only} differs"),
        [first, rest @ ..] => format!("{} samples differ, the first is {first}", rest.len() + 1),
    };
    format!(
        "candidate {:<6} {:.4} by {first_by}, {:.4} by {}: {word} ({differing})",
        a.candidate, a.first, a.second, a.second_by
    )
}

#[derive(Default)]
struct Sum {
    all: u64,
    disagree: u64,
}

impl Sum {
    fn add(&mut self, audit: &wire::AuditView) {
        self.all += 1;
        self.disagree += u64::from(!audit.agree);
    }

    fn in_words(&self) -> String {
        match self {
            Sum { all: 0, .. } => "nothing was audited (scheduling.audit, and a second worker)".into(),
            Sum { all, disagree: 0 } => format!("{all} audited, all agree"),
            Sum { all, disagree } => format!("{all} audited, {disagree} disagree: the first results count"),
        }
    }
}
