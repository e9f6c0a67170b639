//! A configuration and its models → every tensor of the result: inputs, parameters, types, shapes.
//!
//! Nothing is read but the models' directories of tensors, so every fault that can be known is known before the first
//! number is computed. The rules are those of `mergekit/plan.py`, `parameter_resolver.py`, `architecture/` and
//! `merge_methods/task_adapter.py` of mergekit 0.1.5:
//!
//! - Whole models are one slice of all layers; a base that is not among them is put last, without parameters.
//! - Embedding belongs to the first slice, norm and head to the last, all three at `t = 0`.
//! - A head is optional: there is none when no input has one; a tied model lends its embedding.
//! - A shared parameter is asked for with the result's tensor name, an input's with the input's.

use super::error::{Error, Result};
use super::methods::{Base, Compute, Fallback, Method, Optional, Parameter, Parameters, Scope, Value};
use super::model::{EMBEDDING, HEAD, Model, NORM, layer_name};
use crate::checkpoint::Dtype;
use common::mergekit::{Config, FloatType, InputSlice, Inputs, ModelName, OutputSlice, Scalar, Settings};
use std::collections::BTreeSet;

/// One tensor of the result.
pub(super) struct Tensor {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    /// What makes it: the configuration's method, or none for an optional tensor that only one input has.
    pub(super) method: Method,
    pub(super) inputs: Vec<Input>,
    /// Which of the inputs is the base.
    pub(super) base: Option<usize>,
    pub(super) shared: Parameters,
    pub(super) compute: Compute,
    /// The type that it is written in.
    pub(super) dtype: Dtype,
    pub(super) rows: Rows,
}

/// One input of a tensor.
pub(super) struct Input {
    /// Position of the model.
    pub(super) model: usize,
    /// The tensor that is read.
    pub(super) stored: String,
    pub(super) parameters: Parameters,
}

/// What happens to the rows of the inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rows {
    /// They match.
    Same,
    /// The leading ones are taken.
    Cut,
    /// They are found by token.
    Aligned,
}

/// What is known of vocabularies when tensors are planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vocabulary {
    /// They have to match.
    Equal,
    /// The fewest rows of all inputs are kept.
    Cut,
    /// They are aligned to that many rows.
    Rows(usize),
}

/// All tensors of the result.
pub(super) struct Plan {
    pub(super) tensors: Vec<Tensor>,
    /// Per layer of the result, the model and layer that comes first among its sources.
    pub(super) layers: Vec<(usize, usize)>,
    /// What is worth knowing though nothing is wrong.
    pub(super) notes: Vec<String>,
}

/// Plans every tensor. `models` holds every model of the configuration; the first gives the result's layout.
pub(super) fn plan(
    config: &Config,
    method: Method,
    models: &[Model],
    vocabulary: Vocabulary,
) -> Result<Plan> {
    let slices = slices(config, models)?;
    let planner = Planner { config, method, models, vocabulary };
    for (i, slice) in slices.iter().enumerate() {
        planner.check_slice(&format!("slices[{i}]"), slice)?;
    }
    let mut plan = Plan { tensors: vec![], layers: vec![], notes: planner.notes() };
    let (Some(first), Some(last)) = (slices.first(), slices.last()) else {
        return Err(Error::config("slices", "there are none", "give models or slices"));
    };
    let whole = |slice: &OutputSlice, name: &str, sources: usize| -> Vec<String> {
        vec![name.to_string(); slice.sources.len().min(sources)]
    };
    plan.tensors.extend(planner.tensor(EMBEDDING, whole(first, EMBEDDING, usize::MAX), first, 0.0)?);
    let parts: BTreeSet<String> = models[0].layer_parts();
    let mut number = 0;
    for slice in &slices {
        let count = slice.sources.first().map_or(0, |s| s.end - s.first);
        for offset in 0..count {
            let t = if count > 1 { offset as f64 / (count - 1) as f64 } else { 1.0 };
            for part in &parts {
                let inputs = slice.sources.iter().map(|s| layer_name(s.first + offset, part)).collect();
                plan.tensors.extend(planner.tensor(&layer_name(number, part), inputs, slice, t)?);
            }
            let source = &slice.sources[0];
            plan.layers.push((planner.position(&source.model)?, source.first + offset));
            number += 1;
        }
    }
    // mergekit pairs the last slice's models with as many names as the first slice has sources.
    for name in [NORM, HEAD] {
        plan.tensors.extend(planner.tensor(name, whole(last, name, first.sources.len()), last, 0.0)?);
    }
    Ok(plan)
}

