//! The merge methods of mergekit 0.1.5, one tensor at a time: the same numbers, bit for bit where they are not random.
//!
//! [`merge`] takes a [`Method`] and a [`Call`], that is one tensor's inputs with their parameters, and gives the merged
//! elements. Nothing here knows about models, layers, filters or files.
//!
//! **Arithmetic.** mergekit computes in the type of its inputs, so in 16 bits every single operation rounds. What
//! torch 2.6 does on a CPU is restated operation by operation: elementwise operations are computed in float32 and
//! rounded to the [`Compute`] type; sums and norms are accumulated in float32, in torch's order, and rounded once.
//!
//! **Chance.** Where mergekit draws from torch's generator, the random field of [`crate::merge::field`] decides, keyed by
//! seed, source and tensor and counted by element: an element that is kept with probability p is kept exactly when
//! its number is at least `1 − p`. The result does not depend on threads, sharding or the order of tensors.

mod compute;
#[cfg(target_arch = "x86_64")]
mod dare;
mod delta;
mod error;
mod linear;
mod mask;
mod model_stock;
mod nuslerp;
mod parameters;
mod passthrough;
mod reduce;
mod sce;
mod scratch;
mod select;
mod slerp;
mod sort;
mod task;
#[cfg(test)]
mod tests;
mod trig;
mod values;
#[cfg(target_arch = "x86_64")]
mod wide;

pub use compute::{PIECE_BYTES, Put};
pub use error::{MethodError, Result};
pub use parameters::{Fallback, Kind, Parameter, Parameters, Scope, Value};
pub use scratch::{Scratch, scratch};
pub use values::{Compute, Values};

use crate::checkpoint::Dtype;
use crate::merge::block::BLOCK;
use parameters::Settled;
use std::path::Path;
use std::str::FromStr;

/// A merge method, by mergekit's name in snake case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Weighted average of the models; no base.
    Linear,
    /// Spherical interpolation between the base and one other model.
    Slerp,
    /// Spherical interpolation between two models or, with a base, two task vectors.
    Nuslerp,
    /// Base plus weighted task vectors.
    TaskArithmetic,
    /// Task vectors trimmed by magnitude, with elected signs.
    Ties,
    /// Task vectors dropped at random.
    DareLinear,
    /// Task vectors dropped at random, with elected signs.
    DareTies,
    /// Task vectors dropped at random, the smaller the likelier, with elected signs.
    Della,
    /// Task vectors dropped at random, the smaller the likelier.
    DellaLinear,
    /// Task vectors without their largest and smallest elements.
    Breadcrumbs,
    /// Task vectors without their largest and smallest elements, with elected signs.
    BreadcrumbsTies,
    /// The average of models drawn towards the base by the angle between their task vectors.
    ModelStock,
    /// Task vectors selected by variance, weighted by energy, with elected signs.
    Sce,
    /// One model, perhaps scaled.
    Passthrough,
}

/// Whether a method has a base among its inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// A base is an input like any other.
    Ignored,
    /// With and without a base the method does different things.
    Optional,
    /// There is no method without one.
    Required,
}

/// How many inputs a method takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contract {
    /// Whether one of them is the base.
    pub base: Base,
    /// Least number of inputs, the base included.
    pub min_inputs: usize,
    /// Largest number of inputs, the base included.
    pub max_inputs: Option<usize>,
    /// The exact number of inputs that are not the base, where there is one.
    pub non_base: Option<usize>,
}

/// What to do with a tensor that the architecture calls optional and that some inputs lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Optional {
    /// Merge those that have it; the contract has to hold for them.
    Contract,
    /// As `Contract`, but a tensor that only one input has is taken over from it.
    Single,
    /// With fewer inputs than the contract's: the base's where only the base has it, else no such tensor.
    BaseOrNone,
}

impl Method {
    /// Every method.
    pub const ALL: [Method; 14] = [
        Method::Linear,
        Method::Slerp,
        Method::Nuslerp,
        Method::TaskArithmetic,
        Method::Ties,
        Method::DareLinear,
        Method::DareTies,
        Method::Della,
        Method::DellaLinear,
        Method::Breadcrumbs,
        Method::BreadcrumbsTies,
        Method::ModelStock,
        Method::Sce,
        Method::Passthrough,
    ];

