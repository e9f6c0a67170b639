//! Behaviour of whole merges: threads, refusals, special values, export. Numbers are checked in
//! `tests/merge_golden.rs`.

use super::*;
use crate::checkpoint::Dtype;
use crate::checkpoint::write::{SHARD_BYTES, Spec, Writer};
use common::recipe::{Arithmetic, Convention, FORMAT, Mask, SourceTerm, Vocabulary};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use survey::Survey;

/// Tensors in float32, written as they are.
type Model<'a> = &'a [(&'a str, &'a [f32])];

fn write(folder: &Path, model: Model) {
    let spec = |(name, values): &(&str, &[f32])| Spec {
        name: (*name).into(),
        dtype: Dtype::F32,
        shape: vec![values.len()],
    };
    let specs: Vec<Spec> = model.iter().map(spec).collect();
    let writer = Writer::create(folder).unwrap();
    let fill = |spec: &Spec, out: &mut Vec<u8>| -> crate::checkpoint::Result<()> {
        let (_, values) = model.iter().find(|(name, _)| *name == spec.name).unwrap();
        out.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        Ok(())
    };
    writer.tensors(&specs, SHARD_BYTES, fill).unwrap();
    writer.file("config.json", b"{}").unwrap();
    writer.finish().unwrap();
}

/// A recipe over the models, the first being base and VLM, with every weight and the scale 1.
fn set_up(models: &[(&str, Model)]) -> (tempfile::TempDir, Recipe) {
    let parent = tempfile::tempdir().unwrap();
    let reference = |name: &str| ModelRef::new(name, parent.path().join(name).display().to_string());
    models.iter().for_each(|(name, model)| write(&parent.path().join(name), model));
    let source = |(name, _): &(&str, Model)| SourceTerm {
        model: reference(name),
        base: None,
        vocabulary: None,
        weight: 1.0.into(),
        drop_rate: 0.0.into(),
        trim_rate: 0.0.into(),
    };
    let recipe = Recipe {
        format: FORMAT,
        convention: Convention::Paper,
        base: reference(models[0].0),
        vlm: reference(models[0].0),
        sources: models[1..].iter().map(source).collect(),
        scale: 1.0.into(),
        mask: Mask::Independent,
        mask_seed: 42,
        arithmetic: Arithmetic::Float32,
        vocabulary: Vocabulary::Refuse,
    };
    (parent, recipe)
}

fn plan(recipe: &Recipe) -> Result<Prepared> {
    Merger::for_recipe(recipe, |m| m.path.clone().into())?.plan(recipe, &AtomicBool::new(false))
}

fn merged(recipe: &Recipe, tensor: &str) -> Vec<f32> {
    let merge = plan(recipe).unwrap();
    let mut out = vec![f32::NAN; merge.info(tensor).unwrap().elements];
    merge.tensor_into(tensor, &mut out).unwrap();
    out
}

fn noise(stream: u32, count: usize) -> Vec<f32> {
    let mut words = vec![0; count];
    field::words(field::Key([stream, 9]), 0, &mut words);
    // Few distinct values, so that sums of zero and magnitudes at the threshold are frequent.
    words.iter().map(|w| (w >> 27) as f32 / 16.0 - 1.0).collect()
}

#[test]
fn threads_do_not_change_a_bit() {
    let values: Vec<Vec<f32>> = (0..4).map(|i| noise(i, 300_001)).collect();
    let small = [1.0, 2.0, 3.0];
    let models: Vec<Vec<(&str, &[f32])>> =
        values.iter().map(|v| vec![("a", &v[..]), ("b", &small[..])]).collect();
    let named: Vec<(&str, Model)> =
        ["m0", "m1", "m2", "m3"].into_iter().zip(models.iter().map(|m| &m[..])).collect();
    let (_folder, mut recipe) = set_up(&named);
    for (mask, convention) in [
        (Mask::Independent, Convention::Paper),
        (Mask::Shared, Convention::Paper),
        (Mask::Shared, Convention::Linear),
    ] {
        (recipe.mask, recipe.convention) = (mask, convention);
        for source in &mut recipe.sources {
            (source.drop_rate, source.trim_rate, source.weight) = (0.3.into(), 0.55.into(), 0.7.into());
        }
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| merged(&recipe, "a")).iter().map(|v| v.to_bits()).collect::<Vec<u32>>()
        };
        let one = run(1);
        assert!(one == run(2) && one == run(5), "{mask:?} {convention:?}");
    }
}

