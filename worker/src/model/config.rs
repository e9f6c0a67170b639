//! A Bunny folder's `config.json` and `generation_config.json`, checked before anything is built from them.
//!
//! Every fault names the file and the key. Unknown keys are ignored, since published files carry many.
//! Source: the files of Bunny-Llama-3-8B-V v1.0 and v1.1, and Bunny's `configuration_bunny_llama.py`.

use std::path::Path;

use common::bounded;
use serde_json::{Map, Value};

use super::error::{Error, Result};

/// The language model's shape.
#[derive(Clone, Debug, PartialEq)]
pub struct LlamaConfig {
    /// Hidden size D.
    pub hidden_size: usize,
    /// Feed-forward width F.
    pub intermediate_size: usize,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Query heads Q.
    pub num_attention_heads: usize,
    /// Key and value heads H; divides Q.
    pub num_key_value_heads: usize,
    /// Size E of one head, even.
    pub head_dim: usize,
    /// Vocabulary V.
    pub vocab_size: usize,
    /// Added to the mean square before the root.
    pub rms_norm_eps: f64,
    /// Base of the rotary angles.
    pub rope_theta: f64,
    /// Longest sequence.
    pub max_position_embeddings: usize,
    /// Whether the output matrix is the embedding itself.
    pub tie_word_embeddings: bool,
}

/// The vision tower's shape.
#[derive(Clone, Debug, PartialEq)]
pub struct VisionConfig {
    /// Width W.
    pub hidden_size: usize,
    /// Feed-forward width.
    pub intermediate_size: usize,
    /// Blocks in the file; the last is never run.
    pub num_hidden_layers: usize,
    /// Attention heads; divides W.
    pub num_attention_heads: usize,
    /// Side of the square input, in pixels.
    pub image_size: usize,
    /// Side of a patch, in pixels.
    pub patch_size: usize,
    /// Added to the variance before the root.
    pub layer_norm_eps: f64,
}

impl VisionConfig {
    /// `google/siglip-so400m-patch14-384`.
    pub fn so400m() -> Self {
        Self {
            hidden_size: 1152,
            intermediate_size: 4304,
            num_hidden_layers: 27,
            num_attention_heads: 16,
            image_size: 384,
            patch_size: 14,
            layer_norm_eps: 1e-6,
        }
    }

    /// Patches a side; pixels that do not fill a patch are dropped at the right and the bottom.
    pub fn grid(&self) -> usize {
        self.image_size / self.patch_size
    }
}

/// All of a Bunny `config.json` that inference needs.
#[derive(Clone, Debug, PartialEq)]
pub struct BunnyConfig {
    /// The language model.
    pub llama: LlamaConfig,
    /// The vision tower.
    pub vision: VisionConfig,
    /// Width of the features given to the projector: the tower's, times the number of scales.
    pub mm_hidden_size: usize,
    /// Scales of S2 in pixels, ascending; none for v1.0, which sees the image once.
    pub s2_scales: Option<Vec<usize>>,
    /// Whether pictures that are not square are padded.
    pub pad: bool,
    /// The begin-of-text id, if named.
    pub bos_token_id: Option<u32>,
    /// The end ids named here; `generation_config.json` has precedence.
    pub eos_token_ids: Vec<u32>,
    /// Longest spliced sequence, where the file gives one.
    pub tokenizer_model_max_length: Option<usize>,
}

impl BunnyConfig {
    /// Reads and checks `config.json`.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::Json`] or [`Error::Config`], each with the file's name.
    pub fn from_file(path: &Path) -> Result<Self> {
        let (file, text) = read(path)?;
        Self::from_json(&text, &file)
    }

