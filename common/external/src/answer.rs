//! What a line of a command may say. Nothing past this module meets a score that did not pass it.

use crate::fault::Trouble;
use common::dataset::MAX_REPORT_BYTES;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// What is said of one sample.
#[derive(Debug, PartialEq)]
pub(crate) struct Scored {
    /// The sample, where the answer names it.
    pub sample: Option<String>,
    /// Score name → value; the names asked for, each once.
    pub scores: BTreeMap<String, f64>,
    /// The text that a report stands for, where an evaluator gives one.
    pub text: Option<String>,
}

/// What a whole line says.
#[derive(Debug, PartialEq)]
pub(crate) enum Answer {
    /// Of one sample, or of all of them at once.
    One(Scored),
    /// Of each sample.
    Each(Vec<Scored>),
}

/// Unusable for a key that the command wrote.
fn quoting(message: impl Into<String>, quote: &str) -> Trouble {
    Trouble::Quoting { message: message.into(), quote: quote.into() }
}

/// Texts that a line holds, usable or not, for whoever must not show them: those called `text`, or all of a line that
/// is no JSON.
pub(crate) fn texts(line: &str) -> Vec<String> {
    fn gather(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Array(values) => values.iter().for_each(|v| gather(v, found)),
            Value::Object(object) => object.iter().for_each(|(key, value)| match value {
                Value::String(text) if key == "text" => found.push(text.clone()),
                other => gather(other, found),
            }),
            _ => {}
        }
    }
    let mut found = Vec::new();
    if line.contains("\"text\"") {
        match serde_json::from_str(line) {
            Ok(value) => gather(&value, &mut found),
            Err(_) => found.push(line.to_string()),
        }
    }
    found
}

fn unusable(message: impl Into<String>) -> Trouble {
    Trouble::Answer(message.into())
}

/// Reads a line that is to have the scores of these names; without names, a single `score`.
pub(crate) fn read(line: &str, names: &[String]) -> Result<Answer, Trouble> {
    let value: Value = serde_json::from_str(line).map_err(|e| {
        let place = format!("not JSON (line 1, column {})", e.column());
        match line.contains("NaN") || line.contains("Infinity") {
            true => {
                unusable(format!("{place}: NaN and Infinity are no JSON; answer a number or an \"error\""))
            }
            false => unusable(format!("{place}; write one object a line, and logs to stderr")),
        }
    })?;
    let Value::Object(mut object) = value else { return Err(unusable("not an object")) };
    if let Some(error) = object.get("error") {
        return Err(Trouble::Said(error.as_str().map_or_else(|| error.to_string(), String::from)));
    }
    let Some(samples) = object.remove("samples") else { return Ok(Answer::One(scored(object, names)?)) };
    if let Some(key) = object.keys().next() {
        return Err(quoting("a key beside \"samples\"", key));
    }
    let Value::Array(samples) = samples else { return Err(unusable("\"samples\" is not a list")) };
    let each = samples.into_iter().enumerate().map(|(i, sample)| match sample {
        Value::Object(object) => scored(object, names).map_err(|t| match t {
            Trouble::Answer(message) => unusable(format!("samples[{i}]: {message}")),
            Trouble::Quoting { message, quote } => quoting(format!("samples[{i}]: {message}"), &quote),
            other => other,
        }),
        _ => Err(unusable(format!("samples[{i}] is not an object"))),
    });
    Ok(Answer::Each(each.collect::<Result<_, _>>()?))
}

fn scored(mut object: Map<String, Value>, names: &[String]) -> Result<Scored, Trouble> {
    let sample = match object.remove("sample") {
        None => None,
        Some(Value::String(sample)) => Some(sample),
        Some(_) => return Err(unusable("\"sample\" is not a string")),
    };
    let text = match object.remove("text") {
        None => None,
        Some(Value::String(text)) if text.len() <= MAX_REPORT_BYTES => Some(text),
        Some(_) => {
            return Err(unusable(format!("\"text\" is not a string of at most {MAX_REPORT_BYTES} bytes")));
        }
    };
    let found = match (object.remove("score"), object.remove("scores")) {
        (Some(value), None) if names.len() == 1 => Map::from_iter([(names[0].clone(), value)]),
        (None, Some(Value::Object(scores))) => scores,
        (None, Some(_)) => return Err(unusable("\"scores\" is not an object")),
        (Some(_), None) => {
            return Err(unusable(format!("a single \"score\" where {} are declared", names.join(", "))));
        }
        _ => return Err(unusable("expected \"score\", or \"scores\"")),
    };
    if let Some(key) = object.keys().next() {
        return Err(quoting("unknown key", key));
    }
    let mut scores = BTreeMap::new();
    for name in names {
        let value = found.get(name).ok_or_else(|| unusable(format!("no score {name:?}")))?;
        let value = value.as_f64().filter(|v| v.is_finite());
        let value = value.ok_or_else(|| unusable(format!("score {name:?} is not a finite number")))?;
        scores.insert(name.clone(), value);
    }
    match found.keys().find(|k| !names.contains(k)) {
        Some(extra) => {
            Err(quoting(format!("a score that is not among the declared ones ({})", names.join(", ")), extra))
        }
        None => Ok(Scored { sample, scores, text }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|n| n.to_string()).collect()
    }

    #[test]
    fn one_or_each_with_one_score_or_several() {
        let one = |line: &str, n: &[&str]| match read(line, &names(n)).unwrap() {
            Answer::One(s) => s,
            Answer::Each(_) => panic!("not one"),
        };
        assert_eq!(one(r#"{"score":0.5}"#, &["m"]).scores["m"], 0.5);
        assert_eq!(one(r#"{"sample":"a","scores":{"x":1,"y":-2}}"#, &["x", "y"]).scores["y"], -2.0);
        let each = read(r#"{"samples":[{"score":1},{"score":2,"text":"t"}]}"#, &names(&["m"])).unwrap();
        assert!(matches!(each, Answer::Each(s) if s.len() == 2 && s[1].text.as_deref() == Some("t")));
    }

    #[test]
    fn everything_else_is_named() {
        for (line, expected) in [
            ("", "not JSON"),
            ("ok", "one object a line"),
            ("3", "not an object"),
            (r#"{"score":NaN}"#, "NaN and Infinity are no JSON"),
            (r#"{"score":1e999}"#, "not JSON"),
            (r#"{"score":"1"}"#, "score \"m\" is not a finite number"),
            (r#"{"socre":1}"#, "expected \"score\", or \"scores\""),
            (r#"{"score":1,"more":2}"#, "unknown key: \"more\""),
            (r#"{"scores":{"n":1}}"#, "no score \"m\""),
            (r#"{"scores":{"m":1,"n":1}}"#, "a score that is not among the declared ones (m): \"n\""),
            (r#"{"samples":[{"score":1},{}]}"#, "samples[1]: expected"),
            (r#"{"samples":[],"score":1}"#, "a key beside \"samples\": \"score\""),
            (r#"{"error":"no model"}"#, "it says: no model"),
        ] {
            let e = read(line, &names(&["m"])).unwrap_err().to_string();
            assert!(e.contains(expected), "{line}: {e}");
        }
        let e = read(r#"{"score":1}"#, &names(&["x", "y"])).unwrap_err().to_string();
        assert!(e.contains("a single \"score\" where x, y are declared"), "{e}");
    }
}
