//! Coarse to fine: the outcome of a search over few parameters as the beginning of one over more.
//!
//! A fine number begins at what its coarse parent says for the same tensors; between coarse knots, where they are
//! interpolated. So fine values are linear in coarse ones: with `A` the matrix of that map in unit-cube coordinates
//! (values and bounds are converted at the mean), mean `m` and covariance `S` become
//!
//! `A m` and `A S Aᵀ + D (I − P) D`,
//!
//! where `P` projects on the columns of `D⁻¹ A` and `D` is diagonal. The first term moves all children of a parent
//! together, as the coarse search had it. The second lets siblings part: its directions are those, and only those, that
//! the coarse search could not see, so the weighted mean of siblings keeps the coarse distribution exactly. `D` is as
//! wide as the parent's own deviation, since nothing says that siblings differ by more than what the search had left
//! open, and at least a tenth of the fine search's `sigma`, or a converged search could not begin again; for the same
//! reason `S` is scaled up, its shape kept, where its widest deviation is below that. Parameters without a parent that
//! was searched begin at its fixed value with `sigma`.
//!
//! Whether a space refines another is tried on the tensors of Llamas of many depths, or of the depth that is known.

use crate::group::{Along, Group, Stack, find};
use crate::run::RunPlan;
use crate::space::{Coefficient, Form, Origin, Parameter};

/// The least own deviation of a fine parameter, as a share of the fine search's `sigma`.
const LEAST: f64 = 0.1;
/// Keeps the smallest axes apart from zero, relative to `sigma`.
const RIDGE: f64 = 1e-5;
/// Depths that are tried where a model's is not known.
const DEPTHS: [u32; 16] = [1, 2, 3, 5, 7, 12, 16, 22, 24, 28, 32, 36, 40, 48, 64, 80];
/// What a Llama's layer holds.
const LAYER: [&str; 9] = [
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
    "input_layernorm",
    "post_attention_layernorm",
];

/// Why a search cannot go on as another.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefineError {
    /// The earlier run merges no source of that name.
    #[error("source {0} is not among the earlier run's sources: name the sources as there")]
    Source(String),
    /// A group of the fine space has tensors of several groups of the coarse one.
    #[error(
        "{number}: the group of {tensors} has no one parent in the earlier run, which divides these tensors otherwise; \
         divide further what it divided (layers = 4 into 8, 12, …; knots = 3 into 5, 7, …), or keep its filters"
    )]
    Group {
        /// Which number.
        number: String,
        /// Which tensors.
        tensors: String,
    },
    /// What the parent has is out of the fine parameter's bounds.
    #[error("{parameter}: the earlier run is at {value}, outside of the bounds here; widen them")]
    Bounds {
        /// The parameter.
        parameter: String,
        /// Where the earlier run is.
        value: String,
    },
    /// A covariance with no width in some direction.
    #[error(
        "what the earlier run found has no width in some direction here, as numbers far apart have; give the parameters \
         the bounds that they had there"
    )]
    Narrow,
    /// Numbers of another count than the coarse space's.
    #[error("the earlier run's mean has {found} coordinates, its space {expected}")]
    Dimensions {
        /// What came.
        found: usize,
        /// What was expected.
        expected: usize,
    },
}

/// Where a fine parameter's value comes from: a constant and shares of coarse parameters' values.
#[derive(Clone, Debug, Default, PartialEq)]
struct Parent {
    constant: f64,
    shares: Vec<(usize, f64)>,
}

/// A mean and a covariance in unit-cube coordinates.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution {
    /// The mean.
    pub mean: Vec<f64>,
    /// The covariance, row by row.
    pub covariance: Vec<Vec<f64>>,
}

/// How a fine space descends from a coarse one.
#[derive(Clone, Debug, PartialEq)]
pub struct Refinement {
    coarse: Vec<Parameter>,
    fine: Vec<Parameter>,
    parents: Vec<Parent>,
}

impl Refinement {
    /// Finds every fine parameter's parent. `layers` is the depth of the base, where that is known.
    ///
    /// # Errors
    /// [`RefineError::Source`], [`RefineError::Group`].
    pub fn new(coarse: &RunPlan, fine: &RunPlan, layers: Option<u32>) -> Result<Refinement, RefineError> {
        let mut parents = vec![Parent::default(); fine.space.dimensions()];
        let names = |plan: &RunPlan| -> Vec<String> {
            plan.models.sources.iter().map(|s| s.model.name.clone()).collect()
        };
        let (old, new) = (names(coarse), names(fine));
        let all = coarse.space.coefficients();
        for (kind, source, coefficient) in fine.space.coefficients() {
            let (number, place) = match source {
                None => (kind.to_string(), None),
                Some(i) => {
                    let at = old.iter().position(|n| *n == new[i]);
                    (
                        format!("{kind} of {}", new[i]),
                        Some(at.ok_or_else(|| RefineError::Source(new[i].clone()))?),
                    )
                }
            };
            let parent = all.iter().find(|(k, s, _)| *k == kind && *s == place).map(|(_, _, c)| *c);
            let parent = parent.expect("every space has every kind of coefficient");
            descend(parent, coefficient, &number, layers, &mut parents)?;
        }
        let seed = |c: &RunPlan, i: Option<usize>, fixed: f64| match i {
            Some(i) if c.space.parameters.len() > i => Parent { constant: 0.0, shares: vec![(i, 1.0)] },
            _ => Parent { constant: fixed, shares: Vec::new() },
        };
        if let Some(i) = fine.space.mask_seed {
            parents[i] = seed(coarse, coarse.space.mask_seed, coarse.merge.mask_seed as f64);
        }
        if let Some(i) = fine.space.mask {
            let word = |w: &String| crate::recipe::Mask::from_word(w) == Some(coarse.merge.mask);
            let at = match &fine.space.parameters[i].form {
                Form::Words(words) => words.iter().position(word).unwrap_or(0),
                _ => 0,
            };
            parents[i] = seed(coarse, coarse.space.mask, at as f64);
        }
        let (coarse, fine) = (coarse.space.parameters.clone(), fine.space.parameters.clone());
        Ok(Refinement { coarse, fine, parents })
    }

