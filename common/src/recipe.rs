//! A recipe: every number of one merge, and the models that it takes.
//!
//! A recipe needs neither the run nor the search that found it: `jradievo-worker merge` makes a model from it
//! alone. Files hold it as JSON, with a format version.

use crate::amount::Amount;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The format that this program writes.
pub const FORMAT: u32 = 1;

/// How a merge combines its sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Convention {
    /// JRadiEvo's: DARE with rescaling, a trim global over the whole model, signs elected by the unweighted
    /// sum, mean over the count of agreeing sources, `base + scale · mean`. Source: arXiv 2411.09933 and its
    /// authors' released code.
    Paper,
    /// `Σ weight · model / Σ weight`, no base and no task vectors: mergekit's `linear` with `normalize`.
    Linear,
}

/// What keys the random mask of DARE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mask {
    /// By seed, source, tensor and index: every source drops its own elements, as DARE was published.
    Independent,
    /// By seed and index alone, as in the authors' code: all sources and all tensors share one mask.
    Shared,
}

impl Mask {
    /// The words of run files and recipes.
    pub const WORDS: [(&str, Mask); 2] = [("independent", Mask::Independent), ("shared", Mask::Shared)];

    /// The mask that a word names.
    pub fn from_word(word: &str) -> Option<Mask> {
        Mask::WORDS.into_iter().find(|(name, _)| *name == word).map(|(_, mask)| mask)
    }
}

/// The numbers that a merge computes in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arithmetic {
    /// Stored values are widened, every operation rounds to float32, the result is rounded once.
    #[default]
    Float32,
    /// As the paper's authors: models are cast to float16 and every operation rounds to float16. For
    /// [`Convention::Paper`] alone.
    Float16,
}

/// What happens to a model whose vocabulary, the rows of its embedding and of its output matrix, is not the
/// base's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Vocabulary {
    /// Another number of rows is an error.
    #[default]
    Refuse,
    /// Rows are matched by number: the leading rows that both have.
    Cut,
    /// Rows are matched by the tokens that they stand for, as `tokenizer.json` of each model tells.
    Align,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Where a model is. The name is what nodes agree on, the path is where one of them keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelRef {
    /// Short name within the run: `base`, `vlm`, or the source's.
    pub name: String,
    /// Folder that holds config.json and the weights, or `hf://owner/name@revision`; see [`crate::location`].
    pub path: String,
    /// Prefixes of stored tensor names → what stands in their place, so that names are the base's. The longest
    /// prefix that fits a name counts; names that none fits stay as they are.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rename: BTreeMap<String, String>,
}

impl ModelRef {
    /// A model whose tensors are stored under the names that are used for them.
    pub fn new(name: impl Into<String>, path: impl Into<String>) -> ModelRef {
        ModelRef { name: name.into(), path: path.into(), rename: BTreeMap::new() }
    }
}

/// One source of a merge with its coefficients.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceTerm {
    /// The source model.
    pub model: ModelRef,
    /// The model that the task vector is taken against, where it is not the recipe's base.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<ModelRef>,
    /// What happens where the vocabulary of the source or of its own base is not the recipe's base's; by default as
    /// the recipe says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vocabulary: Option<Vocabulary>,
    /// Factor of the task vector (or of the model itself, for [`Convention::Linear`]).
    pub weight: Amount,
    /// DARE's drop probability, in [0, 1]. Survivors are divided by `1 − drop_rate`.
    pub drop_rate: Amount,
    /// Share of the task vector's elements, smallest magnitudes first, that is set to zero, in [0, 1]: of all elements,
    /// or by groups of those that share a case of this rate and of the drop rate.
    pub trim_rate: Amount,
}

impl SourceTerm {
    /// The source with weight 1, nothing of it dropped or trimmed.
    fn whole(&self) -> SourceTerm {
        let [weight, none] = [1.0, 0.0].map(Amount::from);
        SourceTerm { weight, drop_rate: none.clone(), trim_rate: none, ..self.clone() }
    }
}

