//! A MiniCPM-Llama3-V-2_5 folder's `config.json` and `preprocessor_config.json`, checked.
//!
//! Source: the files of MiniCPM-Llama3-V-2_5 and its `configuration_minicpm.py`, whose defaults stand where a key is absent.

use std::path::Path;

use serde_json::Value;

use super::config::{Keys, LlamaConfig, VisionConfig, llama, parse, read, vision_object};
use super::error::Result;
use crate::image::Slicing;

/// All of a MiniCPM-Llama3-V-2_5 `config.json` that inference needs.
#[derive(Clone, Debug, PartialEq)]
pub struct MiniCpmConfig {
    /// The language model.
    pub llama: LlamaConfig,
    /// The vision tower; `image_size` is that of its table of positions.
    pub vision: VisionConfig,
    /// Whether the tower's last block is left out.
    pub drop_vision_last_layer: bool,
    /// Whether the parts of a picture go through the tower as one padded batch.
    pub batch_vision_input: bool,
    /// Features of one part of a picture.
    pub query_num: usize,
    /// How pictures are cut.
    pub slicing: Slicing,
    /// The begin-of-text id, if named.
    pub bos_token_id: Option<u32>,
    /// The end ids named here.
    pub eos_token_ids: Vec<u32>,
}

impl MiniCpmConfig {
    /// Checks a configuration given as text; `file` is used in errors only.
    ///
    /// # Errors
    /// [`super::Error::Json`] or [`super::Error::Config`].
    pub fn from_json(text: &str, file: &str) -> Result<Self> {
        let root = parse(text, file)?;
        let keys = Keys { file, prefix: "", map: &root };
        check_version(&keys)?;
        let llama = llama(&keys)?;
        let vision = match keys.get("vision_config") {
            Some(Value::Object(map)) => vision_object(&Keys { file, prefix: "vision_config.", map }, 1)?,
            Some(_) => return Err(keys.fault("vision_config", "must be an object".into())),
            None => VisionConfig { image_size: 980, ..VisionConfig::so400m() },
        };
        // The original's defaults: without a slice_config, pictures are not cut.
        let slicing = match keys.get("slice_config") {
            Some(Value::Object(map)) => {
                let nested = Keys { file, prefix: "slice_config.", map };
                Slicing {
                    max_slices: nested.optional_size("max_slice_nums")?.unwrap_or(9),
                    scale: nested.optional_size("scale_resolution")?.unwrap_or(448),
                    patch: nested.optional_size("patch_size")?.unwrap_or(14),
                }
            }
            Some(_) => return Err(keys.fault("slice_config", "must be an object".into())),
            None => Slicing { max_slices: 1, scale: 448, patch: 14 },
        };
        if slicing.patch != vision.patch_size {
            let reason = format!("{} is not the tower's patch_size {}", slicing.patch, vision.patch_size);
            return Err(keys.fault("slice_config.patch_size", reason));
        }
        // A part's positions and the attention scores grow with these; far beyond the published 9 and 448 is a mistake.
        if slicing.max_slices > 64 || slicing.scale < slicing.patch || slicing.scale > 4096 {
            let reason = "expected up to 64 slices of a patch to 4096 pixels a side".into();
            return Err(keys.fault("slice_config", reason));
        }
        let (d, heads) = (llama.hidden_size, llama.hidden_size / 128);
        if heads == 0 || d % heads != 0 || d % 4 != 0 {
            let reason = format!("{d} cannot be split into the resampler's heads, one per 128");
            return Err(keys.fault("hidden_size", reason));
        }
        let unless_false = |field: &str| match keys.get(field) {
            None => Ok(true),
            Some(_) => keys.flag(field),
        };
        let drop_vision_last_layer = unless_false("drop_vision_last_layer")?;
        if drop_vision_last_layer && vision.num_hidden_layers < 2 {
            let reason = "the tower has one layer, so that none would be left".into();
            return Err(keys.fault("drop_vision_last_layer", reason));
        }
        let query_num = keys.optional_size("query_num")?.unwrap_or(64);
        if query_num > 4096 {
            return Err(keys.fault("query_num", format!("{query_num} features a slice are not plausible")));
        }
        let bos = keys.get("bos_token_id").map(|v| keys.id("bos_token_id", v)).transpose()?;
        Ok(Self {
            eos_token_ids: keys.ids("eos_token_id")?,
            llama,
            vision,
            drop_vision_last_layer,
            batch_vision_input: unless_false("batch_vision_input")?,
            query_num,
            slicing,
            bos_token_id: bos,
        })
    }

    /// Checks that `preprocessor_config.json` in `folder`, if there is one, says what `config.json` says: the published
    /// code cuts pictures by the one and places features by the other.
    ///
    /// # Errors
    /// [`super::Error::Read`], [`super::Error::Json`] or [`super::Error::Config`] naming the key that differs.
    pub fn check_preprocessor(&self, folder: &Path) -> Result<()> {
        let path = folder.join("preprocessor_config.json");
        if !path.is_file() {
            return Ok(());
        }
        let (file, text) = read(&path)?;
        let root = parse(&text, &file)?;
        let keys = Keys { file: &file, prefix: "", map: &root };
        for (field, ours) in [
            ("max_slice_nums", self.slicing.max_slices),
            ("scale_resolution", self.slicing.scale),
            ("patch_size", self.slicing.patch),
            ("image_feature_size", self.query_num),
        ] {
            if let Some(theirs) = keys.optional_size(field)?.filter(|&size| size != ours) {
                let reason = format!("{theirs}, but config.json says {ours}; put the model's own file there");
                return Err(keys.fault(field, reason));
            }
        }
        for field in ["norm_mean", "norm_std"] {
            let half = |v: &Value| v.as_f64() == Some(0.5);
            if keys.get(field).is_some_and(|v| !v.as_array().is_some_and(|list| list.iter().all(half))) {
                return Err(keys.fault(field, "only 0.5 in each channel is supported".into()));
            }
        }
        Ok(())
    }
}

