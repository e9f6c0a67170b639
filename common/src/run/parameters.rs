//! The `[parameters]` section: which numbers of a merge are searched, shared or fixed.

use super::reader::Section;
use super::tree::Value;
use crate::space::{Coefficient, Parameter, SourceCoefficients, Space};

/// What one kind of number may be, and what it is where the run file is silent: the paper's box.
struct Kind {
    name: &'static str,
    /// Where values may lie at all.
    range: (f64, f64),
    /// The default interval.
    low: f64,
    high: f64,
    /// One number for all sources unless the file says otherwise.
    shared: bool,
    /// One number for the merge as a whole: there is nothing to set per source.
    global: bool,
}

const DROP_RATE: Kind =
    Kind { name: "drop_rate", range: (0.0, 1.0), low: 0.0, high: 1.0, shared: true, global: false };
const TRIM_RATE: Kind =
    Kind { name: "trim_rate", range: (0.0, 1.0), low: 0.0, high: 1.0, shared: false, global: false };
const SCALE: Kind =
    Kind { name: "scale", range: (-100.0, 100.0), low: 0.0, high: 2.0, shared: true, global: true };
const WEIGHT: Kind =
    Kind { name: "weight", range: (-100.0, 100.0), low: 0.0, high: 1.0, shared: false, global: false };

#[derive(Clone, Copy, Debug)]
enum Setting {
    Fixed(f64),
    Between(f64, f64),
}

/// Reads `[parameters]` for the named sources. Faults are noted in the section.
pub(super) fn read(section: &Section<'_>, sources: &[String]) -> Space {
    let mut parameters = Vec::new();
    let drop_rate = read_kind(section, &DROP_RATE, sources, &mut parameters);
    let trim_rate = read_kind(section, &TRIM_RATE, sources, &mut parameters);
    let scale = read_kind(section, &SCALE, &["*".into()], &mut parameters)[0];
    let weight = read_kind(section, &WEIGHT, sources, &mut parameters);
    let of_source =
        |i: usize| SourceCoefficients { weight: weight[i], drop_rate: drop_rate[i], trim_rate: trim_rate[i] };
    let sources = (0..sources.len()).map(of_source).collect();
    Space { parameters, scale, sources }
}

/// One coefficient per source. A global kind has a single nameless one.
fn read_kind(
    section: &Section<'_>,
    kind: &Kind,
    sources: &[String],
    parameters: &mut Vec<Parameter>,
) -> Vec<Coefficient> {
    let global = kind.global;
    let mut shared = kind.shared;
    let mut setting = Setting::Between(kind.low, kind.high);
    let mut own: Vec<Option<Setting>> = vec![None; sources.len()];
    if let Some(Value::Table(_)) = section.get(kind.name).map(|n| &n.value) {
        let table = section.section(kind.name);
        setting = between(&table, kind);
        if !global {
            shared = table.boolean("shared").unwrap_or(kind.shared);
            let overrides = table.section("sources");
            for name in overrides.keys().filter(|k| !sources.iter().any(|s| s == k)) {
                overrides.note(Some(name), "no such source", format!("sources are {}", sources.join(", ")));
            }
            for (name, own) in sources.iter().zip(&mut own) {
                *own = overrides.has(name).then(|| read_setting(&overrides, name, kind));
            }
        }
        table.finish();
    } else if section.has(kind.name) {
        setting = read_setting(section, kind.name, kind);
    }

    let mut shared_coefficient = None;
    let mut coefficient = |own: Option<Setting>, source: Option<&String>| {
        let is_shared = own.is_none() && (shared || global);
        match (own.unwrap_or(setting), shared_coefficient) {
            (Setting::Fixed(v), _) => Coefficient::Fixed(v),
            (Setting::Between(..), Some(known)) if is_shared => known,
            (Setting::Between(low, high), _) => {
                let name = match source {
                    Some(s) if !is_shared => format!("{}.{s}", kind.name),
                    _ => kind.name.to_string(),
                };
                parameters.push(Parameter { name, low, high });
                let new = Coefficient::Searched(parameters.len() - 1);
                if is_shared {
                    shared_coefficient = Some(new);
                }
                new
            }
        }
    };
    sources.iter().zip(own).map(|(s, own)| coefficient(own, Some(s))).collect()
}

/// A number (fixed) or a table with bounds.
fn read_setting(section: &Section<'_>, key: &str, kind: &Kind) -> Setting {
    if let Some(Value::Table(_)) = section.get(key).map(|n| &n.value) {
        let table = section.section(key);
        let setting = between(&table, kind);
        table.finish();
        return setting;
    }
    let fixed = section.number(key, kind.range.0..=kind.range.1, "0.5 (fixed), or { low = 0.0, high = 1.0 }");
    Setting::Fixed(fixed.unwrap_or(kind.low))
}

fn between(table: &Section<'_>, kind: &Kind) -> Setting {
    let range = kind.range.0..=kind.range.1;
    let low = table.number("low", range.clone(), "0.0").unwrap_or(kind.low);
    let high = table.number("high", range, "1.0").unwrap_or(kind.high);
    if low >= high {
        let remedy = "give low < high, or one plain number to fix it";
        table.note(None, format!("low = {low} is not below high = {high}"), remedy);
    }
    Setting::Between(low, high)
}
