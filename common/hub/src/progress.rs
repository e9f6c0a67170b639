//! How a transfer is shown to people.

use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Hears of a transfer, and may end it. Called from several threads.
pub trait Progress: Sync {
    /// Something begins that will take `bytes`.
    fn begin(&self, what: &str, bytes: u64);
    /// So many more bytes have been dealt with.
    fn advance(&self, bytes: u64);
    /// So many bytes more than was said will be dealt with, as something has to come again.
    fn more(&self, _bytes: u64) {}
    /// It is over, well or not.
    fn end(&self);
    /// Something that people should know.
    fn note(&self, text: &str);
    /// Whether to stop at the next chance.
    fn stopped(&self) -> bool {
        false
    }
}

/// Shows nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _: &str, _: u64) {}
    fn advance(&self, _: u64) {}
    fn end(&self) {}
    fn note(&self, _: &str) {}
}

/// Time between two lines where they scroll by, and between two states of a line that is overwritten.
const SCROLLING: Duration = Duration::from_secs(30);
const IN_PLACE: Duration = Duration::from_millis(200);

/// The rate is that of about this long.
const WINDOW: Duration = Duration::from_secs(10);

/// Bytes, rate and remaining time: one line that is overwritten on a terminal, else a line now and then.
pub struct Meter {
    writer: Mutex<Shown>,
    terminal: bool,
    stop: AtomicBool,
}

struct Shown {
    out: Box<dyn Write + Send>,
    now: Box<dyn Fn() -> Instant + Send>,
    task: Option<Task>,
}

struct Task {
    what: String,
    total: u64,
    done: u64,
    began: Instant,
    shown: Option<Instant>,
    /// Where the rate's window began: time and bytes.
    mark: (Instant, u64),
    rate: f64,
}

impl std::fmt::Debug for Meter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Meter").field("terminal", &self.terminal).finish_non_exhaustive()
    }
}

impl Meter {
    /// Shows on standard error.
    pub fn stderr() -> Meter {
        Meter::new(Box::new(std::io::stderr()), std::io::stderr().is_terminal(), Box::new(Instant::now))
    }

    fn new(out: Box<dyn Write + Send>, terminal: bool, now: Box<dyn Fn() -> Instant + Send>) -> Meter {
        Meter { writer: Mutex::new(Shown { out, now, task: None }), terminal, stop: AtomicBool::new(false) }
    }

