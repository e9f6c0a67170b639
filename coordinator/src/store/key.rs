//! Where each record of a store stands: its tree, its key there, and the name that its checksum covers.

use super::Error;
use super::record::encode;
use crate::state::Record;
use common::id::CandidateId;

pub(crate) const IDENTITY: &str = "identity";
pub(crate) const PINNED: &str = "pinned";
pub(crate) const COUNTERS: &str = "counters";
pub(crate) const SEARCHED: &str = "searched";
pub(crate) const BAR: &str = "bar";
pub(crate) const BEGUN: &str = "begun";
pub(crate) const COMMITS: &str = "commits";

/// Which tree a record goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// What there is once.
    Run,
    /// By number.
    Candidates,
    /// By the candidate's number.
    Evaluations,
    /// By the candidate's number and the sample's position.
    Samples,
    /// By the candidate's number.
    Parts,
    /// By position.
    Journal,
    /// By the candidate's number.
    Audits,
}

impl Place {
    /// Every tree.
    pub const ALL: [Place; 7] = [
        Place::Run,
        Place::Candidates,
        Place::Evaluations,
        Place::Samples,
        Place::Parts,
        Place::Journal,
        Place::Audits,
    ];

    /// The tree's name.
    pub fn name(self) -> &'static str {
        match self {
            Place::Run => "run",
            Place::Candidates => "candidates",
            Place::Evaluations => "evaluations",
            Place::Samples => "samples",
            Place::Parts => "parts",
            Place::Journal => "journal",
            Place::Audits => "audits",
        }
    }

    /// The tree of that name.
    pub fn named(name: &str) -> Option<Place> {
        Place::ALL.into_iter().find(|place| place.name() == name)
    }
}

/// Where a record stands.
pub(super) type Key = (Place, Vec<u8>);

/// What a record makes void: keys of a tree that begin so.
pub(super) fn voids(record: &Record) -> Option<Key> {
    match record {
        Record::Evaluation(id, _) => Some((Place::Samples, bytes(*id))),
        Record::Bar(_) => Some((Place::Parts, Vec::new())),
        _ => None,
    }
}

fn bytes(id: CandidateId) -> Vec<u8> {
    id.0.to_be_bytes().to_vec()
}

pub(super) fn of(record: &Record) -> Key {
    let single = |key: &str| (Place::Run, key.as_bytes().to_vec());
    match record {
        Record::Identity(_) => single(IDENTITY),
        Record::Pinned(_) => single(PINNED),
        Record::Counters(_) => single(COUNTERS),
        Record::Searched(_) => single(SEARCHED),
        Record::Bar(_) => single(BAR),
        Record::Begun(_) => single(BEGUN),
        Record::Candidate(r) => (Place::Candidates, bytes(r.id())),
        Record::Evaluation(id, _) => (Place::Evaluations, bytes(*id)),
        Record::Sample(id, position, _) => {
            (Place::Samples, [&bytes(*id)[..], &position.to_be_bytes()[..]].concat())
        }
        Record::Parts(id, _) => (Place::Parts, bytes(*id)),
        Record::Journal(at, _) => (Place::Journal, at.to_be_bytes().to_vec()),
        Record::Audited(id, _) => (Place::Audits, bytes(*id)),
    }
}

pub(super) fn value(record: &Record) -> Vec<u8> {
    match record {
        Record::Identity(r) => encode(IDENTITY, r),
        Record::Pinned(r) => encode(PINNED, r),
        Record::Counters(r) => encode(COUNTERS, r),
        Record::Searched(r) => encode(SEARCHED, r),
        Record::Candidate(r) => encode(&candidate(r.id().0), r),
        Record::Evaluation(id, r) => encode(&evaluation(id.0), r),
        Record::Sample(id, position, r) => encode(&sample(id.0, *position), r),
        Record::Parts(id, r) => encode(&parts(id.0), r),
        Record::Bar(r) => encode(BAR, r),
        Record::Begun(r) => encode(BEGUN, r),
        Record::Journal(at, r) => encode(&journal(*at), r),
        Record::Audited(id, r) => encode(&audit(id.0), r),
    }
}

pub(crate) fn journal(at: u64) -> String {
    format!("journal/{at}")
}

pub(crate) fn candidate(id: u64) -> String {
    format!("candidate/{id}")
}

pub(crate) fn evaluation(id: u64) -> String {
    format!("evaluation/{id}")
}

pub(crate) fn sample(id: u64, position: u32) -> String {
    format!("sample/{id}/{position}")
}

pub(crate) fn parts(id: u64) -> String {
    format!("parts/{id}")
}

pub(crate) fn audit(id: u64) -> String {
    format!("audit/{id}")
}

/// Candidate and position of a sample's key.
pub(crate) fn sample_number(key: &[u8]) -> Result<(u64, u32), Error> {
    let damaged =
        || Error::Damaged { key: format!("sample/{key:02x?}"), message: "its key is no number".into() };
    let (id, position) = key.split_at_checked(8).ok_or_else(damaged)?;
    let position = position.try_into().map_err(|_| damaged())?;
    Ok((number("sample", id)?, u32::from_be_bytes(position)))
}

pub(crate) fn number(tree: &str, key: &[u8]) -> Result<u64, Error> {
    let bytes = key.try_into().map_err(|_| Error::Damaged {
        key: format!("{tree}/{key:02x?}"),
        message: "its key is no number".into(),
    })?;
    Ok(u64::from_be_bytes(bytes))
}
