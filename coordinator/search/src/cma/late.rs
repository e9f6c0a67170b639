//! Results that wait for a step, and what they count for when the distribution has moved on since they were drawn.

use super::asked::Drawn;
use super::distribution::{Distribution, Point, length};
use super::shape::Roots;
use crate::{Outcome, Told};
use common::genome::Genome;
use serde::{Deserialize, Serialize};

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
                let mode = std::env::var("LATE").unwrap_or("a".into());
                let c = clipped(y.clone(), roots);
                match mode.as_str() {
                    "a" => Point { own: c.clone(), y: c },          // as injected
                    "n" => Point { own: y.clone(), y },             // naive
                    "b" => Point { own: own.clone(), y: own.clone() }, // stale gradient
                    "m" => Point { own: own.clone(), y },           // mean absolute, rest own
                    "c" => Point { own: own.clone(), y: c },
                    "h" => {
                        let mix: Vec<f64> = own.iter().zip(&y).map(|(a, b)| 0.5 * (a + b)).collect();
                        Point { own: mix, y }
                    }
                    _ => panic!(),
                }
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
