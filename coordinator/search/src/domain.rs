//! What kind of values the coordinates of a genome stand for.

use common::parameter::Kind;
use serde::{Deserialize, Serialize};

/// What a coordinate of the unit cube stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dimension {
    /// Every number of the unit interval.
    Real,
    /// One of so many values in order: the unit interval in equal parts, each value the middle of its part.
    Integer(u32),
    /// One of so many values without order, laid out like integers.
    Category(u32),
}

impl From<Kind> for Dimension {
    fn from(kind: Kind) -> Dimension {
        match kind {
            Kind::Real => Dimension::Real,
            Kind::Integer(n) => Dimension::Integer(n),
            Kind::Category(n) => Dimension::Category(n),
        }
    }
}

/// What is searched: kinds of coordinates, and the number of objectives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Domain {
    /// One per coordinate.
    pub dimensions: Vec<Dimension>,
    /// Numbers in a result, at least 1.
    pub objectives: usize,
}

impl Domain {
    /// So many real coordinates and one objective.
    pub fn real(dimensions: usize) -> Domain {
        Domain { dimensions: vec![Dimension::Real; dimensions], objectives: 1 }
    }
}