    /// Checks a configuration given as text; `file` is used in errors only.
    ///
    /// # Errors
    /// [`Error::Json`] or [`Error::Config`].
    pub fn from_json(text: &str, file: &str) -> Result<Self> {
        let root = parse(text, file)?;
        let keys = Keys { file, prefix: "", map: &root };
        let llama = llama(&keys)?;
        let vision = vision(&keys)?;
        let s2_scales = scales(&keys, &vision)?;
        let mm_hidden_size = keys.size("mm_hidden_size")?;
        let expected = vision.hidden_size * s2_scales.as_ref().map_or(1, Vec::len);
        if mm_hidden_size != expected {
            let reason = format!("expected {expected} (tower width times scales), got {mm_hidden_size}");
            return Err(keys.fault("mm_hidden_size", reason));
        }
        keys.one_of("mm_projector_type", &["mlp2x_gelu"], true)?;
        keys.one_of("image_aspect_ratio", &["pad", "square"], false)?;
        let pad = keys.text("image_aspect_ratio")? != Some("square");
        let bos_token_id = match keys.get("bos_token_id") {
            None => None,
            Some(value) => Some(keys.id("bos_token_id", value)?),
        };
        Ok(Self {
            eos_token_ids: keys.ids("eos_token_id")?,
            tokenizer_model_max_length: keys.optional_size("tokenizer_model_max_length")?,
            llama,
            vision,
            mm_hidden_size,
            s2_scales,
            pad,
            bos_token_id,
        })
    }

    /// Side of the pixels that the model takes: the largest scale, or the tower's own size.
    pub fn input_size(&self) -> usize {
        self.s2_scales.as_ref().and_then(|s| s.last().copied()).unwrap_or(self.vision.image_size)
    }

    /// Positions that one image takes in the sequence.
    pub fn image_tokens(&self) -> usize {
        self.vision.grid() * self.vision.grid()
    }
}

impl LlamaConfig {
    /// Checks a plain Llama configuration given as text; `file` is used in errors only.
    ///
    /// # Errors
    /// [`Error::Json`] or [`Error::Config`].
    pub fn from_json(text: &str, file: &str) -> Result<Self> {
        let root = parse(text, file)?;
        llama(&Keys { file, prefix: "", map: &root })
    }
}

/// Reads the end ids of `generation_config.json`, one id or a list; empty if it names none.
///
/// # Errors
/// [`Error::Read`], [`Error::Json`] or [`Error::Config`], each with the file's name.
pub fn eos_from_generation_config(path: &Path) -> Result<Vec<u32>> {
    let (file, text) = read(path)?;
    let root = parse(&text, &file)?;
    Keys { file: &file, prefix: "", map: &root }.ids("eos_token_id")
}

/// A file's name for messages, and its text.
pub(super) fn read(path: &Path) -> Result<(String, String)> {
    let file = path.display().to_string();
    match bounded::text(path, bounded::SETTINGS_BYTES) {
        Ok(text) => Ok((file, text)),
        Err(source) => Err(Error::Read { file, source }),
    }
}

/// A file that must hold one JSON object.
pub(super) fn parse(text: &str, file: &str) -> Result<Map<String, Value>> {
    serde_json::from_str(text).map_err(|e| Error::Json { file: file.into(), reason: e.to_string() })
}

