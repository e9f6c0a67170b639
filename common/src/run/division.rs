//! How a number is divided among the tensors: `layers`, `filters` and `knots` of a table in `[parameters]`.

use super::reader::Section;
use super::tree::{Node, Value};
use crate::group::{Filter, Layers};

/// The word for whatever no other filter of the list fits.
const REST: &str = "rest";
/// Far above any model's depth.
const MOST_LAYERS: u64 = 1000;
const MOST_FILTERS: usize = 32;

/// The groups that share one number of a kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Division {
    layers: Vec<Layers>,
    knots: Option<u32>,
    /// `None` is the rest. Empty where names do not count.
    filters: Vec<Option<Filter>>,
}

/// A group, before it has a number.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cell {
    pub layers: Option<Layers>,
    pub filter: Option<Filter>,
    pub knots: Option<u32>,
    /// As in names: `attention`, `rest`; none where names do not count.
    filter_name: Option<String>,
}

impl Cell {
    /// The names that it may be set by, the most telling first: `layers_1_of_4.mlp`, `mlp`, `layers_1_of_4`. The first
    /// is the one that its parameter has. `knot` counts from 0 and stands for the layers.
    pub fn names(&self, knot: usize) -> Vec<String> {
        let along = match (self.layers, self.knots) {
            (Some(layers), _) => Some(layers.name()),
            (None, Some(knots)) => Some(format!("knot_{}_of_{knots}", knot + 1)),
            (None, None) => None,
        };
        match (along, &self.filter_name) {
            (Some(along), Some(filter)) => vec![format!("{along}.{filter}"), filter.clone(), along],
            (along, filter) => along.into_iter().chain(filter.clone()).collect(),
        }
    }
}

impl Division {
    /// Whether there is nothing to divide.
    pub fn is_whole(&self) -> bool {
        *self == Division::default()
    }

    /// The groups, in the order in which they are looked for. Embeddings stand outside the layers, one at each end, and
    /// are not divided along them.
    pub fn cells(&self) -> Vec<Cell> {
        let name = |f: &Option<Filter>| f.as_ref().map_or(REST.into(), Filter::name);
        let filters: Vec<(Option<Filter>, Option<String>)> = match self.filters.is_empty() {
            true => vec![(None, None)],
            false => self.filters.iter().map(|f| (f.clone(), Some(name(f)))).collect(),
        };
        let cells = filters.into_iter().flat_map(|(filter, filter_name)| {
            let outside = filter == Some(Filter::Embeddings);
            let layers: Vec<Option<Layers>> = match outside || self.layers.is_empty() {
                true => vec![None],
                false => self.layers.iter().copied().map(Some).collect(),
            };
            let knots = self.knots.filter(|_| !outside);
            layers.into_iter().map(move |layers| Cell {
                layers,
                filter: filter.clone(),
                knots,
                filter_name: filter_name.clone(),
            })
        });
        cells.collect()
    }

    /// Reads the three keys of a table; what it does not say is as in `otherwise`.
    pub fn read(table: &Section<'_>, otherwise: &Division) -> Division {
        let (layers, knots) = match (table.get("layers"), table.get("knots")) {
            (None, None) => (otherwise.layers.clone(), otherwise.knots),
            (Some(_), Some(_)) => {
                let remedy =
                    "keep layers (a number for each group) or knots (numbers to interpolate between)";
                table.note(Some("knots"), "given beside layers", remedy);
                (Vec::new(), None)
            }
            (Some(node), None) => (read_layers(table, node), None),
            (None, Some(_)) => (Vec::new(), table.integer("knots", 2..=MOST_LAYERS, "3").map(|k| k as u32)),
        };
        let filters = match table.get("filters") {
            None => otherwise.filters.clone(),
            Some(node) => read_filters(table, node),
        };
        Division { layers, knots, filters }
    }

    /// Whether a table says anything of this.
    pub fn is_in(table: &Section<'_>) -> bool {
        ["layers", "knots", "filters"].iter().any(|key| table.has(key))
    }
}

