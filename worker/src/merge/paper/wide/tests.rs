//! What kernels for float16 do with additions, against what its numbers are. Whole kernels: `paper/tests.rs`.

#![expect(unsafe_code, reason = "functions compiled for features that were found")]

use super::super::{Rule, Term, f16_nearest};
use super::kernel::{ANY_HALF, HALF, rounded};
use super::*;
use crate::checkpoint::Dtype;

/// Every float16, the middle between it and its neighbour, and what is beside the middle; and numbers of any bits.
fn numbers() -> impl Iterator<Item = f32> {
    let near = (0..=u16::MAX).flat_map(|bits| {
        let wide = |bits: u16| half::f16::from_bits(bits).to_f32().to_bits();
        let number = wide(bits);
        let middle = number.wrapping_add(wide(bits.wrapping_add(1)).wrapping_sub(number) / 2);
        [number, middle, middle.wrapping_sub(1), middle.wrapping_add(1)].map(f32::from_bits)
    });
    let any = (0_u32..1 << 18).map(|i| f32::from_bits(i.wrapping_mul(2_654_435_761)));
    near.chain(any)
}

#[test]
fn a_sum_and_a_difference_round_to_float16() {
    if !here() {
        return;
    }
    let (mut tried, mut all) = (0, numbers().peekable());
    while all.peek().is_some() {
        let mut some = [0.0; 16];
        some.iter_mut().zip(&mut all).for_each(|(place, x)| *place = x);
        // SAFETY: `here` has found the features.
        let [half, any] = unsafe { [rounded::<HALF>(&some), rounded::<ANY_HALF>(&some)] };
        for ((x, half), any) in some.into_iter().zip(half).zip(any) {
            let expected = f16_nearest(x).to_bits();
            assert_eq!(any.to_bits(), expected, "{x:e}");
            // What is larger is noticed.
            if x.abs() < 32_768.0 {
                assert_eq!(half.to_bits(), expected, "{x:e}");
                tried += 1;
            }
        }
    }
    assert!(tried > 300_000, "{tried}");
}

/// Numbers that would become too large on the way are those that are noticed.
#[test]
fn what_is_too_large_for_additions_is_noticed() {
    if !here() {
        return;
    }
    for (weight, keep, scale, most) in [
        (1.0, 1.0, 1.0, 8192.0),
        (0.5, 0.5, 0.5, 4096.0),
        (64.0, 0.5, 2.0, 32.0),
        (-8.0, 1.0, 1.0, 1024.0),
        (1e9, 1.0, 1.0, 0.0),
        (1.0, 0.0, 1.0, 0.0),
        (f32::NAN, 1.0, f32::NAN, 8192.0),
    ] {
        let rule = Rule { weight, drop: 0, keep, threshold: 0 };
        let whole = Whole { scale, tie: 0.0 };
        for (largest, fits) in [
            (most * 0.99, most > 0.0),
            (most, false),
            (-most, false),
            (f32::NAN, false),
            (f32::INFINITY, false),
        ] {
            // In the base, in the model, in its own base.
            for place in 0..3 {
                let mut stored = [[0_u8; 4 * BLOCK]; 3];
                stored[place][4 * 700..4 * 701].copy_from_slice(&f32::to_le_bytes(largest));
                let elements = |place: usize| Elements::new(&stored[place], Dtype::F32);
                let term = Term {
                    source: 0,
                    rule,
                    key: Key([0; 2]),
                    model: elements(1),
                    base: Some(elements(2)),
                    drawn: None,
                };
                let (terms, mut masks) = ([term], Masks::new(1));
                let base = elements(0);
                let Ready { base, shares } = ready(&mut masks, &base, &terms, 0, BLOCK).unwrap();
                // SAFETY: `here` has found the features.
                let done =
                    unsafe { kernel::merge::<1, HALF, false, _>(base, &shares, whole, &mut [0.0; BLOCK]) };
                assert_eq!(done.is_some(), fits, "{largest} at {place}, {weight}, {keep}, {scale}");
            }
        }
    }
}
