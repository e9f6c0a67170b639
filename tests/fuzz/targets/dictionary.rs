//! A tokeniser's dictionary: no length is believed that the file does not hold, and text files that are accepted cut texts into
//! what they are.
//! See `intake::dictionary`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| intake::dictionary(bytes));
