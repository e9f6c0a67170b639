//! The vision-language model against transformers, PyTorch and Pillow.
//!
//! Reference values: `scripts/golden/vlm_tiny.py` (torch 2.6.0, transformers 5.23.0, Pillow 13.0.0, float32). A folder with
//! a model and a `reference.json` beside it is checked by [`Golden::check`]; another family is one more call of
//! [`Golden::open`] with its three folders, and of `check`.

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use serde_json::Value;
use worker::generate::{
    Control, Error as GenerateError, Generator, Options, Progress, Stop, TextTokenizer, bunny_prompt,
};
use worker::image::{Limits, Preprocess, decode, resize_bicubic};
use worker::model::bunny::Vision;
use worker::model::llama::Kernels;
use worker::model::{BunnyConfig, Features, Llama, LlamaWeights, Prompt, eos_from_generation_config};

/// A largest allowed difference and why it is allowed.
struct Tolerance {
    absolute: f32,
    relative: f32,
    reason: &'static str,
}

/// Normalised pixels: whole steps of 1 / 127.5, so only the last bit of float32 may differ.
const PIXELS: Tolerance =
    Tolerance { absolute: 0.0, relative: 2.4e-7, reason: "rounding of the normalisation" };
/// Tower and projector: some dozen float32 sums in another order, on values of order one.
const FEATURES: Tolerance =
    Tolerance { absolute: 1e-5, relative: 1e-5, reason: "float32 sums in another order, a few layers" };
/// The language model: more layers on larger values.
const LOGITS: Tolerance =
    Tolerance { absolute: 1e-5, relative: 1e-4, reason: "float32 sums in another order, all layers" };
/// The two implementations of one model, or one row in batches of different size.
const SAME: Tolerance =
    Tolerance { absolute: 1e-5, relative: 1e-5, reason: "the same float32 sums, blocked in another way" };

/// Float16 and bfloat16 keep 11 and 8 bits; errors of some hundred roundings add up.
const HALF: Tolerance = Tolerance { absolute: 0.0, relative: 1e-2, reason: "float16 throughout" };
/// See [`HALF`].
const BRAIN: Tolerance = Tolerance { absolute: 0.0, relative: 6e-2, reason: "bfloat16 throughout" };

impl Tolerance {
    fn check(&self, what: &str, got: &Tensor, want: &Tensor) {
        assert_eq!(got.dims(), want.dims(), "{what}");
        let values = |t: &Tensor| {
            t.to_dtype(DType::F32).and_then(|t| t.flatten_all()?.to_vec1::<f32>()).expect("a float tensor")
        };
        let (got, want) = (values(got), values(want));
        // A maximum passes over NaN, so it has to be refused by itself.
        assert!(got.iter().all(|x| x.is_finite()), "{what}: not all values are finite");
        let scale = want.iter().fold(0f32, |m, x| m.max(x.abs()));
        let off = got.iter().zip(&want).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
        println!("{what}: largest difference {off:.2e} of {scale:.2e}");
        let allowed = self.absolute + self.relative * scale;
        assert!(off <= allowed, "{what}: {off} of {scale}, allowed {allowed} for {}", self.reason);
    }
}

fn data(part: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/vlm").join(part)
}

fn tensors(path: &Path) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(path, &Device::Cpu).expect("a reference file")
}

/// A model with all its parts.
struct Bunny {
    vision: Vision,
    language: Llama,
}

impl Bunny {
    fn load(
        config: &BunnyConfig,
        tensors: &HashMap<String, Tensor>,
        dtype: DType,
        kernels: Kernels,
    ) -> worker::model::Result<Bunny> {
        let cpu = Device::Cpu;
        let vision = Vision::load(config, tensors, dtype, &cpu)?;
        let weights = LlamaWeights::load(&config.llama, tensors, dtype, &cpu)?;
        Ok(Bunny { vision, language: Llama::new(config.llama.clone(), weights, kernels)? })
    }
}

/// A model and the values it should give.
struct Golden {
    config: BunnyConfig,
    tensors: HashMap<String, Tensor>,
    reference: Value,
    values: HashMap<String, Tensor>,
    images: PathBuf,
    eos: Vec<u32>,
    tokenizer: Option<TextTokenizer>,
    pre_resize: Option<(usize, usize)>,
    max_new_tokens: usize,
}

