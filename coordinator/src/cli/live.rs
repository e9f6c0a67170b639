//! Progress while serving: a live line on a terminal, plain lines elsewhere.

use super::table::duration;
use crate::driver::Watch;
use crate::state::candidate::How;
use crate::state::{Note, State};
use common::time::Millis;
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How often the live line is drawn anew.
const REDRAWN_EVERY: Duration = Duration::from_millis(250);
/// How often a plain line is printed while nothing closes a generation.
const PRINTED_EVERY: Duration = Duration::from_secs(60);

/// Whether the last thing on the terminal is the live line, which whoever writes next has to clear.
static LINE_SHOWN: AtomicBool = AtomicBool::new(false);

fn clear_line(out: &mut dyn Write) -> std::io::Result<()> {
    match LINE_SHOWN.swap(false, Ordering::Relaxed) {
        true => out.write_all(b"\r\x1b[K"),
        false => Ok(()),
    }
}

/// Standard error for logs: clears the live line first.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut err = std::io::stderr().lock();
        clear_line(&mut err)?;
        err.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

/// Shows a run's progress on standard output.
#[derive(Debug)]
pub struct Live {
    terminal: bool,
    /// Evaluations that were done when this coordinator began, and when that was: the rate is this one's.
    done_before: u64,
    begun: Option<Millis>,
    shown: Millis,
    /// What the last plain line said was done.
    done_shown: u64,
}

impl Live {
    /// A view of the run as it stands now.
    pub fn new(state: &State) -> Live {
        let done = state.progress().evaluations_done;
        let terminal = std::io::stdout().is_terminal();
        Live { terminal, done_before: done, begun: None, shown: Millis(0), done_shown: done }
    }

    fn print(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        // Nothing to be done about a closed pipe: the run matters more than its display.
        let _ = clear_line(&mut out).and_then(|()| writeln!(out, "{text}")).and_then(|()| out.flush());
    }

    fn line(&self, now: Millis, state: &State) -> String {
        let p = state.progress();
        let mut parts = vec![format!("{} of {} evaluated", p.evaluations_done, p.evaluations_budget)];
        if let Some((candidate, fitness)) = p.best {
            parts.push(format!("best {fitness:.4} (candidate {candidate})"));
        }
        let here = p.evaluations_done.saturating_sub(self.done_before);
        let elapsed = now - self.begun.unwrap_or(now);
        if here > 0 && !elapsed.is_zero() {
            let per_minute = here as f64 * 60.0 / elapsed.as_secs_f64();
            let left = p.evaluations_budget.saturating_sub(p.evaluations_done) as f64 / per_minute * 60.0;
            parts.push(format!("{per_minute:.1}/min"));
            parts.push(format!("{} left", duration(Duration::from_secs_f64(left.min(1e9)))));
        }
        parts.push(format!("{} worker{}", p.workers, if p.workers == 1 { "" } else { "s" }));
        parts.join(" · ")
    }
}

impl Watch for Live {
    fn note(&mut self, note: &Note, state: &State) {
        match note {
            Note::Joined { name, device, .. } => self.print(&format!("worker {name} joined ({device})")),
            Note::Left { name } => self.print(&format!("worker {name} left")),
            Note::Drained { name, drained: true } => {
                self.print(&format!("worker {name} is to finish what it has and leave"))
            }
            Note::Drained { name, drained: false } => self.print(&format!("worker {name} may stay")),
            Note::Benched { name, bench } => self.print(&format!(
                "worker {name} failed {} times where others succeeded: nothing is lent to it for a while (last: {})",
                bench.failures, bench.reason
            )),
            // What early stops save is told at the end.
            Note::AttemptEnded { how: How::Superseded, .. } | Note::Censored { .. } => {}
            Note::AttemptEnded { candidate, attempt, worker, how, reason } => {
                let how = how.word();
                self.print(&format!("candidate {candidate}, attempt {attempt} on {worker}: {how}: {reason}"));
            }
            Note::CandidateFailed { candidate } => {
                self.print(&format!("candidate {candidate} is given up and counts as the worst"));
            }
            Note::Disagreement { candidate, sample, first, second, worker } => self.print(&format!(
                "candidate {candidate}, sample {sample}: {} before and {} by {worker}: the two compute differently",
                first.value(),
                second.value()
            )),
            Note::AuditFailed { candidate, worker, reason } => {
                self.print(&format!("audit of candidate {candidate} on {worker} failed: {reason}"))
            }
            Note::AuditDisagrees { candidate, first, first_by, second, second_by, samples } => {
                self.print(&format!(
                    "audit: candidate {candidate} has {} by {first_by} and {} by {second_by} ({samples} samples differ): one of \
                     them computes otherwise",
                    first.value(),
                    second.value()
                ))
            }
            Note::Remark(text) => self.print(&format!("search: {text}")),
            Note::GenerationClosed { generation, best } => {
                let p = state.progress();
                let best = best.map_or("none scored".into(), |(id, f)| {
                    format!("best {:.4} (candidate {id})", f.value())
                });
                let so_far = p.best.map(|(id, f)| format!(", so far {f:.4} (candidate {id})"));
                self.done_shown = p.evaluations_done;
                self.print(&format!(
                    "generation {generation}: {best}{} · {} of {} evaluated",
                    so_far.unwrap_or_default(),
                    p.evaluations_done.min(p.evaluations_budget),
                    p.evaluations_budget
                ));
            }
            Note::Paused(true) => self.print("paused: nothing new is lent"),
            Note::Paused(false) => self.print("going on"),
            Note::Extended(b) => self.print(&format!("extended to {} evaluations", b.evaluations)),
            Note::Finished { reason } => self.print(&format!("finished: {reason}")),
        }
    }

    fn tick(&mut self, now: Millis, state: &State) {
        self.begun.get_or_insert(now);
        let every = if self.terminal { REDRAWN_EVERY } else { PRINTED_EVERY };
        if now - self.shown < every {
            return;
        }
        if self.terminal {
            let mut out = std::io::stdout().lock();
            let _ = write!(out, "\r\x1b[K{}", self.line(now, state)).and_then(|()| out.flush());
            LINE_SHOWN.store(true, Ordering::Relaxed);
        } else {
            let done = state.progress().evaluations_done;
            if self.shown != Millis(0) && done != self.done_shown {
                self.done_shown = done;
                self.print(&self.line(now, state));
            }
        }
        self.shown = now;
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let _ = clear_line(&mut std::io::stdout());
    }
}
