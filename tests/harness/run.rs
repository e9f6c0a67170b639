//! A run on a part of the embedded family, small enough for a test.

use crate::{Ended, Process, family, root};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use tempfile::TempDir;

/// The folder of the two programs, built as this test was.
pub fn programs() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        // target/<profile>/deps/it-…
        let own = std::env::current_exe().expect("a test knows its file");
        let folder = own.ancestors().nth(2).expect("tests lie in target/<profile>/deps").to_path_buf();
        let mut build = Command::new(env!("CARGO"));
        // All targets of the whole workspace, as the tests themselves are built: another selection would unify
        // features differently and build every dependency again.
        build.args(["build", "--locked", "--workspace", "--all-targets"]).current_dir(root());
        if folder.ends_with("release") {
            build.arg("--release");
        }
        assert!(build.status().is_ok_and(|s| s.success()), "the programs do not build");
        folder
    })
}

/// A folder with a run file, part of the search samples, and room for state.
pub struct Run {
    dir: TempDir,
}

/// A coordinator that serves a run.
pub struct Coordinator {
    /// The process; its lines tell of progress.
    pub process: Process,
    /// Where workers find it.
    pub url: String,
}

impl Run {
    /// A run of the embedded family over the first `samples` search samples, with `evaluations` in generations
    /// of four.
    pub fn new(samples: usize, evaluations: usize) -> Run {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let data = root().join("tests/data/search");
        let text = std::fs::read_to_string(data.join("samples.jsonl")).expect("the search samples");
        let some: String = text.lines().take(samples).map(|l| format!("{l}\n")).collect();
        std::fs::write(dir.path().join("samples.jsonl"), some).expect("a writable folder");
        let demo =
            std::fs::read_to_string(root().join("scripts/runs/demo.toml")).expect("the demo's run file");
        // The demo's own run file with its paths made absolute, so that what is tested is what is shipped.
        let tests = root().join("tests/data").display().to_string();
        let demo = demo
            .replace(
                "../../tests/data/search/samples.jsonl",
                &dir.path().join("samples.jsonl").display().to_string(),
            )
            .replace("../../tests/data", &tests)
            .replace("[held_out]", "[held_out]\nempty_reference = \"skip\"")
            .replacen("[dataset]\n", &format!("[dataset]\nimages = \"{tests}/search\"\n"), 1);
        std::fs::write(dir.path().join("run.toml"), demo).expect("a writable folder");
        let run = Run { dir };
        run.set(&[("search.evaluations", &evaluations.to_string()), ("search.population", "4")]);
        run
    }

    /// Remembers overrides for `start`.
    fn set(&self, assignments: &[(&str, &str)]) {
        let lines: String = assignments.iter().map(|(k, v)| format!("{k}={v}\n")).collect();
        std::fs::write(self.path("overrides"), lines).expect("a writable folder");
    }

    /// The same run with one more key overridden.
    pub fn with(self, key: &str, value: &str) -> Run {
        let mut text = std::fs::read_to_string(self.path("overrides")).expect("written by new");
        text.push_str(&format!("{key}={value}\n"));
        std::fs::write(self.path("overrides"), text).expect("a writable folder");
        self
    }

