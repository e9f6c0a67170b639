//! What can be read of a damaged store, candidate by candidate, for people: it is not a store any more.

use crate::state::Identity;
use crate::state::candidate::{Candidate, Phase};
use crate::store::key::{self, Place};
use crate::store::record::decode;
use crate::store::sled::Sled;
use crate::store::{Error, Store};
use common::evaluation::SampleResult;
use common::id::CandidateId;
use common::run::RunPlan;
use serde::Serialize;
use std::collections::BTreeMap;

#[derive(Serialize)]
struct Line<'a> {
    candidate: u64,
    state: &'static str,
    fitness: Option<f64>,
    /// By the names of the parameters, where the plan can be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    genome: Option<BTreeMap<&'a str, f64>>,
    coordinates: &'a [f64],
    reports: Vec<SampleResult>,
}

/// Passes on one line of JSON for every candidate that can be read, until `to` wants no more. Yields how many.
///
/// # Errors
/// Those of `to`, and those of a disk.
pub fn salvage(
    store: &Sled,
    mut to: impl FnMut(&str) -> std::io::Result<()>,
) -> Result<std::io::Result<u64>, Error> {
    let plan = plan(store)?;
    let mut count = 0;
    for entry in store.raw(Place::Candidates) {
        // Behind a page that cannot be read nothing is found.
        let Ok((number, bytes)) = entry else { break };
        let Ok(id) = key::number("candidate", &number) else { continue };
        let Ok(candidate) = decode::<Candidate>(&key::candidate(id), &bytes) else { continue };
        let reports = store.evaluation(CandidateId(id)).ok().flatten().map(|e| e.samples).unwrap_or_default();
        let text = serde_json::to_string(&line(id, &candidate, plan.as_ref(), reports));
        if let Err(e) = to(&text.expect("records hold nothing JSON cannot say")) {
            return Ok(Err(e));
        }
        count += 1;
    }
    Ok(Ok(count))
}

fn plan(store: &Sled) -> Result<Option<RunPlan>, Error> {
    for entry in store.raw(Place::Run) {
        let (name, bytes) = entry?;
        if name == key::IDENTITY.as_bytes() {
            let identity = decode::<Identity>(key::IDENTITY, &bytes).ok();
            return Ok(identity.and_then(|i| RunPlan::from_json(&i.plan_json).ok()));
        }
    }
    Ok(None)
}

fn line<'a>(
    id: u64,
    candidate: &'a Candidate,
    plan: Option<&'a RunPlan>,
    reports: Vec<SampleResult>,
) -> Line<'a> {
    let coordinates = candidate.genome().coordinates();
    let named = |plan: &'a RunPlan| {
        let names = plan.space.parameters.iter().map(|p| p.name.as_str());
        names.zip(plan.space.values(candidate.genome())).collect()
    };
    Line {
        candidate: id,
        state: match candidate.phase() {
            Phase::Open => "open",
            Phase::Scored(_) => "scored",
            Phase::Censored(_) => "censored",
            Phase::Failed => "failed",
        },
        fitness: candidate.fitness().map(|f| f.value()),
        genome: plan.filter(|p| p.space.dimensions() == coordinates.len()).map(named),
        coordinates,
        reports,
    }
}
