//! A lexicon of medical terms: mentions are those of the text.
//! See `intake::lexicon`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| intake::lexicon(bytes));
