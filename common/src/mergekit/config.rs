//! What a mergekit configuration says, without knowing the models.

use super::setting::Setting;
use std::collections::BTreeMap;
use std::fmt;

/// A model as a configuration names it: a folder or a hub's `owner/name`, perhaps with a revision after `@`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ModelName {
    /// Folder or hub name.
    pub path: String,
    /// Branch, tag or commit on a hub.
    pub revision: Option<String>,
}

impl ModelName {
    /// A model without a revision.
    pub fn new(path: impl Into<String>) -> ModelName {
        ModelName { path: path.into(), revision: None }
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        self.revision.iter().try_for_each(|revision| write!(f, "@{revision}"))
    }
}

/// Parameters by name, as given in one place.
pub type Settings = BTreeMap<String, Setting>;

/// A whole model as an input.
#[derive(Clone, Debug, PartialEq)]
pub struct InputModel {
    /// Which.
    pub model: ModelName,
    /// Its parameters.
    pub parameters: Settings,
}

/// Some layers of a model as an input.
#[derive(Clone, Debug, PartialEq)]
pub struct InputSlice {
    /// Which model.
    pub model: ModelName,
    /// Its first layer.
    pub first: usize,
    /// The layer after its last.
    pub end: usize,
    /// Its parameters.
    pub parameters: Settings,
}

/// A run of layers of the result.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputSlice {
    /// What is merged, each as many layers.
    pub sources: Vec<InputSlice>,
    /// The base, where it is not the configuration's.
    pub base: Option<ModelName>,
    /// Parameters of the slice.
    pub parameters: Settings,
}

/// What the result is made of.
#[derive(Clone, Debug, PartialEq)]
pub enum Inputs {
    /// Whole models.
    Models(Vec<InputModel>),
    /// Slices, one after the other.
    Slices(Vec<OutputSlice>),
}

/// A float type that models are computed or stored in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FloatType {
    /// IEEE 754 binary32.
    Float32,
    /// IEEE 754 binary16.
    Float16,
    /// The upper half of a binary32.
    Bfloat16,
}

impl FloatType {
    /// The name that configurations use.
    pub fn name(self) -> &'static str {
        match self {
            FloatType::Float32 => "float32",
            FloatType::Float16 => "float16",
            FloatType::Bfloat16 => "bfloat16",
        }
    }
}

/// Which tokens the result has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenizerSource {
    /// The base's (without a base, the first model's).
    Base,
    /// The base's and, after them, those that only other models have.
    Union,
    /// This model's.
    Model(ModelName),
}

/// Where the row of one token comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenRow {
    /// A row of zeros.
    Zero,
    /// The same token's row of that model.
    Model(ModelName),
    /// The row of another token, by text.
    Token(ModelName, String),
    /// A row by its number.
    Row(ModelName, usize),
}

/// What is said of one token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenSetting {
    /// Where a model that lacks the token takes its row from.
    pub row: Option<TokenRow>,
    /// Whether models that have the token take it from there too.
    pub force: bool,
}

/// How vocabularies are aligned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokenizer {
    /// Which tokens the result has.
    pub source: TokenizerSource,
    /// Single tokens, in the order of the file. Tokens that the source lacks are added to it.
    pub tokens: Vec<(String, TokenSetting)>,
    /// Rows of the result are a multiple of this.
    pub pad_to_multiple_of: Option<usize>,
}

/// A configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Name of the method.
    pub method: String,
    /// What is merged.
    pub inputs: Inputs,
    /// Parameters of the one module, where inputs are given under `modules`.
    pub module_parameters: Settings,
    /// Parameters of the whole configuration.
    pub parameters: Settings,
    /// The base.
    pub base: Option<ModelName>,
    /// The type that inputs are cast to.
    pub dtype: Option<FloatType>,
    /// The type of the result, where it is not that of the arithmetic.
    pub out_dtype: Option<FloatType>,
    /// How vocabularies are aligned; without it they have to be equal.
    pub tokenizer: Option<Tokenizer>,
    /// The result's chat template: its text, or `auto` for the one that most models have.
    pub chat_template: Option<String>,
}

impl Config {
    /// Every model that tensors are taken from, each once: the base, then in the order of the file.
    pub fn models(&self) -> Vec<&ModelName> {
        let mut models: Vec<&ModelName> = self.base.iter().collect();
        match &self.inputs {
            Inputs::Models(inputs) => models.extend(inputs.iter().map(|m| &m.model)),
            Inputs::Slices(slices) => {
                models.extend(slices.iter().flat_map(|s| &s.sources).map(|s| &s.model));
            }
        }
        let mut unique: Vec<&ModelName> = Vec::new();
        for model in models {
            if !unique.contains(&model) {
                unique.push(model);
            }
        }
        unique
    }

    /// The base of a slice.
    pub fn base_of<'a>(&'a self, slice: &'a OutputSlice) -> Option<&'a ModelName> {
        slice.base.as_ref().or(self.base.as_ref())
    }

    /// Where a parameter is looked for, from the place that counts most: the source of the slice (for a parameter of
    /// an input), the slice, the module, the configuration.
    pub fn places<'a>(&'a self, slice: &'a OutputSlice, input: Option<&ModelName>) -> Vec<&'a Settings> {
        let own = slice.sources.iter().filter(|s| Some(&s.model) == input).map(|s| &s.parameters);
        own.chain([&slice.parameters, &self.module_parameters, &self.parameters]).collect()
    }
}
