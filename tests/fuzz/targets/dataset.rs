//! Samples as JSONL and CSV: ids are unique and short, pictures lie below their folder.
//! See `intake::dataset`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| intake::dataset(bytes));
