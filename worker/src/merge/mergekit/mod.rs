//! mergekit's convention: every tensor by itself, with parameters that may differ by layer, filter and source.
//!
//! [`methods`] is the arithmetic of one tensor. Which tensors there are, which parameters hold for each and where
//! the numbers come from is decided by who calls it.

pub mod methods;
