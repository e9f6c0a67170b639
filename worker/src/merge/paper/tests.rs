//! Single operations, and the kernels by hand against the portable ones.

use super::*;
use half::f16;

#[test]
fn a_product_with_the_inverse_is_the_quotient() {
    // What is kept at drop rates of all kinds, and neighbours of powers of two.
    let keeps = [0.7f32, 0.1, 1.0 / 3.0, 0.999_999_9, 0.500_000_06, 1.0, 5.960_464_5e-8, 0.0];
    for keep in keeps {
        let inverse = f64::from(keep).recip();
        let same = |x: f32| {
            let (found, expected) = (times_inverse(x, inverse), x / keep);
            found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan()
        };
        // Every significand once, and all exponents with the subnormal ones among them.
        for significand in 0..1u32 << 23 {
            let exponent = significand.wrapping_mul(0x9e37_79b9) >> 24;
            let x = f32::from_bits(exponent << 23 | significand);
            assert!(same(x) && same(-x), "{x:e} / {keep}");
        }
    }
}

#[test]
fn rounds_as_the_half_crate() {
    let check = |x: f32| {
        let (found, expected) = (f16_nearest(x), f16::from_f32(x).to_f32());
        assert!(
            found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan(),
            "{x:e}: {found:e}, expected {expected:e}"
        );
    };
    // Every float16, the middle between it and its neighbour, and the f32 beside that middle.
    for bits in 0..=u16::MAX {
        let x = f16::from_bits(bits).to_f32();
        let middle = f32::from_bits(x.to_bits().wrapping_add(0x1000));
        let subnormal_middle = x + 2f32.powi(-25);
        for x in [x, middle, subnormal_middle] {
            check(x);
            check(f32::from_bits(x.to_bits().wrapping_add(1)));
            check(f32::from_bits(x.to_bits().wrapping_sub(1)));
        }
    }
    let mut bits = 1u32;
    for _ in 0..200_000 {
        bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        check(f32::from_bits(bits));
    }
    for edge in [65504.0, 65519.99, 65520.0, -65520.0, 65536.0, f32::MAX, f32::INFINITY, f32::NEG_INFINITY] {
        check(edge);
    }
}

/// Masks that are kept as bits give what masks that are drawn give, on any processor and in either arithmetic.
#[test]
fn kept_masks_are_those_that_are_drawn() {
    use crate::checkpoint::Dtype;
    let bytes = |scale: f32| -> Vec<u8> {
        let numbers = (0..2 * BLOCK as u32).map(|i| scale * (i.wrapping_mul(2_654_435_761) >> 20) as f32);
        numbers.flat_map(f32::to_le_bytes).collect()
    };
    let (base, model) = (bytes(1e-4), bytes(3e-4));
    let rule = Rule { weight: 0.5, drop: field::drop_limit(0.4), keep: 0.6, threshold: 0 };
    let key = Key([5, 6]);
    let merged = |drawn: Option<Arc<Drawn>>, arithmetic, first| {
        let model = Elements::new(&model, Dtype::F32);
        let terms = [Term { source: 0, rule, key, model, base: None, drawn }];
        let mut scratch = Scratch::new(1, arithmetic);
        let (base, whole) = (Elements::new(&base, Dtype::F32), Whole { scale: 1.0, tie: 0.0 });
        portable_merge(&mut scratch, base, &terms, whole, first, BLOCK);
        scratch.merged(BLOCK).to_vec()
    };
    for arithmetic in [Arithmetic::Float32, Arithmetic::Float16] {
        let kept = Arc::new(Drawn::new(key, rule.drop, 2 * BLOCK));
        for first in [0, BLOCK] {
            let (found, expected) =
                (merged(Some(kept.clone()), arithmetic, first), merged(None, arithmetic, first));
            assert_eq!(found, expected, "{arithmetic:?} from {first}");
            let other = Arc::new(Drawn::new(Key([5, 7]), rule.drop, 2 * BLOCK));
            assert_ne!(merged(Some(other), arithmetic, first), expected, "another mask, another merge");
        }
    }
}

/// The kernels by hand, on a processor that they are for, against what is compiled for every one: everything that a
/// merge may be asked, with numbers of all kinds.
#[cfg(target_arch = "x86_64")]
mod by_hand {
    use super::super::*;
    use crate::checkpoint::Dtype;
    use crate::merge::field::{Key, drop_limit, words};

    /// Numbers of a model beside its base, of many sizes; `odd`, every thirtieth an odd one.
    fn stored(dtype: Dtype, seed: u32, count: usize, odd: bool) -> Vec<u8> {
        let is_odd = odd;
        let mut noise = vec![0; count];
        words(Key([seed, 9]), 0, &mut noise);
        let odd =
            [0.0, -0.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e-45, -f32::MIN_POSITIVE, f32::MAX];
        let number = |w: u32| match w % 30 {
            0 if is_odd => odd[(w / 30) as usize % odd.len()],
            // Some that float16 has with fewer bits, with none, and not at all.
            1 => ((w >> 8) % 4096) as f32 * [1e-3, 1e-6, -1e-9, 1e-12][(w / 30) as usize % 4],
            // Of a few values, so that differences cancel.
            _ => ((w >> 8) % 17) as f32 / 64.0 - 0.125,
        };
        let bytes = noise.into_iter().map(number).map(|x| match dtype {
            Dtype::F32 => x.to_le_bytes().to_vec(),
            Dtype::F16 => half::f16::from_f32(x).to_le_bytes().to_vec(),
            _ => half::bf16::from_f32(x).to_le_bytes().to_vec(),
        });
        bytes.flatten().collect()
    }

