//! Random weights: a pure function of model, tensor and index, so that sources can differ a little from one base.

use crate::checkpoint::Dtype;
use half::{bf16, f16};
use rayon::prelude::*;

/// Standard deviation of matrices, as models of this family begin training with.
const WEIGHT: f32 = 0.02;
/// Standard deviation of what a source adds to the base: fine-tuning moves weights by a few percent.
const DELTA: f32 = 0.001;

/// The finaliser of SplitMix64: 64 well mixed bits of a counter.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// Close to a normal number of deviation 1: the sum of four uniform ones.
fn normal(seed: u64, index: u64) -> f32 {
    let bits = mix(seed.wrapping_add(index));
    let sum: u32 = (0..4).map(|i| (bits >> (16 * i)) as u32 & 0xFFFF).sum();
    // Each has variance (2^16)^2 / 12.
    (sum as f32 - 2.0 * 65535.0) / (65536.0 / 3f32.sqrt())
}

/// Fills `out` with one tensor, little endian. Norms are 1, biases 0, all else normal; `model` 0 is the base, any other
/// adds its own small difference.
pub(super) fn fill(name: &str, model: u64, dtype: Dtype, out: &mut [u8]) {
    let tensor = mix(name.bytes().fold(0, |hash, b| mix(hash ^ u64::from(b))));
    let own = mix(tensor ^ mix(model));
    let (centre, spread) = match name {
        n if n.ends_with(".bias") => (0.0, 0.0),
        n if n.contains("norm") => (1.0, 0.0),
        _ => (0.0, WEIGHT),
    };
    let value = |index: u64| {
        let mut value = centre + if spread > 0.0 { spread * normal(tensor, index) } else { 0.0 };
        if model != 0 {
            value += DELTA * normal(own, index);
        }
        value
    };
    const PART: usize = 1 << 16;
    let width = dtype.width();
    out.par_chunks_mut(PART * width).enumerate().for_each(|(part, out)| {
        for (i, out) in out.chunks_exact_mut(width).enumerate() {
            let value = value((part * PART + i) as u64);
            match dtype {
                Dtype::F16 => out.copy_from_slice(&f16::from_f32(value).to_le_bytes()),
                Dtype::Bf16 => out.copy_from_slice(&bf16::from_f32(value).to_le_bytes()),
                _ => out.copy_from_slice(&value.to_le_bytes()),
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_its_base_and_a_little() {
        let tensor = |model: u64| {
            let mut bytes = vec![0; 4 * 200_000];
            fill("model.layers.0.mlp.up_proj.weight", model, Dtype::F32, &mut bytes);
            bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect::<Vec<_>>()
        };
        let (base, source, other) = (tensor(0), tensor(1), tensor(2));
        let deviation = |values: &[f32]| {
            let mean = values.iter().sum::<f32>() / values.len() as f32;
            (values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / values.len() as f32).sqrt()
        };
        let delta = |a: &[f32]| a.iter().zip(&base).map(|(a, b)| a - b).collect::<Vec<_>>();
        assert!((deviation(&base) / WEIGHT - 1.0).abs() < 0.01);
        assert!((deviation(&delta(&source)) / DELTA - 1.0).abs() < 0.01);
        // Two sources differ from each other by as much again as two independent differences do.
        let between: Vec<f32> = source.iter().zip(&other).map(|(a, b)| a - b).collect();
        assert!((deviation(&between) / (DELTA * 2f32.sqrt()) - 1.0).abs() < 0.01);
        assert_eq!(tensor(1), source);
    }
}
