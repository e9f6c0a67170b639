//! What ends a run, and whether it waits for generations: the keys of `[search]` that are about scheduling.

use super::reader::Section;
use serde::{Deserialize, Serialize};

/// When a search learns and is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Whole generations: genomes depend on the plan alone, whatever the number of workers.
    #[default]
    Generational,
    /// A candidate for every free slot, learning from each result as it is recorded: genomes depend on the plan and the
    /// order in which results were recorded.
    Asynchronous,
}

impl Mode {
    /// Whether this is what plans without the key mean.
    pub fn is_generational(&self) -> bool {
        *self == Mode::Generational
    }
}

/// What ends a run. Everything but `evaluations` is optional; whichever is reached first counts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Candidates to evaluate in all.
    pub evaluations: u64,
    /// Time for which a coordinator runs the search, in hours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hours: Option<f64>,
    /// Time that slots hold candidates, summed over slots, in hours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_hours: Option<f64>,
    /// A fitness that is good enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_fitness: Option<f64>,
    /// Results in a row of which none is better than the best before them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stagnation: Option<u64>,
}

/// What of a [`Budget`] is to change.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Extension {
    /// See [`Budget::evaluations`].
    pub evaluations: Option<u64>,
    /// See [`Budget::hours`].
    pub hours: Option<f64>,
    /// See [`Budget::device_hours`].
    pub device_hours: Option<f64>,
    /// See [`Budget::target_fitness`].
    pub target_fitness: Option<f64>,
    /// See [`Budget::stagnation`].
    pub stagnation: Option<u64>,
}

impl Budget {
    /// The budget with what `extension` names changed.
    pub fn extended(&self, extension: &Extension) -> Budget {
        Budget {
            evaluations: extension.evaluations.unwrap_or(self.evaluations),
            hours: extension.hours.or(self.hours),
            device_hours: extension.device_hours.or(self.device_hours),
            target_fitness: extension.target_fitness.or(self.target_fitness),
            stagnation: extension.stagnation.or(self.stagnation),
        }
    }

    /// Whether every number can be used.
    ///
    /// # Errors
    /// The name of the first that cannot, and what it may be.
    pub fn check(&self) -> Result<(), String> {
        let hours = |name: &str, value: Option<f64>| match value {
            Some(h) if !HOURS.contains(&h) => {
                Err(format!("{name} = {h} is not from {} to {}", HOURS.start(), HOURS.end()))
            }
            _ => Ok(()),
        };
        hours("hours", self.hours)?;
        hours("device_hours", self.device_hours)?;
        match (self.target_fitness, self.stagnation) {
            (Some(t), _) if !t.is_finite() => Err(format!("target_fitness = {t} is not a finite number")),
            (_, Some(0)) => Err("stagnation = 0 is not at least 1".into()),
            _ if self.evaluations == 0 => Err("evaluations = 0 is not at least 1".into()),
            _ => Ok(()),
        }
    }
}

const HOURS: std::ops::RangeInclusive<f64> = 1e-4..=10_000_000.0;

/// The keys of this file, as they stand in `[search]`.
pub(super) struct Limits {
    pub mode: Mode,
    pub device_hours: Option<f64>,
    pub target_fitness: Option<f64>,
    pub stagnation: Option<u64>,
}

/// Reads them.
pub(super) fn read(s: &Section<'_>) -> Limits {
    let modes = [("generational", Mode::Generational), ("asynchronous", Mode::Asynchronous)];
    Limits {
        mode: s.choice("mode", &modes, Mode::Generational),
        device_hours: s.number("device_hours", HOURS, "192.0"),
        target_fitness: s.number("target_fitness", -1e9..=1e9, "0.6"),
        stagnation: s.integer("stagnation", 1..=10_000_000, "200"),
    }
}
