//! `linear`: Σ wᵢ mᵢ, divided by Σ wᵢ when `normalize`.
//!
//! Whatever the type, mergekit adds up in float32 (each product fused with its addition) and rounds at the end.
//! Source: `mergekit/merge_methods/linear.py`.

use super::Checked;
use super::compute::{blocks, each_block};
use super::reduce;
use super::values::{Compute, round_all};
use crate::merge::simd::widest;

pub(super) fn merge(checked: &Checked) -> Vec<f32> {
    let weights: Vec<f32> =
        checked.others.iter().map(|(_, p)| p.number("weight").unwrap_or_default() as f32).collect();
    let total = checked.shared.holds("normalize").then(|| reduce::short(Compute::F32, &weights));
    let compute = checked.call.compute;
    each_block(
        checked.elements,
        || blocks(1),
        |model, first, out| {
            let model = &mut model[0][..out.len()];
            out.fill(0.0);
            for ((input, _), weight) in checked.others.iter().zip(&weights) {
                input.values.read(compute, first, model);
                add_product(out, model, *weight);
            }
            if let Some(total) = total {
                out.iter_mut().for_each(|sum| *sum /= total);
            }
            round_all(compute, out);
        },
    )
}

widest! {
    fn add_product(sums: &mut [f32], model: &[f32], weight: f32) {
        for (sum, m) in sums.iter_mut().zip(model) {
            *sum = m.mul_add(weight, *sum);
        }
    }
}
