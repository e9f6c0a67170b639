//! By hand and portable, on the same numbers: the same bits.

use super::super::dare::drawn_and_summed;
use super::super::delta::{self, Delta, Kept, Magnitudes};
use super::super::mask::{Mask, drawn};
use super::super::reduce::{self, Rows};
use super::super::select::magnitude_bits;
use super::super::task::{Rule, merge_block, thinned, wide_block};
use super::super::values::Values;
use super::super::{Call, Checked, Input, Method, Parameters, Value, check};
use super::*;
use crate::checkpoint::Dtype;
use crate::merge::block::narrow_bytes;
use crate::merge::field::{self, drop_limit};

/// Two blocks and a bit.
const ELEMENTS: usize = 2 * BLOCK + 40;

/// Stored numbers, some of which are odd: zeros of either sign, the tiniest, infinities, no numbers.
fn stored(stream: u32, dtype: Dtype, odd: bool) -> Vec<u8> {
    so_many(ELEMENTS, stream, dtype, odd)
}

fn so_many(elements: usize, stream: u32, dtype: Dtype, odd: bool) -> Vec<u8> {
    let mut words = vec![0; elements];
    field::words(Key([stream, 5]), 0, &mut words);
    let number = |w: u32| match w % 97 {
        0 if odd => f32::NAN,
        1 if odd => f32::INFINITY,
        2 if odd => f32::NEG_INFINITY,
        3 => 0.0,
        4 => -0.0,
        5 => 1e-40,
        _ => (w >> 8) as f32 / (1 << 22) as f32 - 2.0,
    };
    let mut bytes = vec![0; elements * dtype.width()];
    let numbers: Vec<f32> = words.into_iter().map(number).collect();
    for (numbers, bytes) in numbers.chunks(BLOCK).zip(bytes.chunks_mut(BLOCK * dtype.width())) {
        narrow_bytes(numbers, dtype, bytes);
    }
    bytes
}

fn parameters(values: &[(&str, Value)]) -> Parameters {
    Parameters(values.iter().map(|(name, value)| (name.to_string(), value.clone())).collect())
}

fn same(a: &[f32], b: &[f32]) -> bool {
    a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan())
}

/// Calls `check` for a merge of that many sources, each a quarter heavier than the one before.
fn with(
    method: Method,
    (compute, dtype, odd): (Compute, Dtype, bool),
    sources: usize,
    shared: &Parameters,
    verify: impl Fn(&Checked, &Input),
) {
    let models: Vec<Vec<u8>> = (0..=sources).map(|s| stored(s as u32, dtype, odd)).collect();
    let own: Vec<Parameters> = (0..=sources)
        .map(|s| {
            let density = if s == 2 { 1.0 } else { 0.6 };
            let all = [("weight", Value::Float(0.25 * s as f64)), ("density", Value::Float(density))];
            let takes = |name: &str| s > 0 && method.parameters().iter().any(|p| p.name == name);
            parameters(&all.into_iter().filter(|(name, _)| takes(name)).collect::<Vec<_>>())
        })
        .collect();
    let names: Vec<String> = (0..=sources).map(|s| s.to_string()).collect();
    let inputs: Vec<Input> = (0..=sources)
        .map(|s| Input {
            source: &names[s],
            values: Values::stored(&models[s], dtype).unwrap(),
            parameters: &own[s],
        })
        .collect();
    let call = Call {
        tensor: "t",
        shape: &[ELEMENTS],
        compute,
        inputs: &inputs,
        base: Some(0),
        parameters: shared,
        seed: 3,
        threads: 1,
        spill: None,
    };
    let checked = check(method, &call, Dtype::F32).unwrap();
    verify(&checked, &inputs[0]);
}

/// Numbers that are odd make each sum over a tensor no number, and so all that is rescaled; each type without them as well.
const TYPES: [(Compute, Dtype, bool); 10] = [
    (Compute::Bf16, Dtype::Bf16, true),
    (Compute::F16, Dtype::F16, true),
    (Compute::F32, Dtype::F32, true),
    (Compute::F32, Dtype::Bf16, true),
    (Compute::F32, Dtype::F16, true),
    (Compute::Bf16, Dtype::Bf16, false),
    (Compute::F16, Dtype::F16, false),
    (Compute::F32, Dtype::F32, false),
    (Compute::F32, Dtype::Bf16, false),
    (Compute::F32, Dtype::F16, false),
];

