//! `passthrough`: one model's tensor, times `scale` where one is set. Source: `mergekit/merge_methods/passthrough.py`.

use super::Checked;
use super::compute::{each_block, map};

pub(super) fn merge(checked: &Checked) -> Vec<u8> {
    let compute = checked.call.compute;
    let [(input, parameters), ..] = checked.others.as_slice() else { return vec![] };
    let scale = parameters.number("scale").map(|s| s as f32);
    each_block(
        checked,
        || (),
        |(), first, out| {
            input.values.read(compute, first, out);
            if let Some(scale) = scale {
                map(compute, out, |x| x * scale);
            }
        },
    )
}