#[test]
fn bytes_equal_typed_values() {
    let (base, source) = (noise(1, 3000), noise(2, 3000));
    let (_folder, recipe) = set_up(&[("base", &[("a", &base)]), ("s", &[("a", &source)])]);
    let merge = plan(&recipe).unwrap();
    let mut typed = vec![half::f16::ZERO; 3000];
    merge.tensor_into("a", &mut typed).unwrap();
    let mut bytes = vec![0; 6000];
    merge.tensor_bytes("a", Dtype::F16, &mut bytes).unwrap();
    assert_eq!(bytes, typed.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>());
    let refusal = merge.tensor_bytes("a", Dtype::I64, &mut bytes).unwrap_err();
    assert!(matches!(refusal, Error::Dtype { .. }));
    let refusal = merge.tensor_into("a", &mut typed[1..]).unwrap_err().to_string();
    assert_eq!(refusal, "tensor a has 3000 elements, the buffer 2999");
}

#[test]
fn special_values_go_through() {
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    let base = [-0.0, 1.0, nan, 2.0, 3.0, -0.0, 1.0];
    let first = [-0.0, nan, 1.0, inf, inf, 1.0, 2.0];
    let second = [-0.0, 1.0, 1.0, 2.0, -inf, -1.0, 4.0];
    let (_folder, mut recipe) =
        set_up(&[("base", &[("a", &base)]), ("s", &[("a", &first)]), ("t", &[("a", &second)])]);
    let out = merged(&recipe, "a");
    assert_eq!(out[0].to_bits(), (-0.0f32).to_bits());
    assert!(out[1].is_nan() && out[2].is_nan() && out[4].is_nan());
    // The signs of the whole model sum to 2, so the tie at 5 elects the positive side.
    assert_eq!((out[3], out[5], out[6]), (inf, 1.0, 3.0));
    recipe.sources.iter_mut().for_each(|s| s.drop_rate = 1.0.into());
    let out = merged(&recipe, "a");
    assert!(out.iter().zip(base).all(|(o, b)| o.to_bits() == b.to_bits()));
}

#[test]
fn a_trim_keeps_ties_and_counts_dropped_zeros() {
    let base = [0.0; 6];
    let source = [1.0, -1.0, 2.0, 2.0, -3.0, 0.0];
    let (_folder, mut recipe) = set_up(&[("base", &[("a", &base)]), ("s", &[("a", &source)])]);
    for (rate, expected) in [
        (0.17, [1.0, -1.0, 2.0, 2.0, -3.0, 0.0]),
        (0.34, [1.0, -1.0, 2.0, 2.0, -3.0, 0.0]),
        (0.5, [0.0, 0.0, 2.0, 2.0, -3.0, 0.0]),
        (0.7, [0.0, 0.0, 2.0, 2.0, -3.0, 0.0]),
        (0.84, [0.0, 0.0, 0.0, 0.0, -3.0, 0.0]),
        (1.0, [0.0; 6]),
    ] {
        recipe.sources[0].trim_rate = rate.into();
        assert_eq!(merged(&recipe, "a"), expected, "{rate}");
    }
}

#[test]
fn misfits_are_refused_by_name() {
    let check = |source: Model, convention, expected: &str| {
        let (_folder, mut recipe) = set_up(&[("base", &[("a", &[1.0, 2.0]), ("b", &[3.0])]), ("s", source)]);
        recipe.convention = convention;
        let refusal = plan(&recipe).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(refusal.starts_with(expected), "{refusal}");
    };
    let shape = "tensor a: s has shape [1], the base base has [2]";
    check(&[("a", &[1.0]), ("b", &[1.0])], Convention::Paper, shape);
    check(&[("a", &[1.0]), ("b", &[1.0])], Convention::Linear, shape);
    check(&[("a", &[1.0, 1.0])], Convention::Linear, "tensor b is missing from s");
    // The paper's convention takes a missing tensor as unchanged.
    check(&[("a", &[1.0, 1.0])], Convention::Paper, "");

    let (_folder, mut recipe) =
        set_up(&[("base", &[("a", &[1.0])]), ("s", &[("a", &[1.0])]), ("t", &[("b", &[1.0])])]);
    recipe.sources[0].base = Some(recipe.sources.pop().unwrap().model);
    assert!(
        plan(&recipe).err().unwrap().to_string().starts_with("tensor a is missing from t, the base that")
    );
    let merger = Merger::open([&recipe.base], |m| m.path.clone().into()).unwrap();
    let refusal = merger.plan(&recipe, &AtomicBool::new(false)).err().unwrap().to_string();
    assert!(refusal.starts_with("model s is not among the opened ones (base)"), "{refusal}");
    recipe.sources[0].model.name = "base".into();
    let refusal = Merger::for_recipe(&recipe, |m| m.path.clone().into()).unwrap_err();
    assert!(matches!(refusal, Error::Ambiguous { .. }));
}

