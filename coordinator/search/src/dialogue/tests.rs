use super::*;
use common::run::ALGORITHMS;
use common::run::study::parse;

const SPACE: &str = r#"
seed = 3
start = [ { x = 0.25, k = 2 } ]
[search]
algorithm = "tpe"
evaluations = 60
[space]
x = { low = -1.0, high = 3.0 }
k = { low = 1, high = 5, integer = true }
note = "fixed"
"#;

fn study(overrides: &[&str], minimize: bool) -> Study {
    let overrides: Vec<String> = overrides.iter().map(|s| s.to_string()).collect();
    Study::new(parse("space.toml", SPACE, &overrides, minimize).unwrap())
}

fn say(dialogue: &mut Dialogue, line: &str) -> Value {
    serde_json::from_str(&dialogue.answer(line).expect("an answer").text).unwrap()
}

/// Smallest at x = 1, k = 4.
fn cost(point: &Value) -> f64 {
    (point["x"].as_f64().unwrap() - 1.0).powi(2) + (point["k"].as_f64().unwrap() - 4.0).abs()
}

fn run(dialogue: &mut Dialogue, sign: f64, steps: usize) -> Vec<Value> {
    let mut points = Vec::new();
    for _ in 0..steps {
        let asked = say(dialogue, r#"{"do": "ask"}"#)["asked"][0].clone();
        let value = sign * cost(&asked["point"]);
        points.push(asked["point"].clone());
        say(dialogue, &json!({"do": "tell", "id": asked["id"], "value": value}).to_string());
    }
    points
}

#[test]
fn both_directions_find_the_same_point_and_say_which_they_are() {
    let (mut down, mut up) = (Dialogue::new(study(&[], true)), Dialogue::new(study(&[], false)));
    assert_eq!(run(&mut down, 1.0, 60), run(&mut up, -1.0, 60), "only the sign differs");
    let (down, up) = (say(&mut down, r#"{"do":"best"}"#), say(&mut up, r#"{"do":"best"}"#));
    assert_eq!(
        (&down["objectives"]["value"], &up["objectives"]["value"]),
        (&json!("minimize"), &json!("maximize"))
    );
    assert_eq!(down["best"]["point"], up["best"]["point"]);
    assert!(cost(&down["best"]["point"]) < 0.05, "{down}");
    assert_eq!(down["best"]["value"].as_f64(), up["best"]["value"].as_f64().map(|v| -v));
    assert_eq!(down["best"]["point"]["note"], "fixed");
    assert!(down["stop"].as_str().unwrap().contains("budget of 60"), "{down}");
}

#[test]
fn starting_points_come_first_and_more_can_be_put_in() {
    let mut d = Dialogue::new(study(&[], false));
    let first = say(&mut d, r#"{"do":"ask"}"#);
    assert_eq!(first["asked"][0], json!({"id": 1, "point": {"x": 0.25, "k": 2, "note": "fixed"}}));
    let put = say(&mut d, r#"{"do":"start","point":{"x":3,"k":5.0,"note":"fixed"}}"#);
    assert_eq!(put["waiting"], 1);
    assert_eq!(
        say(&mut d, r#"{"do":"ask"}"#)["asked"][0]["point"],
        json!({"x": 3.0, "k": 5, "note": "fixed"})
    );
}

#[test]
fn results_come_in_any_order_failed_censored_or_unasked() {
    let mut d = Dialogue::new(study(&["search.evaluations=5"], true));
    assert_eq!(say(&mut d, r#"{"do":"ask","count":3}"#)["asked"].as_array().unwrap().len(), 3);
    say(&mut d, r#"{"do":"tell","id":3,"failed":true}"#);
    assert_eq!(say(&mut d, r#"{"do":"tell","id":1,"censored":0.01}"#)["best"], Value::Null);
    let told = say(&mut d, r#"{"do":"tell","point":{"x":1,"k":1},"value":7}"#);
    assert_eq!((&told["id"], &told["best"]["value"]), (&json!(4), &json!(7.0)));
    let status = say(&mut d, r#"{"do":"status"}"#);
    assert_eq!((&status["told"], &status["failed"]), (&json!(3), &json!(1)));
    assert_eq!(status["outstanding"][0]["id"], 2);
    // One is under way and four are known: one is left of five.
    assert_eq!(say(&mut d, r#"{"do":"ask","count":9}"#)["asked"].as_array().unwrap().len(), 1);
}

#[test]
fn what_is_wrong_is_named_with_its_remedy_and_the_dialogue_goes_on() {
    let mut d = Dialogue::new(study(&[], false));
    say(&mut d, r#"{"do":"ask","count":2}"#);
    say(&mut d, r#"{"do":"tell","id":1,"value":1}"#);
    let cases = [
        ("ask", "", "not JSON"),
        ("[1]", "", "expected a table, found an array"),
        (r#"{"id":2,"value":NaN}"#, "", "say that it failed"),
        (r#"{"id":2,"value":1}"#, "do", "missing"),
        (r#"{"do":"akk"}"#, "do", "\"ask\""),
        (r#"{"do":"ask","conut":2}"#, "conut", "did you mean count?"),
        (r#"{"do":"ask","count":0}"#, "count", "not from 1 to 10000"),
        (r#"{"do":"tell","id":1,"value":1}"#, "id", "told already"),
        (r#"{"do":"tell","id":9,"value":1}"#, "id", "never asked for"),
        (r#"{"do":"tell","id":2}"#, "value", "no result"),
        (r#"{"do":"tell","id":2,"value":1,"failed":true}"#, "value", "more than one"),
        (r#"{"do":"tell","id":2,"value":"1"}"#, "value", "expected a number, found a string"),
        (r#"{"do":"tell","id":2,"value":null}"#, "value", "found null"),
        (r#"{"do":"tell","id":2,"value":1e999}"#, "", "not JSON"),
        (r#"{"do":"tell","id":2,"failed":false}"#, "failed", "false is no result"),
        (r#"{"do":"tell","value":1}"#, "id", "missing"),
        (r#"{"do":"tell","point":{"x":9,"k":2},"value":1}"#, "point.x", "a number from -1 to 3"),
        (r#"{"do":"tell","point":{"x":1,"k":2.5},"value":1}"#, "point.k", "an integer from 1 to 5"),
        (r#"{"do":"tell","point":{"x":1,"k":1,"y":1},"value":1}"#, "point.y", "unknown key"),
        (r#"{"do":"start","point":{"x":1}}"#, "point.k", "missing"),
    ];
    for (i, (line, field, expected)) in cases.iter().enumerate() {
        let answer = say(&mut d, line);
        assert_eq!(answer["line"], 3 + i, "{answer}");
        let error = &answer["errors"][0];
        assert_eq!(error["field"], *field, "{line}: {answer}");
        assert!(error.to_string().replace('\\', "").contains(expected), "{expected:?} not in {answer}");
        assert!(!error["remedy"].as_str().unwrap().is_empty());
    }
    assert_eq!(d.answer("  "), None);
    assert_eq!(say(&mut d, r#"{"do":"tell","id":2,"value":1}"#)["told"], 2);
}

/// Found by fuzzing: bounds that change places in a state file end in a panic. What was changed is not gone on from.
#[test]
fn a_state_file_that_was_changed_is_refused_and_one_without_digest_is_read() {
    let mut d = Dialogue::new(Study::new(parse("space.toml", SPACE, &[], true).unwrap()));
    say(&mut d, r#"{"do":"ask","count":2}"#);
    let text = d.study().save().to_text();
    assert_eq!(Saved::from_text(&text), Ok(d.study().save()));
    for at in 0..text.trim_end().len() {
        let mut bytes = text.clone().into_bytes();
        bytes[at] = if bytes[at] == b'1' { b'2' } else { b'1' };
        let changed = Saved::from_text(std::str::from_utf8(&bytes).unwrap());
        assert!(matches!(changed, Err(StudyError::Changed | StudyError::Form(_))), "byte {at}: {changed:?}");
        assert!(Saved::from_text(&text[..at]).is_err(), "cut at {at}");
    }
    let earlier = serde_json::to_string(&d.study().save()).unwrap();
    assert_eq!(Saved::from_text(&earlier), Ok(d.study().save()));
}

#[test]
fn a_saved_study_goes_on_exactly_and_with_any_other_algorithm() {
    for (name, _) in ALGORITHMS {
        let plan = |algorithm: &str| {
            let set = ["search.evaluations=90".into(), format!("search.algorithm={algorithm}")];
            parse("space.toml", SPACE, &set, true).unwrap()
        };
        let mut d = Dialogue::new(Study::new(plan(name)));
        run(&mut d, 1.0, 25);
        say(&mut d, r#"{"do":"ask","count":2}"#);
        let saved = Saved::from_text(&d.study().save().to_text()).unwrap();
        let mut again = Dialogue::new(Study::restore(saved.clone(), None).unwrap());
        // A larger budget changes nothing but the budget.
        let mut more = plan(name);
        more.search.evaluations = 100;
        let mut more = Dialogue::new(Study::restore(saved.clone(), Some(more)).unwrap());
        let best = say(&mut d, r#"{"do":"best"}"#);
        assert_eq!(best, say(&mut again, r#"{"do":"best"}"#));
        assert_eq!(run(&mut d, 1.0, 15), run(&mut again, 1.0, 15), "{name}");
        assert_eq!(d.study().save(), again.study().save());
        if name != "de" {
            // Differential evolution shrinks by the budget.
            run(&mut more, 1.0, 15);
            assert_eq!(more.study().results(), d.study().results(), "{name}");
        }
        for (other, _) in ALGORITHMS {
            let mut next = Dialogue::new(Study::restore(saved.clone(), Some(plan(other))).unwrap());
            let told = say(&mut next, r#"{"do":"status"}"#);
            assert_eq!((&told["algorithm"], &told["told"]), (&json!(other), &json!(25)));
            assert_eq!(say(&mut next, r#"{"do":"best"}"#)["best"], best["best"]);
            run(&mut next, 1.0, 5);
        }
        let minimised = parse("space.toml", SPACE, &[], false).unwrap();
        let error = Study::restore(saved.clone(), Some(minimised)).unwrap_err();
        assert!(error.to_string().contains("direction"), "{error}");
        let narrower = parse("space.toml", &SPACE.replace("high = 3.0", "high = 2.0"), &[], true).unwrap();
        assert_eq!(Study::restore(saved, Some(narrower)).unwrap_err(), StudyError::Other("space"));
    }
}

#[test]
fn several_objectives_have_a_front_and_no_best() {
    let set = ["search.algorithm=nsga-ii", "objectives={ gain = \"maximize\", cost = \"minimize\" }"];
    let mut d = Dialogue::new(study(&set, false));
    assert_eq!(say(&mut d, r#"{"do":"best"}"#)["errors"][0]["remedy"], "ask for the front");
    for (x, gain, cost) in [(0, 1.0, 1.0), (1, 2.0, 2.0), (2, 1.0, 3.0)] {
        let values = json!({"do": "tell", "point": {"x": x, "k": 1}, "values": {"gain": gain, "cost": cost}});
        say(&mut d, &values.to_string());
    }
    let front = say(&mut d, r#"{"do":"front"}"#);
    assert_eq!(front["objectives"], json!({"gain": "maximize", "cost": "minimize"}));
    let values: Vec<&Value> = front["front"].as_array().unwrap().iter().map(|r| &r["values"]).collect();
    assert_eq!(values, [&json!({"gain": 1.0, "cost": 1.0}), &json!({"gain": 2.0, "cost": 2.0})]);
    let missing = say(&mut d, r#"{"do":"tell","point":{"x":1,"k":1},"values":{"gain":1}}"#);
    assert_eq!(missing["errors"][0]["field"], "values.cost");
    let missing = say(&mut d, r#"{"do":"tell","point":{"x":1,"k":1},"censored":1}"#);
    assert_eq!(missing["errors"][0]["field"], "censored");
}