#[test]
fn a_block_of_a_merge() {
    for compute in TYPES {
        for method in [Method::TaskArithmetic, Method::Ties, Method::DareTies, Method::DareLinear] {
            for sources in 1..=MOST {
                // Without rescaling, what was dropped is told from what was not by numbers that are not finite.
                for (normalize, lambda, rescale) in
                    [(true, 1.0, true), (false, 0.7, true), (true, 1.0, false)]
                {
                    let mut shared =
                        vec![("normalize", Value::Bool(normalize)), ("lambda", Value::Float(lambda))];
                    if matches!(method, Method::DareTies | Method::DareLinear) {
                        shared.push(("rescale", Value::Bool(rescale)));
                    }
                    let shared = parameters(&shared);
                    with(method, compute, sources, &shared, |checked, base| {
                        let deltas = thinned(method, checked, base).unwrap();
                        let rule = Rule::new(method, checked);
                        let mut some_finite = false;
                        for first in [0, BLOCK] {
                            let (mut plain, mut ours) = ([0.0; BLOCK], [0.0; BLOCK]);
                            let mut blocks = vec![[0.0; BLOCK]; 2 * sources];
                            let mut of_base = [0.0; BLOCK];
                            merge_block(base, &deltas, &rule, &mut of_base, &mut blocks, first, &mut plain);
                            some_finite |= plain.iter().any(|x| x.is_finite());
                            let fits = rule.columns_are_plain(first + BLOCK);
                            let done = wide_block(base, &deltas, &rule, first, &mut ours);
                            assert_eq!(done, here() && fits);
                            assert!(
                                !done || same(&plain, &ours),
                                "{method:?} {compute:?} {sources} {lambda}"
                            );
                        }
                        // Which of the numbers that are not finite were dropped is seen in neither, unless all are made so.
                        if compute.2 && matches!(method, Method::DareTies | Method::DareLinear) && sources > 1
                        {
                            assert_eq!(some_finite, !rescale, "{method:?} {compute:?} {sources}");
                        }
                        // The last, shorter block is not for it.
                        assert!(!wide_block(base, &deltas, &rule, 2 * BLOCK, &mut [0.0; 40]));
                    });
                }
            }
        }
    }
}

#[test]
fn a_block_of_a_task_vector() {
    for compute in TYPES {
        with(Method::DareTies, compute, 2, &Parameters::default(), |checked, base| {
            for delta in thinned(Method::DareTies, checked, base).unwrap() {
                let (mut plain, mut ours) = ([0.0; BLOCK], [0.0; BLOCK]);
                delta::difference(&delta, BLOCK, &mut plain);
                delta.difference(BLOCK, &mut ours);
                assert!(same(&plain, &ours), "{compute:?}");
                for (falling, turn) in [(false, 0), (true, 0x7fff)] {
                    let Some((base, model)) = delta.stored(BLOCK) else { break };
                    let mut ranked = [0; BLOCK];
                    let done = keys(base, model, falling, &mut ranked);
                    assert_eq!(done, here() && compute.1 == Dtype::Bf16);
                    let bits = plain.map(|x| (magnitude_bits(x) >> 16) as u16 ^ turn);
                    assert!(!done || compute.0 != Compute::Bf16 || ranked == bits, "{compute:?} {falling}");
                    assert!(!keys(base, model, falling, &mut ranked[1..]));
                }
                let Kept::Some(mask) = &delta.kept else { continue };
                let sums = Magnitudes { delta: &delta, mask };
                let round = if delta.work == Compute::F32 { 32 } else { 64 };
                for count in [64, 512, BLOCK] {
                    let (mut plain, mut ours) = ([[0.25; 32]; 2], [[0.25; 32]; 2]);
                    sums.add_filled(BLOCK, count, round, &mut plain);
                    assert_eq!(sums.add_wide(BLOCK, count, &mut ours), here());
                    let equal = plain.iter().zip(&ours).all(|(plain, ours)| same(plain, ours));
                    assert!(!here() || equal, "{compute:?} {count}");
                }
                assert!(!sums.add_wide(BLOCK + 64, 64, &mut [[0.0; 32]; 2]));
            }
        });
    }
}

/// A mask and the sums that rescale it: in one pass as in two.
#[test]
fn a_mask_that_is_drawn_while_it_is_summed() {
    let key = Key([4, 9]);
    for (elements, odd) in [(1023, false), (1024, false), (1100, true), (70_001, false), (300_000, false)] {
        for dtype in [Dtype::Bf16, Dtype::F32] {
            let (base, model) = (so_many(elements, 1, dtype, odd), so_many(elements, 2, dtype, odd));
            let none = Parameters::default();
            let input = |bytes| Input {
                source: "s",
                values: Values::stored(bytes, dtype).unwrap(),
                parameters: &none,
            };
            let (base, model) = (input(&base), input(&model));
            let delta = Delta::whole(&model, &base, Compute::Bf16);
            for probability in [0.0, 0.3, 0.5, 1.0] {
                let once = drawn_and_summed(&delta, key, probability);
                assert_eq!(once.is_some(), here() && dtype == Dtype::Bf16 && elements >= BLOCK);
                let Some((mask, sums)) = once else { continue };
                let mut twice = Delta::whole(&model, &base, Compute::Bf16);
                twice.kept = Kept::Some(Mask::random(elements, key, probability));
                let Kept::Some(drawn) = &twice.kept else { unreachable!("just set") };
                assert!(mask == *drawn, "{elements} {probability}");
                let expected =
                    reduce::sums(twice.work, 1, elements, &Magnitudes { delta: &twice, mask: drawn });
                assert!(same(&sums, &expected), "{elements} {probability}: {sums:?}, not {expected:?}");
                assert_eq!(sums[0].is_nan(), odd);
            }
        }
    }
}

#[test]
fn a_block_of_a_mask() {
    let key = Key([9, 8]);
    for rate in [0.0, 1e-7, 0.4, 1.0] {
        let limit = drop_limit(rate);
        let (mut words, mut kept) = ([0; BLOCK / 64], [false; BLOCK]);
        drawn(key, BLOCK as u64, limit, &mut kept);
        assert_eq!(draw(key, BLOCK as u64, limit, &mut words), here());
        let equal = kept.iter().enumerate().all(|(i, kept)| (words[i / 64] >> (i % 64) & 1 != 0) == *kept);
        assert!(!here() || equal, "{rate}");
        assert!(!draw(key, 0, limit, &mut words[1..]));
    }
}
