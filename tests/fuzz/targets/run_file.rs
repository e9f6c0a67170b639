//! A run file with what is laid over it: a plan is the same after it was written and read, and its recipes are accepted.
//! See `intake::run_file`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| intake::run_file(bytes));