/// The strings of an array.
fn strings<'a>(table: &Section<'_>, key: &str, node: &'a Node, example: &str) -> Vec<&'a str> {
    let Value::Array(items) = &node.value else {
        let message = format!("expected a list, found {}", node.value.kind());
        table.note(Some(key), message, format!("for example {key} = {example}"));
        return Vec::new();
    };
    let text = |item: &'a Node| match &item.value {
        Value::String(text) => Some(text.as_str()),
        other => {
            let message = format!("expected strings, found {}", other.kind());
            table.note(Some(key), message, format!("for example {key} = {example}"));
            None
        }
    };
    items.iter().filter_map(text).collect()
}

/// A number of equal parts, or ranges that follow each other from layer 0 to the last.
fn read_layers(table: &Section<'_>, node: &Node) -> Vec<Layers> {
    const EXAMPLE: &str = "4, or [\"0-7\", \"8-23\", \"24-\"]";
    if let Value::Integer(_) = node.value {
        let of = table.integer("layers", 2..=MOST_LAYERS, EXAMPLE).unwrap_or(2) as u32;
        return (1..=of).map(|part| Layers::Part { part, of }).collect();
    }
    let mut found = Vec::new();
    for text in strings(table, "layers", node, EXAMPLE) {
        match text.parse() {
            Ok(range @ Layers::Range { .. }) => found.push(range),
            _ => {
                let message = format!("{text:?} is no range of layers");
                table.note(Some("layers"), message, format!("for example layers = {EXAMPLE}"));
                return Vec::new();
            }
        }
    }
    // No layer in two groups, none in no group, whatever the model's depth.
    let mut next = Some(0);
    for layers in &found {
        let Layers::Range { from, to } = layers else { continue };
        if next != Some(*from) {
            let begin = next
                .map_or("nothing: the one before goes to the last layer".into(), |n| format!("layer {n}"));
            let remedy =
                format!("let each range begin where the one before ended: {layers} begins after {begin}");
            table.note(Some("layers"), "ranges that leave layers out or share some", remedy);
            return Vec::new();
        }
        next = to.map(|to| to.saturating_add(1));
    }
    if let Some(next) = next {
        let remedy =
            format!("let the last range be open, as in \"{}-\"", found.last().map_or(next, first_layer));
        table.note(Some("layers"), "ranges that end before the last layer", remedy);
    }
    found
}

fn first_layer(layers: &Layers) -> u32 {
    match layers {
        Layers::Range { from, .. } => *from,
        Layers::Part { part, .. } => *part,
    }
}

/// Words and patterns; the list must leave no tensor of a Llama out.
fn read_filters(table: &Section<'_>, node: &Node) -> Vec<Option<Filter>> {
    const EXAMPLE: &str = "[\"attention\", \"mlp\", \"rest\"]";
    let mut found: Vec<Option<Filter>> = Vec::new();
    for text in strings(table, "filters", node, EXAMPLE) {
        let filter = match text {
            REST => None,
            text => match Filter::try_from(text.to_string()) {
                Ok(filter) => Some(filter),
                Err(e) => {
                    let message = e.to_string();
                    let (message, remedy) = message.split_once(": ").unwrap_or((&message, EXAMPLE));
                    table.note(Some("filters"), message, format!("{remedy}, or \"rest\" for all others"));
                    continue;
                }
            },
        };
        let name = |f: &Option<Filter>| f.as_ref().map_or(REST.into(), Filter::name);
        if found.contains(&None) {
            table.note(Some("filters"), format!("{text:?} stands behind \"rest\""), "put \"rest\" last");
        } else if found.iter().any(|f| name(f) == name(&filter)) {
            table.note(
                Some("filters"),
                format!("two filters are called {}", name(&filter)),
                "keep one of them",
            );
        }
        found.push(filter);
    }
    let all = Filter::WORDS.iter().all(|(_, word)| found.contains(&Some(word.clone())));
    if !all && !found.contains(&None) {
        table.note(Some("filters"), "tensors are left out", "add \"rest\", which stands for all others");
    }
    if found.len() > MOST_FILTERS {
        table.note(Some("filters"), format!("more than {MOST_FILTERS} filters"), "shorten the list");
    }
    found
}
