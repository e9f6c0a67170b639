//! What a method holds in memory beside its inputs and its result, worked out from shapes and parameters alone.
//!
//! Follows the allocations of `delta`, `mask`, `select`, `sce`, `nuslerp` and `model_stock`; blocks that fit a cache are left out.

use super::delta::lines;
use super::mask::bits_bytes;
use super::nuslerp::ARC_BYTES;
use super::select::{at_once, rank_bytes};
use super::sort::ITEM_BYTES;
use super::values::Compute;
use super::{Fallback, Method, Parameters, Value};

/// Bytes of a share of `model_stock`.
const SHARE_BYTES: u64 = 4;
/// Bytes a place of a line takes while `della` ranks it: its magnitude, its chance, its random word and its item.
const RANKED_BYTES: u64 = 3 * 4 + ITEM_BYTES;

/// Bytes beside inputs and result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scratch {
    /// Before the result is there: what is kept afterwards, and what finding it takes.
    pub search: u64,
    /// While the result is computed: masks, and numbers of rows or columns.
    pub kept: u64,
}

/// What a tensor of `shape` takes with these parameters: those of the inputs that are not the base, and the shared ones.
/// `threads` are those that work here.
pub fn scratch(
    method: Method,
    shape: &[usize],
    others: &[&Parameters],
    shared: &Parameters,
    compute: Compute,
    threads: usize,
) -> Scratch {
    let elements: usize = shape.iter().product();
    let (ranking, bits) = (rank_bytes(elements, compute), bits_bytes(elements));
    let thinned = others.iter().filter(|p| number(method, p, "density").is_some_and(|d| d < 1.0)).count();
    let masks = thinned as u64 * bits;
    let of = |search: u64, kept: u64| Scratch { search, kept };
    match method {
        Method::Ties | Method::Breadcrumbs | Method::BreadcrumbsTies => {
            of(masks + thinned.min(at_once(elements, compute, threads)) as u64 * ranking, masks)
        }
        Method::DareLinear | Method::DareTies => of(masks, masks),
        Method::Della | Method::DellaLinear => {
            let line = if thinned > 0 { lines(shape).0 as u64 } else { 0 };
            of(masks + threads as u64 * line * RANKED_BYTES, masks)
        }
        Method::Sce => match number(method, shared, "select_topk").is_some_and(|share| share < 1.0) {
            true => of(bits + ranking, bits),
            false => Scratch::default(),
        },
        Method::Nuslerp => {
            let by_column = holds(method, shared, "nuslerp_row_wise");
            let arcs = match (shape, holds(method, shared, "nuslerp_flatten")) {
                ([first, _, ..], false) if by_column => elements.checked_div(*first).unwrap_or(0),
                ([_, .., last], false) => elements.checked_div(*last).unwrap_or(0),
                _ => 1,
            };
            of(arcs as u64 * ARC_BYTES, arcs as u64 * ARC_BYTES)
        }
        Method::ModelStock => {
            let rows = match shape {
                [_, .., last] if holds(method, shared, "filter_wise") => {
                    elements.checked_div(*last).unwrap_or(0)
                }
                _ => 1,
            };
            of(rows as u64 * SHARE_BYTES, rows as u64 * SHARE_BYTES)
        }
        Method::Linear | Method::Slerp | Method::TaskArithmetic | Method::Passthrough => Scratch::default(),
    }
}

/// What is set or else holds; a value that cannot be read is refused by who computes.
fn settled(method: Method, given: &Parameters, name: &str) -> Option<Value> {
    let parameter = method.parameters().iter().find(|p| p.name == name)?;
    match given.0.get(name) {
        Some(value) => parameter.parse(value).ok(),
        None => match parameter.fallback {
            Fallback::Bool(b) => Some(Value::Bool(b)),
            Fallback::Float(x) => Some(Value::Float(x)),
            _ => None,
        },
    }
}

fn number(method: Method, given: &Parameters, name: &str) -> Option<f64> {
    match settled(method, given, name)? {
        Value::Float(x) => Some(x),
        _ => None,
    }
}

fn holds(method: Method, given: &Parameters, name: &str) -> bool {
    settled(method, given, name) == Some(Value::Bool(true))
}
