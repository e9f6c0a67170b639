//! A coordinator as another process: the product's own program, or this one with a store that dies as told.

use super::model::{Killer, Model};
use common::evaluation::Evaluation;
use common::id::CandidateId;
use common::run::RunPlan;
use coordinator::driver::Unwatched;
use coordinator::state::candidate::Candidate;
use coordinator::state::journal::Entry;
use coordinator::state::{Audited, Durable, Record};
use coordinator::store::sled::Sled;
use coordinator::store::{Error, Store, copy::Copy};
use coordinator::{Settings, restore};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tonic::transport::server::TcpIncoming;

const FOLDER: &str = "CRASH_FOLDER";
const POINT: &str = "CRASH_POINT";
const LISTENING: &str = "listening on ";

/// Where a coordinator dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// Everything is decided, nothing written.
    BeforeCommit,
    /// Everything is written, nobody was told.
    BetweenCommitAndAnswer,
}

/// A coordinator.
pub struct Child {
    process: Arc<Mutex<std::process::Child>>,
}

impl Child {
    /// The product's own.
    pub fn product(folder: &Path) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_jradievo"));
        command.arg("resume").arg(folder).args(["--listen", "127.0.0.1:0"]);
        Child::spawn(command)
    }

    /// The product's own, where no file may become larger than this: what a full disk is to it.
    pub fn confined(folder: &Path, bytes: u64) -> Child {
        let mut command = Command::new("bash");
        // Without the trap the signal would end it before the write could fail.
        let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$@\"", bytes.div_ceil(1024));
        command.args(["-c", &script, "bash", env!("CARGO_BIN_EXE_jradievo"), "resume"]).arg(folder);
        command.args(["--listen", "127.0.0.1:0"]);
        Child::spawn(command)
    }

    /// One that dies at this point of its so-manieth commit.
    pub fn dying(folder: &Path, point: Point, commit: u64) -> Child {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "coordinator_that_dies", "--nocapture"]);
        command.env(FOLDER, folder).env(POINT, format!("{point:?} {commit}"));
        Child::spawn(command)
    }

    fn spawn(mut command: Command) -> Child {
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Child { process: Arc::new(Mutex::new(command.spawn().unwrap())) }
    }

    /// Tells the workers where it listens, and lets it work until it ends. True when it was killed, or died as told.
    pub async fn serve_until_dead(&mut self, model: &Model, killer: &Killer) -> bool {
        let (status, told) = self.serve(model, killer).await;
        let signal = std::os::unix::process::ExitStatusExt::signal(&status);
        assert!(status.success() || signal.is_some(), "{status}: {told}");
        signal.is_some()
    }

    /// The same; how it ended, and what it told people then.
    pub async fn serve(&mut self, model: &Model, killer: &Killer) -> (ExitStatus, String) {
        let (out, err) = {
            let mut process = self.process.lock().unwrap();
            (process.stdout.take().unwrap(), process.stderr.take().unwrap())
        };
        let process = self.process.clone();
        killer.aim(move || drop(process.lock().unwrap().kill()));
        let told = std::thread::spawn(move || std::io::read_to_string(err).unwrap_or_default());
        let addresses = model.addresses();
        tokio::task::spawn_blocking(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if let Some(url) = line.split(LISTENING).nth(1) {
                    addresses.send_replace(url.trim().to_string());
                }
            }
        })
        .await
        .unwrap();
        // Its output has ended, so that it has, or is about to.
        let status = self.process.lock().unwrap().wait().unwrap();
        killer.done();
        (status, told.join().unwrap())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let mut process = self.process.lock().unwrap();
        let _ = process.kill();
        let _ = process.wait();
    }
}

/// The real store, but for its moment.
struct Dying {
    store: Sled,
    point: Point,
    /// Commits to come until then.
    left: u64,
}

impl Dying {
    fn dies_at(&self, point: Point) {
        if self.left == 0 && self.point == point {
            // Nothing is dropped, flushed or unwound, as with SIGKILL.
            std::process::abort();
        }
    }
}

impl Store for Dying {
    fn commit(&mut self, records: &[Record]) -> Result<(), Error> {
        self.left = self.left.saturating_sub(1);
        self.dies_at(Point::BeforeCommit);
        self.store.commit(records)?;
        self.dies_at(Point::BetweenCommitAndAnswer);
        Ok(())
    }

    fn load(&self) -> Result<Option<Durable>, Error> {
        self.store.load()
    }

    fn journal(&self, from: u64, most: usize) -> Result<Vec<Entry>, Error> {
        self.store.journal(from, most)
    }

    fn candidates(&self, from: CandidateId, most: usize) -> Result<Vec<Candidate>, Error> {
        self.store.candidates(from, most)
    }

    fn evaluation(&self, id: CandidateId) -> Result<Option<Evaluation>, Error> {
        self.store.evaluation(id)
    }

    fn audits(&self, from: CandidateId, most: usize) -> Result<Vec<(CandidateId, Audited)>, Error> {
        self.store.audits(from, most)
    }

    fn copy(&self) -> Option<Copy> {
        self.store.copy()
    }
}

/// Serves the folder of the environment and dies where it says.
pub fn die_as_told() {
    let (Ok(folder), Ok(point)) = (std::env::var(FOLDER), std::env::var(POINT)) else { return };
    let (point, commit) = point.split_once(' ').unwrap();
    let points = [Point::BeforeCommit, Point::BetweenCommitAndAnswer];
    let point = points.into_iter().find(|p| format!("{p:?}") == point).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Sled::open(Path::new(&folder)).unwrap();
        let state = restore(store.load().unwrap().unwrap()).unwrap();
        let store = Dying { store, point, left: commit.parse().unwrap() };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("\n{LISTENING}http://{}", listener.local_addr().unwrap());
        let settings = Settings { tick: Duration::from_millis(20), ..Settings::new(Box::new(Unwatched)) };
        let incoming = TcpIncoming::from(listener);
        let never = std::future::pending();
        coordinator::run(settings, state, Box::new(store), incoming, never).await.unwrap();
    });
}

/// Runs `jradievo backup`. What it told people, where it failed.
pub async fn backup(folder: &Path, to: &Path) -> Result<(), String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_jradievo"));
    command.arg("backup").arg(folder).arg("--to").arg(to);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// Runs `jradievo backup` until a file of its own would become larger than this: then the system kills it, in the middle of
/// whatever it does.
pub async fn backup_killed(folder: &Path, to: &Path, bytes: u64) {
    let mut command = Command::new("bash");
    let script = format!("ulimit -c 0 -f {}; exec \"$@\"", bytes / 1024);
    command.args(["-c", &script, "bash", env!("CARGO_BIN_EXE_jradievo"), "backup"]).arg(folder);
    command.arg("--to").arg(to);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let signal = std::os::unix::process::ExitStatusExt::signal(&output.status);
    assert!(signal.is_some(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
}

/// The exit code of `jradievo status` on a folder.
pub async fn looked_at(folder: &Path) -> Option<i32> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_jradievo"));
    command.arg("status").arg(folder);
    tokio::task::spawn_blocking(move || command.output().unwrap().status.code()).await.unwrap()
}

/// A run that nobody has worked on yet.
pub fn begin(folder: &Path, plan: &RunPlan) {
    let durable = Durable::new(plan, Default::default(), common::time::Millis(1));
    Sled::open_or_create(folder).unwrap().commit(&durable.records()).unwrap();
}
