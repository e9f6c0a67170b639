//! MiniCPM-Llama3-V-2_5 against transformers, PyTorch and Pillow, and merging into it by name.
//!
//! Reference values: `scripts/golden/minicpm.py` (torch 2.6.0, transformers 5.23.0, Pillow 13.0.0, float32). Its weights are not
//! stored but computed by [`formula`], here and there. Everything goes the way of commands and runs: a folder on the disk, the
//! family that its config.json names, questions, answers.

#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use candle_core::{DType, Device, Tensor};
use common::recipe::Recipe;
use serde_json::{Value, json};
use tempfile::TempDir;
use worker::checkpoint::Checkpoint;
use worker::device::Chosen;
use worker::evaluator::Control as EvaluatorControl;
use worker::generate::{Control, Generator, Options, Questions, Stop};
use worker::image::{Limits, Rgb8, Slicing, bicubic as resampler, decode, resize_bicubic};
use worker::locate::Locator;
use worker::merge::{Export, Part};
use worker::model::llama::Kernels;
use worker::model::minicpm::Vision;
use worker::model::weights::expected_parameters;
use worker::model::{Llama, LlamaWeights, MiniCpmConfig, TensorSource};
use worker::pipeline::{Bench, Pipeline};
use worker::vlm::{Slices, Vlm, family};

/// Features and logits: float32 sums in another order through a few layers. Seen: 7e-6 of 6 and 2e-5 of 4.
const RELATIVE: f32 = 1e-5;

fn data(part: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(part)
}

fn reference() -> Value {
    let text = std::fs::read_to_string(data("minicpm/reference.json")).expect("reference.json");
    serde_json::from_str(&text).expect("reference.json")
}

fn number(value: &Value) -> usize {
    value.as_u64().expect("a whole number") as usize
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

fn ids(value: &Value) -> Vec<u32> {
    list(value).iter().map(|v| number(v) as u32).collect()
}

fn check(what: &str, got: &Tensor, want: &Tensor) {
    assert_eq!(got.dims(), want.dims(), "{what}");
    let values = |t: &Tensor| t.flatten_all().and_then(|t| t.to_vec1::<f32>()).expect("float32");
    let (got, want) = (values(got), values(want));
    assert!(got.iter().all(|x| x.is_finite()), "{what}: not all values are finite");
    let scale = want.iter().fold(0f32, |m, x| m.max(x.abs()));
    let off = got.iter().zip(&want).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
    println!("{what}: largest difference {off:.2e} of {scale:.2e}");
    assert!(off <= RELATIVE * scale, "{what}: {off} of {scale}");
}

/// FNV-1a of 64 bits.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
}

/// Numbers in [-1, 1) with 24 bits: splitmix64 from the digest of `seed`.
fn noise(seed: &str, count: usize) -> impl Iterator<Item = f32> + use<> {
    let seed = fnv(seed.as_bytes());
    (1..=count as u64).map(move |i| {
        let mut z = seed.wrapping_add(i.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / 8_388_608.0 - 1.0
    })
}

/// A tensor of the reference's formula, in float16.
fn formula(name: &str, shape: &[usize], salt: usize) -> Tensor {
    let count = shape.iter().product();
    let plain = ["embed_tokens", "position_embedding"].iter().any(|part| name.contains(part))
        || name.ends_with("query");
    let (factor, offset) = match shape {
        [_] => (0.3, if name.ends_with("weight") { 1.0 } else { 0.0 }),
        _ if plain => (1.0, 0.0),
        [_, rest @ ..] => ((6.0 / rest.iter().product::<usize>() as f64).sqrt() as f32, 0.0),
        [] => (1.0, 0.0),
    };
    let values: Vec<f32> = noise(&format!("{salt}:{name}"), count).map(|x| x * factor + offset).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).and_then(|t| t.to_dtype(DType::F16)).expect("memory")
}

