//! Everything that is spoken between coordinator, workers and operators: what is accepted survives the way back.
//! See `intake::messages`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| intake::messages(bytes));
