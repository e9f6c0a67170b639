//! Lexicon files as a person writes them: TOML of the built-in lexicon's form, or a CSV of terms.

use serde::Deserialize;
use toml::Spanned;

use super::{Assertion, Side};
use crate::error::{Error, Result};

/// The whole of a lexicon file; every table may be missing in a file that extends.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    #[serde(default)]
    pub finding: Vec<Finding>,
    #[serde(default)]
    pub structure: Vec<Structure>,
    #[serde(default)]
    pub statement: Vec<Statement>,
    #[serde(default)]
    pub side: Vec<SideWords>,
    #[serde(default)]
    pub zone: Vec<ZoneWords>,
    #[serde(default)]
    pub cues: Cues,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finding {
    pub id: Spanned<String>,
    pub label: Option<String>,
    pub category: Option<Spanned<String>>,
    pub located: Option<Located>,
    #[serde(default)]
    pub diagnosis: bool,
    #[serde(default)]
    pub generic: bool,
    pub terms: Vec<Spanned<String>>,
}

/// What a mention of a finding keeps of its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Located {
    /// Neither side nor zone: the heart is where it is.
    None,
    /// The side.
    Side,
    /// Side and zone.
    Zone,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Structure {
    pub terms: Vec<Spanned<String>>,
    pub normal: Vec<Spanned<String>>,
    pub ratio_above: Option<f64>,
    #[serde(default)]
    pub words: Vec<Words>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Words {
    pub terms: Vec<Spanned<String>>,
    pub finding: Spanned<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    pub terms: Vec<Spanned<String>>,
    pub finding: Spanned<String>,
    pub assertion: Assertion,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SideWords {
    pub side: Side,
    pub terms: Vec<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZoneWords {
    pub zones: Vec<String>,
    pub terms: Vec<Spanned<String>>,
}

/// The lists of words that decide; see the built-in lexicon for what each does.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cues {
    pub absent: Vec<Spanned<String>>,
    pub vanish: Vec<Spanned<String>>,
    pub uncertain: Vec<Spanned<String>>,
    pub weak_uncertain: Vec<Spanned<String>>,
    pub present: Vec<Spanned<String>>,
    pub normal: Vec<Spanned<String>>,
    pub change: Vec<Spanned<String>>,
    pub attribute: Vec<Spanned<String>>,
    pub history: Vec<Spanned<String>>,
    pub except: Vec<Spanned<String>>,
    pub before_absent: Vec<Spanned<String>>,
    pub before_uncertain: Vec<Spanned<String>>,
    pub ends_scope: Vec<Spanned<String>>,
    pub ignore: Vec<Spanned<String>>,
}

/// Reads TOML; faults carry the file's name and line.
pub fn from_toml(name: &str, text: &str) -> Result<File> {
    toml::from_str(text).map_err(|e| Error::Lexicon {
        file: name.into(),
        line: line_of(text, e.span().map_or(0, |span| span.start)),
        fault: e.message().replace('\n', " "),
        remedy: "see the comments at the head of the built-in lexicon for the form".into(),
    })
}

/// Reads a CSV with a header; columns `finding` and `term` are needed, `category`, `label` and `located` may be
/// there. One row a term; rows of one finding are joined.
pub fn from_csv(name: &str, text: &str) -> Result<File> {
    let fault = |line: usize, fault: String, remedy: &str| Error::Lexicon {
        file: name.into(),
        line,
        fault,
        remedy: remedy.into(),
    };
    let mut rows = text.trim_start_matches('\u{feff}').lines().enumerate();
    let header = rows.next().map(|(_, line)| cells(line)).unwrap_or_default();
    let known = ["finding", "term", "category", "label", "located"];
    if let Some(other) = header.iter().find(|h| !known.contains(&h.as_str())) {
        return Err(fault(
            1,
            format!("unknown column {other:?}"),
            "use finding, term, category, label, located",
        ));
    }
    let column = |name: &str| header.iter().position(|h| h == name);
    let (Some(id_at), Some(term_at)) = (column("finding"), column("term")) else {
        return Err(fault(
            1,
            "columns finding and term are missing".into(),
            "begin the file with a header row",
        ));
    };
    let mut file = File::default();
    for (index, line) in rows {
        if line.trim().is_empty() {
            continue;
        }
        let cells = cells(line);
        let get = |at: usize| cells.get(at).map(|c| c.trim().to_string()).filter(|c| !c.is_empty());
        let number = index + 1;
        // A span of the row's own offset, so that later faults can name its line too.
        let offset = line.as_ptr() as usize - text.as_ptr() as usize;
        let spanned = |value: String| Spanned::new(offset..offset + line.len(), value);
        let (Some(id), Some(term)) = (get(id_at), get(term_at)) else {
            return Err(fault(number, "finding or term is empty".into(), "fill both, or delete the row"));
        };
        let located = match column("located").and_then(get).as_deref() {
            None => None,
            Some("none") => Some(Located::None),
            Some("side") => Some(Located::Side),
            Some("zone") => Some(Located::Zone),
            Some(other) => {
                return Err(fault(number, format!("located is {other:?}"), "use none, side or zone"));
            }
        };
        file.finding.push(Finding {
            id: spanned(id),
            label: column("label").and_then(get),
            category: column("category").and_then(get).map(spanned),
            located,
            diagnosis: false,
            generic: false,
            terms: vec![spanned(term)],
        });
    }
    Ok(file)
}

/// The cells of a CSV line; a quoted cell may hold commas, and "" is a quote.
fn cells(line: &str) -> Vec<String> {
    let mut cells = vec![String::new()];
    let mut quoted = false;
    let mut chars = line.trim_end_matches('\r').chars().peekable();
    while let Some(c) = chars.next() {
        let cell = cells.last_mut().expect("there is always a last cell");
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                cell.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => cells.push(String::new()),
            c => cell.push(c),
        }
    }
    cells
}

/// Line, from 1, of a byte offset.
pub fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset.min(text.len())].iter().filter(|&&b| b == b'\n').count() + 1
}