/// All tensors of the reference's model, as stored.
fn stored_tensors(salt: usize) -> HashMap<String, Tensor> {
    let text = std::fs::read_to_string(data("minicpm/config.json")).expect("config.json");
    let family = family::from_json(&text, "config.json").expect("a known family");
    let language = expected_parameters(family.language());
    let language = language.into_iter().map(|(name, shape)| (format!("llm.{name}"), shape));
    let all = language.chain(family.vision_parameters());
    all.map(|(name, shape)| (name.clone(), formula(&name, &shape, salt))).collect()
}

/// A model folder with those tensors.
fn model_folder(tensors: &HashMap<String, Tensor>) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for file in ["config.json", "tokenizer.json"] {
        std::fs::copy(data("minicpm").join(file), folder.path().join(file)).expect("copied");
    }
    candle_core::safetensors::save(tensors, folder.path().join("model.safetensors")).expect("written");
    folder
}

fn cpu() -> Chosen {
    Chosen::cpu(None)
}

fn picture(sample: &Value) -> Rgb8 {
    let name = sample["image"].as_str().expect("an image");
    decode(&data("vlm/images").join(name), None, &Limits::default()).expect("a picture")
}

fn options(vlm: &Vlm, reference: &Value) -> Options {
    let max_new_tokens = number(&reference["max_new_tokens"]);
    Options { max_new_tokens, eos: vlm.eos.clone(), ..Options::default() }
}

fn digests(parts: &[Rgb8]) -> Vec<Value> {
    parts.iter().map(|p| json!([p.width(), p.height(), format!("{:016x}", fnv(p.data()))])).collect()
}

#[test]
fn pictures_are_cut_where_the_published_code_cuts_them() {
    let reference = reference();
    let slicing = Slicing { max_slices: 9, scale: 448, patch: 14 };
    for row in list(&reference["plans"]) {
        let row: Vec<usize> = list(row).iter().map(number).collect();
        let grid = row.get(4).map(|&columns| ((columns, row[5]), (row[6], row[7])));
        let enlarged = grid.map_or(0, |((columns, rows), (w, h))| (columns * w).max(rows * h));
        let plan = slicing.plan(row[0], row[1]);
        if row[2].max(row[3]).max(enlarged) > resampler::MAX_SIDE {
            // The original goes on; a picture of such a shape is a mistake, and the resampler has its bound.
            assert!(plan.is_err(), "{} x {}", row[0], row[1]);
            continue;
        }
        let plan = plan.expect("a picture");
        assert_eq!((plan.whole, plan.grid), ((row[2], row[3]), grid), "{} x {}", row[0], row[1]);
    }
    for case in list(&reference["large"]) {
        let (width, height) = (number(&case["size"][0]), number(&case["size"][1]));
        let bytes = noise(&format!("{width}x{height}"), width * height * 3);
        let bytes = bytes.map(|x| (x * 128.0 + 128.0) as u8).collect();
        let (_, parts) =
            slicing.cut(&Rgb8::new(width, height, bytes).expect("sizes agree")).expect("a picture");
        assert_eq!(digests(&parts), list(&case["parts"]), "{width} x {height}");
    }
}

