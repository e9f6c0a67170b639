//! Samples as JSONL and CSV: the same bytes as both.

use common::dataset::{Columns, Format, MAX_ID_BYTES, MAX_REPORT_BYTES, check_relative, parse, references};
use common::report::{MissingPart, Part};
use common::run::{DatasetPlan, EmptyReference};
use std::collections::BTreeSet;

/// Samples that were accepted have ids of their own, short enough, and pictures below their folder.
pub fn dataset(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for (format, file) in [(Format::Jsonl, "s.jsonl"), (Format::Csv, "s.csv")] {
        let columns = Columns::default();
        let samples = match parse(text, format, &columns) {
            Ok(samples) => samples,
            Err(e) => {
                drop(e.to_string());
                continue;
            }
        };
        let ids: BTreeSet<&str> = samples.iter().map(|s| s.id.as_str()).collect();
        assert_eq!(ids.len(), samples.len());
        for sample in &samples {
            assert!((1..=MAX_ID_BYTES).contains(&sample.id.len()));
            assert!(sample.report.len() <= MAX_REPORT_BYTES);
            assert_eq!(check_relative(&sample.image), Ok(()));
        }
        for part in [Part::Whole, Part::Findings, Part::Impression] {
            let plan = DatasetPlan {
                file: file.into(),
                images: String::new(),
                columns: columns.clone(),
                part,
                without_part: MissingPart::Whole,
                empty_reference: EmptyReference::Keep,
                frame: None,
            };
            if let Ok(kept) = references(text, &plan) {
                assert_eq!(kept.len(), samples.len());
                assert!(kept.iter().zip(&samples).all(|(r, s)| r.text.len() <= s.report.len()));
            }
        }
    }
}
