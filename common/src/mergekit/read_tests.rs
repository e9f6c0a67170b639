use super::super::config::{TokenRow, TokenizerSource};
use super::*;

fn read(text: &str) -> Parsed {
    parse("merge.yml", text).unwrap()
}

fn refused(text: &str) -> String {
    parse("merge.yml", text).unwrap_err().to_string()
}

#[test]
fn models_with_settings_at_every_level() {
    let parsed = read(
        "models:
  - model: base
  - model: a/b@main
    parameters:
      density: [1, 0.7, 0.1]
      weight:
        - filter: mlp
          value: [0, 0.3]
        - value: 0.5
  - {model: {model: {path: ./c, revision: null}}, parameters: {weight: {value: 1}}}
merge_method: ties
base_model: base
parameters: {normalize: true, int8_mask: 'on', lambda: 1e-1}
dtype: torch.float16
out_dtype: bfloat16
tokenizer_source: union
chat_template: auto
",
    );
    assert_eq!(parsed.notes, []);
    let config = parsed.config;
    assert_eq!((config.dtype, config.out_dtype), (Some(FloatType::Float16), Some(FloatType::Bfloat16)));
    assert_eq!(config.tokenizer.as_ref().map(|t| &t.source), Some(&TokenizerSource::Union));
    let names: Vec<String> = config.models().iter().map(|m| m.to_string()).collect();
    assert_eq!(names, ["base", "a/b@main", "./c"]);
    let Inputs::Models(models) = &config.inputs else { panic!() };
    let density = vec![Scalar::Int(1), Scalar::Float(0.7), Scalar::Float(0.1)];
    assert_eq!(models[1].parameters["density"], Setting::Plain(Graded::Gradient(density)));
    let Setting::Conditional(weight) = &models[1].parameters["weight"] else { panic!() };
    assert_eq!((weight[0].filter.as_deref(), weight[1].filter.as_deref()), (Some("mlp"), None));
    assert!(matches!(&models[2].parameters["weight"], Setting::Conditional(c) if c.len() == 1));
    assert_eq!(config.parameters["lambda"], Setting::Plain(Graded::One(Scalar::Text("1e-1".into()))));
}

#[test]
fn slices_and_where_parameters_are_looked_for() {
    let parsed = read(
        "modules:
  default:
    parameters: {t: 3}
    slices:
      - sources:
          - {model: a, layer_range: [0, 4], parameters: {t: 1}}
          - {model: b, layer_range: [2, 6]}
        base_model: b
        parameters: {t: 2}
        residual_weight: 0.5
merge_method: slerp
base_model: a
parameters: {t: 4}
experts: 2
",
    );
    let notes: Vec<String> = parsed.notes.iter().map(|n| n.field.clone()).collect();
    assert_eq!(notes, ["modules.default.slices[0].residual_weight", "experts"]);
    let config = parsed.config;
    let Inputs::Slices(slices) = &config.inputs else { panic!() };
    assert_eq!(config.base_of(&slices[0]), Some(&ModelName::new("b")));
    let ts = |input: Option<&str>| -> Vec<Setting> {
        let input = input.map(ModelName::new);
        config.places(&slices[0], input.as_ref()).into_iter().filter_map(|s| s.get("t").cloned()).collect()
    };
    let plain = |i| Setting::Plain(Graded::One(Scalar::Int(i)));
    assert_eq!(ts(Some("a")), [plain(1), plain(2), plain(3), plain(4)]);
    assert_eq!(ts(Some("b")), [plain(2), plain(3), plain(4)]);
    assert_eq!(ts(None), [plain(2), plain(3), plain(4)]);
}

#[test]
fn tokenizer_in_full() {
    let parsed = read(
        "models: [{model: a}]
merge_method: linear
tokenizer:
  source: some/model
  pad_to_multiple_of: 64
  tokens:
    <x>: {source: a, force: true}
    <y>: {source: {kind: zero}}
    <z>: {source: {kind: model_token, model: a, token: y}}
    <w>: {source: {kind: model_token, model: a, token_id: 3}}
    <v>: {source: {model: a}}
",
    );
    let tokenizer = parsed.config.tokenizer.unwrap();
    let a = || ModelName::new("a");
    assert_eq!(tokenizer.source, TokenizerSource::Model(ModelName::new("some/model")));
    assert_eq!(tokenizer.pad_to_multiple_of, Some(64));
    let rows: Vec<Option<TokenRow>> = tokenizer.tokens.iter().map(|(_, t)| t.row.clone()).collect();
    let expected = [
        TokenRow::Model(a()),
        TokenRow::Zero,
        TokenRow::Token(a(), "y".into()),
        TokenRow::Row(a(), 3),
        TokenRow::Model(a()),
    ];
    assert_eq!(rows, expected.map(Some));
    assert!(tokenizer.tokens[0].1.force && !tokenizer.tokens[1].1.force);
}

#[test]
fn every_fault_is_told_with_its_line() {
    let faults = refused(
        "merge_method: ties
models:
  - model: a+lora
  - modle: b
dtype: float64
parameters: [1]
tokenizer: {pad_to_multiple_of: -1}
",
    );
    for expected in [
        "merge.yml:3: models[0].model: a+lora: what stands after + is a LoRA",
        "merge.yml:4: models[1].model: missing",
        "merge.yml:5: dtype: float64 is not supported here (choose float32, bfloat16 or float16)",
        "merge.yml:6: parameters: expected a mapping, found a list",
        "merge.yml:7: tokenizer.pad_to_multiple_of: not such a number",
    ] {
        assert!(faults.contains(expected), "{expected}\n{faults}");
    }
}

#[test]
fn what_mergekit_refuses_is_refused() {
    let of = |inputs: &str| refused(&format!("merge_method: linear\n{inputs}"));
    assert!(of("").contains("0 of models, slices and modules"));
    assert!(
        of("models: [{model: a}]\nslices: [{sources: [{model: a, layer_range: [0, 1]}]}]").contains("2 of")
    );
    assert!(of("models: []").contains("models: expected a list, found an empty one"));
    assert!(of("slices: [{sources: [{model: a, layer_range: [1, 1]}]}]").contains("not a range"));
    let uneven = "slices: [{sources: [{model: a, layer_range: [0, 1]}, {model: b, layer_range: [0, 2]}]}]";
    assert!(of(uneven).contains("a has 1 layers, b has 2"));
    assert!(of("modules: {text: {models: [{model: a}]}}").contains("modules.text: no such module"));
    assert!(of("models: [{model: a, parameters: {weight: null}}]").contains("expected a value"));
    assert!(of("models: [{model: a, parameters: {weight: [1, {value: 2}]}}]").contains("expected a value"));
    assert!(of("models: [{model: a@b@c}]").contains("not a model@revision"));
    assert!(of("models: [{model: 7}]").contains("expected a model, found a whole number"));
    assert!(refused("models: [{model: a}]").contains("merge_method: missing"));
    assert!(refused("- a").contains("expected a mapping, found a list"));
    let both = "models: [{model: a}]\ntokenizer_source: base\ntokenizer: {source: base}";
    assert!(of(both).contains("beside tokenizer_source"));
}

#[test]
fn a_misspelt_key_is_noted() {
    let parsed = read("merge_method: linear\nmodels: [{model: a, paramters: {weight: 1}}]\n");
    assert_eq!(parsed.notes[0].field, "models[0].paramters");
    assert_eq!(parsed.notes[0].remedy, "did you mean parameters?");
}
