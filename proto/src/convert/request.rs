//! What a worker sends.

use super::evaluation::samples;
use super::{MAX_FILES, MAX_LEASES, MAX_NAME_BYTES, Refused, at_most, digest, line, name, not_zero};
use crate::wire;
use common::dataset::MAX_SAMPLES;
use common::digest::{Digest, FileDigest, Manifest};
use common::evaluation::Evaluation;
use common::id::{CandidateId, LeaseId, WorkerId};

/// The most slots of one worker.
pub const MAX_SLOTS: u32 = 256;
/// The longest that an exchange is held back. Longer wishes are cut to it.
pub const MAX_WAIT_MS: u32 = 30_000;

/// A worker that wants to join.
#[derive(Clone, Debug, PartialEq)]
pub struct Registration {
    /// What people see.
    pub name: String,
    /// Must equal the coordinator's.
    pub program_version: String,
    /// Must equal the coordinator's.
    pub protocol_version: u32,
    /// The device in words.
    pub device: String,
    /// Candidates that it evaluates at once.
    pub slots: u32,
    /// Its files.
    pub manifest: Manifest,
    /// What it holds from an earlier registration.
    pub held: Vec<Held>,
    /// The plan that it read.
    pub plan: Digest,
}

/// A lease from an earlier registration: still running, or computed and not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The lease.
    pub lease: LeaseId,
    /// Its candidate.
    pub candidate: CandidateId,
    /// The recipe's digest.
    pub recipe: Digest,
}

/// What a worker is doing with a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Merging weights.
    Merging,
    /// Computing image features.
    Features,
    /// Generating reports.
    Generating,
    /// Scoring them.
    Scoring,
}

/// A lease being worked on; naming it renews it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseProgress {
    /// The lease.
    pub lease: LeaseId,
    /// What is being done.
    pub stage: Stage,
    /// Samples finished.
    pub samples_done: u32,
    /// One past the position of the last sample begun; 0 before the first.
    pub begun: u32,
}

/// Whether a failed candidate may be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// Another attempt may succeed.
    Retryable,
    /// No worker can evaluate this recipe.
    Permanent,
    /// The worker gives it back unharmed.
    HandedBack,
}

/// How a lease ended.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// With texts and scores of its samples, those left out that were reported before.
    Evaluated(Evaluation),
    /// Without.
    Failed {
        /// Whether to try again.
        kind: FailureKind,
        /// Why, for people. Holds no report text.
        reason: String,
    },
}

/// One lease's end, matched to its candidate by number and recipe digest.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The lease; it may have run out long ago.
    pub lease: LeaseId,
    /// Its candidate.
    pub candidate: CandidateId,
    /// The recipe's digest.
    pub recipe: Digest,
    /// How it ended.
    pub end: End,
}

/// Finished samples of a lease that goes on, or that ended without being finished.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The lease; it may have run out long ago.
    pub lease: LeaseId,
    /// Its candidate.
    pub candidate: CandidateId,
    /// The recipe's digest.
    pub recipe: Digest,
    /// What is finished and was in no answered exchange before, and what the lease took so far.
    pub part: Evaluation,
}

/// One exchange.
#[derive(Clone, Debug, PartialEq)]
pub struct Exchange {
    /// The registration.
    pub worker: WorkerId,
    /// Grows with every new exchange; a repeated number gets the same reply.
    pub sequence: u64,
    /// Candidates that could be begun now.
    pub free_slots: u32,
    /// Leases being worked on.
    pub running: Vec<LeaseProgress>,
    /// Leases that ended.
    pub outcomes: Vec<Outcome>,
    /// How long the reply may be held back.
    pub wait_ms: u32,
    /// The worker leaves with this exchange.
    pub leaving: bool,
    /// Finished samples, taken in before `outcomes`.
    pub reports: Vec<Report>,
}

impl From<Registration> for wire::RegisterRequest {
    fn from(r: Registration) -> wire::RegisterRequest {
        let file = |f: &FileDigest| wire::File {
            name: f.name.clone(),
            size_bytes: f.bytes,
            digest: f.digest.to_string(),
        };
        let held = |h: Held| wire::HeldLease {
            lease_id: h.lease.0,
            candidate: h.candidate.0,
            recipe_digest: h.recipe.to_string(),
        };
        wire::RegisterRequest {
            worker_name: r.name,
            program_version: r.program_version,
            protocol_version: r.protocol_version,
            device: r.device,
            slots: r.slots,
            files: r.manifest.files().iter().map(file).collect(),
            held: r.held.into_iter().map(held).collect(),
            plan_digest: r.plan.to_string(),
        }
    }
}

