//! Which tensors a number of a merge is for: by layer, by name, or along the layers.
//!
//! A number that is not one for all tensors is a list of [`Case`]s; the first that fits a tensor counts. A case is for
//! some of the layers ([`Layers`]), for some names ([`Filter`]), for both or for everything, and has one value or
//! knots: values at equal distances from the first layer to the last, interpolated linearly between them.
//!
//! How many layers there are is nothing that is known here: groups are shares of the depth (`1/4`) or begin at a
//! numbered layer (`8-15`, `24-`), so that plans and recipes are made where no model is. Who has the tensors' names
//! makes a [`Stack`] of them. What stands before the layers (the embedding) counts with the first of them, what stands
//! behind (the last norm, the output matrix) with the last.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Some of the layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Layers {
    /// One of equal parts of the depth, counted from 1: layer l of L is in part ⌊l · of / L⌋ + 1.
    Part {
        /// Which part, from 1.
        part: u32,
        /// Of how many.
        of: u32,
    },
    /// From one layer to another, counted from 0, both included; without an end, to the last.
    Range {
        /// The first layer.
        from: u32,
        /// The last one.
        to: Option<u32>,
    },
}

impl Layers {
    /// As part of a parameter's name: `layers_1_of_4`, `layers_0_7`, `layers_24_on`.
    pub fn name(&self) -> String {
        match self {
            Layers::Part { part, of } => format!("layers_{part}_of_{of}"),
            Layers::Range { from, to: Some(to) } => format!("layers_{from}_{to}"),
            Layers::Range { from, to: None } => format!("layers_{from}_on"),
        }
    }

    fn holds(&self, place: Place, layers: u32) -> bool {
        match (*self, place) {
            (Layers::Part { part, .. }, Place::Before) => part == 1,
            (Layers::Part { part, of }, Place::After) => part == of,
            (Layers::Part { part, of }, Place::Layer(l)) => {
                u64::from(l) * u64::from(of) / u64::from(layers.max(1)) == u64::from(part - 1)
            }
            (Layers::Range { from, .. }, Place::Before) => from == 0,
            (Layers::Range { to, .. }, Place::After) => to.is_none(),
            (Layers::Range { from, to }, Place::Layer(l)) => from <= l && to.is_none_or(|to| l <= to),
        }
    }
}

impl fmt::Display for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Layers::Part { part, of } => write!(f, "{part}/{of}"),
            Layers::Range { from, to: Some(to) } => write!(f, "{from}-{to}"),
            Layers::Range { from, to: None } => write!(f, "{from}-"),
        }
    }
}

/// The text names no layers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} names no layers: write \"0-7\", \"24-\" (to the last) or \"1/4\" (the first of four equal parts)"
)]
pub struct BadLayers(String);

impl FromStr for Layers {
    type Err = BadLayers;
    fn from_str(text: &str) -> Result<Layers, BadLayers> {
        let bad = || BadLayers(text.into());
        let number = |s: &str| match s.bytes().all(|b| b.is_ascii_digit()) {
            true => s.parse::<u32>().map_err(|_| bad()),
            false => Err(bad()),
        };
        let found = match (text.split_once('/'), text.split_once('-')) {
            (Some((part, of)), _) => Layers::Part { part: number(part)?, of: number(of)? },
            (None, Some((from, ""))) => Layers::Range { from: number(from)?, to: None },
            (None, Some((from, to))) => Layers::Range { from: number(from)?, to: Some(number(to)?) },
            (None, None) => Layers::Range { from: number(text)?, to: Some(number(text)?) },
        };
        match found {
            Layers::Part { part, of } if part == 0 || part > of => Err(bad()),
            Layers::Range { from, to: Some(to) } if to < from => Err(bad()),
            found => Ok(found),
        }
    }
}

impl TryFrom<String> for Layers {
    type Error = BadLayers;
    fn try_from(text: String) -> Result<Layers, BadLayers> {
        text.parse()
    }
}

impl From<Layers> for String {
    fn from(layers: Layers) -> String {
        layers.to_string()
    }
}

/// Tensors by their names. The words are for what is named as in a Llama.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Filter {
    /// `self_attn`.
    Attention,
    /// `mlp`.
    Mlp,
    /// `embed_tokens` and `lm_head`: one row a token.
    Embeddings,
    /// `norm`.
    Norms,
    /// A whole name in which each `*` stands for any text.
    Pattern(String),
}

