//! The tree of a configuration file → [`Config`], with every fault noted.

mod tokens;

use super::config::{Config, FloatType, InputModel, InputSlice, Inputs, ModelName, OutputSlice, Settings};
use super::setting::{Condition, Graded, Scalar, Setting};
use super::yaml::{self, Node, Value};
use crate::run::{Fault, Faults, edit_distance};
use std::cell::RefCell;

/// A configuration with what is worth knowing about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    /// What the file says.
    pub config: Config,
    /// Keys that mergekit ignores, most likely by mistake: what they are, and what was perhaps meant.
    pub notes: Vec<Fault>,
}

/// Reads a configuration. `file` is its name for messages.
///
/// # Errors
/// Everything that is wrong, each with line, field and remedy: what is not YAML, what mergekit 0.1.5 would refuse, and
/// what it has that is not supported here.
pub fn parse(file: &str, text: &str) -> Result<Parsed, Faults> {
    let refuse = |faults| Faults { file: file.to_string(), faults };
    let root = yaml::parse(text).map_err(|fault| refuse(vec![fault]))?;
    let reader = Reader::default();
    let config = reader.config(&root);
    let by_line = |faults: RefCell<Vec<Fault>>| {
        let mut faults = faults.into_inner();
        faults.sort_by_key(|f| f.line().unwrap_or(usize::MAX));
        faults
    };
    match config {
        Some(config) if reader.faults.borrow().is_empty() => {
            Ok(Parsed { config, notes: by_line(reader.notes) })
        }
        _ => Err(refuse(by_line(reader.faults))),
    }
}

#[derive(Default)]
struct Reader {
    faults: RefCell<Vec<Fault>>,
    notes: RefCell<Vec<Fault>>,
}

/// A mapping being read.
struct Section<'a> {
    reader: &'a Reader,
    path: String,
    line: usize,
    entries: &'a [(String, Node)],
}

const MODEL: &str = "give a model's folder or hub name";
const SETTING: &str = "give a value, a list of values along the layers, or a list of {filter: …, value: …}";

impl Reader {
    fn fault(&self, line: usize, field: &str, message: impl Into<String>, remedy: impl Into<String>) {
        self.faults.borrow_mut().push(Fault::on_line(line, field, message, remedy));
    }

    /// The mapping at `node`; a fault and nothing when it is something else.
    fn section<'a>(&'a self, path: &str, node: &'a Node, remedy: &str) -> Option<Section<'a>> {
        match &node.value {
            Value::Map(entries) => {
                Some(Section { reader: self, path: path.into(), line: node.line, entries })
            }
            other => {
                self.fault(node.line, path, format!("expected a mapping, found {}", other.kind()), remedy);
                None
            }
        }
    }