impl TryFrom<wire::RegisterRequest> for Registration {
    type Error = Refused;

    fn try_from(r: wire::RegisterRequest) -> Result<Registration, Refused> {
        at_most("files", r.files.len(), MAX_FILES)?;
        at_most("held", r.held.len(), MAX_LEASES)?;
        at_most("program_version", r.program_version.len(), MAX_NAME_BYTES)?;
        not_zero("slots", r.slots.into())?;
        at_most("slots", r.slots as usize, MAX_SLOTS as usize)?;
        let count = r.files.len();
        let file =
            |(i, f): (usize, wire::File)| read_file(f).map_err(|e| e.within(format_args!("files[{i}]")));
        let manifest =
            Manifest::new(r.files.into_iter().enumerate().map(file).collect::<Result<_, Refused>>()?);
        if manifest.files().len() != count {
            return Err(Refused::new("files", "one name stands twice"));
        }
        let held =
            |(i, h): (usize, wire::HeldLease)| read_held(h).map_err(|e| e.within(format_args!("held[{i}]")));
        Ok(Registration {
            name: name("worker_name", r.worker_name)?,
            program_version: line(&r.program_version),
            protocol_version: r.protocol_version,
            device: line(&r.device),
            slots: r.slots,
            manifest,
            held: r.held.into_iter().enumerate().map(held).collect::<Result<_, _>>()?,
            plan: digest("plan_digest", &r.plan_digest)?,
        })
    }
}

fn read_file(f: wire::File) -> Result<FileDigest, Refused> {
    Ok(FileDigest { name: name("name", f.name)?, bytes: f.size_bytes, digest: digest("digest", &f.digest)? })
}

fn read_held(h: wire::HeldLease) -> Result<Held, Refused> {
    Ok(Held {
        lease: LeaseId(not_zero("lease_id", h.lease_id)?),
        candidate: CandidateId(not_zero("candidate", h.candidate)?),
        recipe: digest("recipe_digest", &h.recipe_digest)?,
    })
}

impl From<LeaseProgress> for wire::Running {
    fn from(p: LeaseProgress) -> wire::Running {
        let stage = match p.stage {
            Stage::Merging => wire::Stage::Merging,
            Stage::Features => wire::Stage::Features,
            Stage::Generating => wire::Stage::Generating,
            Stage::Scoring => wire::Stage::Scoring,
        };
        let LeaseProgress { lease, samples_done, begun, .. } = p;
        wire::Running { lease_id: lease.0, stage: stage as i32, samples_done, begun }
    }
}

impl TryFrom<wire::Running> for LeaseProgress {
    type Error = Refused;

    fn try_from(r: wire::Running) -> Result<LeaseProgress, Refused> {
        let stage = match r.stage() {
            wire::Stage::Merging => Stage::Merging,
            wire::Stage::Features => Stage::Features,
            wire::Stage::Generating => Stage::Generating,
            wire::Stage::Scoring => Stage::Scoring,
            wire::Stage::Unspecified => return Err(Refused::new("stage", format!("{} is unknown", r.stage))),
        };
        let lease = LeaseId(not_zero("lease_id", r.lease_id)?);
        at_most("begun", r.begun as usize, MAX_SAMPLES)?;
        Ok(LeaseProgress { lease, stage, samples_done: r.samples_done, begun: r.begun })
    }
}

impl From<Outcome> for wire::Outcome {
    fn from(o: Outcome) -> wire::Outcome {
        let end = match o.end {
            End::Evaluated(e) => wire::outcome::End::Evaluation(e.into()),
            End::Failed { kind, reason } => {
                let kind = match kind {
                    FailureKind::Retryable => wire::FailureKind::Retryable,
                    FailureKind::Permanent => wire::FailureKind::Permanent,
                    FailureKind::HandedBack => wire::FailureKind::HandedBack,
                };
                wire::outcome::End::Failure(wire::Failure { kind: kind as i32, reason })
            }
        };
        wire::Outcome {
            lease_id: o.lease.0,
            candidate: o.candidate.0,
            recipe_digest: o.recipe.to_string(),
            end: Some(end),
        }
    }
}

