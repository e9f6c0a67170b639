//! A recipe as a configuration for mergekit, where mergekit makes the same numbers of it.
//!
//! "The same" is meant to the last bit of float32, for finite numbers: where mergekit 0.1.5 computes something else, even
//! rarely, there is no configuration but the reason. What is written merges the language model alone; mergekit knows
//! nothing of the vision-language model around it.

use super::config::FloatType;
use crate::amount::Amount;
use crate::location::{HubRef, SCHEME};
use crate::recipe::{Arithmetic, Convention, ModelRef, Recipe, SourceTerm, Vocabulary};
use std::fmt::Write;

/// Why mergekit cannot make what a recipe says, and what can be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("mergekit cannot make this merge exactly: {reason} ({remedy})")]
pub struct Inexpressible {
    /// What mergekit does differently.
    pub reason: String,
    /// What can be done.
    pub remedy: &'static str,
}

const OURS: &str = "make it with `jradievo-worker merge` from the recipe itself; add --text-only for the language model \
                    alone";

fn no(reason: impl Into<String>) -> Inexpressible {
    Inexpressible { reason: reason.into(), remedy: OURS }
}

/// The text of the configuration, with `out_dtype` where the result is to be rounded.
///
/// # Errors
/// [`Inexpressible`].
pub fn from_recipe(recipe: &Recipe, out_dtype: Option<FloatType>) -> Result<String, Inexpressible> {
    check_common(recipe)?;
    // A source of which nothing is left counts nowhere.
    let gone = |s: &&SourceTerm| s.drop_rate.is_everywhere(1.0) || s.trim_rate.is_everywhere(1.0);
    let written = match recipe.convention {
        Convention::Linear => linear(recipe),
        Convention::Paper => {
            let live: Vec<&SourceTerm> = recipe.sources.iter().filter(|s| !gone(s)).collect();
            let idle = recipe.scale.is_everywhere(0.0) || live.iter().all(|s| s.weight.is_everywhere(0.0));
            match live[..] {
                _ if idle => Ok(base_alone(recipe)),
                [source] => single(recipe, source),
                _ => Err(many(&live)),
            }
        }
    }?;
    let mut text = String::from(
        "# From a recipe of JRadiEvo. It makes the merged language model; the vision-language model around it is not part\n\
         # of it.\n",
    );
    if written.models.iter().any(|model| model.path == recipe.vlm.path) {
        let folder = language_model(&recipe.vlm.path);
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "# {folder} is the language model inside a vision-language model. Make its folder first:\n\
             #   jradievo-worker merge {} --text-only --out {}\n",
            word(&recipe.vlm.path),
            word(&folder)
        );
    }
    text.push_str(&written.lines);
    // All arithmetic is float32, whatever the models are stored in.
    text.push_str("dtype: float32\n");
    if let Some(out) = out_dtype {
        let _ = writeln!(text, "out_dtype: {}", out.name());
    }
    Ok(text)
}

fn check_common(recipe: &Recipe) -> Result<(), Inexpressible> {
    if recipe.arithmetic != Arithmetic::Float32 {
        return Err(no("its arithmetic rounds to float16 as the paper's authors' does"));
    }
    let matched = recipe.sources.iter().map(|s| s.vocabulary.unwrap_or(recipe.vocabulary));
    if matched.chain([recipe.vocabulary]).any(|v| v != Vocabulary::Refuse) {
        return Err(no("mergekit gives the result other rows where vocabularies are cut or aligned"));
    }
    let bases = recipe.sources.iter().filter_map(|s| s.base.as_ref());
    let sources = recipe.sources.iter().map(|s| &s.model);
    for model in sources.chain(bases).chain([&recipe.base]) {
        if !model.rename.is_empty() {
            return Err(no(format!("tensors of {} are renamed, which mergekit cannot", model.name)));
        }
        if model.path.contains(char::is_control) {
            return Err(Inexpressible {
                reason: format!("the path {:?} does not fit on a line", model.path),
                remedy: "move the model to a folder without control characters in its name",
            });
        }
        if !model.path.starts_with(SCHEME) && model.path.contains(['@', '+']) {
            return Err(Inexpressible {
                reason: format!("mergekit reads the @ or + in {} as a revision or an adapter", model.path),
                remedy: "move the model to a folder without these characters",
            });
        }
    }
    Ok(())
}

/// The method with its models, and which models these are.
struct Written<'a> {
    lines: String,
    models: Vec<&'a ModelRef>,
}

