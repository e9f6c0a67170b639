//! The resampling against Pillow on random sizes, by checksum; `scripts/golden/bicubic.py` draws the same pictures.

#![forbid(unsafe_code)]

use worker::image::{Rgb8, resize_bicubic};

/// The top byte of SplitMix64, as the script has it.
fn noise(seed: u64, n: usize) -> Vec<u8> {
    (1..=n as u64)
        .map(|i| {
            let z = i.wrapping_add(seed << 32).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            ((z ^ (z >> 31)) >> 56) as u8
        })
        .collect()
}

#[test]
fn every_random_size_equals_pillow_to_the_bit() {
    // The variable names another list from the script, for more cases than are committed.
    let list = std::env::var("BICUBIC_CASES")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/bicubic.json").into());
    let cases = std::fs::read_to_string(list).expect("the list of cases");
    let cases: Vec<[u64; 5]> = serde_json::from_str(&cases).expect("valid cases");
    assert!(cases.len() >= 400);
    let mut wrong = Vec::new();
    for (seed, &[width, height, to_width, to_height, expected]) in cases.iter().enumerate() {
        let mut pixels = noise(seed as u64, (width * height * 3) as usize);
        if seed % 3 == 0 {
            pixels.iter_mut().for_each(|p| *p = *p / 128 * 255);
        }
        let image = Rgb8::new(width as usize, height as usize, pixels).expect("sizes agree");
        let got = resize_bicubic(&image, to_width as usize, to_height as usize).expect("valid sizes");
        let mut crc = flate2::Crc::new();
        crc.update(got.data());
        if u64::from(crc.sum()) != expected {
            wrong.push(format!("{width} x {height} to {to_width} x {to_height}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ: {}", wrong.len(), cases.len(), wrong.join(", "));
}