impl TryFrom<wire::Outcome> for Outcome {
    type Error = Refused;

    fn try_from(o: wire::Outcome) -> Result<Outcome, Refused> {
        let end = match o.end {
            None => return Err(Refused::new("end", "neither evaluation nor failure")),
            Some(wire::outcome::End::Evaluation(e)) => {
                End::Evaluated(e.try_into().map_err(|e: Refused| e.within("evaluation"))?)
            }
            Some(wire::outcome::End::Failure(f)) => {
                let kind = match f.kind() {
                    wire::FailureKind::Retryable => FailureKind::Retryable,
                    wire::FailureKind::Permanent => FailureKind::Permanent,
                    wire::FailureKind::HandedBack => FailureKind::HandedBack,
                    wire::FailureKind::Unspecified => {
                        return Err(Refused::new("failure.kind", format!("{} is unknown", f.kind)));
                    }
                };
                End::Failed { kind, reason: line(&f.reason) }
            }
        };
        Ok(Outcome {
            lease: LeaseId(not_zero("lease_id", o.lease_id)?),
            candidate: CandidateId(not_zero("candidate", o.candidate)?),
            recipe: digest("recipe_digest", &o.recipe_digest)?,
            end,
        })
    }
}

impl From<Report> for wire::Report {
    fn from(r: Report) -> wire::Report {
        wire::Report {
            lease_id: r.lease.0,
            candidate: r.candidate.0,
            recipe_digest: r.recipe.to_string(),
            samples: r.part.samples.into_iter().map(Into::into).collect(),
            timings: Some(r.part.timings.into()),
        }
    }
}

impl TryFrom<wire::Report> for Report {
    type Error = Refused;

    fn try_from(r: wire::Report) -> Result<Report, Refused> {
        let part = Evaluation { samples: samples(r.samples)?, timings: r.timings.unwrap_or_default().into() };
        Ok(Report {
            lease: LeaseId(not_zero("lease_id", r.lease_id)?),
            candidate: CandidateId(not_zero("candidate", r.candidate)?),
            recipe: digest("recipe_digest", &r.recipe_digest)?,
            part,
        })
    }
}

impl From<Exchange> for wire::ExchangeRequest {
    fn from(e: Exchange) -> wire::ExchangeRequest {
        wire::ExchangeRequest {
            worker_id: e.worker.0,
            sequence: e.sequence,
            free_slots: e.free_slots,
            running: e.running.into_iter().map(Into::into).collect(),
            outcomes: e.outcomes.into_iter().map(Into::into).collect(),
            wait_ms: e.wait_ms,
            leaving: e.leaving,
            reports: e.reports.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<wire::ExchangeRequest> for Exchange {
    type Error = Refused;

    fn try_from(e: wire::ExchangeRequest) -> Result<Exchange, Refused> {
        at_most("running", e.running.len(), MAX_LEASES)?;
        at_most("outcomes", e.outcomes.len(), MAX_LEASES)?;
        at_most("reports", e.reports.len(), MAX_LEASES)?;
        at_most("free_slots", e.free_slots as usize, MAX_SLOTS as usize)?;
        let running = |(i, r): (usize, wire::Running)| {
            LeaseProgress::try_from(r).map_err(|e| e.within(format_args!("running[{i}]")))
        };
        let outcome = |(i, o): (usize, wire::Outcome)| {
            Outcome::try_from(o).map_err(|e| e.within(format_args!("outcomes[{i}]")))
        };
        let report = |(i, r): (usize, wire::Report)| {
            Report::try_from(r).map_err(|e| e.within(format_args!("reports[{i}]")))
        };
        Ok(Exchange {
            worker: WorkerId(not_zero("worker_id", e.worker_id)?),
            sequence: not_zero("sequence", e.sequence)?,
            free_slots: e.free_slots,
            running: e.running.into_iter().enumerate().map(running).collect::<Result<_, _>>()?,
            outcomes: e.outcomes.into_iter().enumerate().map(outcome).collect::<Result<_, _>>()?,
            wait_ms: e.wait_ms.min(MAX_WAIT_MS),
            leaving: e.leaving,
            reports: e.reports.into_iter().enumerate().map(report).collect::<Result<_, _>>()?,
        })
    }
}
