//! The parameters of each method: names, kinds, scopes and defaults are mergekit's.
//!
//! Values are read as mergekit's configuration reads them: a number may be written as text (`"1e-3"`), a truth value
//! as 0, 1, yes, no, on, off, true or false.

use super::Method;
use super::error::{MethodError, Result};
use std::collections::BTreeMap;

/// A parameter's value as a configuration gives it.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f64),
    /// Text, which may spell any of the others.
    Text(String),
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Value::Bool(b) => write!(f, "{b}"),
            Value::Int(i) => write!(f, "{i}"),
            Value::Float(x) => write!(f, "{x}"),
            Value::Text(t) => write!(f, "{t:?}"),
        }
    }
}

/// What a parameter's value must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// A finite number.
    Float,
}

/// For what a parameter is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Once for the tensor.
    Shared,
    /// For each input, the base included.
    Input,
    /// For each input that is not the base.
    NonBase,
}

/// What holds where a configuration says nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fallback {
    /// Nothing: the configuration has to say.
    Required,
    /// The method has its own way of doing without.
    Absent,
    /// This truth value.
    Bool(bool),
    /// This number.
    Float(f64),
}

/// One parameter of a method.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parameter {
    /// Its name in a configuration.
    pub name: &'static str,
    /// What its value must be.
    pub kind: Kind,
    /// For what it is set.
    pub scope: Scope,
    /// What holds where it is not.
    pub fallback: Fallback,
}

impl Parameter {
    /// Reads a value: the result is a [`Value::Bool`] or a [`Value::Float`], as [`Parameter::kind`] says.
    ///
    /// # Errors
    /// [`MethodError::Value`] for a value that cannot be read so.
    pub fn parse(&self, value: &Value) -> Result<Value> {
        let read = match self.kind {
            Kind::Bool => truth(value).map(Value::Bool),
            Kind::Float => number(value).filter(|x| x.is_finite()).map(Value::Float),
        };
        let takes = match self.kind {
            Kind::Bool => "true or false",
            Kind::Float => "a finite number",
        };
        read.ok_or(MethodError::Value { parameter: self.name, value: value.to_string(), takes })
    }
}

fn truth(value: &Value) -> Option<bool> {
    let of_number = |x: f64| match x {
        0.0 => Some(false),
        1.0 => Some(true),
        _ => None,
    };
    match value {
        Value::Bool(b) => Some(*b),
        Value::Int(i) => of_number(*i as f64),
        Value::Float(x) => of_number(*x),
        Value::Text(t) => match t.to_ascii_lowercase().as_str() {
            "1" | "on" | "t" | "true" | "y" | "yes" => Some(true),
            "0" | "off" | "f" | "false" | "n" | "no" => Some(false),
            _ => None,
        },
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Bool(b) => Some(f64::from(u8::from(*b))),
        Value::Int(i) => Some(*i as f64),
        Value::Float(x) => Some(*x),
        Value::Text(t) => t.trim().parse().ok(),
    }
}

/// What a configuration says in one place: values by parameter name. What it leaves out has mergekit's default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parameters(pub BTreeMap<String, Value>);

impl<N: Into<String>> FromIterator<(N, Value)> for Parameters {
    fn from_iter<I: IntoIterator<Item = (N, Value)>>(values: I) -> Parameters {
        Parameters(values.into_iter().map(|(name, value)| (name.into(), value)).collect())
    }
}

