//! Values that may depend on the tensor: filters by name and gradients over layers.
//!
//! The rules are those of `evaluate_setting` in `mergekit/config.py` of mergekit 0.1.5: of a list of conditions the
//! first whose filter is part of the tensor's name counts; a list of numbers is interpolated linearly between its ends,
//! at `t` = index of the layer within its slice ÷ (layers − 1), 1 in a slice of one layer, 0 outside of layers.

use crate::group::interpolate;
use std::fmt;

/// One value as the file has it. What it means is for the parameter to say.
#[derive(Clone, Debug, PartialEq)]
pub enum Scalar {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f64),
    /// Text, which may spell any of the others.
    Text(String),
}

impl Scalar {
    /// The number that it is or spells.
    pub(crate) fn number(&self) -> Option<f64> {
        match self {
            Scalar::Int(i) => Some(*i as f64),
            Scalar::Float(x) => Some(*x),
            _ => None,
        }
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scalar::Bool(b) => write!(f, "{b}"),
            Scalar::Int(i) => write!(f, "{i}"),
            Scalar::Float(x) => write!(f, "{x:?}"),
            Scalar::Text(t) => write!(f, "{t:?}"),
        }
    }
}

/// A value, or values along the layers.
#[derive(Clone, Debug, PartialEq)]
pub enum Graded {
    /// The same in every layer.
    One(Scalar),
    /// At least one value; numbers are interpolated, others chosen.
    Gradient(Vec<Scalar>),
}

/// A value that holds for some tensors.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// Part of the names of the tensors that it is for; none and `*` are for all.
    pub filter: Option<String>,
    /// The value.
    pub value: Graded,
}

/// What a configuration gives for one parameter in one place.
#[derive(Clone, Debug, PartialEq)]
pub enum Setting {
    /// For every tensor.
    Plain(Graded),
    /// The first that fits; possibly none does.
    Conditional(Vec<Condition>),
}

impl Setting {
    /// A number for every tensor.
    pub fn number(value: f64) -> Setting {
        Setting::Plain(Graded::One(Scalar::Float(value)))
    }

    /// A truth value for every tensor.
    pub fn flag(value: bool) -> Setting {
        Setting::Plain(Graded::One(Scalar::Bool(value)))
    }

    /// What holds for a tensor at place `t` of its slice, nothing when no filter fits. `read` turns a value into the
    /// parameter's own kind.
    ///
    /// # Errors
    /// What `read` says.
    pub fn evaluate<E>(
        &self,
        tensor: &str,
        t: f64,
        read: &dyn Fn(&Scalar) -> Result<Scalar, E>,
    ) -> Result<Option<Scalar>, E> {
        match self {
            Setting::Plain(value) => value.at(t, read),
            Setting::Conditional(conditions) => {
                let fits = |c: &&Condition| match c.filter.as_deref() {
                    None | Some("*") => true,
                    Some(filter) => !tensor.is_empty() && tensor.contains(filter),
                };
                conditions.iter().find(fits).map_or(Ok(None), |c| c.value.at(t, read))
            }
        }
    }

    /// Every single value of it.
    pub fn scalars(&self) -> Vec<&Scalar> {
        match self {
            Setting::Plain(value) => value.scalars(),
            Setting::Conditional(conditions) => conditions.iter().flat_map(|c| c.value.scalars()).collect(),
        }
    }
}

impl Graded {
    fn scalars(&self) -> Vec<&Scalar> {
        match self {
            Graded::One(scalar) => vec![scalar],
            Graded::Gradient(values) => values.iter().collect(),
        }
    }

    fn at<E>(&self, t: f64, read: &dyn Fn(&Scalar) -> Result<Scalar, E>) -> Result<Option<Scalar>, E> {
        let values = match self {
            Graded::One(value) => return read(value).map(Some),
            Graded::Gradient(values) => values.iter().map(read).collect::<Result<Vec<_>, _>>()?,
        };
        let numbers: Option<Vec<f64>> = values.iter().map(Scalar::number).collect();
        let between = match numbers {
            Some(numbers) if !numbers.is_empty() => interpolate(&numbers, t),
            // What cannot be interpolated is chosen.
            _ => return Ok(values.get((t * values.len().saturating_sub(1) as f64) as usize).cloned()),
        };
        read(&Scalar::Float(between)).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn float(x: &Scalar) -> Result<Scalar, String> {
        match x {
            Scalar::Int(i) => Ok(Scalar::Float(*i as f64)),
            Scalar::Text(t) => t.parse().map(Scalar::Float).map_err(|_| t.clone()),
            other => Ok(other.clone()),
        }
    }

    fn at(setting: &Setting, tensor: &str, t: f64) -> Option<Scalar> {
        setting.evaluate(tensor, t, &float).unwrap()
    }

    /// Expected values from mergekit 0.1.5's `evaluate_setting`.
    #[test]
    fn gradients_interpolate_and_words_are_chosen() {
        let gradient = |values: &[f64]| {
            Setting::Plain(Graded::Gradient(values.iter().map(|x| Scalar::Float(*x)).collect()))
        };
        let three = gradient(&[0.0, 0.5, 0.2]);
        let expected = [(0.0, 0.0), (0.25, 0.25), (0.5, 0.5), (0.75, 0.35), (1.0, 0.2)];
        for (t, value) in expected {
            assert_eq!(at(&three, "x", t), Some(Scalar::Float(value)), "{t}");
        }
        // The formula's own rounding: (1 − 1/3)·0.1 + 1/3·0.7.
        let third = at(&gradient(&[0.1, 0.7]), "x", 1.0 / 3.0);
        assert_eq!(third, Some(Scalar::Float((1.0 - 1.0 / 3.0) * 0.1 + 1.0 / 3.0 * 0.7)));
        assert_eq!(at(&gradient(&[0.4]), "x", 1.0), Some(Scalar::Float(0.4)));
        let words = Setting::Plain(Graded::Gradient(vec![Scalar::Bool(true), Scalar::Bool(false)]));
        assert_eq!(at(&words, "x", 0.9), Some(Scalar::Bool(true)));
        assert_eq!(at(&words, "x", 1.0), Some(Scalar::Bool(false)));
        let spelt = Setting::Plain(Graded::Gradient(vec![Scalar::Text("1e-1".into()), Scalar::Int(1)]));
        assert_eq!(at(&spelt, "x", 0.5), Some(Scalar::Float(0.55)));
    }

    #[test]
    fn the_first_filter_that_fits_counts() {
        let condition = |filter: Option<&str>, value: f64| Condition {
            filter: filter.map(String::from),
            value: Graded::One(Scalar::Float(value)),
        };
        let setting = Setting::Conditional(vec![
            condition(Some("mlp"), 1.0),
            condition(Some("layers.1."), 2.0),
            condition(None, 3.0),
        ]);
        assert_eq!(at(&setting, "model.layers.1.mlp.up_proj.weight", 0.0), Some(Scalar::Float(1.0)));
        assert_eq!(at(&setting, "model.layers.1.self_attn.q_proj.weight", 0.0), Some(Scalar::Float(2.0)));
        assert_eq!(at(&setting, "model.norm.weight", 0.0), Some(Scalar::Float(3.0)));
        let some = Setting::Conditional(vec![condition(Some("mlp"), 1.0)]);
        assert_eq!(at(&some, "model.norm.weight", 0.0), None);
        let star = Setting::Conditional(vec![condition(Some("*"), 4.0)]);
        assert_eq!(at(&star, "", 0.0), Some(Scalar::Float(4.0)));
        assert_eq!(at(&Setting::Conditional(vec![]), "x", 0.0), None);
    }
}
