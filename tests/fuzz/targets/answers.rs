//! Lines of metric and evaluator commands, and a hub's answers: scores that are believed are finite and those asked for,
//! files that would be fetched lie in one folder.
//! See `intake::answers`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| intake::answers(bytes));
