//! Values in natural units ↔ coordinates of the unit cube.
//!
//! Real numbers are laid out evenly, or evenly in their logarithm. Integers are counted values; on a logarithmic scale
//! they are real numbers that are rounded, since equal parts of the cube would not be equal factors.

use crate::{Dimension, Domain};
use common::genome::Genome;
use common::run::study::{Range, Scalar, StudyPlan};
use serde_json::{Map, Value, json};

/// The domain that the search of a plan moves in: its parameters that are not fixed, in order.
pub fn domain(plan: &StudyPlan) -> Domain {
    let dimension = |range: &Range| match range {
        Range::Fixed(_) => None,
        Range::Real { .. } | Range::Integer { log: true, .. } => Some(Dimension::Real),
        // The plan was checked: less than 2³² apart.
        Range::Integer { low, high, log: false } => Some(Dimension::Integer((high - low + 1) as u32)),
        Range::Values(values) => Some(Dimension::Category(values.len() as u32)),
    };
    let dimensions = plan.space.iter().filter_map(|(_, range)| dimension(range)).collect();
    Domain { dimensions, objectives: plan.objectives.len() }
}

/// Every parameter's value, fixed ones included.
pub fn values(plan: &StudyPlan, genome: &Genome) -> Value {
    let mut coordinates = genome.coordinates().iter();
    let value = |(name, range): &(String, Range)| {
        let value = match range {
            Range::Fixed(value) => json!(value),
            range => decode(range, *coordinates.next().expect("one coordinate a searched parameter")),
        };
        (name.clone(), value)
    };
    Value::Object(plan.space.iter().map(value).collect::<Map<_, _>>())
}

/// The genome of a point that holds a value of its range for every searched parameter.
pub fn genome(plan: &StudyPlan, point: &[Scalar]) -> Genome {
    let searched = plan.space.iter().map(|(_, range)| range).filter(|r| !matches!(r, Range::Fixed(_)));
    let coordinates = searched.zip(point).map(|(range, value)| encode(range, value).clamp(0.0, 1.0));
    Genome::new(coordinates.collect()).expect("clamped numbers lie in the cube")
}

fn decode(range: &Range, x: f64) -> Value {
    match range {
        Range::Fixed(value) => json!(value),
        Range::Real { low, high, log } => json!(between(*low, *high, *log, x).clamp(*low, *high)),
        Range::Integer { low, high, log: false } => {
            let index = Dimension::Integer((high - low + 1) as u32).index(x);
            json!(low + i64::from(index.expect("integers are counted")))
        }
        Range::Integer { low, high, log: true } => {
            let (least, largest) = (*low as f64 - 0.5, *high as f64 + 0.5);
            json!((between(least, largest, true, x).round() as i64).clamp(*low, *high))
        }
        Range::Values(values) => {
            let index = Dimension::Category(values.len() as u32).index(x);
            json!(values[index.expect("categories are counted") as usize])
        }
    }
}

fn encode(range: &Range, value: &Scalar) -> f64 {
    let number = match value {
        Scalar::Integer(i) => *i as f64,
        Scalar::Float(x) => *x,
        Scalar::Boolean(_) | Scalar::Text(_) => 0.0,
    };
    match range {
        Range::Fixed(_) => 0.0,
        Range::Real { low, high, log } => share(*low, *high, *log, number),
        Range::Integer { low, high, log: false } => {
            Dimension::Integer((high - low + 1) as u32).middle((number - *low as f64) as u32)
        }
        Range::Integer { low, high, log: true } => share(*low as f64 - 0.5, *high as f64 + 0.5, true, number),
        Range::Values(values) => {
            let index = values.iter().position(|v| v == value).unwrap_or(0);
            Dimension::Category(values.len() as u32).middle(index as u32)
        }
    }
}

fn between(low: f64, high: f64, log: bool, x: f64) -> f64 {
    match log {
        true => (low.ln() * (1.0 - x) + high.ln() * x).exp(),
        false => low * (1.0 - x) + high * x,
    }
}

fn share(low: f64, high: f64, log: bool, value: f64) -> f64 {
    match log {
        true => (value.ln() - low.ln()) / (high.ln() - low.ln()),
        // Halved, so that bounds far apart have a finite distance.
        false => (value / 2.0 - low / 2.0) / (high / 2.0 - low / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::run::study::parse;

    #[test]
    fn values_and_coordinates_are_one_to_one() {
        let text = r#"[space]
a = { low = 1e-5, high = 0.1, log = true }
b = { low = -3, high = 4, integer = true }
c = { values = [1, "two", false] }
d = "fixed"
e = { low = 1, high = 1000, integer = true, log = true }
f = { low = -1e300, high = 1e300 }
"#;
        let plan = parse("s", text, &[], false).unwrap();
        assert_eq!(domain(&plan).dimensions[1..3], [Dimension::Integer(8), Dimension::Category(3)]);
        let low = values(&plan, &Genome::new(vec![0.0; 5]).unwrap());
        assert_eq!(low, json!({"a": 1e-5, "b": -3, "c": 1, "d": "fixed", "e": 1, "f": -1e300}));
        let high = values(&plan, &Genome::new(vec![1.0; 5]).unwrap());
        assert_eq!(high, json!({"a": 0.1, "b": 4, "c": false, "d": "fixed", "e": 1000, "f": 1e300}));
        for (b, c, e) in [(-3, 0, 1), (0, 1, 30), (4, 2, 1000)] {
            let c = [Scalar::Integer(1), Scalar::Text("two".into()), Scalar::Boolean(false)][c].clone();
            let point =
                [Scalar::Float(0.001), Scalar::Integer(b), c.clone(), Scalar::Integer(e), Scalar::Float(5.0)];
            let back = values(&plan, &genome(&plan, &point));
            assert!((back["a"].as_f64().unwrap() - 0.001).abs() < 1e-12);
            assert_eq!((&back["b"], &back["c"], &back["e"]), (&json!(b), &json!(c), &json!(e)));
        }
    }
}
