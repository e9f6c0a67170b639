//! Single kernels of merging and generating: `cargo bench -p worker`. Whole merges and generations beside floors and peers:
//! `scripts/bench/peers`.

#![forbid(unsafe_code)]

use candle_core::{DType, Device, Tensor};
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use half::bf16;
use std::collections::HashMap;
use worker::checkpoint::Dtype;
use worker::merge::field::{Key, words};
use worker::merge::mergekit::methods::{self, Call, Compute, Input, Method, Parameters, Value, Values};
use worker::model::weights::expected_parameters;
use worker::model::{BunnyConfig, Llama};

fn main() {
    divan::main();
}

/// Elements of one tensor.
const ELEMENTS: usize = 1 << 20;

/// bfloat16 numbers as they are stored, sources near their base.
fn stored(stream: u32) -> Vec<u8> {
    let noise = |stream: u32| {
        let mut out = vec![0; ELEMENTS];
        words(Key([stream, 1]), 0, &mut out);
        out.into_iter().map(|w| w as f32 / u32::MAX as f32 - 0.5)
    };
    noise(0).zip(noise(stream)).flat_map(|(b, d)| bf16::from_f32(b + 0.1 * d).to_le_bytes()).collect()
}

#[divan::bench]
fn random_field(bencher: Bencher) {
    let mut out = vec![0u32; ELEMENTS];
    bencher.counter(ItemsCount::new(ELEMENTS)).bench_local(|| words(Key([7, 9]), 0, &mut out));
}

#[divan::bench(args = ["linear", "task_arithmetic", "ties", "dare_ties", "breadcrumbs", "slerp", "model_stock"])]
fn mergekit(bencher: Bencher, name: &str) {
    let method: Method = name.parse().expect("a method");
    let models: Vec<Vec<u8>> = (0..5).map(stored).collect();
    let own = |names: &[(&str, f64)]| {
        Parameters(names.iter().map(|(name, x)| (name.to_string(), Value::Float(*x))).collect())
    };
    let (shared, own) = match name {
        "slerp" => (own(&[("t", 0.4)]), own(&[])),
        "model_stock" => (own(&[]), own(&[])),
        "linear" | "task_arithmetic" => (own(&[]), own(&[("weight", 0.4)])),
        _ => (own(&[]), own(&[("weight", 0.4), ("density", 0.5)])),
    };
    let base = Parameters::default();
    let count = if name == "slerp" { 2 } else { models.len() };
    let from = usize::from(name == "linear");
    let sources = ["base", "a", "b", "c", "d"];
    let inputs: Vec<Input> = (from..count)
        .map(|i| Input {
            source: sources[i],
            values: Values::stored(&models[i], Dtype::Bf16).expect("a type that can be merged"),
            parameters: if i == 0 { &base } else { &own },
        })
        .collect();
    let call = Call {
        tensor: "t",
        shape: &[1024, ELEMENTS / 1024],
        compute: Compute::Bf16,
        inputs: &inputs,
        base: (from == 0).then_some(0),
        parameters: &shared,
        seed: 0,
        threads: 1,
        spill: None,
    };
    let moved = (inputs.len() + 1) * ELEMENTS * 2;
    let merge = || methods::merge_as(method, &call, Dtype::Bf16).expect("a call that is in order");
    bencher.counter(BytesCount::new(moved)).bench_local(merge);
}

/// One token for so many rows, each at position 128.
#[divan::bench(args = [1, 10, 50])]
fn decode_step(bencher: Bencher, rows: usize) {
    let text = r#"{"hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 4, "num_attention_heads": 8,
        "num_key_value_heads": 4, "vocab_size": 8000, "rms_norm_eps": 1e-5, "rope_theta": 500000.0,
        "max_position_embeddings": 512, "mm_projector_type": "mlp2x_gelu", "mm_hidden_size": 64,
        "vision_config": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4,
        "image_size": 48, "patch_size": 8}}"#;
    let config = BunnyConfig::from_json(text, "the bench").expect("a configuration");
    let tensor = |(name, shape): (String, Vec<usize>)| {
        let tensor = Tensor::randn(0f32, 0.05, shape, &Device::Cpu).expect("memory");
        (name, tensor)
    };
    let tensors: HashMap<_, _> = expected_parameters(&config.llama).into_iter().map(tensor).collect();
    let llama = Llama::load(&config.llama, &tensors, DType::F32, &Device::Cpu).expect("its tensors");
    let cache = llama.new_cache(rows, 256).expect("memory");
    let embeds = Tensor::randn(0f32, 1.0, (rows, 1, 512), &Device::Cpu).expect("memory");
    bencher.counter(ItemsCount::new(rows)).bench_local(|| {
        let hidden = llama.forward(&embeds, &cache, 0, 128).expect("room in the cache");
        let logits = llama.logits(&hidden).expect("memory");
        llama.greedy(&logits).expect("float32")
    });
}
