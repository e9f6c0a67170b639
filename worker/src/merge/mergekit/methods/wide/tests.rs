//! By hand and portable, on the same numbers: the same bits.

use super::super::dare::drawn_and_summed;
use super::super::delta::{self, Delta, Kept, Magnitudes};
use super::super::mask::{Mask, drawn};
use super::super::reduce::{self, Rows};
use super::super::select::magnitude_bits;
use super::super::task::{Narrow, Rule, merge_block, thinned, wide_block};
use super::super::values::Values;
use super::super::{Call, Checked, Input, Method, Parameters, Value, check};
use super::*;
use crate::checkpoint::Dtype;
use crate::merge::block::narrow_bytes;
use crate::merge::field::{self, drop_limit};
use half::bf16;

/// Two blocks and a bit.
const ELEMENTS: usize = 2 * BLOCK + 40;

/// What is among stored numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Among {
    /// Nothing that takes care.
    Usual,
    /// Zeros of either sign, and the tiniest.
    Small,
    /// These, infinities, and no numbers.
    Odd,
    /// All bits that there are, and numbers that are near each other.
    Any,
}
use Among::{Any, Odd, Small, Usual};

fn stored(stream: u32, dtype: Dtype, among: Among) -> Vec<u8> {
    so_many(ELEMENTS, stream, dtype, among)
}

fn so_many(elements: usize, stream: u32, dtype: Dtype, among: Among) -> Vec<u8> {
    let mut words = vec![0; elements];
    field::words(Key([if among == Any { 5 } else { stream }, 5]), 0, &mut words);
    let number = |w: u32| match w % 97 {
        0 if among == Odd => f32::NAN,
        1 if among == Odd => f32::INFINITY,
        2 if among == Odd => f32::NEG_INFINITY,
        3 if among != Usual => 0.0,
        4 if among != Usual => -0.0,
        5 if among != Usual => 1e-40,
        // All models have the same numbers of these, but for the last bits of bfloat16.
        _ if among == Any => f32::from_bits((w & !0x0f_ffff | (w % 8 * stream % 16) << 16) & !0xffff),
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

/// Calls `check` for a merge of that many sources, each a quarter heavier than the one before, and with every other one against them.
fn with(
    method: Method,
    (compute, dtype, among): (Compute, Dtype, Among),
    (sources, against): (usize, bool),
    shared: &Parameters,
    verify: impl Fn(&Checked, &Input),
) {
    let models: Vec<Vec<u8>> = (0..=sources).map(|s| stored(s as u32, dtype, among)).collect();
    let own: Vec<Parameters> = (0..=sources)
        .map(|s| {
            let density = if s == 2 { 1.0 } else { 0.6 };
            let weight = if against && s % 2 == 0 { -0.25 } else { 0.25 } * s as f64;
            let all = [("weight", Value::Float(weight)), ("density", Value::Float(density))];
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
const TYPES: [(Compute, Dtype, Among); 12] = [
    (Compute::Bf16, Dtype::Bf16, Odd),
    (Compute::F16, Dtype::F16, Odd),
    (Compute::F32, Dtype::F32, Odd),
    (Compute::F32, Dtype::Bf16, Odd),
    (Compute::F32, Dtype::F16, Odd),
    (Compute::Bf16, Dtype::Bf16, Small),
    (Compute::F16, Dtype::F16, Small),
    (Compute::F32, Dtype::F32, Small),
    (Compute::F32, Dtype::Bf16, Small),
    (Compute::F32, Dtype::F16, Small),
    (Compute::Bf16, Dtype::Bf16, Usual),
    (Compute::Bf16, Dtype::Bf16, Any),
];

#[test]
fn a_block_of_a_merge() {
    for compute in TYPES {
        for method in [Method::TaskArithmetic, Method::Ties, Method::DareTies, Method::DareLinear] {
            for sources in 1..=MOST {
                // Without rescaling, what was dropped is told from what was not by numbers that are not finite.
                for (normalize, lambda, rescale, against) in [
                    (true, 1.0, true, false),
                    (false, 0.7, true, false),
                    (true, 1.0, false, false),
                    (true, -1.3, true, true),
                ] {
                    let mut shared =
                        vec![("normalize", Value::Bool(normalize)), ("lambda", Value::Float(lambda))];
                    if matches!(method, Method::DareTies | Method::DareLinear) {
                        shared.push(("rescale", Value::Bool(rescale)));
                    }
                    let shared = parameters(&shared);
                    with(method, compute, (sources, against), &shared, |checked, base| {
                        let deltas = thinned(method, checked, base).unwrap();
                        let rule = Rule::new(method, checked);
                        let narrow = Narrow::new(base, &deltas, &rule);
                        let could = brain::here() && compute.0 == Compute::Bf16;
                        assert!(could || narrow.is_none());
                        // What is rescaled by no number is not for it.
                        assert!(!could || narrow.is_some() || compute.2 == Odd || compute.2 == Any);
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
                            let mut bytes = [0; 2 * BLOCK];
                            let with_care =
                                narrow.as_ref().and_then(|narrow| narrow.block(first, &mut bytes));
                            assert_eq!(with_care.is_some(), narrow.is_some() && fits);
                            let Some(with_care) = with_care else { continue };
                            let numbers =
                                bytes.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32());
                            assert!(
                                same(&plain, &numbers.collect::<Vec<_>>()),
                                "{method:?} {compute:?} {sources} {lambda}"
                            );
                            let all = BLOCK / 32;
                            let expected = if compute.2 == Usual { 0..=0 } else { 1..=all };
                            assert!(expected.contains(&with_care), "{compute:?}: {with_care} of {all}");
                        }
                        // Which of the numbers that are not finite were dropped is seen in neither, unless all are made so.
                        if compute.2 == Odd
                            && matches!(method, Method::DareTies | Method::DareLinear)
                            && sources > 1
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
        with(Method::DareTies, compute, (2, false), &Parameters::default(), |checked, base| {
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
                    let (Some(base), Some(model)) = (base.brain(), model.brain()) else { continue };
                    let quick = brain::keys(base, model, turn, &mut ranked);
                    assert_eq!(quick, brain::here() && compute.2 == Usual, "{compute:?}");
                    assert!(!quick || ranked == bits);
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
                if let Some((base, model)) = delta.stored(BLOCK)
                    && let Some(base) = base.brain()
                    && let Some(source) =
                        (Source { model, kept: mask.block(BLOCK), scale: None, weight: 1.0 }).brain()
                {
                    let [mut all, mut kept] = [[0.0; 32]; 2];
                    let quick = brain::add_magnitudes(base, &source, BLOCK / 32, &mut all, &mut kept);
                    assert_eq!(quick, brain::here() && compute.2 == Usual, "{compute:?}");
                    assert!(quick || all == [0.0; 32] && kept == all);
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
    for (elements, among) in [(1023, Small), (1024, Usual), (1100, Odd), (70_001, Usual), (300_000, Small)] {
        for dtype in [Dtype::Bf16, Dtype::F32] {
            let (base, model) = (so_many(elements, 1, dtype, among), so_many(elements, 2, dtype, among));
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
                assert_eq!(sums[0].is_nan(), among == Odd);
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
