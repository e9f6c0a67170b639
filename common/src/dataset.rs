//! Samples read from JSONL or CSV text. Callers bring the text; paths are checked, never opened.

use crate::report;
use crate::run::{DatasetPlan, EmptyReference};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// The most samples that a dataset may have.
pub const MAX_SAMPLES: usize = 100_000;
/// The longest id, in bytes.
pub const MAX_ID_BYTES: usize = 256;
/// The longest report, in bytes.
pub const MAX_REPORT_BYTES: usize = 64 * 1024;

/// Which fields (JSONL) or columns (CSV) hold what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Columns {
    /// The sample's id, unique within the file.
    pub id: String,
    /// The image's path, relative to the image folder. Empty where samples have none.
    pub image: String,
    /// The reference report. Empty where samples have none.
    pub report: String,
}

impl Default for Columns {
    fn default() -> Columns {
        Columns { id: "id".into(), image: "image".into(), report: "report".into() }
    }
}

/// One sample as the file has it: the report whole, before any part is taken from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Unique within the dataset.
    pub id: String,
    /// Relative path that stays below the image folder.
    pub image: String,
    /// The reference report.
    pub report: String,
}

/// A sample that counts, with the text that reports are compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The sample's id.
    pub id: String,
    /// Path of the image, relative to the image folder.
    pub image: String,
    /// The wanted part of the reference report.
    pub text: String,
}

/// Why a dataset is refused. Line numbers count from 1. Nothing of the file is quoted, neither ids nor paths nor texts: these
/// errors reach logs, and a line says as well where to look.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DatasetError {
    /// A line that is not JSON (or CSV) of the expected form.
    #[error("line {line}: {message}")]
    Form {
        /// Line of the file.
        line: u64,
        /// What is wrong with it.
        message: String,
    },
    /// A field that is missing or unusable.
    #[error("line {line}, field {field:?}: {message}")]
    Field {
        /// Line of the file.
        line: u64,
        /// Name of the field or column.
        field: String,
        /// What is wrong with it.
        message: String,
    },
    /// No sample at all.
    #[error("no samples in the file")]
    Empty,
    /// A reference is empty, and the run file says `empty_reference = "refuse"`.
    #[error(
        "line {line}: the sample has an empty reference; mend it, or set empty_reference to \"skip\" or \"keep\""
    )]
    EmptyReference {
        /// Line of the file.
        line: u64,
    },
    /// Every reference is empty.
    #[error("every sample has an empty reference: does `part` name a heading of these reports?")]
    AllEmpty,
}

/// The form of a dataset file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Jsonl,
    /// Comma-separated with a header line (RFC 4180).
    Csv,
}

impl Format {
    /// By the file's extension: `.csv` is CSV, anything else JSONL.
    pub fn of_path(path: &str) -> Format {
        match path.rsplit('.').next().is_some_and(|e| e.eq_ignore_ascii_case("csv")) {
            true => Format::Csv,
            false => Format::Jsonl,
        }
    }
}

/// Reads every sample, in the file's order.
pub fn parse(text: &str, format: Format, columns: &Columns) -> Result<Vec<Sample>, DatasetError> {
    Ok(numbered(text, format, columns)?.into_iter().map(|(_, sample)| sample).collect())
}

/// The same with each sample's line.
fn numbered(text: &str, format: Format, columns: &Columns) -> Result<Vec<(u64, Sample)>, DatasetError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let rows = match format {
        Format::Jsonl => jsonl_rows(text, columns)?,
        Format::Csv => csv_rows(text, columns)?,
    };
    let mut lines_by_id: HashMap<String, u64> = HashMap::new();
    let mut samples = Vec::with_capacity(rows.len());
    for (line, sample) in rows {
        check(line, &sample, columns)?;
        if let Some(first) = lines_by_id.insert(sample.id.clone(), line) {
            let message = format!("the same stands on line {first} already; ids must be unique");
            return Err(DatasetError::Field { line, field: columns.id.clone(), message });
        }
        if samples.len() == MAX_SAMPLES {
            let message = format!("more than {MAX_SAMPLES} samples");
            return Err(DatasetError::Form { line, message });
        }
        samples.push((line, sample));
    }
    if samples.is_empty() { Err(DatasetError::Empty) } else { Ok(samples) }
}

/// Reads the samples that count under `plan` from the dataset's text, with their references.
pub fn references(text: &str, plan: &DatasetPlan) -> Result<Vec<Reference>, DatasetError> {
    let samples = numbered(text, Format::of_path(&plan.file), &plan.columns)?;
    let mut kept = Vec::with_capacity(samples.len());
    for (line, Sample { id, image, report }) in samples {
        let text = report::extract(&report, plan.part, plan.without_part);
        if text.is_empty() {
            match plan.empty_reference {
                EmptyReference::Skip => continue,
                EmptyReference::Keep => {}
                EmptyReference::Refuse => return Err(DatasetError::EmptyReference { line }),
            }
        }
        kept.push(Reference { id, image, text });
    }
    match !plan.columns.report.is_empty() && kept.iter().all(|r| r.text.is_empty()) {
        true => Err(DatasetError::AllEmpty),
        false => Ok(kept),
    }
}

