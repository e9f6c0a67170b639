//! Between the coordinates that the normal distribution lives in and genomes: bounds, integers, categories.
//!
//! - **Resample**: latent and genome are the same; what falls outside the cube is drawn again, at last clipped (`cmaes`,
//!   with Optuna's 10·n tries).
//! - **Transform**: a smooth periodic map of the line onto the unit interval, the identity but for the outer parts
//!   (pycma 4.5.0, `BoxConstraintsLinQuadTransformation`): the distribution is not cut, so that steps near a bound keep
//!   their statistics.
//! - **Integers** are rounded to their grid from a coordinate like any other; that they go on varying is the
//!   [`margin`](super::margin)'s work.
//! - **Categories** have no order, so that rounding would let one be reached only through its neighbours. A category of
//!   k values has k latent coordinates, and the largest says which: every value is one step away from every other.
//!   (A category of two is an integer of two.) Where a value's coordinate has fallen behind, it would never be drawn
//!   again; so with the margin's probability the largest coordinate changes places with one drawn uniformly.

use crate::{Dimension, Domain};
use common::run::CmaBounds;
use common::seed::Stream;
use serde::{Deserialize, Serialize};

/// Width of the quadratic parts at either end: pycma's for an interval from 0 to 1.
const CURVED: f64 = 0.05;

/// After which bending repeats itself.
const PERIOD: f64 = 2.0 * (1.0 + 2.0 * CURVED);

/// What puts a category's value before others that are level with it.
const LEAD: f64 = 0.1;

/// How one coordinate of a genome comes of latent ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Slot {
    Real(usize),
    /// Latent position, number of values.
    Integer(usize, u32),
    /// First latent position, number of values.
    Category(usize, u32),
}

/// The map of a domain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Latent {
    slots: Vec<Slot>,
    bounds: CmaBounds,
}

impl Latent {
    pub fn new(domain: &Domain, bounds: CmaBounds) -> Latent {
        let mut next = 0;
        let mut slots = Vec::new();
        for dimension in &domain.dimensions {
            let (slot, width) = match *dimension {
                Dimension::Integer(k) | Dimension::Category(k) if k < 2 => (Slot::Integer(next, 1), 1),
                Dimension::Real => (Slot::Real(next), 1),
                Dimension::Integer(k) | Dimension::Category(k @ 2) => (Slot::Integer(next, k), 1),
                Dimension::Category(k) => (Slot::Category(next, k), k as usize),
            };
            slots.push(slot);
            next += width;
        }
        Latent { slots, bounds }
    }

    /// Latent coordinates.
    pub fn dimensions(&self) -> usize {
        self.slots.last().map_or(0, |slot| match *slot {
            Slot::Real(at) | Slot::Integer(at, _) => at + 1,
            Slot::Category(at, k) => at + k as usize,
        })
    }

    pub fn bounds(&self) -> CmaBounds {
        self.bounds
    }

    /// Whether every coordinate is a plain number.
    pub fn is_real(&self) -> bool {
        self.slots.iter().all(|s| matches!(s, Slot::Real(_)))
    }

    /// For each coordinate of a genome the latent one that it follows in order; none for categories, which have several.
    pub fn ordered(&self) -> Vec<Option<usize>> {
        let position = |s: &Slot| match *s {
            Slot::Real(at) | Slot::Integer(at, _) => Some(at),
            Slot::Category(..) => None,
        };
        self.slots.iter().map(position).collect()
    }

    /// Whether a genome's coordinate falls where this latent value rises, as it does behind a bent bound.
    pub fn is_folded(&self, v: f64) -> bool {
        self.bounds == CmaBounds::Transform && (v + CURVED).rem_euclid(PERIOD) > PERIOD / 2.0
    }

    /// Position and number of values of the integers.
    pub fn integers(&self) -> Vec<(usize, u32)> {
        let integer = |s: &Slot| match *s {
            Slot::Integer(at, k) if k > 1 => Some((at, k)),
            _ => None,
        };
        self.slots.iter().filter_map(integer).collect()
    }

    /// Whether a latent point may be evaluated as it is.
    pub fn inside(&self, v: &[f64]) -> bool {
        let fits = |s: &Slot| match *s {
            Slot::Real(at) => (0.0..=1.0).contains(&v[at]),
            _ => true,
        };
        self.bounds == CmaBounds::Transform || self.slots.iter().all(fits)
    }

    /// Clips what is to lie in the cube.
    pub fn clip(&self, v: &mut [f64]) {
        if self.bounds == CmaBounds::Resample {
            for slot in &self.slots {
                if let Slot::Real(at) = *slot {
                    v[at] = v[at].clamp(0.0, 1.0);
                }
            }
        }
    }

    /// Lets a fallen-behind category be drawn now and then.
    pub fn stir(&self, v: &mut [f64], probability: f64, stream: &mut Stream) {
        for slot in &self.slots {
            if let Slot::Category(at, k) = *slot
                && stream.uniform() < probability
            {
                let drawn = at + (stream.uniform() * f64::from(k)) as usize;
                let first = at + largest(&v[at..at + k as usize]);
                v.swap(drawn, first);
            }
        }
    }

    /// The genome's coordinates of a latent point. `integer` rounds an integer's: position in the latent point, value,
    /// number of values.
    pub fn genome(&self, v: &[f64], integer: impl Fn(usize, f64, u32) -> f64) -> Vec<f64> {
        let coordinate = |s: &Slot| match *s {
            Slot::Real(at) => match self.bounds {
                CmaBounds::Resample => v[at],
                CmaBounds::Transform => bend(v[at]),
            },
            Slot::Integer(at, k) => integer(at, v[at], k),
            Slot::Category(at, k) => middle(largest(&v[at..at + k as usize]) as u32, k),
        };
        self.slots.iter().map(coordinate).collect()
    }