impl Golden {
    /// Reads `model` (config, generation config, weights, tokenizer if any) and `reference.*`; image paths are relative to `images`.
    ///
    /// `pre_resize` and `max_new_tokens` are read from `reference.json` if it has them, else the caller sets the fields.
    fn open(model: &Path, reference: &Path, images: &Path) -> Self {
        let mut all = HashMap::new();
        for entry in std::fs::read_dir(model).expect("a model folder") {
            let path = entry.expect("a folder entry").path();
            let name = path.file_name().and_then(|n| n.to_str()).expect("a plain name").to_string();
            if name.starts_with("model") && name.ends_with(".safetensors") {
                all.extend(tensors(&path));
            }
        }
        let text = std::fs::read_to_string(reference.join("reference.json")).expect("reference.json");
        let reference_json: Value = serde_json::from_str(&text).expect("reference.json");
        Self {
            config: BunnyConfig::from_file(&model.join("config.json")).expect("config.json"),
            tensors: all,
            tokenizer: model
                .join("tokenizer.json")
                .exists()
                .then(|| TextTokenizer::from_folder(model).expect("a tokenizer")),
            pre_resize: reference_json["pre_resize"].as_array().map(|v| {
                (v[0].as_u64().expect("a width") as usize, v[1].as_u64().expect("a height") as usize)
            }),
            max_new_tokens: reference_json["max_new_tokens"].as_u64().unwrap_or(256) as usize,
            reference: reference_json,
            values: tensors(&reference.join("reference.safetensors")),
            images: images.to_path_buf(),
            eos: eos_from_generation_config(&model.join("generation_config.json"))
                .expect("generation_config.json"),
        }
    }

    fn tiny(name: &str) -> Self {
        Self::open(&data(name), &data(name), &data(""))
    }

    fn model(&self, kernels: Kernels) -> Bunny {
        Bunny::load(&self.config, &self.tensors, DType::F32, kernels).expect("all tensors are there")
    }

    fn ids(&self, key: &str) -> Vec<u32> {
        ids(&self.reference[key])
    }

    fn prompt(&self) -> Prompt {
        Prompt::around(self.ids("before"), self.config.image_tokens(), self.ids("after"))
    }

    fn samples(&self) -> &[Value] {
        self.reference["samples"].as_array().expect("samples")
    }

    fn options(&self) -> Options {
        Options { max_new_tokens: self.max_new_tokens, eos: self.eos.clone(), ..Options::default() }
    }

    fn preprocess(&self) -> Preprocess {
        Preprocess { pre_resize: self.pre_resize, pad: self.config.pad, size: self.config.input_size() }
    }

    /// Features of all samples, checked on the way against whatever the reference holds of them.
    fn features(&self, model: &Bunny) -> Features {
        let prepare = self.preprocess();
        let mut all = Vec::new();
        for sample in self.samples() {
            let id = sample["id"].as_str().expect("an id");
            let path = self.images.join(sample["image"].as_str().expect("an image"));
            let image = decode(&path, None, &Limits::default()).expect("a picture");
            if let Some(want) = self.values.get(&format!("{id}.pixels")) {
                let want = want.flatten_all().and_then(|t| t.to_vec1::<u8>()).expect("bytes");
                assert!(
                    prepare.pixels(&image).expect("sizes").data() == want,
                    "{id}: pixels differ from Pillow's"
                );
            }
            let pixels = prepare.apply(&image).expect("sizes");
            // Large pictures are held by one row of their first channel, after normalisation.
            let prefix = format!("{id}.pixels_row_");
            for (name, want) in self.values.iter().filter(|(name, _)| name.starts_with(&prefix)) {
                let row: usize = name[prefix.len()..].parse().expect("a row number");
                let got = pixels[row * prepare.size..(row + 1) * prepare.size].to_vec();
                let got = Tensor::from_vec(got, prepare.size, &Device::Cpu).expect("memory");
                PIXELS.check(name, &got, want);
            }
            let pixels =
                Tensor::from_vec(pixels, (3, prepare.size, prepare.size), &Device::Cpu).expect("memory");
            let vision = &model.vision;
            if let Some(want) = self.values.get(&format!("{id}.features")) {
                FEATURES.check(
                    &format!("{id} features"),
                    &vision.tower_features(&pixels).expect("a pass"),
                    want,
                );
            }
            let projected = vision.encode(&pixels).expect("a pass");
            if let Some(want) = self.values.get(&format!("{id}.projected")) {
                FEATURES.check(&format!("{id} projected"), &projected, want);
            }
            all.push(projected);
        }
        Features::stack(&all).expect("equal shapes")
    }

