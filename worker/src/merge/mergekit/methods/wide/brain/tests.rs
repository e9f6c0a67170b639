//! What the kernels look up, against the operations that it stands for. Blocks of merges: `wide/tests.rs`.

use super::super::Compute;
use super::*;
use crate::checkpoint::Dtype;
use crate::merge::block::Elements;
use crate::merge::field::{Key, words};

/// Factors that are bfloat16 numbers, as weights and scales are.
fn factors() -> impl Iterator<Item = f32> {
    let mantissas = [0u16, 1, 2, 21, 43, 64, 77, 85, 106, 126, 127];
    let exponents = [117, 124, 126, 127, 128, 136];
    let words = exponents.into_iter().flat_map(move |e| mantissas.map(|m| e << 7 | m));
    let numbers = words.map(|word| f32::from_bits(u32::from(word) << 16)).filter(|f| FACTORS.contains(f));
    numbers.flat_map(|factor| [factor, -factor])
}

#[test]
fn a_product_is_what_is_looked_up() {
    for scale in std::iter::once(None).chain(factors().map(|f| Some(f.abs()))) {
        for weight in factors() {
            let term = Term::new(scale, weight).unwrap();
            for sign in [0, 0x8000] {
                // Numbers of the least, of the largest and of other exponents.
                for exponent in [59, 60, 100, 127, 166] {
                    for mantissa in 0..128 {
                        let bits = sign | exponent << 7 | mantissa;
                        assert!(DIFFERENCES.contains(&(bits & 0x7fff)));
                        let x = f32::from_bits(u32::from(bits) << 16);
                        let expected = round(round(x * scale.unwrap_or(1.0)) * weight);
                        let step = u16::from(term.steps[usize::from(mantissa)]);
                        let found = bits.wrapping_add(term.shift).wrapping_add(step);
                        let found = f32::from_bits(u32::from(found) << 16);
                        assert!(found.to_bits() == expected.to_bits(), "{x:e} · {scale:?} · {weight}");
                    }
                }
            }
        }
    }
}

#[test]
fn factors_beyond_the_range_are_refused() {
    for factor in [0.0, 1e-4, 1025.0, f32::INFINITY, f32::NAN, -0.0] {
        assert!(Term::new(None, factor).is_none() && Term::new(Some(factor), 1.0).is_none(), "{factor}");
        let rest = Rest { divisor: None, normalize: true, lambda: None };
        let one = [(None, 1.0)];
        assert!(Brains::new(&[(None, factor)], rest).is_none());
        assert!(Brains::new(&one, Rest { lambda: Some(factor), ..rest }).is_none());
        assert!(Brains::new(&one, Rest { divisor: Some(factor), ..rest }).is_none());
        assert_eq!(Brains::new(&one, rest).is_some(), here());
    }
    let rest = Rest { divisor: Some(1.0 + 1.0 / 1024.0), normalize: true, lambda: None };
    assert!(Brains::new(&[(None, 1.0)], rest).is_none(), "no bfloat16 number");
    assert!(Brains::new(&[(None, 1.0 + 1.0 / 1024.0)], Rest { divisor: None, ..rest }).is_none());
    assert!(Brains::new(&[(None, 1.0); MOST + 1], Rest { divisor: None, ..rest }).is_none());
}

/// Numbers and factors from the ends of what the kernels take, where sums nearly cancel with small bases too.
#[test]
fn nothing_is_lost_at_the_ends_of_the_ranges() {
    if !here() {
        return;
    }
    let ends = [1.0 / 1024.0, 1.0 / 1024.0, 1.0, 1024.0];
    let (least, most) = (DIFFERENCES.start() >> 7, (DIFFERENCES.end() >> 7) - 1);
    let (mut quick, mut nearly) = (0, 0);
    for case in 0..2000_u32 {
        let mut noise = vec![0; 9 * BLOCK];
        words(Key([case, 77]), 0, &mut noise);
        let mut picks = [0; 8];
        words(Key([case, 78]), 0, &mut picks);
        let pick = |i: usize| ends[picks[i] as usize % 4];
        // Bases from the least normal number on, and models beside zero: differences of the least and of the largest exponents.
        let base = |n: usize| {
            let exponent = [1, 2, 5, 6, 7, 8, 9, 10, 11, 12, 60, 127][noise[n] as usize / 8 % 12];
            (exponent << 7 | (noise[n] >> 16) as u16 & 0x807f).to_le_bytes()
        };
        let model = |s: usize, n: usize| {
            // Every other model is nearly the opposite of the one before.
            let opposite = s.is_multiple_of(2) && picks[4] % 2 == 0;
            let other = u32::from(opposite) << 31 | noise[s * BLOCK + n] & (1 << 16);
            let word = noise[(s - usize::from(opposite)) * BLOCK + n] ^ other;
            let exponent = [least, least, least, least + 1, least + 4, most]
                [usize::from(word as u16 / 8 % if case % 2 == 0 { 3 } else { 6 })];
            (exponent << 7 | (word >> 16) as u16 & 0x807f).to_le_bytes()
        };
        let sources = 1 + picks[5] as usize % MOST;
        let base: Vec<u8> = (0..BLOCK).flat_map(base).collect();
        let models: Vec<Vec<u8>> =
            (1..=sources).map(|s| (0..BLOCK).flat_map(|n| model(s, n)).collect()).collect();
        let stored = |bytes| Stored::of(&Elements::new(bytes, Dtype::Bf16), 0).unwrap();
        let (scale, weight) = (Some(pick(0)), pick(1));
        let list: Vec<Source> =
            models.iter().map(|m| Source { model: stored(m), kept: None, scale, weight }).collect();
        let divisor = [None, Some(1.0 / pick(2)), Some(-1.0 / pick(2))][picks[6] as usize % 3];
        let rest = Rest { divisor, normalize: true, lambda: Some(pick(3)) };
        let plan = Brains::new(&vec![(scale, weight); sources], rest).unwrap();
        let (mut found, mut expected) = ([0; 2 * BLOCK], [0.0; BLOCK]);
        quick += BLOCK / 32 - plan.merge(stored(&base), &list, &mut found).unwrap();
        assert!(super::super::merge(Compute::Bf16, stored(&base), &list, rest, &mut expected));
        for (n, (found, expected)) in found.as_chunks::<2>().0.iter().zip(expected).enumerate() {
            let found = u16::from_le_bytes(*found);
            assert_eq!(found, bf16_bits(expected), "{n} of case {case}");
            nearly += usize::from((found & 0x7fff) >> 7 <= 3);
        }
    }
    assert!(quick > 1000 && nearly > 100, "{quick} {nearly}");
}

/// All pairs of mantissas, so all quotients but for powers of two.
#[test]
fn a_quotient_is_a_product_with_the_reciprocal() {
    for above in 0..128 {
        for below in 0..128 {
            let number = |mantissa: u32| f32::from_bits(0x3f80 << 16 | mantissa << 16);
            let (above, below) = (number(above), number(below));
            assert!(round(above * (1.0 / below)) == round(above / below), "{above} ÷ {below}");
        }
    }
}

#[test]
fn divisors_are_the_sums_of_the_weights_that_took_part() {
    let weights = [0.5, -0.5, 1.25, 0.30078125];
    let found = reciprocals(&weights);
    assert_eq!((found[0], found[1], found[2], found[3]), (1.0, 2.0, -2.0, 1.0));
    assert_eq!(found[0b1101], 1.0 / round(0.5 + 1.25 + 0.30078125));
    // Fewer weights: their bits alone are ever set.
    assert_eq!(reciprocals(&weights[..2])[..4], found[..4]);
}
