//! What the rest of the worker knows of a family of vision-language models, and which family a folder is of.
//!
//! Adding a family: `docs/ADDING_A_VLM.md`.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use common::bounded;
use serde_json::Value;

use super::bunny::Bunny;
use super::minicpm::MiniCpm;
use crate::generate::{self, TextTokenizer};
use crate::image::Rgb8;
use crate::memory::VisionNeeds;
use crate::model::{Error, LlamaConfig, Prompt, Result, TensorSource};

/// How a picture was cut before it was encoded: the whole of it, and perhaps a grid of slices besides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slices {
    /// Slices side by side; 0 where there is no grid.
    pub columns: usize,
    /// Rows of slices; 0 where there is no grid.
    pub rows: usize,
}

impl Slices {
    /// The picture as a whole and nothing else.
    pub const NONE: Slices = Slices { columns: 0, rows: 0 };

    /// Pictures that are encoded: the whole and every slice.
    pub fn pictures(self) -> usize {
        1 + self.columns * self.rows
    }
}

/// A picture as the language model will read it.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// Feature rows (P, D), in the order in which the prompt takes them.
    pub features: Tensor,
    /// How the picture was cut, which decides the prompt's form.
    pub slices: Slices,
}

/// A family of vision-language models over a Llama: what its `config.json` says, and how its parts are put together.
///
/// Holds no weights. Everything that differs between families is behind this trait; the language model itself, batching,
/// merging and scoring are the same for all.
pub trait VisionLanguageModel: Debug + Send + Sync {
    /// The family's name in messages.
    fn family(&self) -> &'static str;

    /// The language model's shape.
    fn language(&self) -> &LlamaConfig;

    /// Prefixes of stored tensor names and what stands in their place, so that the language model's tensors have the
    /// names that a plain `LlamaForCausalLM` gives them. Empty where they are stored under these.
    fn renames(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    /// Checks the files beside `config.json` that the family has.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::Json`] or [`Error::Config`], each with the file's name.
    fn check_folder(&self, _folder: &Path) -> Result<()> {
        Ok(())
    }

    /// Names and shapes of all tensors that [`Self::load_vision`] reads.
    fn vision_parameters(&self) -> Vec<(String, Vec<usize>)>;

    /// Loads the tower and what connects it to the language model.
    ///
    /// # Errors
    /// A missing or misshapen tensor, by name; or what source and device report.
    fn load_vision(
        &self,
        source: &dyn TensorSource,
        dtype: DType,
        device: &Device,
    ) -> Result<Box<dyn VisionEncoder>>;

    /// What reading images takes of memory, tower and connection running in `dtype` and stored in `stored` bytes an
    /// element: the number that a memory plan is made of, so count what is alive at once.
    fn vision_needs(&self, dtype: DType, stored: usize) -> VisionNeeds;

    /// How a picture of that size in pixels is cut.
    ///
    /// # Errors
    /// [`Error::Argument`] for sizes that no picture has.
    fn slices(&self, width: usize, height: usize) -> Result<Slices>;

    /// The cut that takes the most positions.
    fn most_slices(&self) -> Slices;

    /// Feature rows P of a picture that is cut so.
    fn image_tokens(&self, slices: Slices) -> usize;

    /// The prompt for a task and a picture that is cut so.
    ///
    /// # Errors
    /// [`generate::Error::Prompt`] when task or tokenizer do not fit the model.
    fn prompt(&self, tokenizer: &TextTokenizer, task: &str, slices: Slices) -> generate::Result<Prompt>;

    /// Ids that end an answer. `named` are those of `generation_config.json`, where there is one.
    ///
    /// # Errors
    /// [`generate::Error::Prompt`] when the tokenizer lacks a token that the family ends with.
    fn end_ids(&self, tokenizer: &TextTokenizer, named: Option<Vec<u32>>) -> generate::Result<Vec<u32>>;
}

/// A loaded tower with its connection to the language model.
pub trait VisionEncoder: Debug + Send + Sync {
    /// Encodes one picture, resized already where the run asks for that.
    ///
    /// # Errors
    /// What preparing and running report.
    fn encode(&self, image: &Rgb8) -> Result<Encoded>;
}

/// Reads `config.json` of a model folder and gives the family that it is of.
///
/// # Errors
/// [`Error::Read`], [`Error::Json`], or [`Error::Config`] for a model of no known family or with a faulty key.
pub fn open(folder: &Path) -> Result<Box<dyn VisionLanguageModel>> {
    let path = folder.join("config.json");
    let file = path.display().to_string();
    let text = bounded::text(&path, bounded::SETTINGS_BYTES)
        .map_err(|source| Error::Read { file: file.clone(), source })?;
    let family = from_json(&text, &file)?;
    family.check_folder(folder)?;
    Ok(family)
}

/// The prefixes under which the tensors in a model folder are known here, by its family; empty for a model of no known
/// family, such as a plain language model, and for a folder without `config.json`.
///
/// # Errors
/// As [`open`], for a model of a known family; [`Error::Json`] where the family cannot be told.
pub fn renames(folder: &Path) -> Result<BTreeMap<String, String>> {
    let path = folder.join("config.json");
    let file = path.display().to_string();
    let text = match bounded::text(&path, bounded::SETTINGS_BYTES) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(source) => return Err(Error::Read { file, source }),
    };
    match Family::of(&text, &file)? {
        Some(_) => Ok(open(folder)?.renames()),
        None => Ok(BTreeMap::new()),
    }
}