    /// The fine space's point that stands for a coarse one.
    ///
    /// # Errors
    /// [`RefineError::Bounds`], [`RefineError::Dimensions`].
    pub fn point(&self, coarse: &[f64]) -> Result<Vec<f64>, RefineError> {
        let (found, expected) = (coarse.len(), self.coarse.len());
        if found != expected {
            return Err(RefineError::Dimensions { found, expected });
        }
        let one = |(p, parent): (&Parameter, &Parent)| {
            if let [(i, share)] = parent.shares[..]
                && share == 1.0
                && (&self.coarse[i].low, &self.coarse[i].high, &self.coarse[i].form)
                    == (&p.low, &p.high, &p.form)
            {
                return Ok(coarse[i].clamp(0.0, 1.0));
            }
            let value = |i: usize| self.coarse[i].value(coarse[i].clamp(0.0, 1.0));
            let value =
                parent.constant + parent.shares.iter().map(|(i, share)| share * value(*i)).sum::<f64>();
            p.coordinate(value)
                .ok_or_else(|| RefineError::Bounds { parameter: p.name.clone(), value: value.to_string() })
        };
        self.fine.iter().zip(&self.parents).map(one).collect()
    }

    /// The fine distribution; see the module. `sigma` is the fine search's initial deviation.
    ///
    /// # Errors
    /// As [`Refinement::point`].
    pub fn distribution(&self, coarse: &Distribution, sigma: f64) -> Result<Distribution, RefineError> {
        let mean = self.point(&coarse.mean)?;
        let (n, k) = (self.fine.len(), self.coarse.len());
        let least = LEAST * sigma;
        let widest = (0..k).map(|i| coarse.covariance[i][i].max(0.0).sqrt()).fold(0.0, f64::max);
        let grow = if widest > 0.0 && widest < least { (least / widest).powi(2) } else { 1.0 };
        let mut a = vec![vec![0.0; k]; n];
        for ((row, parent), (fine, x)) in a.iter_mut().zip(&self.parents).zip(self.fine.iter().zip(&mean)) {
            for (i, share) in &parent.shares {
                let x_coarse = coarse.mean[*i].clamp(0.0, 1.0);
                row[*i] = share * self.coarse[*i].slope(x_coarse) / fine.slope(*x);
            }
        }
        let mut covariance = vec![vec![0.0; n]; n];
        for (i, row) in covariance.iter_mut().enumerate() {
            let left: Vec<f64> = (0..k)
                .map(|q| (0..k).map(|p| a[i][p] * coarse.covariance[p][q]).sum::<f64>() * grow)
                .collect();
            for (j, cell) in row.iter_mut().enumerate() {
                *cell = left.iter().zip(&a[j]).map(|(l, r)| l * r).sum();
            }
        }
        let own: Vec<f64> = (0..n)
            .map(|i| match self.parents[i].shares.is_empty() {
                true => sigma,
                false => covariance[i][i].max(0.0).sqrt().max(least),
            })
            .collect();
        let scaled = |q: usize| -> Vec<f64> { (0..n).map(|i| a[i][q] / own[i]).collect() };
        let basis = orthonormal((0..k).map(scaled));
        for i in 0..n {
            for j in 0..n {
                let seen: f64 = basis.iter().map(|b| b[i] * b[j]).sum();
                covariance[i][j] += own[i] * (f64::from(u8::from(i == j)) - seen) * own[j];
            }
            covariance[i][i] += (RIDGE * sigma).powi(2);
        }
        Ok(Distribution { mean, covariance })
    }
}

/// Vectors of length 1 at right angles that span the same (Gram and Schmidt's method, twice for its rounding).
fn orthonormal(columns: impl Iterator<Item = Vec<f64>>) -> Vec<Vec<f64>> {
    let length = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>().sqrt();
    let mut basis: Vec<Vec<f64>> = Vec::new();
    for mut v in columns {
        let before = length(&v);
        for b in basis.iter().chain(&basis) {
            let dot: f64 = v.iter().zip(b).map(|(x, y)| x * y).sum();
            v.iter_mut().zip(b).for_each(|(x, y)| *x -= dot * y);
        }
        let after = length(&v);
        if after > 1e-9 * before.max(f64::MIN_POSITIVE) {
            v.iter_mut().for_each(|x| *x /= after);
            basis.push(v);
        }
    }
    basis
}

