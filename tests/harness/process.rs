//! A child process whose lines can be waited for. It is killed when dropped.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Longer than anything takes on a slow, busy machine.
const LIMIT: Duration = Duration::from_secs(240);

/// A running program.
pub struct Process {
    name: String,
    child: Child,
    lines: Receiver<String>,
    readers: Vec<JoinHandle<()>>,
    seen: Vec<String>,
}

/// A program that has ended.
#[derive(Debug)]
pub struct Ended {
    /// How.
    pub status: ExitStatus,
    /// Everything that it printed on either stream, by line.
    pub output: String,
}

impl Process {
    /// Starts a program; both its streams are read.
    pub fn start(name: &str, command: &mut Command) -> Process {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {name}: {e}"));
        let (sender, lines) = channel();
        let streams: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().expect("piped")), Box::new(child.stderr.take().expect("piped"))];
        let readers = streams.map(|stream| {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let _ = sender.send(line);
                }
            })
        });
        Process { name: name.into(), child, lines, readers: readers.into(), seen: Vec::new() }
    }

    /// Waits for a line that contains `text`.
    pub fn wait_for(&mut self, text: &str) -> String {
        loop {
            match self.lines.recv_timeout(LIMIT) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(_) => {
                    panic!("{} ended or hung without printing {text:?}:\n{}", self.name, self.seen.join("\n"))
                }
            }
        }
    }

    /// `kill -9`.
    pub fn kill(mut self) -> Ended {
        let _ = self.child.kill();
        self.end()
    }

    /// Sends a signal by its name, such as `INT`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status();
        assert!(status.is_ok_and(|s| s.success()), "cannot signal {}", self.name);
    }

    /// Waits for the end.
    pub fn end(mut self) -> Ended {
        // The streams close when the program ends; only then can waiting not hang.
        while let Ok(line) = self.lines.recv_timeout(LIMIT) {
            self.seen.push(line);
        }
        if self.readers.iter().any(|r| !r.is_finished()) && !matches!(self.child.try_wait(), Ok(Some(_))) {
            let _ = self.child.kill();
        }
        let status = self.child.wait().unwrap_or_else(|e| panic!("{}: {e}", self.name));
        Ended { status, output: std::mem::take(&mut self.seen).join("\n") }
    }

    /// Waits for the end and expects an exit code.
    pub fn expect(self, code: i32) -> Ended {
        let name = self.name.clone();
        let ended = self.end();
        assert_eq!(ended.status.code(), Some(code), "{name}:\n{}", ended.output);
        ended
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
