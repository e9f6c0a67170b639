//! A command as a process that is asked a line and answers a line.
//!
//! It runs without a shell, in a process group and an empty folder of its own, with an environment of a few named
//! variables. Three threads carry its streams, so that a command which reads nothing, writes without end or closes a pipe
//! never holds up whoever asks. It is killed, with everything it has started, when it is late, says too much, or is no
//! longer needed and does not end when its input does.

use crate::fault::Trouble;
use crate::mask::Mask;
use common::run::ProgramPlan;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, TryRecvError, channel, sync_channel};
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// Variables that a command gets where the worker has them.
const ENVIRONMENT: [&str; 14] = [
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
    "LD_LIBRARY_PATH",
    "CUDA_VISIBLE_DEVICES",
    "SSL_CERT_FILE",
    "OMP_NUM_THREADS",
];
/// Lines of standard error that are logged after one start.
const LOGGED: usize = 50;
/// How long a command may take to end once its input has ended.
const FAREWELL: Duration = Duration::from_millis(500);
/// How often a wait looks whether it is still wanted.
const GLANCE: Duration = Duration::from_millis(50);

enum Said {
    Line(String),
    TooLong,
    NotText,
    End,
}

/// A running command.
pub(crate) struct Process {
    name: String,
    child: Child,
    requests: Option<Sender<Vec<u8>>>,
    answers: Receiver<Said>,
    errors: Receiver<String>,
    logged: usize,
    /// Whether it has answered yet.
    answered: bool,
    limit: usize,
    killed: bool,
    /// Its working folder, removed with it.
    _folder: tempfile::TempDir,
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Process")
            .field("name", &self.name)
            .field("id", &self.child.id())
            .finish_non_exhaustive()
    }
}

