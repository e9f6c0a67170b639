//! Merges against an independent statement in NumPy, and one model read from every storage form.
//!
//! The data under `data/merge` is written by `scripts/golden/merge_reference.py`, which says how: small models in
//! float32, float16 and bfloat16 and in every storage form, recipes, and their outcomes in float32.

#![forbid(unsafe_code)]

use common::recipe::{Mask, Recipe};
use half::{bf16, f16};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use worker::checkpoint::{Checkpoint, Error};
use worker::merge::{Element, Merger, Prepared, field};

/// Largest distance of an f32 result from the reference, in units in the last place. Both sides round every
/// operation once and in the same order, so they should be equal; one unit is left for a platform whose compiler
/// fuses a product and a sum in the reference.
const F32_ULPS: u32 = 1;

/// Least share of equal values after rounding to 16 bits, for the same reason.
const EQUAL_16_BIT: f64 = 0.9999;

/// Recipes that give the base unchanged: everything dropped or trimmed, scale zero, no sources.
const UNCHANGED: [&str; 4] = ["drop-all", "trim-all", "scale-zero", "none"];

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/merge")
}

fn recipes() -> BTreeMap<String, Recipe> {
    let files = std::fs::read_dir(data().join("recipes")).unwrap().map(|f| f.unwrap().path());
    let read = |path: PathBuf| {
        let recipe = Recipe::parse(&std::fs::read_to_string(&path).unwrap()).unwrap();
        (path.file_stem().unwrap().to_str().unwrap().to_string(), recipe)
    };
    files.map(read).collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

fn compute<T: Element>(merge: &Prepared, name: &str, zero: T) -> Vec<T> {
    let mut out = vec![zero; merge.info(name).unwrap().elements];
    merge.tensor_into(name, &mut out).unwrap();
    out
}

/// Distance in units in the last place; both zeros are one number.
fn ulps(a: f32, b: f32) -> u32 {
    let ordered = |x: f32| {
        let magnitude = (x.to_bits() & 0x7fff_ffff) as i32;
        if x.is_sign_negative() { -magnitude } else { magnitude }
    };
    ordered(a).abs_diff(ordered(b))
}

#[test]
fn merges_equal_the_independent_statement() {
    let expected = std::fs::read(data().join("expected.safetensors")).unwrap();
    let expected = safetensors::SafeTensors::deserialize(&expected).unwrap();
    let base = Checkpoint::open(&data().join("models/base")).unwrap();
    let recipes = recipes();
    assert!(recipes.len() >= 12);
    let (mut values, mut equal_f16, mut equal_bf16, mut worst) = (0usize, 0usize, 0usize, 0u32);
    for (name, recipe) in recipes {
        let merger = Merger::for_recipe(&recipe, |m| data().join("models").join(&m.path)).unwrap();
        let merge = merger.plan(&recipe, &AtomicBool::new(false)).unwrap();
        assert_eq!(merge.names().len(), 7);
        for tensor in merge.names() {
            let reference = match UNCHANGED.contains(&name.as_str()) {
                true => {
                    let bits = base.bytes(tensor).unwrap().as_chunks::<2>().0;
                    bits.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect()
                }
                false => floats(expected.tensor(&format!("{name}/{tensor}")).unwrap().data()),
            };
            let found = compute(&merge, tensor, 0f32);
            assert_eq!(found.len(), reference.len());
            for (i, (f, r)) in found.iter().zip(&reference).enumerate() {
                assert!(ulps(*f, *r) <= F32_ULPS, "{name} {tensor} [{i}]: {f:e}, reference {r:e}");
                worst = worst.max(ulps(*f, *r));
            }
            let halves = compute(&merge, tensor, f16::ZERO);
            equal_f16 += halves.iter().zip(&reference).filter(|(f, r)| **f == f16::from_f32(**r)).count();
            let brains = compute(&merge, tensor, bf16::ZERO);
            equal_bf16 += brains.iter().zip(&reference).filter(|(f, r)| **f == bf16::from_f32(**r)).count();
            values += found.len();
        }
    }
    println!(
        "{values} values, at most {worst} ulps apart in f32, equal in f16 {equal_f16}, in bf16 {equal_bf16}"
    );
    assert!(equal_f16 as f64 >= EQUAL_16_BIT * values as f64);
    assert!(equal_bf16 as f64 >= EQUAL_16_BIT * values as f64);
}

#[test]
fn masks_equal_the_independent_statement() {
    let text = std::fs::read_to_string(data().join("fields.json")).unwrap();
    let fields: BTreeMap<String, Vec<u32>> = serde_json::from_str(&text).unwrap();
    assert_eq!(fields.len(), 4);
    for (what, expected) in fields {
        let parts: Vec<&str> = what.split('|').collect();
        let mask = if parts[0] == "shared" { Mask::Shared } else { Mask::Independent };
        let key = field::Key::new(mask, parts[1].parse().unwrap(), parts[2], parts[3]);
        let mut found = vec![0; expected.len()];
        field::words(key, 0, &mut found);
        assert_eq!(found, expected, "{what}");
    }
}

#[test]
fn every_storage_form_holds_the_same_model() {
    let open = |form: &str| Checkpoint::open(&data().join("forms").join(form)).unwrap();
    let single = open("single");
    assert_eq!(single.names().len(), 6);
    for form in ["shards", "bin", "bin-shards"] {
        let other = open(form);
        assert!(single.names().eq(other.names()), "{form}");
        for name in single.names() {
            assert_eq!(single.info(name), other.info(name), "{form} {name}");
            assert_eq!(single.bytes(name).unwrap(), other.bytes(name).unwrap(), "{form} {name}");
        }
    }
    let tensor = open("bin").tensor("lm_head.weight", &candle_core::Device::Cpu);
    assert!(matches!(tensor, Err(Error::NoTensor { .. })), "the model was made without it");
    let tensor = open("bin").tensor("model.embed_tokens.weight", &candle_core::Device::Cpu).unwrap();
    assert_eq!((tensor.dims(), tensor.dtype()), (&[29, 16][..], candle_core::DType::BF16));
}

#[test]
fn a_pickle_that_runs_commands_is_refused() {
    let refusal = Checkpoint::open(&data().join("forms/attack")).unwrap_err().to_string();
    assert!(refusal.contains("asks for posix.system"), "{refusal}");
    assert!(refusal.contains("safetensors"), "{refusal}");
}
