//! Random streams named by purpose, each derived from the run's seed.
//!
//! Two streams of different names are independent, so adding a consumer never shifts the numbers of another.
//! A stream can be saved in the middle and goes on exactly where it was: that is what makes a resumed run
//! equal to an uninterrupted one. The generator is written out here, not taken from a crate, because stored
//! runs depend on its every bit: a crate's next version may draw differently.
//!
//! Source: xoshiro256++ 1.0, D. Blackman and S. Vigna, "Scrambled linear pseudorandom number generators",
//! ACM TOMS 47 (2021); normal deviates by G. Marsaglia's polar method.

use serde::{Deserialize, Serialize};

/// A stream of random numbers (xoshiro256++).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stream {
    state: [u64; 4],
    /// The second number of the last pair of normal deviates, as bits so that equality is exact.
    spare: Option<u64>,
}

impl Stream {
    /// The stream called `name` of the run seeded with `seed`.
    pub fn new(seed: u64, name: &str) -> Stream {
        let mut hasher = blake3::Hasher::new_derive_key("jradievo random stream v1");
        hasher.update(&seed.to_le_bytes());
        hasher.update(name.as_bytes());
        let bytes = hasher.finalize();
        let word = |i: usize| {
            let mut w = [0u8; 8];
            w.copy_from_slice(&bytes.as_bytes()[8 * i..8 * i + 8]);
            u64::from_le_bytes(w)
        };
        Stream { state: [word(0), word(1), word(2), word(3)], spare: None }
    }

    /// The next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// Uniform in [0, 1), a multiple of 2⁻⁵³.
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Standard normal deviate.
    pub fn normal(&mut self) -> f64 {
        if let Some(bits) = self.spare.take() {
            return f64::from_bits(bits);
        }
        loop {
            let (u, v) = (2.0 * self.uniform() - 1.0, 2.0 * self.uniform() - 1.0);
            let s = u * u + v * v;
            if s > 0.0 && s < 1.0 {
                let factor = (-2.0 * s.ln() / s).sqrt();
                self.spare = Some((v * factor).to_bits());
                return u * factor;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// First outputs of the reference C code for the state (1, 2, 3, 4).
    #[test]
    fn matches_the_reference_generator() {
        let mut s = Stream { state: [1, 2, 3, 4], spare: None };
        let got: Vec<u64> = (0..4).map(|_| s.next_u64()).collect();
        assert_eq!(got, [41943041, 58720359, 3588806011781223, 3591011842654386]);
    }

    #[test]
    fn goes_on_exactly_after_being_saved() {
        let mut a = Stream::new(7, "search");
        for _ in 0..13 {
            a.normal();
        }
        let mut b: Stream = serde_json::from_str(&serde_json::to_string(&a).unwrap()).unwrap();
        let next = |s: &mut Stream| (0..9).map(|_| s.normal().to_bits()).collect::<Vec<_>>();
        assert_eq!(next(&mut a), next(&mut b));
    }

    #[test]
    fn names_and_seeds_give_different_streams() {
        let first = |seed, name| Stream::new(seed, name).next_u64();
        assert_ne!(first(1, "a"), first(1, "b"));
        assert_ne!(first(1, "a"), first(2, "a"));
    }

    #[test]
    fn normal_has_the_right_moments() {
        let mut s = Stream::new(3, "moments");
        let xs: Vec<f64> = (0..200_000).map(|_| s.normal()).collect();
        let mean = xs.iter().sum::<f64>() / xs.len() as f64;
        let var = xs.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / xs.len() as f64;
        // Four standard errors at this sample size: 4/√200000 and 4·√(2/200000).
        assert!(mean.abs() < 0.009, "{mean}");
        assert!((var - 1.0).abs() < 0.013, "{var}");
    }
}
