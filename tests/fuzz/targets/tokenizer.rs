//! `tokenizer.json`: texts become ids and ids texts, or the file is refused by name.
//! See `intake::tokenizer`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| intake::tokenizer(bytes));
