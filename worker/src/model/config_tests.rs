//! Tests of the configuration reader.

use super::config::{BunnyConfig, VisionConfig};
use serde_json::{Value, json};

fn v11() -> Value {
    json!({
        "model_type": "bunny-llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256, "rope_theta": 500000.0,
        "rope_scaling": null, "rms_norm_eps": 1e-5, "max_position_embeddings": 8192, "tie_word_embeddings": false,
        "hidden_act": "silu", "attention_bias": false, "bos_token_id": 128000, "eos_token_id": 128001,
        "mm_vision_tower": "google/siglip-so400m-patch14-384", "mm_projector_type": "mlp2x_gelu",
        "mm_hidden_size": 3456, "use_s2": true, "image_aspect_ratio": "pad", "tokenizer_model_max_length": 4096,
    })
}

fn read(value: &Value) -> Result<BunnyConfig, String> {
    BunnyConfig::from_json(&value.to_string(), "m/config.json").map_err(|e| e.to_string())
}

#[test]
fn the_published_shapes_are_read() {
    let config = read(&v11()).expect("the published file");
    assert_eq!(config.s2_scales, Some(vec![384, 768, 1152]));
    assert_eq!((config.input_size(), config.image_tokens()), (1152, 729));
    assert_eq!(config.vision, VisionConfig::so400m());
    assert_eq!(config.eos_token_ids, [128001]);
    let mut old = v11();
    old["use_s2"] = Value::Null;
    old["mm_hidden_size"] = json!(1152);
    let config = read(&old).expect("the first version's file");
    assert_eq!((config.s2_scales.clone(), config.input_size()), (None, 384));
}

#[test]
fn scales_may_be_text_or_list() {
    for scales in [json!("384, 768,1152"), json!([384, 768, 1152])] {
        let mut value = v11();
        value["s2_scales"] = scales;
        assert!(read(&value).is_ok());
    }
}

#[test]
fn faults_name_file_and_field() {
    for (field, value) in [
        ("hidden_size", Value::Null),
        ("hidden_size", json!(-1)),
        ("num_hidden_layers", json!(1 << 24)),
        ("num_key_value_heads", json!(5)),
        ("num_attention_heads", json!(0)),
        ("rope_scaling", json!({"type": "linear"})),
        ("hidden_act", json!("relu")),
        ("attention_bias", json!(true)),
        ("s2_scales", json!("384,700")),
        ("s2_scales", json!("a,b")),
        ("s2_scales", json!([768, 1152])),
        ("mm_hidden_size", json!(1152)),
        ("mm_projector_type", json!("linear")),
        ("mm_vision_tower", json!("openai/clip")),
        ("eos_token_id", json!("x")),
        ("rms_norm_eps", json!(0)),
        ("vision_config", json!([])),
    ] {
        let mut config = v11();
        config[field] = value;
        let error = read(&config).expect_err(field);
        assert!(error.starts_with(&format!("m/config.json: {field}")), "{field}: {error}");
    }
    assert!(BunnyConfig::from_json("{", "x").is_err());
    assert!(BunnyConfig::from_json("[]", "x").is_err());
}
