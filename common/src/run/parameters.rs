//! The `[parameters]` section: which numbers of a merge are searched, shared, divided or fixed.

use super::division::Division;
use super::reader::Section;
use super::tree::Value;
use crate::group::{Along, Case};
use crate::recipe::Mask;
use crate::space::{Coefficient, Form, Origin, Parameter, SourceCoefficients, Space};
use std::collections::BTreeMap;

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

/// The largest seed that a searched number can be exactly.
const MOST_SEED: u64 = 1 << 53;
/// Searched parameters of a run: beyond it no search here would learn anything.
const MOST_PARAMETERS: usize = 4096;

/// What one number is.
#[derive(Clone, Debug)]
enum Setting {
    Fixed(f64),
    Between(f64, f64, Form),
}

/// What the file says of a kind, or of one source's.
#[derive(Clone, Debug)]
struct Wish {
    setting: Setting,
    division: Division,
    /// Groups that have a setting of their own, by name.
    groups: BTreeMap<String, Setting>,
}

impl Wish {
    fn whole(setting: Setting) -> Wish {
        Wish { setting, division: Division::default(), groups: BTreeMap::new() }
    }
}

/// Reads `[parameters]` for the named sources. Faults are noted in the section. `merge` is `[merge]`, which may fix what
/// is searched here.
pub(super) fn read(section: &Section<'_>, merge: &Section<'_>, sources: &[String]) -> Space {
    let mut parameters = Vec::new();
    let drop_rate = read_kind(section, &DROP_RATE, sources, &mut parameters);
    let trim_rate = read_kind(section, &TRIM_RATE, sources, &mut parameters);
    let scale = read_kind(section, &SCALE, &["*".into()], &mut parameters).remove(0);
    let weight = read_kind(section, &WEIGHT, sources, &mut parameters);
    let of_source = |((weight, drop_rate), trim_rate)| SourceCoefficients { weight, drop_rate, trim_rate };
    let sources = weight.into_iter().zip(drop_rate).zip(trim_rate).map(of_source).collect();
    let mask = read_mask(section, merge, &mut parameters);
    let mask_seed = read_mask_seed(section, merge, &mut parameters);
    if parameters.len() > MOST_PARAMETERS {
        let message = format!("{} searched parameters, more than {MOST_PARAMETERS}", parameters.len());
        section.note(None, message, "divide less finely, or fix some");
    }
    let mut names: Vec<&str> = parameters.iter().map(|p| p.name.as_str()).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|w| w[0] == w[1]) {
        section.note(None, format!("two parameters are called {}", twice[0]), "rename a source or a filter");
    }
    Space { parameters, scale, sources, mask, mask_seed }
}

/// One coefficient per source. A global kind has a single nameless one.
fn read_kind(
    section: &Section<'_>,
    kind: &Kind,
    sources: &[String],
    parameters: &mut Vec<Parameter>,
) -> Vec<Coefficient> {
    let mut shared = kind.shared;
    let mut wish = Wish::whole(Setting::Between(kind.low, kind.high, Form::Linear));
    let mut own: Vec<Option<Wish>> = vec![None; sources.len()];
    if let Some(Value::Table(_)) = section.get(kind.name).map(|n| &n.value) {
        let table = section.section(kind.name);
        wish = read_wish(&table, kind, &Wish::whole(wish.setting));
        if !kind.global {
            shared = table.boolean("shared").unwrap_or(kind.shared);
            let overrides = table.section("sources");
            for name in overrides.keys().filter(|k| !sources.iter().any(|s| s == k)) {
                overrides.note(Some(name), "no such source", format!("sources are {}", sources.join(", ")));
            }
            for (name, own) in sources.iter().zip(&mut own) {
                *own = overrides.has(name).then(|| read_own(&overrides, name, kind, &wish));
            }
        }
        table.finish();
    } else if section.has(kind.name) {
        wish = Wish::whole(read_setting(section, kind.name, kind));
    }

    let mut common: Option<Coefficient> = None;
    let mut coefficient = |own: Option<Wish>, source: &String| {
        let is_common = own.is_none() && (shared || kind.global);
        match (&common, own) {
            (Some(known), None) if is_common => known.clone(),
            (_, own) => {
                let prefix = if is_common { kind.name.into() } else { format!("{}.{source}", kind.name) };
                let new = build(own.as_ref().unwrap_or(&wish), &prefix, parameters);
                if is_common {
                    common = Some(new.clone());
                }
                new
            }
        }
    };
    sources.iter().zip(own).map(|(source, own)| coefficient(own, source)).collect()
}

