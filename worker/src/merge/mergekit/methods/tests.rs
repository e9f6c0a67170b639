//! What is refused, and inputs at the edges. Numbers are checked against mergekit in `tests/mergekit_golden.rs`.

use super::*;

fn set(values: &[(&str, f64)]) -> Parameters {
    values.iter().map(|(name, x)| (*name, Value::Float(*x))).collect()
}

/// Merges `tensors`, of which the first is the base where the method has one, with the same parameters for each.
fn run(
    method: Method,
    tensors: &[Vec<f32>],
    shape: &[usize],
    shared: &Parameters,
    own: &Parameters,
) -> Result<Vec<f32>> {
    let none = Parameters::default();
    let based = method.contract().base == Base::Required;
    let inputs: Vec<Input> = tensors
        .iter()
        .enumerate()
        .map(|(i, values)| Input {
            source: ["a", "b", "c", "d"][i],
            values: Values::float(values),
            parameters: if based && i == 0 { &none } else { own },
        })
        .collect();
    let base = based.then_some(0);
    let call = Call {
        tensor: "t",
        shape,
        compute: Compute::F32,
        inputs: &inputs,
        base,
        parameters: shared,
        seed: 1,
        threads: 1,
        spill: None,
    };
    merge(method, &call)
}

fn own(method: Method) -> Parameters {
    let weighted = method.parameters().iter().any(|p| p.name == "weight");
    set(if weighted { &[("weight", 0.5)] } else { &[] })
}

fn shared(method: Method) -> Parameters {
    set(if method == Method::Slerp { &[("t", 0.5)] } else { &[] })
}

fn least(method: Method) -> usize {
    let contract = method.contract();
    contract.non_base.unwrap_or(contract.min_inputs)
}

#[test]
fn names_lead_to_methods() {
    for method in Method::ALL {
        assert_eq!(method.name().parse(), Ok(method));
    }
    let error = "Ties".parse::<Method>().unwrap_err().to_string();
    assert!(error.contains("\"Ties\"") && error.contains("dare_ties"), "{error}");
}

#[test]
fn values_are_read_as_a_configuration_writes_them() {
    let parse = |name: &str, value: Value| {
        Method::Ties.parameters().iter().find(|p| p.name == name).unwrap().parse(&value)
    };
    assert_eq!(parse("lambda", Value::Text("1e-3".into())), Ok(Value::Float(1e-3)));
    assert_eq!(parse("lambda", Value::Bool(true)), Ok(Value::Float(1.0)));
    assert_eq!(parse("normalize", Value::Text("Yes".into())), Ok(Value::Bool(true)));
    assert_eq!(parse("normalize", Value::Int(0)), Ok(Value::Bool(false)));
    for (name, value) in [
        ("normalize", Value::Float(0.5)),
        ("normalize", Value::Text("maybe".into())),
        ("density", Value::Text("half".into())),
        ("density", Value::Float(f64::NAN)),
    ] {
        let error = parse(name, value).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
    }
}

#[test]
fn what_does_not_suit_the_method_is_refused() {
    let tensors = vec![vec![1.0; 6]; 4];
    let refused = |method: Method, count: usize, shared: &Parameters, own: &Parameters, says: &str| {
        let error = run(method, &tensors[..count], &[2, 3], shared, own).unwrap_err().to_string();
        assert!(error.contains(says), "{error:?} does not say {says:?}");
    };
    let none = Parameters::default();
    refused(Method::Linear, 2, &none, &none, "parameter weight is missing for a");
    refused(Method::Ties, 2, &none, &none, "parameter weight is missing for b");
    refused(Method::Slerp, 2, &none, &none, "parameter t is missing for the merge");
    refused(Method::Slerp, 3, &shared(Method::Slerp), &none, "exactly 2 models, one of them the base");
    refused(Method::ModelStock, 2, &none, &none, "at least 3 models");
    refused(Method::Nuslerp, 3, &none, &own(Method::Nuslerp), "2 models besides the base");
    refused(Method::Passthrough, 2, &none, &none, "1 models");
    refused(Method::Linear, 0, &none, &none, "at least 1 models");
    refused(
        Method::Ties,
        2,
        &set(&[("weight", 1.0)]),
        &own(Method::Ties),
        "the merge has no parameter \"weight\"",
    );
    refused(
        Method::Ties,
        2,
        &none,
        &set(&[("weight", 1.0), ("wieght", 1.0)]),
        "b has no parameter \"wieght\"",
    );
    refused(Method::ModelStock, 3, &none, &set(&[("x", 1.0)]), "it takes none");
    let epsilon = set(&[("weight", 1.0), ("density", 0.1), ("epsilon", 0.2)]);
    refused(Method::Della, 2, &none, &epsilon, "parameter epsilon: 0.2 will not do");
    let negative = set(&[("weight", 1.0), ("density", -0.1)]);
    refused(Method::DareTies, 2, &none, &negative, "parameter density: -0.1 will not do");
    refused(Method::Breadcrumbs, 2, &none, &negative, "parameter density: -0.1 will not do");

    let error = run(Method::Linear, &tensors, &[2, 4], &none, &own(Method::Linear)).unwrap_err().to_string();
    assert!(error.contains("a holds 6 elements, its shape [2, 4] has 8"), "{error}");
    let error = run(Method::Linear, &tensors, &[usize::MAX, 2], &none, &own(Method::Linear)).unwrap_err();
    assert!(matches!(error, MethodError::Elements { .. }));
}

