//! The searched parameters: which numbers of a recipe the search moves, and between which bounds.

use crate::amount::Amount;
use crate::genome::Genome;
use crate::group::Case;
pub use crate::parameter::{Form, Kind, Parameter};
use serde::{Deserialize, Serialize};

/// Where one number comes from.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Always this value.
    Fixed(f64),
    /// The value of the searched parameter with this index; several may share one.
    Searched(usize),
}

/// Where one number of a recipe comes from, or its numbers by layer and name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Coefficient {
    /// Always this value.
    Fixed(f64),
    /// The value of the searched parameter with this index; several may share one.
    Searched(usize),
    /// The first case that fits a tensor counts.
    Cases(Vec<Case<Origin>>),
}

impl From<Origin> for Coefficient {
    fn from(origin: Origin) -> Coefficient {
        match origin {
            Origin::Fixed(v) => Coefficient::Fixed(v),
            Origin::Searched(i) => Coefficient::Searched(i),
        }
    }
}

impl Coefficient {
    /// Every number of it.
    pub fn origins(&self) -> Vec<Origin> {
        match self {
            Coefficient::Fixed(v) => vec![Origin::Fixed(*v)],
            Coefficient::Searched(i) => vec![Origin::Searched(*i)],
            Coefficient::Cases(cases) => cases.iter().flat_map(|c| c.numbers().iter().copied()).collect(),
        }
    }
}

/// The coefficients of one source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceCoefficients {
    /// See [`crate::recipe::SourceTerm::weight`].
    pub weight: Coefficient,
    /// See [`crate::recipe::SourceTerm::drop_rate`].
    pub drop_rate: Coefficient,
    /// See [`crate::recipe::SourceTerm::trim_rate`].
    pub trim_rate: Coefficient,
}

/// The search space of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Space {
    /// The searched parameters, in the order of a genome's coordinates.
    pub parameters: Vec<Parameter>,
    /// Factor of the merged task vector.
    pub scale: Coefficient,
    /// Per source, in the order of the run file.
    pub sources: Vec<SourceCoefficients>,
    /// The parameter that chooses the mask, a word each; none where the plan's merge has it fixed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<usize>,
    /// The parameter that chooses the mask's seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask_seed: Option<usize>,
}

impl Space {
    /// Number of searched parameters.
    pub fn dimensions(&self) -> usize {
        self.parameters.len()
    }

    /// What kind of coordinate each parameter has.
    pub fn kinds(&self) -> Vec<Kind> {
        self.parameters.iter().map(Parameter::kind).collect()
    }

    /// The value of every searched parameter, in order.
    ///
    /// # Panics
    /// When the genome has another number of coordinates.
    pub fn values(&self, genome: &Genome) -> Vec<f64> {
        assert_eq!(genome.coordinates().len(), self.dimensions(), "a genome of this space");
        self.parameters.iter().zip(genome.coordinates()).map(|(p, x)| p.value(*x)).collect()
    }

    /// What a coefficient stands for, given [`Space::values`].
    pub fn resolve(&self, coefficient: &Coefficient, values: &[f64]) -> Amount {
        let number = |origin: &Origin| match *origin {
            Origin::Fixed(v) => v,
            Origin::Searched(i) => values[i],
        };
        match coefficient {
            Coefficient::Fixed(v) => Amount::Same(*v),
            Coefficient::Searched(i) => Amount::Same(values[*i]),
            Coefficient::Cases(cases) => Amount::Cases(cases.iter().map(|c| c.map(number)).collect()),
        }
    }

    /// Every coefficient: the kind's name, the source's position where it is a source's, and itself.
    pub fn coefficients(&self) -> Vec<(&'static str, Option<usize>, &Coefficient)> {
        let each = |name, of: fn(&SourceCoefficients) -> &Coefficient| {
            self.sources.iter().enumerate().map(move |(i, s)| (name, Some(i), of(s)))
        };
        let mut all: Vec<_> = each("drop_rate", |s| &s.drop_rate).collect();
        all.extend(each("trim_rate", |s| &s.trim_rate));
        all.push(("scale", None, &self.scale));
        all.extend(each("weight", |s| &s.weight));
        all
    }

