//! Every kind of image file against Pillow and pydicom; `scripts/golden/images.py` says which and how.

#![forbid(unsafe_code)]

use std::path::Path;

use serde::Deserialize;
use worker::image::{Limits, decode};

#[derive(Deserialize)]
struct Case {
    file: String,
    frame: Option<u32>,
    refused: Option<String>,
    #[serde(default)]
    width: usize,
    #[serde(default)]
    height: usize,
    #[serde(default)]
    grey: bool,
    #[serde(default)]
    tolerance: u8,
    #[serde(default)]
    pixels: String,
}

fn bytes_of(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).expect("hexadecimal")).collect()
}

#[test]
fn every_file_has_the_pixels_that_others_see() {
    // The variable names another folder from the script, such as one of random files.
    let folder = std::env::var_os("IMAGE_CASES").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/images"),
        std::path::PathBuf::from,
    );
    let cases = std::fs::read_to_string(folder.join("cases.json")).expect("the list of cases");
    let cases: Vec<Case> = serde_json::from_str(&cases).expect("valid cases");
    assert!(cases.len() > 100);
    let mut faults = Vec::new();
    for case in cases {
        let got = decode(&folder.join(&case.file), case.frame, &Limits::default());
        let fault = match (got, &case.refused) {
            (Ok(_), Some(_)) => Some("was not refused".to_string()),
            (Err(e), Some(part)) => {
                let text = e.to_string();
                (!text.contains(part) || !text.contains(&case.file)).then_some(text)
            }
            (Err(e), None) => Some(e.to_string()),
            (Ok(image), None) => {
                let expected = bytes_of(&case.pixels);
                let expected =
                    if case.grey { expected.iter().flat_map(|&b| [b; 3]).collect() } else { expected };
                if (image.width(), image.height()) != (case.width, case.height) {
                    Some(format!("{} x {}", image.width(), image.height()))
                } else {
                    assert_eq!(expected.len(), image.data().len(), "{}", case.file);
                    let pairs = image.data().iter().zip(&expected);
                    let largest = pairs.map(|(a, b)| a.abs_diff(*b)).max().expect("pixels");
                    println!("{}: {largest} of {}", case.file, case.tolerance);
                    (largest > case.tolerance)
                        .then(|| format!("off by {largest}, allowed {}", case.tolerance))
                }
            }
        };
        faults.extend(fault.map(|fault| format!("{}: {fault}", case.file)));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
