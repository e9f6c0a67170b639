//! Configurations as mergekit 0.1.5 makes them: expected tensors come from `scripts/golden/mergekit_configs.py`.
//!
//! The models are made here by the script's formula. Every element is compared in the type that it is written in. Allowed
//! are one unit in the last place for at most one element in ten thousand: sums over a tensor (norms, dot products) are
//! torch's own in order and width. Rows of padding are means whose order mergekit leaves to torch as well.

#![forbid(unsafe_code)]

use half::{bf16, f16};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use worker::checkpoint::{Checkpoint, Dtype};
use worker::merge::mergekit::{Merge, Options, Origin};

const HIDDEN: usize = 8;
const INNER: usize = 12;
const HEADS: usize = 2;
const EMBEDDING: &str = "model.embed_tokens.weight";
const HEAD: &str = "lm_head.weight";

/// A model of `models.json`.
#[derive(Deserialize)]
struct Spec {
    architecture: String,
    dtype: String,
    layers: usize,
    tokens: Vec<String>,
    rows: usize,
    tied: bool,
}

/// What `expected.json` says of a result.
#[derive(Deserialize)]
struct Facts {
    layers: usize,
    rows: usize,
    dtype: String,
    tokens: Vec<String>,
}

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/mergekit_configs")
}

fn read<T: for<'a> Deserialize<'a>>(name: &str) -> BTreeMap<String, T> {
    serde_json::from_slice(&std::fs::read(data().join(name)).unwrap()).unwrap()
}

/// 24-bit numbers around 0: splitmix64 from the FNV-1a hash of the text.
fn words(text: &str, count: usize) -> Vec<f32> {
    let hash = |h: u64, b: u8| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01B3);
    let seed = text.bytes().fold(0xCBF2_9CE4_8422_2325, hash);
    let word = |i: u64| {
        let mut z = seed.wrapping_add((i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ z >> 31) >> 40) as i64 - (1 << 23)
    };
    (0..count as u64).map(|i| word(i) as f32).collect()
}

fn values(model: &str, tensor: &str, count: usize) -> Vec<f32> {
    let shared = words(tensor, count).into_iter().map(|x| x * 2f32.powi(-25));
    if model == "base" {
        return shared.collect();
    }
    let own = words(&format!("{model}:{tensor}"), count);
    shared.zip(own).map(|(x, y)| x + y * 2f32.powi(-29)).collect()
}

fn shapes(spec: &Spec) -> BTreeMap<String, Vec<usize>> {
    let key_value = HIDDEN / HEADS;
    let mut layer = vec![
        ("input_layernorm.weight", vec![HIDDEN]),
        ("self_attn.q_proj.weight", vec![HIDDEN, HIDDEN]),
        ("self_attn.k_proj.weight", vec![key_value, HIDDEN]),
        ("self_attn.v_proj.weight", vec![key_value, HIDDEN]),
        ("self_attn.o_proj.weight", vec![HIDDEN, HIDDEN]),
        ("post_attention_layernorm.weight", vec![HIDDEN]),
        ("mlp.up_proj.weight", vec![INNER, HIDDEN]),
        ("mlp.gate_proj.weight", vec![INNER, HIDDEN]),
        ("mlp.down_proj.weight", vec![HIDDEN, INNER]),
    ];
    if spec.architecture.starts_with("Qwen2") {
        layer.push(("self_attn.q_proj.bias", vec![HIDDEN]));
        layer.push(("self_attn.k_proj.bias", vec![key_value]));
        layer.push(("self_attn.v_proj.bias", vec![key_value]));
    }
    let mut all = BTreeMap::from([
        (EMBEDDING.to_string(), vec![spec.rows, HIDDEN]),
        ("model.norm.weight".to_string(), vec![HIDDEN]),
    ]);
    if !spec.tied {
        all.insert(HEAD.into(), vec![spec.rows, HIDDEN]);
    }
    for i in 0..spec.layers {
        let named = layer.iter().map(|(part, shape)| (format!("model.layers.{i}.{part}"), shape.clone()));
        all.extend(named);
    }
    all
}

fn bytes(dtype: &str, values: &[f32]) -> Vec<u8> {
    match dtype {
        "float32" => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        "float16" => values.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect(),
        _ => values.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect(),
    }
}

