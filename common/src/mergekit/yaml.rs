//! YAML as a tree of values that know their line.
//!
//! The syntax is YAML 1.2's, the meaning of plain words and numbers is YAML 1.1's as PyYAML reads it (`yes` and `off`
//! are truth values, `1e-3` is text), because that is what mergekit reads its files with. Merge keys (`<<`) work.
//! Nothing is ever executed: tags other than `!!str` are refused, and so is a file whose aliases stand for more than
//! [`NODES`] values or [`TEXT_BYTES`] of text.

use crate::run::Fault;
use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// Largest file, in bytes.
pub const BYTES: usize = 1 << 20;
/// Most values, each alias counted with everything that it stands for.
pub const NODES: usize = 100_000;
/// Most text, each alias counted with everything that it stands for: a long text may be meant by many short aliases.
pub const TEXT_BYTES: usize = 16 << 20;
/// Deepest nesting.
const DEPTH: usize = 32;

/// A value and the line that it begins on.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub value: Value,
    pub line: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    /// In the order of the file.
    Map(Vec<(String, Node)>),
}

impl Value {
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Null => "nothing",
            Value::Bool(_) => "true or false",
            Value::Int(_) => "a whole number",
            Value::Float(_) => "a number",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}

/// Reads the one document of a file.
pub(super) fn parse(text: &str) -> Result<Node, Fault> {
    if text.len() > BYTES {
        let message = format!("{} bytes are more than the {BYTES} that a configuration may have", text.len());
        return Err(Fault::at("", message, "give a mergekit configuration"));
    }
    let mut reader = Reader {
        parser: Parser::new_from_str(text),
        anchors: BTreeMap::new(),
        size: Size::default(),
        kept: Size::default(),
        depth: 0,
    };
    let mut document = None;
    while let Some(event) = reader.parser.next_event() {
        match event.map_err(syntax)? {
            (Event::StreamStart | Event::DocumentEnd | Event::Nothing | Event::StreamEnd, _) => {}
            (Event::DocumentStart(_), span) if document.is_some() => {
                return Err(fault(span, "a second document begins", "keep one configuration a file"));
            }
            (Event::DocumentStart(_), _) => {
                let (event, span) = reader.next()?;
                document = Some(reader.node(event, span)?);
            }
            (_, span) => return Err(fault(span, "not a document", "correct the syntax")),
        }
    }
    document.ok_or_else(|| Fault::at("", "the file is empty", "give a mergekit configuration"))
}

/// How much values take, aliases counted with what they stand for.
#[derive(Clone, Copy, Default)]
struct Size {
    nodes: usize,
    text: usize,
}

struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    anchors: BTreeMap<usize, (Node, Size)>,
    /// Of everything so far.
    size: Size,
    /// Of what is kept for aliases to come.
    kept: Size,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), Fault> {
        match self.parser.next_event() {
            Some(event) => event.map_err(syntax),
            None => Err(Fault::at("", "the file ends too early", "complete it")),
        }
    }

    /// Counts what is about to be kept.
    fn count(&mut self, more: Size, span: Span) -> Result<(), Fault> {
        self.size.nodes += more.nodes;
        self.size.text += more.text;
        let what = if self.size.nodes + self.kept.nodes > NODES {
            format!("{NODES} values")
        } else if self.size.text + self.kept.text > TEXT_BYTES {
            format!("{TEXT_BYTES} bytes of text")
        } else {
            return Ok(());
        };
        let message = format!("more than {what}, aliases counted with what they stand for");
        Err(fault(span, message, "write a smaller configuration"))
    }

    fn node(&mut self, event: Event<'a>, span: Span) -> Result<Node, Fault> {
        let before = self.size;
        let text = if let Event::Scalar(text, ..) = &event { text.len() } else { 0 };
        self.count(Size { nodes: 1, text }, span)?;
        let line = span.start.line();
        let (value, anchor) = match event {
            Event::Alias(anchor) => {
                // An alias within its own anchor is not known yet, so there are no cycles.
                let Some(size) = self.anchors.get(&anchor).map(|(_, size)| *size) else {
                    return Err(fault(span, "an alias of something that is not complete", "write it out"));
                };
                self.count(size, span)?;
                return Ok(Node { line, value: self.anchors[&anchor].0.value.clone() });
            }
            Event::Scalar(text, style, anchor, tag) => {
                let value = match tag {
                    Some(tag) if tag.is_yaml_core_schema() && tag.suffix == "str" => {
                        Value::Text(text.into_owned())
                    }
                    Some(tag) => return Err(tagged(span, &tag.handle, &tag.suffix)),
                    None if style == ScalarStyle::Plain => plain(text),
                    None => Value::Text(text.into_owned()),
                };
                (value, anchor)
            }
            Event::SequenceStart(_, Some(tag)) | Event::MappingStart(_, Some(tag)) => {
                return Err(tagged(span, &tag.handle, &tag.suffix));
            }
            Event::SequenceStart(anchor, None) => (self.nested(span, Reader::list)?, anchor),
            Event::MappingStart(anchor, None) => (self.nested(span, Reader::map)?, anchor),
            _ => return Err(fault(span, "not a value", "correct the syntax")),
        };
        let node = Node { value, line };
        if anchor > 0 {
            let Size { nodes, text } = self.size;
            let size = Size { nodes: nodes - before.nodes, text: text - before.text };
            // Anchors may lie within one another, and each keeps all that is in it.
            self.kept.nodes += size.nodes;
            self.kept.text += size.text;
            self.count(Size::default(), span)?;
            self.anchors.insert(anchor, (node.clone(), size));
        }
        Ok(node)
    }

    fn nested(
        &mut self,
        span: Span,
        read: impl FnOnce(&mut Self) -> Result<Value, Fault>,
    ) -> Result<Value, Fault> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(fault(span, format!("nested deeper than {DEPTH}"), "write it flatter"));
        }
        let value = read(self)?;
        self.depth -= 1;
        Ok(value)
    }

    fn list(&mut self) -> Result<Value, Fault> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::List(items)),
                (event, span) => items.push(self.node(event, span)?),
            }
        }
    }

    fn map(&mut self) -> Result<Value, Fault> {
        let mut own: Vec<(String, Node)> = Vec::new();
        let mut merged = Merged::default();
        let mut seen = BTreeSet::new();
        loop {
            let (key, span) = match self.next()? {
                (Event::MappingEnd, _) => break,
                (Event::Scalar(key, ..), span) => (key.into_owned(), span),
                (_, span) => return Err(fault(span, "a key that is not plain text", "give it a name")),
            };
            self.count(Size { nodes: 1, text: key.len() }, span)?;
            let (event, value_span) = self.next()?;
            let value = self.node(event, value_span)?;
            if key == "<<" {
                merged.add(value)?;
            } else if !seen.insert(key.clone()) {
                return Err(fault(span, format!("{key} is given twice"), "keep one of them"));
            } else {
                own.push((key, value));
            }
        }
        own.extend(merged.entries.into_iter().filter(|(key, _)| !seen.contains(key)));
        Ok(Value::Map(own))
    }
}