/// Other versions share `model_type` and differ in tower, resampler, prompt and language model.
fn check_version(keys: &Keys) -> Result<()> {
    let known = "only MiniCPM-Llama3-V-2_5 (version 2.5) is supported";
    match keys.get("version") {
        Some(Value::String(version)) if version == "2.5" => Ok(()),
        Some(Value::Number(version)) if version.as_f64() == Some(2.5) => Ok(()),
        Some(other) => Err(keys.fault("version", format!("is {other}; {known}"))),
        // Early files of 2.5 have no version; what they alone have is this tower.
        None => match keys.get("vision_config").map(|v| &v["model_type"]) {
            Some(Value::String(tower)) if tower == "idefics2" => Ok(()),
            _ => Err(keys.fault("version", format!("is missing; {known}"))),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The published file, without keys that inference does not read.
    fn published() -> Value {
        json!({
            "version": "2.5", "architectures": ["MiniCPMV"], "attention_bias": false, "batch_vision_input": true,
            "bos_token_id": 128000, "drop_vision_last_layer": false, "eos_token_id": 128001, "hidden_act": "silu",
            "hidden_size": 4096, "image_size": 448, "intermediate_size": 14336, "max_position_embeddings": 8192,
            "model_type": "minicpmv", "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8,
            "patch_size": 14, "query_num": 96, "rms_norm_eps": 1e-05, "rope_scaling": null, "rope_theta": 500000.0,
            "slice_config": {"max_slice_nums": 9, "patch_size": 14, "model_type": "minicpmv"}, "slice_mode": true,
            "tie_word_embeddings": false, "vocab_size": 128256,
            "vision_config": {"hidden_size": 1152, "image_size": 980, "intermediate_size": 4304,
                "model_type": "idefics2", "num_attention_heads": 16, "num_hidden_layers": 27, "patch_size": 14},
        })
    }

    fn config(value: &Value) -> Result<MiniCpmConfig, String> {
        MiniCpmConfig::from_json(&value.to_string(), "m/config.json").map_err(|e| e.to_string())
    }

    #[test]
    fn the_published_file_is_read() {
        let c = config(&published()).expect("the published file");
        assert_eq!((c.query_num, c.drop_vision_last_layer, c.batch_vision_input), (96, false, true));
        assert_eq!(c.slicing, Slicing { max_slices: 9, scale: 448, patch: 14 });
        assert_eq!(c.vision, VisionConfig { image_size: 980, ..VisionConfig::so400m() });
        assert_eq!((c.bos_token_id, c.eos_token_ids), (Some(128000), vec![128001]));
        let mut early = published();
        early["version"] = Value::Null;
        assert!(config(&early).is_ok());
    }

    #[test]
    fn faults_name_file_and_field() {
        for (field, value) in [
            ("version", json!("2.6")),
            ("version", json!(2.0)),
            ("hidden_size", json!(64)),
            ("hidden_size", json!(4098)),
            ("slice_config", json!([])),
            ("slice_config", json!({"max_slice_nums": 1000})),
            ("slice_config.patch_size", json!({"patch_size": 16})),
            ("slice_config.scale_resolution", json!({"scale_resolution": -1})),
            ("vision_config", json!("x")),
            ("query_num", json!(0)),
            ("drop_vision_last_layer", json!(3)),
            ("rope_scaling", json!({"type": "linear"})),
        ] {
            let mut file = published();
            file[field.split('.').next().unwrap_or(field)] = value;
            if field == "hidden_size" {
                file["head_dim"] = json!(128);
            }
            let error = config(&file).expect_err(field);
            assert!(error.starts_with(&format!("m/config.json: {field}")), "{field}: {error}");
        }
        let mut file = published();
        file["version"] = Value::Null;
        file["vision_config"]["model_type"] = json!("siglip");
        assert!(config(&file).expect_err("another version").contains("version: is missing"));
    }

    #[test]
    fn a_preprocessor_that_disagrees_is_refused() {
        let c = config(&published()).expect("the published file");
        let folder = tempfile::tempdir().expect("a folder");
        c.check_preprocessor(folder.path()).expect("no file, no fault");
        let check = |value: Value| {
            std::fs::write(folder.path().join("preprocessor_config.json"), value.to_string())
                .expect("written");
            c.check_preprocessor(folder.path()).map_err(|e| e.to_string())
        };
        let own = json!({"max_slice_nums": 9, "scale_resolution": 448, "patch_size": 14, "image_feature_size": 96,
            "norm_mean": [0.5, 0.5, 0.5], "norm_std": [0.5, 0.5, 0.5]});
        check(own.clone()).expect("the published file");
        for (field, value) in [("image_feature_size", json!(64)), ("norm_mean", json!([0.4, 0.5, 0.5]))] {
            let mut other = own.clone();
            other[field] = value;
            let error = check(other).expect_err(field);
            assert!(error.contains(&format!("preprocessor_config.json: {field}: ")), "{error}");
        }
    }
}
