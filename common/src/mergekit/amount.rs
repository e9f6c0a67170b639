//! A recipe's number as a parameter of mergekit, where mergekit can say it: a number, a gradient, or conditions by parts
//! of tensor names.
//!
//! Layers go into conditions by their names, so groups that depend on how many layers there are have no counterpart. A
//! gradient's ends are the first and the last layer; mergekit gives the last norm and the output matrix the value of the
//! first, so that they get conditions of their own.

use crate::amount::Amount;
use crate::group::{Along, Case, Filter, Layers};

/// What stands behind the layers of a Llama.
const BEHIND: [&str; 2] = ["model.norm.weight", "lm_head.weight"];
/// The norms of a Llama's layer.
const LAYER_NORMS: [&str; 2] = ["input_layernorm", "post_attention_layernorm"];

/// A number that every reader of YAML takes for one, and that reads back the same.
pub(super) fn number(x: f64) -> String {
    let text = format!("{x:?}");
    let Some((mantissa, exponent)) = text.split_once('e') else { return text };
    let point = if mantissa.contains('.') { "" } else { ".0" };
    let sign = if exponent.starts_with('-') { "" } else { "+" };
    format!("{mantissa}{point}e{sign}{exponent}")
}

/// The value of a parameter.
///
/// # Errors
/// In words, what mergekit cannot say.
pub(super) fn setting(amount: &Amount) -> Result<String, String> {
    let cases = match amount {
        Amount::Same(x) => return Ok(number(*x)),
        Amount::Cases(cases) => cases,
    };
    let mut conditions = Vec::new();
    for (i, case) in cases.iter().enumerate() {
        conditions.extend(condition(case, &cases[..i])?);
    }
    Ok(format!("[{}]", conditions.join(", ")))
}

fn condition(case: &Case<f64>, earlier: &[Case<f64>]) -> Result<Vec<String>, String> {
    let (value, behind) = match &case.along {
        Along::Value(x) => (number(*x), None),
        Along::Knots(knots) => {
            let gradient: Vec<String> = knots.iter().map(|x| number(*x)).collect();
            (format!("[{}]", gradient.join(", ")), knots.last().map(|x| number(*x)))
        }
    };
    let of = |filter: Option<&str>, value: &str| match filter {
        Some(filter) => format!("{{filter: {filter:?}, value: {value}}}"),
        None => format!("{{value: {value}}}"),
    };
    let mut found = Vec::new();
    if let Some(last) = behind {
        if case.layers.is_some() {
            return Err("it interpolates over some of the layers".into());
        }
        let fits = |name: &&&str| case.filter.as_ref().is_none_or(|f| f.fits(name));
        found.extend(BEHIND.iter().filter(fits).map(|name| of(Some(name), &last)));
    }
    match names(case, earlier)? {
        None => found.push(of(None, &value)),
        Some(parts) => found.extend(parts.iter().map(|part| of(Some(part), &value))),
    }
    Ok(found)
}

