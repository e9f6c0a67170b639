//! Walks the tree of a run file, or of any other text that people write: typed values out, every fault noted, nothing
//! skipped.

use super::fault::Fault;
use super::tree::{Node, Place, Value};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// A table being read. Keys that nobody asked for are faults, noted by [`Section::finish`].
#[derive(Debug)]
pub struct Section<'a> {
    path: String,
    table: BTreeMap<&'a str, &'a Node>,
    asked: RefCell<Vec<String>>,
    place: Option<Place>,
    faults: &'a RefCell<Vec<Fault>>,
}

impl<'a> Section<'a> {
    /// A table at a dotted path, where there is one; anything else there is a fault.
    pub fn new(path: &str, node: Option<&'a Node>, faults: &'a RefCell<Vec<Fault>>) -> Section<'a> {
        let mut section = Section {
            path: path.into(),
            table: BTreeMap::new(),
            asked: RefCell::default(),
            place: node.map(|n| n.place),
            faults,
        };
        match node.map(|n| &n.value) {
            Some(Value::Table(t)) => section.table = t.iter().map(|(k, v)| (k.as_str(), v)).collect(),
            Some(other) => {
                let message = format!("expected a table, found {}", other.kind());
                section.note(None, message, format!("write it as [{path}]"));
            }
            None => {}
        }
        section
    }

    fn field(&self, key: &str) -> String {
        if self.path.is_empty() { key.into() } else { format!("{}.{key}", self.path) }
    }

    /// Notes a fault of a key (or of the table itself).
    pub fn note(&self, key: Option<&str>, message: impl Into<String>, remedy: impl Into<String>) {
        let place = key.and_then(|k| self.table.get(k)).map(|n| n.place).or(self.place);
        let field = key.map_or(self.path.clone(), |k| self.field(k));
        self.faults.borrow_mut().push(Fault { place, field, message: message.into(), remedy: remedy.into() });
    }

    /// The value of a key, whatever it is.
    pub fn get(&self, key: &str) -> Option<&'a Node> {
        let mut asked = self.asked.borrow_mut();
        if !asked.iter().any(|a| a == key) {
            asked.push(key.into());
        }
        self.table.get(key).copied()
    }

    /// Whether the key is there.
    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// The keys that are there, in order.
    pub fn keys(&self) -> impl Iterator<Item = &'a str> + '_ {
        self.table.keys().copied()
    }

    /// A table in the table, empty where there is none.
    pub fn section(&self, key: &str) -> Section<'a> {
        let mut section = Section::new(&self.field(key), self.get(key), self.faults);
        section.place = section.place.or(self.place);
        section
    }

    /// The tables of an array of tables.
    pub fn sections(&self, key: &str) -> Vec<Section<'a>> {
        match self.get(key).map(|n| &n.value) {
            Some(Value::Array(items)) => items
                .iter()
                .enumerate()
                .map(|(i, n)| Section::new(&format!("{}[{i}]", self.field(key)), Some(n), self.faults))
                .collect(),
            Some(other) => {
                let message = format!("expected an array of tables, found {}", other.kind());
                self.note(Some(key), message, format!("write each as [[{}]]", self.field(key)));
                Vec::new()
            }
            None => Vec::new(),
        }
    }

    fn mismatch(&self, key: &str, expected: &str, found: &Value, example: &str) {
        let message = format!("expected {expected}, found {}", found.kind());
        self.note(Some(key), message, format!("for example {key} = {example}"));
    }

    fn require<T>(&self, key: &str, value: Option<T>, example: &str) -> Option<T> {
        if value.is_none() && !self.has(key) {
            self.note(Some(key), "missing", format!("add {key} = {example}"));
        }
        value
    }

    /// A string that is not blank.
    pub fn string(&self, key: &str, example: &str) -> Option<String> {
        match self.get(key).map(|n| &n.value) {
            Some(Value::String(s)) if s.trim().is_empty() => {
                self.note(Some(key), "empty", format!("for example {key} = {example}"));
                None
            }
            Some(Value::String(s)) => Some(s.clone()),
            Some(other) => {
                self.mismatch(key, "a string", other, example);
                None
            }
            None => None,
        }
    }

    /// The same, whose absence is a fault.
    pub fn required_string(&self, key: &str, example: &str) -> Option<String> {
        let value = self.string(key, example);
        self.require(key, value, example)
    }

    /// An array of strings.
    pub fn strings(&self, key: &str, example: &str) -> Option<Vec<String>> {
        let items = match self.get(key).map(|n| &n.value)? {
            Value::Array(items) => items,
            other => {
                self.mismatch(key, "an array of strings", other, example);
                return None;
            }
        };
        let string = |n: &Node| match &n.value {
            Value::String(s) => Some(s.clone()),
            other => {
                self.mismatch(key, "strings only", other, example);
                None
            }
        };
        items.iter().map(string).collect()
    }

    /// True or false.
    pub fn boolean(&self, key: &str) -> Option<bool> {
        match self.get(key).map(|n| &n.value) {
            Some(Value::Boolean(b)) => Some(*b),
            Some(other) => {
                self.mismatch(key, "true or false", other, "true");
                None
            }
            None => None,
        }
    }

    /// An integer in a range.
    pub fn integer(&self, key: &str, range: RangeInclusive<u64>, example: &str) -> Option<u64> {
        match self.get(key).map(|n| &n.value) {
            Some(Value::Integer(i)) => match u64::try_from(*i).ok().filter(|i| range.contains(i)) {
                Some(i) => Some(i),
                None => {
                    let message = format!("{i} is not from {} to {}", range.start(), range.end());
                    self.note(Some(key), message, format!("for example {key} = {example}"));
                    None
                }
            },
            Some(other) => {
                self.mismatch(key, "an integer", other, example);
                None
            }
            None => None,
        }
    }

    /// The same, whose absence is a fault.
    pub fn required_integer(&self, key: &str, range: RangeInclusive<u64>, example: &str) -> Option<u64> {
        let value = self.integer(key, range, example);
        self.require(key, value, example)
    }

    /// A number in a range; integers are numbers.
    pub fn number(&self, key: &str, range: RangeInclusive<f64>, example: &str) -> Option<f64> {
        let value = match self.get(key).map(|n| &n.value) {
            Some(Value::Float(x)) => *x,
            Some(Value::Integer(i)) => *i as f64,
            Some(other) => {
                self.mismatch(key, "a number", other, example);
                return None;
            }
            None => return None,
        };
        if !range.contains(&value) {
            let message = format!("{value} is not from {} to {}", range.start(), range.end());
            self.note(Some(key), message, format!("for example {key} = {example}"));
            return None;
        }
        Some(value)
    }

    /// One of a few words.
    pub fn choice<T: Copy>(&self, key: &str, choices: &[(&str, T)], default: T) -> T {
        let words = || choices.iter().map(|(w, _)| format!("{w:?}")).collect::<Vec<_>>().join(", ");
        match self.get(key).map(|n| &n.value) {
            None => default,
            Some(Value::String(s)) => match choices.iter().find(|(w, _)| w == s) {
                Some((_, value)) => *value,
                None => {
                    let message = format!("{s:?} is not known");
                    self.note(Some(key), message, format!("choose one of {}", words()));
                    default
                }
            },
            Some(other) => {
                self.mismatch(key, "a string", other, &format!("{:?}", choices[0].0));
                default
            }
        }
    }

    /// Notes every key that was never asked for, with the nearest known name.
    pub fn finish(&self) {
        let asked = self.asked.borrow();
        for key in self.table.keys().filter(|k| !asked.iter().any(|a| a == *k)) {
            let nearest = asked.iter().map(|a| (edit_distance(a, key), a)).min();
            let remedy = match nearest {
                Some((d, name)) if d <= 1 + key.len() / 4 => format!("did you mean {name}?"),
                _ if asked.is_empty() => "remove it".into(),
                _ => format!("remove it; known here: {}", asked.join(", ")),
            };
            self.note(Some(key), "unknown key", remedy);
        }
    }
}

/// Levenshtein distance over bytes.
pub(crate) fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