    fn list<'a>(&self, path: &str, node: &'a Node, remedy: &str) -> &'a [Node] {
        match &node.value {
            Value::List(items) if !items.is_empty() => items,
            other => {
                let found = if matches!(other, Value::List(_)) { "an empty one" } else { other.kind() };
                self.fault(node.line, path, format!("expected a list, found {found}"), remedy);
                &[]
            }
        }
    }

    fn text(&self, path: &str, node: &Node, remedy: &str) -> Option<String> {
        match &node.value {
            Value::Text(text) if !text.is_empty() => Some(text.clone()),
            other => {
                let found = if matches!(other, Value::Text(_)) { "empty text" } else { other.kind() };
                self.fault(node.line, path, format!("expected text, found {found}"), remedy);
                None
            }
        }
    }

    fn config(&self, root: &Node) -> Option<Config> {
        let s = self.section("", root, "begin with merge_method: and models: or slices:")?;
        let method = match s.get("merge_method") {
            Some(node) => self.text("merge_method", node, "for example merge_method: ties"),
            None => {
                s.missing("merge_method", "merge_method: ties");
                None
            }
        };
        let given = ["models", "slices", "modules"].iter().filter(|key| s.get(key).is_some()).count();
        if given != 1 {
            let message = format!("{given} of models, slices and modules are given");
            self.fault(root.line, "", message, "give exactly one of them");
        }
        let mut module_parameters = Settings::new();
        let inputs = match s.get("modules") {
            Some(node) => self.module(node, &mut module_parameters),
            None => self.inputs(&s),
        };
        let config = Config {
            method: method.unwrap_or_default(),
            inputs: inputs.unwrap_or(Inputs::Models(vec![])),
            module_parameters,
            parameters: s.settings("parameters"),
            base: s.model("base_model"),
            dtype: s.float_type("dtype"),
            out_dtype: s.float_type("out_dtype"),
            tokenizer: self.tokenizer(&s),
            chat_template: s
                .get("chat_template")
                .and_then(|n| self.text("chat_template", n, "give the template's text, or auto")),
        };
        s.note_others(&[
            "merge_method",
            "models",
            "slices",
            "modules",
            "base_model",
            "parameters",
            "dtype",
            "out_dtype",
            "tokenizer_source",
            "tokenizer",
            "chat_template",
        ]);
        Some(config)
    }

    /// `modules`: one, called default, as in mergekit for models of one stack of layers.
    fn module(&self, node: &Node, parameters: &mut Settings) -> Option<Inputs> {
        let modules = self.section("modules", node, "write modules: {default: {models: […]}}")?;
        let [(name, node)] = modules.entries else {
            let message = format!("{} modules are given", modules.entries.len());
            let remedy = "models of several modules are not merged here; merge the language model, whose one module \
                          is called default";
            self.fault(modules.line, "modules", message, remedy);
            return None;
        };
        let path = format!("modules.{name}");
        if name != "default" {
            let remedy = "language models have one module, called default; models of several modules are not merged \
                          here";
            self.fault(node.line, &path, "no such module", remedy);
            return None;
        }
        let s = self.section(&path, node, "give models: or slices:")?;
        *parameters = s.settings("parameters");
        if ["models", "slices"].iter().filter(|key| s.get(key).is_some()).count() != 1 {
            self.fault(s.line, &path, "not one of models and slices", "give exactly one of them");
        }
        s.note_others(&["models", "slices", "parameters"]);
        self.inputs(&s)
    }

    fn inputs(&self, s: &Section<'_>) -> Option<Inputs> {
        if let Some(node) = s.get("models") {
            let path = s.field("models");
            let remedy = "write it as a list of - model: …";
            let items = self.list(&path, node, remedy).iter().enumerate();
            let models: Vec<InputModel> = items
                .filter_map(|(i, n)| {
                    let s = self.section(&format!("{path}[{i}]"), n, remedy)?;
                    let model = s.required_model("model")?;
                    let parameters = s.settings("parameters");
                    s.note_others(&["model", "parameters"]);
                    Some(InputModel { model, parameters })
                })
                .collect();
            return (!models.is_empty()).then_some(Inputs::Models(models));
        }
        let node = s.get("slices")?;
        let path = s.field("slices");
        let remedy = "write it as a list of - sources: […]";
        let items = self.list(&path, node, remedy).iter().enumerate();
        let slices: Vec<OutputSlice> =
            items.filter_map(|(i, n)| self.slice(&format!("{path}[{i}]"), n, remedy)).collect();
        (!slices.is_empty()).then_some(Inputs::Slices(slices))
    }

    fn slice(&self, path: &str, node: &Node, remedy: &str) -> Option<OutputSlice> {
        let s = self.section(path, node, remedy)?;
        let Some(sources) = s.get("sources") else {
            s.missing("sources", "sources: [{model: …, layer_range: [0, 32]}]");
            return None;
        };
        let field = s.field("sources");
        let remedy = "write it as a list of - {model: …, layer_range: [first, end]}";
        let items = self.list(&field, sources, remedy).iter().enumerate();
        let sources: Vec<InputSlice> = items
            .filter_map(|(i, n)| {
                let s = self.section(&format!("{field}[{i}]"), n, remedy)?;
                let (model, layers) = (s.required_model("model"), s.layers());
                let parameters = s.settings("parameters");
                s.note_others(&["model", "layer_range", "parameters"]);
                let (first, end) = layers?;
                Some(InputSlice { model: model?, first, end, parameters })
            })
            .collect();
        let counts = |s: &InputSlice| s.end - s.first;
        if let Some(other) = sources.iter().find(|s| counts(s) != counts(&sources[0])) {
            let message = format!(
                "{} has {} layers, {} has {}",
                sources[0].model,
                counts(&sources[0]),
                other.model,
                counts(other)
            );
            self.fault(s.line, &field, message, "give all sources of a slice as many layers");
        }
        let slice =
            OutputSlice { sources, base: s.model("base_model"), parameters: s.settings("parameters") };
        s.note_others(&["sources", "base_model", "parameters"]);
        Some(slice)
    }

    /// A model reference: `path`, `path@revision`, or mergekit's long form.
    fn model(&self, node: &Node, path: &str) -> Option<ModelName> {
        match &node.value {
            Value::Text(text) if !text.is_empty() => self.model_text(node.line, path, text),
            Value::Map(_) => {
                let s = self.section(path, node, MODEL)?;
                for (key, why) in [
                    ("lora", "merge the adapter into its model first"),
                    ("override_architecture", "correct config.json of the model"),
                ] {
                    if let Some(node) = s.get(key) {
                        self.fault(node.line, &s.field(key), "not supported here", why);
                    }
                }
                let inner = s.get("model").or_else(|| s.get("path").map(|_| node));
                let Some(inner) = inner else {
                    s.missing("model", "model: owner/name");
                    return None;
                };
                let Value::Map(entries) = &inner.value else { return self.model(inner, &s.field("model")) };
                let s = Section { reader: self, path: s.field("model"), line: inner.line, entries };
                let named = |key: &str| s.get(key).and_then(|n| self.text(&s.field(key), n, MODEL));
                Some(ModelName { path: named("path")?, revision: named("revision") })
            }
            other => {
                let found = if matches!(other, Value::Text(_)) { "empty text" } else { other.kind() };
                self.fault(node.line, path, format!("expected a model, found {found}"), MODEL);
                None
            }
        }
    }

    fn model_text(&self, line: usize, path: &str, text: &str) -> Option<ModelName> {
        if text.contains('+') {
            let remedy = "merge the adapter into its model first, or rename the folder";
            self.fault(
                line,
                path,
                format!("{text}: what stands after + is a LoRA, which is not supported"),
                remedy,
            );
            return None;
        }
        match text.split('@').collect::<Vec<_>>()[..] {
            [path] => Some(ModelName::new(path)),
            [path, revision] if !path.is_empty() && !revision.is_empty() => {
                Some(ModelName { path: path.into(), revision: Some(revision.into()) })
            }
            _ => {
                self.fault(line, path, format!("{text} is not a model@revision"), MODEL);
                None
            }
        }
    }

    fn setting(&self, path: &str, node: &Node) -> Option<Setting> {
        match &node.value {
            Value::Map(_) => Some(Setting::Conditional(vec![self.condition(path, node)?])),
            Value::List(items) if items.iter().all(|n| matches!(n.value, Value::Map(_))) => {
                let conditions =
                    items.iter().enumerate().map(|(i, n)| self.condition(&format!("{path}[{i}]"), n));
                Some(Setting::Conditional(conditions.collect::<Option<_>>()?))
            }
            _ => self.graded(path, node).map(Setting::Plain),
        }
    }

    fn condition(&self, path: &str, node: &Node) -> Option<Condition> {
        let s = self.section(path, node, SETTING)?;
        let filter = match s.get("filter") {
            Some(node) => Some(self.text(&s.field("filter"), node, "give part of a tensor's name")?),
            None => None,
        };
        let Some(value) = s.get("value") else {
            s.missing("value", "value: 0.5");
            return None;
        };
        s.note_others(&["filter", "value"]);
        Some(Condition { filter, value: self.graded(&s.field("value"), value)? })
    }

    fn graded(&self, path: &str, node: &Node) -> Option<Graded> {
        match &node.value {
            Value::List(items) if !items.is_empty() => {
                let scalars = items.iter().enumerate().map(|(i, n)| self.scalar(&format!("{path}[{i}]"), n));
                Some(Graded::Gradient(scalars.collect::<Option<_>>()?))
            }
            _ => self.scalar(path, node).map(Graded::One),
        }
    }

    fn scalar(&self, path: &str, node: &Node) -> Option<Scalar> {
        match &node.value {
            Value::Bool(b) => Some(Scalar::Bool(*b)),
            Value::Int(i) => Some(Scalar::Int(*i)),
            Value::Float(x) => Some(Scalar::Float(*x)),
            Value::Text(t) => Some(Scalar::Text(t.clone())),
            other => {
                self.fault(node.line, path, format!("expected a value, found {}", other.kind()), SETTING);
                None
            }
        }
    }
}

