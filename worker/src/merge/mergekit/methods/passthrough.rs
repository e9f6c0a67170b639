//! `passthrough`: one model's tensor, times `scale` where one is set.

use super::Checked;
use super::compute::{each_block, map};
use crate::merge::block::BLOCK;

pub(super) fn merge(checked: &Checked) -> Vec<f32> {
    let (input, parameters) = &checked.others[0];
    let scale = parameters.number("scale").map(|s| s as f32);
    let compute = checked.compute();
    each_block(
        checked.elements,
        |_| [0.0; BLOCK],
        |model, first, count, out| {
            input.values.read(compute, first, count, model);
            out.copy_from_slice(&model[..count]);
            if let Some(scale) = scale {
                map(compute, out, |x| x * scale);
            }
        },
    )
}