    /// Everything: pixels, features, logits of the prompt, greedy ids and stops, in several batch sizes.
    fn check(&self) {
        for kernels in [Kernels::Auto, Kernels::Plain] {
            let model = self.model(kernels);
            let features = self.features(&model);
            let logits = prompt_logits(&model, &self.prompt(), &features);
            for (row, sample) in self.samples().iter().enumerate() {
                let id = sample["id"].as_str().expect("an id");
                if let Some(want) = self.values.get(&format!("{id}.logits")) {
                    LOGITS.check(&format!("{id} logits"), &logits.get(row).expect("a row"), want);
                }
            }
            for (batch_size, prefill_rows) in [(64, None), (3, Some(2)), (1, None), (64, Some(1))] {
                let options = Options { batch_size, prefill_rows, ..self.options() };
                let got = generate(&model, &self.prompt(), &features, &options);
                for (sample, (token_ids, stop)) in self.samples().iter().zip(got) {
                    assert_eq!(
                        token_ids,
                        ids(&sample["token_ids"]),
                        "{} in batches of {batch_size}",
                        sample["id"]
                    );
                    if let Some(want) = sample["stop"].as_str() {
                        assert_eq!(stop, if want == "eos" { Stop::Eos } else { Stop::Length });
                    }
                    if let (Some(tokenizer), Some(want)) = (&self.tokenizer, sample["text"].as_str()) {
                        assert_eq!(tokenizer.decode(&token_ids).expect("known ids"), want);
                    }
                }
            }
        }
    }
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().expect("a list").iter().map(|v| v.as_u64().expect("an id") as u32).collect()
}

/// The trained family that ships with the project; its reference is made by `scripts/golden/vlm_reference.py`.
#[test]
fn the_trained_family_equals_transformers() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data");
    let mut golden = Golden::open(&data.join("family/vlm"), &data.join("golden/vlm"), &data);
    let text = std::fs::read_to_string(data.join("family/vlm/jradievo.json")).expect("jradievo.json");
    let run: Value = serde_json::from_str(&text).expect("jradievo.json");
    let size = |key: &str, i: usize| run[key][i].as_u64().map(|v| v as usize);
    golden.pre_resize = size("image_resize", 0).zip(size("image_resize", 1));
    golden.max_new_tokens = run["max_new_tokens"].as_u64().expect("a number") as usize;
    let tokenizer = golden.tokenizer.as_ref().expect("a tokenizer");
    let task = run["task"].as_str().expect("a text");
    let prompt = bunny_prompt(tokenizer, task, golden.config.bos_token_id, golden.config.image_tokens())
        .expect("a prompt");
    assert_eq!(prompt, golden.prompt());
    golden.check();
}

/// Logits of the last prompt position of all rows, the whole prompt in one pass.
fn prompt_logits(model: &Bunny, prompt: &Prompt, features: &Features) -> Tensor {
    let rows = features.len();
    let shared = prompt.embed_shared(&model.language).expect("known ids");
    let shared = shared.repeat((rows, 1, 1)).expect("memory");
    let rest = prompt.embed_rest(&model.language, features.tensor()).expect("known ids");
    let embeds = Tensor::cat(&[&shared, &rest], 1).expect("equal widths");
    let cache = model.language.new_cache(rows, embeds.dim(1).expect("three axes")).expect("memory");
    let hidden = model.language.forward(&embeds, &cache, 0, 0).expect("a pass");
    model.language.logits(&hidden).expect("a position")
}

fn generate(model: &Bunny, prompt: &Prompt, features: &Features, options: &Options) -> Vec<(Vec<u32>, Stop)> {
    let mut progress = Progress { samples_done: 0, samples: features.len(), tokens: 0 };
    let got = Generator::new()
        .token_ids(&model.language, prompt, features, options, Control::default(), &mut progress)
        .expect("a run");
    assert_eq!(progress.samples_done, features.len());
    assert_eq!(progress.tokens, got.iter().map(|(ids, _)| ids.len()).sum::<usize>());
    got
}