fn jsonl_rows(text: &str, columns: &Columns) -> Result<Vec<(u64, Sample)>, DatasetError> {
    let mut rows = Vec::new();
    for (line, content) in (1u64..).zip(text.lines()).filter(|(_, l)| !l.trim().is_empty()) {
        let form = |message: String| DatasetError::Form { line, message };
        let object: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(content).map_err(|e| form(not_an_object(&e)))?;
        let field = |name: &String| match object.get(name) {
            _ if name.is_empty() => Ok(String::new()),
            Some(serde_json::Value::String(s)) => Ok(s.clone()),
            Some(serde_json::Value::Number(n)) if *name == columns.id => Ok(n.to_string()),
            other => Err(DatasetError::Field {
                line,
                field: name.clone(),
                message: match other {
                    None => "missing; name the right field in [dataset] or add it".into(),
                    Some(_) => "expected a string".into(),
                },
            }),
        };
        let (id, image) = (field(&columns.id)?, field(&columns.image)?);
        rows.push((line, Sample { id, image, report: field(&columns.report)? }));
    }
    Ok(rows)
}

/// Says where, and not what: serde quotes values that are of another kind than expected.
fn not_an_object(e: &serde_json::Error) -> String {
    match e.classify() {
        serde_json::error::Category::Data => "JSON, but not an object".into(),
        serde_json::error::Category::Eof => "not a JSON object: it ends too early".into(),
        _ => format!("not a JSON object: bad syntax at column {}", e.column()),
    }
}

fn csv_rows(text: &str, columns: &Columns) -> Result<Vec<(u64, Sample)>, DatasetError> {
    let mut reader = csv::ReaderBuilder::new().from_reader(text.as_bytes());
    let form = |e: csv::Error| {
        let line = e.position().map_or(1, |p| p.line());
        let message = match e.kind() {
            csv::ErrorKind::Utf8 { .. } => "not UTF-8".into(),
            csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                format!("{len} fields, but the header has {expected_len}")
            }
            _ => "not CSV (RFC 4180)".into(),
        };
        DatasetError::Form { line, message }
    };
    let header = reader.headers().map_err(form)?.clone();
    let position = |name: &String| {
        if name.is_empty() {
            // No such column is wanted: what `get` finds there is empty.
            return Ok(usize::MAX);
        }
        header.iter().position(|h| h == name).ok_or_else(|| DatasetError::Field {
            line: 1,
            field: name.clone(),
            // What stands there may be a header, or the first patient of a file without one.
            message: format!(
                "no such column among the {} of the first line; name the right one in [dataset], or add a header",
                header.len()
            ),
        })
    };
    let [id, image, report] = [position(&columns.id)?, position(&columns.image)?, position(&columns.report)?];
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(form)?;
        let line = record.position().map_or(0, |p| p.line());
        let get = |i: usize| record.get(i).unwrap_or_default().to_string();
        rows.push((line, Sample { id: get(id), image: get(image), report: get(report) }));
    }
    Ok(rows)
}

fn check(line: u64, sample: &Sample, columns: &Columns) -> Result<(), DatasetError> {
    let fault =
        |field: &String, message: String| Err(DatasetError::Field { line, field: field.clone(), message });
    if sample.id.is_empty() || sample.id.len() > MAX_ID_BYTES {
        return fault(&columns.id, format!("expected 1 to {MAX_ID_BYTES} bytes"));
    }
    if sample.report.len() > MAX_REPORT_BYTES {
        return fault(&columns.report, format!("longer than {MAX_REPORT_BYTES} bytes"));
    }
    if !columns.image.is_empty()
        && let Err(message) = check_relative(&sample.image)
    {
        return fault(&columns.image, message);
    }
    Ok(())
}