#[test]
fn an_export_replaces_the_language_model_alone() {
    let vlm: Model = &[("a", &[9.0, 9.0]), ("tower", &[5.0])];
    let (folder, mut recipe) =
        set_up(&[("vlm", vlm), ("base", &[("a", &[1.0, 2.0])]), ("s", &[("a", &[1.5, 2.0])])]);
    recipe.base = recipe.sources.remove(0).model;
    let merger = Merger::for_recipe(&recipe, |m| m.path.clone().into()).unwrap();
    let prepared = merger.plan(&recipe, &AtomicBool::new(false)).unwrap();
    let stop = AtomicBool::new(true);
    let export = Export::new(&recipe, &prepared, merger.model("vlm").unwrap());
    let out = folder.path().join("out");
    assert!(matches!(export.write(&out, &stop), Err(Error::Stopped)));
    assert!(!out.exists());
    assert!(matches!(merger.plan(&recipe, &stop), Ok(_) | Err(Error::Stopped)));

    stop.store(false, Ordering::Relaxed);
    let folder = merger.model("vlm").unwrap().folder();
    std::fs::write(folder.join("modeling_made_up.py"), "raise SystemExit('was run')\n").unwrap();
    let documents = vec![("licences/s/LICENSE".to_string(), b"text".to_vec())];
    Export { documents, ..export }.write(&out, &stop).unwrap();
    let written = Checkpoint::open(&out).unwrap();
    assert_eq!(written.bytes("a").unwrap(), [1.5f32.to_le_bytes(), 2f32.to_le_bytes()].concat());
    assert_eq!(written.bytes("tower").unwrap(), 5f32.to_le_bytes());
    let text = |file: &str| std::fs::read_to_string(out.join(file)).unwrap();
    assert_eq!(text("licences/s/LICENSE"), "text");
    assert_eq!(text("modeling_made_up.py"), "raise SystemExit('was run')\n");
}

