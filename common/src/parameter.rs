//! One searched parameter: what a coordinate of the genome stands for, in natural units.
//!
//! A coordinate lies in [0, 1]. A real parameter maps it linearly or on a log scale; one with steps or choices cuts the
//! interval into equal parts, of which each stands for one value, so that a search may treat it as an integer or a
//! category (see [`Parameter::kind`]).

use serde::{Deserialize, Serialize};

/// One coordinate of the genome.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameter {
    /// `scale`, `drop_rate`, per source as in `weight.japanese`, by group as in `weight.japanese.layers_1_of_4.mlp`.
    pub name: String,
    /// Value at coordinate 0.
    pub low: f64,
    /// Value at coordinate 1.
    pub high: f64,
    /// What lies between.
    #[serde(default, skip_serializing_if = "Form::is_linear")]
    pub form: Form,
}

/// How a coordinate becomes a value.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// `low + (high − low) · x`.
    #[default]
    Linear,
    /// `low · (high / low)^x`; `low` is above zero.
    Log,
    /// `low`, `low + step`, … as far as `high`.
    Step(f64),
    /// These numbers, rising.
    Choices(Vec<f64>),
    /// The whole numbers from `low` to `high` as mere names: neighbours have nothing in common.
    Labels,
    /// These words; the value is the word's position from 0.
    Words(Vec<String>),
}

impl Form {
    fn is_linear(&self) -> bool {
        *self == Form::Linear
    }
}

/// What kind of coordinate a search deals with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Every number of the unit interval.
    Real,
    /// One of so many values in order.
    Integer(u32),
    /// One of so many values without order.
    Category(u32),
}

/// The most values of an integer or a category.
pub const MOST_VALUES: u32 = 10_000;

impl Parameter {
    /// A real parameter between two bounds.
    pub fn linear(name: impl Into<String>, low: f64, high: f64) -> Parameter {
        Parameter { name: name.into(), low, high, form: Form::Linear }
    }

    /// What kind of coordinate it is.
    pub fn kind(&self) -> Kind {
        match &self.form {
            Form::Linear | Form::Log => Kind::Real,
            // The sum may fall short of the bound by rounding alone.
            Form::Step(step) => Kind::Integer(1 + ((self.high - self.low) / step + 1e-9).floor() as u32),
            Form::Choices(choices) => Kind::Integer(choices.len() as u32),
            Form::Labels => Kind::Category(1 + (self.high - self.low) as u32),
            Form::Words(words) => Kind::Category(words.len() as u32),
        }
    }

    /// The value at coordinate `x` in [0, 1].
    pub fn value(&self, x: f64) -> f64 {
        let index = |n: u32| (x * f64::from(n)).floor().clamp(0.0, f64::from(n - 1));
        match (&self.form, self.kind()) {
            (Form::Choices(choices), Kind::Integer(n)) => choices[index(n) as usize],
            (Form::Step(step), Kind::Integer(n)) => (self.low + step * index(n)).min(self.high),
            (Form::Labels, Kind::Category(n)) => self.low + index(n),
            (_, Kind::Category(n)) => index(n),
            (Form::Log, _) => self.log_value(x),
            _ => self.low + (self.high - self.low) * x,
        }
    }

    /// By a library of its own, not the system's: a recipe made again on another machine must be the same.
    fn log_value(&self, x: f64) -> f64 {
        if x <= 0.0 || x >= 1.0 {
            return if x <= 0.0 { self.low } else { self.high };
        }
        let (low, high) = (libm::log(self.low), libm::log(self.high));
        libm::exp(low + (high - low) * x).clamp(self.low, self.high)
    }

