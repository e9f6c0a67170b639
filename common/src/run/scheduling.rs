//! `[scheduling]` and `[early_stop]`: how work is lent, and when work that cannot pay is given up.

use super::reader::Section;
use super::tree::Value;
use serde::{Deserialize, Serialize};

/// Leases and attempts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SchedulingPlan {
    /// A lease that is not renewed for this long is lost, in seconds.
    pub lease_seconds: u64,
    /// Attempts before a candidate counts as failed.
    pub attempts: u32,
    /// Whether idle slots take batches over from candidates that others are evaluating.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub split: bool,
    /// What is generated again of a batch that was broken off.
    #[serde(default, skip_serializing_if = "is_sample")]
    pub redo: Redo,
    /// A lease that makes no progress for this long is taken back although its worker renews it, in seconds.
    #[serde(default = "stall", skip_serializing_if = "is_stall")]
    pub stall_seconds: u64,
    /// Share of the scored candidates that another worker evaluates again.
    #[serde(default, skip_serializing_if = "is_none")]
    pub audit: f64,
    /// How far the two fitnesses may differ before that is told.
    #[serde(default = "tolerance", skip_serializing_if = "is_tolerance")]
    pub audit_tolerance: f64,
}

const MOST_TOLERANT: f64 = 1e9;

impl SchedulingPlan {
    /// Checks what a hostile sender could have changed.
    pub(super) fn check(&self) -> Result<(), String> {
        match (0.0..=1.0).contains(&self.audit) && (0.0..=MOST_TOLERANT).contains(&self.audit_tolerance) {
            true => Ok(()),
            false => Err("scheduling: audit or audit_tolerance is out of range".into()),
        }
    }
}

/// What is generated again of a batch of which some reports are there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Redo {
    /// Only the missing samples: nothing is done twice, in a batch that is smaller than it was.
    #[default]
    Sample,
    /// The whole batch, so that every report comes from a batch of the plan's composition. What was recorded stays.
    Batch,
}

// Choices that came later leave no trace where they are not made, so that digests of earlier plans stay.
fn yes() -> bool {
    true
}

fn is_yes(choice: &bool) -> bool {
    *choice
}

/// Long enough for the first of fifty reports of an 8B model on a CPU.
fn stall() -> u64 {
    4 * 3600
}

fn is_stall(seconds: &u64) -> bool {
    *seconds == stall()
}

fn is_none(share: &f64) -> bool {
    *share == 0.0
}

/// Two devices that round differently write some reports differently: less than this on fifty samples.
fn tolerance() -> f64 {
    0.02
}

fn is_tolerance(t: &f64) -> bool {
    *t == tolerance()
}

fn is_sample(redo: &Redo) -> bool {
    *redo == Redo::Sample
}

/// Reads `[scheduling]`.
pub(super) fn read(s: &Section<'_>) -> SchedulingPlan {
    let redo = [("sample", Redo::Sample), ("batch", Redo::Batch)];
    let plan = SchedulingPlan {
        lease_seconds: s.integer("lease_seconds", 1..=86_400, "60").unwrap_or(60),
        attempts: s.integer("attempts", 1..=100, "3").unwrap_or(3) as u32,
        split: s.boolean("split").unwrap_or(true),
        redo: s.choice("redo", &redo, Redo::Sample),
        stall_seconds: s.integer("stall_seconds", 10..=604_800, "14400").unwrap_or(stall()),
        audit: s.number("audit", 0.0..=1.0, "0.02").unwrap_or(0.0),
        audit_tolerance: s.number("audit_tolerance", 0.0..=MOST_TOLERANT, "0.02").unwrap_or(tolerance()),
    };
    s.finish();
    plan
}

/// When work ends early. Everything is off unless asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EarlyStopPlan {
    /// A report that goes in circles ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repetition: Option<Repetition>,
    /// A report without one Japanese character after so many tokens ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_japanese_after: Option<u32>,
    /// A candidate ends when it is this sure that it cannot reach the parents of the last generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hopeless: Option<f64>,
}

impl EarlyStopPlan {
    /// Whether nothing ends early.
    pub fn is_off(&self) -> bool {
        *self == EarlyStopPlan::default()
    }

    /// Checks what a hostile sender could have changed.
    pub(super) fn check(&self) -> Result<(), String> {
        let cycles = self.repetition.is_none_or(|r| {
            (1..=MAX_PERIOD).contains(&u64::from(r.period))
                && (2..=MAX_REPEATS).contains(&u64::from(r.repeats))
        });
        let sure = self.hopeless.is_none_or(|p| (LEAST_SURE..=MOST_SURE).contains(&p));
        match cycles && sure && self.no_japanese_after != Some(0) {
            true => Ok(()),
            false => Err("early_stop: a value is out of range".into()),
        }
    }
}

/// What counts as going in circles: the last tokens are one piece, over and over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repetition {
    /// The longest piece, in tokens.
    pub period: u32,
    /// How often a piece must stand.
    pub repeats: u32,
}

impl Default for Repetition {
    /// Sentences of reports are shorter than 32 tokens, and none stands four times in a row in a report that means
    /// something.
    fn default() -> Self {
        Repetition { period: 32, repeats: 4 }
    }
}

const MAX_PERIOD: u64 = 1024;
const MAX_REPEATS: u64 = 1024;
const LEAST_SURE: f64 = 0.5;
const MOST_SURE: f64 = 0.999_999;

/// Reads `[early_stop]`; `None` where nothing is switched on.
pub(super) fn read_early_stop(s: &Section<'_>) -> Option<EarlyStopPlan> {
    let repetition = match s.get("repetition").map(|n| &n.value) {
        Some(Value::Table(_)) => {
            let table = s.section("repetition");
            let default = Repetition::default();
            let number = |key, range, example, default: u32| {
                table.integer(key, range, example).map_or(default, |n| n as u32)
            };
            let repetition = Repetition {
                period: number("period", 1..=MAX_PERIOD, "32", default.period),
                repeats: number("repeats", 2..=MAX_REPEATS, "4", default.repeats),
            };
            table.finish();
            Some(repetition)
        }
        _ => s.boolean("repetition").unwrap_or(false).then(Repetition::default),
    };
    let plan = EarlyStopPlan {
        repetition,
        no_japanese_after: s.integer("no_japanese_after", 1..=8192, "24").map(|n| n as u32),
        hopeless: s.number("hopeless", LEAST_SURE..=MOST_SURE, "0.99"),
    };
    s.finish();
    (!plan.is_off()).then_some(plan)
}
