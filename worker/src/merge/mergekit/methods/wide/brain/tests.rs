//! What the kernels look up, against the operations that it stands for. Blocks of merges: `wide/tests.rs`.

use super::*;

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
                for exponent in [52, 53, 100, 127, 166] {
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
