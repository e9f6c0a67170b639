//! What a merge by a configuration holds in memory, counted by an allocator, against what was planned from shapes.
//!
//! One thread holds what the plan says, neither more nor less; with more threads how much is sorted at once is theirs, and the
//! plan is an upper bound. Blocks the size of a cache, which are not in the plan, are what the twentieth is for.

mod counting;

use counting::held;
use serde_json::json;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use worker::merge::mergekit::{Merge, Options, Origin};

const ROWS: usize = 4096;
const HIDDEN: usize = 512;

/// Numbers on a coarse grid, so that trims meet equal magnitudes, as they do among the task vectors of real models.
fn numbers(model: usize, count: usize) -> impl Iterator<Item = f32> {
    (0..count as u32).map(move |i| {
        let own = (i.wrapping_mul(2_654_435_761) ^ (model as u32).wrapping_mul(40_503)) >> 13;
        (own as f32 - 262_144.0) * 2f32.powi(-22)
    })
}

fn write_model(folder: &Path, model: usize, float32: bool, tokens: usize) {
    std::fs::create_dir(folder).unwrap();
    let shapes = [
        ("model.embed_tokens.weight", vec![tokens, HIDDEN]),
        ("model.norm.weight", vec![HIDDEN]),
        ("model.layers.0.input_layernorm.weight", vec![HIDDEN]),
        ("model.layers.0.mlp.up_proj.weight", vec![2 * HIDDEN, HIDDEN]),
    ];
    let bytes = |count: usize| -> Vec<u8> {
        let numbers = numbers(model, count);
        match float32 {
            true => numbers.flat_map(f32::to_le_bytes).collect(),
            false => numbers.flat_map(|x| half::bf16::from_f32(x).to_le_bytes()).collect(),
        }
    };
    let dtype = if float32 { safetensors::Dtype::F32 } else { safetensors::Dtype::BF16 };
    let data = shapes.clone().map(|(_, shape)| bytes(shape.iter().product()));
    let views = shapes.iter().zip(&data).map(|((name, shape), bytes)| {
        (*name, safetensors::tensor::TensorView::new(dtype, shape.clone(), bytes).unwrap())
    });
    safetensors::serialize_to_file(views, None, &folder.join("model.safetensors")).unwrap();
    let config = json!({"architectures": ["LlamaForCausalLM"], "num_hidden_layers": 1, "vocab_size": tokens});
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    // Of two models each has half of its tokens alone.
    let vocab: serde_json::Map<_, _> =
        (0..tokens).map(|n| (format!("t{}", n + model * ROWS / 2), json!(n))).collect();
    let tokenizer =
        json!({"added_tokens": [], "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "t0"}});
    std::fs::write(folder.join("tokenizer.json"), tokenizer.to_string()).unwrap();
}

fn configuration(method: &str, more: &str) -> String {
    let parameters = |density: &str| format!("{{weight: 0.5{density}}}");
    let thinned = ["ties", "dare_ties", "della_linear", "breadcrumbs"].contains(&method);
    let own = match method {
        "linear" | "nuslerp" | "task_arithmetic" => parameters(""),
        _ if thinned => parameters(", density: 0.4"),
        _ => "{}".to_string(),
    };
    let inputs: &[&str] = match method {
        "passthrough" => &["a"],
        "slerp" => &["base", "a"],
        "nuslerp" => &["a", "b"],
        _ => &["a", "b", "c"],
    };
    let models: String = inputs.iter().map(|m| format!("  - model: {m}\n    parameters: {own}\n")).collect();
    let base = match method {
        "passthrough" | "linear" => "",
        _ => "base_model: base\n",
    };
    format!("merge_method: {method}\nmodels:\n{models}{base}{more}")
}

/// Bytes that were planned, and the most that were there beside what was there before.
fn planned_and_held(home: &Path, text: &str, threads: usize) -> (f64, f64) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| {
        let config = common::mergekit::parse("merge.yml", text).unwrap().config;
        let folder = |model: &common::mergekit::ModelName| Ok(home.join(&model.path));
        let merge = Merge::plan(config, Options::default(), folder).unwrap();
        let needs = merge.needs(threads).unwrap();
        let out = home.join("out");
        let origin = Origin { title: "merged", yaml: text, sources: &[] };
        let (written, held) = held(|| merge.write(&out, &origin, &AtomicBool::new(false)));
        written.unwrap();
        std::fs::remove_dir_all(out).unwrap();
        (needs.bytes().max(needs.tokenizer) as f64, held as f64)
    })
}

/// One test: others would be counted with it.
#[test]
fn what_is_held_is_within_a_twentieth_of_the_plan() {
    const WITHIN: f64 = 0.05;
    // So few elements vary that a smaller share would be found with a heap, for which less is held.
    let share = "parameters: {select_topk: 0.9}\n";
    let cases = [
        ("linear", ""),
        ("passthrough", ""),
        ("slerp", "parameters: {t: 0.4}\n"),
        ("nuslerp", "parameters: {nuslerp_flatten: false}\n"),
        ("task_arithmetic", "out_dtype: float32\n"),
        ("ties", ""),
        ("breadcrumbs", ""),
        ("dare_ties", ""),
        ("della_linear", ""),
        ("model_stock", "parameters: {filter_wise: true}\n"),
        ("sce", share),
        ("linear", "tokenizer: {source: union}\n"),
        ("ties", "tokenizer: {source: union}\n"),
    ];
    for float32 in [false, true] {
        let home = tempfile::tempdir().unwrap();
        for (model, name) in ["base", "a", "b", "c"].iter().enumerate() {
            write_model(&home.path().join(name), model, float32, ROWS);
        }
        for (method, more) in cases {
            let text = configuration(method, more);
            let (planned, held) = planned_and_held(home.path(), &text, 1);
            let told = format!("{method} {more:?} float32 {float32}: planned {planned}, held {held}");
            println!("{told}");
            assert!((held / planned - 1.0).abs() <= WITHIN, "{told}");
            let (planned, held) = planned_and_held(home.path(), &text, 3);
            assert!(
                held <= (1.0 + WITHIN) * planned,
                "three threads, {told}: planned {planned}, held {held}"
            );
        }
    }
}
