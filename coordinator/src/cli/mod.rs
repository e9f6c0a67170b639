//! The program's commands. Each file is one of them, or what several share.
//!
//! | file | what |
//! |---|---|
//! | `plan` | run file → plan, with its dataset read |
//! | `folder` | the files of a state folder beside the store |
//! | `refine` | `start --refine`: an earlier run's distribution over more parameters |
//! | `serve` | `start` and `resume` |
//! | `look` | `status`, `candidates`, `reports`, `recipe`, live or at rest |
//! | `audits` | what second workers made of a share of the candidates |
//! | `operate` | `pause`, `extend`, `replay` |
//! | `backup`, `fsck` | a copy of a run; what is wrong with one |
//! | `reach` | a coordinator by its URL or its folder |
//! | `optimize` | the search alone, over standard input and output |
//! | `importance`, `bars` | which parameters mattered, and the plot of it |
//! | `history` | a run as a whole, for those that look at all of it |
//! | `front`, `rescore`, `finalists` | the commands of these names |
//! | `fork`, `next` | a new run that begins with the results of an earlier one |
//! | `json`, `table` | what they print |
//! | `failure` | why a command failed, with its exit code |
//! | `network` | where and to whom a coordinator listens; certificates to speak to it |
//! | `pki` | `pki` and `token`: a private authority |
//! | `models` | references to hubs, pinned; folders, looked into |
//! | `live` | progress while serving |

mod audits;
mod backup;
mod bars;
mod failure;
mod finalists;
mod folder;
mod fork;
mod front;
mod fsck;
mod history;
mod importance;
mod json;
mod live;
mod look;
mod models;
pub(crate) mod network;
mod next;
mod operate;
mod optimize;
mod pki;
mod plan;
mod reach;
mod refine;
mod rescore;
mod serve;
mod table;
mod texts;

pub use failure::Failure;
pub use live::LogWriter;

use clap::{Args, Parser, Subcommand, ValueEnum};
use network::{Credentials, Listen};
use std::io::Write;
use std::path::PathBuf;

/// Prints a line. A search must outlive whoever reads its output, so a closed pipe is no failure (and no panic).
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// The same on standard error.
fn tell(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Exit codes, as `--help` documents them.
pub mod exit {
    /// Done.
    pub const DONE: u8 = 0;
    /// Something failed.
    pub const FAILURE: u8 = 1;
    /// The command line or the run file is wrong.
    pub const USAGE: u8 = 2;
    /// The state folder cannot be used: in use, empty, or holding a run already.
    pub const FOLDER: u8 = 3;
    /// No coordinator answers, or what was asked for is not there.
    pub const ABSENT: u8 = 4;
    /// The disk is full or failed; what was acknowledged is stored, and the run can be resumed once that is mended.
    pub const DISK: u8 = 5;
    /// Stopped by Ctrl-C or SIGTERM; the run can be resumed.
    pub const STOPPED: u8 = 130;
}

/// Searches for the best merge of language models inside a vision-language model.
#[derive(Debug, Parser)]
#[command(name = "jradievo", version, about, after_help = AFTER_HELP)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
A search in three commands:
  jradievo check run.toml                                      what would fail, before it does
  jradievo start run.toml --state runs/first                   keeps the search; prints the URL for workers
  jradievo-worker run --coordinator http://127.0.0.1:7443      evaluates; start as many as there are devices

Afterwards, or meanwhile:
  jradievo status runs/first
  jradievo recipe runs/first > best.json                       every number of the best merge found
  jradievo-worker merge best.json --out merged                 the model itself

Over a network (docs/RUNBOOK.md):
  jradievo pki init pki --host node1                           an authority and certificates; start with --pki pki
  jradievo token pki > token                                   lets one worker node in: --token-file token

Exit codes: 0 done, 1 failure (also a search of which nothing could be evaluated), 2 wrong command line or run file, 3 state folder not usable (in use, empty, or
holding a run already), 4 no coordinator answers or no such candidate, 5 disk full or failing (the run can be resumed), 130 stopped (the run can be resumed).
Logs go to standard error; RUST_LOG=info shows more of them.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Begins a run and serves it until its budget is used up
    Start(Start),
    /// Goes on with a run that was stopped, killed or extended; lends again where one is being served and paused
    Resume(Resume),
    /// Lends nothing from now on; candidates in work are still recorded (`resume` lends again)
    Pause(Target),
    /// Lets a worker finish what it has and leave, so that its node can be taken away
    Drain(operate::Drain),
    /// Changes what ends a run, also of one that is finished
    Extend(Extend),
    /// Checks that the journal leads from the plan to exactly what is stored
    Replay(Looked),
    /// Copies a run, also one that is being served, consistently; the copy is checked and can be resumed
    Backup(backup::Backup),
    /// Reads every record of a state folder, compares them, and says what is wrong and what to do
    Fsck(fsck::Fsck),
    /// Shows where a run stands
    Status(Looked),
    /// Lists every candidate with its genome, fitness and attempts
    Candidates(Looked),
    /// Shows the reports that a candidate's model wrote, with their scores
    Reports(Reports),
    /// Lists the candidates that a second worker evaluated again (scheduling.audit), both results beside each other
    Audits(Looked),
    /// Prints the recipe of the best candidate, or of any other
    Recipe(Recipe),
    /// Shows which searched parameters mattered, alone and in pairs (functional ANOVA)
    Importance(Importance),
    /// Searches any space for any objective: asks and tells over standard input and output, one JSON object a line
    Optimize(Optimize),
    /// Scores a run's reports anew: another lexicon, other metrics, other weights; no GPU is needed
    Rescore(Rescore),
    /// Begins a new run with the results of an earlier one, under other bounds, fitness weights, search or budgets
    Fork(Fork),
    /// Shows the candidates that no other one beats in every objective
    Front(Front),
    /// Prints the best candidates for a last round on other samples, and records which of them won it
    Finalists(Finalists),
    /// Reads a run file and what it names, and reports everything that is wrong
    Check(Check),
    /// Makes and takes back certificates, for a coordinator that other machines reach
    #[command(subcommand)]
    Pki(pki::Pki),
    /// Prints a join token, with which a new worker node fetches its certificate once
    Token(pki::Token),
}

