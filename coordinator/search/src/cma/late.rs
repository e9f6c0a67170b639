//! Results that wait for a step, and what they count for when the distribution has moved on since they were drawn.
//!
//! None is discarded. The mean goes to the weighted mean of the points themselves, wherever they were drawn, since a good
//! point is good whoever found it; only its step is shortened to what the present distribution would draw, as of any
//! injected solution. Paths and covariance must tell progress from the lag of the points behind the mean: measured from
//! the present mean alone, late points look like a step back, which shrinks sigma too soon; measured from the mean that
//! drew them alone, old steps are taken twice, and the search overshoots. So they see a mixture of both, [`OWN`].
//!
//! Measured with `examples/asynchrony.rs` (10 dimensions, λ = 10, 500 evaluations, 61 repetitions; geometric mean over
//! its five objectives and two spreads of the median f at the mean), 2026-11-25:
//!
//! | workers | present mean alone | 30 % own | 50 % own | own mean alone | step of the mean from its own too |
//! |---|---|---|---|---|---|
//! | 8 | 0.59 | 0.61 | 0.78 | 1.72 | 2.23 |
//! | 16 | 1.11 | 0.93 | 1.24 | 3.70 | 9.56 |
//! | 32 | 3.04 | 2.58 | 2.99 | 8.17 | 1.5e6 |
//! | 64 | 9.00 | 7.16 | 7.61 | 18.8 | 2.9e8 |
//!
//! (The last three columns without the shortening and with 31 or 41 repetitions.)

use super::asked::Drawn;
use super::distribution::{Distribution, Point, length};
use super::shape::Roots;
use crate::{Outcome, Told};
use common::genome::Genome;
use serde::{Deserialize, Serialize};

/// Share of a late point's own distribution in what paths and covariance learn of it.
const OWN: f64 = 0.3;

/// A result that no step has been made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Waiting {
    genome: Genome,
    latent: Vec<f64>,
    outcome: Outcome,
    /// `(x − m) / σ` where it was drawn, and that distribution's generation. None for what the search did not ask for.
    drawn: Option<(Vec<f64>, u64)>,
}

impl Waiting {
    pub fn asked(drawn: Drawn, outcome: Outcome) -> Waiting {
        let Drawn { genome, latent, own, generation, .. } = drawn;
        Waiting { genome, latent, outcome, drawn: Some((own, generation)) }
    }

    pub fn injected(genome: Genome, latent: Vec<f64>, outcome: Outcome) -> Waiting {
        Waiting { genome, latent, outcome, drawn: None }
    }

    pub fn told(&self) -> Told {
        Told { genome: self.genome.clone(), outcome: self.outcome.clone() }
    }

    /// Its part in a step of the present distribution.
    pub fn point(&self, now: &Distribution, roots: &Roots) -> Point {
        let y = now.scaled(&self.latent);
        match &self.drawn {
            Some((_, generation)) if *generation == now.generation => Point { own: y.clone(), y },
            Some((own, _)) => {
                let y = clipped(y, roots);
                let part = |(own, y): (&f64, &f64)| OWN * own + (1.0 - OWN) * y;
                Point { own: own.iter().zip(&y).map(part).collect(), y }
            }
            None => {
                let y = clipped(y, roots);
                Point { own: y.clone(), y }
            }
        }
    }
}

/// Shortens a step that the distribution would hardly draw.
///
/// Source: N. Hansen, "Injecting External Solutions Into CMA-ES", arXiv 1110.4181, equation 4 and table 1 (c_y).
fn clipped(y: Vec<f64>, roots: &Roots) -> Vec<f64> {
    let n = y.len() as f64;
    let longest = n.sqrt() + 2.0 * n / (n + 2.0);
    let now = length(&roots.whiten(&y));
    if now <= longest { y } else { y.into_iter().map(|v| v * longest / now).collect() }
}