/// Every number of one merge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Format version, [`FORMAT`].
    pub format: u32,
    /// How the sources are combined.
    pub convention: Convention,
    /// The model that task vectors are added to.
    pub base: ModelRef,
    /// The vision-language model whose language model is replaced.
    pub vlm: ModelRef,
    /// The sources. An empty list stands for the base itself.
    pub sources: Vec<SourceTerm>,
    /// Factor λ of the merged task vector.
    pub scale: Amount,
    /// What keys DARE's mask.
    pub mask: Mask,
    /// Seed of DARE's mask.
    pub mask_seed: u64,
    /// What the merge computes in.
    #[serde(default, skip_serializing_if = "is_default")]
    pub arithmetic: Arithmetic,
    /// What happens where a vocabulary is not the base's: that of the VLM, and of sources that do not say.
    #[serde(default, skip_serializing_if = "is_default")]
    pub vocabulary: Vocabulary,
}

/// Why a recipe is refused.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum RecipeError {
    /// Not JSON, or not of a recipe's form.
    #[error("not a recipe: {0}")]
    Form(String),
    /// Written by a later version.
    #[error(
        "recipe format {found} is not known here (this program reads {FORMAT}); use the version that wrote it"
    )]
    Format {
        /// The version found.
        found: u32,
    },
    /// A number outside its range.
    #[error("{field} is {value}: expected {expected}")]
    Range {
        /// Which number, such as `sources[2].drop_rate`.
        field: String,
        /// What was found.
        value: f64,
        /// The range in words.
        expected: &'static str,
    },
    /// A path that begins like an address and is no reference to a hub.
    #[error("{field}: {fault}")]
    Location {
        /// Which model, such as `sources[2].model.path`.
        field: String,
        /// What is wrong with it.
        fault: crate::location::BadHubRef,
    },
    /// A linear merge needs something to average.
    #[error("a linear merge needs sources whose weights do not sum to zero")]
    NoWeight,
    /// Float16 is what the authors' merge computes in, and only that.
    #[error(
        "arithmetic is \"float16\", which is defined for the convention \"paper\" alone: use \"float32\""
    )]
    Arithmetic,
}

impl Recipe {
    /// Reads a recipe file's text and checks every number.
    pub fn parse(text: &str) -> Result<Recipe, RecipeError> {
        #[derive(Deserialize)]
        struct Versioned {
            format: u32,
        }
        let form = |e: serde_json::Error| RecipeError::Form(e.to_string());
        let found = serde_json::from_str::<Versioned>(text).map_err(form)?.format;
        if found != FORMAT {
            return Err(RecipeError::Format { found });
        }
        let recipe: Recipe = serde_json::from_str(text).map_err(form)?;
        recipe.check()?;
        Ok(recipe)
    }

    /// Every place where the recipe names a model, to write pinned references there.
    pub fn models_mut(&mut self) -> impl Iterator<Item = &mut ModelRef> {
        let sources = self.sources.iter_mut().flat_map(|s| std::iter::once(&mut s.model).chain(&mut s.base));
        [&mut self.base, &mut self.vlm].into_iter().chain(sources)
    }

    /// Every model that the recipe names, each name once: base, VLM, then sources and their own bases.
    pub fn model_refs(&self) -> Vec<&ModelRef> {
        let sources = self.sources.iter().flat_map(|s| std::iter::once(&s.model).chain(&s.base));
        let mut refs: Vec<&ModelRef> = Vec::new();
        for model in [&self.base, &self.vlm].into_iter().chain(sources) {
            if !refs.iter().any(|r| r.name == model.name) {
                refs.push(model);
            }
        }
        refs
    }

    /// Whether any number differs by layer or name.
    pub fn has_cases(&self) -> bool {
        let of_source =
            |s: &SourceTerm| [&s.weight, &s.drop_rate, &s.trim_rate].iter().any(|a| a.same().is_none());
        self.scale.same().is_none() || self.sources.iter().any(of_source)
    }

