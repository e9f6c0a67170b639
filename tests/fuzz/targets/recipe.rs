//! A recipe's file: the same after it was written and read, and mergekit's form of it is readable.
//! See `intake::recipe`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| intake::recipe(bytes));
