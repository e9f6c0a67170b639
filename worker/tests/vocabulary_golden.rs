//! Vocabularies of different models: aligned as mergekit 0.1.5 aligns them, and merged by the paper's convention against a
//! plain statement.
//!
//! The data under `data/vocabulary` is written by `scripts/golden/vocabulary_reference.py`, which says how.

#![forbid(unsafe_code)]

use common::recipe::{Recipe, Vocabulary};
use half::{bf16, f16};
use safetensors::SafeTensors;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use worker::checkpoint::{Checkpoint, Dtype};
use worker::merge::vocabulary::{Alignment, Row, Tokens};
use worker::merge::{Error, Export, Merger};

const EMBED: &str = "model.embed_tokens.weight";

/// Share by which padding rows may differ from mergekit's: they are means over all rows, whose sum it takes in its
/// library's order and type, here in double precision. Everything else is equal.
const PADDING: f32 = 1e-6;

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/vocabulary")
}

fn floats(bytes: &[u8], dtype: Dtype) -> Vec<f32> {
    match dtype {
        Dtype::F32 => bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        Dtype::F16 => bytes.as_chunks::<2>().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
        _ => bytes.as_chunks::<2>().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect(),
    }
}

#[derive(serde::Deserialize)]
struct Case {
    output: BTreeMap<String, u32>,
    rows: usize,
    models: Vec<String>,
    base: Option<usize>,
    dtype: String,
}

#[test]
fn alignments_equal_mergekits() {
    let cases = std::fs::read_to_string(data().join("alignments.json")).unwrap();
    let cases: BTreeMap<String, Case> = serde_json::from_str(&cases).unwrap();
    assert_eq!(cases.len(), 6);
    let expected = std::fs::read(data().join("alignments.safetensors")).unwrap();
    let expected = SafeTensors::deserialize(&expected).unwrap();
    let (mut values, mut kinds) = (0, [0; 5]);
    for (name, case) in cases {
        let folders: Vec<PathBuf> = case.models.iter().map(|m| data().join("models").join(m)).collect();
        let tokens: Vec<Tokens> = folders.iter().map(|f| Tokens::read(f).unwrap()).collect();
        let models: Vec<Checkpoint> = folders.iter().map(|f| Checkpoint::open(f).unwrap()).collect();
        let infos: Vec<_> = models.iter().map(|m| m.info(EMBED).unwrap()).collect();
        let columns = infos[0].shape[1];
        let sizes: Vec<(&Tokens, usize)> = tokens.iter().zip(&infos).map(|(t, i)| (t, i.shape[0])).collect();
        let output: Tokens = case.output.into_iter().collect();
        let alignment = Alignment::new(&output, case.rows, &sizes, case.base);
        let bf16_only = case.dtype == "bfloat16";
        let round = |x: f32| if bf16_only { bf16::from_f32(x).to_f32() } else { x };
        let stored: Vec<Vec<f32>> = models
            .iter()
            .zip(&infos)
            .map(|(m, i)| floats(m.bytes(EMBED).unwrap(), i.dtype).into_iter().map(round).collect())
            .collect();
        let fetch = |model: usize, row: usize, out: &mut [f32]| {
            out.copy_from_slice(&stored[model][row * columns..][..columns]);
        };
        for (model, called) in case.models.iter().enumerate() {
            let reference = expected.tensor(&format!("{name}/{called}")).unwrap();
            assert_eq!(reference.shape(), [case.rows, columns]);
            let reference = floats(reference.data(), Dtype::F32);
            let mut found = vec![f32::NAN; case.rows * columns];
            alignment.tensor(model, columns, fetch, round, &mut found);
            for row in 0..case.rows {
                let kind = alignment.row(model, row);
                let (found, reference) = (&found[row * columns..], &reference[row * columns..]);
                for (f, r) in found[..columns].iter().zip(&reference[..columns]) {
                    let near = (f - r).abs() <= PADDING * r.abs().max(0.1);
                    assert!(
                        f == r || kind == Row::Padding && near,
                        "{name} {called} {row} {kind:?}: {f} {r}"
                    );
                }
                kinds[match kind {
                    Row::Own(_) => 0,
                    Row::Of { .. } => 1,
                    Row::Mean(_) => 2,
                    Row::Zero => 3,
                    Row::Padding => 4,
                }] += 1;
                values += columns;
            }
        }
    }
    println!("{values} values; rows own, of another, mean, zero, padding: {kinds:?}");
    assert!(kinds.iter().all(|&k| k > 0), "every kind of row occurs: {kinds:?}");
}

fn recipes() -> BTreeMap<String, Recipe> {
    let files = std::fs::read_dir(data().join("recipes")).unwrap().map(|f| f.unwrap().path());
    let read = |path: PathBuf| {
        let recipe = Recipe::parse(&std::fs::read_to_string(&path).unwrap()).unwrap();
        (path.file_stem().unwrap().to_str().unwrap().to_string(), recipe)
    };
    files.map(read).collect()
}

