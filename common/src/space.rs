//! The searched parameters: which numbers of a recipe the search moves, and between which bounds.

use crate::genome::Genome;
use serde::{Deserialize, Serialize};

/// One searched parameter: a coordinate of the genome, mapped linearly onto `[low, high]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameter {
    /// `scale`, `drop_rate`, or per source as in `weight.japanese`.
    pub name: String,
    /// Value at coordinate 0.
    pub low: f64,
    /// Value at coordinate 1.
    pub high: f64,
}

/// Where one number of a recipe comes from.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Coefficient {
    /// Always this value.
    Fixed(f64),
    /// The value of the searched parameter with this index; several may share one.
    Searched(usize),
}

/// The coefficients of one source.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceCoefficients {
    /// See [`crate::recipe::SourceTerm::weight`].
    pub weight: Coefficient,
    /// See [`crate::recipe::SourceTerm::drop_rate`].
    pub drop_rate: Coefficient,
    /// See [`crate::recipe::SourceTerm::trim_rate`].
    pub trim_rate: Coefficient,
}

/// The search space of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Space {
    /// The searched parameters, in the order of a genome's coordinates.
    pub parameters: Vec<Parameter>,
    /// Factor of the merged task vector.
    pub scale: Coefficient,
    /// Per source, in the order of the run file.
    pub sources: Vec<SourceCoefficients>,
}

impl Space {
    /// Number of searched parameters.
    pub fn dimensions(&self) -> usize {
        self.parameters.len()
    }

    /// The value of every searched parameter, in order.
    ///
    /// # Panics
    /// When the genome has another number of coordinates.
    pub fn values(&self, genome: &Genome) -> Vec<f64> {
        assert_eq!(genome.coordinates().len(), self.dimensions(), "a genome of this space");
        let value = |(p, x): (&Parameter, &f64)| p.low + (p.high - p.low) * x;
        self.parameters.iter().zip(genome.coordinates()).map(value).collect()
    }

    /// The number that a coefficient stands for, given [`Space::values`].
    pub fn resolve(&self, coefficient: Coefficient, values: &[f64]) -> f64 {
        match coefficient {
            Coefficient::Fixed(v) => v,
            Coefficient::Searched(i) => values[i],
        }
    }

    /// Whether every coefficient points at an existing parameter and every bound is usable.
    pub fn check(&self) -> Result<(), String> {
        let known = |c: &Coefficient| match c {
            Coefficient::Fixed(v) => v.is_finite(),
            Coefficient::Searched(i) => *i < self.parameters.len(),
        };
        let all = |s: &SourceCoefficients| known(&s.weight) && known(&s.drop_rate) && known(&s.trim_rate);
        if !known(&self.scale) || !self.sources.iter().all(all) {
            return Err("a coefficient points at no parameter".into());
        }
        match self.parameters.iter().find(|p| !(p.low.is_finite() && p.high.is_finite() && p.low < p.high)) {
            Some(p) => Err(format!("bounds of {} are not an interval", p.name)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_the_cube_onto_the_bounds() {
        let space = Space {
            parameters: vec![
                Parameter { name: "scale".into(), low: 0.0, high: 2.0 },
                Parameter { name: "drop_rate".into(), low: 0.5, high: 1.0 },
            ],
            scale: Coefficient::Searched(0),
            sources: vec![SourceCoefficients {
                weight: Coefficient::Fixed(1.0),
                drop_rate: Coefficient::Searched(1),
                trim_rate: Coefficient::Searched(1),
            }],
        };
        assert_eq!(space.check(), Ok(()));
        let values = space.values(&Genome::new(vec![0.5, 1.0]).unwrap());
        assert_eq!(values, [1.0, 1.0]);
        assert_eq!(space.resolve(space.sources[0].trim_rate, &values), 1.0);
        assert_eq!(space.resolve(space.sources[0].weight, &values), 1.0);
        let broken = Space { parameters: vec![], ..space };
        assert!(broken.check().is_err());
    }
}
