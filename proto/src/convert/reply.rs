//! What a coordinator answers.

use super::{MAX_LEASES, MAX_PLAN_BYTES, MAX_RECIPE_BYTES, Refused, at_most, digest, line, name, not_zero};
use crate::wire;
use common::dataset::MAX_SAMPLES;
use common::id::{CandidateId, LeaseId, RunId, WorkerId};
use common::recipe::Recipe;
use common::run::RunPlan;

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    /// Candidates are lent.
    Running,
    /// The operator is stopping the coordinator; the run can be resumed.
    Stopping,
    /// Nothing will be lent any more.
    Finished,
}

impl From<RunState> for wire::RunState {
    fn from(s: RunState) -> wire::RunState {
        match s {
            RunState::Running => wire::RunState::Running,
            RunState::Stopping => wire::RunState::Stopping,
            RunState::Finished => wire::RunState::Finished,
        }
    }
}

fn run_state(field: &str, number: i32) -> Result<RunState, Refused> {
    match wire::RunState::try_from(number) {
        Ok(wire::RunState::Running) => Ok(RunState::Running),
        Ok(wire::RunState::Stopping) => Ok(RunState::Stopping),
        Ok(wire::RunState::Finished) => Ok(RunState::Finished),
        _ => Err(Refused::new(field, format!("{number} is unknown"))),
    }
}

/// What the run is.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    /// The run.
    pub run: RunId,
    /// The coordinator's protocol.
    pub protocol_version: u32,
    /// The coordinator's program.
    pub program_version: String,
    /// The plan, parsed, and equal to its digest.
    pub plan: RunPlan,
    /// Where it stands.
    pub state: RunState,
}

impl From<Description> for wire::DescribeReply {
    fn from(d: Description) -> wire::DescribeReply {
        wire::DescribeReply {
            run_id: d.run.0,
            protocol_version: d.protocol_version,
            program_version: d.program_version,
            plan_digest: d.plan.digest().to_string(),
            plan_json: d.plan.to_json(),
            state: wire::RunState::from(d.state) as i32,
        }
    }
}

impl TryFrom<wire::DescribeReply> for Description {
    type Error = Refused;

    fn try_from(d: wire::DescribeReply) -> Result<Description, Refused> {
        // Versions come first: another version's plan may not parse here, and that is not its fault.
        if d.protocol_version != crate::PROTOCOL_VERSION {
            let (theirs, ours) = (d.protocol_version, crate::PROTOCOL_VERSION);
            let message = format!("the coordinator speaks protocol {theirs}, this worker {ours}");
            return Err(Refused::new("protocol_version", message));
        }
        at_most("plan_json", d.plan_json.len(), MAX_PLAN_BYTES)?;
        let sent = digest("plan_digest", &d.plan_digest)?;
        let plan = RunPlan::from_json(&d.plan_json).map_err(|e| Refused::new("plan_json", e))?;
        if plan.digest() != sent {
            return Err(Refused::new("plan_digest", "the plan as read here has another digest"));
        }
        Ok(Description {
            run: RunId(name("run_id", d.run_id)?),
            protocol_version: d.protocol_version,
            program_version: line(&d.program_version),
            plan,
            state: run_state("state", d.state)?,
        })
    }
}

/// A registration that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// The registration's number.
    pub worker: WorkerId,
    /// Of what was held, the leases that go on.
    pub adopted: Vec<LeaseId>,
    /// Of what was held, the leases to stop.
    pub cancelled: Vec<LeaseId>,
}

impl From<Registered> for wire::RegisterReply {
    fn from(r: Registered) -> wire::RegisterReply {
        wire::RegisterReply {
            worker_id: r.worker.0,
            adopted_lease_ids: r.adopted.into_iter().map(|l| l.0).collect(),
            cancelled_lease_ids: r.cancelled.into_iter().map(|l| l.0).collect(),
        }
    }
}

impl TryFrom<wire::RegisterReply> for Registered {
    type Error = Refused;

    fn try_from(r: wire::RegisterReply) -> Result<Registered, Refused> {
        at_most("adopted_lease_ids", r.adopted_lease_ids.len(), MAX_LEASES)?;
        at_most("cancelled_lease_ids", r.cancelled_lease_ids.len(), MAX_LEASES)?;
        Ok(Registered {
            worker: WorkerId(not_zero("worker_id", r.worker_id)?),
            adopted: r.adopted_lease_ids.into_iter().map(LeaseId).collect(),
            cancelled: r.cancelled_lease_ids.into_iter().map(LeaseId).collect(),
        })
    }
}