fn write_model(folder: &Path, name: &str, spec: &Spec) {
    std::fs::create_dir_all(folder).unwrap();
    let tensors: Vec<(String, safetensors::Dtype, Vec<usize>, Vec<u8>)> = shapes(spec)
        .into_iter()
        .map(|(tensor, shape)| {
            let numbers = if tensor == EMBEDDING || tensor == HEAD {
                let padding = (0..spec.rows - spec.tokens.len()).map(|i| format!("<padding {i}>"));
                let tokens = spec.tokens.iter().cloned().chain(padding);
                tokens.flat_map(|token| values(name, &format!("{tensor}:{token}"), HIDDEN)).collect()
            } else {
                values(name, &tensor, shape.iter().product())
            };
            let dtype = match spec.dtype.as_str() {
                "float32" => safetensors::Dtype::F32,
                "float16" => safetensors::Dtype::F16,
                _ => safetensors::Dtype::BF16,
            };
            (tensor, dtype, shape, bytes(&spec.dtype, &numbers))
        })
        .collect();
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        (name, safetensors::tensor::TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    safetensors::serialize_to_file(views, None, &folder.join("model.safetensors")).unwrap();
    let config = json!({
        "architectures": [spec.architecture],
        "torch_dtype": spec.dtype,
        "num_hidden_layers": spec.layers,
        "vocab_size": spec.rows,
        "tie_word_embeddings": spec.tied,
    });
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let numbered = || spec.tokens.iter().enumerate();
    let added: Vec<Value> = numbered()
        .filter(|(_, t)| t.starts_with('<'))
        .map(|(i, t)| json!({"id": i, "content": t, "special": true, "normalized": false}))
        .collect();
    let vocab: BTreeMap<&String, usize> = numbered().map(|(i, t)| (t, i)).collect();
    let tokenizer =
        json!({"added_tokens": added, "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "t0"}});
    std::fs::write(folder.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let settings = json!({"bos_token": "<s>", "eos_token": "</s>"});
    std::fs::write(folder.join("tokenizer_config.json"), settings.to_string()).unwrap();
}

fn models(home: &Path) {
    for (name, spec) in read::<Spec>("models.json") {
        write_model(&home.join(&name), &name, &spec);
    }
}

fn origin(yaml: &str) -> Origin<'_> {
    Origin { title: "out", yaml, sources: &[] }
}

fn merge(home: &Path, yaml: &str, options: Options, out: &str) -> Result<Vec<String>, String> {
    let parsed = common::mergekit::parse("merge.yml", yaml).map_err(|e| e.to_string())?;
    let merge = Merge::plan(parsed.config, options, |m| Ok(home.join(&m.path))).map_err(|e| e.to_string())?;
    merge.write(&home.join(out), &origin(yaml), &AtomicBool::new(false)).map_err(|e| e.to_string())?;
    Ok(merge.notes().map(String::from).collect())
}

fn json_of(path: PathBuf) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Token → number of a folder's tokenizer.
fn numbers(folder: &Path) -> BTreeMap<String, usize> {
    let root = json_of(folder.join("tokenizer.json"));
    let number = |v: &Value| v.as_u64().unwrap() as usize;
    let vocab = root["model"]["vocab"].as_object().unwrap();
    let mut all: BTreeMap<String, usize> = vocab.iter().map(|(t, n)| (t.clone(), number(n))).collect();
    for entry in root["added_tokens"].as_array().unwrap() {
        all.insert(entry["content"].as_str().unwrap().into(), number(&entry["id"]));
    }
    all
}

/// The rows of a vocabulary in the order of the tokens' text, as the script keeps them.
fn in_order(bytes: &[u8], rows: usize, numbers: &BTreeMap<String, usize>) -> Vec<u8> {
    let width = bytes.len() / rows;
    let order: Vec<usize> = numbers.values().copied().collect();
    let rest = (0..rows).filter(|row| !order.contains(row));
    let all = order.iter().copied().filter(|&row| row < rows).chain(rest);
    all.flat_map(|row| bytes[row * width..(row + 1) * width].to_vec()).collect()
}

/// Bit patterns in the order of the numbers that they stand for.
fn ordered(dtype: Dtype, bytes: &[u8]) -> Vec<i64> {
    let order = |bits: i64, width: u32| match bits >> (width - 1) {
        0 => bits,
        _ => -(bits & ((1 << (width - 1)) - 1)),
    };
    match dtype {
        Dtype::F32 => {
            let word = |b: &[u8]| i64::from(u32::from_le_bytes(b.try_into().unwrap()));
            bytes.chunks_exact(4).map(|b| order(word(b), 32)).collect()
        }
        _ => {
            let word = |b: &[u8]| i64::from(u16::from_le_bytes(b.try_into().unwrap()));
            bytes.chunks_exact(2).map(|b| order(word(b), 16)).collect()
        }
    }
}

#[test]
fn every_configuration_gives_mergekits_tensors() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    models(home);
    let facts: BTreeMap<String, Facts> = read("expected.json");
    let expected = std::fs::read(data().join("expected.safetensors")).unwrap();
    let expected = safetensors::SafeTensors::deserialize(&expected).unwrap();
    let (mut elements, mut differing, mut far) = (0usize, 0usize, Vec::new());
    assert!(facts.len() > 15);
    for (case, facts) in &facts {
        let yaml = std::fs::read_to_string(data().join(format!("{case}.yml"))).unwrap();
        let truncate_embeddings = case.starts_with("truncate");
        let options = Options { truncate_embeddings, ..Options::default() };
        let folder = format!("out-{case}");
        merge(home, &yaml, options, &folder).unwrap_or_else(|e| panic!("{case}: {e}"));
        let out = Checkpoint::open(&home.join(&folder)).unwrap();
        let config = json_of(home.join(&folder).join("config.json"));
        assert_eq!(config["num_hidden_layers"], facts.layers, "{case}");
        // mergekit leaves the number of rows as it was when it cuts them; such a folder does not load.
        let rows = if truncate_embeddings { out.info(EMBEDDING).unwrap().shape[0] } else { facts.rows };
        assert_eq!(config["vocab_size"], rows, "{case}");
        assert_eq!(config["torch_dtype"], facts.dtype.as_str(), "{case}");
        let numbers = numbers(&home.join(&folder));
        assert_eq!(numbers.keys().collect::<Vec<_>>(), facts.tokens.iter().collect::<Vec<_>>(), "{case}");

        let prefix = format!("{case}/");
        let names = expected.names();
        let names: std::collections::BTreeSet<&str> =
            names.iter().filter_map(|name| name.strip_prefix(&prefix)).collect();
        assert_eq!(out.names().collect::<Vec<_>>(), names.iter().copied().collect::<Vec<_>>(), "{case}");
        for name in names {
            let theirs = expected.tensor(&format!("{prefix}{name}")).unwrap();
            let info = out.info(name).unwrap();
            assert_eq!(
                (&info.shape[..], info.dtype.name()),
                (theirs.shape(), theirs.dtype().to_string().as_str())
            );
            let mut ours = out.bytes(name).unwrap().to_vec();
            let by_token = name == EMBEDDING || name == HEAD;
            if by_token {
                ours = in_order(&ours, info.shape[0], &numbers);
            }
            let (ours, theirs) = (ordered(info.dtype, &ours), ordered(info.dtype, theirs.data()));
            let apart = || ours.iter().zip(&theirs).map(|(x, y)| (x - y).abs());
            let largest = apart().max().unwrap_or(0);
            if largest > 1 {
                far.push(format!("{case}: {name} is {largest} units away"));
            }
            differing += apart().filter(|d| *d > 0).count();
            elements += ours.len();
        }
    }
    println!("{elements} elements, {differing} differ");
    assert!(far.is_empty(), "{}", far.join("\n"));
    assert!(differing * 10_000 <= elements, "{differing} of {elements} differ");
}

#[test]
fn what_does_not_fit_is_refused_with_a_remedy() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    models(home);
    let refused = |yaml: &str| merge(home, yaml, Options::default(), "out").unwrap_err();
    let cases = [
        ("merge_method: tie\nmodels: [{model: a}]", "merge method \"tie\" is not known; known are linear,"),
        ("merge_method: ties\nmodels: [{model: a}]", "ties needs a base (add base_model"),
        ("merge_method: linear\nmodels: [{model: a}, {model: a}]", "a is an input twice"),
        ("merge_method: linear\nmodels: [{model: a}, {model: deep}]", "a has 4 layers, deep has 6 (choose"),
        (
            "merge_method: linear\nmodels: [{model: a}, {model: longer}]\nparameters: {weight: 1}",
            "the shapes differ: a [24, 8], longer [27, 8] (match the vocabularies by token: add tokenizer:",
        ),
        ("merge_method: linear\nmodels: [{model: a}, {model: b}]", "parameters.weight: linear has none for"),
        (
            "merge_method: linear\nmodels: [{model: a, parameters: {weight: [{filter: mlp, value: 1}]}}]",
            "parameters.weight: linear has none for model.embed_tokens.weight of a",
        ),
        (
            "merge_method: linear\nmodels: [{model: a, parameters: {weight: many}}]",
            "parameter weight: \"many\" will not do; it takes a finite number",
        ),
        ("merge_method: passthrough\nmodels: [{model: a}, {model: b}]", "passthrough takes exactly 1 models"),
        (
            "merge_method: passthrough\nslices: [{sources: [{model: a, layer_range: [2, 5]}]}]",
            "slices[0].sources[0]: layer_range ends at 5, a has 4 layers",
        ),
        (
            "merge_method: slerp\nbase_model: b\nslices: [{sources: [{model: a, layer_range: [0, 1]}]}]",
            "the base b is not among the inputs",
        ),
        (
            "merge_method: linear\nmodels: [{model: a}, {model: qwen1}]",
            "a is a LlamaForCausalLM, qwen1 a Qwen2",
        ),
        ("merge_method: linear\nmodels: [{model: nowhere}]", "nowhere"),
        (
            "merge_method: linear\nmodels: [{model: base}, {model: wide}]\nparameters: {weight: 1}\n\
             tokenizer: {source: base, tokens: {x9: {force: false}}}",
            "tokenizer.tokens.x9: some models lack the token, and there is no source",
        ),
        (
            "merge_method: linear\nmodels: [{model: base}, {model: wide}]\nparameters: {weight: 1}\n\
             tokenizer: {source: base, tokens: {t20: {source: wide}}}",
            "tokenizer.tokens.t20: wide has no token \"t20\"",
        ),
        (
            "merge_method: linear\nmodels: [{model: a, parameters: {weight: 1}}]\nchat_template: chatml",
            "chat_template: \"chatml\" is not a template's text",
        ),
    ];
    for (yaml, expected) in cases {
        let found = refused(yaml);
        assert!(found.contains(expected), "{yaml}\n{found}");
        assert!(!home.join("out").exists());
    }
}

#[test]
fn a_model_that_is_not_one_stack_of_layers_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let specs: BTreeMap<String, Spec> = read("models.json");
    let mut vlm = specs.into_iter().next().unwrap().1;
    vlm.architecture = "BunnyLlamaForCausalLM".into();
    write_model(&home.path().join("vlm"), "vlm", &vlm);
    let yaml = "merge_method: linear\nmodels: [{model: vlm, parameters: {weight: 1}}]";
    // Its tensors are those of a language model.
    merge(home.path(), yaml, Options::default(), "out").unwrap();
    let weights = home.path().join("vlm/model.safetensors");
    let content = std::fs::read(&weights).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&content).unwrap();
    let mut views = tensors.tensors();
    let tower = views.iter().find(|(n, _)| n == "model.norm.weight").unwrap().1.clone();
    views.push(("model.vision_tower.weight".into(), tower));
    let changed = safetensors::serialize(views, None).unwrap();
    std::fs::write(&weights, changed).unwrap();
    let e = merge(home.path(), yaml, Options::default(), "again").unwrap_err();
    assert!(e.contains("model.vision_tower.weight") && e.contains("--text-only"), "{e}");
}