#[test]
fn renamed_models_merge_as_plain_ones() {
    let base: Model = &[("a", &[1.0, 2.0]), ("b", &[3.0])];
    let stored_vlm: Model = &[("llm.a", &[9.0, 9.0]), ("llm.b", &[9.0]), ("vpm.tower", &[5.0])];
    let (folder, mut recipe) = set_up(&[
        ("base", base),
        ("plain", &[("a", &[1.5, 2.5]), ("b", &[1.0])]),
        ("other", &[("llm.a", &[1.5, 2.5]), ("llm.b", &[1.0]), ("vpm.x", &[7.0])]),
        ("own", &[("a", &[1.25, 2.0]), ("b", &[2.0])]),
        ("own-other", &[("x.a", &[1.25, 2.0]), ("x.b", &[2.0])]),
        ("vlm", stored_vlm),
    ]);
    let mut models: Vec<ModelRef> = recipe.sources.drain(1..).map(|s| s.model).collect();
    let map = |from: &str| std::collections::BTreeMap::from([(from.to_string(), String::new())]);
    recipe.vlm = models.pop().unwrap();
    recipe.vlm.rename = map("llm.");
    recipe.sources[0].base = Some(models[1].clone());
    let mut renamed = recipe.clone();
    renamed.sources[0].model = ModelRef { rename: map("llm."), ..models[0].clone() };
    renamed.sources[0].base = Some(ModelRef { rename: map("x."), ..models[2].clone() });
    for (tensor, expected) in [("a", vec![1.25, 2.5]), ("b", vec![2.0])] {
        assert_eq!(merged(&recipe, tensor), expected);
        assert_eq!(merged(&renamed, tensor), expected);
    }
    let merger = Merger::for_recipe(&renamed, |m| m.path.clone().into()).unwrap();
    let fits = merger.fits(&renamed).unwrap();
    assert_eq!((fits.len(), fits[0].further, fits[1].missing.len()), (2, 1, 0));

    // The VLM is written under the names that it is stored under.
    let prepared = merger.plan(&renamed, &AtomicBool::new(false)).unwrap();
    let out = folder.path().join("out");
    let vlm = merger.model("vlm").unwrap();
    Export::new(&renamed, &prepared, vlm).write(&out, &AtomicBool::new(false)).unwrap();
    let written = Checkpoint::open(&out).unwrap();
    assert_eq!(written.names().collect::<Vec<_>>(), ["llm.a", "llm.b", "vpm.tower"]);
    assert_eq!(written.bytes("llm.b").unwrap(), 2f32.to_le_bytes());
    assert_eq!(written.bytes("vpm.tower").unwrap(), 5f32.to_le_bytes());

    // One name cannot stand for two views of a folder, and a prefix that fits nothing is a mistake.
    let other = ModelRef { rename: map("llm."), ..recipe.base.clone() };
    let path = |m: &ModelRef| -> std::path::PathBuf { m.path.clone().into() };
    let e = Merger::open([&recipe.base, &other], path).unwrap_err().to_string();
    assert!(e.contains("renamed prefixes"), "{e}");
    let e = Merger::open([&other], path).unwrap_err().to_string();
    assert!(e.contains("\"llm.\" changes no name"), "{e}");
}

#[test]
fn what_a_source_lacks_or_has_more_is_told() {
    let base: Model = &[("a", &[1.0]), ("b", &[2.0]), ("c", &[3.0]), ("d", &[4.0]), ("e", &[5.0])];
    let (_folder, mut recipe) = set_up(&[
        ("base", base),
        ("s", &[("b", &[2.5]), ("x", &[0.0]), ("y", &[0.0])]),
        ("own", &[("b", &[2.25])]),
        ("bad", &[("b", &[2.25, 1.0])]),
    ]);
    let bad = recipe.sources.pop().unwrap().model;
    recipe.sources[0].base = Some(recipe.sources.pop().unwrap().model);
    let merger = Merger::for_recipe(&recipe, |m| m.path.clone().into()).unwrap();
    let fits = merger.fits(&recipe).unwrap();
    assert_eq!(
        fits[0].to_string(),
        "lacks 4 tensors of the base (a, c, d, …); 2 further tensors are ignored"
    );
    // Only what the source has needs its own base's tensor.
    assert_eq!(merged(&recipe, "b"), [2.25]);
    assert_eq!(merged(&recipe, "c"), [3.0]);
    recipe.sources[0].base = Some(bad);
    let e = plan(&recipe).err().unwrap().to_string();
    assert!(e.starts_with("tensor b: bad has shape [2], the base base has [1]"), "{e}");
}