    /// A path in the run's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The overrides as arguments.
    pub fn overrides(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.path("overrides")).expect("written by new");
        text.lines().flat_map(|l| ["--set".to_string(), l.to_string()]).collect()
    }

    /// Starts a coordinator on a new state folder.
    pub fn start(&self, state: &str) -> Coordinator {
        self.start_with(state, &[])
    }

    /// The same with more arguments.
    pub fn start_with(&self, state: &str, more: &[&str]) -> Coordinator {
        let mut command = Command::new(programs().join("jradievo"));
        command.arg("start").arg(self.path("run.toml")).args(self.overrides()).args(more);
        command.arg("--state").arg(self.path(state)).args(["--listen", "127.0.0.1:0"]);
        Coordinator::serve(&mut command)
    }

    /// Takes a state folder up again.
    pub fn resume(&self, state: &str) -> Coordinator {
        self.resume_at(state, "127.0.0.1:0")
    }

    /// The same at an address.
    pub fn resume_at(&self, state: &str, address: &str) -> Coordinator {
        let mut command = Command::new(programs().join("jradievo"));
        command.arg("resume").arg(self.path(state)).args(["--listen", address]);
        Coordinator::serve(&mut command)
    }

    /// Runs a search to its end with `workers` workers.
    pub fn search(&self, state: &str, workers: usize) -> Ended {
        self.search_with(state, workers, &[])
    }

    /// The same with more arguments for `start`.
    pub fn search_with(&self, state: &str, workers: usize, more: &[&str]) -> Ended {
        let coordinator = self.start_with(state, more);
        let workers: Vec<Process> = (0..workers).map(|i| coordinator.worker(&format!("w{i}"), &[])).collect();
        let ended = coordinator.process.expect(0);
        workers.into_iter().for_each(|w| drop(w.expect(0)));
        ended
    }

    /// A looking command on a state folder; its standard output.
    pub fn look(&self, command: &str, state: &str, more: &[&str]) -> String {
        let output = jradievo(&[&[command, &self.path(state).display().to_string()], more].concat());
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// Lets a worker finish and leave; what the command says.
    pub fn drain(&self, worker: &str, state: &str) -> String {
        let output = jradievo(&["drain", worker, &self.path(state).display().to_string()]);
        assert!(output.status.success(), "drain: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// Merges the best of a run to the folder `model` beside it and evaluates that on the run's samples: what
    /// `evaluate --json` prints.
    pub fn exported(&self, state: &str, model: &str) -> serde_json::Value {
        let recipe = self.path(&format!("{model}.json"));
        std::fs::write(&recipe, self.look("recipe", state, &[])).expect("a writable folder");
        let worker = || Command::new(programs().join("jradievo-worker"));
        let out = self.path(model);
        let done = |output: Output| {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            output.stdout
        };
        done(worker().arg("merge").arg(&recipe).arg("--out").arg(&out).output().expect("a worker"));
        // The dataset's images are found beside it.
        let images = self.path("images");
        if !images.exists() {
            std::os::unix::fs::symlink(root().join("tests/data/search/images"), images).expect("a link");
        }
        let mut evaluate = worker();
        evaluate.arg("evaluate").arg("--model").arg(&out).arg("--dataset").arg(self.path("samples.jsonl"));
        evaluate.arg("--run").arg(self.path("run.toml")).arg("--json");
        serde_json::from_slice(&done(evaluate.output().expect("a worker"))).expect("JSON")
    }

    /// What was recorded of the best candidate.
    pub fn best(&self, state: &str) -> serde_json::Value {
        let status: serde_json::Value =
            serde_json::from_str(&self.look("status", state, &["--json"])).expect("JSON");
        let candidates = jsonl(&self.look("candidates", state, &["--json"]));
        let best = candidates.into_iter().find(|c| c["candidate"] == status["best"]["candidate"]);
        best.expect("a run with results")
    }

    /// Candidate, genome and fitness of every candidate, in order.
    pub fn genomes(&self, state: &str) -> Vec<(u64, serde_json::Value, serde_json::Value)> {
        jsonl(&self.look("candidates", state, &["--json"]))
            .into_iter()
            .map(|c| {
                assert_eq!(c["state"], "scored", "{c}");
                (c["candidate"].as_u64().expect("a number"), c["genome"].clone(), c["fitness"].clone())
            })
            .collect()
    }
}

/// Runs `jradievo` to its end.
fn jradievo(arguments: &[&str]) -> Output {
    Command::new(programs().join("jradievo")).args(arguments).output().expect("jradievo starts")
}

/// Whether a file is its owner's alone.
pub fn is_private(path: &Path) -> bool {
    std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(path).unwrap().permissions()) & 0o777 == 0o600
}

/// Of a folder and everything below it, what is not its owner's alone.
pub fn open_to_others(folder: &Path) -> Vec<std::path::PathBuf> {
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(folder).unwrap().permissions());
    let mut open: Vec<_> = (mode & 0o077 != 0).then(|| folder.to_path_buf()).into_iter().collect();
    if folder.is_dir() {
        let below = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        open.extend(below.flat_map(|path| open_to_others(&path)));
    }
    open
}

/// The objects of JSON lines.
pub fn jsonl(text: &str) -> Vec<serde_json::Value> {
    text.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect()
}

impl Coordinator {
    /// Starts a coordinator by a command of one's own, and waits until it listens.
    pub fn serve(command: &mut Command) -> Coordinator {
        let mut process = Process::start("jradievo", command);
        let line = process.wait_for("listening on ");
        let url = line.rsplit(' ').next().expect("a URL ends the line").to_string();
        Coordinator { process, url }
    }

    /// Starts a worker on the CPU with one thread.
    pub fn worker(&self, name: &str, more: &[&str]) -> Process {
        self.worker_with(name, more, &[])
    }

    /// The same with variables of its own in its environment.
    pub fn worker_with(&self, name: &str, more: &[&str], environment: &[(&str, &Path)]) -> Process {
        worker_of(&self.url, name, more, environment)
    }

    /// A worker that looks for its models in the embedded family's folder.
    pub fn family_worker(&self, name: &str) -> Process {
        self.worker(name, &["--models", &family().display().to_string()])
    }
}

/// Starts a worker of the coordinator with that URL, whether there is one or not yet.
pub fn worker_of(url: &str, name: &str, more: &[&str], environment: &[(&str, &Path)]) -> Process {
    let mut command = Command::new(programs().join("jradievo-worker"));
    command.args(["run", "--coordinator", url, "--device", "cpu", "--threads", "1", "--name", name]);
    command.args(["--give-up-after", "60"]).args(more).env("RUST_LOG", "info");
    command.envs(environment.iter().copied());
    Process::start(name, &mut command)
}
