//! `search.start_points`: points that are evaluated before the search asks for its own.
//!
//! | name | points |
//! |---|---|
//! | `sources` | each source alone: its weight 1, the others 0 |
//! | `uniform` | every source with the same weight, 1 ÷ their number |
//! | `middle` | the middle of the searched box |
//! | a file | the numbers of a recipe (`.json`), or of a mergekit configuration such as mergekit-evolve's best (`.yaml`, `.yml`) |
//!
//! Of the first two nothing is dropped or trimmed, and the scale is 1. A number out of the searched bounds is moved to the
//! nearer one. A number that a file divides by layer or name counts with the mean of its values: a start is no more than
//! that.

use super::RunPlan;
use super::reader::Section;
use crate::amount::Amount;
use crate::genome::Genome;
use crate::mergekit::{Config, InputModel, Inputs, ModelName, Scalar, Setting, Settings};
use crate::recipe::{Mask, Recipe};
use crate::space::{Coefficient, Form, Origin};
use serde::{Deserialize, Serialize};

/// One entry of the run file's list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum StartPoint {
    /// Each source alone.
    Sources,
    /// The same weight for all.
    Uniform,
    /// The middle of the box.
    Middle,
    /// A file: absolute path, and its numbers once it was read.
    File {
        /// The path.
        path: String,
        /// What it says; absent until it was read.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        numbers: Option<Numbers>,
    },
}

/// Numbers of a merge, one of a kind for each source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Numbers {
    /// Factor of the merged task vector.
    pub scale: f64,
    /// Weight, drop rate and trim rate of each source, in the order of the run file.
    pub sources: Vec<[f64; 3]>,
}

/// Reads the list. `path` makes a path absolute.
pub(super) fn read(s: &Section<'_>, path: &dyn Fn(String) -> String) -> Vec<StartPoint> {
    let names = s.strings("start_points", "[\"sources\", \"uniform\", \"evolved.yaml\"]").unwrap_or_default();
    let mut points = Vec::new();
    for name in names {
        let extension = name.rsplit_once('.').map(|(_, e)| e);
        points.push(match (name.as_str(), extension) {
            ("sources", _) => StartPoint::Sources,
            ("uniform", _) => StartPoint::Uniform,
            ("middle", _) => StartPoint::Middle,
            (_, Some("json" | "yaml" | "yml")) => StartPoint::File { path: path(name), numbers: None },
            _ => {
                let remedy =
                    "name \"sources\", \"uniform\", \"middle\", or a file that ends in .json, .yaml or .yml";
                s.note(Some("start_points"), format!("{name:?} is no start point"), remedy);
                continue;
            }
        });
    }
    points
}

impl StartPoint {
    /// What people call it.
    pub fn name(&self) -> &str {
        match self {
            StartPoint::Sources => "sources",
            StartPoint::Uniform => "uniform",
            StartPoint::Middle => "middle",
            StartPoint::File { path, .. } => path,
        }
    }
}

impl Numbers {
    fn of_weights(weights: impl Iterator<Item = f64>) -> Numbers {
        Numbers { scale: 1.0, sources: weights.map(|w| [w, 0.0, 0.0]).collect() }
    }

    /// Reads a recipe or a configuration for mergekit.
    ///
    /// # Errors
    /// In words: what of the file cannot be read, or that it names none of the run's sources.
    pub fn read(plan: &RunPlan, path: &str, text: &str) -> Result<Numbers, String> {
        let numbers = match path.ends_with(".json") {
            true => {
                let recipe = crate::provenance::RecipeFile::parse(text).map_err(|e| e.to_string())?.recipe;
                Numbers::of_recipe(plan, &recipe)
            }
            false => {
                let config = crate::mergekit::parse(path, text).map_err(|e| e.to_string())?.config;
                Numbers::of_config(plan, &config)
            }
        };
        let known: Vec<&str> = plan.models.sources.iter().map(|s| s.model.name.as_str()).collect();
        numbers.ok_or_else(|| format!("it names none of the run's sources ({})", known.join(", ")))
    }

    fn of_recipe(plan: &RunPlan, recipe: &Recipe) -> Option<Numbers> {
        let mean = |amount: &Amount| mean(&amount.numbers().into_iter().map(|(_, v)| v).collect::<Vec<_>>());
        let term = |source: &super::SourcePlan| {
            recipe
                .sources
                .iter()
                .find(|t| t.model.name == source.model.name || t.model.path == source.model.path)
        };
        let terms: Vec<_> = plan.models.sources.iter().map(term).collect();
        terms.iter().any(Option::is_some).then_some(())?;
        let numbers =
            |t: &crate::recipe::SourceTerm| [mean(&t.weight), mean(&t.drop_rate), mean(&t.trim_rate)];
        let sources = terms.into_iter().map(|t| t.map_or([0.0; 3], numbers)).collect();
        Some(Numbers { scale: mean(&recipe.scale), sources })
    }