/// Gives every group of a wish its number. `prefix` is what their parameters' names begin with.
fn build(wish: &Wish, prefix: &str, parameters: &mut Vec<Parameter>) -> Coefficient {
    let mut origin = |setting: &Setting, name: String| match setting {
        Setting::Fixed(v) => Origin::Fixed(*v),
        Setting::Between(low, high, form) => {
            parameters.push(Parameter { name, low: *low, high: *high, form: form.clone() });
            Origin::Searched(parameters.len() - 1)
        }
    };
    if wish.division.is_whole() {
        return origin(&wish.setting, prefix.into()).into();
    }
    let mut number = |names: Vec<String>| {
        let own = names.iter().find_map(|name| wish.groups.get(name));
        origin(own.unwrap_or(&wish.setting), format!("{prefix}.{}", names[0]))
    };
    let cases = wish.division.cells().into_iter().map(|cell| {
        let along = match cell.knots {
            None => Along::Value(number(cell.names(0))),
            Some(knots) => Along::Knots((0..knots as usize).map(|k| number(cell.names(k))).collect()),
        };
        Case { layers: cell.layers, filter: cell.filter, along }
    });
    Coefficient::Cases(cases.collect())
}

/// A kind's table, or a source's. How it is divided is as in `otherwise` where it does not say.
fn read_wish(table: &Section<'_>, kind: &Kind, otherwise: &Wish) -> Wish {
    let setting = read_between(table, kind);
    let division = Division::read(table, &otherwise.division);
    let inherits = !Division::is_in(table) && !table.has("groups");
    let mut wish = Wish { setting, division, groups: BTreeMap::new() };
    if inherits {
        wish.groups = otherwise.groups.clone();
        return wish;
    }
    let given = table.section("groups");
    let mut names: Vec<String> = Vec::new();
    for cell in wish.division.cells() {
        for knot in 0..cell.knots.unwrap_or(1) as usize {
            names.extend(cell.names(knot));
        }
    }
    for key in given.keys() {
        if names.iter().any(|n| n == key) {
            wish.groups.insert(key.into(), read_setting(&given, key, kind));
        } else if names.is_empty() {
            given.note(Some(key), "there are no groups", "divide with layers, filters or knots first");
        } else {
            let shown = names.iter().take(8).map(String::as_str).collect::<Vec<_>>().join(", ");
            let more = if names.len() > 8 { ", …" } else { "" };
            given.note(Some(key), "no such group", format!("groups are {shown}{more}"));
        }
    }
    wish
}

/// A source's own: a number (fixed, whatever the groups), or a table.
fn read_own(section: &Section<'_>, key: &str, kind: &Kind, otherwise: &Wish) -> Wish {
    if let Some(Value::Table(_)) = section.get(key).map(|n| &n.value) {
        let table = section.section(key);
        let wish = read_wish(&table, kind, otherwise);
        table.finish();
        return wish;
    }
    Wish::whole(read_setting(section, key, kind))
}

/// A number (fixed) or a table with bounds.
fn read_setting(section: &Section<'_>, key: &str, kind: &Kind) -> Setting {
    if let Some(Value::Table(_)) = section.get(key).map(|n| &n.value) {
        let table = section.section(key);
        let setting = read_between(&table, kind);
        table.finish();
        return setting;
    }
    let fixed = section.number(key, kind.range.0..=kind.range.1, "0.5 (fixed), or { low = 0.0, high = 1.0 }");
    Setting::Fixed(fixed.unwrap_or(kind.low))
}

/// The keys of a table that say what a number may be.
fn read_between(table: &Section<'_>, kind: &Kind) -> Setting {
    let range = || kind.range.0..=kind.range.1;
    let beside = |key: &str, others: &[&str]| {
        for other in others.iter().filter(|o| table.has(o)) {
            // Asked for, so that it is not called unknown as well.
            table.get(other);
            table.note(Some(other), format!("given beside {key}"), format!("keep {other} or {key}"));
        }
    };
    if table.has("value") {
        beside("value", &["low", "high", "log", "step", "choices"]);
        return Setting::Fixed(table.number("value", range(), "0.5").unwrap_or(kind.low));
    }
    if let Some(node) = table.get("choices") {
        beside("choices", &["low", "high", "log", "step"]);
        return read_choices(table, &node.value, kind);
    }
    let low = table.number("low", range(), "0.0").unwrap_or(kind.low);
    let high = table.number("high", range(), "1.0").unwrap_or(kind.high);
    let log = table.boolean("log").unwrap_or(false);
    let step = table.number("step", 1e-6..=100.0, "0.05");
    let form = match (log, step) {
        (true, step) => {
            if step.is_some() {
                table.note(
                    Some("step"),
                    "given beside log",
                    "list the values instead: choices = [0.01, 0.1, 1.0]",
                );
            }
            Form::Log
        }
        (false, Some(step)) => Form::Step(step),
        (false, None) => Form::Linear,
    };
    if low >= high {
        let remedy = "give low < high, or one plain number to fix it";
        table.note(None, format!("low = {low} is not below high = {high}"), remedy);
    } else if log && low <= 0.0 {
        table.note(None, format!("low = {low} on a log scale"), "give a low above zero, such as low = 0.01");
    } else if step.is_some_and(|s| s > high - low) {
        table.note(Some("step"), "larger than the interval", "give a smaller step, or choices = [...]");
    }
    Setting::Between(low, high, form)
}

