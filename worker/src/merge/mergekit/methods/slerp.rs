//! `slerp`: along the great circle from the base to the other model.
//!
//! All in float32, rounded at the end. Models whose cosine is beyond ±0.9995 are interpolated linearly, as are those
//! of no length. Norms and the cosine are taken of stretches of 2²⁰ elements first. Source:
//! `mergekit/merge_methods/slerp.py`.

use super::compute::{Put, blocks, each_block};
use super::reduce;
use super::trig::{acos, sin};
use super::values::{Compute, round_all};
use super::{Checked, Input};
use crate::merge::block::BLOCK;
use rayon::prelude::*;

/// Elements of a stretch.
const STRETCH: usize = 1 << 20;
/// Cosines beyond this count as parallel.
const PARALLEL: f32 = 0.9995;
/// A norm up to this counts as none.
const NO_LENGTH: f32 = 1e-8;

pub(super) fn merge(checked: &Checked, base: &Input, put: Put) {
    let compute = checked.call.compute;
    let [(other, _), ..] = checked.others.as_slice() else { return };
    let t = checked.shared.number("t").unwrap_or_default() as f32;
    let norms = [base, other].map(|model| match norm(compute, model, checked.elements) {
        norm if norm > NO_LENGTH => norm,
        _ => 1.0,
    });
    let cosine = cosine(compute, [base, other], norms, checked);
    let linear = cosine.abs() > PARALLEL;
    let [from, to] = if linear {
        [1.0 - t, t]
    } else {
        let [angle, part] = [acos(Compute::F32, cosine), 1.0 - t];
        let sine = |x: f32| sin(Compute::F32, x);
        [sine(part * angle) / sine(angle), sine(t * angle) / sine(angle)]
    };
    each_block(
        checked,
        put,
        || blocks(1),
        |scratch, first, out| {
            let second = &mut scratch[0][..out.len()];
            base.values.read(compute, first, out);
            other.values.read(compute, first, second);
            out.iter_mut().zip(second).for_each(|(a, b)| *a = from * *a + to * *b);
            round_all(compute, out);
        },
    );
}

/// First element and length of each stretch.
fn stretches(elements: usize) -> Vec<(usize, usize)> {
    (0..elements).step_by(STRETCH).map(|first| (first, (elements - first).min(STRETCH))).collect()
}

fn norm(compute: Compute, model: &Input, elements: usize) -> f32 {
    let fill = |first: usize, out: &mut [f32]| model.values.read(compute, first, out);
    let parts: Vec<f32> = stretches(elements)
        .into_par_iter()
        .map(|(first, count)| reduce::norm(Compute::F32, 1, first, count, &fill))
        .collect();
    let fill = |first: usize, out: &mut [f32]| out.copy_from_slice(&parts[first..first + out.len()]);
    reduce::norm(Compute::F32, 1, 0, parts.len(), &fill)
}

fn cosine(compute: Compute, models: [&Input; 2], norms: [f32; 2], checked: &Checked) -> f32 {
    let fill = |first: usize, out: &mut [f32]| {
        let mut second = [0.0; BLOCK];
        let second = &mut second[..out.len()];
        models[0].values.read(compute, first, out);
        models[1].values.read(compute, first, second);
        out.iter_mut().zip(second).for_each(|(a, b)| *a = *a / norms[0] * (*b / norms[1]));
    };
    let parts: Vec<f32> = stretches(checked.elements)
        .into_par_iter()
        .map(|(from, count)| {
            let fill = |first: usize, out: &mut [f32]| fill(from + first, out);
            reduce::sum(Compute::F32, checked.call.threads, count, &fill)
        })
        .collect();
    reduce::short(Compute::F32, &parts).clamp(-1.0, 1.0)
}