    /// mergekit has densities: what is kept. Methods that begin with `dare` drop at random, the others trim.
    fn of_config(plan: &RunPlan, config: &Config) -> Option<Numbers> {
        let inputs: Vec<(&ModelName, &Settings)> = match &config.inputs {
            Inputs::Models(models) => {
                models.iter().map(|InputModel { model, parameters }| (model, parameters)).collect()
            }
            Inputs::Slices(slices) => {
                slices.iter().flat_map(|s| &s.sources).map(|s| (&s.model, &s.parameters)).collect()
            }
        };
        let everywhere = |key: &str| config.parameters.get(key).map(values).and_then(|v| some_mean(&v));
        let drops = config.method.starts_with("dare");
        let mut found = false;
        let mut numbers = |source: &super::SourcePlan| {
            let own: Vec<&Settings> =
                inputs.iter().filter(|(m, _)| same_model(&m.path, source)).map(|(_, p)| *p).collect();
            found |= !own.is_empty();
            let number = |key: &str, default: f64| {
                let all: Vec<f64> = own.iter().filter_map(|p| p.get(key)).flat_map(values).collect();
                some_mean(&all).or_else(|| everywhere(key)).unwrap_or(default)
            };
            let away = (1.0 - number("density", 1.0)).clamp(0.0, 1.0);
            match own.is_empty() {
                true => [0.0; 3],
                false if drops => [number("weight", 1.0), away, 0.0],
                false => [number("weight", 1.0), 0.0, away],
            }
        };
        let sources = plan.models.sources.iter().map(&mut numbers).collect();
        found.then(|| Numbers { scale: everywhere("lambda").unwrap_or(1.0), sources })
    }
}

/// Numbers of a parameter, wherever in the model they hold.
fn values(setting: &Setting) -> Vec<f64> {
    setting.scalars().into_iter().filter_map(Scalar::number).collect()
}

fn some_mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| mean(values))
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Whether a model of mergekit's is a source: by name, path, or the last part of either's path.
fn same_model(path: &str, source: &super::SourcePlan) -> bool {
    let plain = |p: &str| p.trim_start_matches("hf://").split('@').next().unwrap_or_default().to_lowercase();
    let last = |p: &str| plain(p).trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_string();
    let model = &source.model;
    path == model.name || plain(path) == plain(&model.path) || last(path) == last(&model.path)
}

impl RunPlan {
    /// The start points of the plan as points of its space, with what people call them; equal ones once. A file that was
    /// not read yields none.
    pub fn start_points(&self) -> Vec<(String, Vec<f64>)> {
        let sources = &self.models.sources;
        let mut points: Vec<(String, Vec<f64>)> = Vec::new();
        for point in &self.search.start_points {
            match point {
                StartPoint::Middle => points.push((point.name().into(), vec![0.5; self.space.dimensions()])),
                StartPoint::Uniform => {
                    let numbers = Numbers::of_weights(sources.iter().map(|_| 1.0 / sources.len() as f64));
                    points.push((point.name().into(), self.point(&numbers)));
                }
                StartPoint::Sources => points.extend((0..sources.len()).map(|alone| {
                    let weights = (0..sources.len()).map(|i| if i == alone { 1.0 } else { 0.0 });
                    (
                        format!("{} alone", sources[alone].model.name),
                        self.point(&Numbers::of_weights(weights)),
                    )
                })),
                StartPoint::File { path, numbers } => {
                    points.extend(numbers.iter().map(|n| (path.clone(), self.point(n))));
                }
            }
        }
        let mut unique: Vec<(String, Vec<f64>)> = Vec::new();
        for point in points {
            if !unique.iter().any(|u| u.1 == point.1) {
                unique.push(point);
            }
        }
        unique
    }

    /// Where numbers lie in the searched box, or nearest to it.
    fn point(&self, numbers: &Numbers) -> Vec<f64> {
        let coefficients = self.space.coefficients();
        let value = |index: usize| {
            let is_here = |c: &Coefficient| c.origins().contains(&Origin::Searched(index));
            let (kind, source, _) = coefficients.iter().find(|(_, _, c)| is_here(c))?;
            let of_source = |at: usize| numbers.sources.get((*source)?).map(|n| n[at]);
            match *kind {
                "scale" => Some(numbers.scale),
                "weight" => of_source(0),
                "drop_rate" => of_source(1),
                "trim_rate" => of_source(2),
                _ => None,
            }
        };
        let coordinate = |(i, p): (usize, &crate::space::Parameter)| {
            let word = match &p.form {
                Form::Words(words) => words.iter().position(|w| Mask::from_word(w) == Some(self.merge.mask)),
                _ => None,
            };
            let value = value(i).or(word.map(|w| w as f64)).map(|v| v.clamp(p.low, p.high));
            value.and_then(|v| p.coordinate(v)).unwrap_or(0.5)
        };
        self.space.parameters.iter().enumerate().map(coordinate).collect()
    }

    /// The point that a genome of another plan's space is in this one: the same value of every number. `None` where a
    /// number is out of the bounds here, fixed at another value, or divided otherwise.
    pub fn translate(&self, other: &RunPlan, genome: &Genome) -> Option<Vec<f64>> {
        let recipe = other.recipe(genome);
        let values = other.space.values(genome);
        let named =
            |name: &str| other.space.parameters.iter().position(|p| p.name == name).map(|i| values[i]);
        let fixed = |i: usize| {
            // What is searched here and fixed there has the one value that it has there.
            let here = self.space.coefficients();
            let at = here.iter().position(|(_, _, c)| **c == Coefficient::Searched(i))?;
            match other.space.coefficients().get(at)?.2 {
                Coefficient::Fixed(v) => Some(*v),
                Coefficient::Searched(j) => Some(values[*j]),
                Coefficient::Cases(_) => None,
            }
        };
        let parameters = self.space.parameters.iter().enumerate();
        let point: Option<Vec<f64>> =
            parameters.map(|(i, p)| p.coordinate(named(&p.name).or_else(|| fixed(i))?)).collect();
        let point = point?;
        // Whatever differs otherwise — a number fixed elsewhere, another division, another mask — shows in the recipe.
        let here = self.recipe(&Genome::new(point.clone()).ok()?);
        here.is_nearly(&recipe).then_some(point)
    }
}

#[cfg(test)]
#[path = "starts_tests.rs"]
mod tests;