/// What merge keys name: of two entries of one key, the earlier counts.
#[derive(Default)]
struct Merged {
    entries: Vec<(String, Node)>,
    known: BTreeSet<String>,
}

impl Merged {
    fn add(&mut self, value: Node) -> Result<(), Fault> {
        match value.value {
            Value::Map(entries) => {
                for (key, node) in entries {
                    if self.known.insert(key.clone()) {
                        self.entries.push((key, node));
                    }
                }
                Ok(())
            }
            Value::List(items) => items.into_iter().try_for_each(|item| self.add(item)),
            other => Err(Fault::on_line(
                value.line,
                "<<",
                format!("expected a mapping, found {}", other.kind()),
                "name an anchored mapping, as in <<: *common",
            )),
        }
    }
}

/// What a plain scalar stands for, by the rules of YAML 1.1 as PyYAML applies them. Numbers in base 60 stay text.
fn plain(text: Cow<'_, str>) -> Value {
    match text.as_ref() {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => return Value::Bool(true),
        "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Value::Bool(false);
        }
        _ => {}
    }
    match integer(&text).map(Value::Int).or_else(|| float(&text).map(Value::Float)) {
        Some(number) => number,
        None => Value::Text(text.into_owned()),
    }
}

fn integer(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'b', ..] => (2, &digits[2..]),
        [b'0', b'x', ..] => (16, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        [b'0'..=b'9', ..] => (10, digits),
        _ => return None,
    };
    // A sign within the digits is not one.
    let digits: String = digits.chars().filter(|c| *c != '_').collect();
    let value =
        digits.chars().all(|c| c.is_digit(radix)).then(|| i64::from_str_radix(&digits, radix).ok())??;
    Some(if negative { -value } else { value })
}

fn float(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let sign = if text.starts_with('-') { -1.0 } else { 1.0 };
    match unsigned {
        ".inf" | ".Inf" | ".INF" => return Some(sign * f64::INFINITY),
        ".nan" | ".NaN" | ".NAN" if unsigned == text => return Some(f64::NAN),
        _ => {}
    }
    // A point is required, and so is the exponent's sign.
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let (whole, part) = mantissa.split_once('.')?;
    let digits = |s: &str| s.chars().all(|c| c.is_ascii_digit() || c == '_');
    let begins = |s: &str| s.starts_with(|c: char| c.is_ascii_digit());
    let sound = digits(whole) && digits(part) && (begins(whole) || (whole.is_empty() && begins(part)));
    let signed = |e: &str| {
        e.strip_prefix(['-', '+']).is_some_and(|d| !d.is_empty() && d.chars().all(|c| c.is_ascii_digit()))
    };
    if !sound || !exponent.is_none_or(signed) {
        return None;
    }
    text.replace('_', "").parse().ok()
}

