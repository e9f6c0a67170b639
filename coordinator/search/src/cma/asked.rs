//! Genomes that were asked for and not yet told: which distribution drew each, and where in it.
//!
//! Its memory is bounded: beyond [`MOST`] the oldest are forgotten, and their results, should they come, count as found by
//! somebody else.

use common::genome::Genome;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Far more than workers ever hold at once.
const MOST: usize = 4096;

/// What is remembered of a drawn genome.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Drawn {
    pub genome: Genome,
    /// The latent point.
    pub latent: Vec<f64>,
    /// `(x − m) / σ` of the distribution that drew it.
    pub own: Vec<f64>,
    /// Generation of that distribution.
    pub generation: u64,
    /// Restart that it belongs to.
    pub restart: u64,
}

/// Outstanding genomes, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Asked(VecDeque<Drawn>);

impl Asked {
    pub fn note(&mut self, genome: &Genome, latent: Vec<f64>, own: Vec<f64>, generation: u64, restart: u64) {
        if self.0.len() == MOST {
            self.0.pop_front();
        }
        self.0.push_back(Drawn { genome: genome.clone(), latent, own, generation, restart });
    }

    /// Takes out what drew a genome; of equal ones the oldest.
    pub fn take(&mut self, genome: &Genome) -> Option<Drawn> {
        let at = self.0.iter().position(|d| d.genome == *genome)?;
        self.0.remove(at)
    }
}
