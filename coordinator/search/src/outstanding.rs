//! Genomes that were asked for and not told of yet, with what the search wants to remember of each.

use common::genome::Genome;
use serde::{Deserialize, Serialize};

/// More than any fleet has slots. Beyond it the oldest are given up: whoever asked for them will hardly return.
const MOST: usize = 4096;

/// What is being evaluated, oldest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Outstanding<T> {
    entries: Vec<(Genome, T)>,
}

impl<T> Default for Outstanding<T> {
    fn default() -> Outstanding<T> {
        Outstanding { entries: Vec::new() }
    }
}

impl<T> Outstanding<T> {
    pub fn add(&mut self, genome: &Genome, note: T) {
        if self.entries.len() == MOST {
            self.entries.remove(0);
        }
        self.entries.push((genome.clone(), note));
    }

    /// Takes out the oldest entry of this genome. `None` for a genome that was not asked for.
    pub fn take(&mut self, genome: &Genome) -> Option<T> {
        let at = self.entries.iter().position(|(g, _)| g == genome)?;
        Some(self.entries.remove(at).1)
    }

    pub fn iter(&self) -> impl Iterator<Item = &(Genome, T)> {
        self.entries.iter()
    }

    pub fn has(&self, genome: &Genome) -> bool {
        self.entries.iter().any(|(g, _)| g == genome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_genomes_are_told_one_by_one_and_the_list_is_bounded() {
        let genome = |x| Genome::new(vec![x]).unwrap();
        let mut o = Outstanding::default();
        o.add(&genome(0.5), 1);
        o.add(&genome(0.5), 2);
        assert_eq!(
            (o.take(&genome(0.5)), o.take(&genome(0.5)), o.take(&genome(0.5))),
            (Some(1), Some(2), None)
        );
        for i in 0..MOST + 1 {
            o.add(&genome(i as f64 / MOST as f64), 0);
        }
        assert_eq!(o.iter().count(), MOST);
        assert!(!o.has(&genome(0.0)) && o.has(&genome(1.0)));
    }
}
