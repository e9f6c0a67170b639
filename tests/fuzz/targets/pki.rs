//! Certificates, requests and join tokens: names that can stand in a certificate, and nothing signed too early.
//! See `intake::pki`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| intake::pki(bytes));