    fn same(found: &[f32], expected: &[f32]) -> bool {
        let one = |(f, e): (&f32, &f32)| f.to_bits() == e.to_bits() || f.is_nan() && e.is_nan();
        found.len() == expected.len() && found.iter().zip(expected).all(one)
    }

    #[test]
    fn gives_the_same_bits_as_the_portable_kernels() {
        if !crate::merge::avx512::here() {
            eprintln!("this processor lacks AVX-512: nothing to compare");
            return;
        }
        // A counter of more than 32 bits is in the masks' own test.
        let count = 2 * BLOCK;
        let types = [Dtype::Bf16, Dtype::F16, Dtype::F32];
        for (arithmetic, odd) in [
            (Arithmetic::Float32, true),
            (Arithmetic::Float32, false),
            (Arithmetic::Float16, true),
            (Arithmetic::Float16, false),
        ] {
            let bytes: Vec<Vec<u8>> = (0..19).map(|n| stored(types[n as usize % 3], n, count, odd)).collect();
            compare(&bytes, arithmetic);
        }
    }

    fn compare(bytes: &[Vec<u8>], arithmetic: Arithmetic) {
        let (count, types) = (2 * BLOCK, [Dtype::Bf16, Dtype::F16, Dtype::F32]);
        let elements = |n: usize| Elements::new(&bytes[n], types[n % 3]);
        let mut counted = 0;
        for terms in 1..=wide::MOST {
            for case in 0..6u32 {
                let term = |s: usize| {
                    let drop = [0.0, 0.3, 0.999][(s + case as usize) % 3];
                    let rule = Rule {
                        weight: [0.5, -1.5, 0.0, 1.0][(s + case as usize) % 4],
                        drop: drop_limit(drop),
                        keep: (1.0 - drop) as f32,
                        threshold: [0, 0.07f32.to_bits(), 0.2f32.to_bits()][s % 3],
                    };
                    // Two sources of one key, as a shared mask has.
                    let key = Key([s as u32 / 2, case]);
                    let base = (case % 2 == 1 && s.is_multiple_of(2)).then(|| elements(10 + s));
                    let drawn = (case >= 3 && drop > 0.0)
                        .then(|| Arc::new(Drawn::new(key, rule.drop, if s == 1 { BLOCK } else { count })));
                    Term { source: s, rule, key, model: elements(1 + s), base, drawn }
                };
                let list: Vec<Term> = (0..terms).map(term).collect();
                let whole = Whole { scale: 0.7, tie: [1.0, -1.0, 0.0][case as usize % 3] };
                let base = elements(0);
                let fresh = || Scratch::new(terms, arithmetic);
                let (mut ours, mut plain) = (fresh(), fresh());
                for first in [0, BLOCK] {
                    let what = format!("{arithmetic:?}, {terms} sources, case {case}, from {first}");
                    assert!(wide::merge(&mut ours, base, &list, whole, first, BLOCK), "{what}");
                    portable_merge(&mut plain, base, &list, whole, first, BLOCK);
                    assert!(same(ours.merged(BLOCK), plain.merged(BLOCK)), "{what}");
                    let found = wide::signs(&mut ours, base, &list, first, BLOCK);
                    let mut expected = 0;
                    portable_signs(&mut plain, base, &list, first, BLOCK, &mut expected);
                    assert_eq!(found, Some(expected), "{what}");
                    for term in &list {
                        let (mut found, mut expected) = ([1; BLOCK], [2; BLOCK]);
                        assert!(wide::magnitudes(&mut ours, base, term, first, BLOCK, &mut found));
                        portable_magnitudes(&mut plain, base, term, first, BLOCK, &mut expected);
                        let same = |(f, e): (&u32, &u32)| {
                            f == e || f32::from_bits(*f).is_nan() && f32::from_bits(*e).is_nan()
                        };
                        assert!(found.iter().zip(&expected).all(same), "{what}");
                        let (from, mut inside) = (0.06f32.to_bits(), [vec![0; 1 << 20], vec![0; 1 << 20]]);
                        let span = (first, BLOCK);
                        let found = wide::tally(&mut ours, base, term, span, from, &mut inside[0]);
                        let mut expected = 0;
                        portable_tally(&mut plain, base, term, span, from, &mut inside[1], &mut expected);
                        assert_eq!(found, Some(expected), "{what}");
                        assert!(inside[0] == inside[1], "{what}");
                        counted += inside[0].iter().sum::<u64>();
                    }
                }
            }
        }
        assert!(counted > 1000, "{counted}");
    }

    #[test]
    fn leaves_what_does_not_fit() {
        let bytes = stored(Dtype::F32, 1, 2 * BLOCK, true);
        let elements = Elements::new(&bytes, Dtype::F32);
        let rule = Rule { weight: 1.0, drop: 0, keep: 1.0, threshold: 0 };
        let term = |s| Term { source: s, rule, key: Key([0; 2]), model: elements, base: None, drawn: None };
        let whole = Whole { scale: 1.0, tie: 0.0 };
        let many: Vec<Term> = (0..wide::MOST + 1).map(term).collect();
        let scratch = || Scratch::new(many.len(), Arithmetic::Float32);
        assert!(!wide::merge(&mut scratch(), elements, &many, whole, 0, BLOCK));
        assert!(!wide::merge(&mut scratch(), elements, &[], whole, 0, BLOCK));
        assert!(!wide::merge(&mut scratch(), elements, &many[..1], whole, 0, BLOCK - 1));
        assert!(
            !wide::merge(&mut scratch(), elements, &many[..1], whole, BLOCK + 1, BLOCK),
            "beyond the end"
        );
    }
}