impl Filter {
    /// The words, in the order in which people think of them.
    pub const WORDS: [(&str, Filter); 4] = [
        ("attention", Filter::Attention),
        ("mlp", Filter::Mlp),
        ("embeddings", Filter::Embeddings),
        ("norms", Filter::Norms),
    ];

    /// What names contain that fit, or the pattern that they have as a whole.
    pub fn parts(&self) -> Result<&'static [&'static str], &str> {
        match self {
            Filter::Attention => Ok(&["self_attn"]),
            Filter::Mlp => Ok(&["mlp"]),
            Filter::Embeddings => Ok(&["embed_tokens", "lm_head"]),
            Filter::Norms => Ok(&["norm"]),
            Filter::Pattern(pattern) => Err(pattern),
        }
    }

    /// Whether the tensor of that name is meant.
    pub fn fits(&self, tensor: &str) -> bool {
        match self.parts() {
            Ok(parts) => parts.iter().any(|part| tensor.contains(part)),
            Err(pattern) => glob(pattern, tensor),
        }
    }

    /// As part of a parameter's name: the word, or the pattern without its stars.
    pub fn name(&self) -> String {
        let stars = |c: char| c == '*' || c == '.' || c == '_';
        match self {
            Filter::Pattern(pattern) => pattern.trim_matches(stars).replace('*', "_"),
            word => word.to_string(),
        }
    }
}

/// Whether `text` is `pattern`, `*` standing for any text.
fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Filter::Pattern(pattern) => f.write_str(pattern),
            word => f.write_str(Filter::WORDS.iter().find(|(_, w)| w == word).map_or("", |(name, _)| name)),
        }
    }
}

/// The text is neither one of the words nor a pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no filter: write attention, mlp, embeddings or norms, or a pattern with a star such as \"*.q_proj.*\" \
     (letters, digits, and - _ . *)"
)]
pub struct BadFilter(String);

impl TryFrom<String> for Filter {
    type Error = BadFilter;
    fn try_from(text: String) -> Result<Filter, BadFilter> {
        if let Some((_, word)) = Filter::WORDS.iter().find(|(name, _)| *name == text) {
            return Ok(word.clone());
        }
        let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.*".contains(c));
        let named = text.chars().any(|c| c.is_ascii_alphanumeric());
        match plain && named && text.contains('*') && text.len() <= 128 {
            true => Ok(Filter::Pattern(text)),
            false => Err(BadFilter(text)),
        }
    }
}

impl From<Filter> for String {
    fn from(filter: Filter) -> String {
        filter.to_string()
    }
}

/// Where a tensor stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// Before the layers: the embedding.
    Before,
    /// In this layer, counted from 0.
    Layer(u32),
    /// Behind the layers: the last norm, the output matrix, and whatever else has no layer in its name.
    After,
}

/// A model's layers, as its tensors' names tell them (`….layers.12.…`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stack {
    layers: u32,
}

impl Stack {
    /// So many layers.
    pub fn new(layers: u32) -> Stack {
        Stack { layers }
    }

    /// The layers that the names tell of.
    pub fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Stack {
        let last = names.into_iter().filter_map(layer).max();
        Stack { layers: last.map_or(0, |l| l.saturating_add(1)) }
    }

    /// How many there are.
    pub fn layers(&self) -> u32 {
        self.layers
    }

    /// Where the tensor of that name stands.
    pub fn place(&self, tensor: &str) -> Place {
        match layer(tensor) {
            Some(layer) => Place::Layer(layer),
            None if tensor.contains("embed_tokens") => Place::Before,
            None => Place::After,
        }
    }

    /// Where that is, from 0 at the first layer to 1 at the last; 1 in a stack of one layer, as mergekit has it.
    pub fn position(&self, place: Place) -> f64 {
        match place {
            Place::Before => 0.0,
            Place::Layer(l) if self.layers > 1 => f64::from(l) / f64::from(self.layers - 1),
            Place::Layer(_) | Place::After => 1.0,
        }
    }
}

fn layer(tensor: &str) -> Option<u32> {
    let mut parts = tensor.split('.');
    parts.find(|part| *part == "layers")?;
    parts.next()?.parse().ok()
}