    /// Asks whatever is shown here to stop.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    fn shown(&self) -> std::sync::MutexGuard<'_, Shown> {
        self.writer.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Progress for Meter {
    fn begin(&self, what: &str, bytes: u64) {
        let mut shown = self.shown();
        let now = (shown.now)();
        let what = what.to_string();
        shown.task =
            Some(Task { what, total: bytes, done: 0, began: now, shown: None, mark: (now, 0), rate: 0.0 });
        shown.line(self.terminal, now);
    }

    fn advance(&self, bytes: u64) {
        let mut shown = self.shown();
        let now = (shown.now)();
        let every = if self.terminal { IN_PLACE } else { SCROLLING };
        let Some(task) = &mut shown.task else { return };
        task.done += bytes;
        if task.shown.is_some_and(|at| now.duration_since(at) >= every) {
            shown.line(self.terminal, now);
        }
    }

    fn more(&self, bytes: u64) {
        if let Some(task) = &mut self.shown().task {
            task.total += bytes;
        }
    }

    fn end(&self) {
        let mut shown = self.shown();
        let now = (shown.now)();
        let Some(task) = shown.task.take() else { return };
        let seconds = now.duration_since(task.began).as_secs_f64();
        let (start, erase) = if self.terminal { ("\r", "\x1b[K") } else { ("", "") };
        let rate = if seconds > 0.0 { task.done as f64 / seconds } else { 0.0 };
        let ended =
            format!("{}: {} in {} ({}/s)", task.what, bytes(task.done), span(seconds), bytes(rate as u64));
        // Nobody who reads it is no reason to stop.
        let _ = writeln!(shown.out, "{start}{ended}{erase}");
    }

    fn note(&self, text: &str) {
        let mut shown = self.shown();
        let (start, erase) = if self.terminal { ("\r", "\x1b[K") } else { ("", "") };
        let _ = writeln!(shown.out, "{start}{text}{erase}");
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

impl Shown {
    fn line(&mut self, terminal: bool, now: Instant) {
        let Some(task) = &mut self.task else { return };
        task.shown = Some(now);
        let (since, at) = task.mark;
        let elapsed = now.duration_since(since);
        if elapsed > Duration::from_millis(100) {
            task.rate = (task.done - at) as f64 / elapsed.as_secs_f64();
        }
        if elapsed > WINDOW {
            task.mark = (now, task.done);
        }
        let mut line = format!("{}: {} of {}", task.what, bytes(task.done), bytes(task.total));
        if task.rate > 0.0 {
            let left = task.total.saturating_sub(task.done) as f64 / task.rate;
            line += &format!(", {}/s, {} left", bytes(task.rate as u64), span(left));
        }
        let _ = match terminal {
            true => write!(self.out, "\r{line}\x1b[K").and_then(|()| self.out.flush()),
            false => writeln!(self.out, "{line}"),
        };
    }
}

/// `1.50 GB`: decimal units, as hubs list files.
pub fn bytes(n: u64) -> String {
    const UNITS: [(f64, &str); 4] = [(1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
    match UNITS.iter().find(|(size, _)| n as f64 >= *size) {
        Some((size, unit)) => format!("{:.2} {unit}", n as f64 / size),
        None => format!("{n} B"),
    }
}

/// `42 s`, `3 min 07 s`, `2 h 05 min`.
fn span(seconds: f64) -> String {
    // A rate near zero makes any number of seconds.
    let s = seconds.clamp(0.0, 3.6e8).round() as u64;
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} min {:02} s", s / 60, s % 60),
        _ => format!("{} h {:02} min", s / 3600, s % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[derive(Clone, Default)]
    struct Out(Arc<Mutex<Vec<u8>>>);

    impl Write for Out {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What is shown of a transfer of 10 MB, one a second.
    fn shown(terminal: bool) -> String {
        let (out, clock) = (Out::default(), Arc::new(Mutex::new(Instant::now())));
        let now = clock.clone();
        let meter = Meter::new(Box::new(out.clone()), terminal, Box::new(move || *now.lock().unwrap()));
        meter.begin("model", 100_000_000);
        for _ in 0..100 {
            *clock.lock().unwrap() += Duration::from_secs(1);
            meter.advance(1_000_000);
        }
        meter.end();
        String::from_utf8(out.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_log_gets_a_line_now_and_then() {
        let text = shown(false);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 5, "{text}");
        assert_eq!(lines[0], "model: 0 B of 100.00 MB");
        assert_eq!(lines[1], "model: 30.00 MB of 100.00 MB, 1.00 MB/s, 1 min 10 s left");
        assert_eq!(lines[4], "model: 100.00 MB in 1 min 40 s (1.00 MB/s)");
        assert!(!text.contains('\r'));
    }

    #[test]
    fn what_comes_again_counts_twice_in_the_total() {
        let out = Out::default();
        let meter = Meter::new(Box::new(out.clone()), true, Box::new(Instant::now));
        meter.begin("model", 1000);
        meter.more(500);
        meter.shown().line(true, Instant::now());
        let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
        assert!(text.contains("0 B of 1.50 kB"), "{text}");
    }

    #[test]
    fn a_terminal_gets_one_line_that_moves() {
        let text = shown(true);
        assert_eq!(text.matches('\r').count(), 102);
        assert_eq!(text.matches('\n').count(), 1);
        assert!(text.contains("50.00 MB of 100.00 MB, 1.00 MB/s, 50 s left"), "{text}");
    }
}