    /// Checks every number (rates in [0, 1], everything finite) and every reference to a hub.
    pub fn check(&self) -> Result<(), RecipeError> {
        let all = |field: String, amount: &Amount, fits: fn(f64) -> bool, expected| match amount
            .numbers()
            .into_iter()
            .find(|(_, value)| !fits(*value))
        {
            None => Ok(()),
            Some((at, value)) => Err(RecipeError::Range { field: field + &at, value, expected }),
        };
        let finite = |field, amount: &Amount| all(field, amount, f64::is_finite, "a finite number");
        let rate =
            |field, amount: &Amount| all(field, amount, |x| (0.0..=1.0).contains(&x), "a rate from 0 to 1");
        let located = |field: &str, model: &ModelRef| match model.location() {
            Ok(_) => Ok(()),
            Err(fault) => Err(RecipeError::Location { field: format!("{field}.path"), fault }),
        };
        located("base", &self.base)?;
        located("vlm", &self.vlm)?;
        finite("scale".into(), &self.scale)?;
        for (i, s) in self.sources.iter().enumerate() {
            located(&format!("sources[{i}].model"), &s.model)?;
            if let Some(base) = &s.base {
                located(&format!("sources[{i}].base"), base)?;
            }
            finite(format!("sources[{i}].weight"), &s.weight)?;
            rate(format!("sources[{i}].drop_rate"), &s.drop_rate)?;
            rate(format!("sources[{i}].trim_rate"), &s.trim_rate)?;
        }
        // Where weights differ by group, only who has the tensors' names can tell.
        let total: Option<f64> = self.sources.iter().map(|s| s.weight.same()).sum();
        if self.convention == Convention::Linear && total == Some(0.0) {
            return Err(RecipeError::NoWeight);
        }
        if self.convention != Convention::Paper && self.arithmetic != Arithmetic::Float32 {
            return Err(RecipeError::Arithmetic);
        }
        Ok(())
    }