/// Which files a run pins by digest when it is begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Pin {
    /// Dataset and every model that can be read here; the first worker adds the rest
    All,
    /// The dataset; the first worker adds the models (quicker with large models on a slow disk)
    Dataset,
}

#[derive(Debug, Args)]
struct Start {
    /// The run file
    #[arg(value_name = "RUN.toml")]
    run_file: PathBuf,
    /// Folder to keep the run in: new, or empty
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
    /// Override a key of the run file, such as search.evaluations=40 (repeatable)
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Begin with the mean and covariance of an earlier run whose parameters this one divides further
    #[arg(long, value_name = "DIR")]
    refine: Option<PathBuf>,
    /// Which files to digest before serving
    #[arg(long, value_enum, default_value = "all")]
    pin: Pin,
    #[command(flatten)]
    listen: Listen,
}

#[derive(Debug, Args)]
struct Resume {
    /// The run's state folder
    #[arg(value_name = "DIR")]
    state: PathBuf,
    #[command(flatten)]
    listen: Listen,
}

#[derive(Debug, Args)]
struct Extend {
    /// The run's state folder, whether a coordinator is running on it or not
    #[arg(value_name = "DIR")]
    state: PathBuf,
    /// Candidates to evaluate in all
    #[arg(long, value_name = "N")]
    evaluations: Option<u64>,
    /// Time for which a coordinator runs the search, over all its starts
    #[arg(long, value_name = "H")]
    hours: Option<f64>,
    /// Time that slots work, summed over slots
    #[arg(long, value_name = "H")]
    device_hours: Option<f64>,
    /// A fitness that is good enough
    #[arg(long, value_name = "F", allow_hyphen_values = true)]
    target_fitness: Option<f64>,
    /// Results without a better one after which the run ends
    #[arg(long, value_name = "N")]
    stagnation: Option<u64>,
    #[command(flatten)]
    credentials: Credentials,
}

/// A state folder, or a coordinator that is running.
#[derive(Debug, Args)]
struct Looked {
    #[command(flatten)]
    target: Target,
    /// Print JSON, for scripts
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Target {
    /// The run's state folder, whether a coordinator is running on it or not
    #[arg(value_name = "DIR", required_unless_present = "coordinator", conflicts_with = "coordinator")]
    state: Option<PathBuf>,
    /// A running coordinator, such as http://127.0.0.1:7443
    #[arg(long, value_name = "URL")]
    coordinator: Option<String>,
    #[command(flatten)]
    credentials: Credentials,
}

#[derive(Debug, Args)]
struct Reports {
    #[command(flatten)]
    looked: Looked,
    /// The candidate's number
    #[arg(long, value_name = "N")]
    candidate: u64,
}

#[derive(Debug, Args)]
struct Recipe {
    #[command(flatten)]
    target: Target,
    /// The candidate's number [default: the winner of the recorded finalists, else the best so far]
    #[arg(long, value_name = "N")]
    candidate: Option<u64>,
    /// The winner of this file, which `jradievo-worker finalists` wrote
    #[arg(long, value_name = "FILE", conflicts_with = "candidate")]
    finalists: Option<PathBuf>,
    /// As what: the recipe itself, or a configuration with which mergekit makes the same language model, where there is one
    #[arg(long, value_enum, default_value_t = Format::Recipe)]
    format: Format,
    /// The type that mergekit is to round the result to [default: float32, unrounded]
    #[arg(long, value_enum, value_name = "TYPE")]
    out_dtype: Option<OutType>,
}

/// What a recipe is printed as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A recipe file, for `jradievo-worker merge`
    Recipe,
    /// A configuration for mergekit-yaml
    Mergekit,
}

/// Types that models are stored in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OutType {
    /// IEEE 754 binary32
    Float32,
    /// IEEE 754 binary16
    Float16,
    /// The upper half of a binary32
    Bfloat16,
}