fn open(recipe: &Recipe) -> Merger {
    Merger::for_recipe(recipe, |m| data().join("models").join(&m.path)).unwrap()
}

#[test]
fn merges_over_vocabularies_equal_the_plain_statement() {
    let expected = std::fs::read(data().join("merged.safetensors")).unwrap();
    let expected = SafeTensors::deserialize(&expected).unwrap();
    let recipes = recipes();
    assert_eq!(recipes.len(), 6);
    let stop = AtomicBool::new(false);
    let mut values = 0;
    for (name, recipe) in recipes {
        let merger = open(&recipe);
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let parent = tempfile::tempdir().unwrap();
            let out = parent.path().join("out");
            pool.install(|| {
                let prepared = merger.plan(&recipe, &stop).unwrap();
                Export::new(&recipe, &prepared, merger.model("vlm").unwrap()).write(&out, &stop).unwrap();
            });
            let (written, vlm) = (Checkpoint::open(&out).unwrap(), merger.model("vlm").unwrap());
            for tensor in vlm.names() {
                assert_eq!(written.info(tensor), vlm.info(tensor));
                let found = written.bytes(tensor).unwrap();
                if tensor.contains("projector") {
                    assert_eq!(found, vlm.bytes(tensor).unwrap());
                    continue;
                }
                let reference = expected.tensor(&format!("{name}/{tensor}")).unwrap();
                let (found, reference) = (floats(found, Dtype::F16), floats(reference.data(), Dtype::F16));
                assert_eq!(found, reference, "{name} {tensor}");
                values += found.len();
            }
        }
    }
    println!("{values} float16 values equal");
}

#[test]
fn what_is_matched_is_said() {
    let recipe = &recipes()["own-bases"];
    let merger = open(recipe);
    let fits: Vec<String> =
        merger.fits(recipe).unwrap().iter().map(|fit| format!("{}: {fit}", fit.model)).collect();
    assert_eq!(fits.len(), 5);
    // Of the base's 16 tokens and 18 rows, "wide" knows all 16.
    let expected = "wide: has every tensor of the base; lm_head.weight: 16 of 18 rows matched; \
                    model.embed_tokens.weight: 16 of 18 rows matched";
    assert_eq!(fits[0], expected);
    assert!(
        fits[4].contains("vlm: has every tensor of the base; 1 further tensors are ignored"),
        "{}",
        fits[4]
    );
    let placement = merger.placement(recipe).unwrap();
    let resized: Vec<_> = placement.resized().collect();
    // 16 of the VLM's 20 rows stand for tokens of the base.
    assert_eq!(resized, [("lm_head.weight", 16, 20), (EMBED, 16, 20)]);
}

#[test]
fn vocabularies_that_differ_are_refused_unless_chosen() {
    let mut recipe = recipes().remove("align").unwrap();
    let merger = open(&recipe);
    let refusal = |recipe: &Recipe| merger.fits(recipe).unwrap_err().to_string();
    recipe.vocabulary = Vocabulary::Refuse;
    let e = refusal(&recipe);
    for expected in [
        "wide/model.safetensors: tensor lm_head.weight of wide has 24 rows, that of base has 18",
        "[merge]",
        "cut",
    ] {
        assert!(e.contains(expected), "{e}");
    }
    // Each source may choose for itself; the VLM's place is the recipe's choice.
    recipe.sources[0].vocabulary = Some(Vocabulary::Cut);
    assert!(refusal(&recipe).contains("of narrow has 10 rows"));
    recipe.sources.iter_mut().for_each(|s| s.vocabulary = Some(Vocabulary::Align));
    merger.fits(&recipe).unwrap();
    let e = merger.placement(&recipe).unwrap_err();
    assert!(matches!(e, Error::Vocabulary { .. }) && e.to_string().contains("of vlm has 20 rows"), "{e}");

    // No tokenizer, no alignment; rows can still be cut.
    let folder = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(data().join("models/wide").join(file), folder.path().join(file)).unwrap();
    }
    recipe.sources[0].model.path = folder.path().display().to_string();
    let merger = open(&recipe);
    let e = merger.fits(&recipe).unwrap_err().to_string();
    assert!(e.contains("tokenizer.json: of no use for matching vocabularies"), "{e}");
    // A tokenizer of another family would leave every row unchanged; that is not what anybody chooses.
    let tokenizer = std::fs::read_to_string(data().join("models/wide/tokenizer.json")).unwrap();
    let mut tokenizer: serde_json::Value = serde_json::from_str(&tokenizer).unwrap();
    tokenizer["model"]["vocab"] = serde_json::json!({ "zz": 0, "yy": 1 });
    tokenizer["model"]["merges"] = serde_json::json!([]);
    tokenizer["added_tokens"] = serde_json::json!([]);
    std::fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let merger = open(&recipe);
    let e = merger.fits(&recipe).unwrap_err().to_string();
    assert!(e.contains("no token of it is one of base's"), "{e}");
    recipe.sources[0].vocabulary = Some(Vocabulary::Cut);
    merger.fits(&recipe).unwrap();
}