    /// mergekit's name.
    pub fn name(self) -> &'static str {
        match self {
            Method::Linear => "linear",
            Method::Slerp => "slerp",
            Method::Nuslerp => "nuslerp",
            Method::TaskArithmetic => "task_arithmetic",
            Method::Ties => "ties",
            Method::DareLinear => "dare_linear",
            Method::DareTies => "dare_ties",
            Method::Della => "della",
            Method::DellaLinear => "della_linear",
            Method::Breadcrumbs => "breadcrumbs",
            Method::BreadcrumbsTies => "breadcrumbs_ties",
            Method::ModelStock => "model_stock",
            Method::Sce => "sce",
            Method::Passthrough => "passthrough",
        }
    }

    /// The inputs that the method takes.
    pub fn contract(self) -> Contract {
        let any = Contract { base: Base::Required, min_inputs: 1, max_inputs: None, non_base: None };
        match self {
            Method::Linear => Contract { base: Base::Ignored, ..any },
            Method::Passthrough => Contract { base: Base::Ignored, max_inputs: Some(1), ..any },
            Method::Slerp => Contract { min_inputs: 2, max_inputs: Some(2), ..any },
            Method::Nuslerp => Contract { base: Base::Optional, non_base: Some(2), ..any },
            Method::ModelStock => Contract { min_inputs: 3, ..any },
            _ => any,
        }
    }

    /// What to do with an optional tensor that some inputs lack.
    pub fn optional(self) -> Optional {
        match self {
            Method::Slerp | Method::Nuslerp => Optional::Single,
            Method::ModelStock => Optional::BaseOrNone,
            _ => Optional::Contract,
        }
    }

    /// Whether the method draws random masks.
    pub fn random(self) -> bool {
        matches!(self, Method::DareLinear | Method::DareTies | Method::Della | Method::DellaLinear)
    }
}

impl FromStr for Method {
    type Err = MethodError;

    fn from_str(name: &str) -> Result<Method> {
        Method::ALL.into_iter().find(|m| m.name() == name).ok_or_else(|| MethodError::UnknownMethod {
            name: name.into(),
            known: Method::ALL.map(Method::name).join(", "),
        })
    }
}

/// One input of a merge.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// The model's name: in errors, and as the key of its random mask. Two inputs of one name share a mask.
    pub source: &'a str,
    /// Its elements, as many as the tensor's shape says. They need not be rounded to the type of the arithmetic.
    pub values: Values<'a>,
    /// Its parameters, those of [`Scope::Input`] and, unless it is the base, of [`Scope::NonBase`].
    pub parameters: &'a Parameters,
}

/// One tensor to be merged.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// Its name: in errors, and as part of the key of random masks.
    pub tensor: &'a str,
    /// Its shape, outermost dimension first. An empty shape is one number.
    pub shape: &'a [usize],
    /// The type of the arithmetic, and so of the result.
    pub compute: Compute,
    /// The inputs, the base among them, in the order of the configuration.
    pub inputs: &'a [Input<'a>],
    /// Which of the inputs is the base, if one is.
    pub base: Option<usize>,
    /// The parameters of [`Scope::Shared`].
    pub parameters: &'a Parameters,
    /// Seed of the random masks.
    pub seed: u64,
    /// As how many threads of torch to compute, at least 1. torch splits a sum over a whole tensor of more than 32,768
    /// elements into one part a thread, and the parts' sums are rounded: mergekit's results depend in the last
    /// bits on how many threads it runs with. It changes numbers here as there, and never how many threads work here.
    pub threads: usize,
    /// A folder for files without names, which hold what else would be much memory for very large tensors.
    pub spill: Option<&'a Path>,
}

impl<'a> Call<'a> {
    /// Number of elements of the tensor; `None` when it does not fit a number.
    fn elements(&self) -> Option<usize> {
        self.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))
    }

    /// The base's position where the method looks at it.
    fn base_of(&self, method: Method) -> Option<usize> {
        self.base.filter(|_| method.contract().base != Base::Ignored)
    }
}

/// A call whose inputs and parameters are in order.
struct Checked<'a> {
    call: &'a Call<'a>,
    elements: usize,
    base: Option<&'a Input<'a>>,
    /// The inputs that are not the base, with their parameters, in order.
    others: Vec<(&'a Input<'a>, Settled)>,
    shared: Settled,
    /// The type that the result is rounded to.
    output: Dtype,
}

/// Merges one tensor. The result is in row-major order and holds numbers of [`Call::compute`].
///
/// # Errors
/// Every [`MethodError`] but [`MethodError::UnknownMethod`] and [`MethodError::Dtype`]: the inputs or the parameters do
/// not suit the method.
pub fn merge(method: Method, call: &Call) -> Result<Vec<f32>> {
    let output = call.compute.stored();
    let bytes = merge_as(method, call, output)?;
    let values = Values::stored(&bytes, output)?;
    let mut merged = vec![0.0; values.len()];
    for (b, block) in merged.chunks_mut(BLOCK).enumerate() {
        values.read(call.compute, b * BLOCK, block);
    }
    Ok(merged)
}

