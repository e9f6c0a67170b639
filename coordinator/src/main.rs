//! `jradievo`: arguments, logs and exit code; everything else is in the library.

#![forbid(unsafe_code)]

use anyhow::Context;
use clap::Parser;
use coordinator::cli::{self, Cli, LogWriter, exit};
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    common::panics::install();
    let cli = Cli::parse();
    // What people need to know is printed as progress; logs add errors unless more is wished for, and who was turned away.
    let usual = "error,secure=warn,coordinator::guard=warn";
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(usual));
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(|| LogWriter).init();
    match begin(cli) {
        Ok(code) => ExitCode::from(code),
        Err(e) => {
            eprintln!("jradievo: {e:#}");
            let code = e.downcast_ref::<cli::Failure>().map_or(exit::FAILURE, cli::Failure::code);
            ExitCode::from(code)
        }
    }
}

fn begin(cli: Cli) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    Ok(runtime.block_on(cli::run(cli))?)
}