    /// What is searched, a line each: a kind's name and its numbers in words, such as `8 parameters (weight.a.layers_1_of_4
    /// … weight.b.layers_4_of_4), 0 to 1`. Kinds that are fixed are left out.
    pub fn describe(&self) -> Vec<(String, String)> {
        let mut rows: Vec<(String, Vec<&Parameter>)> = Vec::new();
        for p in &self.parameters {
            let kind = p.name.split('.').next().unwrap_or_default();
            match rows.last_mut().filter(|(k, _)| k == kind) {
                Some((_, members)) => members.push(p),
                None => rows.push((kind.into(), vec![p])),
            }
        }
        let words = |(kind, members): (String, Vec<&Parameter>)| {
            let mut bounds: Vec<String> = members.iter().map(|p| p.bounds()).collect();
            bounds.sort();
            bounds.dedup();
            let count = match &members[..] {
                [one] if one.name == kind => String::new(),
                [one] => format!("1 parameter ({}), ", one.name),
                [first, .., last] => {
                    format!("{} parameters ({} … {}), ", members.len(), first.name, last.name)
                }
                [] => String::new(),
            };
            (kind, format!("{count}{}", bounds.join("; ")))
        };
        rows.into_iter().map(words).collect()
    }

    /// Whether every coefficient points at an existing parameter and every bound is usable.
    pub fn check(&self) -> Result<(), String> {
        let known = |origin: &Origin| match origin {
            Origin::Fixed(v) => v.is_finite(),
            Origin::Searched(i) => *i < self.parameters.len(),
        };
        let origins = self.coefficients().into_iter().map(|(_, _, c)| c.origins());
        if !origins.into_iter().all(|o| !o.is_empty() && o.iter().all(known)) {
            return Err("a coefficient points at no parameter".into());
        }
        self.parameters.iter().try_for_each(Parameter::check)?;
        let is = |index: Option<usize>, wanted: fn(&Form) -> bool| {
            index.is_none_or(|i| self.parameters.get(i).is_some_and(|p| wanted(&p.form)))
        };
        let two = |f: &Form| matches!(f, Form::Words(words) if words.iter().all(|w| crate::recipe::Mask::from_word(w).is_some()));
        match is(self.mask, two) && is(self.mask_seed, |f| *f == Form::Labels) {
            true => Ok(()),
            false => Err("the mask or its seed points at no parameter that could choose it".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::{Along, Filter, Layers};

    fn space() -> Space {
        Space {
            parameters: vec![Parameter::linear("scale", 0.0, 2.0), Parameter::linear("drop_rate", 0.5, 1.0)],
            scale: Coefficient::Searched(0),
            sources: vec![SourceCoefficients {
                weight: Coefficient::Fixed(1.0),
                drop_rate: Coefficient::Searched(1),
                trim_rate: Coefficient::Searched(1),
            }],
            mask: None,
            mask_seed: None,
        }
    }

    #[test]
    fn maps_the_cube_onto_the_bounds() {
        let space = space();
        assert_eq!(space.check(), Ok(()));
        let values = space.values(&Genome::new(vec![0.5, 1.0]).unwrap());
        assert_eq!(values, [1.0, 1.0]);
        assert_eq!(space.resolve(&space.sources[0].trim_rate, &values), 1.0);
        assert_eq!(space.resolve(&space.sources[0].weight, &values), 1.0);
        assert_eq!(space.kinds(), [Kind::Real, Kind::Real]);
        let rows = space.describe();
        assert_eq!(rows[0], ("scale".to_string(), "0 to 2".to_string()));
        let broken = Space { parameters: vec![], ..space };
        assert!(broken.check().is_err());
    }

    #[test]
    fn cases_resolve_number_by_number() {
        let mut space = space();
        let half = Case {
            layers: Some(Layers::Part { part: 1, of: 2 }),
            filter: None,
            along: Along::Value(Origin::Searched(0)),
        };
        let knots = Along::Knots(vec![Origin::Fixed(0.25), Origin::Searched(1)]);
        space.scale =
            Coefficient::Cases(vec![half, Case { layers: None, filter: Some(Filter::Mlp), along: knots }]);
        assert_eq!(space.check(), Ok(()));
        let text = serde_json::to_string(&space).unwrap();
        assert!(text.contains(r#""scale":{"cases":[{"layers":"1/2","value":{"searched":0}},{"filter":"mlp","knots":[{"fixed":0.25},{"searched":1}]}]}"#), "{text}");
        assert_eq!(serde_json::from_str::<Space>(&text).unwrap(), space);
        let amount = space.resolve(&space.scale, &[1.5, 0.75]);
        let expected = r#"[{"layers":"1/2","value":1.5},{"filter":"mlp","knots":[0.25,0.75]}]"#;
        assert_eq!(serde_json::to_string(&amount).unwrap(), expected);
        space.mask = Some(0);
        assert!(space.check().is_err());
    }
}