#[test]
fn vision_prompt_and_answers_equal_transformers() {
    let reference = reference();
    let values =
        candle_core::safetensors::load(data("minicpm/reference.safetensors"), &Device::Cpu).expect("values");
    let tensors = stored_tensors(number(&reference["salt"]));
    let folder = model_folder(&tensors);
    let vlm = Vlm::open(folder.path(), &cpu()).expect("a model folder");
    let text = std::fs::read_to_string(data("minicpm/config.json")).expect("config.json");
    let config = MiniCpmConfig::from_json(&text, "config.json").expect("a configuration");
    let vision = Vision::load(&config, &tensors, DType::F32, &Device::Cpu).expect("all tensors");
    let samples = list(&reference["samples"]);
    let task = reference["task"].as_str().expect("a text");

    let mut asked = Vec::new();
    for sample in samples {
        let name = sample["image"].as_str().and_then(|n| n.strip_suffix(".png")).expect("a name");
        let (_, parts) = vision.slicing().cut(&picture(sample)).expect("a picture");
        assert_eq!(digests(&parts), list(&sample["parts"]), "{name}");
        let padded = vision.padded(&parts).expect("whole patches");
        for (index, part) in parts.iter().enumerate() {
            if let Some(want) = values.get(&format!("{name}.tower.{index}")) {
                let got = vision.tower_features(std::slice::from_ref(part), padded).expect("a pass");
                check(&format!("{name} tower {index}"), &got.squeeze(0).expect("one"), want);
            }
        }
        let (features, grid) = vision.encode(&picture(sample)).expect("a pass");
        check(&format!("{name} features"), &features, &values[&format!("{name}.features")]);
        let slices = grid.map_or(Slices::NONE, |(columns, rows)| Slices { columns, rows });
        let want = sample["grid"].as_array().filter(|g| !g.is_empty());
        assert_eq!(grid, want.map(|g| (number(&g[0]), number(&g[1]))));
        // The prompt with a place for every feature row is transformers' with as many unknown tokens.
        let prompt = vlm.prompt(task, slices).expect("a prompt");
        let unknown = vlm.tokenizer.special("<unk>").expect("a special token");
        assert_eq!(flat(&prompt, unknown), ids(&sample["ids"]), "{name}");
        assert_eq!(prompt.rows(), vlm.family.image_tokens(slices));
        asked.push((prompt, features));
    }
    let groups = Questions::new(asked.clone()).expect("features");
    assert_eq!((groups.len(), groups.groups().len()), (4, 3), "three forms of prompts");

    for kernels in [Kernels::Auto, Kernels::Plain] {
        let weights = LlamaWeights::load(&config.llama, &Named(&tensors), DType::F32, &Device::Cpu);
        let language = Llama::new(config.llama.clone(), weights.expect("weights"), kernels).expect("tables");
        for ((prompt, features), sample) in asked.iter().zip(samples) {
            let name = sample["image"].as_str().and_then(|n| n.strip_suffix(".png")).expect("a name");
            let embeds = [
                prompt.embed_shared(&language),
                prompt.embed_rest(&language, &features.unsqueeze(0).expect("an axis")),
            ];
            let embeds = Tensor::cat(&embeds.map(|e| e.expect("known ids")), 1).expect("equal widths");
            let cache = language.new_cache(1, prompt.positions()).expect("memory");
            let hidden = language.forward(&embeds, &cache, 0, 0).expect("a pass");
            let logits = language.logits(&hidden).and_then(|l| Ok(l.squeeze(0)?)).expect("a position");
            check(&format!("{name} logits"), &logits, &values[&format!("{name}.logits")]);
        }
        // All at once, in small batches and one by one, with memory kept from one run to the next.
        let mut generator = Generator::new();
        for (batch_size, prefill_rows) in [(64, None), (2, Some(1)), (1, None), (64, Some(1))] {
            let options = Options { batch_size, prefill_rows, ..options(&vlm, &reference) };
            let got = generator
                .generate(&language, &vlm.tokenizer, &groups, &options, Control::default())
                .expect("answers");
            for (sample, answer) in samples.iter().zip(got) {
                let what = format!("{} in batches of {batch_size}", sample["image"]);
                assert_eq!(answer.token_ids, ids(&sample["token_ids"]), "{what}");
                let stop = if sample["stop"] == "eos" { Stop::Eos } else { Stop::Length };
                assert_eq!(answer.stop, stop, "{what}");
            }
        }
    }
}

/// The ids of a prompt, with `unknown` for feature rows.
fn flat(prompt: &worker::model::Prompt, unknown: u32) -> Vec<u32> {
    let mut all = prompt.before.clone();
    for piece in &prompt.image {
        match piece {
            worker::model::Piece::Rows(rows) => all.extend(vec![unknown; *rows]),
            worker::model::Piece::Ids(ids) => all.extend(ids),
        }
    }
    all.extend(&prompt.after);
    all
}

/// The language model's tensors under their usual names.
struct Named<'a>(&'a HashMap<String, Tensor>);

