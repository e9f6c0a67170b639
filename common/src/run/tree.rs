//! TOML or JSON as a tree of values that know their line, with overrides laid over it.
//!
//! serde stops at the first fault. A person who wrote a run file wants all of them at once, each with its
//! line, so the file is read into this tree and walked by [`super::reader`].

use super::fault::Fault;
use std::collections::BTreeMap;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

/// A value with the place it came from.
#[derive(Clone, Debug)]
pub struct Node {
    /// What was written.
    pub value: Value,
    /// Where.
    pub place: Place,
}

/// Where a value was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On this line, from 1.
    Line(usize),
    /// Somewhere in a text of which no lines are known.
    Text,
    /// `--set` on the command line.
    Override,
}

/// What can be written.
#[derive(Clone, Debug)]
pub enum Value {
    /// Text.
    String(String),
    /// A number without point.
    Integer(i64),
    /// Any other number.
    Float(f64),
    /// True or false.
    Boolean(bool),
    /// A list.
    Array(Vec<Node>),
    /// Values by name.
    Table(BTreeMap<String, Node>),
    /// JSON's `null`.
    Null,
    /// A date, or an integer beyond 64 bits: nothing in a run file takes one.
    Other,
}

impl Value {
    /// What it is called in messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::String(_) => "a string",
            Value::Integer(_) => "an integer",
            Value::Float(_) => "a number",
            Value::Boolean(_) => "true or false",
            Value::Array(_) => "an array",
            Value::Table(_) => "a table",
            Value::Null => "null",
            Value::Other => "a date or an oversized number",
        }
    }
}

/// Parses TOML; a syntax error is one fault with its line.
pub(super) fn parse(text: &str) -> Result<Node, Fault> {
    let table = DeTable::parse(text).map_err(|e| Fault {
        place: Some(Place::Line(line_at(text, e.span().map_or(0, |s| s.start)))),
        field: String::new(),
        message: format!("not TOML: {}", e.message()),
        remedy: "correct the syntax".into(),
    })?;
    let line = line_at(text, table.span().start);
    Ok(Node { value: convert_table(text, table.get_ref()), place: Place::Line(line) })
}

/// Parses JSON; a syntax error is one fault.
pub fn parse_json(text: &str) -> Result<Node, Fault> {
    let value: serde_json::Value = serde_json::from_str(text).map_err(|e| {
        // What Python's json writes unless told otherwise.
        let remedy = match ["NaN", "Infinity"].iter().any(|word| text.contains(word)) {
            true => "JSON has no NaN and no Infinity; say that it failed",
            false => "correct the syntax",
        };
        Fault::at("", format!("not JSON: {e}"), remedy)
    })?;
    Ok(from_json(value))
}

fn from_json(value: serde_json::Value) -> Node {
    let value = match value {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(b) => Value::Boolean(b),
        serde_json::Value::Number(n) => match (n.as_i64(), n.as_f64()) {
            (Some(i), _) => Value::Integer(i),
            (None, Some(x)) => Value::Float(x),
            (None, None) => Value::Other,
        },
        serde_json::Value::String(s) => Value::String(s),
        serde_json::Value::Array(items) => Value::Array(items.into_iter().map(from_json).collect()),
        serde_json::Value::Object(map) => {
            Value::Table(map.into_iter().map(|(k, v)| (k, from_json(v))).collect())
        }
    };
    Node { value, place: Place::Text }
}

fn line_at(text: &str, offset: usize) -> usize {
    1 + text.as_bytes()[..offset.min(text.len())].iter().filter(|b| **b == b'\n').count()
}

fn convert(text: &str, value: &Spanned<DeValue<'_>>) -> Node {
    let converted = match value.get_ref() {
        DeValue::String(s) => Value::String(s.to_string()),
        DeValue::Integer(i) => {
            i64::from_str_radix(i.as_str(), i.radix()).map_or(Value::Other, Value::Integer)
        }
        DeValue::Float(f) => f.as_str().parse().map_or(Value::Other, Value::Float),
        DeValue::Boolean(b) => Value::Boolean(*b),
        DeValue::Array(a) => convert_array(text, a),
        DeValue::Table(t) => convert_table(text, t),
        DeValue::Datetime(_) => Value::Other,
    };
    Node { value: converted, place: Place::Line(line_at(text, value.span().start)) }
}

fn convert_array(text: &str, array: &DeArray<'_>) -> Value {
    Value::Array(array.iter().map(|v| convert(text, v)).collect())
}

fn convert_table(text: &str, table: &DeTable<'_>) -> Value {
    let entry = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
        let mut node = convert(text, value);
        // The key's line is what a person looks for; a table's own span may begin elsewhere.
        node.place = Place::Line(line_at(text, key.span().start));
        let key: &std::borrow::Cow<'_, str> = key.get_ref();
        (key.to_string(), node)
    };
    Value::Table(table.iter().map(entry).collect())
}

/// Lays `path=value` over the tree. The value is read as TOML; what is not TOML is taken as a string.
pub(super) fn lay_over(root: &mut Node, assignment: &str) -> Result<(), Fault> {
    let fault = |message: String| Fault {
        place: Some(Place::Override),
        field: assignment.into(),
        message,
        remedy: "write --set search.evaluations=40".into(),
    };
    let (path, text) = assignment.split_once('=').ok_or_else(|| fault("no `=`".into()))?;
    let mut value = match parse(&format!("value = {text}")) {
        Ok(Node { value: Value::Table(mut t), .. }) => t.remove("value").expect("the key just written").value,
        _ => Value::String(text.to_string()),
    };
    mark_override(&mut value);
    let mut node = root;
    for step in path.trim().split('.') {
        node = match &mut node.value {
            Value::Table(table) => table
                .entry(step.to_string())
                .or_insert_with(|| Node { value: Value::Table(BTreeMap::new()), place: Place::Override }),
            Value::Array(items) => {
                let n = items.len();
                step.parse::<usize>().ok().and_then(|i| items.get_mut(i)).ok_or_else(|| {
                    fault(format!("{step:?} is not an index from 0 to {}", n.saturating_sub(1)))
                })?
            }
            other => return Err(fault(format!("{step:?} lies below {}", other.kind()))),
        };
    }
    *node = Node { value, place: Place::Override };
    Ok(())
}

fn mark_override(value: &mut Value) {
    let mut mark = |n: &mut Node| {
        n.place = Place::Override;
        mark_override(&mut n.value);
    };
    match value {
        Value::Array(items) => items.iter_mut().for_each(&mut mark),
        Value::Table(table) => table.values_mut().for_each(&mut mark),
        _ => {}
    }
}