/// Parts of names of which one is in exactly the case's tensors, those of earlier cases aside; none for all.
fn names(case: &Case<f64>, earlier: &[Case<f64>]) -> Result<Option<Vec<String>>, String> {
    let parts = match &case.filter {
        None => None,
        Some(filter) => Some(match filter.parts() {
            Ok(parts) => parts.iter().map(|p| p.to_string()).collect::<Vec<_>>(),
            Err(pattern) => {
                let inner = pattern.strip_prefix('*').and_then(|p| p.strip_suffix('*'));
                let inner = inner.filter(|p| !p.contains('*'));
                vec![
                    inner
                        .ok_or_else(|| format!("its filters are parts of names, not patterns as {pattern}"))?
                        .into(),
                ]
            }
        }),
    };
    let (from, to) = match case.layers {
        None => return Ok(parts),
        Some(Layers::Part { .. }) => {
            return Err("it divides by numbered layers, and a recipe does not say how many there are".into());
        }
        Some(Layers::Range { from, to }) => (from, to),
    };
    let mut next = 0;
    for before in earlier.iter().filter(|c| c.filter == case.filter) {
        match before.layers {
            Some(Layers::Range { from, to: Some(to) }) if from == next => next = to + 1,
            _ => next = u32::MAX,
        }
    }
    if from != next {
        return Err("its conditions go by the order of the layers".into());
    }
    // All that the ranges before have left.
    let Some(to) = to else { return Ok(parts) };
    let inner: Vec<&str> = match &case.filter {
        None => vec![""],
        Some(Filter::Attention) => vec!["self_attn"],
        Some(Filter::Mlp) => vec!["mlp"],
        Some(Filter::Norms) => LAYER_NORMS.to_vec(),
        Some(filter) => return Err(format!("its filters cannot say {filter} of some layers")),
    };
    let layer = |l: u32| inner.iter().map(move |inner| format!("layers.{l}.{inner}"));
    let embedding = (from == 0 && case.filter.is_none()).then(|| "embed_tokens".to_string());
    Ok(Some(embedding.into_iter().chain((from..=to).flat_map(layer)).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::{Stack, interpolate};
    use crate::mergekit::{Scalar, parse};

    const LAYERS: u32 = 6;

    fn tensors() -> Vec<String> {
        let inner = [
            "self_attn.q_proj",
            "self_attn.o_proj",
            "mlp.up_proj",
            "input_layernorm",
            "post_attention_layernorm",
        ];
        let layer = |l| inner.map(|name| format!("model.layers.{l}.{name}.weight"));
        let outside = ["model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"].map(String::from);
        (0..LAYERS).flat_map(layer).chain(outside).collect()
    }

    /// mergekit's rules, as `setting.rs` restates them, give every tensor of a Llama what the recipe says.
    #[test]
    fn mergekit_reads_the_same_number_for_every_tensor() {
        let stack = Stack::new(LAYERS);
        for text in [
            "0.25",
            r#"[{"filter":"attention","value":0.1},{"filter":"norms","value":0.2},{"value":0.3}]"#,
            r#"[{"knots":[0.1,0.7,0.2]}]"#,
            r#"[{"filter":"mlp","knots":[0.1,0.7]},{"filter":"embeddings","value":1e-7},{"filter":"norms","knots":[0.5,0.9]},{"value":2.5}]"#,
            r#"[{"layers":"0-1","value":0.1},{"layers":"2","value":0.2},{"layers":"3-","value":0.3}]"#,
            r#"[{"filter":"attention","layers":"0-2","value":0.1},{"filter":"attention","layers":"3-","value":0.2},{"filter":"norms","layers":"0-2","value":0.3},{"filter":"norms","layers":"3-","value":0.4},{"filter":"*.up_*","value":0.5},{"value":0.6}]"#,
        ] {
            let amount: Amount = serde_json::from_str(text).unwrap();
            let yaml = format!(
                "merge_method: x\nmodels: [{{model: m}}]\nparameters: {{w: {}}}",
                setting(&amount).unwrap()
            );
            let parsed = parse("x", &yaml).unwrap().config;
            for tensor in tensors() {
                // As mergekit has it: 0 outside of the layers.
                let layer = tensor.split('.').nth(2).and_then(|l| l.parse::<f64>().ok());
                let t = layer.map_or(0.0, |l| l / f64::from(LAYERS - 1));
                let read = |x: &Scalar| Ok::<_, ()>(x.clone());
                let found = parsed.parameters["w"].evaluate(&tensor, t, &read).unwrap();
                let expected = amount.at(&tensor, &stack).unwrap().value;
                assert_eq!(found, Some(Scalar::Float(expected)), "{tensor} of {text}");
            }
        }
        assert_eq!(interpolate(&[0.1, 0.7, 0.2], 0.5), 0.7);
    }

    #[test]
    fn what_mergekit_cannot_say_is_told() {
        for (text, why) in [
            (r#"[{"layers":"1/2","value":0.1},{"value":0.2}]"#, "how many there are"),
            (r#"[{"layers":"3-","value":0.1},{"layers":"0-2","value":0.2}]"#, "order of the layers"),
            (r#"[{"filter":"a*b","value":0.1},{"value":0.2}]"#, "not patterns"),
            (r#"[{"layers":"0-2","knots":[0.1,0.2]},{"value":0.2}]"#, "interpolates over some"),
            (r#"[{"filter":"*.up_*","layers":"0-2","value":0.1},{"value":0.2}]"#, "of some layers"),
        ] {
            let e = setting(&serde_json::from_str(text).unwrap()).unwrap_err();
            assert!(e.contains(why), "{e}");
        }
    }
}