fn read_choices(table: &Section<'_>, value: &Value, kind: &Kind) -> Setting {
    let example = "for example choices = [0.0, 0.5, 0.9]";
    let number = |v: &Value| match v {
        Value::Float(x) => Some(*x),
        Value::Integer(i) => Some(*i as f64),
        _ => None,
    };
    let Value::Array(items) = value else {
        table.note(Some("choices"), format!("expected a list, found {}", value.kind()), example);
        return Setting::Fixed(kind.low);
    };
    let numbers: Option<Vec<f64>> = items.iter().map(|n| number(&n.value)).collect();
    match numbers.as_deref() {
        Some(n @ [first, .., last]) if n.windows(2).all(|w| w[0] < w[1]) => {
            if let Some(out) = n.iter().find(|x| !(kind.range.0..=kind.range.1).contains(*x)) {
                let message = format!("{out} is not from {} to {}", kind.range.0, kind.range.1);
                table.note(Some("choices"), message, example);
            }
            Setting::Between(*first, *last, Form::Choices(n.to_vec()))
        }
        _ => {
            table.note(Some("choices"), "not two or more rising numbers", example);
            Setting::Fixed(kind.low)
        }
    }
}

/// `mask = ["independent", "shared"]`: which of them is searched.
fn read_mask(section: &Section<'_>, merge: &Section<'_>, parameters: &mut Vec<Parameter>) -> Option<usize> {
    let node = section.get("mask")?;
    let word = |v: &Value| match v {
        Value::String(s) => Mask::from_word(s).map(|_| s.clone()),
        _ => None,
    };
    let words: Option<Vec<String>> = match &node.value {
        Value::Array(items) => items.iter().map(|n| word(&n.value)).collect(),
        _ => None,
    };
    let Some(words) = words.filter(|w| w.len() == 2 && w[0] != w[1]) else {
        let remedy =
            "write mask = [\"independent\", \"shared\"] to search for it, or fix one of them in [merge]";
        section.note(Some("mask"), "not the two masks to choose from", remedy);
        return None;
    };
    note_twice(section, merge, "mask");
    let form = Form::Words(words);
    parameters.push(Parameter { name: "mask".into(), low: 0.0, high: 1.0, form });
    Some(parameters.len() - 1)
}

/// `mask_seed = { low = 1, high = 8 }`: which of the seeds is searched.
fn read_mask_seed(
    section: &Section<'_>,
    merge: &Section<'_>,
    parameters: &mut Vec<Parameter>,
) -> Option<usize> {
    let node = section.get("mask_seed")?;
    let Value::Table(_) = &node.value else {
        let remedy = "write mask_seed = { low = 1, high = 8 } to search for it, or fix it in [merge]";
        section.note(Some("mask_seed"), format!("expected a table, found {}", node.value.kind()), remedy);
        return None;
    };
    let table = section.section("mask_seed");
    let low = table.required_integer("low", 0..=MOST_SEED, "1");
    let high = table.required_integer("high", 0..=MOST_SEED, "8");
    table.finish();
    note_twice(section, merge, "mask_seed");
    let (low, high) = (low?, high?);
    if low >= high || high - low >= u64::from(crate::parameter::MOST_VALUES) {
        let message = format!("{low} to {high} are not seeds to choose from");
        section.note(Some("mask_seed"), message, "give low < high with at most 10000 seeds");
        return None;
    }
    let (low, high) = (low as f64, high as f64);
    parameters.push(Parameter { name: "mask_seed".into(), low, high, form: Form::Labels });
    Some(parameters.len() - 1)
}

fn note_twice(section: &Section<'_>, merge: &Section<'_>, key: &str) {
    if merge.has(key) {
        section.note(Some(key), format!("fixed by merge.{key}"), "remove one of the two");
    }
}