/// The values that hold in one place, read and completed.
#[derive(Clone, Debug)]
pub(super) struct Settled(BTreeMap<&'static str, Value>);

impl Settled {
    /// Reads what `given` says for the parameters of `method` whose scope `fits`.
    pub(super) fn new(
        method: Method,
        fits: impl Fn(Scope) -> bool,
        given: &Parameters,
        tensor: &str,
        place: &str,
    ) -> Result<Settled> {
        let known: Vec<Parameter> = method.parameters().iter().copied().filter(|p| fits(p.scope)).collect();
        if let Some(name) = given.0.keys().find(|name| known.iter().all(|p| p.name != name.as_str())) {
            let names: Vec<&str> = known.iter().map(|p| p.name).collect();
            return Err(MethodError::UnknownParameter {
                method: method.name(),
                tensor: tensor.into(),
                parameter: name.clone(),
                place: place.into(),
                known: if names.is_empty() { "none".into() } else { names.join(", ") },
            });
        }
        let mut settled = BTreeMap::new();
        for parameter in known {
            let value = match (given.0.get(parameter.name), parameter.fallback) {
                (Some(value), _) => parameter.parse(value)?,
                (None, Fallback::Bool(b)) => Value::Bool(b),
                (None, Fallback::Float(x)) => Value::Float(x),
                (None, Fallback::Absent) => continue,
                (None, Fallback::Required) => {
                    return Err(MethodError::Missing {
                        method: method.name(),
                        tensor: tensor.into(),
                        parameter: parameter.name,
                        place: place.into(),
                    });
                }
            };
            settled.insert(parameter.name, value);
        }
        Ok(Settled(settled))
    }

    /// A number, where the method has that parameter and it is set.
    pub(super) fn number(&self, name: &str) -> Option<f64> {
        match self.0.get(name) {
            Some(Value::Float(x)) => Some(*x),
            _ => None,
        }
    }

    /// Whether a truth value holds; a parameter that the method does not have does not.
    pub(super) fn holds(&self, name: &str) -> bool {
        matches!(self.0.get(name), Some(Value::Bool(true)))
    }
}

const fn parameter(name: &'static str, kind: Kind, scope: Scope, fallback: Fallback) -> Parameter {
    Parameter { name, kind, scope, fallback }
}

const fn number_of(name: &'static str, scope: Scope, fallback: Fallback) -> Parameter {
    parameter(name, Kind::Float, scope, fallback)
}

const fn flag(name: &'static str, default: bool) -> Parameter {
    parameter(name, Kind::Bool, Scope::Shared, Fallback::Bool(default))
}

const fn task(normalize: bool, rescale: bool) -> [Parameter; 6] {
    [
        flag("int8_mask", false),
        flag("normalize", normalize),
        flag("rescale", rescale),
        number_of("lambda", Scope::Shared, Fallback::Float(1.0)),
        number_of("weight", Scope::NonBase, Fallback::Required),
        number_of("density", Scope::NonBase, Fallback::Float(1.0)),
    ]
}

const fn with(six: [Parameter; 6], seventh: Parameter) -> [Parameter; 7] {
    let [a, b, c, d, e, f] = six;
    [a, b, c, d, e, f, seventh]
}

const GAMMA: Parameter = number_of("gamma", Scope::NonBase, Fallback::Float(0.01));
const EPSILON: Parameter = number_of("epsilon", Scope::NonBase, Fallback::Float(0.15));

static LINEAR: [Parameter; 2] =
    [number_of("weight", Scope::Input, Fallback::Required), flag("normalize", true)];
static SLERP: [Parameter; 1] = [number_of("t", Scope::Shared, Fallback::Required)];
static NUSLERP: [Parameter; 3] = [
    number_of("weight", Scope::NonBase, Fallback::Required),
    flag("nuslerp_row_wise", false),
    flag("nuslerp_flatten", true),
];
static TASK_ARITHMETIC: [Parameter; 6] = task(false, false);
static TIES: [Parameter; 6] = task(true, false);
static DARE: [Parameter; 6] = task(false, true);
static DELLA: [Parameter; 7] = with(task(true, true), EPSILON);
static DELLA_LINEAR: [Parameter; 7] = with(task(false, true), EPSILON);
static BREADCRUMBS: [Parameter; 7] = with(task(false, false), GAMMA);
static MODEL_STOCK: [Parameter; 1] = [flag("filter_wise", false)];
static SCE: [Parameter; 2] =
    [flag("int8_mask", false), number_of("select_topk", Scope::Shared, Fallback::Float(1.0))];
static PASSTHROUGH: [Parameter; 1] = [number_of("scale", Scope::Input, Fallback::Absent)];

impl Method {
    /// The method's parameters.
    pub fn parameters(self) -> &'static [Parameter] {
        match self {
            Method::Linear => &LINEAR,
            Method::Slerp => &SLERP,
            Method::Nuslerp => &NUSLERP,
            Method::TaskArithmetic => &TASK_ARITHMETIC,
            Method::Ties => &TIES,
            Method::DareLinear | Method::DareTies => &DARE,
            Method::Della => &DELLA,
            Method::DellaLinear => &DELLA_LINEAR,
            Method::Breadcrumbs | Method::BreadcrumbsTies => &BREADCRUMBS,
            Method::ModelStock => &MODEL_STOCK,
            Method::Sce => &SCE,
            Method::Passthrough => &PASSTHROUGH,
        }
    }
}