impl<'a> Section<'a> {
    fn field(&self, key: &str) -> String {
        if self.path.is_empty() { key.into() } else { format!("{}.{key}", self.path) }
    }

    /// The value of a key; `null` counts as absent.
    fn get(&self, key: &str) -> Option<&'a Node> {
        let (_, node) = self.entries.iter().find(|(k, _)| k == key)?;
        (node.value != Value::Null).then_some(node)
    }

    fn missing(&self, key: &str, example: &str) {
        self.reader.fault(self.line, &self.field(key), "missing", format!("add {example}"));
    }

    fn model(&self, key: &str) -> Option<ModelName> {
        self.get(key).and_then(|node| self.reader.model(node, &self.field(key)))
    }

    fn required_model(&self, key: &str) -> Option<ModelName> {
        match self.get(key) {
            Some(node) => self.reader.model(node, &self.field(key)),
            None => {
                self.missing(key, "model: owner/name");
                None
            }
        }
    }

    fn layers(&self) -> Option<(usize, usize)> {
        let Some(node) = self.get("layer_range") else {
            self.missing("layer_range", "layer_range: [0, 32]");
            return None;
        };
        let items: &[Node] = if let Value::List(items) = &node.value { items } else { &[] };
        let number = |n: &Node| match n.value {
            Value::Int(i) => usize::try_from(i).ok(),
            _ => None,
        };
        match items.iter().map(number).collect::<Vec<_>>()[..] {
            [Some(first), Some(end)] if first < end && end <= 100_000 => Some((first, end)),
            _ => {
                let remedy = "write [first, end]: whole numbers, of which end is the larger and not a layer of the slice";
                self.reader.fault(node.line, &self.field("layer_range"), "not a range of layers", remedy);
                None
            }
        }
    }

    fn settings(&self, key: &str) -> Settings {
        let Some(node) = self.get(key) else { return Settings::new() };
        let path = self.field(key);
        let Some(s) = self.reader.section(&path, node, "write parameters: {weight: 0.5}") else {
            return Settings::new();
        };
        let setting = |(name, node): &(String, Node)| {
            Some((name.clone(), self.reader.setting(&format!("{path}.{name}"), node)?))
        };
        s.entries.iter().filter_map(setting).collect()
    }

    fn float_type(&self, key: &str) -> Option<FloatType> {
        let node = self.get(key)?;
        let remedy = "choose float32, bfloat16 or float16";
        if node.value == Value::Text(String::new()) {
            return None;
        }
        let text = self.reader.text(&self.field(key), node, remedy)?;
        match text.strip_prefix("torch.").unwrap_or(&text) {
            "float32" => Some(FloatType::Float32),
            "float16" => Some(FloatType::Float16),
            "bfloat16" => Some(FloatType::Bfloat16),
            _ => {
                self.reader.fault(
                    node.line,
                    &self.field(key),
                    format!("{text} is not supported here"),
                    remedy,
                );
                None
            }
        }
    }

    /// Notes the keys that nothing reads.
    fn note_others(&self, known: &[&str]) {
        for (key, node) in self.entries.iter().filter(|(k, _)| !known.contains(&k.as_str())) {
            let nearest = known.iter().map(|k| (edit_distance(k, key), k)).min();
            let remedy = match nearest {
                Some((d, name)) if d <= 1 + key.len() / 4 => format!("did you mean {name}?"),
                _ => format!("known here: {}", known.join(", ")),
            };
            let note =
                Fault::on_line(node.line, &self.field(key), "has no effect, in mergekit as here", remedy);
            self.reader.notes.borrow_mut().push(note);
        }
    }
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