impl Process {
    /// Starts the command. `limit` is the longest line, in bytes, that it may answer.
    pub fn start(name: &str, plan: &ProgramPlan, limit: usize) -> Result<Process, Trouble> {
        let program = plan.command.first().cloned().unwrap_or_default();
        let cannot = |message: String| Trouble::Start { program: program.clone(), message };
        let folder = tempfile::Builder::new()
            .prefix("jradievo-external-")
            .tempdir()
            .map_err(|e| cannot(format!("no folder for it: {e}")))?;
        let mut command = Command::new(&program);
        command.args(&plan.command[1..]).current_dir(folder.path()).env_clear();
        let own = plan.environment.iter().map(String::as_str);
        for name in ENVIRONMENT.into_iter().chain(own) {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        // Python holds back what it prints into a pipe, and orders sets anew in every process, unless it is told.
        command.env("PYTHONUNBUFFERED", "1").env("PYTHONHASHSEED", "0");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn().map_err(|e| cannot(e.to_string()))?;
        let (requests, lines) = channel::<Vec<u8>>();
        // A few lines are kept at most: a command that writes without end is held up by its own pipe.
        let (answer, answers) = sync_channel(4);
        let (error, errors) = sync_channel(LOGGED);
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        std::thread::spawn(move || {
            let Some(mut stdin) = stdin else { return };
            while let Ok(line) = lines.recv() {
                if stdin.write_all(&line).and_then(|()| stdin.flush()).is_err() {
                    return;
                }
            }
        });
        std::thread::spawn(move || stdout.map(|out| pass_on(out, limit, &answer)));
        std::thread::spawn(move || stderr.map(|err| note(err, &error)));
        info!(command = name, process = child.id(), "started");
        Ok(Process {
            name: name.into(),
            child,
            requests: Some(requests),
            answers,
            errors,
            logged: 0,
            answered: false,
            limit,
            killed: false,
            _folder: folder,
        })
    }

    /// Whether its first answer is still to come.
    pub fn is_fresh(&self) -> bool {
        !self.answered
    }

    /// Writes one line and waits for one. Ok(None) when the wait was cancelled. After anything but an answer the process
    /// is of no more use.
    pub fn ask(
        &mut self,
        request: &str,
        limit: Duration,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Option<String>, Trouble> {
        match self.answers.try_recv() {
            Err(TryRecvError::Empty) => {}
            Ok(Said::End) | Err(TryRecvError::Disconnected) => return Err(self.ended()),
            Ok(_) => return Err(Trouble::Unasked),
        }
        let line = format!("{request}\n").into_bytes();
        if self.requests.as_ref().is_none_or(|r| r.send(line).is_err()) {
            return Err(self.ended());
        }
        let began = Instant::now();
        loop {
            let left = limit.saturating_sub(began.elapsed());
            match self.answers.recv_timeout(left.min(GLANCE)) {
                Ok(Said::Line(line)) => {
                    self.answered = true;
                    return Ok(Some(line));
                }
                Ok(Said::TooLong) => return Err(Trouble::TooLong { limit: self.limit }),
                Ok(Said::NotText) => return Err(Trouble::Answer("not UTF-8".into())),
                Ok(Said::End) | Err(RecvTimeoutError::Disconnected) => return Err(self.ended()),
                Err(RecvTimeoutError::Timeout) if cancelled() => return Ok(None),
                Err(RecvTimeoutError::Timeout) if left <= GLANCE && began.elapsed() >= limit => {
                    return Err(Trouble::Timeout { seconds: limit.as_secs_f64() });
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Logs what it has said on standard error since the last time.
    pub fn log(&mut self, mask: &Mask) {
        while let Ok(line) = self.errors.try_recv() {
            self.note(&line, mask);
        }
    }

    /// Ends it and logs its last words.
    pub fn end(mut self, mask: &Mask) {
        self.kill();
        // With everything dead that could write, its standard error ends at once.
        while let Ok(line) = self.errors.recv_timeout(FAREWELL) {
            self.note(&line, mask);
        }
    }

    fn note(&mut self, line: &str, mask: &Mask) {
        self.logged += 1;
        match self.logged {
            n if n < LOGGED => warn!(command = self.name, "{}", mask.apply(line)),
            LOGGED => warn!(command = self.name, "more of what it says is left out"),
            _ => {}
        }
    }

    /// Its output has ended: how the process did.
    fn ended(&mut self) -> Trouble {
        let how = match self.wait(FAREWELL) {
            Some(status) => status.to_string(),
            None => "it closed its output and runs on".into(),
        };
        Trouble::Ended { how }
    }

    fn wait(&mut self, limit: Duration) -> Option<std::process::ExitStatus> {
        let began = Instant::now();
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if began.elapsed() < limit => std::thread::sleep(Duration::from_millis(5)),
                _ => return None,
            }
        }
    }

    /// Kills the command and everything that it has started.
    fn kill(&mut self) {
        // Once only: its number is then free for others.
        if std::mem::replace(&mut self.killed, true) {
            return;
        }
        #[cfg(unix)]
        {
            // The group is named by its first process. `kill` is a word of every POSIX shell.
            let group = format!("-{}", self.child.id());
            let kill =
                Command::new("sh").args(["-c", "kill -KILL \"$1\" 2>/dev/null", "sh", &group]).status();
            drop(kill);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The end of its input is how a command learns that it is no longer needed. One that was late or said too much is
        // not asked politely: it would only take its time again.
        self.requests = None;
        if self.answered && !self.killed {
            self.wait(FAREWELL);
        }
        self.kill();
    }
}

/// Passes lines of bounded length on, until the stream ends or nobody listens.
fn pass_on(out: impl Read, limit: usize, answer: &SyncSender<Said>) {
    let mut out = BufReader::new(out);
    loop {
        let mut line = Vec::new();
        let said = match (&mut out).take(limit as u64 + 1).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => Said::End,
            Ok(_) if line.last() != Some(&b'\n') && line.len() > limit => Said::TooLong,
            Ok(_) => String::from_utf8(line).map_or(Said::NotText, Said::Line),
        };
        let last = !matches!(said, Said::Line(_));
        if answer.send(said).is_err() || last {
            return;
        }
    }
}

/// Keeps the first lines of standard error and drops the rest, so that nobody is held up by it.
fn note(err: impl Read, error: &SyncSender<String>) {
    let mut err = BufReader::new(err);
    loop {
        let mut line = Vec::new();
        match (&mut err).take(4096).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => drop(error.try_send(String::from_utf8_lossy(&line).trim_end().to_string())),
        }
    }
}