/// Refuses paths that are empty, absolute, or leave their folder by `..`.
pub fn check_relative(path: &str) -> Result<(), String> {
    use std::path::{Component, Path};
    if path.is_empty() || path.len() > 4096 || path.contains('\0') {
        return Err("expected a relative path of 1 to 4096 bytes".into());
    }
    let inside = Path::new(path).components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    match inside {
        true => Ok(()),
        false => Err("leaves its folder; give a path below the image folder".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jsonl(text: &str) -> Result<Vec<Sample>, DatasetError> {
        parse(text, Format::Jsonl, &Columns::default())
    }

    #[test]
    fn reads_jsonl_and_csv_alike() {
        let a = jsonl("{\"id\":1,\"image\":\"i/a.png\",\"report\":\"所見\",\"more\":0}\n\n").unwrap();
        let b = parse("report,image,id\n\"所見\",i/a.png,1\n", Format::Csv, &Columns::default()).unwrap();
        assert_eq!(a, b);
        assert_eq!(a[0], Sample { id: "1".into(), image: "i/a.png".into(), report: "所見".into() });
    }

    #[test]
    fn empty_references_are_skipped_kept_or_refused() {
        let row =
            |id: &str, report: &str| format!("{{\"id\":\"{id}\",\"image\":\"x\",\"report\":\"{report}\"}}\n");
        let text = row("a", "所見: 胸水なし。") + &row("b", "印象: 異常なし");
        let plan = |empty_reference| DatasetPlan {
            file: "s.jsonl".into(),
            images: String::new(),
            columns: Columns::default(),
            part: report::Part::Findings,
            without_part: report::MissingPart::Empty,
            empty_reference,
            frame: None,
        };
        let skipped = references(&text, &plan(EmptyReference::Skip)).unwrap();
        assert_eq!(skipped.len(), 1);
        assert_eq!((skipped[0].id.as_str(), skipped[0].text.as_str()), ("a", "胸水なし。"));
        assert_eq!(references(&text, &plan(EmptyReference::Keep)).unwrap().len(), 2);
        let refused = references(&text, &plan(EmptyReference::Refuse));
        assert_eq!(refused, Err(DatasetError::EmptyReference { line: 2 }));
        let none = references(&row("b", "印象: 異常なし"), &plan(EmptyReference::Skip));
        assert_eq!(none, Err(DatasetError::AllEmpty));
    }

    #[test]
    fn names_line_and_field() {
        let row =
            |id: &str, image: &str| format!("{{\"id\":\"{id}\",\"image\":\"{image}\",\"report\":\"r\"}}\n");
        let e = jsonl(&(row("a", "x.png") + &row("a", "y.png"))).unwrap_err();
        assert_eq!(
            e.to_string(),
            "line 2, field \"id\": the same stands on line 1 already; ids must be unique"
        );
        for bad in ["../x.png", "/etc/passwd", "a/../../x.png", ""] {
            let e = jsonl(&row("a", bad)).unwrap_err();
            assert!(matches!(e, DatasetError::Field { line: 1, ref field, .. } if field == "image"), "{bad}");
        }
        assert!(matches!(jsonl("{\"id\":\"a\"}"), Err(DatasetError::Field { .. })));
        assert!(matches!(jsonl("not json"), Err(DatasetError::Form { line: 1, .. })));
        assert_eq!(jsonl("\n"), Err(DatasetError::Empty));
        let e = parse("id,image\na,b\n", Format::Csv, &Columns::default()).unwrap_err();
        assert!(e.to_string().contains("no such column"));
    }

    /// Whatever is wrong with a file, what is said of it may be logged.
    #[test]
    fn nothing_of_a_file_is_quoted() {
        let refuse = DatasetPlan {
            file: "s.jsonl".into(),
            images: String::new(),
            columns: Columns::default(),
            part: report::Part::Whole,
            without_part: report::MissingPart::Empty,
            empty_reference: EmptyReference::Refuse,
            frame: None,
        };
        let csv = DatasetPlan { file: "s.csv".into(), ..refuse.clone() };
        let row = |image: &str, report: &str| {
            format!("{{\"id\":\"SECRET\",\"image\":\"{image}\",\"report\":\"{report}\"}}\n")
        };
        for (text, plan, said) in [
            ("SECRET,SECRET.png,SECRET\n".to_string(), &csv, "among the 3 of the first line"),
            ("id,image,report\nSECRET,SECRET\n".into(), &csv, "line 2: 2 fields, but the header has 3"),
            ("\"SECRET\"\n".into(), &refuse, "line 1: JSON, but not an object"),
            ("[\"SECRET\"]\n".into(), &refuse, "line 1: JSON, but not an object"),
            ("{\"SECRET\": SECRET}\n".into(), &refuse, "line 1: not a JSON object: bad syntax at column"),
            ("{\"SECRET\": \n".into(), &refuse, "ends too early"),
            (row("a.png", "SECRET").repeat(2), &refuse, "line 2, field \"id\": the same stands on line 1"),
            (row("../SECRET.png", "SECRET"), &refuse, "line 1, field \"image\": leaves its folder"),
            (row("a.png", ""), &refuse, "line 1: the sample has an empty reference"),
        ] {
            let e = references(&text, plan).unwrap_err().to_string();
            assert!(e.contains(said) && !e.contains("SECRET"), "{e}\ndoes not say: {said}");
        }
    }
}