fn fault(span: Span, message: impl Into<String>, remedy: &str) -> Fault {
    Fault::on_line(span.start.line(), "", message, remedy)
}

fn tagged(span: Span, handle: &str, suffix: &str) -> Fault {
    let message = format!("the tag {handle}{suffix} asks for more than plain values");
    fault(span, message, "remove it; a configuration is only data here")
}

fn syntax(e: saphyr_parser::ScanError) -> Fault {
    Fault::on_line(e.marker().line(), "", format!("not YAML: {}", e.info()), "correct the syntax")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Value {
        parse(text).unwrap().value
    }

    /// The values are what PyYAML 6 `safe_load` gives.
    #[test]
    fn plain_scalars_mean_what_pyyaml_says() {
        let cases = [
            ("1", Value::Int(1)),
            ("-12", Value::Int(-12)),
            ("1_000", Value::Int(1000)),
            ("010", Value::Int(8)),
            ("0x1F", Value::Int(31)),
            ("0b101", Value::Int(5)),
            ("0", Value::Int(0)),
            ("08", Value::Text("08".into())),
            ("1.5", Value::Float(1.5)),
            ("1.", Value::Float(1.0)),
            (".5", Value::Float(0.5)),
            ("-.5", Value::Float(-0.5)),
            ("1.0e-3", Value::Float(0.001)),
            ("1.0e3", Value::Text("1.0e3".into())),
            ("1e-3", Value::Text("1e-3".into())),
            ("yes", Value::Bool(true)),
            ("OFF", Value::Bool(false)),
            ("y", Value::Text("y".into())),
            ("~", Value::Null),
            ("'1'", Value::Text("1".into())),
            ("!!str 1", Value::Text("1".into())),
            ("owner/name@main", Value::Text("owner/name@main".into())),
        ];
        for (text, expected) in cases {
            assert_eq!(value(text), expected, "{text}");
        }
        assert_eq!(value("-.inf"), Value::Float(f64::NEG_INFINITY));
    }

    #[test]
    fn lines_anchors_and_merge_keys() {
        let node = parse("a: &x {p: 1, q: 2}\nb:\n  <<: *x\n  q: 3\nc: *x\n").unwrap();
        let Value::Map(entries) = &node.value else { panic!() };
        assert_eq!(entries.iter().map(|(_, n)| n.line).collect::<Vec<_>>(), [1, 3, 5]);
        let Value::Map(b) = &entries[1].1.value else { panic!() };
        let b: Vec<_> = b.iter().map(|(k, n)| (k.as_str(), n.value.clone())).collect();
        assert_eq!(b, [("q", Value::Int(3)), ("p", Value::Int(1))]);
        assert_eq!(entries[2].1.value, entries[0].1.value);
    }

    #[test]
    fn refuses_what_is_not_plain_data() {
        let refused = |text: &str| parse(text).unwrap_err().message;
        assert!(refused("a: !!python/object/apply:os.system ['x']").contains("tag"));
        assert!(refused("a: !x 1").contains("tag"));
        assert!(refused("a: 1\na: 2").contains("a is given twice"));
        assert!(refused("a: 1\n---\nb: 2").contains("second document"));
        assert!(refused("a: [1, 2").contains("not YAML"));
        assert!(refused("[1]: 2").contains("key"));
        assert!(refused("a: &a [*a]").contains("alias"));
        assert!(refused(&format!("{}{}", "[".repeat(40), "]".repeat(40))).contains("nested deeper"));
        assert!(refused("").contains("empty"));
        // Each level stands for ten of the level before: 10^8 values in nine lines.
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for i in 1..8 {
            let aliases = vec![format!("*a{}", i - 1); 10].join(", ");
            bomb.push_str(&format!("a{i}: &a{i} [{aliases}]\n"));
        }
        assert!(refused(&bomb).contains("more than 100000 values"));
        // The same anchored on every level, so that what is kept to be repeated would add up.
        let nested: String = (0..30).map(|i| format!("&n{i} [")).collect();
        let values = vec!["x"; 10_000].join(", ");
        let anchored = format!("a: {nested}{values}{}", "]".repeat(30));
        assert!(refused(&anchored).contains("more than 100000 values"));
        // One long text, meant a hundred thousand times: fifty gigabytes in one megabyte.
        let long = format!("a: &a {}\nb: [{}*a]\n", "x".repeat(500_000), "*a,".repeat(90_000));
        assert!(refused(&long).contains("bytes of text"));
        // Deep nesting is refused where it begins to be deep, whatever else would come.
        for opening in ["[", "{a: ", "- ", "? "] {
            let deep = opening.repeat(BYTES / opening.len());
            let refused = parse(&deep).unwrap_err().message;
            let said = ["nested deeper", "key", "recursion limit"].iter().any(|why| refused.contains(why));
            assert!(said, "{opening:?}: {refused}");
        }
    }
}
