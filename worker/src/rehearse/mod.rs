//! A rehearsal: random checkpoints of real shapes through every stage of a candidate, beside what the machine could do.
//!
//! [`Family`] says how large everything is and writes it: base, sources and a Bunny-shaped VLM, a tokenizer, images, a
//! dataset and the run file that ties them together, so that what runs afterwards is the ordinary program on an ordinary
//! run. [`rehearse`] takes it through the stages and gives each a time, the bytes it moved, a floor and its memory.
//! [`Rates`] are measured in the same minutes on the same machine.
//!
//! Weights are random, so texts are nonsense and scores near zero: shapes, types and paths are what is rehearsed.

mod family;
mod random;
mod rates;
mod shapes;
mod stages;
#[cfg(test)]
mod tests;
mod tokenizer;

pub use family::{Family, free_disk};
pub use rates::Rates;
pub use shapes::{SIZES, Size, Tower};
pub use stages::{Report, Stage, rehearse};
