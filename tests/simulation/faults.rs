//! What goes wrong, drawn from a seed.

use crate::disk::{Disk, Failing};
use crate::node::{COORDINATOR, WallClock};
use common::seed::Stream;
use std::time::Duration;
use turmoil::Sim;

/// Faults that happened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Count {
    /// Machines that were killed and started again.
    pub restarts: u32,
    /// Links that were cut for a while, or on which everything waited.
    pub partitions: u32,
    /// Times that the wall clock was set.
    pub jumps: u32,
}

/// A link that is cut or held, and until when.
struct Broken {
    worker: String,
    until: Duration,
}

/// Breaks things in a running simulation, and mends them.
pub struct Faults {
    stream: Stream,
    workers: usize,
    broken: Vec<Broken>,
    /// Killed, and when they come back.
    down: Vec<Broken>,
    /// What happened so far.
    pub count: Count,
}

impl Faults {
    /// For so many workers.
    pub fn new(seed: u64, workers: usize) -> Faults {
        let stream = Stream::new(seed, "faults");
        Faults { stream, workers, broken: Vec::new(), down: Vec::new(), count: Count::default() }
    }

    fn below(&mut self, n: usize) -> usize {
        (self.stream.uniform() * n as f64) as usize
    }

    fn worker(&mut self) -> String {
        name(self.below(self.workers))
    }

    fn time(&mut self, longest_ms: f64) -> Duration {
        Duration::from_millis((longest_ms * self.stream.uniform().powi(2)) as u64)
    }

    /// Perhaps breaks something.
    pub fn strike(&mut self, sim: &mut Sim<'_>, disk: &Disk, clock: &WallClock) {
        self.mend(sim, sim.elapsed());
        if self.stream.uniform() > 0.12 {
            return;
        }
        let now = sim.elapsed();
        match self.below(8) {
            0 | 1 => {
                let host = self.worker();
                self.kill(sim, host, now);
            }
            2 => self.kill(sim, COORDINATOR.into(), now),
            3 | 4 => {
                let (worker, until) = (self.worker(), now + self.time(12_000.0));
                sim.partition(worker.as_str(), COORDINATOR);
                self.count.partitions += 1;
                self.broken.push(Broken { worker, until });
            }
            5 => {
                // Nothing is lost, and nothing arrives: a half-open connection, then all at once.
                let (worker, until) = (self.worker(), now + self.time(8_000.0));
                sim.hold(worker.as_str(), COORDINATOR);
                self.count.partitions += 1;
                self.broken.push(Broken { worker, until });
            }
            6 => disk.fail(if self.below(2) == 0 { Failing::Before } else { Failing::After }),
            _ => {
                // Up to a day, either way; it shows with the next start.
                clock.set(((self.stream.uniform() - 0.5) * 2.0 * 86_400_000.0) as i64);
                self.count.jumps += 1;
            }
        }
    }

    fn kill(&mut self, sim: &mut Sim<'_>, host: String, now: Duration) {
        if self.down.iter().any(|d| d.worker == host) {
            return;
        }
        sim.crash(host.as_str());
        self.count.restarts += 1;
        let until = now + self.time(15_000.0);
        self.down.push(Broken { worker: host, until });
    }

    /// Mends whatever is due by then.
    pub fn mend(&mut self, sim: &mut Sim<'_>, by: Duration) {
        self.broken.retain(|b| {
            if b.until <= by {
                sim.release(b.worker.as_str(), COORDINATOR);
                sim.repair(b.worker.as_str(), COORDINATOR);
            }
            b.until > by
        });
        self.down.retain(|d| {
            if d.until <= by {
                sim.bounce(d.worker.as_str());
            }
            d.until > by
        });
    }
}

/// Name of a worker's machine.
pub fn name(number: usize) -> String {
    format!("worker-{number}")
}
