//! A weight file, its header, or an index: no tensor reaches outside its file.
//! See `intake::safetensors`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| intake::safetensors(bytes));