    /// The coordinate that stands for a value, the nearest of several values; `None` for one out of bounds.
    pub fn coordinate(&self, value: f64) -> Option<f64> {
        let middle = |index: f64, n: u32| (index + 0.5) / f64::from(n);
        // As far as rounding can lead out of the bounds.
        let slack = 1e-9 * (self.high - self.low);
        if !(self.low - slack..=self.high + slack).contains(&value) {
            return None;
        }
        Some(match (&self.form, self.kind()) {
            (Form::Linear, _) => ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0),
            (Form::Log, _) => {
                let (low, high) = (libm::log(self.low), libm::log(self.high));
                ((libm::log(value.max(self.low)) - low) / (high - low)).clamp(0.0, 1.0)
            }
            (Form::Choices(choices), Kind::Integer(n)) => {
                let distance = |i: &usize| (choices[*i] - value).abs();
                let nearest = (0..choices.len()).min_by(|a, b| distance(a).total_cmp(&distance(b)));
                middle(nearest.unwrap_or(0) as f64, n)
            }
            (Form::Step(step), Kind::Integer(n)) => {
                middle(((value - self.low) / step).round().clamp(0.0, f64::from(n - 1)), n)
            }
            (_, Kind::Category(n) | Kind::Integer(n)) => middle((value - self.low).round(), n),
            (_, Kind::Real) => return None,
        })
    }

    /// How fast the value rises with the coordinate at `x`; of steps and choices on the whole.
    pub fn slope(&self, x: f64) -> f64 {
        match self.form {
            Form::Log => self.value(x) * libm::log(self.high / self.low),
            _ => self.high - self.low,
        }
    }

    /// Whether the bounds are an interval and what lies between makes sense.
    pub fn check(&self) -> Result<(), String> {
        let name = &self.name;
        if !(self.low.is_finite() && self.high.is_finite() && self.low < self.high) {
            return Err(format!("bounds of {name} are not an interval"));
        }
        let whole = |x: f64| x.fract() == 0.0 && x.abs() <= 2f64.powi(53);
        let sound = match &self.form {
            Form::Linear => true,
            Form::Log => self.low > 0.0,
            Form::Step(step) => *step > 0.0 && (self.high - self.low) / step < f64::from(MOST_VALUES),
            Form::Choices(choices) => {
                let rising = choices.windows(2).all(|w| w[0] < w[1]);
                let ends = choices.first() == Some(&self.low) && choices.last() == Some(&self.high);
                rising && ends && choices.len() <= MOST_VALUES as usize
            }
            Form::Labels => {
                whole(self.low) && whole(self.high) && self.high - self.low < f64::from(MOST_VALUES)
            }
            Form::Words(words) => {
                words.len() <= MOST_VALUES as usize
                    && self.low == 0.0
                    && self.high == words.len() as f64 - 1.0
            }
        };
        if sound { Ok(()) } else { Err(format!("{name}: what lies between its bounds makes no sense")) }
    }

    /// The bounds in words: `0 to 2`, `0.01 to 1 on a log scale`, `0.1, 0.5, 0.9`.
    pub fn bounds(&self) -> String {
        let Parameter { low, high, .. } = self;
        match &self.form {
            Form::Linear => format!("{low} to {high}"),
            Form::Log => format!("{low} to {high} on a log scale"),
            Form::Step(step) => format!("{low} to {high} in steps of {step}"),
            Form::Labels => format!("one of {low} to {high}, without order"),
            Form::Choices(choices) => choices.iter().map(f64::to_string).collect::<Vec<_>>().join(", "),
            Form::Words(words) => words.join(" or "),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parameter(low: f64, high: f64, form: Form) -> Parameter {
        let p = Parameter { name: "p".into(), low, high, form };
        p.check().unwrap();
        p
    }

    #[test]
    fn values_between_the_bounds() {
        let log = parameter(0.01, 1.0, Form::Log);
        assert_eq!((log.value(0.0), log.value(1.0)), (0.01, 1.0));
        assert!((log.value(0.5) - 0.1).abs() < 1e-15);
        let step = parameter(0.0, 1.0, Form::Step(0.1));
        assert_eq!(step.kind(), Kind::Integer(11));
        assert_eq!((step.value(0.0), step.value(0.5), step.value(1.0)), (0.0, 0.5, 1.0));
        // The last step may fall short of the bound.
        assert_eq!(parameter(0.0, 1.0, Form::Step(0.3)).value(1.0), 0.3 * 3.0);
        let choices = parameter(0.1, 0.9, Form::Choices(vec![0.1, 0.5, 0.9]));
        assert_eq!(
            [0.0, 0.33, 0.34, 0.66, 0.67, 1.0].map(|x| choices.value(x)),
            [0.1, 0.1, 0.5, 0.5, 0.9, 0.9]
        );
        let words = parameter(0.0, 1.0, Form::Words(vec!["a".into(), "b".into()]));
        assert_eq!((words.kind(), words.value(0.49), words.value(0.5)), (Kind::Category(2), 0.0, 1.0));
        let seeds = parameter(3.0, 5.0, Form::Labels);
        assert_eq!((seeds.kind(), seeds.value(0.0), seeds.value(1.0)), (Kind::Category(3), 3.0, 5.0));
        for (low, high, form) in [
            (1.0, 1.0, Form::Linear),
            (0.0, 1.0, Form::Log),
            (0.0, 1.0, Form::Step(0.0)),
            (0.0, 1.0, Form::Step(1e-9)),
            (0.1, 0.9, Form::Choices(vec![0.1, 0.9, 0.5])),
            (0.5, 3.0, Form::Labels),
        ] {
            assert!(Parameter { name: "p".into(), low, high, form }.check().is_err());
        }
    }

    /// Written by another: each is `{form}` in the JSON of a plan, and the plain one leaves no trace.
    #[test]
    fn only_what_is_not_linear_is_written() {
        let text = r#"{"name":"scale","low":0.0,"high":2.0}"#;
        let plain: Parameter = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&plain).unwrap(), text);
        for (form, expected) in [
            (Form::Log, r#""form":"log""#),
            (Form::Step(0.5), r#""form":{"step":0.5}"#),
            (Form::Words(vec!["a".into()]), r#""form":{"words":["a"]}"#),
        ] {
            let written = serde_json::to_string(&Parameter { form, ..plain.clone() }).unwrap();
            assert!(written.contains(expected), "{written}");
            serde_json::from_str::<Parameter>(&written).unwrap();
        }
    }

    proptest! {
        #[test]
        fn coordinates_and_values_are_inverse(x in 0.0f64..=1.0, which in 0usize..6) {
            let form = [
                Form::Linear, Form::Log, Form::Step(0.25), Form::Choices(vec![1.0, 2.5, 8.0]), Form::Labels,
                Form::Step(3.0),
            ][which].clone();
            let p = parameter(1.0, 8.0, form);
            let value = p.value(x);
            prop_assert!((1.0..=8.0).contains(&value));
            let back = p.coordinate(value).unwrap();
            prop_assert!((p.value(back) - value).abs() <= 1e-12 * value);
            if p.kind() == Kind::Real {
                prop_assert!((back - x).abs() < 1e-9);
            }
        }
    }
}