/// The same as little-endian bytes of a type, which must be F32, F16 or BF16.
///
/// # Errors
/// As [`merge`], and [`MethodError::Dtype`].
pub fn merge_as(method: Method, call: &Call, output: Dtype) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    merge_pieces(method, call, output, &mut |count, fill| {
        if bytes.is_empty() {
            bytes.reserve_exact(call.elements().unwrap_or_default() * output.width());
        }
        let from = bytes.len();
        bytes.resize(from + count, 0);
        fill(&mut bytes[from..]);
    })?;
    Ok(bytes)
}

/// Gives up memory that merges keep for the tensors that follow.
pub fn forget_room() {
    select::forget();
}

/// The same in pieces of at most [`PIECE_BYTES`], in order.
///
/// # Errors
/// As [`merge_as`], before any piece.
pub fn merge_pieces(method: Method, call: &Call, output: Dtype, put: Put) -> Result<()> {
    if !output.mergeable() {
        return Err(MethodError::Dtype { dtype: output.name() });
    }
    let checked = check(method, call, output)?;
    match (method, checked.base) {
        (Method::Passthrough, _) => passthrough::merge(&checked, put),
        (Method::Nuslerp, _) => nuslerp::merge(&checked, put),
        (Method::Slerp, Some(base)) => slerp::merge(&checked, base, put),
        (Method::ModelStock, Some(base)) => model_stock::merge(&checked, base, put),
        (Method::Sce, Some(base)) => sce::merge(&checked, base, put),
        (_, Some(base)) => task::merge(method, &checked, base, put)?,
        // Every method that needs a base has been refused without one.
        (_, None) => linear::merge(&checked, put),
    }
    Ok(())
}

fn check<'a>(method: Method, call: &'a Call<'a>, output: Dtype) -> Result<Checked<'a>> {
    let contract = method.contract();
    let base = call.base_of(method);
    let others = call.inputs.len() - usize::from(base.is_some_and(|b| b < call.inputs.len()));
    let fits = base.is_none_or(|b| b < call.inputs.len())
        && (contract.base != Base::Required || base.is_some())
        && call.inputs.len() >= contract.min_inputs
        && contract.max_inputs.is_none_or(|max| call.inputs.len() <= max)
        && contract.non_base.is_none_or(|exact| others == exact);
    if !fits {
        return Err(MethodError::Inputs {
            method: method.name(),
            tensor: call.tensor.into(),
            needs: contract.to_string(),
            given: format!("{others} and {}", if base.is_some() { "a base" } else { "no base" }),
        });
    }
    let size = |input: &str, found: usize, expected: usize| MethodError::Elements {
        tensor: call.tensor.into(),
        input: input.into(),
        shape: call.shape.to_vec(),
        expected,
        found,
    };
    let elements = call.elements().ok_or_else(|| size("the merge", 0, usize::MAX))?;
    for input in call.inputs {
        if input.values.len() != elements {
            return Err(size(input.source, input.values.len(), elements));
        }
    }
    let shared = Settled::new(method, |s| s == Scope::Shared, call.parameters, call.tensor, "the merge")?;
    let mut checked = Checked { call, elements, base: None, others: vec![], shared, output };
    for (i, input) in call.inputs.iter().enumerate() {
        let is_base = base == Some(i);
        let fits = |s| s == Scope::Input || (s == Scope::NonBase && !is_base);
        let settled = Settled::new(method, fits, input.parameters, call.tensor, input.source)?;
        match is_base {
            true => checked.base = Some(input),
            false => checked.others.push((input, settled)),
        }
    }
    Ok(checked)
}

impl std::fmt::Display for Contract {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.non_base, self.max_inputs) {
            (Some(n), _) => write!(f, "{n} models besides the base")?,
            (None, Some(max)) if max == self.min_inputs => write!(f, "exactly {max} models")?,
            (None, Some(max)) => write!(f, "{} to {max} models", self.min_inputs)?,
            (None, None) => write!(f, "at least {} models", self.min_inputs)?,
        }
        match self.base {
            Base::Required => write!(f, ", one of them the base"),
            Base::Optional => write!(f, ", which may be left out"),
            Base::Ignored => Ok(()),
        }
    }
}
