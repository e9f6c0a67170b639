//! Sobol's sequence, scrambled: points that fill the cube more evenly than chance does. Learns nothing.
//!
//! Direction numbers: S. Joe and F. Y. Kuo, "Constructing Sobol sequences with better two-dimensional projections",
//! SIAM J. Sci. Comput. 30 (2008), their table `new-joe-kuo-6`, of which `sobol_directions.txt` holds the first
//! [`TABLE`] dimensions. Points come in the order of the Gray code (I. A. Antonov and V. M. Saleev 1979), as from
//! scipy's `Sobol`; `tests/data/sobol_reference.json` holds its first points without scrambling.
//!
//! Scrambling: nested uniform (A. B. Owen 1995), by the hash of B. Burley, "Practical Hash-based Owen Scrambling",
//! JCGT 9 (2020), section 3: every prefix of a coordinate's bits decides whether the next bit is turned over. It keeps
//! the sequence's evenness, and the origin is a point like any other. Coordinates beyond the table are plain random.

use super::{Domain, Search, Snapshot, Told};
use common::genome::Genome;
use common::seed::Stream;
use serde::{Deserialize, Serialize};

/// Dimensions that have direction numbers.
pub const TABLE: usize = 512;
const BITS: usize = 32;

/// Polynomial and initial numbers, one dimension a line: `a m1 m2 …`, from the second dimension on.
const DIRECTIONS: &str = include_str!("sobol_directions.txt");

/// A scrambled Sobol sequence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sobol {
    domain: Domain,
    population: usize,
    /// Number of the next point.
    next: u64,
    /// One per coordinate of the table.
    seeds: Vec<u32>,
    /// For coordinates beyond the table.
    stream: Stream,
    /// Follows from the table; made when first needed.
    #[serde(skip)]
    directions: Vec<[u32; BITS]>,
}

impl Sobol {
    /// A sequence over a domain. The population only groups candidates.
    pub fn new(domain: &Domain, population: usize, mut stream: Stream) -> Sobol {
        let within = domain.dimensions.len().min(TABLE);
        let seeds = (0..within).map(|_| (stream.next_u64() >> 32) as u32).collect();
        let domain = domain.clone();
        Sobol { domain, population: population.max(1), next: 0, seeds, stream, directions: Vec::new() }
    }
}

impl Search for Sobol {
    fn population(&self) -> usize {
        self.population
    }

    fn ask(&mut self) -> Genome {
        if self.directions.is_empty() {
            self.directions = directions(self.seeds.len());
        }
        let scrambled = |(v, seed): (&[u32; BITS], &u32)| {
            let x = scramble(point(v, self.next), *seed);
            // The middle of the 2⁻³² that the digits leave open, so that neither bound is met.
            (f64::from(x) + 0.5) / 4_294_967_296.0
        };
        let mut x: Vec<f64> = self.directions.iter().zip(&self.seeds).map(scrambled).collect();
        x.resize_with(self.domain.dimensions.len(), || self.stream.uniform());
        self.next += 1;
        self.domain.genome(&x)
    }

    fn tell(&mut self, _: &[Told]) {}

    fn stop(&self) -> Option<String> {
        None
    }

    fn step_size(&self) -> Option<f64> {
        None
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot::Sobol(Sobol { directions: Vec::new(), ..self.clone() })
    }
}

/// Digits of point number `i` in one dimension, before scrambling.
fn point(directions: &[u32; BITS], i: u64) -> u32 {
    // The sequence has 2³² points and begins again after them.
    let gray = (i ^ (i >> 1)) as u32;
    let of = |(k, v): (usize, &u32)| if gray >> k & 1 == 1 { *v } else { 0 };
    directions.iter().enumerate().map(of).fold(0, |a, v| a ^ v)
}

/// Direction numbers of the first dimensions (Joe and Kuo, eq. 2 to 3).
fn directions(dimensions: usize) -> Vec<[u32; BITS]> {
    let first = std::array::from_fn(|k| 1 << (BITS - 1 - k));
    let further = DIRECTIONS.lines().map(|line| {
        let numbers: Vec<u32> =
            line.split(' ').map(|n| n.parse().expect("the table holds numbers")).collect();
        let (a, m) = (numbers[0], &numbers[1..]);
        let s = m.len();
        let mut v = [0u32; BITS];
        for k in 0..BITS {
            v[k] = match m.get(k) {
                Some(m) => m << (BITS - 1 - k),
                None => {
                    let turned = |j: &usize| a >> (s - 1 - j) & 1 == 1;
                    (1..s).filter(turned).fold(v[k - s] ^ (v[k - s] >> s), |x, j| x ^ v[k - j])
                }
            };
        }
        v
    });
    std::iter::once(first).chain(further).take(dimensions).collect()
}

/// Owen's scrambling by hash (Burley, listing 1; the hash is that of Laine and Karras).
fn scramble(x: u32, seed: u32) -> u32 {
    let mut x = x.reverse_bits().wrapping_add(seed);
    for c in [0x6c50_b47c_u32, 0xb82f_1e52, 0xc7af_e638, 0x8d22_f6e6] {
        x ^= x.wrapping_mul(c);
    }
    x.reverse_bits()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Reference {
        dimensions: usize,
        /// Row by row, times 2³².
        points: Vec<u32>,
    }

    /// Exact: both are integers.
    #[test]
    fn the_sequence_is_scipys() {
        let text = include_str!("../tests/data/sobol_reference.json");
        let reference: Reference = serde_json::from_str(text).unwrap();
        let n = reference.dimensions;
        let directions = directions(n);
        assert_eq!(directions.len(), n);
        for (i, row) in reference.points.chunks(n).enumerate() {
            let ours: Vec<u32> = directions.iter().map(|v| point(v, i as u64)).collect();
            assert_eq!(ours, row, "point {i}");
        }
    }

    /// A scrambled net is a net: each of 2^m equal intervals holds one of the first 2^m points, in every coordinate.
    #[test]
    fn scrambling_keeps_the_strata() {
        let mut search = Sobol::new(&Domain::real(TABLE + 3), 8, Stream::new(9, "search"));
        let points: Vec<Genome> = (0..256).map(|_| search.ask()).collect();
        for d in 0..TABLE {
            let mut seen: Vec<usize> = points.iter().map(|p| (p.coordinates()[d] * 256.0) as usize).collect();
            seen.sort_unstable();
            assert_eq!(seen, (0..256).collect::<Vec<_>>(), "coordinate {d}");
        }
        // Other seeds are other points.
        let mut other = Sobol::new(&Domain::real(2), 8, Stream::new(10, "search"));
        assert_ne!(other.ask().coordinates(), &points[0].coordinates()[..2]);
    }
}