#[test]
fn files_beside_the_weights() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    models(home);
    std::fs::write(home.join("a/generation_config.json"), "{}").unwrap();
    let template = "{% for m in messages %}{{ m.content }}{% endfor %}";
    for model in ["b", "half"] {
        std::fs::write(home.join(model).join("chat_template.jinja"), template).unwrap();
    }
    let yaml = "merge_method: linear
models: [{model: a}, {model: b}, {model: half}]
parameters: {weight: 1, densty: 2}
dtype: float16
chat_template: auto
";
    let options = Options { shard_bytes: 2000, digests: true, ..Options::default() };
    let notes = merge(home, yaml, options, "out").unwrap();
    assert_eq!(notes, ["parameters.densty has no effect on linear"]);
    let out = home.join("out");
    let text = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
    assert_eq!(text("mergekit_config.yml"), yaml);
    assert_eq!(text("chat_template.jinja"), template);
    assert_eq!(json_of(out.join("tokenizer_config.json"))["chat_template"], template);
    assert_eq!(text("generation_config.json"), "{}");
    assert!(text("README.md").contains("```yaml\nmerge_method: linear"), "{}", text("README.md"));
    assert!(out.join("model.safetensors.index.json").is_file());
    assert!(text("README.md").contains("| BLAKE3 |"), "{}", text("README.md"));
    merge(home, yaml, Options::default(), "untold").unwrap();
    let card = std::fs::read_to_string(home.join("untold/README.md")).unwrap();
    assert!(card.contains("were not digested") && !card.contains("BLAKE3"), "{card}");
    let whole = merge(home, yaml, Options::default(), "whole")
        .map(|_| Checkpoint::open(&home.join("whole")).unwrap());
    let (sharded, whole) = (Checkpoint::open(&out).unwrap(), whole.unwrap());
    for name in whole.names() {
        assert_eq!(sharded.bytes(name).unwrap(), whole.bytes(name).unwrap(), "{name}");
    }
}