    /// The recipe as the text of a file.
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("a recipe holds nothing JSON cannot say");
        text.push('\n');
        text
    }

    /// The digest that a result is matched by.
    pub fn digest(&self) -> crate::digest::Digest {
        let text = serde_json::to_vec(self).expect("a recipe holds nothing JSON cannot say");
        crate::digest::Digest::of(&text)
    }

    /// Whether it is the same merge but for the last digits of its numbers.
    pub fn is_nearly(&self, other: &Recipe) -> bool {
        let numbers = |r: &Recipe| -> Vec<Amount> {
            let of = |s: &SourceTerm| [s.weight.clone(), s.drop_rate.clone(), s.trim_rate.clone()];
            std::iter::once(r.scale.clone()).chain(r.sources.iter().flat_map(of)).collect()
        };
        let rest = |r: &Recipe| Recipe {
            scale: 0.0.into(),
            sources: r.sources.iter().map(|s| SourceTerm { weight: 0.0.into(), ..s.whole() }).collect(),
            ..r.clone()
        };
        let (ours, theirs) = (numbers(self), numbers(other));
        rest(self) == rest(other) && ours.iter().zip(&theirs).all(|(a, b)| a.is_nearly(b))
    }

    /// The recipe under which the merged language model is one source itself, untouched.
    pub fn single(&self, index: usize) -> Recipe {
        self.average(vec![self.sources[index].whole()])
    }

    /// The recipe under which the language model is the base itself.
    pub fn base_alone(&self) -> Recipe {
        Recipe { convention: Convention::Paper, sources: Vec::new(), scale: 1.0.into(), ..self.clone() }
    }

    /// The plain average of the sources.
    pub fn uniform(&self) -> Recipe {
        self.average(self.sources.iter().map(SourceTerm::whole).collect())
    }

    fn average(&self, sources: Vec<SourceTerm>) -> Recipe {
        let (convention, arithmetic) = (Convention::Linear, Arithmetic::Float32);
        Recipe { convention, arithmetic, sources, scale: 1.0.into(), ..self.clone() }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn sample() -> Recipe {
        let model = |n: &str| ModelRef::new(n, format!("/models/{n}"));
        let source = |n: &str| SourceTerm {
            model: model(n),
            base: None,
            vocabulary: None,
            weight: 0.5.into(),
            drop_rate: 0.1.into(),
            trim_rate: 0.2.into(),
        };
        Recipe {
            format: FORMAT,
            convention: Convention::Paper,
            base: model("base"),
            vlm: model("vlm"),
            sources: vec![source("a"), source("b")],
            scale: 1.0.into(),
            mask: Mask::Independent,
            mask_seed: 42,
            arithmetic: Arithmetic::Float32,
            vocabulary: Vocabulary::Refuse,
        }
    }

    /// A recipe as version 0.1.0 wrote it, and its digest there: both must stay.
    #[test]
    fn choices_left_at_their_defaults_leave_no_trace() {
        let text = r#"{"format":1,"convention":"paper","base":{"name":"base","path":"/b"},"vlm":{"name":"vlm","path":"/v"},"sources":[{"model":{"name":"a","path":"/a"},"weight":0.5,"drop_rate":0.1,"trim_rate":0.2}],"scale":1.0,"mask":"independent","mask_seed":42}"#;
        let recipe = Recipe::parse(text).unwrap();
        assert_eq!(serde_json::to_string(&recipe).unwrap(), text);
        assert_eq!(recipe.digest(), crate::digest::Digest::of(text.as_bytes()));
    }

    #[test]
    fn storage_choices_round_trip() {
        let mut r = sample();
        r.arithmetic = Arithmetic::Float16;
        r.vocabulary = Vocabulary::Align;
        r.sources[0].vocabulary = Some(Vocabulary::Cut);
        r.sources[0].model.rename = BTreeMap::from([("llm.".to_string(), String::new())]);
        let text = r.to_json();
        for expected in ["\"float16\"", "\"align\"", "\"cut\"", "\"llm.\": \"\""] {
            assert!(text.contains(expected), "{expected} is not in {text}");
        }
        assert_eq!(Recipe::parse(&text).unwrap(), r);
        // What the tables of `compare` are made of stays sound.
        r.single(0).check().unwrap();
        r.uniform().check().unwrap();
        r.base_alone().check().unwrap();
        r.convention = Convention::Linear;
        assert_eq!(r.check(), Err(RecipeError::Arithmetic));
    }

    #[test]
    fn round_trips_as_a_file() {
        let r = sample();
        assert_eq!(Recipe::parse(&r.to_json()).unwrap(), r);
        assert_eq!(Recipe::parse(&r.to_json()).unwrap().digest(), r.digest());
    }

    #[test]
    fn numbers_may_differ_by_layer_and_name() {
        let mut r = sample();
        let cases =
            r#"[{"layers":"1/2","filter":"attention","value":0.1},{"knots":[0.2,0.30000000000000004,0.5]}]"#;
        r.sources[0].trim_rate = serde_json::from_str(cases).unwrap();
        r.scale = serde_json::from_str(r#"[{"filter":"*.q_proj.*","value":0.5},{"value":2.0}]"#).unwrap();
        let text = serde_json::to_string(&r).unwrap();
        assert!(text.contains(&format!("\"trim_rate\":{cases}")), "{text}");
        assert_eq!(Recipe::parse(&r.to_json()).unwrap(), r);
        assert_eq!(Recipe::parse(&text).unwrap().digest(), r.digest());
        let e = Recipe::parse(&text.replace("0.30000000000000004", "1.5")).unwrap_err();
        assert_eq!(e.to_string(), "sources[0].trim_rate[1].knots[1] is 1.5: expected a rate from 0 to 1");
        let e = Recipe::parse(&text.replace("\"1/2\"", "\"3/2\"")).unwrap_err().to_string();
        assert!(e.contains("names no layers"), "{e}");
    }

    #[test]
    fn refuses_bad_numbers_and_later_formats() {
        let mut r = sample();
        r.sources[1].drop_rate = 1.2.into();
        let e = Recipe::parse(&r.to_json()).unwrap_err();
        assert_eq!(e.to_string(), "sources[1].drop_rate is 1.2: expected a rate from 0 to 1");
        let later = sample().to_json().replace("\"format\": 1", "\"format\": 9");
        assert_eq!(Recipe::parse(&later), Err(RecipeError::Format { found: 9 }));
        assert!(matches!(Recipe::parse("{"), Err(RecipeError::Form(_))));
        let mut zero = sample().uniform();
        zero.sources.iter_mut().for_each(|s| s.weight = 0.0.into());
        assert_eq!(zero.check(), Err(RecipeError::NoWeight));
    }
}
