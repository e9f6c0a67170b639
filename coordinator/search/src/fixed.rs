//! The search of a space without parameters: one genome, once.

use super::{Search, Snapshot, Told};
use common::genome::Genome;
use serde::{Deserialize, Serialize};

/// Asks for the only genome there is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Fixed {
    told: bool,
}

impl Search for Fixed {
    fn population(&self) -> usize {
        1
    }

    fn ask(&mut self) -> Genome {
        Genome::new(Vec::new()).expect("no coordinate is outside the cube")
    }

    fn tell(&mut self, _: &[Told]) {
        self.told = true;
    }

    fn stop(&self) -> Option<String> {
        self.told.then(|| "every parameter is fixed: there is one merge, and it was evaluated".into())
    }

    fn step_size(&self) -> Option<f64> {
        None
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot::Fixed(self.clone())
    }
}