/// Tensors of many blocks, a whole number of them and not, stored, aligned and rounded.
#[test]
fn large_tensors() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let specials = ["<s>", "</s>"].map(String::from);
    let tokens: Vec<String> = specials.into_iter().chain((0..9001).map(|i| format!("t{i}"))).collect();
    for dtype in ["float32", "float16", "bfloat16"] {
        let architecture = "LlamaForCausalLM".to_string();
        let rows = tokens.len();
        let spec =
            Spec { architecture, dtype: dtype.into(), layers: 1, tokens: tokens.clone(), rows, tied: false };
        write_model(&home.join(dtype), dtype, &spec);
        let stored = Checkpoint::open(&home.join(dtype)).unwrap();
        let plain = format!("merge_method: passthrough\nmodels: [{{model: {dtype}}}]\n");
        let aligned = format!("{plain}tokenizer_source: base\n");
        for (i, yaml) in [plain.clone(), aligned].iter().enumerate() {
            let out = format!("{dtype}-{i}");
            merge(home, yaml, Options::default(), &out).unwrap();
            let out = Checkpoint::open(&home.join(&out)).unwrap();
            for name in stored.names() {
                assert_eq!(out.info(name).unwrap().dtype, stored.info(name).unwrap().dtype);
                assert!(out.bytes(name).unwrap() == stored.bytes(name).unwrap(), "{dtype}: {name}");
            }
        }
        let yaml = format!("{plain}dtype: float32\nout_dtype: float16\n");
        let out = format!("{dtype}-rounded");
        merge(home, &yaml, Options::default(), &out).unwrap();
        let out = Checkpoint::open(&home.join(&out)).unwrap();
        let numbers: Vec<f32> = tokens
            .iter()
            .flat_map(|token| values(dtype, &format!("{HEAD}:{token}"), HIDDEN))
            .map(|x| match dtype {
                "float32" => x,
                "float16" => f16::from_f32(x).to_f32(),
                _ => bf16::from_f32(x).to_f32(),
            })
            .collect();
        assert!(out.bytes(HEAD).unwrap() == bytes("float16", &numbers), "{dtype}");
    }
}

#[test]
fn stopping_leaves_nothing() {
    let home = tempfile::tempdir().unwrap();
    models(home.path());
    let yaml = "merge_method: linear\nmodels: [{model: a, parameters: {weight: 1}}]";
    let config = common::mergekit::parse("x", yaml).unwrap().config;
    let merge = Merge::plan(config, Options::default(), |m| Ok(home.path().join(&m.path))).unwrap();
    let e = merge.write(&home.path().join("out"), &origin(yaml), &AtomicBool::new(true)).unwrap_err();
    assert!(matches!(e, worker::merge::mergekit::Error::Stopped));
    let left =
        std::fs::read_dir(home.path()).unwrap().filter_map(|e| e.unwrap().file_name().into_string().ok());
    assert!(left.into_iter().all(|name| !name.contains("out")));
}
