//! A point of the search space.

use serde::{Deserialize, Serialize};

/// One coordinate in [0, 1] per searched parameter, in the order of [`crate::space::Space::parameters`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<f64>", into = "Vec<f64>")]
pub struct Genome(Vec<f64>);

/// A coordinate was outside [0, 1] or not a number.
#[derive(Debug, thiserror::Error, PartialEq)]
#[error("coordinate {index} of a genome is {value}, outside [0, 1]")]
pub struct OutsideCube {
    /// Position of the coordinate.
    pub index: usize,
    /// What was found there.
    pub value: f64,
}

impl Genome {
    /// Checks that every coordinate lies in [0, 1].
    pub fn new(coordinates: Vec<f64>) -> Result<Genome, OutsideCube> {
        match coordinates.iter().position(|x| !(0.0..=1.0).contains(x)) {
            Some(index) => Err(OutsideCube { index, value: coordinates[index] }),
            None => Ok(Genome(coordinates)),
        }
    }

    /// The coordinates, each in [0, 1].
    pub fn coordinates(&self) -> &[f64] {
        &self.0
    }
}

impl TryFrom<Vec<f64>> for Genome {
    type Error = OutsideCube;
    fn try_from(v: Vec<f64>) -> Result<Genome, OutsideCube> {
        Genome::new(v)
    }
}

impl From<Genome> for Vec<f64> {
    fn from(g: Genome) -> Vec<f64> {
        g.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_is_outside_the_cube() {
        assert!(Genome::new(vec![0.0, 0.5, 1.0]).is_ok());
        assert_eq!(Genome::new(vec![0.0, 1.5]), Err(OutsideCube { index: 1, value: 1.5 }));
        assert!(Genome::new(vec![f64::NAN]).is_err());
        assert!(serde_json::from_str::<Genome>("[0.1, -0.1]").is_err());
    }
}