/// A candidate lent.
#[derive(Clone, Debug, PartialEq)]
pub struct Grant {
    /// The lease.
    pub lease: LeaseId,
    /// Its candidate.
    pub candidate: CandidateId,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// What to evaluate.
    pub recipe: Recipe,
    /// Time from the reply within which the lease must be renewed.
    pub renew_within_ms: u64,
    /// Positions of the samples to evaluate, ascending, at least one.
    pub samples: Vec<u32>,
}

/// What is left of a lease that a worker holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remainder {
    /// The lease.
    pub lease: LeaseId,
    /// Positions of its samples, ascending.
    pub samples: Vec<u32>,
}

/// Positions of samples in the run's order, ascending.
fn positions(positions: Vec<u32>) -> Result<Vec<u32>, Refused> {
    at_most("samples", positions.len(), MAX_SAMPLES)?;
    match positions.is_sorted_by(|a, b| a < b) && positions.last().is_none_or(|p| (*p as usize) < MAX_SAMPLES)
    {
        true => Ok(positions),
        false => Err(Refused::new("samples", "not ascending positions of samples")),
    }
}

impl From<Grant> for wire::Lease {
    fn from(g: Grant) -> wire::Lease {
        wire::Lease {
            lease_id: g.lease.0,
            candidate: g.candidate.0,
            attempt: g.attempt,
            recipe_digest: g.recipe.digest().to_string(),
            recipe_json: g.recipe.to_json(),
            renew_within_ms: g.renew_within_ms,
            samples: g.samples,
        }
    }
}

impl TryFrom<wire::Lease> for Grant {
    type Error = Refused;

    fn try_from(l: wire::Lease) -> Result<Grant, Refused> {
        at_most("recipe_json", l.recipe_json.len(), MAX_RECIPE_BYTES)?;
        let recipe = Recipe::parse(&l.recipe_json).map_err(|e| Refused::new("recipe_json", e.to_string()))?;
        if recipe.digest() != digest("recipe_digest", &l.recipe_digest)? {
            return Err(Refused::new("recipe_digest", "the recipe as read here has another digest"));
        }
        Ok(Grant {
            lease: LeaseId(not_zero("lease_id", l.lease_id)?),
            candidate: CandidateId(not_zero("candidate", l.candidate)?),
            attempt: l.attempt,
            recipe,
            renew_within_ms: not_zero("renew_within_ms", l.renew_within_ms)?,
            samples: match positions(l.samples)? {
                none if none.is_empty() => return Err(Refused::new("samples", "a lease of nothing")),
                some => some,
            },
        })
    }
}

/// What became of an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// Written down.
    Recorded,
    /// The candidate was final already.
    Duplicate,
    /// Nonsense; recorded as a failed attempt.
    Refused,
    /// The run has no such candidate with such a recipe.
    Unknown,
}

/// The answer to one outcome, after which the worker may forget it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledgement {
    /// The lease of the outcome.
    pub lease: LeaseId,
    /// What became of it.
    pub receipt: Receipt,
    /// Why it was refused; empty otherwise.
    pub message: String,
}

/// The run in a line.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Progress {
    /// Candidates that are final.
    pub evaluations_done: u64,
    /// Candidates to evaluate in all.
    pub evaluations_budget: u64,
    /// The generation being evaluated, from 1.
    pub generation: u64,
    /// The best so far: candidate and fitness.
    pub best: Option<(CandidateId, f64)>,
    /// Workers that are there.
    pub workers: u32,
}

impl From<Progress> for wire::Progress {
    fn from(p: Progress) -> wire::Progress {
        wire::Progress {
            evaluations_done: p.evaluations_done,
            evaluations_budget: p.evaluations_budget,
            generation: p.generation,
            best_candidate: p.best.map(|b| b.0.0),
            best_fitness: p.best.map(|b| b.1),
            workers: p.workers,
        }
    }
}