/// A tied VLM of a known family with one layer, its base with more than the VLM has, and one source.
#[test]
fn what_a_base_has_beyond_the_language_model_is_left_out_and_told() {
    let parameters = |config: &crate::model::LlamaConfig| crate::model::expected_parameters(config);
    let parent = tempfile::tempdir().unwrap();
    let config = serde_json::json!({
        "model_type": "bunny-llama", "mm_projector_type": "mlp2x_gelu", "mm_hidden_size": 1152,
        "mm_vision_tower": "google/siglip-so400m-patch14-384",
        "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
        "num_key_value_heads": 1, "vocab_size": 6, "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "hidden_act": "silu",
        "max_position_embeddings": 64, "tie_word_embeddings": true, "eos_token_id": 1,
        "bos_token_id": 0, "use_s2": false
    });
    let text = config.to_string();
    let llama = crate::model::LlamaConfig::from_json(&text, "config.json").unwrap();
    let make = |name: &str, value: f32, more: &[(&str, Dtype, usize)]| {
        let mut specs: Vec<Spec> = parameters(&llama)
            .into_iter()
            .map(|(name, shape)| Spec { name, dtype: Dtype::F32, shape })
            .collect();
        specs.extend(more.iter().map(|(n, dtype, len)| Spec {
            name: (*n).into(),
            dtype: *dtype,
            shape: vec![*len],
        }));
        let writer = Writer::create(&parent.path().join(name)).unwrap();
        let fill = |spec: &Spec, out: &mut Vec<u8>| -> crate::checkpoint::Result<()> {
            let elements: usize = spec.shape.iter().product();
            match spec.dtype {
                Dtype::F32 => out.extend((0..elements).flat_map(|_| value.to_le_bytes())),
                other => out.resize(elements * other.width(), value as u8),
            }
            Ok(())
        };
        writer.tensors(&specs, SHARD_BYTES, fill).unwrap();
        writer.file("config.json", text.as_bytes()).unwrap();
        writer.finish().unwrap();
        ModelRef::new(name, parent.path().join(name).display().to_string())
    };
    let buffer = "model.layers.0.self_attn.rotary_emb.inv_freq";
    let (_folder, mut recipe) = set_up(&[("unused", &[("a", &[1.0])]), ("s", &[("a", &[1.0])])]);
    recipe.vlm = make("vlm", 9.0, &[("model.vision_tower.x", Dtype::F32, 3), (buffer, Dtype::F32, 2)]);
    recipe.base = make(
        "base",
        1.0,
        &[
            (buffer, Dtype::F32, 2),
            ("lm_head.weight", Dtype::F32, 48),
            ("steps", Dtype::I64, 1),
            ("odd", Dtype::F8E4M3, 4),
        ],
    );
    recipe.sources[0].model = make("source", 3.0, &[]);
    for convention in [Convention::Paper, Convention::Linear] {
        recipe.convention = convention;
        let merger = Merger::for_recipe(&recipe, |m| m.path.clone().into()).unwrap();
        let placement = merger.placement(&recipe).unwrap();
        let skipped: Vec<&str> = placement.skipped().collect();
        assert_eq!(skipped, ["lm_head.weight", buffer, "odd", "steps"]);
        let note = placement.note().unwrap();
        assert!(note.starts_with("4 tensors of the base are left out") && note.contains(buffer), "{note}");
        let prepared = merger.plan(&recipe, &AtomicBool::new(false)).unwrap();
        assert_eq!(prepared.names().len(), parameters(&llama).len());
        assert!(prepared.info("steps").is_none() && prepared.info(buffer).is_none());
        let out = parent.path().join(format!("out-{convention:?}"));
        let vlm = merger.model("vlm").unwrap();
        Export::new(&recipe, &prepared, vlm).write(&out, &AtomicBool::new(false)).unwrap();
        let written = Checkpoint::open(&out).unwrap();
        assert_eq!(written.names().len(), vlm.names().len());
        assert_eq!(written.bytes("model.norm.weight").unwrap(), [3f32; 8].map(f32::to_le_bytes).concat());
        assert_eq!(written.bytes(buffer).unwrap(), [9f32; 2].map(f32::to_le_bytes).concat());
    }
    // A parameter of a type that cannot be merged, or that the VLM would need, is no such extra.
    recipe.base = make("deeper", 1.0, &[("model.layers.1.mlp.up_proj.weight", Dtype::F32, 64)]);
    let merger = Merger::for_recipe(&recipe, |m| m.path.clone().into()).unwrap();
    let e = merger.placement(&recipe).unwrap_err().to_string();
    assert!(e.contains("model.layers.1.mlp.up_proj.weight is missing from vlm"), "{e}");
    recipe.base = make("packed", 1.0, &[("model.layers.0.mlp.up_proj.bias", Dtype::U8, 64)]);
    recipe.convention = Convention::Paper;
    let e = plan(&recipe).err().unwrap().to_string();
    assert!(e.contains("up_proj.bias of packed is stored as U8"), "{e}");
}

#[test]
fn a_vlm_with_a_faulty_file_is_not_taken_for_a_plain_model() {
    let (_folder, recipe) = set_up(&[("base", &[("a", &[1.0])]), ("s", &[("a", &[2.0])])]);
    let folder = Path::new(&recipe.base.path);
    std::fs::write(folder.join("config.json"), include_str!("../../tests/data/minicpm/config.json")).unwrap();
    std::fs::write(folder.join("preprocessor_config.json"), "{\"slice_mode\": 3").unwrap();
    let e = plan(&recipe).err().unwrap().to_string();
    assert!(e.starts_with("model base: ") && e.contains("preprocessor_config.json"), "{e}");
}

