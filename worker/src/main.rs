//! `jradievo-worker`: arguments, logging, exit code.

use clap::Parser;
use std::io::IsTerminal;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;
use worker::cli::{Cli, Command};
use worker::commands::{self, FAILED};

fn main() -> ExitCode {
    let cli = Cli::parse();
    // Logs go to stderr and hold no report text; RUST_LOG sets what is told.
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    if let Some(threads) = cli.threads
        && let Err(e) = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()
    {
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