impl From<wire::Progress> for Progress {
    fn from(p: wire::Progress) -> Progress {
        Progress {
            evaluations_done: p.evaluations_done,
            evaluations_budget: p.evaluations_budget,
            generation: p.generation,
            best: p.best_candidate.map(CandidateId).zip(p.best_fitness),
            workers: p.workers,
        }
    }
}

/// The answer to an exchange.
#[derive(Clone, Debug, PartialEq)]
pub struct ExchangeAnswer {
    /// The exchange's number.
    pub sequence: u64,
    /// New work.
    pub grants: Vec<Grant>,
    /// Leases to stop.
    pub cancelled: Vec<LeaseId>,
    /// One per outcome, in their order.
    pub acknowledgements: Vec<Acknowledgement>,
    /// Where the run stands.
    pub state: RunState,
    /// The run in a line.
    pub progress: Progress,
    /// Leases of which others have taken a part.
    pub remainders: Vec<Remainder>,
    /// The operator wants the worker to finish what it has and go.
    pub drain: bool,
}

impl From<ExchangeAnswer> for wire::ExchangeReply {
    fn from(a: ExchangeAnswer) -> wire::ExchangeReply {
        let acknowledgement = |a: Acknowledgement| wire::Acknowledgement {
            lease_id: a.lease.0,
            receipt: match a.receipt {
                Receipt::Recorded => wire::Receipt::Recorded,
                Receipt::Duplicate => wire::Receipt::Duplicate,
                Receipt::Refused => wire::Receipt::Refused,
                Receipt::Unknown => wire::Receipt::Unknown,
            } as i32,
            message: a.message,
        };
        wire::ExchangeReply {
            sequence: a.sequence,
            leases: a.grants.into_iter().map(Into::into).collect(),
            cancelled_lease_ids: a.cancelled.into_iter().map(|l| l.0).collect(),
            acknowledgements: a.acknowledgements.into_iter().map(acknowledgement).collect(),
            state: wire::RunState::from(a.state) as i32,
            progress: Some(a.progress.into()),
            drain: a.drain,
            remainders: a
                .remainders
                .into_iter()
                .map(|r| wire::Remainder { lease_id: r.lease.0, samples: r.samples })
                .collect(),
        }
    }
}

impl TryFrom<wire::ExchangeReply> for ExchangeAnswer {
    type Error = Refused;

    fn try_from(r: wire::ExchangeReply) -> Result<ExchangeAnswer, Refused> {
        at_most("leases", r.leases.len(), MAX_LEASES)?;
        at_most("cancelled_lease_ids", r.cancelled_lease_ids.len(), MAX_LEASES)?;
        at_most("acknowledgements", r.acknowledgements.len(), MAX_LEASES)?;
        at_most("remainders", r.remainders.len(), MAX_LEASES)?;
        let grant = |(i, l): (usize, wire::Lease)| {
            Grant::try_from(l).map_err(|e| e.within(format_args!("leases[{i}]")))
        };
        Ok(ExchangeAnswer {
            sequence: not_zero("sequence", r.sequence)?,
            grants: r.leases.into_iter().enumerate().map(grant).collect::<Result<_, _>>()?,
            cancelled: r.cancelled_lease_ids.into_iter().map(LeaseId).collect(),
            acknowledgements: r.acknowledgements.into_iter().map(read_ack).collect::<Result<_, _>>()?,
            state: run_state("state", r.state)?,
            progress: r.progress.unwrap_or_default().into(),
            drain: r.drain,
            remainders: r
                .remainders
                .into_iter()
                .map(|r| Ok(Remainder { lease: LeaseId(r.lease_id), samples: positions(r.samples)? }))
                .collect::<Result<_, Refused>>()?,
        })
    }
}

fn read_ack(a: wire::Acknowledgement) -> Result<Acknowledgement, Refused> {
    let receipt = match a.receipt() {
        wire::Receipt::Recorded => Receipt::Recorded,
        wire::Receipt::Duplicate => Receipt::Duplicate,
        wire::Receipt::Refused => Receipt::Refused,
        wire::Receipt::Unknown => Receipt::Unknown,
        wire::Receipt::Unspecified => {
            return Err(Refused::new("acknowledgements.receipt", format!("{} is unknown", a.receipt)));
        }
    };
    Ok(Acknowledgement { lease: LeaseId(a.lease_id), receipt, message: line(&a.message) })
}