#[derive(Debug, Args)]
struct Importance {
    #[command(flatten)]
    looked: Looked,
    /// Write a bar chart
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// Of a metric in place of the fitness
    #[arg(long, value_name = "NAME")]
    metric: Option<String>,
}

#[derive(Debug, Args)]
struct Optimize {
    /// The space, its objectives and how it is searched, in TOML or JSON; may be left out where the state file is there
    #[arg(value_name = "SPACE.toml")]
    space: Option<PathBuf>,
    /// File that the search is kept in: read if it is there, written before every answer that changes it
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Larger is better (the default)
    #[arg(long, conflicts_with = "minimize")]
    maximize: bool,
    /// Smaller is better
    #[arg(long)]
    minimize: bool,
    /// Override a key of the space's file, such as search.algorithm=tpe (repeatable)
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
}

#[derive(Debug, Args)]
struct Fork {
    /// The earlier run's state folder; no coordinator may be running on it
    #[arg(value_name = "OLD")]
    from: PathBuf,
    /// The run file as it is to be now
    #[arg(value_name = "RUN.toml")]
    run_file: PathBuf,
    /// Folder to keep the new run in: new, or empty; `jradievo resume` goes on with it
    #[arg(long, value_name = "NEW")]
    state: PathBuf,
    /// Override a key of the run file (repeatable)
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
}

#[derive(Debug, Args)]
struct Rescore {
    #[command(flatten)]
    target: Target,
    /// Folder of reports that a worker kept on its node, for a run with reports = "local" (repeatable)
    #[arg(long, value_name = "DIR")]
    reports: Vec<PathBuf>,
    /// Take `[scoring]`, `[fitness]` and `[objectives]` from this run file; the rest of it is not looked at [default: the run's own]
    #[arg(long, value_name = "RUN.toml")]
    run: Option<PathBuf>,
    /// Override a key of these sections, such as fitness.term_f1=1 or scoring.lexicon=new.toml (repeatable)
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Write the new scores of every report to this file, as JSON lines
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Begin a new run here with all of these results under their new scores; `jradievo resume` goes on with it
    #[arg(long, value_name = "NEW", conflicts_with = "coordinator")]
    begin: Option<PathBuf>,
    /// Evaluations in all that the new run may make [default: as many as the run's]
    #[arg(long, value_name = "N", requires = "begin", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    evaluations: Option<u64>,
    /// Candidates that the table shows, best first
    #[arg(long, value_name = "N", default_value_t = 20)]
    top: usize,
    /// Run commands that a coordinator elsewhere names as metrics
    #[arg(long)]
    allow_external: bool,
    /// Print JSON, one line a candidate
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Front {
    #[command(flatten)]
    target: Target,
    /// Objectives in place of the run's own: metrics, tokens, length or fitness, by commas
    #[arg(long, value_name = "METRICS", value_delimiter = ',')]
    maximise: Vec<String>,
    /// The same, as costs
    #[arg(long, value_name = "METRICS", value_delimiter = ',')]
    minimise: Vec<String>,
    /// Draw it into this SVG file
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Print JSON, one line a candidate
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Finalists {
    #[command(flatten)]
    target: Target,
    /// How many [default: finalists.count of the run file, else 5]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100))]
    count: Option<u64>,
    /// Record what `jradievo-worker finalists` found, so that `recipe` and `status` go by it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["count", "coordinator"])]
    record: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Check {
    /// The run file
    #[arg(value_name = "RUN.toml")]
    run_file: PathBuf,
    /// Override a key of the run file, such as search.evaluations=40 (repeatable)
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Print the plan as JSON
    #[arg(long)]
    json: bool,
}

/// Runs a command. Yields the process's exit code.
pub async fn run(cli: Cli) -> Result<u8, Failure> {
    match cli.command {
        Command::Start(args) => serve::start(args).await,
        Command::Resume(args) => serve::resume(args).await,
        Command::Pause(target) => operate::pause(target, true).await,
        Command::Drain(args) => operate::drain(args).await,
        Command::Extend(args) => operate::extend(args).await,
        Command::Replay(args) => operate::replay(args).await,
        Command::Backup(args) => backup::backup(args).await,
        Command::Fsck(args) => fsck::fsck(&args),
        Command::Status(args) => look::status(args).await,
        Command::Candidates(args) => look::candidates(args).await,
        Command::Reports(args) => look::reports(args).await,
        Command::Recipe(args) => look::recipe(args).await,
        Command::Importance(args) => importance::importance(args).await,
        Command::Optimize(args) => optimize::optimize(&args),
        Command::Rescore(args) => rescore::rescore(args).await,
        Command::Fork(args) => fork::fork(args).await,
        Command::Audits(args) => audits::audits(args).await,
        Command::Front(args) => front::front(args).await,
        Command::Finalists(args) => finalists::finalists(args).await,
        Command::Check(args) => plan::check(args),
        Command::Pki(command) => pki::pki(command),
        Command::Token(args) => pki::token(&args),
    }
}

#[cfg(test)]
mod tests;
