//! A `.bin` file of torch, its pickle, or an index: no tensor reaches outside its file, and nothing is ever called.
//! See `intake::torch_bin`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| intake::torch_bin(bytes));
