//! Starting points: genomes that are evaluated before the search asks for its own.
//!
//! Any search can be wrapped. Its results reach it as those of genomes that it did not ask for, which every search
//! learns from. More genomes can be put in at any time: they come next.

use super::{Search, Snapshot, Told};
use common::genome::Genome;
use std::collections::VecDeque;

/// A search with a queue in front of it.
#[derive(Debug)]
pub struct Starting {
    queue: VecDeque<Genome>,
    search: Box<dyn Search>,
}

impl Starting {
    /// Hands out `queue` in order, then what `search` asks for.
    pub fn new(queue: impl IntoIterator<Item = Genome>, search: Box<dyn Search>) -> Starting {
        Starting { queue: queue.into_iter().collect(), search }
    }

    /// Puts a genome at the end of the queue.
    pub fn push(&mut self, genome: Genome) {
        self.queue.push_back(genome);
    }

    /// Genomes that wait in the queue.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }
}

impl Search for Starting {
    fn population(&self) -> usize {
        self.search.population()
    }

    fn ask(&mut self) -> Genome {
        self.queue.pop_front().unwrap_or_else(|| self.search.ask())
    }

    fn tell(&mut self, results: &[Told]) {
        self.search.tell(results);
    }

    /// Not before the queue is empty: somebody wants to know about those genomes.
    fn stop(&self) -> Option<String> {
        if self.queue.is_empty() { self.search.stop() } else { None }
    }

    fn step_size(&self) -> Option<f64> {
        self.search.step_size()
    }

    fn remarks(&self) -> Vec<String> {
        self.search.remarks()
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot::Starting { queue: self.queue.clone(), search: Box::new(self.search.snapshot()) }
    }
}