/// Whole models as one slice.
fn slices(config: &Config, models: &[Model]) -> Result<Vec<OutputSlice>> {
    let inputs = match &config.inputs {
        Inputs::Slices(slices) => return Ok(slices.clone()),
        Inputs::Models(inputs) => inputs,
    };
    let layers = |name: &ModelName| models.iter().find(|m| m.name == *name).map_or(0, |m| m.layers);
    let mut sources: Vec<InputSlice> = inputs
        .iter()
        .map(|input| InputSlice {
            model: input.model.clone(),
            first: 0,
            end: layers(&input.model),
            parameters: input.parameters.clone(),
        })
        .collect();
    if let Some(base) = config.base.as_ref().filter(|base| inputs.iter().all(|i| i.model != **base)) {
        let end = layers(base);
        sources.push(InputSlice { model: base.clone(), first: 0, end, parameters: Settings::new() });
    }
    if let Some(other) = sources.iter().find(|s| s.end != sources[0].end) {
        let (one, two) = (&sources[0], other);
        let fault = format!("{} has {} layers, {} has {}", one.model, one.end, two.model, two.end);
        return Err(Error::config("models", fault, "choose as many layers of each with slices:"));
    }
    Ok(vec![OutputSlice { sources, base: None, parameters: Settings::new() }])
}

struct Planner<'a> {
    config: &'a Config,
    method: Method,
    models: &'a [Model],
    vocabulary: Vocabulary,
}

