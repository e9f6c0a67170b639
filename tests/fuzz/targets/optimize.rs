//! A space and the lines of `jradievo optimize`: every line has an answer, and a search goes on
//! from its state file as it would have.
//! See `intake::optimize`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| intake::optimize(bytes));
