//! `jradievo-worker`: arguments, logging, exit code.

use clap::Parser;
use std::io::IsTerminal;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;
use worker::cli::{Cli, Command};
use worker::commands::{self, FAILED};

/// Weights are gigabytes that are written as soon as they are there.
#[global_allocator]
static ALLOCATOR: worker::allocator::HugePages = worker::allocator::HugePages;

/// Read by rayon, and by candle.
const THREADS_VARIABLE: &str = "RAYON_NUM_THREADS";

#[expect(unsafe_code, reason = "one environment variable, before any thread runs")]
fn main() -> ExitCode {
    common::panics::install();
    let cli = Cli::parse();
    // Logs go to stderr and hold no report text; RUST_LOG sets what is told.
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    let threads = cli.threads.filter(|n| *n > 0).unwrap_or_else(default_threads);
    // For every product candle asks this variable how many threads there are. Without it, it reads /proc/cpuinfo each time and
    // goes by the machine's cores, whatever the pool has. Commands that are run for metrics inherit it, as they should.
    // SAFETY: no other thread runs yet that could read the environment meanwhile.
    unsafe { std::env::set_var(THREADS_VARIABLE, threads.to_string()) };
    if let Err(e) = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global() {
        eprintln!("error: --threads {threads}: {e}");
        return ExitCode::from(FAILED);
    }
    match execute(cli.command) {
        Ok(code) => ExitCode::from(code),
        Err(e) => {
            eprintln!("error: {e:#}");
            ExitCode::from(FAILED)
        }
    }
}

/// What rayon takes: the variable where it is set, else a thread for each core that this process may use.
fn default_threads() -> usize {
    let set = std::env::var(THREADS_VARIABLE).ok().and_then(|n| n.parse().ok()).filter(|n| *n > 0);
    set.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
}

fn execute(command: Command) -> anyhow::Result<u8> {
    match command {
        Command::Run(args) => tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?
            .block_on(commands::run::run(args)),
        Command::Merge(args) => commands::merge::run(&args),
        Command::Generate(args) => commands::generate::run(&args),
        Command::Evaluate(args) => commands::evaluate::run(&args),
        Command::Compare(args) => commands::compare::run(&args),
        Command::Finalists(args) => commands::finalists::run(&args),
        Command::Score(args) => commands::score::run(&args),
        Command::Fetch(args) => commands::fetch::run(&args),
        Command::Doctor(args) => commands::doctor::run(&args),
        Command::Rehearse(args) => commands::rehearse::run(&args),
    }
}
