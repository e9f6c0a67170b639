//! What bytes from outside go through, one function for each kind of input.
//!
//! Each takes any bytes at all, hands them to the code that a user's file or a stranger's message would meet, and panics
//! only where that code panics or a promise is broken. The functions are used twice: by the fuzz targets in `tests/fuzz`,
//! which look for such bytes, and by the test `replay` beside this, which tries all that were kept. Nothing here
//! reads an input in its own way: where raw bytes would not come far, they are put into a sound frame first (a length, a
//! checksum, a zip directory).
//!
//! | function | bytes are |
//! |---|---|
//! | [`run_file()`] | a run file |
//! | [`recipe()`] | a recipe's file, with or without provenance |
//! | [`mergekit()`] | a configuration of mergekit |
//! | [`safetensors()`] | a weight file, its header, or an index |
//! | [`torch_bin()`] | a `.bin` file, its pickle, or an index |
//! | [`tokenizer()`] | `tokenizer.json` |
//! | [`config()`] | the JSON files and the card of a model folder |
//! | [`image()`] | PNG, JPEG, DICOM |
//! | [`messages()`] | what is spoken between coordinator, workers and operators |
//! | [`dataset()`] | samples as JSONL and CSV |
//! | [`store_records()`] | records of a run's store, as `fsck` and a resumed coordinator read them |
//! | [`lexicon()`] | a lexicon of medical terms |
//! | [`dictionary()`] | a tokeniser's dictionary |
//! | [`optimize()`] | a space and the lines of `jradievo optimize` |
//! | [`pki()`] | certificates, requests for them, join tokens |
//! | [`answers()`] | what metric and evaluator commands and a hub answer |

mod answers;
mod checkpoint;
mod config;
mod dataset;
mod image;
mod messages;
mod optimize;
mod pki;
mod run;
mod scratch;
mod store;
mod terms;
mod tokenizer;

pub use answers::answers;
pub use checkpoint::{safetensors, torch_bin};
pub use config::config;
pub use dataset::dataset;
pub use image::image;
pub use messages::messages;
pub use optimize::optimize;
pub use pki::pki;
pub use run::{mergekit, recipe, run_file};
pub use store::store_records;
pub use terms::{dictionary, lexicon};
pub use tokenizer::tokenizer;

/// What takes the bytes of one kind of input.
pub type Target = fn(&[u8]);

/// Every function by its name, which is that of its fuzz target and of its corpus.
pub const TARGETS: [(&str, Target); 16] = [
    ("answers", answers),
    ("config", config),
    ("dataset", dataset),
    ("dictionary", dictionary),
    ("image", image),
    ("lexicon", lexicon),
    ("mergekit", mergekit),
    ("messages", messages),
    ("optimize", optimize),
    ("pki", pki),
    ("recipe", recipe),
    ("run_file", run_file),
    ("safetensors", safetensors),
    ("store_records", store_records),
    ("tokenizer", tokenizer),
    ("torch_bin", torch_bin),
];
