//! Merges whose numbers differ by layer and name against an independent statement in NumPy.
//!
//! The data under `data/merge_groups` is written by `scripts/golden/merge_groups.py`; the models are those of
//! `data/merge`. Both zeros are one number; everything else is compared bit by bit.

#![forbid(unsafe_code)]

use common::amount::Amount;
use common::recipe::{Arithmetic, Convention, Recipe};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use worker::merge::{Error, Merger, Prepared};

fn data(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(folder)
}

fn recipe(name: &str) -> Recipe {
    let path = data("merge_groups/recipes").join(format!("{name}.json"));
    Recipe::parse(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn plan(recipe: &Recipe) -> worker::merge::Result<Prepared> {
    let merger = Merger::for_recipe(recipe, |m| data("merge/models").join(&m.path))?;
    merger.plan(recipe, &AtomicBool::new(false))
}

fn values(merge: &Prepared) -> Vec<f32> {
    let tensor = |name| {
        let mut out = vec![f32::NAN; merge.info(name).unwrap().elements];
        merge.tensor_into(name, &mut out).unwrap();
        out
    };
    merge.names().flat_map(tensor).collect()
}

#[test]
fn groups_equal_the_independent_statement() {
    let expected = std::fs::read(data("merge_groups/expected.safetensors")).unwrap();
    let expected = safetensors::SafeTensors::deserialize(&expected).unwrap();
    let mut seen = 0;
    for file in std::fs::read_dir(data("merge_groups/recipes")).unwrap() {
        let name = file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_string();
        let recipe = recipe(&name);
        let merge = plan(&recipe).unwrap();
        let stored = merge.names().flat_map(|tensor| {
            let bytes = expected.tensor(&format!("{name}/{tensor}")).unwrap();
            match recipe.arithmetic {
                Arithmetic::Float32 => {
                    bytes.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect::<Vec<_>>()
                }
                Arithmetic::Float16 => {
                    let half = |b: &[u8; 2]| half::f16::from_le_bytes(*b).to_f32();
                    bytes.data().as_chunks::<2>().0.iter().map(half).collect()
                }
            }
        });
        let (found, stored): (Vec<f32>, Vec<f32>) = (values(&merge), stored.collect());
        assert_eq!(found.len(), stored.len());
        let unequal = found.iter().zip(&stored).filter(|(f, s)| f != s).count();
        assert_eq!(unequal, 0, "{name}: {unequal} of {} values differ", found.len());
        seen += 1;
    }
    assert_eq!(seen, 8);
}

/// One case for everything is one number for everything.
#[test]
fn a_single_case_is_the_whole_model() {
    let mut plain = recipe("trims");
    plain.sources.iter_mut().for_each(|s| s.trim_rate = 0.55.into());
    let expected = values(&plan(&plain).unwrap());
    let mut cases = plain.clone();
    let case = |x: f64| -> Amount { serde_json::from_str(&format!("[{{\"value\":{x}}}]")).unwrap() };
    cases.scale = case(1.0);
    cases.sources.iter_mut().for_each(|s| (s.trim_rate, s.drop_rate) = (case(0.55), case(0.3)));
    assert!(values(&plan(&cases).unwrap()) == expected);
}

#[test]
fn a_tensor_in_no_group_is_named() {
    let mut r = recipe("weights");
    r.scale = serde_json::from_str(r#"[{"filter":"mlp","value":1.0}]"#).unwrap();
    let e = plan(&r).err().unwrap().to_string();
    assert!(e.contains("no case of the scale fits it") && e.contains("\"rest\""), "{e}");
    let mut linear = recipe("weights");
    linear.convention = Convention::Linear;
    linear.sources.retain(|s| s.model.name != "bio");
    linear.sources.iter_mut().for_each(|s| {
        s.weight = serde_json::from_str(r#"[{"filter":"norms","value":0.0},{"value":1.0}]"#).unwrap();
    });
    assert!(matches!(plan(&linear).err().unwrap(), Error::NoWeight { tensor } if tensor.contains("norm")));
}
