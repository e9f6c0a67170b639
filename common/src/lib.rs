//! Values and arithmetic that the coordinator and the workers share.
//!
//! No async, no network, and (but for [`files`]) no disk: callers bring bytes, this crate turns them into checked values, and
//! nothing here can fail once a value has been made.
//!
//! # Reading order
//!
//! | module | yields |
//! |---|---|
//! | [`run`] | [`run::RunFile`] as a person typed it → [`run::RunPlan`], checked once and immutable |
//! | [`space`], [`parameter`] | the searched parameters: names, bounds, what is shared, divided or fixed |
//! | [`group`], [`amount`] | numbers that differ by layer and by tensor name |
//! | [`refine`] | a finished search's outcome as the beginning of one with more parameters |
//! | [`genome`] | a point of the unit cube, one coordinate per searched parameter |
//! | [`recipe`] | a genome decoded to every number of one merge |
//! | [`location`] | where a model is: a folder, or `hf://owner/name@revision` |
//! | [`provenance`] | a recipe's file: the recipe, and where it came from |
//! | [`evaluation`] | what a worker returns for a candidate: a text and scores per sample |
//! | [`fitness`] | the one number of an evaluation, larger is better, never NaN |
//! | [`mergekit`] | mergekit's configuration files, checked |
//! | [`dataset`] | samples (id, image path, reference) read from JSONL or CSV |
//! | [`report`] | the part of a report that is the reference, such as 所見 |
//! | [`seed`] | random streams named by purpose, savable in the middle |
//! | [`files`] | which files a run depends on, and their digests |
//! | [`digest`] | content digests of plans, files and datasets |
//! | [`panics`] | what a panic may tell: its place |
//! | [`id`], [`time`] | newtypes |
//!
//! # Glossary
//!
//! *Genome*: a point of the search space. *Recipe*: the merge it stands for. *Candidate*: a genome with a
//! number, to be evaluated. *Evaluation*: its texts and scores. *Fitness*: one number made from them.
//! *Lease*: a candidate lent to a worker until a deadline. *Attempt*: one lease that was begun.

#![forbid(unsafe_code)]

pub mod amount;
pub mod bounded;
pub mod dataset;
pub mod digest;
pub mod evaluation;
pub mod files;
pub mod fitness;
pub mod genome;
pub mod group;
pub mod id;
pub mod location;
pub mod mergekit;
pub mod panics;
pub mod parameter;
pub mod provenance;
pub mod recipe;
pub mod refine;
pub mod report;
pub mod run;
pub mod seed;
pub mod space;
pub mod time;
