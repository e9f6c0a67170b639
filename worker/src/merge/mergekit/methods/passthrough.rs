//! `passthrough`: one model's tensor, times `scale` where one is set. Source: `mergekit/merge_methods/passthrough.py`.

use super::Checked;
use super::compute::{Put, each_block, map};

pub(super) fn merge(checked: &Checked, put: Put) {
    let compute = checked.call.compute;
    let [(input, parameters), ..] = checked.others.as_slice() else { return };
    let scale = parameters.number("scale").map(|s| s as f32);
    each_block(
        checked,
        put,
        || (),
        |(), first, out| {
            input.values.read(compute, first, out);
            if let Some(scale) = scale {
                map(compute, out, |x| x * scale);
            }
        },
    );
}
