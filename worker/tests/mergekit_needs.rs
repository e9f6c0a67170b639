//! What merges of real sizes are planned to hold: models of Llama 3's shapes as files with a header and a hole for weights.

use serde_json::{Map, Value, json};
use std::io::Write;
use std::path::Path;
use worker::merge::mergekit::{Merge, Needs, Options};

struct Shape {
    layers: usize,
    hidden: usize,
    intermediate: usize,
    keys: usize,
}

const LLAMA_8B: Shape = Shape { layers: 32, hidden: 4096, intermediate: 14336, keys: 1024 };
const LLAMA_70B: Shape = Shape { layers: 80, hidden: 8192, intermediate: 28672, keys: 1024 };
const VOCABULARY: usize = 128_256;

fn write_model(folder: &Path, shape: &Shape) {
    let Shape { layers, hidden, intermediate, keys } = *shape;
    std::fs::create_dir(folder).unwrap();
    let mut tensors = vec![("model.embed_tokens.weight".to_string(), vec![VOCABULARY, hidden])];
    for layer in 0..layers {
        let parts = [
            ("input_layernorm", vec![hidden]),
            ("post_attention_layernorm", vec![hidden]),
            ("self_attn.q_proj", vec![hidden, hidden]),
            ("self_attn.k_proj", vec![keys, hidden]),
            ("self_attn.v_proj", vec![keys, hidden]),
            ("self_attn.o_proj", vec![hidden, hidden]),
            ("mlp.gate_proj", vec![intermediate, hidden]),
            ("mlp.up_proj", vec![intermediate, hidden]),
            ("mlp.down_proj", vec![hidden, intermediate]),
        ];
        tensors.extend(parts.map(|(part, shape)| (format!("model.layers.{layer}.{part}.weight"), shape)));
    }
    tensors.push(("model.norm.weight".into(), vec![hidden]));
    tensors.push(("lm_head.weight".into(), vec![VOCABULARY, hidden]));
    let (mut header, mut at) = (Map::new(), 0);
    for (name, shape) in tensors {
        let bytes = 2 * shape.iter().product::<usize>();
        header.insert(name, json!({"dtype": "BF16", "shape": shape, "data_offsets": [at, at + bytes]}));
        at += bytes;
    }
    let header = serde_json::to_vec(&Value::Object(header)).unwrap();
    let mut file = std::fs::File::create(folder.join("model.safetensors")).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(&header).unwrap();
    file.set_len((8 + header.len() + at) as u64).unwrap();
    let config =
        json!({"architectures": ["LlamaForCausalLM"], "num_hidden_layers": layers, "vocab_size": VOCABULARY});
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
}

fn needs(home: &Path, method: &str, threads: usize) -> Needs {
    let thinned = ["ties", "dare_ties", "breadcrumbs"].contains(&method);
    let own = if thinned { "{weight: 0.5, density: 0.4}" } else { "{weight: 0.5}" };
    let models: String =
        ["a", "b", "c", "d"].map(|m| format!("  - model: {m}\n    parameters: {own}\n")).concat();
    let base = if method == "linear" { "" } else { "base_model: base\n" };
    let text = format!("merge_method: {method}\nmodels:\n{models}{base}");
    let config = common::mergekit::parse("merge.yml", &text).unwrap().config;
    let merge = Merge::plan(config, Options::default(), |model| Ok(home.join(&model.path))).unwrap();
    merge.needs(threads).unwrap()
}

/// Whatever the size: pieces of the result, a bit an element and source, and what ranking one tensor takes; the keys of the largest,
/// the embedding of 70B models, are in a file.
#[test]
fn a_merge_holds_less_than_two_gigabytes() {
    for (size, shape) in [("8B", LLAMA_8B), ("70B", LLAMA_70B)] {
        let home = tempfile::tempdir().unwrap();
        ["base", "a", "b", "c", "d"].iter().for_each(|name| write_model(&home.path().join(name), &shape));
        for method in ["linear", "task_arithmetic", "ties", "dare_ties", "breadcrumbs"] {
            for threads in [1, 2, 64] {
                let needs = needs(home.path(), method, threads);
                let told = format!("{size} {method} with {threads} threads: {needs:?}");
                println!("{told}, {} bytes", needs.bytes());
                assert!(needs.bytes() < 2_000_000_000, "{told}");
            }
        }
    }
}