/// The keys of a Llama.
pub(super) fn llama(keys: &Keys) -> Result<LlamaConfig> {
    let hidden_size = keys.size("hidden_size")?;
    let num_attention_heads = keys.size("num_attention_heads")?;
    let num_key_value_heads = keys.optional_size("num_key_value_heads")?.unwrap_or(num_attention_heads);
    if num_attention_heads % num_key_value_heads != 0 {
        let reason =
            format!("{num_key_value_heads} does not divide num_attention_heads {num_attention_heads}");
        return Err(keys.fault("num_key_value_heads", reason));
    }
    let head_dim = match keys.optional_size("head_dim")? {
        Some(size) => size,
        None if hidden_size % num_attention_heads == 0 => hidden_size / num_attention_heads,
        None => {
            let reason = format!("{num_attention_heads} does not divide hidden_size {hidden_size}");
            return Err(keys.fault("num_attention_heads", reason));
        }
    };
    if head_dim % 2 != 0 {
        return Err(keys.fault("head_dim", format!("{head_dim} is odd, rotary positions need pairs")));
    }
    keys.one_of("hidden_act", &["silu"], false)?;
    for field in ["attention_bias", "mlp_bias"] {
        if keys.flag(field)? {
            return Err(keys.fault(field, "biases are not supported".into()));
        }
    }
    if keys.get("rope_scaling").is_some() {
        return Err(keys.fault("rope_scaling", "scaled rotary positions are not supported".into()));
    }
    // Newer transformers move the base into an object of its own.
    let mut rope_theta = keys.optional_number("rope_theta")?;
    if let Some(Value::Object(map)) = keys.get("rope_parameters") {
        let nested = Keys { file: keys.file, prefix: "rope_parameters.", map };
        nested.one_of("rope_type", &["default"], false)?;
        rope_theta = rope_theta.or(nested.optional_number("rope_theta")?);
    }
    let rms_norm_eps = keys.optional_number("rms_norm_eps")?.unwrap_or(1e-6);
    Ok(LlamaConfig {
        hidden_size,
        intermediate_size: keys.size("intermediate_size")?,
        num_hidden_layers: keys.layers("num_hidden_layers")?,
        num_attention_heads,
        num_key_value_heads,
        head_dim,
        vocab_size: keys.size("vocab_size")?,
        rms_norm_eps,
        rope_theta: rope_theta.unwrap_or(10_000.0),
        max_position_embeddings: keys.size("max_position_embeddings")?,
        tie_word_embeddings: keys.flag("tie_word_embeddings")?,
    })
}

fn vision(keys: &Keys) -> Result<VisionConfig> {
    match keys.get("vision_config") {
        Some(Value::Object(map)) => {
            vision_object(&Keys { file: keys.file, prefix: "vision_config.", map }, 2)
        }
        Some(_) => Err(keys.fault("vision_config", "must be an object".into())),
        None => {
            let tower = keys.text("mm_vision_tower")?.unwrap_or("");
            // Some folders name a local copy of the tower by its path.
            if tower.rsplit('/').next() != Some("siglip-so400m-patch14-384") {
                let reason = match tower {
                    "" => "missing: not a vision-language model in Bunny's layout".to_string(),
                    _ => format!("{tower:?} is not a known tower; give its shape as vision_config"),
                };
                return Err(keys.fault("mm_vision_tower", reason));
            }
            Ok(VisionConfig::so400m())
        }
    }
}

/// A tower's shape given as an object of its own, with at least `layers` layers.
pub(super) fn vision_object(keys: &Keys, layers: usize) -> Result<VisionConfig> {
    keys.one_of("hidden_act", &["gelu_pytorch_tanh"], false)?;
    let config = VisionConfig {
        hidden_size: keys.size("hidden_size")?,
        intermediate_size: keys.size("intermediate_size")?,
        num_hidden_layers: keys.layers("num_hidden_layers")?,
        num_attention_heads: keys.size("num_attention_heads")?,
        image_size: keys.size("image_size")?,
        patch_size: keys.size("patch_size")?,
        layer_norm_eps: keys.optional_number("layer_norm_eps")?.unwrap_or(1e-6),
    };
    if config.num_hidden_layers < layers {
        let reason = format!("at least {layers}, as the last is not used");
        return Err(keys.fault("num_hidden_layers", reason));
    }
    if !config.hidden_size.is_multiple_of(config.num_attention_heads) {
        let reason = format!("does not divide hidden_size {}", config.hidden_size);
        return Err(keys.fault("num_attention_heads", reason));
    }
    if config.patch_size > config.image_size {
        return Err(keys.fault("patch_size", format!("above image_size {}", config.image_size)));
    }
    Ok(config)
}