impl TensorSource for Named<'_> {
    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        TensorSource::shape(self.0, &format!("llm.{name}"))
    }

    fn get(&self, name: &str) -> worker::model::Result<Tensor> {
        TensorSource::get(self.0, &format!("llm.{name}"))
    }
}

/// Notes which tensors are asked for.
struct Noted<'a> {
    tensors: &'a HashMap<String, Tensor>,
    read: RefCell<BTreeMap<String, Vec<usize>>>,
}

impl TensorSource for Noted<'_> {
    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        TensorSource::shape(self.tensors, name)
    }

    fn get(&self, name: &str) -> worker::model::Result<Tensor> {
        let tensor = TensorSource::get(self.tensors, name)?;
        self.read.borrow_mut().insert(name.into(), tensor.dims().to_vec());
        Ok(tensor)
    }
}

/// The published index counts 8,537,092,336 parameters in 741 tensors.
#[test]
fn the_published_shapes_have_the_published_number_of_parameters() {
    let text = json!({
        "version": "2.5", "model_type": "minicpmv", "drop_vision_last_layer": false, "hidden_size": 4096,
        "intermediate_size": 14336, "max_position_embeddings": 8192, "num_attention_heads": 32,
        "num_hidden_layers": 32, "num_key_value_heads": 8, "query_num": 96, "vocab_size": 128256,
        "rope_theta": 500000.0, "rms_norm_eps": 1e-05, "slice_config": {"max_slice_nums": 9, "patch_size": 14},
        "vision_config": {"hidden_size": 1152, "image_size": 980, "intermediate_size": 4304,
            "model_type": "idefics2", "num_attention_heads": 16, "num_hidden_layers": 27, "patch_size": 14},
    });
    let family = family::from_json(&text.to_string(), "config.json").expect("the published file");
    let mut all = expected_parameters(family.language());
    all.extend(family.vision_parameters());
    let count: usize = all.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
    assert_eq!((all.len(), count), (741, 8_537_092_336));
    assert_eq!(family.image_tokens(family.slices(512, 512).expect("a picture")), 3 * 96);
    assert_eq!(family.image_tokens(family.most_slices()), 10 * 96);
}

#[test]
fn faults_name_what_is_missing_or_misshapen() {
    let tensors = stored_tensors(3);
    let text = std::fs::read_to_string(data("minicpm/config.json")).expect("config.json");
    let family = family::from_json(&text, "config.json").expect("a known family");
    let source = Noted { tensors: &tensors, read: RefCell::default() };
    family.load_vision(&source, DType::F32, &Device::Cpu).expect("all tensors");
    let listed: BTreeMap<String, Vec<usize>> = family.vision_parameters().into_iter().collect();
    assert_eq!(listed, source.read.into_inner());

    for name in
        ["vpm.post_layernorm.bias", "resampler.proj", "resampler.attn.in_proj_weight", "resampler.query"]
    {
        let mut tensors = tensors.clone();
        let load = |tensors: &HashMap<String, Tensor>| {
            family.load_vision(tensors, DType::F32, &Device::Cpu).map(|_| ()).map_err(|e| e.to_string())
        };
        let old = tensors.remove(name).expect("a tensor");
        assert!(load(&tensors).expect_err("missing").contains(name));
        tensors.insert(name.into(), old.unsqueeze(0).expect("an axis"));
        assert!(load(&tensors).expect_err("misshapen").contains(name));
    }
    // Without any of the language model's tensors, the prefix itself is what is wrong.
    let mut vision = tensors.clone();
    vision.retain(|name, _| !name.starts_with("llm."));
    let error = Vlm::open(model_folder(&vision).path(), &cpu()).expect_err("half a model");
    assert!(format!("{error:#}").contains("\"llm.\""), "{error:#}");

    let folder = model_folder(&tensors);
    let vlm = Vlm::open(folder.path(), &cpu()).expect("a model folder");
    assert!(vlm.prompt("where is </image>?", Slices::NONE).is_err());
    // A tokenizer without the marks, such as the base language model's.
    let mut tokenizer: Value =
        serde_json::from_str(&std::fs::read_to_string(folder.path().join("tokenizer.json")).expect("a file"))
            .expect("JSON");
    let added = tokenizer["added_tokens"].as_array_mut().expect("a list");
    added.retain(|token| token["content"] != "<slice>");
    std::fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).expect("written");
    let vlm = Vlm::open(folder.path(), &cpu()).expect("a model folder");
    let error = vlm.prompt("read", Slices::NONE).expect_err("no mark").to_string();
    assert!(error.contains("no special token <slice>"), "{error}");
}