/// Counts the passes over all tensors.
#[derive(Default)]
struct Counted(AtomicUsize);

impl Survey for Counted {
    fn thresholds(&self, flat: &flat::Flat, queries: &[trim::Query], stop: &AtomicBool) -> Result<Vec<u32>> {
        self.0.fetch_add(queries.len(), Ordering::Relaxed);
        OnHost.thresholds(flat, queries, stop)
    }

    fn signs(&self, flat: &flat::Flat, stop: &AtomicBool) -> Result<i64> {
        self.0.fetch_add(1, Ordering::Relaxed);
        OnHost.signs(flat, stop)
    }
}

/// One merger for many recipes gives what a new one for each gives, and asks the models only what it does not know.
#[test]
fn what_is_known_of_the_models_is_not_asked_again() {
    let values: Vec<Vec<f32>> = (0..4).map(|i| noise(i, 3000)).collect();
    let models: Vec<Vec<(&str, &[f32])>> =
        values.iter().map(|v| vec![("a", &v[..2000]), ("b", &v[2000..])]).collect();
    let named: Vec<(&str, Model)> =
        ["m0", "m1", "m2", "m3"].into_iter().zip(models.iter().map(|m| &m[..])).collect();
    let (_folder, recipe) = set_up(&named);
    let merger = Merger::for_recipe(&recipe, |m| m.path.clone().into()).unwrap();
    let (counted, known, stop) = (Counted::default(), known::Known::default(), AtomicBool::new(false));
    let passes = |recipe: &Recipe| {
        let before = counted.0.load(Ordering::Relaxed);
        let merge = Prepared::new(recipe, |name| merger.opened(name), &counted, &known, &stop).unwrap();
        for name in ["a", "b"] {
            let mut out = vec![f32::NAN; merge.info(name).unwrap().elements];
            merge.tensor_into(name, &mut out).unwrap();
            let expected = merged(recipe, name);
            assert!(out.iter().zip(&expected).all(|(o, e)| o.to_bits() == e.to_bits()), "{recipe:?}");
        }
        counted.0.load(Ordering::Relaxed) - before
    };
    let rates = |recipe: &Recipe, drop: f64, trim: f64, weight: f64| {
        let mut recipe = recipe.clone();
        for source in &mut recipe.sources {
            (source.drop_rate, source.trim_rate, source.weight) = (drop.into(), trim.into(), weight.into());
        }
        recipe
    };
    let sources = recipe.sources.len();
    assert_eq!(passes(&rates(&recipe, 0.3, 0.5, 1.0)), sources + 1);
    assert_eq!(passes(&rates(&recipe, 0.3, 0.5, 0.2)), 0, "weights alone");
    let mut scaled = rates(&recipe, 0.3, 0.5, 0.2);
    scaled.scale = 0.4.into();
    assert_eq!(passes(&scaled), 0, "and their factor");
    assert_eq!(passes(&rates(&recipe, 0.3, 0.25, 1.0)), sources + 1, "another trim");
    assert_eq!(passes(&rates(&recipe, 0.25, 0.5, 1.0)), sources + 1, "another mask");
    let one = |change: fn(&mut Recipe)| {
        let mut recipe = rates(&recipe, 0.3, 0.5, 1.0);
        change(&mut recipe);
        recipe
    };
    assert_eq!(passes(&one(|r| r.sources[1].trim_rate = 0.75.into())), 2, "one source's, and the sign");
    assert_eq!(passes(&one(|r| r.mask_seed += 1)), sources + 1);
    assert_eq!(passes(&one(|r| r.mask = Mask::Shared)), sources + 1);
    assert_eq!(passes(&one(|r| r.arithmetic = Arithmetic::Float16)), sources + 1);
    assert_eq!(passes(&one(|r| r.sources.swap(0, 1))), 1, "the same sources in another order");
    assert_eq!(passes(&one(|r| drop(r.sources.pop()))), 1, "one less");
    assert_eq!(passes(&one(|r| r.sources[0].base = Some(r.sources[1].model.clone()))), 2, "another base");
}
