//! The JSON files of a model folder and its card: what is accepted describes a model whose sizes can be counted.
//! See `intake::config`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| intake::config(bytes));
