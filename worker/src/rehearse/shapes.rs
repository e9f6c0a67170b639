//! The sizes that can be rehearsed.

use crate::model::BunnyConfig;
use crate::model::bunny::{PROJECTOR_PREFIX, VISION_PREFIX};
use serde_json::{Value, json};

/// Shape of a language model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// What the command line calls it.
    pub name: &'static str,
    hidden: usize,
    intermediate: usize,
    layers: usize,
    heads: usize,
    key_heads: usize,
    head: usize,
    /// Rows of the embedding, 256 special tokens included.
    pub vocabulary: usize,
    tied: bool,
    tower: TowerShape,
}

/// A scaled tower keeps the real grid where the model is large enough to afford it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TowerShape {
    width: usize,
    feed_forward: usize,
    layers: usize,
    heads: usize,
    image: usize,
}

/// The tower of the published Bunny models, `google/siglip-so400m-patch14-384`.
const SO400M: TowerShape = TowerShape { width: 1152, feed_forward: 4304, layers: 27, heads: 16, image: 384 };

/// Which tower is rehearsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Tower {
    /// The published tower: 27 layers of 1152, 8.3 TFLOP an image.
    Full,
    /// Fewer layers, and for small models a smaller width; the same number of image tokens from 0.1b on.
    Scaled,
}

/// All sizes, largest first. `8b` is Llama 3 8B and `1b` is Llama 3.2 1B (whose embedding is also its head).
pub const SIZES: [Size; 4] = [
    Size {
        name: "8b",
        hidden: 4096,
        intermediate: 14336,
        layers: 32,
        heads: 32,
        key_heads: 8,
        head: 128,
        vocabulary: 128_256,
        tied: false,
        tower: TowerShape { layers: 3, ..SO400M },
    },
    Size {
        name: "1b",
        hidden: 2048,
        intermediate: 8192,
        layers: 16,
        heads: 32,
        key_heads: 8,
        head: 64,
        vocabulary: 128_256,
        tied: true,
        tower: TowerShape { layers: 3, ..SO400M },
    },
    Size {
        name: "0.1b",
        hidden: 768,
        intermediate: 2048,
        layers: 12,
        heads: 12,
        key_heads: 4,
        head: 64,
        vocabulary: 32_000,
        tied: true,
        tower: TowerShape { width: 288, feed_forward: 1076, layers: 3, heads: 4, image: 384 },
    },
    Size {
        name: "0.01b",
        hidden: 320,
        intermediate: 896,
        layers: 8,
        heads: 5,
        key_heads: 1,
        head: 64,
        vocabulary: 8192,
        tied: true,
        tower: TowerShape { width: 72, feed_forward: 268, layers: 3, heads: 2, image: 56 },
    },
];

impl Size {
    /// The size of that name.
    pub fn named(name: &str) -> Option<Size> {
        SIZES.into_iter().find(|s| s.name == name)
    }

    /// Id of the first special token, which begins every text.
    pub fn begin_of_text(&self) -> usize {
        self.vocabulary - 256
    }

    /// `config.json` of base and sources.
    pub fn language_config(&self) -> Value {
        json!({
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "attention_bias": false,
            "bos_token_id": self.begin_of_text(),
            "eos_token_id": self.begin_of_text() + 1,
            "head_dim": self.head,
            "hidden_act": "silu",
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "max_position_embeddings": 8192,
            "num_attention_heads": self.heads,
            "num_hidden_layers": self.layers,
            "num_key_value_heads": self.key_heads,
            "rms_norm_eps": 1e-5,
            "rope_theta": 500_000.0,
            "tie_word_embeddings": self.tied,
            "vocab_size": self.vocabulary,
        })
    }

    /// `config.json` of the VLM: Bunny v1.1, three scales.
    pub fn vlm_config(&self, tower: Tower) -> Value {
        let t = match tower {
            Tower::Full => SO400M,
            Tower::Scaled => self.tower,
        };
        let mut config = self.language_config();
        let own = json!({
            "architectures": ["BunnyLlamaForCausalLM"],
            "model_type": "bunny-llama",
            "image_aspect_ratio": "pad",
            "mm_hidden_size": 3 * t.width,
            "mm_projector_type": "mlp2x_gelu",
            "mm_vision_tower": "rehearsal",
            "s2_scales": [t.image, 2 * t.image, 3 * t.image],
            "use_mm_proj": true,
            "use_s2": true,
            "vision_config": {
                "hidden_act": "gelu_pytorch_tanh",
                "hidden_size": t.width,
                "image_size": t.image,
                "intermediate_size": t.feed_forward,
                "layer_norm_eps": 1e-6,
                "num_attention_heads": t.heads,
                "num_hidden_layers": t.layers,
                "patch_size": 14,
            },
        });
        if let (Value::Object(config), Value::Object(own)) = (&mut config, own) {
            config.extend(own);
        }
        config
    }
}

/// Names and shapes of tower and projector, the tower's last block and final norm included, which files hold and nobody
/// loads.
pub(super) fn vision_parameters(c: &BunnyConfig) -> Vec<(String, Vec<usize>)> {
    let v = &c.vision;
    let (w, f, p, d) = (v.hidden_size, v.intermediate_size, v.patch_size, c.llama.hidden_size);
    let mut list = Vec::new();
    let mut map = |name: String, out: usize, input: Option<usize>| {
        list.push((format!("{name}.weight"), input.map_or(vec![out], |input| vec![out, input])));
        list.push((format!("{name}.bias"), vec![out]));
    };
    map(format!("{PROJECTOR_PREFIX}0"), d, Some(c.mm_hidden_size));
    map(format!("{PROJECTOR_PREFIX}2"), d, Some(d));
    map(format!("{VISION_PREFIX}post_layernorm"), w, None);
    for index in 0..v.num_hidden_layers {
        let block = format!("{VISION_PREFIX}encoder.layers.{index}.");
        for norm in ["layer_norm1", "layer_norm2"] {
            map(format!("{block}{norm}"), w, None);
        }
        for square in ["q_proj", "k_proj", "v_proj", "out_proj"] {
            map(format!("{block}self_attn.{square}"), w, Some(w));
        }
        map(format!("{block}mlp.fc1"), f, Some(w));
        map(format!("{block}mlp.fc2"), w, Some(f));
    }
    let embeddings = format!("{VISION_PREFIX}embeddings.");
    list.push((format!("{embeddings}patch_embedding.weight"), vec![w, 3, p, p]));
    list.push((format!("{embeddings}patch_embedding.bias"), vec![w]));
    list.push((format!("{embeddings}position_embedding.weight"), vec![v.grid() * v.grid(), w]));
    list
}
