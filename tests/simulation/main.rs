//! Whole runs in a simulated network with simulated time: the coordinator's service, driver and state, the worker's link,
//! real gRPC between them, and faults drawn from a seed. One thread, no real clock: a seed that fails fails again.
//!
//! A few hundred seeds by default; `SIMULATION_SEEDS=1000..3000` runs others, `SIMULATION_SEEDS=17` one, with its log
//! (`RUST_LOG=info`).

mod disk;
mod faults;
mod node;
mod plan;
mod trial;

use std::ops::Range;
use trial::{Outcome, trial};

/// What runs where nobody asks for more.
const SEEDS: Range<u64> = 0..200;

/// Logs of everything, where asked for.
fn log() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    // Whoever comes second finds it done.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).without_time().try_init();
}

fn seeds() -> Range<u64> {
    let Ok(asked) = std::env::var("SIMULATION_SEEDS") else { return SEEDS };
    let number = |text: &str| {
        text.parse().unwrap_or_else(|_| panic!("SIMULATION_SEEDS={asked}: a range such as 0..500"))
    };
    match asked.split_once("..") {
        Some((from, to)) => number(from)..number(to),
        None => number(&asked)..number(&asked) + 1,
    }
}

/// Through drops, delays, partitions, half-open connections, restarts of anything, jumps of the wall clock and commits that
/// fail before or after they are written: every candidate is counted once, no score ever changes, nothing recorded is lost,
/// attempts are bounded, the journal replays; and a generational run ends with the genomes of one undisturbed worker.
#[test]
fn no_fault_changes_what_is_found() {
    log();
    let mut sum = Outcome::default();
    for seed in seeds() {
        sum.add(&trial(seed));
    }
    println!("{sum}");
    if seeds() == SEEDS {
        // That faults happened, or nothing was shown.
        assert!(sum.restarts > 100 && sum.partitions > 100 && sum.failed_commits > 50, "{sum}");
    }
}

/// The same seed does the same, down to every record and its order: a failure can be looked at again.
#[test]
#[cfg_attr(
    not(tokio_unstable),
    ignore = "tokio can only be seeded with --cfg tokio_unstable, as .cargo/config.toml has it"
)]
fn a_seed_replays_exactly() {
    log();
    for seed in [3, 8, 21] {
        assert_eq!(trial(seed).trace, trial(seed).trace, "seed {seed}");
    }
    assert_ne!(trial(3).trace, trial(4).trace);
}
