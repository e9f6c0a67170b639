//! What is wrong with a run file, for a person who wants to mend it.

use super::tree::Place;
use std::fmt;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub(super) place: Option<Place>,
    /// Dotted path of the key, such as `search.population`; empty for the file as a whole.
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

impl Fault {
    /// A fault found after reading, such as a file that the run file names and that is not there.
    pub fn at(field: &str, message: impl Into<String>, remedy: impl Into<String>) -> Fault {
        Fault { place: None, field: field.into(), message: message.into(), remedy: remedy.into() }
    }

    /// A fault on a line of a file.
    pub fn on_line(line: usize, field: &str, message: impl Into<String>, remedy: impl Into<String>) -> Fault {
        Fault { place: Some(Place::Line(line)), ..Fault::at(field, message, remedy) }
    }

    /// The line in the file, where the fault has one.
    pub fn line(&self) -> Option<usize> {
        match self.place {
            Some(Place::Line(n)) => Some(n),
            _ => None,
        }
    }
}

/// Everything that is wrong with a run file, in the order of its lines.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Faults {
    /// The file's name as the person gave it.
    pub file: String,
    /// At least one.
    pub faults: Vec<Fault>,
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, fault) in self.faults.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            match fault.place {
                Some(Place::Line(line)) => write!(f, "{}:{line}: ", self.file)?,
                Some(Place::Override) => write!(f, "--set: ")?,
                Some(Place::Text) | None => write!(f, "{}: ", self.file)?,
            }
            if !fault.field.is_empty() {
                write!(f, "{}: ", fault.field)?;
            }
            write!(f, "{} ({})", fault.message, fault.remedy)?;
        }
        Ok(())
    }
}
