//! Measures prefill and decode speed of a Bunny of random weights.
//!
//! `cargo run --release -p worker --example decode_bench -- [hidden layers heads kv_heads ffn vocab rows new_tokens rounds]`;
//! `RAYON_NUM_THREADS` sets the threads. Prompt: 27 + 36 + 32 positions.

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use worker::generate::{Control, Generator, Options, Progress};
use worker::model::weights::expected_parameters;
use worker::model::{BunnyConfig, Features, Llama, Prompt};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let given: Vec<usize> = std::env::args().skip(1).map(|a| a.parse()).collect::<Result<_, _>>()?;
    let arg = |i: usize, default: usize| given.get(i).copied().unwrap_or(default);
    let (hidden, layers, heads, kv) = (arg(0, 128), arg(1, 5), arg(2, 4), arg(3, 4));
    let (ffn, vocab, rows, new_tokens) = (arg(4, 352), arg(5, 1000), arg(6, 50), arg(7, 60));
    let text = format!(
        r#"{{"hidden_size": {hidden}, "intermediate_size": {ffn}, "num_hidden_layers": {layers},
        "num_attention_heads": {heads}, "num_key_value_heads": {kv}, "vocab_size": {vocab}, "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0, "max_position_embeddings": 2048, "mm_projector_type": "mlp2x_gelu",
        "mm_hidden_size": 64, "vision_config": {{"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3,
        "num_attention_heads": 4, "image_size": 48, "patch_size": 8}}}}"#
    );
    let config = BunnyConfig::from_json(&text, "arguments")?;
    let device = Device::Cpu;
    let mut tensors = HashMap::new();
    let mut parameters = 0;
    for (name, shape) in expected_parameters(&config.llama) {
        parameters += shape.iter().product::<usize>();
        let tensor = if shape.len() == 1 {
            Tensor::ones(shape, DType::F32, &device)?
        } else {
            Tensor::randn(0f32, 0.05, shape, &device)?
        };
        tensors.insert(name, tensor);
    }
    let language = Llama::load(&config.llama, &tensors, DType::F32, &device)?;
    let features = Features::new(Tensor::randn(0f32, 1.0, (rows, config.image_tokens(), hidden), &device)?)?;
    let prompt = Prompt::around((0..27).collect(), config.image_tokens(), (30..62).collect());
    let length = prompt.positions();
    println!("{parameters} parameters, {rows} rows x ({length} + {new_tokens})");

    let mut generator = Generator::new();
    for round in 0..arg(8, 4) {
        let mut seconds = [0.0; 2];
        for (seconds, max_new_tokens) in seconds.iter_mut().zip([1, new_tokens]) {
            let options = Options { max_new_tokens, batch_size: rows, ..Options::default() };
            let mut progress = Progress { samples_done: 0, samples: rows, tokens: 0 };
            let start = Instant::now();
            generator.token_ids(
                &language,
                &prompt,
                &features,
                &options,
                Control::default(),
                &mut progress,
            )?;
            *seconds = start.elapsed().as_secs_f64();
        }
        let [prefill, whole] = seconds;
        println!(
            "round {round}: whole {whole:.3} s; prefill {prefill:.3} s, {:.0} positions/s; decode {:.3} s, {:.0} tokens/s",
            (rows * length) as f64 / prefill,
            whole - prefill,
            (rows * (new_tokens - 1)) as f64 / (whole - prefill)
        );
    }
    Ok(())
}
