//! Whole searches with real processes over loopback.

mod command_line;
mod export;
mod hub;
mod models;
mod rehearsal;
mod samples;
mod search;
mod trouble;
