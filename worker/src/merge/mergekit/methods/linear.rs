//! `linear`: Σ wᵢ mᵢ, divided by Σ wᵢ when `normalize`.
//!
//! Whatever the type, mergekit adds up in float32 (each product fused with its addition) and rounds at the end.
//! Source: `mergekit/merge_methods/linear.py`.

use super::Checked;
use super::compute::{Put, blocks, each_block};
use super::reduce;
use super::values::{Compute, round_inline};
use crate::merge::block::Block;
use crate::merge::simd::widest;

pub(super) fn merge(checked: &Checked, put: Put) {
    let weights: Vec<f32> =
        checked.others.iter().map(|(_, p)| p.number("weight").unwrap_or_default() as f32).collect();
    let total = checked.shared.holds("normalize").then(|| reduce::short(Compute::F32, &weights));
    let compute = checked.call.compute;
    each_block(
        checked,
        put,
        || blocks(1),
        |model, first, out| merge_block(checked, compute, &weights, total, &mut model[0], first, out),
    );
}

widest! {
    fn merge_block(
        checked: &Checked<'_>,
        compute: Compute,
        weights: &[f32],
        total: Option<f32>,
        model: &mut Block,
        first: usize,
        out: &mut [f32],
    ) {
        let model = &mut model[..out.len()];
        out.fill(0.0);
        for ((input, _), weight) in checked.others.iter().zip(weights) {
            input.values.read_inline(compute, first, model);
            for (sum, m) in out.iter_mut().zip(model.iter()) {
                *sum = m.mul_add(*weight, *sum);
            }
        }
        if let Some(total) = total {
            out.iter_mut().for_each(|sum| *sum /= total);
        }
        round_inline(compute, out);
    }
}