#[test]
fn pillow_bicubic_is_equal_to_the_bit() {
    for (name, want) in tensors(&data("resize.safetensors")) {
        let (image, size) = name.split_once('.').expect("image.WxH");
        let (width, height) = size.split_once('x').expect("WxH");
        let image =
            decode(&data(&format!("images/{image}.png")), None, &Limits::default()).expect("a picture");
        let got = resize_bicubic(&image, width.parse().expect("a width"), height.parse().expect("a height"))
            .expect("sizes");
        let want = want.flatten_all().and_then(|t| t.to_vec1::<u8>()).expect("bytes");
        assert!(got.data() == want, "{name}");
    }
}

#[test]
fn s2_with_grouped_heads_equals_transformers() {
    Golden::tiny("v11").check();
}

#[test]
fn one_scale_with_one_key_head_equals_transformers() {
    Golden::tiny("v10").check();
}

#[test]
fn sixteen_bits_stay_near_float32() {
    for name in ["v11", "v10"] {
        let golden = Golden::tiny(name);
        let exact = golden.model(Kernels::Auto);
        let features = golden.features(&exact);
        let want = prompt_logits(&exact, &golden.prompt(), &features);
        for (dtype, tolerance) in [(DType::F16, HALF), (DType::BF16, BRAIN)] {
            let model = Bunny::load(&golden.config, &golden.tensors, dtype, Kernels::Auto).expect("weights");
            let prepare = golden.preprocess();
            let image = golden.samples()[0]["image"].as_str().expect("an image");
            let image = decode(&golden.images.join(image), None, &Limits::default()).expect("a picture");
            let pixels = prepare.apply(&image).expect("sizes");
            let pixels =
                Tensor::from_vec(pixels, (3, prepare.size, prepare.size), &Device::Cpu).expect("memory");
            let one = Features::stack(&[model.vision.encode(&pixels).expect("a pass")]).expect("one");
            assert_eq!(one.tensor().dtype(), dtype);
            let got = prompt_logits(&model, &golden.prompt(), &one);
            tolerance.check(&format!("{name} {dtype:?} logits"), &got, &want.narrow(0, 0, 1).expect("a row"));
            let got = generate(&model, &golden.prompt(), &one, &golden.options());
            assert!(!got[0].0.is_empty());
        }
    }
}

#[test]
fn overwritten_weights_are_seen_and_can_be_put_back() {
    let golden = Golden::tiny("v11");
    let model = golden.model(Kernels::Auto);
    let features = golden.features(&model);
    let logits = |what: &str| {
        let t = prompt_logits(&model, &golden.prompt(), &features);
        println!("{what}");
        t
    };
    let first = logits("as loaded");
    let weights = model.language.weights();
    let names: Vec<String> = weights.parameters().map(|(name, _)| name.to_string()).collect();
    assert_eq!(names.len(), 3 * 9 + 3);
    for name in &names {
        let old = weights.parameter(name).and_then(|t| t.copy().ok()).expect("a parameter");
        let changed = (&old * 1.5).expect("memory");
        weights.overwrite(name, &changed).expect("equal shapes");
        let off =
            (logits(name) - &first).and_then(|d| d.abs()?.max_all()?.to_scalar::<f32>()).expect("a number");
        assert!(off > 1e-4, "{name} has no effect: {off}");
        weights.overwrite(name, &old).expect("equal shapes");
    }
    SAME.check("put back", &logits("put back"), &first);

    let wrong = Tensor::zeros((2, 2), DType::F32, &Device::Cpu).expect("memory");
    let error = weights.overwrite(&names[0], &wrong).expect_err("another shape").to_string();
    assert!(error.contains(&names[0]) && error.contains("[2, 2]"), "{error}");
    assert!(weights.overwrite("model.vision_tower.x", &wrong).is_err());
}

#[test]
fn rows_that_are_not_finite_stop_without_touching_the_others() {
    let golden = Golden::tiny("v11");
    let model = golden.model(Kernels::Auto);
    let features = golden.features(&model);
    // One image's features are NaN: its row alone must stop.
    let nan = Tensor::full(f32::NAN, features.tensor().get(1).expect("a row").dims(), &Device::Cpu)
        .expect("memory");
    let rows = [0, 1, 2].map(|i| if i == 1 { nan.clone() } else { features.tensor().get(i).expect("a row") });
    for kernels in [Kernels::Auto, Kernels::Plain] {
        let model = golden.model(kernels);
        let got = generate(
            &model,
            &golden.prompt(),
            &Features::stack(&rows).expect("equal shapes"),
            &golden.options(),
        );
        assert_eq!(got[1], (Vec::new(), Stop::NonFinite));
        for row in [0, 2] {
            assert_eq!(got[row].0, ids(&golden.samples()[row]["token_ids"]));
        }
        // Weights of NaN stop all rows.
        let head = model.language.weights().parameter("lm_head.weight").expect("a parameter").dims().to_vec();
        let bad = Tensor::full(f32::INFINITY, head, &Device::Cpu).expect("memory");
        model.language.weights().overwrite("lm_head.weight", &bad).expect("equal shapes");
        let got = generate(&model, &golden.prompt(), &features, &golden.options());
        assert!(got.iter().all(|row| *row == (Vec::new(), Stop::NonFinite)));
    }
}

