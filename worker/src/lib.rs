//! The worker: everything that needs the models.
//!
//! A candidate's way through it: [`link`] receives a recipe → [`slot`] hands it to a thread → [`pipeline`] merges
//! ([`merge`], over [`checkpoint`]s), generates ([`generate`], over [`model`] and [`image`]) and scores (crate
//! `score`) → [`link`] hands the evaluation in.

pub mod allocator;
pub mod asking;
mod background;
pub mod card;
pub mod checkpoint;
pub mod cli;
pub mod commands;
pub mod data;
pub mod device;
pub mod evaluator;
pub mod figures;
pub mod foreign;
pub mod generate;
pub mod image;
pub mod keep;
pub mod link;
pub mod locate;
pub mod memory;
pub mod merge;
pub mod model;
pub mod network;
#[cfg(feature = "cuda")]
mod nvrtc;
pub mod obtain;
pub mod pipeline;
pub mod rehearse;
pub mod slot;
pub mod summary;
pub mod vlm;
