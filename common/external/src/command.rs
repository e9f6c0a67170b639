//! A command of the plan: its process, started when it is first needed and anew after every fault, and what it may not show.

use crate::answer;
use crate::fault::{Fault, Trouble};
use crate::mask::Mask;
use crate::process::Process;
use common::digest::Digest;
use common::files::digest_file;
use common::run::ProgramPlan;
use std::path::Path;
use std::time::Duration;
use tracing::warn;

/// A command that is asked lines.
#[derive(Debug)]
pub(crate) struct Command {
    /// `metric "NAME"` or `evaluator`.
    label: String,
    plan: ProgramPlan,
    /// The longest answer, in bytes.
    limit: usize,
    process: Option<Process>,
    mask: Mask,
    /// Whether its own words stay in this node's log, and out of faults.
    keeps_words: bool,
    /// Its files as they were at the first start.
    seen: Option<Vec<Digest>>,
}

impl Command {
    /// Nothing is started yet.
    pub fn new(label: String, plan: &ProgramPlan, limit: usize) -> Command {
        let (plan, mask) = (plan.clone(), Mask::default());
        Command { label, plan, limit, process: None, mask, keeps_words: false, seen: None }
    }

    /// Whether faults are to leave out what it says in words of its own.
    pub fn keep_words(&mut self, keep: bool) {
        self.keeps_words = keep;
    }

    /// What is not to be shown of all that it says.
    pub fn mask(&mut self) -> &mut Mask {
        &mut self.mask
    }

    /// Writes a line and reads one. Ok(None) when cancelled.
    pub fn ask(&mut self, request: &str, cancelled: &dyn Fn() -> bool) -> Result<Option<String>, Trouble> {
        let mut process = match self.process.take() {
            Some(process) => process,
            None => {
                self.check_files()?;
                Process::start(&self.label, &self.plan, self.limit)?
            }
        };
        let start = if process.is_fresh() { self.plan.start_seconds } else { 0.0 };
        let limit = Duration::from_secs_f64(self.plan.timeout_seconds + start);
        let answer = process.ask(request, limit, cancelled);
        // What it wrote on standard error meanwhile may quote what it answers.
        if let Ok(Some(line)) = &answer {
            answer::texts(line).iter().for_each(|text| self.mask.remember(text));
        }
        process.log(&self.mask);
        // After anything but an answer, what it says next belongs to nothing any more.
        match answer {
            Ok(Some(_)) => self.process = Some(process),
            _ => process.end(&self.mask),
        }
        answer
    }

    /// A worker has shown its files by digest when it joined; a command that is started later must still be that one.
    fn check_files(&mut self) -> Result<(), Trouble> {
        let digest = |file: &String| {
            let read = digest_file(String::new(), Path::new(file)).map(|f| f.digest);
            read.map_err(|e| Trouble::Start { program: file.clone(), message: e.to_string() })
        };
        let files = self.plan.files.iter().map(digest).collect::<Result<Vec<_>, _>>()?;
        let seen = self.seen.get_or_insert_with(|| files.clone());
        match seen.iter().zip(&files).position(|(then, now)| then != now) {
            Some(changed) => Err(Trouble::Changed { file: self.plan.files[changed].clone() }),
            None => Ok(()),
        }
    }

    /// The fault that a trouble is. It ends the process, since an unusable answer may be followed by others.
    pub fn fault(&mut self, about: &str, trouble: Trouble) -> Fault {
        if let Some(process) = self.process.take() {
            process.end(&self.mask);
        }
        let mut trouble = match trouble {
            Trouble::Said(text) => Trouble::Said(self.mask.apply(&text)),
            Trouble::Quoting { message, quote } => {
                Trouble::Quoting { message, quote: self.mask.apply(&quote) }
            }
            other => other,
        };
        if self.keeps_words
            && let Some(plain) = trouble.without_words()
        {
            warn!(command = self.label, "{about}: {trouble}");
            trouble = plain;
        }
        Fault::Trouble { command: self.label.clone(), about: about.into(), trouble }
    }
}