/// A path as one word of a shell's command.
fn word(path: &str) -> String {
    match path.chars().all(|c| c.is_alphanumeric() || "/._-:@+~".contains(c)) {
        true => path.into(),
        false => format!("'{}'", path.replace('\'', "'\\''")),
    }
}

/// The folder that the language model of the VLM is to be put in.
fn language_model(path: &str) -> String {
    match path.parse::<HubRef>() {
        Ok(hub) => format!("{}-language-model", hub.name()),
        Err(_) => format!("{}-language-model", path.trim_end_matches('/')),
    }
}

fn folder(recipe: &Recipe, model: &ModelRef) -> String {
    let path = match (model.path == recipe.vlm.path, model.path.parse::<HubRef>()) {
        (true, _) => language_model(&model.path),
        // mergekit names a model on a hub without the scheme.
        (false, Ok(hub)) => format!("{}@{}", hub.repo(), hub.revision()),
        (false, Err(_)) => model.path.clone(),
    };
    // A JSON string is one in YAML as well.
    serde_json::Value::from(path).to_string()
}

/// The line of a model, with what is given for it.
fn model_line(recipe: &Recipe, model: &ModelRef, given: &str) -> String {
    format!("  - {{model: {}{given}}}\n", folder(recipe, model))
}

/// The line of a model with its weight.
fn weighted_line(recipe: &Recipe, model: &ModelRef, weight: &Amount) -> Result<String, Inexpressible> {
    let given = format!(", parameters: {{weight: {}}}", setting("weight", weight)?);
    Ok(model_line(recipe, model, &given))
}

fn setting(name: &str, amount: &Amount) -> Result<String, Inexpressible> {
    super::amount::setting(amount)
        .map_err(|why| no(format!("the {name} differs by tensor in a way it cannot say: {why}")))
}

fn twice(recipe: &Recipe) -> Option<&SourceTerm> {
    let seen = |i: usize| recipe.sources[..i].iter().any(|s| s.model.path == recipe.sources[i].model.path);
    (1..recipe.sources.len()).find(|&i| seen(i)).map(|i| &recipe.sources[i])
}

fn linear(recipe: &Recipe) -> Result<Written<'_>, Inexpressible> {
    if let Some(source) = twice(recipe) {
        return Err(no(format!("{} is a source twice", source.model.path)));
    }
    let models = recipe.sources.iter().map(|s| weighted_line(recipe, &s.model, &s.weight));
    let models = models.collect::<Result<String, _>>()?;
    let lines = format!("merge_method: linear\nmodels:\n{models}parameters: {{normalize: true}}\n");
    Ok(Written { lines, models: recipe.sources.iter().map(|s| &s.model).collect() })
}

fn base_alone(recipe: &Recipe) -> Written<'_> {
    let lines = format!("merge_method: passthrough\nmodels:\n{}", model_line(recipe, &recipe.base, ""));
    Written { lines, models: vec![&recipe.base] }
}

fn single<'a>(recipe: &'a Recipe, source: &'a SourceTerm) -> Result<Written<'a>, Inexpressible> {
    let name = &source.model.name;
    if !source.drop_rate.is_everywhere(0.0) {
        return Err(no(format!(
            "{name} has a random mask, and mergekit draws its own from another generator"
        )));
    }
    if !source.trim_rate.is_everywhere(0.0) {
        return Err(no(format!(
            "{name} is trimmed over the whole model, which mergekit does tensor by tensor"
        )));
    }
    // First of all: with a base of its own even the recipe's base as a source adds something.
    if let Some(own) = source.base.as_ref().filter(|b| b.path != recipe.base.path) {
        return Err(no(format!(
            "the task vector of {name} is taken against {}, a base of its own",
            own.name
        )));
    }
    if source.model.path == recipe.base.path {
        return Ok(base_alone(recipe));
    }
    let lines = format!(
        "merge_method: task_arithmetic\nbase_model: {}\nmodels:\n{}parameters: {{lambda: {}, normalize: false}}\n",
        folder(recipe, &recipe.base),
        weighted_line(recipe, &source.model, &source.weight)?,
        setting("scale", &recipe.scale)?
    );
    Ok(Written { lines, models: vec![&recipe.base, &source.model] })
}