/// A plain language model of the same shapes.
fn language_folder(salt: usize) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let text = std::fs::read_to_string(data("minicpm/config.json")).expect("config.json");
    let mut config: Value = serde_json::from_str(&text).expect("JSON");
    config["model_type"] = json!("llama");
    config["architectures"] = json!(["LlamaForCausalLM"]);
    std::fs::write(folder.path().join("config.json"), config.to_string()).expect("written");
    let shapes = expected_parameters(&MiniCpmConfig::from_json(&text, "x").expect("a configuration").llama);
    let tensors: HashMap<String, Tensor> =
        shapes.iter().map(|(name, shape)| (name.clone(), formula(name, shape, salt))).collect();
    candle_core::safetensors::save(&tensors, folder.path().join("model.safetensors")).expect("written");
    folder
}

/// Base and source have plain names, the VLM stores `llm.…` and is a source itself: all meet under the base's names, and
/// an exported folder has the VLM's.
#[test]
fn merges_go_into_the_vlm_by_the_bases_names_and_come_out_under_its_own() {
    let (base, source) = (language_folder(11), language_folder(12));
    let vlm = model_folder(&stored_tensors(1));
    let dir = tempfile::tempdir().expect("a folder");
    let lines: String = ["wide", "tall", "dot"]
        .map(|name| format!("{{\"id\": \"{name}\", \"image\": \"{name}.png\", \"report\": \"所見なし\"}}\n"))
        .concat();
    std::fs::write(dir.path().join("samples.jsonl"), lines).expect("written");
    let run = format!(
        "name = \"small\"\nseed = 1\n[models]\nbase = {base:?}\nvlm = {vlm:?}\n\
         [[models.sources]]\nname = \"japanese\"\nmodel = {source:?}\n\
         [[models.sources]]\nname = \"vlm\"\nmodel = {vlm:?}\n\
         [merge]\nconvention = \"linear\"\n[search]\nalgorithm = \"random\"\nevaluations = 4\n\
         [dataset]\nfile = {file:?}\nimages = {images:?}\npart = \"whole\"\n[prompt]\ntask = \"所見\"\n\
         [generation]\nmax_new_tokens = 8\n[scoring]\ntokenizer = \"char\"\n[fitness]\nrouge_l = 1.0\n",
        base = base.path(),
        vlm = vlm.path(),
        source = source.path(),
        file = dir.path().join("samples.jsonl"),
        images = data("vlm/images"),
    );
    std::fs::write(dir.path().join("run.toml"), run).expect("written");
    let plan = worker::asking::read_run(&dir.path().join("run.toml"), &[]).expect("a run file");
    let bench = Arc::new(Bench::open(&plan, &Locator::default(), &cpu()).expect("models that fit"));
    let references = worker::data::read_references(&plan.dataset).expect("samples");
    let exam = Arc::new(bench.exam(&plan, &plan.dataset, references).expect("images"));
    let mut pipeline = Pipeline::new(bench.clone(), exam).expect("memory");

    let mut recipe = Recipe { convention: plan.merge.convention, ..plan.authors_middle() };
    recipe.sources[0].weight = 0.75.into();
    recipe.sources[1].weight = 0.25.into();
    pipeline.merge(&recipe, &|| false).expect("a merge");
    let evaluated = pipeline.answer(&EvaluatorControl::default(), 0).expect("reports");
    assert_eq!(evaluated.samples.len(), 3);

    let stop = AtomicBool::new(false);
    let prepared = bench.merger.plan(&recipe, &stop).expect("a merge");
    let out = dir.path().join("merged");
    Export::new(&recipe, &prepared, &bench.vlm.checkpoint).write(&out, &stop).expect("written");
    let stored = |folder: &Path| Checkpoint::open(folder).expect("a model folder");
    let (merged, original) = (stored(&out), stored(vlm.path()));
    assert!(merged.names().eq(original.names()), "the same stored names");
    let floats = |folder: &Checkpoint, name: &str| -> Vec<f32> {
        let tensor = folder.tensor(name, &Device::Cpu).expect("a tensor").to_dtype(DType::F32);
        tensor.and_then(|t| t.flatten_all()?.to_vec1()).expect("a float tensor")
    };
    let source = stored(source.path());
    for name in original.names() {
        match name.strip_prefix("llm.") {
            None => assert!(merged.bytes(name).ok() == original.bytes(name).ok(), "{name} is the VLM's own"),
            Some(plain) => {
                let (a, b) = (floats(&source, plain), floats(&original, name));
                let want = a.iter().zip(&b).map(|(a, b)| half::f16::from_f32(0.75 * a + 0.25 * b).to_f32());
                assert!(floats(&merged, name).into_iter().eq(want), "{name}");
            }
        }
    }
    // The language model alone has a plain Llama's names, whatever the VLM stores it under.
    let alone = dir.path().join("language");
    let language = Export { part: Part::Language, ..Export::new(&recipe, &prepared, &bench.vlm.checkpoint) };
    language.write(&alone, &stop).expect("written");
    let alone = stored(&alone);
    assert!(alone.names().eq(source.names()));
    let whole = |name: &str| merged.bytes(&format!("llm.{name}")).ok();
    assert!(alone.names().all(|name| alone.bytes(name).ok() == whole(name)));
    // What was scored is what the exported folder writes.
    let exported = Vlm::open(&out, &cpu()).expect("a model folder");
    let images = ["wide", "tall", "dot"].map(|name| picture(&json!({"image": format!("{name}.png")})));
    let questions = exported.questions(images.into_iter().map(Ok), None, &plan.task).expect("encoded");
    let options = worker::pipeline::options(&exported, &plan.generation);
    let language = exported.answering().expect("weights");
    let answers = Generator::new()
        .generate(&language, &exported.tokenizer, &questions, &options, Control::default())
        .expect("answers");
    for (answer, sample) in answers.iter().zip(&evaluated.samples) {
        assert_eq!(answer.text, sample.text);
        assert_eq!(answer.token_ids.len(), sample.tokens as usize);
    }
    assert!(answers.iter().any(|a| a.token_ids != answers[0].token_ids), "images matter");
}

#[test]
fn resized_pictures_are_one_group() {
    let vlm = model_folder(&stored_tensors(1));
    let vlm = Vlm::open(vlm.path(), &cpu()).expect("a model folder");
    let pictures = ["wide", "tall", "square"].map(|name| picture(&json!({"image": format!("{name}.png")})));
    let asked = vlm.questions(pictures.iter().cloned().map(Ok), Some([50, 40]), "読む").expect("encoded");
    assert_eq!(asked.groups().len(), 1);
    let longest = vlm.longest_prompt("読む", Some([50, 40])).expect("a prompt");
    assert_eq!(asked.groups()[0].prompt, longest);
    assert!(vlm.longest_prompt("読む", None).expect("a prompt").positions() >= longest.positions());
    // Resized by the run is resized before cutting.
    let small = resize_bicubic(&pictures[0], 50, 40).expect("a size");
    let alone = vlm.questions(std::iter::once(Ok(small)), None, "読む").expect("encoded");
    let (a, b) = (asked.groups()[0].features.pick(&[0]), alone.groups()[0].features.pick(&[0]));
    check("resized", &a.expect("a row"), &b.expect("a row"));
}