#[test]
fn a_base_that_is_not_there_is_refused() {
    let (none, values) = (Parameters::default(), [1.0; 2]);
    let input = Input { source: "a", values: Values::float(&values), parameters: &none };
    for base in [None, Some(1), Some(usize::MAX)] {
        let call = Call {
            tensor: "t",
            shape: &[2],
            compute: Compute::F32,
            inputs: &[input],
            base,
            parameters: &none,
            seed: 0,
            threads: 1,
            spill: None,
        };
        assert!(matches!(merge(Method::Sce, &call), Err(MethodError::Inputs { .. })));
    }
}

#[test]
fn odd_numbers_and_shapes_do_no_harm() {
    let odd =
        [f32::NAN, f32::INFINITY, -0.0, f32::MAX, f32::MIN_POSITIVE / 2.0, -1.0, f32::NEG_INFINITY, 1e-30];
    for method in Method::ALL {
        for shape in
            [vec![], vec![0], vec![3, 0], vec![0, 3], vec![1], vec![8], vec![2, 4], vec![8, 1], vec![2, 2, 2]]
        {
            let elements: usize = shape.iter().product();
            let tensor = |shift: usize| (0..elements).map(|i| odd[(i + shift) % 8]).collect::<Vec<f32>>();
            let tensors: Vec<Vec<f32>> = (0..least(method).max(2)).map(tensor).collect();
            let tensors = if method == Method::Passthrough { &tensors[..1] } else { &tensors };
            let mut choices = vec![(shared(method), own(method))];
            let has = |name: &str| method.parameters().iter().any(|p| p.name == name);
            if has("density") {
                for density in [0.0, 0.5, 0.999, 1.0] {
                    let mut own = set(&[("weight", -0.5), ("density", density)]);
                    if has("epsilon") {
                        own.0.insert("epsilon".into(), Value::Float(0.0005));
                    }
                    choices.push((set(&[("rescale", 1.0)]), own));
                }
            }
            for flag in ["filter_wise", "nuslerp_row_wise"].into_iter().filter(|f| has(f)) {
                choices.push(([(flag, Value::Bool(true))].into_iter().collect(), own(method)));
            }
            if has("nuslerp_flatten") {
                choices.push((set(&[("nuslerp_flatten", 0.0)]), own(method)));
                choices.push((set(&[("nuslerp_flatten", 0.0), ("nuslerp_row_wise", 1.0)]), own(method)));
            }
            if has("select_topk") {
                choices.extend([0.0, 0.3].map(|k| (set(&[("select_topk", k)]), Parameters::default())));
            }
            for (shared, own) in choices {
                let merged = run(method, tensors, &shape, &shared, &own);
                assert_eq!(merged.unwrap().len(), elements, "{} {shape:?} {shared:?} {own:?}", method.name());
            }
        }
    }
}

#[test]
fn one_model_and_edge_densities() {
    let (base, model) = (vec![1.0, 2.0, 3.0, 4.0], vec![1.5, 2.0, 1.0, 8.0]);
    let tensors = [base.clone(), model.clone()];
    let with = |density: f64| set(&[("weight", 1.0), ("density", density)]);
    let none = Parameters::default();
    for method in Method::ALL.into_iter().filter(|m| m.parameters().iter().any(|p| p.name == "density")) {
        assert_eq!(run(method, &tensors, &[4], &none, &with(1.0)).unwrap(), model, "{}", method.name());
        // mergekit's task arithmetic has a density, which it ignores.
        let nothing = if method == Method::TaskArithmetic { &model } else { &base };
        assert_eq!(run(method, &tensors, &[4], &none, &with(0.0)).unwrap(), *nothing, "{}", method.name());
        // The base alone is itself.
        assert_eq!(run(method, &tensors[..1], &[4], &none, &none).unwrap(), base);
    }
    let one = set(&[("weight", 0.7)]);
    assert_eq!(run(Method::Linear, &tensors[1..], &[4], &none, &one).unwrap(), model);
    assert_eq!(run(Method::Passthrough, &tensors[1..], &[4], &none, &none).unwrap(), model);
    // Half of four elements: those that differ most.
    let trimmed = run(Method::Ties, &tensors, &[4], &none, &with(0.5)).unwrap();
    assert_eq!(trimmed, [1.0, 2.0, 1.0, 8.0]);
}

#[test]
fn masks_nest_and_do_not_depend_on_other_models() {
    let tensors = [vec![0.0; 5000], vec![1.0; 5000]];
    let shared = set(&[("rescale", 0.0)]);
    let kept = |density: f64| {
        let own = set(&[("weight", 1.0), ("density", density)]);
        run(Method::DareLinear, &tensors, &[50, 100], &shared, &own).unwrap()
    };
    let (few, many) = (kept(0.3), kept(0.6));
    assert!(few.iter().zip(&many).all(|(few, many)| few <= many));
    let share = many.iter().sum::<f32>() / 5000.0;
    assert!((share - 0.6).abs() < 0.03, "{share}");
}

#[test]
fn types_promote_as_torch_s() {
    use crate::checkpoint::Dtype::*;
    assert_eq!(Compute::promoted([Bf16, Bf16]), Some(Compute::Bf16));
    assert_eq!(Compute::promoted([F16]), Some(Compute::F16));
    assert_eq!(Compute::promoted([F16, Bf16]), Some(Compute::F32));
    assert_eq!(Compute::promoted([F16, F32, F16]), Some(Compute::F32));
    assert_eq!((Compute::promoted([]), Compute::promoted([F16, I64])), (None, None));
}
