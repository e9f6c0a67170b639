//! What `jradievo optimize` searches: any space and any objectives, written by a person in TOML or JSON.
//!
//! ```toml
//! seed = 1
//! objectives = { accuracy = "maximize", seconds = "minimize" }   # left out: one, called "value"
//! start = [ { rate = 0.01, layers = 4, kind = "adam" } ]
//!
//! [search]
//! algorithm = "nsga-ii"
//!
//! [space]
//! rate = { low = 1e-5, high = 0.1, log = true }
//! layers = { low = 1, high = 8, integer = true }
//! kind = { values = ["adam", "sgd"] }
//! batch = 32
//! ```
//!
//! Nothing here knows of coordinates: the search does.

use super::fault::{Fault, Faults};
use super::reader::Section;
use super::search::{self, SearchPlan};
use super::tree::{self, Node, Value};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;

/// Evaluations where the file names none.
const EVALUATIONS: u64 = 1000;
/// Bounds that leave room for arithmetic.
const LARGEST: f64 = 1e300;

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Larger.
    Maximize,
    /// Smaller.
    Minimize,
}

/// One value of a parameter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Scalar {
    /// True or false.
    Boolean(bool),
    /// An integer.
    Integer(i64),
    /// Any other number.
    Float(f64),
    /// Text.
    Text(String),
}

/// What a parameter may be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Range {
    /// Always this.
    Fixed(Scalar),
    /// Every number between the bounds.
    Real {
        /// Least value.
        low: f64,
        /// Largest value.
        high: f64,
        /// Whether steps are factors.
        log: bool,
    },
    /// Every integer from `low` to `high`.
    Integer {
        /// Least value.
        low: i64,
        /// Largest value.
        high: i64,
        /// Whether steps are factors.
        log: bool,
    },
    /// One of these, in no order.
    Values(Vec<Scalar>),
}

/// A space, its objectives and how it is searched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StudyPlan {
    /// Seed of the search's random stream.
    pub seed: u64,
    /// Names and directions, at least one.
    pub objectives: Vec<(String, Direction)>,
    /// Names and ranges, in the order of the names.
    pub space: Vec<(String, Range)>,
    /// How it is searched.
    pub search: SearchPlan,
    /// Points to begin with: a value for every searched parameter, in the order of `space`.
    pub start: Vec<Vec<Scalar>>,
}

impl Scalar {
    /// The value of a node; `None` for lists, tables and nothing.
    pub fn of(node: &Node) -> Option<Scalar> {
        Some(match &node.value {
            Value::Boolean(b) => Scalar::Boolean(*b),
            Value::Integer(i) => Scalar::Integer(*i),
            Value::Float(x) if x.is_finite() => Scalar::Float(*x),
            Value::String(s) => Scalar::Text(s.clone()),
            _ => return None,
        })
    }
}

/// Reads a space. `minimize` is the direction of its one objective where the file names none.
pub fn parse(name: &str, text: &str, overrides: &[String], minimize: bool) -> Result<StudyPlan, Faults> {
    let refuse = |faults| Faults { file: name.to_string(), faults };
    let root = match text.trim_start().starts_with('{') {
        true => tree::parse_json(text),
        false => tree::parse(text),
    };
    let mut root = root.map_err(|f| refuse(vec![f]))?;
    let faults = RefCell::new(Vec::new());
    for assignment in overrides {
        if let Err(fault) = tree::lay_over(&mut root, assignment) {
            faults.borrow_mut().push(fault);
        }
    }
    let section = Section::new("", Some(&root), &faults);
    let plan = read(&section, minimize);
    section.finish();
    let mut faults: Vec<Fault> = faults.take();
    faults.sort_by_key(|f| f.line().unwrap_or(usize::MAX));
    match plan {
        Some(plan) if faults.is_empty() => Ok(plan),
        _ => Err(refuse(faults)),
    }
}

fn read(root: &Section<'_>, minimize: bool) -> Option<StudyPlan> {
    let seed = root.integer("seed", 0..=u64::MAX >> 1, "1").unwrap_or(0);
    let objectives = read_objectives(root, minimize);
    let section = root.section("space");
    let space = read_space(&section);
    section.finish();
    let searched = space.iter().filter(|(_, r)| !matches!(r, Range::Fixed(_))).count();
    let section = root.section("search");
    if section.has("hours") {
        section.note(Some("hours"), "is for runs alone", "stop asking when the time is over");
    }
    let search = search::read(&section, searched, Some(EVALUATIONS), None);
    if let Some(search) = &search
        && objectives.len() > 1
        && !search.algorithm.takes_several_objectives()
    {
        let message =
            format!("{} searches for one objective, not {}", search.algorithm.name(), objectives.len());
        section.note(Some("algorithm"), message, "set algorithm = \"nsga-ii\"");
    }
    let starts = root.sections("start");
    let start = starts.iter().filter_map(|s| {
        let point = read_point(s, &space);
        s.finish();
        point
    });
    let start = start.collect();
    Some(StudyPlan { seed, objectives, space, search: search?, start })
}

