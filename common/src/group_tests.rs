use super::*;

fn layers(text: &str) -> Layers {
    text.parse().unwrap()
}

fn filter(text: &str) -> Filter {
    Filter::try_from(text.to_string()).unwrap()
}

#[test]
fn layers_are_written_as_they_are_read() {
    for (text, name) in [("1/4", "layers_1_of_4"), ("0-7", "layers_0_7"), ("24-", "layers_24_on")] {
        assert_eq!((layers(text).to_string(), layers(text).name()), (text.to_string(), name.to_string()));
    }
    assert_eq!(layers("5"), Layers::Range { from: 5, to: Some(5) });
    for bad in ["", "-", "-3", "0/4", "5/4", "7-3", "a-b", "1/", "+1-2", "1-2-3", "4294967296"] {
        assert!(bad.parse::<Layers>().is_err(), "{bad}");
    }
}

#[test]
fn every_tensor_is_in_exactly_one_part() {
    for count in 1..=40 {
        let stack = Stack::new(count);
        let names = (0..count).map(|l| format!("model.layers.{l}.mlp.up_proj.weight"));
        let outside = ["model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"].map(String::from);
        for name in names.chain(outside) {
            for of in 1..=8 {
                let part = |part| Case {
                    layers: Some(Layers::Part { part, of }),
                    filter: None,
                    along: Along::Value(1.0),
                };
                assert_eq!(
                    (1..=of).filter(|p| part(*p).fits(&name, &stack)).count(),
                    1,
                    "{name} of {count} in {of}"
                );
            }
        }
    }
}

#[test]
fn what_stands_outside_counts_with_the_nearest_layer() {
    let stack = Stack::of(["model.layers.0.a", "model.layers.31.a", "model.norm.weight", "lm_head.weight"]);
    assert_eq!(stack.layers(), 32);
    let holds = |text: &str, name: &str| layers(text).holds(stack.place(name), stack.layers());
    assert!(holds("1/4", "model.embed_tokens.weight") && !holds("2/4", "model.embed_tokens.weight"));
    assert!(holds("4/4", "lm_head.weight") && holds("24-", "model.norm.weight"));
    assert!(!holds("24-31", "lm_head.weight"));
    assert!(holds("1/4", "model.layers.7.x") && holds("2/4", "model.layers.8.x"));
    // A third of 32 layers is 10.67 of them: 0 to 10, 11 to 21, 22 to 31.
    assert!(
        holds("1/3", "model.layers.10.x")
            && holds("2/3", "model.layers.11.x")
            && holds("3/3", "model.layers.22.x")
    );
    let position = |name: &str| stack.position(stack.place(name));
    assert_eq!((position("model.embed_tokens.weight"), position("model.layers.0.x")), (0.0, 0.0));
    assert_eq!((position("model.layers.31.x"), position("lm_head.weight")), (1.0, 1.0));
}

#[test]
fn filters_tell_a_llamas_tensors_apart() {
    let names = [
        ("model.layers.3.self_attn.q_proj.weight", "attention"),
        ("model.layers.3.mlp.gate_proj.weight", "mlp"),
        ("model.embed_tokens.weight", "embeddings"),
        ("lm_head.weight", "embeddings"),
        ("model.layers.3.post_attention_layernorm.weight", "norms"),
        ("model.norm.weight", "norms"),
    ];
    for (name, word) in names {
        for (other, filter) in Filter::WORDS {
            assert_eq!(filter.fits(name), other == word, "{name} {other}");
        }
    }
    assert_eq!(filter("*.q_proj.*").name(), "q_proj");
    assert_eq!(filter("model.layers.*.mlp.*").name(), "model.layers._.mlp");
    for (pattern, name, fits) in [
        ("*.q_proj.*", "a.q_proj.weight", true),
        ("*.q_proj.*", "a.k_proj.weight", false),
        ("a*b*c", "abc", true),
        ("a*b*c", "aXbYbc", true),
        ("a*b*c", "acb", false),
        ("*bias", "x.bias", true),
        ("*bias", "x.bias.more", false),
        ("ab*ba", "aba", false),
    ] {
        assert_eq!(filter(pattern).fits(name), fits, "{pattern} {name}");
    }
    for bad in ["atention", "", "*", "q proj*", ".*."] {
        assert!(Filter::try_from(bad.to_string()).is_err(), "{bad}");
    }
}

#[test]
fn cases_round_trip_and_refuse_what_they_do_not_know() {
    let text = r#"[{"layers":"1/4","filter":"attention","value":0.1},{"filter":"*.q_proj.*","knots":[0.1,0.30000000000000004]},{"value":1.0}]"#;
    let cases: Vec<Case<f64>> = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::to_string(&cases).unwrap(), text);
    let stack = Stack::new(4);
    let at = |name: &str| find(&cases, name, &stack).unwrap().1;
    assert_eq!(at("model.layers.0.self_attn.q_proj.weight"), Group { case: 0, place: None });
    let knots = at("model.layers.1.self_attn.q_proj.weight");
    assert_eq!(knots, Group { case: 1, place: Some(Place::Layer(1)) });
    assert_eq!(at("lm_head.weight"), Group { case: 2, place: None });
    for bad in [
        r#"{"value":1.0,"knots":[1.0,2.0]}"#,
        r#"{"layers":"1/4"}"#,
        r#"{"knots":[1.0]}"#,
        r#"{"value":1.0,"valu":2.0}"#,
        r#"{"layers":"9/4","value":1.0}"#,
        r#"{"filter":"atention","value":1.0}"#,
    ] {
        assert!(serde_json::from_str::<Case<f64>>(bad).is_err(), "{bad}");
    }
}

#[test]
fn interpolates_between_knots() {
    let values = [0.0, 0.5, 0.2];
    for (t, expected) in [(0.0, 0.0), (0.25, 0.25), (0.5, 0.5), (0.75, 0.35), (1.0, 0.2)] {
        assert_eq!(interpolate(&values, t), expected, "{t}");
    }
    assert_eq!(interpolate(&[0.4], 1.0), 0.4);
}