impl Planner<'_> {
    fn position(&self, name: &ModelName) -> Result<usize> {
        let position = self.models.iter().position(|m| m.name == *name);
        position.ok_or_else(|| {
            Error::config("base_model", format!("{name} is not among the models"), "name one of the models")
        })
    }

    /// The base as the method sees it.
    fn base<'a>(&'a self, slice: &'a OutputSlice) -> Option<&'a ModelName> {
        let seen = self.method.contract().base != Base::Ignored;
        self.config.base_of(slice).filter(|_| seen)
    }

    fn check_slice(&self, field: &str, slice: &OutputSlice) -> Result<()> {
        for (i, source) in slice.sources.iter().enumerate() {
            let layers = self.models[self.position(&source.model)?].layers;
            if source.end > layers {
                let fault =
                    format!("layer_range ends at {}, {} has {layers} layers", source.end, source.model);
                return Err(Error::config(format!("{field}.sources[{i}]"), fault, "end at most there"));
            }
        }
        let names: Vec<&ModelName> = slice.sources.iter().map(|s| &s.model).collect();
        self.check_inputs(field, &names, self.base(slice))
    }

    /// Whether the method takes these inputs.
    fn check_inputs(&self, field: &str, inputs: &[&ModelName], base: Option<&ModelName>) -> Result<()> {
        let (method, contract) = (self.method.name(), self.method.contract());
        let refuse = |fault: String, remedy: &str| Err(Error::config(field, fault, remedy));
        if let Some(twice) = (1..inputs.len()).find(|&i| inputs[..i].contains(&inputs[i])) {
            return refuse(format!("{} is an input twice", inputs[twice]), "name each model once a slice");
        }
        if let Some(base) = base.filter(|base| !inputs.contains(base)) {
            return refuse(format!("the base {base} is not among the inputs"), "add it as a source");
        }
        if contract.base == Base::Required && base.is_none() {
            return refuse(format!("{method} needs a base"), "add base_model: <one of the models>");
        }
        let others = inputs.len() - usize::from(base.is_some());
        let fits = inputs.len() >= contract.min_inputs
            && contract.max_inputs.is_none_or(|max| inputs.len() <= max)
            && contract.non_base.is_none_or(|exact| others == exact);
        let given = inputs.iter().map(|m| m.to_string()).collect::<Vec<_>>().join(", ");
        match fits {
            true => Ok(()),
            false => refuse(format!("{method} takes {contract}; given are {given}"), "change the inputs"),
        }
    }

    /// Plans one tensor. `stored` names the tensor in each of the slice's sources, possibly in fewer of them.
    /// `None` for an optional tensor that the result does not have.
    fn tensor(&self, name: &str, stored: Vec<String>, slice: &OutputSlice, t: f64) -> Result<Option<Tensor>> {
        let optional = name == HEAD;
        let sources: Vec<(usize, &InputSlice, &String)> = slice
            .sources
            .iter()
            .zip(&stored)
            .map(|(source, tensor)| Ok((self.position(&source.model)?, source, tensor)))
            .collect::<Result<_>>()?;
        let has = |(model, _, tensor): &(usize, &InputSlice, &String)| {
            self.models[*model].checkpoint.info(tensor).is_some()
        };
        if optional && !sources.iter().any(has) {
            return Ok(None);
        }
        let base_name = self.config.base_of(slice);
        let shared = self.parameters(name, None, slice, t, |s| s == Scope::Shared)?;
        let mut inputs = Vec::with_capacity(sources.len());
        for &(model, source, tensor) in &sources {
            let is_base = base_name == Some(&source.model);
            let fits = |s| s == Scope::Input || (s == Scope::NonBase && !is_base);
            let parameters = self.parameters(tensor, Some(&source.model), slice, t, fits)?;
            let opened = &self.models[model];
            let Some(stored) = opened.stored(tensor) else {
                let folder = opened.checkpoint.folder().into();
                let wanted = "the layout of the result, the first model's, has";
                return Err(Error::Missing { folder, tensor: tensor.clone(), wanted });
            };
            inputs.push(Input { model, stored: stored.into(), parameters });
        }
        let base = inputs.iter().position(|i| Some(&self.models[i.model].name) == base_name);
        let mut method = self.method;
        if optional && inputs.len() < slice.sources.len() {
            // Fewer names than models, see `plan`.
            match (method.optional(), inputs.len()) {
                (Optional::Single, 1) => method = Method::Passthrough,
                (Optional::BaseOrNone, n) if n < method.contract().min_inputs => match (n, base) {
                    (1, Some(_)) => method = Method::Passthrough,
                    _ => return Ok(None),
                },
                _ => {}
            }
        }
        if method == self.method {
            let names: Vec<&ModelName> = inputs.iter().map(|i| &self.models[i.model].name).collect();
            self.check_inputs(name, &names, self.base(slice))?;
        }
        let (shared, base) = match method == self.method {
            true => (shared, base),
            false => {
                inputs.iter_mut().for_each(|i| i.parameters = Parameters::default());
                (Parameters::default(), None)
            }
        };
        self.finish(name, method, inputs, base, shared).map(Some)
    }

    /// Types, shape and rows.
    fn finish(
        &self,
        name: &str,
        method: Method,
        inputs: Vec<Input>,
        base: Option<usize>,
        shared: Parameters,
    ) -> Result<Tensor> {
        let mut infos = Vec::with_capacity(inputs.len());
        for input in &inputs {
            let info = self.models[input.model].info(&input.stored)?;
            if !info.dtype.mergeable() {
                return Err(Error::File {
                    file: self.models[input.model].checkpoint.folder().into(),
                    fault: format!("{} is stored as {}", input.stored, info.dtype.name()),
                    remedy: "convert the model to float32, bfloat16 or float16",
                });
            }
            infos.push(info);
        }
        let compute = match self.config.dtype {
            Some(FloatType::Float32) => Compute::F32,
            Some(FloatType::Float16) => Compute::F16,
            Some(FloatType::Bfloat16) => Compute::Bf16,
            None => Compute::promoted(infos.iter().map(|i| i.dtype)).unwrap_or(Compute::F32),
        };
        let dtype = match (self.config.out_dtype, compute) {
            (Some(FloatType::Float32), _) | (None, Compute::F32) => Dtype::F32,
            (Some(FloatType::Float16), _) | (None, Compute::F16) => Dtype::F16,
            (Some(FloatType::Bfloat16), _) | (None, Compute::Bf16) => Dtype::Bf16,
        };
        let mut shape = infos[0].shape.clone();
        let mut rows = Rows::Same;
        let by_token = name == EMBEDDING || name == HEAD;
        let differ = infos.iter().any(|i| i.shape != shape);
        let columns_fit =
            infos.iter().all(|i| i.shape.len() == 2 && i.shape[1] == shape[1] && i.shape[0] > 0);
        match self.vocabulary {
            Vocabulary::Rows(count) if by_token && columns_fit => {
                shape[0] = count;
                rows = Rows::Aligned;
            }
            Vocabulary::Cut if by_token && differ && columns_fit => {
                shape[0] = infos.iter().map(|i| i.shape[0]).min().unwrap_or(0);
                rows = Rows::Cut;
            }
            _ if differ => {
                let shapes: Vec<String> = inputs
                    .iter()
                    .zip(&infos)
                    .map(|(i, info)| format!("{} {:?}", self.models[i.model].name, info.shape))
                    .collect();
                let remedy = match by_token {
                    true => {
                        "match the vocabularies by token: add tokenizer: {source: base}; or, where the leading tokens are \
                         the same in all, keep as many rows as all have: --truncate-embeddings"
                    }
                    false => "merge models of one size",
                };
                let fault = format!("the shapes differ: {}", shapes.join(", "));
                return Err(Error::config(name, fault, remedy));
            }
            _ => {}
        }
        Ok(Tensor { name: name.into(), shape, method, inputs, base, shared, compute, dtype, rows })
    }

    /// The parameters of one scope that hold for a tensor. What is said nowhere is left to the method's defaults.
    fn parameters(
        &self,
        tensor: &str,
        input: Option<&ModelName>,
        slice: &OutputSlice,
        t: f64,
        fits: impl Fn(Scope) -> bool,
    ) -> Result<Parameters> {
        let places = self.config.places(slice, input);
        let mut found = Parameters::default();
        for parameter in self.method.parameters().iter().filter(|p| fits(p.scope)) {
            match look_up(parameter, &places, tensor, t)? {
                Some(value) => {
                    found.0.insert(parameter.name.into(), value);
                }
                None if parameter.fallback == Fallback::Required => {
                    let whose = input.map(|m| format!(" of {m}")).unwrap_or_default();
                    let fault = format!("{} has none for {tensor}{whose}", self.method.name());
                    let remedy = "give it with the model, or for all under parameters:; a list of filters needs a last \
                                  entry without filter";
                    return Err(Error::config(format!("parameters.{}", parameter.name), fault, remedy));
                }
                None => {}
            }
        }
        Ok(found)
    }

    /// Parameters that the method does not look at where they are given, and tensors that are left out.
    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let method = self.method;
        let mut note = |place: &str, settings: &Settings, of_input: bool| {
            for name in settings.keys() {
                let known = method.parameters().iter().find(|p| p.name == name);
                match known {
                    None => notes.push(format!("{place}.{name} has no effect on {}", method.name())),
                    Some(p) if of_input && p.scope == Scope::Shared => notes.push(format!(
                        "{place}.{name} has no effect: {} takes it for all inputs together; give it for the slice or for all",
                        method.name()
                    )),
                    Some(_) => {}
                }
            }
        };
        note("parameters", &self.config.parameters, false);
        note("modules.default.parameters", &self.config.module_parameters, false);
        match &self.config.inputs {
            Inputs::Models(inputs) => {
                for (i, input) in inputs.iter().enumerate() {
                    note(&format!("models[{i}].parameters"), &input.parameters, true);
                }
            }
            Inputs::Slices(slices) => {
                for (i, slice) in slices.iter().enumerate() {
                    note(&format!("slices[{i}].parameters"), &slice.parameters, false);
                    for (j, source) in slice.sources.iter().enumerate() {
                        note(&format!("slices[{i}].sources[{j}].parameters"), &source.parameters, true);
                    }
                }
            }
        }
        let parts = self.models[0].layer_parts();
        for model in self.models {
            let others = model.others().chain(std::iter::empty()).map(String::from);
            let own = model.layer_parts();
            let extra = own.difference(&parts).map(|part| format!("model.layers.*.{part}"));
            let left: Vec<String> = others.chain(extra).collect();
            if let Some(one) = left.first() {
                let more =
                    if left.len() > 1 { format!(" and {} more", left.len() - 1) } else { String::new() };
                notes.push(format!(
                    "{}: {one}{more} is left out: the first model's layout has no place for it",
                    model.name
                ));
            }
        }
        notes
    }
}

/// The value of the place that counts most, nothing when none has one for this tensor.
fn look_up(parameter: &Parameter, places: &[&Settings], tensor: &str, t: f64) -> Result<Option<Value>> {
    let read = |scalar: &Scalar| parameter.parse(&value(scalar)).map(scalar_of);
    for setting in places.iter().filter_map(|place| place.get(parameter.name)) {
        if let Some(found) = setting.evaluate(tensor, t, &read)? {
            return Ok(Some(value(&found)));
        }
    }
    Ok(None)
}

fn value(scalar: &Scalar) -> Value {
    match scalar {
        Scalar::Bool(b) => Value::Bool(*b),
        Scalar::Int(i) => Value::Int(*i),
        Scalar::Float(x) => Value::Float(*x),
        Scalar::Text(t) => Value::Text(t.clone()),
    }
}

fn scalar_of(value: Value) -> Scalar {
    match value {
        Value::Bool(b) => Scalar::Bool(b),
        Value::Int(i) => Scalar::Int(i),
        Value::Float(x) => Scalar::Float(x),
        Value::Text(t) => Scalar::Text(t),
    }
}
