//! Records of a run's store: there is always a report, and a store without a finding can be resumed.
//! See `intake::store_records`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| intake::store_records(bytes));