fn read_objectives(root: &Section<'_>, minimize: bool) -> Vec<(String, Direction)> {
    if !root.has("objectives") {
        root.get("objectives");
        return vec![("value".into(), if minimize { Direction::Minimize } else { Direction::Maximize })];
    }
    let section = root.section("objectives");
    if minimize {
        let remedy = "leave out --minimize: the directions stand here";
        section.note(None, "the directions are given twice", remedy);
    }
    let directions = [("maximize", Direction::Maximize), ("minimize", Direction::Minimize)];
    let read = |k: &str| (k.to_string(), section.choice(k, &directions, Direction::Maximize));
    let objectives: Vec<_> = section.keys().map(read).collect();
    if objectives.is_empty() {
        section.note(None, "no objective", "write objectives = { accuracy = \"maximize\" }");
    }
    objectives
}

fn read_space(section: &Section<'_>) -> Vec<(String, Range)> {
    let names: Vec<&str> = section.keys().collect();
    if names.is_empty() {
        section.note(None, "no parameter", "add [space] with lines like x = { low = 0.0, high = 1.0 }");
    }
    names.into_iter().filter_map(|name| Some((name.to_string(), read_range(section, name)?))).collect()
}

fn read_range(section: &Section<'_>, name: &str) -> Option<Range> {
    let node = section.get(name)?;
    if !matches!(node.value, Value::Table(_)) {
        let fixed = Scalar::of(node).map(Range::Fixed);
        if fixed.is_none() {
            let message = format!("expected a range or a fixed value, found {}", node.value.kind());
            section.note(Some(name), message, format!("for example {name} = {{ low = 0.0, high = 1.0 }}"));
        }
        return fixed;
    }
    let table = section.section(name);
    let range = if table.has("values") { read_values(&table) } else { read_bounds(&table) };
    table.finish();
    range
}

fn read_values(table: &Section<'_>) -> Option<Range> {
    let node = table.get("values")?;
    let example = "for example values = [\"adam\", \"sgd\"]";
    let Value::Array(items) = &node.value else {
        table.note(Some("values"), format!("expected a list, found {}", node.value.kind()), example);
        return None;
    };
    let values: Option<Vec<Scalar>> = items.iter().map(Scalar::of).collect();
    let Some(values) = values.filter(|v| !v.is_empty()) else {
        table.note(Some("values"), "needs texts, numbers, true or false, at least one", example);
        return None;
    };
    if (1..values.len()).any(|i| values[..i].contains(&values[i])) {
        table.note(Some("values"), "holds a value twice", "name each once");
    }
    Some(Range::Values(values))
}

fn read_bounds(table: &Section<'_>) -> Option<Range> {
    for key in ["low", "high"] {
        if !table.has(key) {
            table.get(key);
            table.note(Some(key), "missing", format!("add {key}, or values = [...] for a choice"));
        }
    }
    let low = table.number("low", -LARGEST..=LARGEST, "0.0");
    let high = table.number("high", -LARGEST..=LARGEST, "1.0");
    let log = table.boolean("log").unwrap_or(false);
    let integer = table.boolean("integer").unwrap_or(false);
    let (low, high) = (low?, high?);
    if low >= high {
        table.note(
            None,
            format!("low = {low} is not below high = {high}"),
            "or write one plain value to fix it",
        );
    }
    if log && low <= 0.0 {
        table.note(Some("low"), format!("{low} has no logarithm"), "give low > 0, or remove log");
    }
    if !integer {
        return Some(Range::Real { low, high, log });
    }
    // Beyond, not every integer is a number of its own; and the values are counted.
    let whole = |x: f64| x.fract() == 0.0 && x.abs() <= 2f64.powi(52);
    if !whole(low) || !whole(high) || high - low >= f64::from(u32::MAX) {
        table.note(None, "bounds of integers are integers, less than 2^32 apart", "round them");
    }
    Some(Range::Integer { low: low as i64, high: high as i64, log })
}

/// Reads a value for every searched parameter. Fixed ones may stand there too, as they are.
pub fn read_point(section: &Section<'_>, space: &[(String, Range)]) -> Option<Vec<Scalar>> {
    let mut point = Vec::new();
    let mut complete = true;
    for (name, range) in space {
        let value = section.get(name).map(|node| (Scalar::of(node), node));
        let fault = match (range, &value) {
            (Range::Fixed(_), None) => continue,
            (_, None) => Some(("missing".to_string(), format!("add {name}: {}", describe(range)))),
            (_, Some((value, node))) => match value.clone().and_then(|v| fit(range, v)) {
                Some(_) if matches!(range, Range::Fixed(_)) => continue,
                Some(value) => {
                    point.push(value);
                    None
                }
                None => {
                    let found = value.as_ref().map_or(node.value.kind().to_string(), shown);
                    Some((format!("{found} is not in its range"), format!("give {}", describe(range))))
                }
            },
        };
        if let Some((message, remedy)) = fault {
            section.note(Some(name), message, remedy);
            complete = false;
        }
    }
    complete.then_some(point)
}

