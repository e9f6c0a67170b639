//! Sums and norms in the order in which torch 2.6 computes them on a CPU: float32 accumulation is not associative, so
//! the order is part of the result.
//!
//! Source: observed of torch 2.6 with AVX2 kernels (which it uses for these operations on AVX-512 processors too) and
//! checked against it bit by bit. The widths below are those of 256-bit registers.

/// Chains that a sum over few elements runs in.
const CHAINS: usize = 4;

/// The sum of fewer elements than would fill a register: four interleaved chains, the rest into the first.
pub(super) fn sum_short(values: &[f32]) -> f32 {
    let mut chains = [0.0f32; CHAINS];
    let (whole, rest) = values.as_chunks::<CHAINS>();
    for four in whole {
        chains.iter_mut().zip(four).for_each(|(c, v)| *c += v);
    }
    rest.iter().for_each(|v| chains[0] += v);
    chains[0] + chains[1] + chains[2] + chains[3]
}
