//! What of a state is durable, as values. How they become bytes is the store's affair.

use super::audit::Audited;
use super::bound::Bar;
use super::candidate::Candidate;
use super::journal::{Entry, Place};
use super::results::{Partial, Parts};
use common::digest::Manifest;
use common::evaluation::{Evaluation, SampleResult};
use common::genome::Genome;
use common::id::{CandidateId, RunId};
use common::run::{Budget, RunPlan};
use common::seed::Stream;
use common::time::Millis;
use search::{Domain, Search, Snapshot, Starting};
use serde::{Deserialize, Serialize};

/// Why a run is over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// As many candidates as were to be evaluated are final.
    Evaluations,
    /// The time is up.
    Hours,
    /// Slots have worked for as long as they may.
    DeviceHours,
    /// A fitness was reached that is good enough.
    Target(f64),
    /// This many results in a row brought nothing better.
    Stagnation(u64),
    /// The search said so.
    Search(String),
}

impl End {
    /// In words.
    pub fn reason(&self) -> String {
        match self {
            End::Evaluations => "the budget of evaluations is used up".into(),
            End::Hours => "the budget of hours is used up".into(),
            End::DeviceHours => "the budget of device hours is used up".into(),
            End::Target(fitness) => format!("the target fitness of {fitness} is reached"),
            End::Stagnation(results) => format!("{results} results in a row brought nothing better"),
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
    /// Its best candidate, whose point is evaluated first, where that lies in the bounds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<CandidateId>,
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
    /// Time for which slots held candidates, summed over slots.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub device_ms: u64,
    /// Entries of the journal.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub entries: u64,
    /// Whether the operator wants nothing to be lent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// What early stops saved.
    #[serde(default, skip_serializing_if = "Saved::is_nothing")]
    pub saved: Saved,
    /// Second evaluations by other nodes.
    #[serde(default, skip_serializing_if = "AuditCount::is_nothing")]
    pub audits: AuditCount,
}

/// How many candidates were evaluated again by another node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditCount {
    /// In all.
    pub done: u64,
    /// With a fitness that differs by more than the plan allows.
    pub disagree: u64,
    /// Given up: they failed too often, or too many waited.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub given_up: u64,
}

impl AuditCount {
    fn is_nothing(&self) -> bool {
        *self == AuditCount::default()
    }
}

/// What early stops saved, over all starts of the coordinator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saved {
    /// Reports that ended early.
    pub reports: u64,
    /// The most tokens that they could have had yet.
    pub tokens: u64,
    /// Candidates that ended early.
    pub candidates: u64,
    /// Samples that were not evaluated for it.
    pub samples: u64,
    /// What these would have taken, by what the candidate's other samples took.
    pub device_ms: u64,
}

impl Saved {
    fn is_nothing(&self) -> bool {
        *self == Saved::default()
    }
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// A checkpoint: the search as it was when the journal had so many entries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Searched {
    /// The generation being evaluated; 0 before the first.
    pub generation: u64,
    /// The search with its random stream.
    pub snapshot: Snapshot,
    /// Why the run is over.
    pub end: Option<End>,
    /// Entries of the journal that it comes after.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub entries: u64,
    /// Where the search stands between asked and told. Absent in stores from before there was a journal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// What ends the run, where that was changed since it was begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
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
    /// See [`Durable::begun`]. Written once.
    Begun(Searched),
    /// An entry of the journal with its position, from 0.
    Journal(u64, Entry),
    /// See [`Candidate`].
    Candidate(Candidate),
    /// One sample of a candidate that is not final, and its position in the run's order.
    Sample(CandidateId, u32, SampleResult),
    /// Texts and scores of every sample of a final candidate. Takes the place of its [`Record::Sample`]s.
    Evaluation(CandidateId, Evaluation),
    /// What each sample contributed to a candidate's fitness, until there is a new bar.
    Parts(CandidateId, Vec<f64>),
    /// A second evaluation of a candidate by another node.
    Audited(CandidateId, Audited),
    /// What candidates have to be able to reach. Voids all [`Record::Parts`].
    Bar(Option<Bar>),
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
    /// Entries of the journal from the checkpoint on.
    pub tail: Vec<Entry>,
    /// Samples of candidates that are not final.
    pub partial: Partial,
    /// Contributions of scored candidates, since the bar was set.
    pub parts: Parts,
    /// The bar.
    pub bar: Option<Bar>,
    /// Where the search began, if not at the plan's own beginning: with results, or a distribution, of an earlier run.
    pub begun: Option<Searched>,
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
            searched: Searched {
                generation: 0,
                snapshot: first_search(plan).snapshot(),
                end: None,
                entries: 0,
                place: Some(Place::default()),
                budget: None,
            },
            candidates: Vec::new(),
            tail: Vec::new(),
            partial: Partial::new(),
            parts: Parts::new(),
            bar: None,
            begun: None,
        }
    }

    /// Lets the run begin with another search than the plan's own, or with candidates that are there already: of them,
    /// `generation` generations.
    pub fn begin_with(&mut self, search: &dyn Search, generation: u64, place: Place) {
        let (snapshot, place) = (search.snapshot(), Some(place));
        self.searched = Searched { generation, snapshot, place, ..self.searched.clone() };
        self.begun = Some(self.searched.clone());
    }

    /// As records, to be written when a run is begun.
    pub fn records(&self) -> Vec<Record> {
        let mut records = vec![
            Record::Identity(self.identity.clone()),
            Record::Pinned(self.pinned.clone()),
            Record::Counters(self.counters.clone()),
            Record::Searched(self.searched.clone()),
        ];
        records.extend(self.begun.iter().cloned().map(Record::Begun));
        records.extend(self.candidates.iter().cloned().map(Record::Candidate));
        let entries = (self.searched.entries..).zip(self.tail.iter().cloned());
        records.extend(entries.map(|(at, entry)| Record::Journal(at, entry)));
        records
    }
}

/// The plan's search at its own beginning.
pub fn first_search(plan: &RunPlan) -> Box<dyn Search> {
    starting(plan, search::begin(&plan.search, &domain(plan), Stream::new(plan.seed, "search")), &[])
}

/// The search behind the plan's start points, those left out that were evaluated before.
pub fn starting(plan: &RunPlan, search: Box<dyn Search>, before: &[&Genome]) -> Box<dyn Search> {
    let space = domain(plan);
    let points = plan.start_points().into_iter().map(|(_, point)| space.genome(&point));
    let points: Vec<Genome> = points.filter(|p| !before.contains(&p)).collect();
    match points.is_empty() {
        true => search,
        false => Box::new(Starting::new(points, search)),
    }
}

/// What the plan's search is about.
pub fn domain(plan: &RunPlan) -> Domain {
    let dimensions = plan.space.kinds().into_iter().map(search::Dimension::from).collect();
    Domain { dimensions, objectives: plan.numbers_told() }
}

/// What was stored contradicts itself.
#[derive(Debug, thiserror::Error)]
#[error("the stored run contradicts itself: {0}")]
pub struct Contradiction(pub String);
