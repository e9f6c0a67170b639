//! A number of a merge, as recipes have it: one for every tensor, or one by layer and name.

use crate::group::{self, Along, Case, Group, Stack, interpolate};
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;

/// The most cases of one number: far above 64 parts of the layers by every filter that a Llama gives sense to.
const MOST_CASES: usize = 4096;

/// A number, in JSON a number or a list of cases.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Amount {
    /// The same for every tensor.
    Same(f64),
    /// The first case that fits a tensor counts.
    Cases(Vec<Case<f64>>),
}

/// What holds for one tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Held {
    /// The number.
    pub value: f64,
    /// The tensors that share it by design: numbers of two groups may be equal all the same.
    pub group: Option<Group>,
}

impl Amount {
    /// What holds for the tensor; `None` where no case fits it.
    pub fn at(&self, tensor: &str, stack: &Stack) -> Option<Held> {
        match self {
            Amount::Same(value) => Some(Held { value: *value, group: None }),
            Amount::Cases(cases) => {
                let (case, group) = group::find(cases, tensor, stack)?;
                let value = match &case.along {
                    Along::Value(value) => *value,
                    Along::Knots(knots) => interpolate(knots, stack.position(stack.place(tensor))),
                };
                Some(Held { value, group: Some(group) })
            }
        }
    }

    /// The number, where it is one for all tensors.
    pub fn same(&self) -> Option<f64> {
        match self {
            Amount::Same(value) => Some(*value),
            Amount::Cases(_) => None,
        }
    }

    /// Every number that it holds, each with its place in the file behind the name, such as `[3].value`.
    pub fn numbers(&self) -> Vec<(String, f64)> {
        match self {
            Amount::Same(value) => vec![(String::new(), *value)],
            Amount::Cases(cases) => {
                let of = |(i, case): (usize, &Case<f64>)| match &case.along {
                    Along::Value(value) => vec![(format!("[{i}].value"), *value)],
                    Along::Knots(knots) => {
                        let knot = |(k, value): (usize, &f64)| (format!("[{i}].knots[{k}]"), *value);
                        knots.iter().enumerate().map(knot).collect()
                    }
                };
                cases.iter().enumerate().flat_map(of).collect()
            }
        }
    }

    /// Whether it is divided alike and its numbers are equal but for their last digits.
    pub fn is_nearly(&self, other: &Amount) -> bool {
        let close = |a: f64, b: f64| (a - b).abs() <= 1e-12 * (1.0 + a.abs());
        let shape =
            |cases: &[Case<f64>]| -> Vec<Case<f64>> { cases.iter().map(|c| c.map(|_| 0.0)).collect() };
        let alike = match (self, other) {
            (Amount::Same(_), Amount::Same(_)) => true,
            (Amount::Cases(a), Amount::Cases(b)) => shape(a) == shape(b),
            _ => false,
        };
        alike && self.numbers().iter().zip(other.numbers()).all(|((_, a), (_, b))| close(*a, b))
    }

    /// Whether every number of it is this one.
    pub fn is_everywhere(&self, x: f64) -> bool {
        self.numbers().iter().all(|(_, value)| *value == x)
    }
}

impl From<f64> for Amount {
    fn from(value: f64) -> Amount {
        Amount::Same(value)
    }
}

/// Equal to a number when it is that number for every tensor.
impl PartialEq<f64> for Amount {
    fn eq(&self, other: &f64) -> bool {
        self.same() == Some(*other)
    }
}

/// `0.5`, or `0.1 to 0.9 (8 numbers)`.
impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Amount::Same(value) => write!(f, "{value}"),
            Amount::Cases(_) => {
                let numbers = self.numbers();
                let fold = |f: fn(f64, f64) -> f64, first| numbers.iter().fold(first, |a, (_, x)| f(a, *x));
                let (low, high) = (fold(f64::min, f64::INFINITY), fold(f64::max, f64::NEG_INFINITY));
                let plural = if numbers.len() == 1 { "" } else { "s" };
                write!(f, "{low} to {high} ({} number{plural})", numbers.len())
            }
        }
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Amount, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Amount;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, or a list of cases with layers, filter, and value or knots")
            }
            fn visit_f64<E>(self, x: f64) -> Result<Amount, E> {
                Ok(Amount::Same(x))
            }
            fn visit_i64<E>(self, x: i64) -> Result<Amount, E> {
                Ok(Amount::Same(x as f64))
            }
            fn visit_u64<E>(self, x: u64) -> Result<Amount, E> {
                Ok(Amount::Same(x as f64))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Amount, A::Error> {
                let mut cases = Vec::new();
                while let Some(case) = seq.next_element()? {
                    cases.push(case);
                    if cases.len() > MOST_CASES {
                        return Err(A::Error::custom(format!("more than {MOST_CASES} cases")));
                    }
                }
                match cases.is_empty() {
                    true => Err(A::Error::custom("an empty list of cases")),
                    false => Ok(Amount::Cases(cases)),
                }
            }
        }
        d.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_a_number_or_cases() {
        let read = |text: &str| serde_json::from_str::<Amount>(text);
        assert_eq!(read("0.5").unwrap(), 0.5);
        assert_eq!(read("1").unwrap(), 1.0);
        assert_eq!(serde_json::to_string(&Amount::from(0.1 + 0.2)).unwrap(), "0.30000000000000004");
        let text = r#"[{"filter":"mlp","knots":[0.0,1.0]},{"value":0.25}]"#;
        let cases = read(text).unwrap();
        assert_eq!(serde_json::to_string(&cases).unwrap(), text);
        assert_eq!(cases.to_string(), "0 to 1 (3 numbers)");
        assert!(cases != 0.25 && Amount::from(0.25).is_everywhere(0.25));
        let fields: Vec<String> = cases.numbers().into_iter().map(|(field, _)| field).collect();
        assert_eq!(fields, ["[0].knots[0]", "[0].knots[1]", "[1].value"]);
        for (bad, why) in
            [("[]", "empty list"), ("\"x\"", "a number, or a list"), ("[{}]", "either a value or knots")]
        {
            let e = read(bad).unwrap_err().to_string();
            assert!(e.contains(why), "{e}");
        }
    }

    #[test]
    fn knots_hold_from_the_embedding_to_the_head() {
        let amount: Amount = serde_json::from_str(r#"[{"knots":[0.0,0.5,0.2]}]"#).unwrap();
        let stack = Stack::new(5);
        let at = |name: &str| amount.at(name, &stack).unwrap().value;
        let found: Vec<f64> = (0..5).map(|l| at(&format!("model.layers.{l}.mlp.up_proj.weight"))).collect();
        assert_eq!(found, [0.0, 0.25, 0.5, 0.35, 0.2]);
        assert_eq!(
            (at("model.embed_tokens.weight"), at("model.norm.weight"), at("lm_head.weight")),
            (0.0, 0.2, 0.2)
        );
        let some: Amount = serde_json::from_str(r#"[{"filter":"mlp","value":1.0}]"#).unwrap();
        assert_eq!(some.at("lm_head.weight", &stack), None);
    }
}
