//! `linear`: Σ wᵢ mᵢ, divided by Σ wᵢ when `normalize`.
//!
//! Whatever the type, mergekit adds up in float32 (each product fused with its addition) and rounds at the end.

use super::Checked;
use super::compute::{blocks, each_block};
use super::reduce;
use super::values::round_all;

pub(super) fn merge(checked: &Checked) -> Vec<f32> {
    let weights: Vec<f32> =
        checked.others.iter().map(|(_, p)| p.number("weight").unwrap_or_default() as f32).collect();
    let total = checked.shared.holds("normalize").then(|| reduce::sum_short(&weights));
    let compute = checked.compute();
    each_block(
        checked.elements,
        |_| blocks(1),
        |scratch, first, count, out| {
            let model = &mut scratch[0];
            out.fill(0.0);
            for ((input, _), weight) in checked.others.iter().zip(&weights) {
                input.values.read(compute, first, count, model);
                out.iter_mut().zip(model.iter()).for_each(|(sum, m)| *sum = m.mul_add(*weight, *sum));
            }
            if let Some(total) = total {
                out.iter_mut().for_each(|sum| *sum /= total);
            }
            round_all(compute, out);
        },
    )
}