    /// The latent mean that coordinates of a genome stand for. Categories begin level, so that each is as likely.
    pub fn mean(&self, coordinates: &[f64]) -> Vec<f64> {
        let mut v = vec![0.5; self.dimensions()];
        for (slot, g) in self.slots.iter().zip(coordinates) {
            match *slot {
                Slot::Real(at) if self.bounds == CmaBounds::Transform => v[at] = straighten(*g),
                Slot::Real(at) | Slot::Integer(at, _) => v[at] = *g,
                Slot::Category(..) => {}
            }
        }
        v
    }

    /// A latent point that stands for a genome: the one nearest to `mean`. `integer` is the inverse of the rounding.
    pub fn latent(&self, genome: &[f64], mean: &[f64], integer: impl Fn(usize, f64) -> f64) -> Vec<f64> {
        let mut v = mean.to_vec();
        for (slot, g) in self.slots.iter().zip(genome) {
            match *slot {
                Slot::Real(at) if self.bounds == CmaBounds::Transform => v[at] = straighten(*g),
                Slot::Real(at) => v[at] = *g,
                Slot::Integer(at, _) => v[at] = integer(at, *g),
                Slot::Category(at, k) => {
                    let first = at + largest(&v[at..at + k as usize]);
                    let wanted = at + value(*g, k) as usize;
                    v.swap(first, wanted);
                    if at + largest(&v[at..at + k as usize]) != wanted {
                        v[wanted] += LEAD;
                    }
                }
            }
        }
        v
    }
}

/// The middle of a value's part of the unit interval.
pub(super) fn middle(value: u32, values: u32) -> f64 {
    (f64::from(value) + 0.5) / f64::from(values)
}

/// The value whose part of the unit interval a coordinate lies in.
pub(super) fn value(coordinate: f64, values: u32) -> u32 {
    ((coordinate * f64::from(values)) as u32).min(values - 1)
}

fn largest(v: &[f64]) -> usize {
    // Of equal ones the first.
    (1..v.len()).fold(0, |best, i| if v[i] > v[best] { i } else { best })
}

/// The line onto the unit interval.
fn bend(v: f64) -> f64 {
    // Distance from the lower end of the invertible part, folded at its upper end.
    let along = (v + CURVED).rem_euclid(PERIOD);
    let y = along.min(PERIOD - along) - CURVED;
    let bent = if y < CURVED {
        (y + CURVED).powi(2) / (4.0 * CURVED)
    } else if y > 1.0 - CURVED {
        1.0 - (y - 1.0 - CURVED).powi(2) / (4.0 * CURVED)
    } else {
        y
    };
    bent.clamp(0.0, 1.0)
}

/// The inverse of [`bend`] in its invertible part.
fn straighten(x: f64) -> f64 {
    if x < CURVED {
        2.0 * (CURVED * x).sqrt() - CURVED
    } else if x > 1.0 - CURVED {
        1.0 + CURVED - 2.0 * (CURVED * (1.0 - x)).sqrt()
    } else {
        x
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bending_is_that_of_pycma() {
        // BoxConstraintsLinQuadTransformation([[0, 1]]) of pycma 4.5.0, which prints 15 digits here.
        let theirs = [
            (-1.3, 0.9),
            (-0.2, 0.1),
            (-0.05, 0.0),
            (0.0, 0.0125),
            (0.03, 0.032),
            (0.5, 0.5),
            (0.97, 0.968),
            (1.05, 1.0),
            (1.3, 0.8),
            (4.2, 0.1),
        ];
        for (v, x) in theirs {
            assert!((bend(v) - x).abs() < 1e-12, "{v}: {} {x}", bend(v));
        }
        for i in 0..=100 {
            let x = f64::from(i) / 100.0;
            assert!((bend(straighten(x)) - x).abs() < 1e-12, "{x}");
        }
    }

    #[test]
    fn a_genome_and_its_latent_point_agree() {
        use Dimension::*;
        let domain = Domain {
            dimensions: vec![Category(3), Real, Integer(5), Category(2), Integer(1)],
            objectives: 1,
        };
        for bounds in [CmaBounds::Resample, CmaBounds::Transform] {
            let latent = Latent::new(&domain, bounds);
            assert_eq!(latent.dimensions(), 7);
            assert_eq!(latent.integers(), [(4, 5), (5, 2)]);
            let genome = [5.0 / 6.0, 0.01, 0.3, 0.75, 0.5];
            let v = latent.latent(&genome, &[0.5; 7], |_, g| g);
            let again = latent.genome(&v, |_, v, k| middle(value(v, k), k));
            assert!(genome.iter().zip(&again).all(|(a, b)| (a - b).abs() < 1e-12), "{again:?}");
        }
    }

    #[test]
    fn stirring_reaches_every_category() {
        let latent = Latent::new(
            &Domain { dimensions: vec![Dimension::Category(4)], objectives: 1 },
            CmaBounds::Resample,
        );
        let mut stream = Stream::new(1, "stir");
        let mut seen = [0; 4];
        for _ in 0..4000 {
            let mut v = vec![9.0, 0.0, 0.0, 0.0];
            latent.stir(&mut v, 0.5, &mut stream);
            seen[largest(&v)] += 1;
        }
        // An eighth each, but for the first; four standard deviations are 84.
        assert!(seen[1..].iter().all(|s| (416..=584).contains(s)), "{seen:?}");
    }
}
