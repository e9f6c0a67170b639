//! What two reports' mentions have in common.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Assertion, Mention, Side};

/// What must agree for a strict match.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key {
    finding: String,
    side: Side,
    zones: Vec<String>,
    assertion: Assertion,
}

/// The distinct statements of a report, ready to be compared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Statements {
    strict: BTreeSet<Key>,
}

impl Statements {
    /// Collects mentions; ones repeated identically count once, however often the report says them.
    ///
    /// Two ways to say one thing are one statement: right and left with all else equal is both sides, and to
    /// deny a finding on both sides is to deny it.
    pub fn new(mentions: &[Mention]) -> Self {
        let key = |m: &Mention| Key {
            finding: m.finding.clone(),
            side: m.side,
            zones: m.zones.clone(),
            assertion: m.assertion,
        };
        let stated: BTreeSet<Key> = mentions.iter().map(key).collect();
        let on = |key: &Key, side| Key { side, ..key.clone() };
        let mut strict = BTreeSet::new();
        for key in &stated {
            let twin = match key.side {
                Side::Right => stated.contains(&on(key, Side::Left)),
                Side::Left => stated.contains(&on(key, Side::Right)),
                _ => false,
            };
            let side = if twin { Side::Both } else { key.side };
            let denied = key.assertion == Assertion::Absent && side == Side::Both;
            strict.insert(on(key, if denied { Side::None } else { side }));
        }
        Self { strict }
    }

    /// Whether nothing is stated.
    pub fn is_empty(&self) -> bool {
        self.strict.is_empty()
    }
}

/// Matches and misses; weights of absent findings are not yet applied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Stated by both.
    pub both: u32,
    /// Stated by the prediction alone.
    pub prediction_only: u32,
    /// Stated by the reference alone.
    pub reference_only: u32,
}

/// The counts of one kind of agreement, absent findings apart because their weight is a setting.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agreement {
    /// Of present, uncertain and past findings.
    pub stated: Tally,
    /// Of absent ones.
    pub absent: Tally,
}

/// One finding's counts, for tables and plots.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindingCounts {
    /// True positives: statements of both.
    pub tp: u32,
    /// False positives: statements of the prediction alone.
    pub fp: u32,
    /// False negatives: statements of the reference alone.
    pub fn_: u32,
}

/// Everything counted over one pair of reports; those of a set are sums.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TermCounts {
    /// Finding, side, zone and assertion agree.
    pub strict: Agreement,
    /// Finding and assertion agree.
    pub by_finding: Agreement,
    /// Strict counts per finding, of whatever assertion.
    pub findings: BTreeMap<String, FindingCounts>,
}

/// Precision, recall and F1, each 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// Part of the prediction's statements that the reference makes too.
    pub precision: f64,
    /// Part of the reference's statements that the prediction makes too.
    pub recall: f64,
    /// Harmonic mean of the two.
    pub f1: f64,
}

/// Counts what two reports' statements have in common.
pub fn compare(reference: &Statements, prediction: &Statements) -> TermCounts {
    let mut counts = TermCounts::default();
    for key in reference.strict.union(&prediction.strict) {
        let (in_r, in_p) = (reference.strict.contains(key), prediction.strict.contains(key));
        counts.strict.count(key.assertion, in_r, in_p);
        let finding = counts.findings.entry(key.finding.clone()).or_default();
        match (in_r, in_p) {
            (true, true) => finding.tp += 1,
            (false, _) => finding.fp += 1,
            (_, false) => finding.fn_ += 1,
        }
    }
    let loose = |s: &Statements| -> BTreeSet<(String, Assertion)> {
        s.strict.iter().map(|k| (k.finding.clone(), k.assertion)).collect()
    };
    let (reference, prediction) = (loose(reference), loose(prediction));
    for key in reference.union(&prediction) {
        counts.by_finding.count(key.1, reference.contains(key), prediction.contains(key));
    }
    counts
}

impl TermCounts {
    /// Adds another sample's counts.
    pub fn add(&mut self, other: &Self) {
        self.strict.add(&other.strict);
        self.by_finding.add(&other.by_finding);
        for (id, theirs) in &other.findings {
            let ours = self.findings.entry(id.clone()).or_default();
            ours.tp += theirs.tp;
            ours.fp += theirs.fp;
            ours.fn_ += theirs.fn_;
        }
    }
}

impl FindingCounts {
    /// Precision, recall and F1 of this finding.
    pub fn rates(&self) -> Rates {
        rates(f64::from(self.tp), f64::from(self.fp), f64::from(self.fn_))
    }
}

impl Agreement {
    fn count(&mut self, assertion: Assertion, in_reference: bool, in_prediction: bool) {
        let tally = if assertion == Assertion::Absent { &mut self.absent } else { &mut self.stated };
        match (in_reference, in_prediction) {
            (true, true) => tally.both += 1,
            (true, false) => tally.reference_only += 1,
            (false, true) => tally.prediction_only += 1,
            (false, false) => {}
        }
    }

    fn add(&mut self, other: &Self) {
        for (ours, theirs) in [(&mut self.stated, &other.stated), (&mut self.absent, &other.absent)] {
            ours.both += theirs.both;
            ours.prediction_only += theirs.prediction_only;
            ours.reference_only += theirs.reference_only;
        }
    }

    /// Precision, recall and F1 with absent findings weighing `absent_weight` of a present one.
    pub fn rates(&self, absent_weight: f64) -> Rates {
        let of = |count: fn(&Tally) -> u32| {
            f64::from(count(&self.stated)) + absent_weight * f64::from(count(&self.absent))
        };
        rates(of(|t| t.both), of(|t| t.prediction_only), of(|t| t.reference_only))
    }
}

/// Neither report states anything: they agree, 1. One alone does: 0.
fn rates(tp: f64, fp: f64, fn_: f64) -> Rates {
    if tp + fp + fn_ == 0.0 {
        return Rates { precision: 1.0, recall: 1.0, f1: 1.0 };
    }
    let part = |of: f64| if of > 0.0 { tp / of } else { 0.0 };
    Rates { precision: part(tp + fp), recall: part(tp + fn_), f1: 2.0 * tp / (2.0 * tp + fp + fn_) }
}
