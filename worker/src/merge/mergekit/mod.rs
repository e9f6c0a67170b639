//! mergekit's convention: every tensor by itself, with parameters that may differ by layer, filter and source.
//!
//! [`Merge`] takes a configuration ([`common::mergekit::Config`]) and a folder for each of its models, and gives the
//! tensors of the result or its whole folder. [`methods`] is the arithmetic of one tensor. Between them:
//!
//! | module | |
//! |---|---|
//! | `model` | what a folder holds: layers, vocabulary, architecture |
//! | `plan` | which tensors there are, from which inputs, with which parameters and types |
//! | `tokens` | whose tokenizer the result has, and which row of each model is whose |
//! | `build` | computing and writing |
//! | `needs` | what that holds in memory |
//! | `folder` | the files beside the weights |
//!
//! ```no_run
//! # use std::{path::PathBuf, sync::atomic::AtomicBool};
//! # fn f(text: &str) -> Result<(), Box<dyn std::error::Error>> {
//! use worker::merge::mergekit::{Merge, Options, Origin};
//! let parsed = common::mergekit::parse("merge.yml", text)?;
//! let merge = Merge::plan(parsed.config, Options::default(), |model| Ok(PathBuf::from(&model.path)))?;
//! let origin = Origin { title: "merged", yaml: text, sources: &[] };
//! merge.write("merged".as_ref(), &origin, &AtomicBool::new(false))?;
//! # Ok(())
//! # }
//! ```

mod build;
mod error;
mod folder;
pub mod methods;
mod model;
mod needs;
mod plan;
mod tokens;

pub use build::{Merge, Options, Origin};
pub use error::{Error, Result};
pub use needs::Needs;
