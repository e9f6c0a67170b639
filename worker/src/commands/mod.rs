//! One file per command. Each returns the program's exit code or an error for `main` to print.

/// Prints a line to standard output. Whoever reads may stop early, as `head` does: no failure, and no panic.
macro_rules! out {
    ($($text:tt)*) => {{
        use std::io::Write;
        let _ = writeln!(std::io::stdout().lock(), $($text)*);
    }};
}

pub mod compare;
pub mod doctor;
pub mod evaluate;
pub mod fetch;
pub mod finalists;
pub mod generate;
mod kind;
pub mod merge;
pub mod mergekit;
mod pins;
pub mod rehearse;
pub mod run;
pub mod score;
mod signal;
mod table;

/// Done.
pub const OK: u8 = 0;
/// Failed, as an error explains.
pub const FAILED: u8 = 1;
/// The coordinator will not have this worker.
pub const TURNED_AWAY: u8 = 3;
/// Stopped by Ctrl-C.
pub const STOPPED: u8 = 130;