fn scales(keys: &Keys, vision: &VisionConfig) -> Result<Option<Vec<usize>>> {
    if !keys.flag("use_s2")? {
        return Ok(None);
    }
    let fault = |reason: &str| keys.fault("s2_scales", reason.into());
    let mut list: Vec<usize> = match keys.get("s2_scales") {
        None => vec![384, 768, 1152],
        Some(Value::String(text)) => text
            .split(',')
            .map(|part| part.trim().parse().map_err(|_| fault("must be sizes in pixels separated by commas")))
            .collect::<Result<_>>()?,
        Some(Value::Array(values)) => values
            .iter()
            .map(|v| {
                v.as_u64()
                    .and_then(|v| usize::try_from(v).ok())
                    .ok_or_else(|| fault("must be sizes in pixels"))
            })
            .collect::<Result<_>>()?,
        Some(_) => return Err(fault("must be a list or a text of sizes in pixels")),
    };
    list.sort_unstable();
    let base = vision.image_size;
    if list.first() != Some(&base) || list.iter().any(|s| s % base != 0 || s / base > 16) {
        let reason =
            format!("{list:?} must begin at the tower's {base} and hold multiples of it, up to 16-fold");
        return Err(fault(&reason));
    }
    Ok(Some(list))
}

/// An object of a configuration file, with what is needed to name a fault in it.
pub(super) struct Keys<'a> {
    pub(super) file: &'a str,
    pub(super) prefix: &'a str,
    pub(super) map: &'a Map<String, Value>,
}

impl Keys<'_> {
    pub(super) fn fault(&self, field: &str, reason: String) -> Error {
        Error::Config { file: self.file.into(), field: format!("{}{field}", self.prefix), reason }
    }

    /// A value that is present and not null.
    pub(super) fn get(&self, field: &str) -> Option<&Value> {
        self.map.get(field).filter(|v| !v.is_null())
    }

    pub(super) fn optional_size(&self, field: &str) -> Result<Option<usize>> {
        // Beyond this, products of two sizes would no longer be plausible and could overflow.
        self.within(field, 1 << 24)
    }

    fn within(&self, field: &str, largest: u64) -> Result<Option<usize>> {
        match self.get(field) {
            None => Ok(None),
            Some(value) => match value.as_u64().filter(|size| (1..=largest).contains(size)) {
                Some(size) => Ok(Some(size as usize)),
                None => {
                    Err(self.fault(field, format!("must be a whole number from 1 to {largest}, got {value}")))
                }
            },
        }
    }

    /// A number of blocks. Each has tensors with names, which are listed before any file is looked at; the deepest
    /// published models have some hundred.
    pub(super) fn layers(&self, field: &str) -> Result<usize> {
        self.within(field, 4096)?.ok_or_else(|| self.fault(field, "is missing".into()))
    }

    pub(super) fn size(&self, field: &str) -> Result<usize> {
        self.optional_size(field)?.ok_or_else(|| self.fault(field, "is missing".into()))
    }

    pub(super) fn optional_number(&self, field: &str) -> Result<Option<f64>> {
        match self.get(field) {
            None => Ok(None),
            Some(value) => match value.as_f64() {
                Some(number) if number > 0.0 && number.is_finite() => Ok(Some(number)),
                _ => Err(self.fault(field, format!("must be a number above zero, got {value}"))),
            },
        }
    }

    pub(super) fn flag(&self, field: &str) -> Result<bool> {
        match self.get(field) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(value) => Err(self.fault(field, format!("must be true or false, got {value}"))),
        }
    }

    pub(super) fn text(&self, field: &str) -> Result<Option<&str>> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(value) => Err(self.fault(field, format!("must be a text, got {value}"))),
        }
    }

    pub(super) fn one_of(&self, field: &str, known: &[&str], required: bool) -> Result<()> {
        match self.text(field)? {
            None if required => Err(self.fault(field, "is missing".into())),
            Some(text) if !known.contains(&text) => {
                Err(self.fault(field, format!("{text:?} is not supported, known: {}", known.join(", "))))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn id(&self, field: &str, value: &Value) -> Result<u32> {
        value
            .as_u64()
            .and_then(|v| u32::try_from(v).ok())
            .ok_or_else(|| self.fault(field, format!("must be a token id, got {value}")))
    }

    pub(super) fn ids(&self, field: &str) -> Result<Vec<u32>> {
        match self.get(field) {
            None => Ok(Vec::new()),
            Some(Value::Array(list)) => list.iter().map(|v| self.id(field, v)).collect(),
            Some(value) => Ok(vec![self.id(field, value)?]),
        }
    }
}
