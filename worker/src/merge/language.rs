//! Which of a base's tensors a merge makes: those of the VLM's language model that are of floating point.
//!
//! A base may hold more: buffers that older programs stored (`rotary_emb.inv_freq`), a head of its own where the VLM's
//! head is its embedding, a classifier, counters and masks. These have no place in the VLM, or no task vectors, and are
//! left alone, by name. A parameter of a Llama that the VLM's language model lacks is no such tensor: then the two are of
//! different size, which is refused where the merge is placed.

use crate::checkpoint::Checkpoint;
use crate::model::expected_parameters;
use crate::vlm::family;
use std::collections::BTreeSet;

/// The tensor that a model with a tied head does without.
const HEAD: &str = "lm_head.weight";

/// The tensors of a VLM's language model.
pub(super) enum Language<'a> {
    /// By its configuration.
    Known {
        parameters: BTreeSet<String>,
        /// Whether its head is its embedding.
        tied: bool,
    },
    /// Of no known family: whatever the checkpoint has.
    Unknown(&'a Checkpoint),
}

/// Whether a base's tensor has a place in the VLM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It replaces the VLM's tensor of that name.
    Taken,
    /// It is no part of the VLM's language model.
    Skipped,
    /// It is a parameter that the VLM's language model would need, and lacks.
    Wanting,
}

impl<'a> Language<'a> {
    /// Reads the VLM's configuration.
    pub(super) fn of(vlm: &'a Checkpoint) -> Language<'a> {
        match family::open(vlm.folder()) {
            Ok(family) => {
                let config = family.language();
                let parameters = expected_parameters(config).into_iter().map(|(name, _)| name).collect();
                Language::Known { parameters, tied: config.tie_word_embeddings }
            }
            // What is at fault with it is told where the model is opened.
            Err(_) => Language::Unknown(vlm),
        }
    }

    pub(super) fn place(&self, name: &str) -> Place {
        let (taken, tied) = match self {
            Language::Known { parameters, tied } => (parameters.contains(name), *tied),
            Language::Unknown(vlm) => (vlm.info(name).is_some(), false),
        };
        match taken {
            true => Place::Taken,
            false if is_parameter(name) && !(tied && name == HEAD) => Place::Wanting,
            false => Place::Skipped,
        }
    }
}

/// Whether a tensor is one that a model of the Llama architecture is made of: embedding, norm, head, and the weights and
/// biases of its layers.
fn is_parameter(name: &str) -> bool {
    let layer = name.strip_prefix("model.layers.").and_then(|rest| rest.split_once('.'));
    let of_layer = layer.is_some_and(|(number, part)| {
        let known = ["self_attn.", "mlp.", "input_layernorm.", "post_attention_layernorm."];
        number.bytes().all(|b| b.is_ascii_digit())
            && known.iter().any(|k| part.starts_with(k))
            && (part.ends_with(".weight") || part.ends_with(".bias"))
    });
    of_layer || ["model.embed_tokens.weight", "model.norm.weight", HEAD].contains(&name)
}

/// Whether a base's tensor can be merged, or has to be so that a type which cannot be merged is refused: weights of 8 bits
/// are not left alone in silence.
pub(super) fn is_merged(base: &Checkpoint, name: &str) -> bool {
    base.info(name).is_some_and(|info| info.dtype.mergeable()) || is_parameter(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_told_from_buffers() {
        for name in [
            "model.embed_tokens.weight",
            "model.norm.weight",
            "lm_head.weight",
            "model.layers.31.self_attn.q_proj.weight",
            "model.layers.0.self_attn.q_proj.bias",
            "model.layers.0.mlp.down_proj.weight",
            "model.layers.0.input_layernorm.weight",
        ] {
            assert!(is_parameter(name), "{name}");
        }
        for name in [
            "model.layers.0.self_attn.rotary_emb.inv_freq",
            "model.rotary_emb.inv_freq",
            "score.weight",
            "model.vision_tower.embeddings.weight",
            "position_ids",
        ] {
            assert!(!is_parameter(name), "{name}");
        }
    }

    #[test]
    fn a_head_is_wanting_unless_the_vlm_ties_its_own() {
        let language = |tied| Language::Known { parameters: ["model.norm.weight".into()].into(), tied };
        assert_eq!(language(true).place(HEAD), Place::Skipped);
        assert_eq!(language(false).place(HEAD), Place::Wanting);
        assert_eq!(language(true).place("model.norm.weight"), Place::Taken);
        assert_eq!(language(true).place("model.layers.9.mlp.up_proj.weight"), Place::Wanting);
        assert_eq!(language(true).place("model.rotary_emb.inv_freq"), Place::Skipped);
    }
}