/// Several sources: there is always something.
fn many(live: &[&SourceTerm]) -> Inexpressible {
    let mut why = Vec::new();
    if live.iter().any(|s| !s.drop_rate.is_everywhere(0.0)) {
        why.push("its random masks come from another generator");
    }
    if live.iter().any(|s| !s.trim_rate.is_everywhere(0.0)) {
        why.push("it trims over the whole model, mergekit tensor by tensor");
    }
    if live.iter().any(|s| s.weight != live[0].weight) {
        why.push(
            "it elects signs by the plain sum and divides by the number of sources, mergekit by weights",
        );
    } else {
        why.push(
            "elements whose task vectors cancel take the sign of the whole model's sum, in mergekit a plus",
        );
    }
    no(format!(
        "the paper's convention has no twin among mergekit's methods for {} sources: {}",
        live.len(),
        why.join("; ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mergekit::{Config, Graded, Inputs, Scalar, Setting, parse};
    use crate::recipe::tests::sample;

    fn config(recipe: &Recipe) -> Config {
        let text = from_recipe(recipe, Some(FloatType::Bfloat16)).unwrap();
        let parsed = parse("x", &text).unwrap();
        assert_eq!(parsed.notes, []);
        assert_eq!(parsed.config.dtype, Some(FloatType::Float32));
        assert_eq!(parsed.config.out_dtype, Some(FloatType::Bfloat16));
        parsed.config
    }

    fn reason(recipe: &Recipe) -> String {
        from_recipe(recipe, None).unwrap_err().to_string()
    }

    fn plain() -> Recipe {
        let mut recipe = sample();
        recipe.sources.iter_mut().for_each(|s| (s.drop_rate, s.trim_rate) = (0.0.into(), 0.0.into()));
        recipe
    }

    #[test]
    fn averages() {
        let mut recipe = sample().uniform();
        recipe.sources[0].weight = 1e-7.into();
        recipe.sources[1].weight = (0.1 + 0.2).into();
        let config = config(&recipe);
        assert_eq!((config.method.as_str(), config.base.as_ref()), ("linear", None));
        let Inputs::Models(models) = &config.inputs else { panic!() };
        assert_eq!(models[0].parameters["weight"], Setting::number(1e-7));
        assert_eq!(models[1].parameters["weight"], Setting::number(0.1 + 0.2));
        assert_eq!(config.parameters["normalize"], Setting::flag(true));
    }

    #[test]
    fn one_source_is_task_arithmetic() {
        let mut recipe = plain();
        recipe.scale = 1.75.into();
        recipe.sources[1].trim_rate = 1.0.into();
        let config = config(&recipe);
        assert_eq!(config.method, "task_arithmetic");
        assert_eq!(config.base.as_ref().map(|b| b.path.as_str()), Some("/models/base"));
        let Inputs::Models(models) = &config.inputs else { panic!() };
        assert_eq!((models.len(), models[0].model.path.as_str()), (1, "/models/a"));
        assert_eq!(config.parameters["lambda"], Setting::Plain(Graded::One(Scalar::Float(1.75))));
    }

    #[test]
    fn numbers_by_tensor_become_conditions() {
        let mut recipe = plain();
        recipe.sources.truncate(1);
        recipe.sources[0].weight =
            serde_json::from_str(r#"[{"filter":"mlp","value":0.5},{"value":1.5}]"#).unwrap();
        recipe.scale = serde_json::from_str(r#"[{"knots":[0.5,1.0]}]"#).unwrap();
        let text = from_recipe(&recipe, None).unwrap();
        assert!(text.contains(r#"weight: [{filter: "mlp", value: 0.5}, {value: 1.5}]"#), "{text}");
        assert!(text.contains(r#"{filter: "lm_head.weight", value: 1.0}, {value: [0.5, 1.0]}]"#), "{text}");
        config(&recipe);
        recipe.scale = serde_json::from_str(r#"[{"layers":"1/2","value":0.5},{"value":1.0}]"#).unwrap();
        assert!(reason(&recipe).contains("the scale differs by tensor"));
    }

    #[test]
    fn nothing_to_add_is_the_base() {
        let mut still = plain();
        still.scale = 0.0.into();
        let mut weightless = sample();
        weightless.sources.iter_mut().for_each(|s| s.weight = 0.0.into());
        let mut dropped = sample();
        dropped.sources.iter_mut().for_each(|s| s.drop_rate = 1.0.into());
        for recipe in [sample().base_alone(), still, weightless, dropped] {
            let config = config(&recipe);
            assert_eq!(config.method, "passthrough");
            assert_eq!(config.models()[0].path, "/models/base");
        }
    }

    #[test]
    fn the_language_model_of_the_vlm_needs_a_folder() {
        let mut recipe = plain();
        recipe.sources.truncate(1);
        recipe.sources[0].model = recipe.vlm.clone();
        let text = from_recipe(&recipe, None).unwrap();
        assert!(
            text.contains("jradievo-worker merge /models/vlm --text-only --out /models/vlm-language-model")
        );
        assert!(text.contains("{model: \"/models/vlm-language-model\", "), "{text}");
        assert!(!text.contains("out_dtype"));
        // On a hub.
        recipe.vlm.path = "hf://o/v@main".into();
        recipe.base.path = "hf://o/b".into();
        recipe.sources[0].model = recipe.vlm.clone();
        let text = from_recipe(&recipe, None).unwrap();
        assert!(text.contains("merge hf://o/v@main --text-only --out v-language-model"), "{text}");
        assert!(
            text.contains("base_model: \"o/b@main\"\nmodels:\n  - {model: \"v-language-model\""),
            "{text}"
        );
    }

    #[test]
    fn a_base_inside_the_vlm_is_told_to_be_made_too() {
        let mut recipe = plain();
        recipe.sources.truncate(1);
        recipe.vlm.path = "/models/the vlm".into();
        recipe.base.path = recipe.vlm.path.clone();
        for recipe in [recipe.clone(), recipe.base_alone()] {
            let text = from_recipe(&recipe, None).unwrap();
            let made =
                "merge '/models/the vlm' --text-only --out '/models/the vlm-language-model'\nmerge_method";
            assert!(text.contains(made), "{text}");
            assert_eq!(text.matches("Make its folder first").count(), 1);
        }
        // An average does not name the base.
        let text = from_recipe(&recipe.uniform(), None).unwrap();
        assert!(!text.contains("Make its folder first"), "{text}");
        recipe.vlm.path = "/models/x\nout_dtype: float16".into();
        recipe.base.path = recipe.vlm.path.clone();
        assert!(reason(&recipe).contains("does not fit on a line"));
    }

    #[test]
    fn the_base_against_another_base_is_not_the_base_alone() {
        let mut recipe = plain();
        recipe.sources.truncate(1);
        recipe.sources[0].model.path = recipe.base.path.clone();
        assert_eq!(config(&recipe).method, "passthrough");
        recipe.sources[0].base = Some(ModelRef::new("a.base", "/models/other"));
        assert!(reason(&recipe).contains("taken against a.base"), "{}", reason(&recipe));
        // Its own base under another name is none.
        recipe.sources[0].base = Some(ModelRef::new("a.base", recipe.base.path.clone()));
        assert_eq!(config(&recipe).method, "passthrough");
    }

    #[test]
    fn what_mergekit_does_otherwise_is_told() {
        let one = || {
            let mut recipe = plain();
            recipe.sources.truncate(1);
            recipe
        };
        let mut recipe = one();
        recipe.sources[0].drop_rate = 0.3.into();
        assert!(reason(&recipe).contains("a has a random mask"));
        let mut recipe = one();
        recipe.sources[0].trim_rate = 0.3.into();
        assert!(reason(&recipe).contains("a is trimmed over the whole model"));
        let mut recipe = one();
        recipe.sources[0].base = Some(ModelRef::new("a.base", "/models/other"));
        assert!(reason(&recipe).contains("a base of its own"));
        let mut recipe = one();
        recipe.arithmetic = Arithmetic::Float16;
        assert!(reason(&recipe).contains("float16"));
        let mut recipe = one();
        recipe.vocabulary = Vocabulary::Align;
        assert!(reason(&recipe).contains("other rows"));
        let mut recipe = one();
        recipe.sources[0].model.path = "/m/a@b".into();
        assert!(reason(&recipe).contains("@ or +"));
        assert!(reason(&plain()).contains("elements whose task vectors cancel"));
        let all = reason(&sample());
        assert!(all.contains("generator") && all.contains("tensor by tensor"), "{all}");
        let mut recipe = plain();
        recipe.sources[1].weight = 0.75.into();
        assert!(reason(&recipe).contains("elects signs by the plain sum"));
        let mut recipe = sample().uniform();
        recipe.sources[1].model.path = recipe.sources[0].model.path.clone();
        assert!(reason(&recipe).contains("twice"));
    }

    #[test]
    fn numbers_read_back() {
        for x in [0.5, 1e-7, 1.5e-10, 1e300, -2.5e17, 1.0 / 3.0, 0.0, 100.0] {
            let text = super::super::amount::number(x);
            assert_eq!(text.parse::<f64>().unwrap(), x);
            let parsed =
                parse("x", &format!("merge_method: a\nmodels: [{{model: m}}]\nparameters: {{w: {text}}}"));
            assert_eq!(parsed.unwrap().config.parameters["w"], Setting::number(x), "{text}");
        }
    }
}