/// The same for a configuration given as text; `file` is used in errors only.
///
/// # Errors
/// As [`open`].
pub fn from_json(text: &str, file: &str) -> Result<Box<dyn VisionLanguageModel>> {
    match Family::of(text, file)? {
        Some(Family::Bunny) => Ok(Box::new(Bunny::from_json(text, file)?)),
        Some(Family::MiniCpm) => Ok(Box::new(MiniCpm::from_json(text, file)?)),
        None => Err(Error::Config {
            file: file.into(),
            field: "model_type".into(),
            reason: format!("not a vision-language model that is known here; known: {}", Family::known()),
        }),
    }
}

/// The families, told apart without reading the rest of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Bunny,
    MiniCpm,
}

/// `model_type`, `architectures`, family.
const KNOWN: [(&str, &str, Family); 2] =
    [("bunny-llama", "BunnyLlamaForCausalLM", Family::Bunny), ("minicpmv", "MiniCPMV", Family::MiniCpm)];

impl Family {
    fn known() -> String {
        let list = KNOWN.map(|(model_type, architecture, _)| format!("{model_type} ({architecture})"));
        list.join(", ")
    }

    /// `model_type` decides; where it is absent, `architectures`; where both are, keys that only one family has.
    fn of(text: &str, file: &str) -> Result<Option<Family>> {
        let root: Value = serde_json::from_str(text)
            .map_err(|e| Error::Json { file: file.into(), reason: e.to_string() })?;
        let architectures: Vec<&str> =
            root["architectures"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let model_type = root["model_type"].as_str();
        let fits = |&&(kind, class, _): &&(&str, &str, Family)| match model_type {
            Some(given) => given == kind,
            None => architectures.contains(&class),
        };
        let found = KNOWN.iter().find(fits).map(|(_, _, family)| *family);
        let bare = model_type.is_none() && architectures.is_empty();
        Ok(found.or((bare && !root["mm_projector_type"].is_null()).then_some(Family::Bunny)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_told_by_type_then_by_architecture() {
        let of = |text: &str| Family::of(text, "m/config.json").expect("JSON");
        assert_eq!(of(r#"{"model_type": "bunny-llama"}"#), Some(Family::Bunny));
        assert_eq!(of(r#"{"architectures": ["BunnyLlamaForCausalLM"]}"#), Some(Family::Bunny));
        assert_eq!(of(r#"{"mm_projector_type": "mlp2x_gelu"}"#), Some(Family::Bunny));
        assert_eq!(of(r#"{"model_type": "llama", "architectures": ["BunnyLlamaForCausalLM"]}"#), None);
        assert_eq!(of(r#"{"model_type": "minicpmv"}"#), Some(Family::MiniCpm));
        assert_eq!(of(r#"{"architectures": ["MiniCPMV"]}"#), Some(Family::MiniCpm));
        assert_eq!(of("{}"), None);
        let e = from_json(r#"{"model_type": "llama"}"#, "m/config.json").expect_err("no VLM").to_string();
        assert!(e.starts_with("m/config.json: model_type: not a vision-language model"), "{e}");
        assert!(e.contains("bunny-llama (BunnyLlamaForCausalLM)"), "{e}");
        assert!(from_json("[", "x").is_err());
    }

    #[test]
    fn a_fault_of_a_known_family_is_told_and_other_models_have_no_renames() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |file: &str, text: &str| std::fs::write(folder.path().join(file), text).expect("written");
        assert_eq!(renames(folder.path()).expect("no configuration"), BTreeMap::new());
        write("config.json", r#"{"model_type": "llama"}"#);
        write("preprocessor_config.json", "[");
        assert_eq!(renames(folder.path()).expect("no VLM"), BTreeMap::new());
        write("config.json", include_str!("../../tests/data/minicpm/config.json"));
        let e = renames(folder.path()).expect_err("a faulty file").to_string();
        assert!(e.contains("preprocessor_config.json"), "{e}");
        write("config.json", "{");
        assert!(renames(folder.path()).is_err());
    }
}
