//! PNG, JPEG and DICOM: a picture is within the limits of sides and memory, and as large as it says.
//! See `intake::image`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| intake::image(bytes));
