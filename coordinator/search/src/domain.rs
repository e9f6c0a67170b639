//! What kind of values the coordinates of a genome stand for.

use common::genome::Genome;
use common::parameter::Kind;
use common::seed::Stream;
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

impl Dimension {
    /// How many values there are; `None` for real ones.
    pub fn count(self) -> Option<u32> {
        match self {
            Dimension::Real => None,
            Dimension::Integer(count) | Dimension::Category(count) => Some(count.max(1)),
        }
    }

    /// Which value the coordinate `x` stands for, from 0; `None` for real ones.
    pub fn index(self, x: f64) -> Option<u32> {
        let count = self.count()?;
        Some(((x * f64::from(count)) as u32).min(count - 1))
    }

    /// The coordinate that stands for the value with this index: the middle of its part.
    ///
    /// # Panics
    /// On a real dimension, which has no indices.
    pub fn middle(self, index: u32) -> f64 {
        let count = self.count().expect("a dimension of counted values");
        (f64::from(index.min(count - 1)) + 0.5) / f64::from(count)
    }

    /// `x` as a genome holds it: itself, or the middle of the part that it lies in.
    pub fn snap(self, x: f64) -> f64 {
        self.index(x).map_or(x, |index| self.middle(index))
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

    /// The genome nearest to a point: clamped to the cube, counted values at the middle of their parts.
    ///
    /// # Panics
    /// When a coordinate is not a number.
    pub fn genome(&self, point: &[f64]) -> Genome {
        let snapped = self.dimensions.iter().zip(point).map(|(d, x)| d.snap(x.clamp(0.0, 1.0)));
        Genome::new(snapped.collect()).expect("clamped numbers lie in the cube")
    }

    /// A genome drawn uniformly.
    pub fn uniform(&self, stream: &mut Stream) -> Genome {
        let point: Vec<f64> = self.dimensions.iter().map(|_| stream.uniform()).collect();
        self.genome(&point)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counted_values_lie_in_the_middle_of_their_parts() {
        let d = Dimension::Integer(4);
        assert_eq!([0.0, 0.24, 0.25, 0.99, 1.0].map(|x| d.index(x).unwrap()), [0, 0, 1, 3, 3]);
        assert_eq!([0, 1, 2, 3].map(|i| d.middle(i)), [0.125, 0.375, 0.625, 0.875]);
        assert!((0..4).all(|i| d.index(d.middle(i)) == Some(i)));
        assert_eq!(Dimension::Real.snap(0.3), 0.3);
        assert_eq!(Dimension::Category(1).snap(0.3), 0.5);
        let domain = Domain { dimensions: vec![Dimension::Real, d], objectives: 1 };
        assert_eq!(domain.genome(&[-3.0, 7.0]).coordinates(), [0.0, 0.875]);
    }
}