#[test]
fn a_generator_can_be_cancelled_and_used_again() {
    let golden = Golden::tiny("v10");
    let model = golden.model(Kernels::Auto);
    let features = golden.features(&model);
    let mut generator = Generator::new();
    let steps = std::cell::Cell::new(0);
    let count = |_: Progress| steps.set(steps.get() + 1);
    let enough = || steps.get() >= 2;
    let control = Control { cancelled: Some(&enough), progress: Some(&count) };
    let mut progress = Progress { samples_done: 0, samples: 0, tokens: 0 };
    let mut run = |control| {
        let (prompt, options) = (golden.prompt(), golden.options());
        generator.token_ids(&model.language, &prompt, &features, &options, control, &mut progress)
    };
    assert!(matches!(run(control), Err(GenerateError::Cancelled)));
    let again = run(Control::default()).expect("a run");
    for (sample, (token_ids, _)) in golden.samples().iter().zip(again) {
        assert_eq!(token_ids, ids(&sample["token_ids"]));
    }
}

#[test]
fn faults_are_refused_before_anything_runs() {
    let golden = Golden::tiny("v10");
    let load = |tensors: &HashMap<String, Tensor>| {
        Bunny::load(&golden.config, tensors, DType::F32, Kernels::Auto).map(|_| ()).map_err(|e| e.to_string())
    };
    for name in ["model.layers.1.mlp.up_proj.weight", "model.mm_projector.2.bias"] {
        let mut tensors = golden.tensors.clone();
        let old = tensors.remove(name).expect("a tensor");
        assert!(load(&tensors).expect_err("missing").contains(name));
        tensors.insert(name.into(), old.unsqueeze(0).expect("an axis"));
        assert!(load(&tensors).expect_err("misshapen").contains(name));
    }
    // What is never used may be absent.
    let mut tensors = golden.tensors.clone();
    let layer = format!("encoder.layers.{}.", golden.config.vision.num_hidden_layers - 1);
    tensors.retain(|name, _| {
        !(name.contains(&layer) || name.contains("post_layernorm") || name.contains(".head."))
    });
    assert!(tensors.len() < golden.tensors.len());
    load(&tensors).expect("the tensors in use");

    let model = golden.model(Kernels::Auto);
    let features = golden.features(&model);
    let mut progress = Progress { samples_done: 0, samples: 0, tokens: 0 };
    let mut run = |prompt: &Prompt, features: &Features, options: Options| {
        Generator::new().token_ids(
            &model.language,
            prompt,
            features,
            &options,
            Control::default(),
            &mut progress,
        )
    };
    let (prompt, options) = (golden.prompt(), golden.options());
    assert!(run(&prompt, &features, Options { batch_size: 0, ..options.clone() }).is_err());
    assert!(run(&prompt, &features, Options { max_new_tokens: 0, ..options.clone() }).is_err());
    assert!(run(&prompt, &features, Options { max_length: Some(5), ..options.clone() }).is_err());
    let long = Prompt { before: vec![1; 200], ..golden.prompt() };
    assert!(run(&long, &features, options.clone()).is_err());
    let unknown = Prompt { before: vec![1, 100_000], ..golden.prompt() };
    assert!(run(&unknown, &features, options.clone()).is_err());
    let narrow = Features::new(features.tensor().narrow(2, 0, 3).expect("in range")).expect("three axes");
    assert!(run(&prompt, &narrow, options.clone()).is_err());
    // The sequence's bound cuts the answer short, with the same beginning.
    let length = prompt.positions();
    let short = run(&prompt, &features, Options { max_length: Some(length + 2), ..options }).expect("a run");
    for (sample, (token_ids, _)) in golden.samples().iter().zip(short) {
        let want = ids(&sample["token_ids"]);
        assert_eq!(token_ids, want[..want.len().min(2)]);
    }
}