/// The value as the range holds it, where it is one of its values.
fn fit(range: &Range, value: Scalar) -> Option<Scalar> {
    let number = match value {
        Scalar::Integer(i) => Some(i as f64),
        Scalar::Float(x) => Some(x),
        _ => None,
    };
    match range {
        Range::Fixed(fixed) => (equal(fixed, &value)).then(|| fixed.clone()),
        Range::Values(values) => values.iter().find(|v| equal(v, &value)).cloned(),
        Range::Real { low, high, .. } => number.filter(|x| (*low..=*high).contains(x)).map(Scalar::Float),
        Range::Integer { low, high, .. } => number
            .filter(|x| x.fract() == 0.0 && (*low as f64..=*high as f64).contains(x))
            .map(|x| Scalar::Integer(x as i64)),
    }
}

/// 1 and 1.0 are one value, since JSON's writers do not tell them apart.
fn equal(a: &Scalar, b: &Scalar) -> bool {
    match (a, b) {
        (Scalar::Integer(i), Scalar::Float(x)) | (Scalar::Float(x), Scalar::Integer(i)) => *i as f64 == *x,
        _ => a == b,
    }
}

fn shown(value: &Scalar) -> String {
    serde_json::to_string(value).expect("a scalar is JSON")
}

/// The range in words.
fn describe(range: &Range) -> String {
    match range {
        Range::Fixed(value) => shown(value),
        Range::Real { low, high, .. } => format!("a number from {low} to {high}"),
        Range::Integer { low, high, .. } => format!("an integer from {low} to {high}"),
        Range::Values(values) => {
            format!("one of {}", values.iter().map(shown).collect::<Vec<_>>().join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOML: &str = r#"
seed = 1
objectives = { accuracy = "maximize", seconds = "minimize" }
start = [ { rate = 0.01, layers = 4, kind = "adam", batch = 32 } ]
[search]
algorithm = "nsga-ii"
[space]
rate = { low = 1e-5, high = 0.1, log = true }
layers = { low = 1, high = 8, integer = true }
kind = { values = ["adam", "sgd"] }
batch = 32
"#;

    #[test]
    fn toml_and_json_say_the_same() {
        let plan = parse("a", TOML, &[], false).unwrap();
        let names: Vec<&str> = plan.space.iter().map(|(n, _)| n.as_str()).collect();
        assert_eq!(names, ["batch", "kind", "layers", "rate"]);
        assert_eq!(plan.start, [[Scalar::Text("adam".into()), Scalar::Integer(4), Scalar::Float(0.01)]]);
        assert_eq!(plan.search.evaluations, EVALUATIONS);
        let json = r#"{"seed": 1, "objectives": {"accuracy": "maximize", "seconds": "minimize"},
            "start": [{"rate": 0.01, "layers": 4.0, "kind": "adam"}], "search": {"algorithm": "nsga-ii"},
            "space": {"rate": {"low": 1e-5, "high": 0.1, "log": true}, "kind": {"values": ["adam", "sgd"]},
                      "layers": {"low": 1, "high": 8, "integer": true}, "batch": 32}}"#;
        assert_eq!(parse("b", json, &[], false).unwrap(), plan);
        let text = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<StudyPlan>(&text).unwrap(), plan);
    }

    #[test]
    fn every_fault_is_named_with_its_remedy() {
        let bad = TOML
            .replace("log = true", "log = true, logs = 1")
            .replace("low = 1e-5", "low = 0")
            .replace("layers = 4", "layers = 4.5")
            .replace("nsga-ii", "tpe")
            .replace("batch = 32\n", "batch = []\n");
        let message = parse("space.toml", &bad, &["search.hours=2".into()], true).unwrap_err().to_string();
        for expected in [
            "space.toml:8: space.rate.logs: unknown key (did you mean log?)",
            "space.rate.low: 0 has no logarithm",
            "start[0].layers: 4.5 is not in its range (give an integer from 1 to 8)",
            "search.algorithm: tpe searches for one objective, not 2 (set algorithm = \"nsga-ii\")",
            "space.batch: expected a range or a fixed value, found an array",
            "search.hours: is for runs alone",
            "objectives: the directions are given twice",
        ] {
            assert!(message.contains(expected), "{expected:?} not in {message}");
        }
    }

    #[test]
    fn one_objective_is_maximised_unless_told() {
        let text = "space = { x = { low = 0, high = 1 } }";
        let direction = |minimize| parse("s", text, &[], minimize).unwrap().objectives[0].clone();
        assert_eq!(direction(false), ("value".into(), Direction::Maximize));
        assert_eq!(direction(true), ("value".into(), Direction::Minimize));
    }
}
