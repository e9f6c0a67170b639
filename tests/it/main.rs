//! Whole searches with real processes over loopback.

#![forbid(unsafe_code)]

mod afterwards;
mod command_line;
mod export;
mod external;
mod genome;
mod hub;
mod models;
mod network;
mod rehearsal;
mod reports;
mod samples;
mod search;
mod trouble;