/// Linear between values at equal distances, of which there is at least one, at `t` in [0, 1].
/// Source: `evaluate_setting` in `mergekit/config.py` of mergekit 0.1.5, to the last bit.
pub fn interpolate(values: &[f64], t: f64) -> f64 {
    let last = values.len() - 1;
    let scaled = t * last as f64;
    let lower = (scaled as usize).min(last);
    let share = scaled - lower as f64;
    (1.0 - share) * values[lower] + share * values[last.min(lower + 1)]
}

/// What a case has for the tensors that it fits.
#[derive(Clone, Debug, PartialEq)]
pub enum Along<N> {
    /// One value for all.
    Value(N),
    /// Values from the first layer to the last, at least two.
    Knots(Vec<N>),
}

/// Tensors, and their value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    try_from = "CaseForm<N>",
    into = "CaseForm<N>",
    bound(serialize = "N: Clone + Serialize", deserialize = "N: Deserialize<'de>")
)]
pub struct Case<N> {
    /// The layers; none stands for all.
    pub layers: Option<Layers>,
    /// The names; none stands for all.
    pub filter: Option<Filter>,
    /// The value.
    pub along: Along<N>,
}

/// A group of tensors that share a number: the case, and where it has knots the place, of which each has its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group {
    /// Position of the case in its list.
    pub case: usize,
    /// The place, where numbers differ from place to place.
    pub place: Option<Place>,
}

impl<N> Case<N> {
    /// Whether it is for the tensor.
    pub fn fits(&self, tensor: &str, stack: &Stack) -> bool {
        self.layers.is_none_or(|l| l.holds(stack.place(tensor), stack.layers))
            && self.filter.as_ref().is_none_or(|f| f.fits(tensor))
    }

    /// Its value, or its knots.
    pub fn numbers(&self) -> &[N] {
        match &self.along {
            Along::Value(value) => std::slice::from_ref(value),
            Along::Knots(knots) => knots,
        }
    }

    /// The same case with other values.
    pub fn map<M>(&self, mut f: impl FnMut(&N) -> M) -> Case<M> {
        let along = match &self.along {
            Along::Value(value) => Along::Value(f(value)),
            Along::Knots(knots) => Along::Knots(knots.iter().map(f).collect()),
        };
        Case { layers: self.layers, filter: self.filter.clone(), along }
    }

    /// In words: `layers 1/4, attention`.
    pub fn tensors(&self) -> String {
        let layers = self.layers.map(|l| format!("layers {l}"));
        let words: Vec<String> =
            layers.into_iter().chain(self.filter.as_ref().map(Filter::to_string)).collect();
        if words.is_empty() { "all others".into() } else { words.join(", ") }
    }
}

/// The first case that fits the tensor, with the group that it makes of it.
pub fn find<'a, N>(cases: &'a [Case<N>], tensor: &str, stack: &Stack) -> Option<(&'a Case<N>, Group)> {
    let case = cases.iter().position(|c| c.fits(tensor, stack))?;
    let place = matches!(cases[case].along, Along::Knots(_)).then(|| stack.place(tensor));
    Some((&cases[case], Group { case, place }))
}

/// A case as files have it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseForm<N> {
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    layers: Option<Layers>,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    filter: Option<Filter>,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    value: Option<N>,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    knots: Option<Vec<N>>,
}

// `serde(default)` alone would ask for `N: Default`.
fn none<T>() -> Option<T> {
    None
}

impl<N> TryFrom<CaseForm<N>> for Case<N> {
    type Error = &'static str;
    fn try_from(form: CaseForm<N>) -> Result<Case<N>, &'static str> {
        let along = match (form.value, form.knots) {
            (Some(value), None) => Along::Value(value),
            (None, Some(knots)) if knots.len() >= 2 => Along::Knots(knots),
            (None, Some(_)) => return Err("knots: expected two or more"),
            _ => return Err("a case has either a value or knots"),
        };
        Ok(Case { layers: form.layers, filter: form.filter, along })
    }
}

impl<N> From<Case<N>> for CaseForm<N> {
    fn from(case: Case<N>) -> CaseForm<N> {
        let (value, knots) = match case.along {
            Along::Value(value) => (Some(value), None),
            Along::Knots(knots) => (None, Some(knots)),
        };
        CaseForm { layers: case.layers, filter: case.filter, value, knots }
    }
}

#[cfg(test)]
#[path = "group_tests.rs"]
mod tests;
