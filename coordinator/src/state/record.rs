//! What of a state is durable, as values. How they become bytes is the store's affair.

use super::candidate::Candidate;
use common::digest::Manifest;
use common::evaluation::Evaluation;
use common::id::{CandidateId, RunId};
use common::run::RunPlan;
use common::seed::Stream;
use common::time::Millis;
use search::{Domain, Snapshot};
use serde::{Deserialize, Serialize};

/// Why a run is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// As many candidates as were to be evaluated are final.
    Evaluations,
    /// The time is up.
    Hours,
    /// The search said so.
    Search(String),
}

impl End {
    /// In words.
    pub fn reason(&self) -> String {
        match self {
            End::Evaluations => "the budget of evaluations is used up".into(),
            End::Hours => "the budget of hours is used up".into(),
            End::Search(reason) => format!("the search ended: {reason}"),
        }
    }
}

/// What never changes in a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The run.
    pub run: RunId,
    /// The plan as canonical JSON.
    pub plan_json: String,
    /// The program that began the run. Another version may compute other scores, so it may not go on with it.
    pub program_version: String,
    /// When it was begun.
    pub created: Millis,
    /// The run whose search it went on from, where it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refined_from: Option<RefinedFrom>,
}

/// An earlier run, over fewer parameters, whose distribution a search began with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefinedFrom {
    /// The earlier run.
    pub run: RunId,
    /// Digest of its plan.
    pub plan_digest: common::digest::Digest,
    /// What was evaluated there.
    pub evaluations: u64,
    /// What was taken from it, in words.
    pub how: String,
}

/// The files that all workers must have.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pinned {
    /// What the coordinator saw at the start, then what the first worker added.
    pub manifest: Manifest,
    /// Whether a worker has added what the coordinator could not see.
    pub complete: bool,
}

/// Small things that change often.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counters {
    /// The last lease granted.
    pub last_lease: u64,
    /// The last worker registered.
    pub last_worker: u64,
    /// Time for which a coordinator was running, over all its starts.
    pub elapsed_ms: u64,
}

/// The search as saved when its latest generation was opened or told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Searched {
    /// The generation being evaluated; 0 before the first.
    pub generation: u64,
    /// The search with its random stream.
    pub snapshot: Snapshot,
    /// Why the run is over.
    pub end: Option<End>,
}

/// One thing to be written.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// See [`Identity`].
    Identity(Identity),
    /// See [`Pinned`].
    Pinned(Pinned),
    /// See [`Counters`].
    Counters(Counters),
    /// See [`Searched`].
    Searched(Searched),
    /// See [`Candidate`].
    Candidate(Candidate),
    /// Texts and scores of every sample of a candidate.
    Evaluation(CandidateId, Evaluation),
}

/// Everything durable but the texts: what a store yields and a state is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Durable {
    /// What never changes.
    pub identity: Identity,
    /// The files.
    pub pinned: Pinned,
    /// Counters.
    pub counters: Counters,
    /// The search.
    pub searched: Searched,
    /// Every candidate, in order of number.
    pub candidates: Vec<Candidate>,
}

impl Durable {
    /// A run that was not begun yet.
    pub fn new(plan: &RunPlan, manifest: Manifest, created: Millis) -> Durable {
        let seed = format!("{}\n{}\n{}", plan.digest(), created.0, std::process::id());
        let digits = common::digest::Digest::of(seed.as_bytes()).short(8);
        Durable {
            identity: Identity {
                run: RunId(format!("{}-{digits}", plan.name)),
                plan_json: plan.to_json(),
                program_version: proto::PROGRAM_VERSION.into(),
                created,
                refined_from: None,
            },
            pinned: Pinned { manifest, complete: false },
            counters: Counters::default(),
            searched: Searched { generation: 0, snapshot: first_snapshot(plan), end: None },
            candidates: Vec::new(),
        }
    }

    /// As records, to be written when a run is begun.
    pub fn records(&self) -> Vec<Record> {
        let mut records = vec![
            Record::Identity(self.identity.clone()),
            Record::Pinned(self.pinned.clone()),
            Record::Counters(self.counters.clone()),
            Record::Searched(self.searched.clone()),
        ];
        records.extend(self.candidates.iter().cloned().map(Record::Candidate));
        records
    }
}

fn first_snapshot(plan: &RunPlan) -> Snapshot {
    let dimensions = plan.space.kinds().into_iter().map(search::Dimension::from).collect();
    let domain = Domain { dimensions, objectives: 1 };
    search::begin(&plan.search, &domain, Stream::new(plan.seed, "search")).snapshot()
}

/// What was stored contradicts itself.
#[derive(Debug, thiserror::Error)]
#[error("the stored run contradicts itself: {0}")]
pub struct Contradiction(pub String);
