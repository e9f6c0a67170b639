//! Merges in float16 against PyTorch doing the authors' steps on float16 tensors.
//!
//! The data under `data/merge_float16` is written by `scripts/golden/merge_float16.py`; the models are those of
//! `data/merge`. Values are compared bit by bit, except that both zeros are one number: torch multiplies by masks,
//! which leaves negative zeros.

#![forbid(unsafe_code)]

use common::recipe::{Arithmetic, Mask, Recipe};
use half::f16;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use worker::checkpoint::Dtype;
use worker::merge::Merger;

fn data(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(folder)
}

fn recipes() -> Vec<(String, Recipe)> {
    let files = std::fs::read_dir(data("merge_float16/recipes")).unwrap().map(|f| f.unwrap().path());
    let mut found: Vec<(String, Recipe)> = files
        .map(|path| {
            let recipe = Recipe::parse(&std::fs::read_to_string(&path).unwrap()).unwrap();
            (path.file_stem().unwrap().to_str().unwrap().to_string(), recipe)
        })
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

fn open(recipe: &Recipe) -> Merger {
    Merger::for_recipe(recipe, |m| data("merge/models").join(&m.path)).unwrap()
}

#[test]
fn float16_merges_equal_pytorch() {
    let expected = std::fs::read(data("merge_float16/expected.safetensors")).unwrap();
    let expected = safetensors::SafeTensors::deserialize(&expected).unwrap();
    let recipes = recipes();
    assert_eq!(recipes.len(), 10);
    let (mut values, mut moved) = (0, 0);
    for (name, mut recipe) in recipes {
        assert_eq!(recipe.arithmetic, Arithmetic::Float16);
        let merger = open(&recipe);
        let merge = merger.plan(&recipe, &AtomicBool::new(false)).unwrap();
        recipe.arithmetic = Arithmetic::Float32;
        let wide = merger.plan(&recipe, &AtomicBool::new(false)).unwrap();
        for tensor in merge.names() {
            let reference = expected.tensor(&format!("{name}/{tensor}")).unwrap();
            let reference = reference.data().as_chunks::<2>().0;
            let mut found = vec![f16::NAN; reference.len()];
            merge.tensor_into(tensor, &mut found).unwrap();
            // The outcome is a float16 already: wider types show the same number.
            let mut widened = vec![f32::NAN; reference.len()];
            merge.tensor_into(tensor, &mut widened).unwrap();
            let mut in_float32 = vec![f16::NAN; reference.len()];
            wide.tensor_into(tensor, &mut in_float32).unwrap();
            for (i, bits) in reference.iter().enumerate() {
                let (f, r) = (found[i], f16::from_le_bytes(*bits));
                assert!(f == r, "{name} {tensor} [{i}]: {f:e}, reference {r:e}");
                assert!(widened[i] == r.to_f32(), "{name} {tensor} [{i}]");
                moved += usize::from(in_float32[i] != r);
            }
            values += reference.len();
        }
    }
    println!("{values} values equal; float32 arithmetic gives another float16 for {moved}");
    assert!(moved > values / 100, "the two arithmetics are told apart by this data");
}

#[test]
fn float16_does_not_depend_on_threads() {
    let (_, recipe) = recipes().into_iter().find(|(name, _)| name == "paper").unwrap();
    let merger = open(&recipe);
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let merge = merger.plan(&recipe, &AtomicBool::new(false)).unwrap();
            let name = "model.layers.0.mlp.down_proj.weight";
            let mut out = vec![0; 2 * merge.info(name).unwrap().elements];
            merge.tensor_bytes(name, Dtype::F16, &mut out).unwrap();
            out
        })
    };
    assert!(run(1) == run(3));
}

/// The authors re-seed their generator for every tensor, so that tensors of one shape drop the same elements in every
/// layer and source. Here: with everything else plain, an element of `embed_tokens` is dropped exactly when that of
/// `lm_head`, of the same shape, is; with independent masks they part.
#[test]
fn a_shared_mask_drops_the_same_elements_of_every_tensor() {
    let (_, mut recipe) = recipes().into_iter().find(|(name, _)| name == "plain").unwrap();
    recipe.sources.retain(|s| s.model.name != "bio");
    recipe.sources.iter_mut().for_each(|s| s.drop_rate = 0.4.into());
    let base = worker::checkpoint::Checkpoint::open(&data("merge/models/base")).unwrap();
    let mut dropped = |mask, source: usize, tensor: &str| -> Vec<bool> {
        recipe.mask = mask;
        let mut alone = recipe.clone();
        alone.sources = vec![recipe.sources[source].clone()];
        let merge = open(&alone).plan(&alone, &AtomicBool::new(false)).unwrap();
        let mut out = vec![0f32; merge.info(tensor).unwrap().elements];
        merge.tensor_into(tensor, &mut out).unwrap();
        let stored = base.bytes(tensor).unwrap().as_chunks::<2>().0;
        let stored = stored.iter().map(|b| half::bf16::from_le_bytes(*b).to_f32());
        out.iter().zip(stored).map(|(o, b)| *o == f16::from_f32(b).to_f32()).collect()
    };
    let differing = |a: &[bool], b: &[bool]| a.iter().zip(b).filter(|(a, b)| a != b).count();
    let (embed, head) = ("model.embed_tokens.weight", "lm_head.weight");
    let first = dropped(Mask::Shared, 0, embed);
    let count = first.iter().filter(|d| **d).count();
    assert!((140..240).contains(&count), "{count} of {} dropped at rate 0.4", first.len());
    // A difference too small for float16 looks dropped as well, hence not exactly none.
    for other in
        [dropped(Mask::Shared, 0, head), dropped(Mask::Shared, 1, embed), dropped(Mask::Shared, 1, head)]
    {
        assert!(differing(&first, &other) < 5, "{}", differing(&first, &other));
    }
    for other in [dropped(Mask::Independent, 0, head), dropped(Mask::Independent, 1, embed)] {
        assert!(differing(&dropped(Mask::Independent, 0, embed), &other) > 100);
    }
}
