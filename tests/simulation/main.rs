//! Whole runs in a simulated network with simulated time: the coordinator's service, driver and state, the worker's link,
//! real gRPC between them, and faults drawn from a seed. One thread, no real clock: a seed that fails fails again.
//!
//! A few hundred seeds by default, each in a process of its own; `SIMULATION_SEEDS=1000..3000` runs others. A seed that failed is
//! looked at with `SIMULATION_SEED=17 RUST_LOG=info cargo test --workspace --test simulation one_seed -- --nocapture`.

#![forbid(unsafe_code)]

mod disk;
mod faults;
mod node;
mod plan;
mod trial;

use coordinator::state::candidate::How;
use std::ops::Range;
use std::process::Command;
use trial::{Outcome, hanging, trial};
use worker::link::LinkError;

/// What runs where nobody asks for more.
const SEEDS: Range<u64> = 0..200;
/// Asks a process of its own for one seed.
const SEED: &str = "SIMULATION_SEED";

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

/// One seed in a process of its own: numbers that tokio counts for the whole process decide in which order it drops what a
/// killed machine had, so that elsewhere the same seed would go another way.
fn alone(seed: u64) -> Outcome {
    let this = std::env::current_exe().expect("a program has a path");
    let output = Command::new(this)
        .args(["one_seed", "--exact", "--nocapture", "--test-threads=1"])
        .env(SEED, seed.to_string())
        .output()
        .expect("it starts again");
    let text = String::from_utf8_lossy(&output.stdout);
    let outcome = text.lines().find_map(|line| serde_json::from_str(line.strip_prefix("outcome: ")?).ok());
    outcome.filter(|_| output.status.success()).unwrap_or_else(|| {
        let said = String::from_utf8_lossy(&output.stderr);
        panic!("seed {seed}; again: {SEED}={seed} cargo test --workspace --test simulation one_seed -- --nocapture\n{said}")
    })
}

/// The seed that is asked for, with its log where `RUST_LOG` asks for one.
#[test]
fn one_seed() {
    let Some(seed) = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok()) else { return };
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    tracing_subscriber::fmt().with_env_filter(filter).without_time().with_writer(std::io::stderr).init();
    println!("\noutcome: {}", serde_json::to_string(&trial(seed)).expect("plain numbers"));
}

/// Through drops, delays, partitions, half-open connections, restarts of anything, jumps of the wall clock and commits that
/// fail before or after they are written: every candidate is counted once, no score ever changes, nothing recorded is lost,
/// attempts are bounded, the journal replays; and a generational run ends with the genomes of one undisturbed worker.
#[test]
fn no_fault_changes_what_is_found() {
    let mut sum = Outcome::default();
    for seed in seeds() {
        sum.add(&alone(seed));
    }
    println!("{sum}");
    if seeds() == SEEDS {
        // That faults happened, or nothing was shown.
        assert!(
            sum.restarts > 1000 && sum.partitions > 1000 && sum.failed_commits > 500 && sum.audited > 100,
            "{sum}"
        );
    }
}

/// The same seed does the same, down to every record and its order: a failure can be looked at again.
#[test]
#[cfg_attr(
    not(tokio_unstable),
    ignore = "tokio can only be seeded with --cfg tokio_unstable, as .cargo/config.toml has it"
)]
fn a_seed_replays_exactly() {
    for seed in 0..8 {
        assert_eq!(alone(seed).trace, alone(seed).trace, "seed {seed}");
    }
    assert_ne!(alone(3).trace, alone(4).trace);
}

/// A slot that hangs in a device is cancelled in vain. Once all do, the worker ends and says so, for whoever watches over it to
/// start it again; what it was lent is waiting for others.
#[test]
fn a_worker_all_of_whose_slots_hang_ends() {
    let (ended, candidates) = hanging();
    assert!(matches!(ended, Err(LinkError::Stuck { .. })), "{ended:?}");
    let ends: Vec<_> = candidates.iter().flat_map(|c| c.attempts()).map(|a| a.end.clone()).collect();
    assert_eq!(ends.len(), 2, "{ends:?}");
    assert!(ends.iter().all(|end| end.as_ref().is_some_and(|e| e.how == How::Expired)), "{ends:?}");
}
