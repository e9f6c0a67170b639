//! A configuration of mergekit: refused with a reason, or read the same again.
//! See `intake::mergekit`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| intake::mergekit(bytes));