/// Notes the parents of one fine coefficient's parameters.
fn descend(
    coarse: &Coefficient,
    fine: &Coefficient,
    number: &str,
    layers: Option<u32>,
    parents: &mut [Parent],
) -> Result<(), RefineError> {
    let mut set = |origin: &Origin, parent: &Parent| {
        if let Origin::Searched(i) = origin {
            parents[*i] = parent.clone();
        }
    };
    match fine {
        Coefficient::Fixed(_) => {}
        Coefficient::Searched(i) => {
            set(&Origin::Searched(*i), &value_of(coarse, None, "all tensors", number, layers)?);
        }
        Coefficient::Cases(cases) => {
            for (position, case) in cases.iter().enumerate() {
                let origins = case.numbers();
                if origins.iter().all(|o| matches!(o, Origin::Fixed(_))) {
                    continue;
                }
                let tensors = case.tensors();
                let group = Some((fine, position));
                match (&case.along, knots_of(coarse, group, layers)) {
                    (Along::Knots(own), Some(knots)) if (own.len() - 1).is_multiple_of(knots.len() - 1) => {
                        for (k, origin) in own.iter().enumerate() {
                            set(origin, &between(knots, k, own.len()));
                        }
                    }
                    _ => {
                        let parent = value_of(coarse, group, &tensors, number, layers)?;
                        origins.iter().for_each(|origin| set(origin, &parent));
                    }
                }
            }
        }
    }
    Ok(())
}

fn of_origin(origin: &Origin) -> Parent {
    match origin {
        Origin::Fixed(v) => Parent { constant: *v, shares: Vec::new() },
        Origin::Searched(i) => Parent { constant: 0.0, shares: vec![(*i, 1.0)] },
    }
}

/// What coarse knots give at knot `k` of so many.
fn between(knots: &[Origin], k: usize, count: usize) -> Parent {
    let per = (count - 1) / (knots.len() - 1);
    let (lower, share) = (k / per, (k % per) as f64 / per as f64);
    let mut parent = Parent::default();
    for (origin, share) in [(lower, 1.0 - share), (lower + 1, share)] {
        if share > 0.0 {
            match knots[origin] {
                Origin::Fixed(v) => parent.constant += share * v,
                Origin::Searched(i) => parent.shares.push((i, share)),
            }
        }
    }
    parent
}

/// A case of a fine coefficient.
type Of<'a> = Option<(&'a Coefficient, usize)>;

/// The coarse groups in which the case's tensors are.
fn groups(coarse: &[crate::group::Case<Origin>], of: Of<'_>, layers: Option<u32>) -> Vec<Option<Group>> {
    let mut found = Vec::new();
    for depth in layers.map_or(DEPTHS.to_vec(), |l| vec![l]) {
        let stack = Stack::new(depth);
        let inner = (0..depth).flat_map(|l| LAYER.map(|name| format!("model.layers.{l}.{name}.weight")));
        let outside = ["model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"].map(String::from);
        for name in inner.chain(outside) {
            let meant = match of {
                Some((Coefficient::Cases(cases), position)) => {
                    find(cases, &name, &stack).is_some_and(|(_, g)| g.case == position)
                }
                _ => true,
            };
            let group = find(coarse, &name, &stack).map(|(_, g)| Group { place: None, ..g });
            if meant && !found.contains(&group) {
                found.push(group);
            }
        }
    }
    found
}

/// The knots of the one coarse case in which the case's tensors are.
fn knots_of<'a>(coarse: &'a Coefficient, of: Of<'_>, layers: Option<u32>) -> Option<&'a [Origin]> {
    let Coefficient::Cases(cases) = coarse else { return None };
    match groups(cases, of, layers)[..] {
        [Some(group)] => match &cases[group.case].along {
            Along::Knots(knots) => Some(knots),
            Along::Value(_) => None,
        },
        _ => None,
    }
}

/// The one number that the coarse coefficient has for all of the case's tensors.
fn value_of(
    coarse: &Coefficient,
    of: Of<'_>,
    tensors: &str,
    number: &str,
    layers: Option<u32>,
) -> Result<Parent, RefineError> {
    let none = || RefineError::Group { number: number.into(), tensors: tensors.into() };
    match coarse {
        Coefficient::Fixed(v) => Ok(of_origin(&Origin::Fixed(*v))),
        Coefficient::Searched(i) => Ok(of_origin(&Origin::Searched(*i))),
        Coefficient::Cases(cases) => match groups(cases, of, layers)[..] {
            [Some(group)] => match &cases[group.case].along {
                Along::Value(origin) => Ok(of_origin(origin)),
                Along::Knots(_) => Err(none()),
            },
            _ => Err(none()),
        },
    }
}

#[cfg(test)]
#[path = "refine_tests.rs"]
mod tests;
