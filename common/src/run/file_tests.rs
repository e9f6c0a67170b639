use super::*;
use crate::genome::Genome;
use crate::run::Repetition;
use crate::run::SearchPlan;

const METRICS: [&str; 3] = ["rouge_l", "term_f1", "bleu_4"];

const GOOD: &str = r#"
name = "trial"
seed = 7

[models]
base = "models/base"
vlm = "../vlm"

[[models.sources]]
name = "japanese"
model = "models/japanese"

[[models.sources]]
name = "vlm"
model = "../vlm"
base = "models/instruct"

[search]
evaluations = 100

[dataset]
file = "data/samples.jsonl"
part = "所見"

[prompt]
task = "所見を書いてください。"
"#;

fn parse_with(text: &str, overrides: &[&str]) -> Result<RunPlan, Faults> {
    let overrides: Vec<String> = overrides.iter().map(|s| s.to_string()).collect();
    parse(&RunFile {
        name: "trial.toml",
        text,
        folder: Path::new("/data/runs"),
        overrides: &overrides,
        metrics: &METRICS,
    })
}

#[test]
fn fills_in_the_papers_defaults() {
    let plan = parse_with(GOOD, &[]).unwrap();
    let names: Vec<&str> = plan.space.parameters.iter().map(|p| p.name.as_str()).collect();
    let expected =
        ["drop_rate", "trim_rate.japanese", "trim_rate.vlm", "scale", "weight.japanese", "weight.vlm"];
    assert_eq!(names, expected);
    // Six parameters; a hundred evaluations are a small budget, but not to the paper's sampler.
    assert_eq!(plan.search.population, 4 + 2);
    let population = |changes: &[&str]| parse_with(GOOD, changes).unwrap().search.population;
    assert_eq!(population(&["search.constants=tutorial"]), 4 + 5);
    assert_eq!(population(&["search.evaluations=601"]), 4 + 5);
    assert_eq!(plan.models.vlm.path, "/data/vlm");
    assert_eq!(plan.dataset.images, "/data/runs/data");
    assert_eq!(plan.models.sources[1].base.as_ref().unwrap().name, "vlm.base");
    assert_eq!(plan.objective.weights["rouge_l"], 0.5);
    let json = plan.to_json();
    assert_eq!(RunPlan::from_json(&json).unwrap(), plan);
}

#[test]
fn decodes_a_genome_to_a_recipe() {
    let plan = parse_with(GOOD, &["parameters.scale=1.5", "parameters.weight.high=2.0"]).unwrap();
    let genome = Genome::new(vec![0.25, 0.5, 0.75, 0.5, 1.0]).unwrap();
    let recipe = plan.recipe(&genome);
    assert_eq!(recipe.scale, 1.5);
    let [first, second] = &recipe.sources[..] else { panic!() };
    assert!(first.drop_rate == 0.25 && second.drop_rate == 0.25);
    assert!(first.trim_rate == 0.5 && second.trim_rate == 0.75);
    assert!(first.weight == 1.0 && second.weight == 2.0);
}

#[test]
fn shares_fixes_and_overrides_per_source() {
    let text = format!(
        "{GOOD}\n[parameters]\ndrop_rate = 0.0\nweight = {{ low = 0.1, high = 0.9, shared = true, sources = {{ vlm = 1.0 }} }}\n"
    );
    let plan = parse_with(&text, &[]).unwrap();
    let names: Vec<&str> = plan.space.parameters.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(names, ["trim_rate.japanese", "trim_rate.vlm", "scale", "weight"]);
    let r = plan.recipe(&Genome::new(vec![0.5; 4]).unwrap());
    assert!(r.sources[0].weight == 0.5 && r.sources[1].weight == 1.0 && r.sources[0].drop_rate == 0.0);
}

fn names(plan: &RunPlan) -> Vec<&str> {
    plan.space.parameters.iter().map(|p| p.name.as_str()).collect()
}

const ALONE: [&str; 3] = ["parameters.drop_rate=0.0", "parameters.trim_rate=0.0", "parameters.scale=1.0"];

fn weights(setting: &str) -> Result<RunPlan, Faults> {
    let set = format!("parameters.weight={setting}");
    parse_with(GOOD, &[&ALONE[..], &[&set]].concat())
}

#[test]
fn numbers_are_divided_by_layers_and_filters() {
    let plan = weights(
        "{ layers = 2, filters = [\"attention\", \"embeddings\", \"rest\"], groups = { attention = 0.5, \"layers_2_of_2.attention\" = { high = 3.0 } }, sources = { vlm = { knots = 3, filters = [\"*.q_proj.*\", \"rest\"], groups = { knot_3_of_3 = 1.0 } } } }",
    )
    .unwrap();
    let expected = [
        "weight.japanese.layers_2_of_2.attention",
        "weight.japanese.embeddings",
        "weight.japanese.layers_1_of_2.rest",
        "weight.japanese.layers_2_of_2.rest",
        "weight.vlm.knot_1_of_3.q_proj",
        "weight.vlm.knot_2_of_3.q_proj",
        "weight.vlm.knot_1_of_3.rest",
        "weight.vlm.knot_2_of_3.rest",
    ];
    assert_eq!(names(&plan), expected);
    assert_eq!(plan.space.parameters[0].high, 3.0);
    assert_eq!(RunPlan::from_json(&plan.to_json()).unwrap(), plan);
    let recipe = plan.recipe(&Genome::new(vec![0.5, 0.25, 0.1, 0.2, 0.3, 0.4, 0.6, 0.7]).unwrap());
    let json = |i: usize| serde_json::to_string(&recipe.sources[i].weight).unwrap();
    assert_eq!(
        json(0),
        r#"[{"layers":"1/2","filter":"attention","value":0.5},{"layers":"2/2","filter":"attention","value":1.5},{"filter":"embeddings","value":0.25},{"layers":"1/2","value":0.1},{"layers":"2/2","value":0.2}]"#
    );
    assert_eq!(json(1), r#"[{"filter":"*.q_proj.*","knots":[0.3,0.4,1.0]},{"knots":[0.6,0.7,1.0]}]"#);
    recipe.check().unwrap();
    let shared = weights("{ shared = true, layers = [\"0-7\", \"8\", \"9-\"] }").unwrap();
    assert_eq!(names(&shared), ["weight.layers_0_7", "weight.layers_8_8", "weight.layers_9_on"]);
}

#[test]
fn numbers_may_be_logarithmic_stepped_or_chosen() {
    let plan = weights(
        "{ low = 0.01, log = true, sources = { japanese = { high = 1.0, step = 0.25 }, vlm = { choices = [0, 0.5, 2] } } }",
    )
    .unwrap();
    let recipe = plan.recipe(&Genome::new(vec![0.5, 0.5]).unwrap());
    assert!(recipe.sources[0].weight == 0.5 && recipe.sources[1].weight == 0.5);
    let plan = weights("{ low = 0.01, log = true, shared = true }").unwrap();
    assert_eq!(plan.recipe(&Genome::new(vec![1.0]).unwrap()).sources[0].weight, 1.0);
    let sets =
        ["parameters.mask=[\"shared\", \"independent\"]", "parameters.mask_seed={ low = 3, high = 6 }"];
    let plan = parse_with(GOOD, &[&ALONE[..], &["parameters.weight=1.0"], &sets].concat()).unwrap();
    assert_eq!(names(&plan), ["mask", "mask_seed"]);
    let recipe = plan.recipe(&Genome::new(vec![0.1, 0.8]).unwrap());
    assert_eq!((recipe.mask, recipe.mask_seed), (Mask::Shared, 6));
    assert_eq!(RunPlan::from_json(&plan.to_json()).unwrap(), plan);
    let plain = parse_with(GOOD, &[]).unwrap().to_json();
    for later in ["cases", "\"form\"", "\"mask\":null", "groups"] {
        assert!(!plain.contains(later), "{later} left a trace in {plain}");
    }
}

#[test]
fn divisions_are_checked() {
    for (setting, expected) in [
        ("{ layers = 1 }", "weight.layers: 1 is not from 2"),
        ("{ layers = 2, knots = 3 }", "weight.knots: given beside layers"),
        ("{ layers = [\"0-3\", \"5-\"] }", "leave layers out or share some"),
        ("{ layers = [\"0-3\", \"4-7\"] }", "end before the last layer"),
        ("{ layers = [\"1/4\"] }", "is no range of layers"),
        ("{ filters = [\"atention\", \"rest\"] }", "\"atention\" is no filter"),
        ("{ filters = [\"attention\"] }", "tensors are left out (add \"rest\""),
        ("{ filters = [\"rest\", \"mlp\"] }", "\"mlp\" stands behind \"rest\""),
        ("{ filters = [\"*.mlp.*\", \"mlp\", \"rest\"] }", "two filters are called mlp"),
        ("{ layers = 2, groups = { mlp = 1.0 } }", "weight.groups.mlp: no such group"),
        ("{ groups = { mlp = 1.0 } }", "there are no groups"),
        ("{ log = true }", "low = 0 on a log scale"),
        ("{ step = 3.0 }", "larger than the interval"),
        ("{ choices = [0.5, 0.1] }", "not two or more rising numbers"),
        ("{ value = 0.5, low = 0.1 }", "weight.low: given beside value"),
        ("{ layer = 2 }", "weight.layer: unknown key (did you mean layers?)"),
    ] {
        let e = weights(setting).unwrap_err().to_string();
        assert!(e.contains(expected), "{expected:?} is not in {e}");
    }
    for (sets, expected) in [
        (["parameters.mask=[\"shared\"]", "seed=1"], "not the two masks"),
        (["parameters.mask=[\"shared\", \"independent\"]", "merge.mask=shared"], "fixed by merge.mask"),
        (["parameters.mask_seed=3", "seed=1"], "expected a table"),
        (["parameters.mask_seed={ low = 3, high = 3 }", "seed=1"], "are not seeds to choose from"),
    ] {
        let e = parse_with(GOOD, &sets).unwrap_err().to_string();
        assert!(e.contains(expected), "{expected:?} is not in {e}");
    }
}

#[test]
fn reports_every_fault_at_once_with_its_line() {
    let text = "name = 3\n[models]\nbas = \"x\"\nvlm = \"v\"\n[search]\nevaluations = -4\npopulaton = 10\n\
                [dataset]\nfile = \"s.jsonl\"\n[fitness]\nrouge = 1.0\n[parameters]\nscale = { low = 2.0, high = 1.0 }\n\
                weight = { sources = { nobody = 1.0 } }\n";
    let faults = parse_with(text, &[]).unwrap_err();
    let message = faults.to_string();
    for expected in [
        "trial.toml:1: name: expected a string, found an integer",
        "trial.toml:2: models.base: missing",
        "trial.toml:3: models.bas: unknown key (did you mean base?)",
        "trial.toml:2: models: no sources",
        "trial.toml:6: search.evaluations: -4 is not from 1",
        "trial.toml:7: search.populaton: unknown key (did you mean population?)",
        "trial.toml:11: fitness.rouge: no such metric (did you mean rouge_l?",
        "trial.toml:13: parameters.scale: low = 2 is not below high = 1",
        "prompt.task: missing",
        "nobody: no such source",
    ] {
        assert!(message.contains(expected), "{expected:?} is not in:\n{message}");
    }
}

#[test]
fn a_syntax_error_has_its_line() {
    let e = parse_with("name = \"a\"\nseed = = 3\n", &[]).unwrap_err();
    assert_eq!(e.faults[0].line(), Some(2));
}

#[test]
fn overrides_are_checked_like_the_file() {
    assert_eq!(parse_with(GOOD, &["search.evaluations=40"]).unwrap().search.evaluations, 40);
    assert_eq!(
        parse_with(GOOD, &["models.sources.0.model=other"]).unwrap().models.sources[0].model.path,
        "/data/runs/other"
    );
    let e = parse_with(GOOD, &["search.evaluation=40"]).unwrap_err().to_string();
    assert!(e.starts_with("--set: search.evaluation: unknown key (did you mean evaluations?)"), "{e}");
    let e = parse_with(GOOD, &["nonsense"]).unwrap_err().to_string();
    assert!(e.contains("no `=`"), "{e}");
    let e = parse_with(GOOD, &["name.x=1"]).unwrap_err().to_string();
    assert!(e.contains("lies below a string"), "{e}");
}

#[test]
fn names_that_would_collide_are_refused() {
    let e = parse_with(GOOD, &["models.sources.0.name=vlm"]).unwrap_err().to_string();
    assert!(e.contains("\"vlm\""), "{e}");
    let e = parse_with(GOOD, &["models.sources.0.name=base"]).unwrap_err().to_string();
    assert!(e.contains("is taken"), "{e}");
}

/// They become parts of file names, of tables, of digests' names.
#[test]
fn names_are_no_paths() {
    for bad in ["../x", "/etc", "a/b", "a b", "a\\\\b", "x\\u0000", "..", "~"] {
        let source = GOOD.replace("name = \"japanese\"", &format!("name = \"{bad}\""));
        let refused = parse_with(&source, &[]).unwrap_err().to_string();
        assert!(refused.contains("models.sources") && refused.contains("plain name"), "{bad}: {refused}");
    }
    for bad in ["../x", "/etc/x", "a b"] {
        let refused = parse_with(&GOOD.replace("\"trial\"", &format!("\"{bad}\"")), &[]).unwrap_err();
        assert!(refused.to_string().contains("not a plain name"), "{bad}: {refused}");
    }
}

#[test]
fn storage_choices_reach_the_recipe() {
    let plain = parse_with(GOOD, &[]).unwrap();
    for later in ["rename", "vocabulary", "arithmetic", "split", "redo", "early_stop"] {
        assert!(!plain.to_json().contains(later), "{later} left a trace in {}", plain.to_json());
    }
    let sets = [
        "models.vlm_rename={ \"language_model.\" = \"\" }",
        "models.base_rename={ \"\" = \"model.\" }",
        "models.sources.0.rename={ \"llm.\" = \"\" }",
        "models.sources.0.vocabulary=align",
        "models.sources.1.base_rename={ \"x.\" = \"y.\" }",
        "merge.vocabulary=cut",
        "merge.arithmetic=float16",
    ];
    let plan = parse_with(GOOD, &sets).unwrap();
    assert_eq!(RunPlan::from_json(&plan.to_json()).unwrap(), plan);
    let recipe = plan.recipe(&Genome::new(vec![0.5; 6]).unwrap());
    let map = |from: &str, to: &str| BTreeMap::from([(from.to_string(), to.to_string())]);
    assert_eq!(recipe.base.rename, map("", "model."));
    assert_eq!(recipe.sources[0].model.rename, map("llm.", ""));
    assert_eq!(recipe.sources[1].model.rename, recipe.vlm.rename);
    assert_eq!(recipe.vlm.rename, map("language_model.", ""));
    assert_eq!(recipe.sources[1].base.as_ref().unwrap().rename, map("x.", "y."));
    assert_eq!((recipe.vocabulary, recipe.sources[0].vocabulary), (Vocabulary::Cut, Some(Vocabulary::Align)));
    assert_eq!((recipe.sources[1].vocabulary, recipe.arithmetic), (None, Arithmetic::Float16));
    assert_eq!(plan.authors_middle().vocabulary, Vocabulary::Cut);
}

#[test]
fn storage_choices_are_checked() {
    for (set, expected) in [
        ("models.sources.0.rename=llm", "models.sources[0].rename: expected a table, found a string"),
        ("models.sources.0.rename={ a = 3 }", "\"a\": expected a string, found an integer"),
        ("models.sources.0.rename={ a = \"a\" }", "stands for itself"),
        ("models.sources.0.base_rename={ a = \"b\" }", "given without base"),
        ("models.sources.1.rename={ a = \"b\" }", "cannot have two sets of names"),
        ("models.sources.0.vocabulary=trim", "choose one of \"refuse\", \"cut\", \"align\""),
        ("merge.arithmetic=half", "choose one of \"float32\", \"float16\""),
    ] {
        let e = parse_with(GOOD, &[set]).unwrap_err().to_string();
        assert!(e.contains(expected), "{e}");
    }
    let e =
        parse_with(GOOD, &["merge.convention=linear", "merge.arithmetic=float16"]).unwrap_err().to_string();
    assert!(e.contains("merge.arithmetic: \"float16\" beside another convention"), "{e}");
}

#[test]
fn models_may_be_on_a_hub() {
    let overrides = ["models.base=hf://meta-llama/Meta-Llama-3-8B", "models.sources.0.model=hf://a/b@v1/x"];
    let plan = parse_with(GOOD, &overrides).unwrap();
    assert_eq!(plan.models.base.path, "hf://meta-llama/Meta-Llama-3-8B@main");
    assert_eq!(plan.models.sources[0].model.path, "hf://a/b@v1/x");
    assert_eq!(RunPlan::from_json(&plan.to_json()).unwrap(), plan);
    let hostile = plan.to_json().replace("hf://a/b@v1/x", "hf://a/b@../x");
    assert!(RunPlan::from_json(&hostile).unwrap_err().contains("model japanese"));
}

#[test]
fn the_vlm_is_known_as_a_source_however_its_revision_is_written() {
    let overrides = ["models.vlm=hf://a/b@main", "models.sources.1.model=hf://a/b"];
    let plan = parse_with(GOOD, &overrides).unwrap();
    assert_eq!(plan.models.vlm.path, plan.models.sources[1].model.path);
}

#[test]
fn a_bad_reference_to_a_hub_has_its_line() {
    let text = GOOD.replace("model = \"models/japanese\"", "model = \"hf://japanese\"");
    let e = parse_with(&text, &["models.vlm=https://example.org/a/b"]).unwrap_err().to_string();
    assert!(
        e.contains("trial.toml:11: models.sources[0].model: \"hf://japanese\": the owner is missing"),
        "{e}"
    );
    assert!(e.contains("--set: models.vlm:") && e.contains("hf://owner/name@revision"), "{e}");
}

#[test]
fn a_frame_is_first_or_a_number() {
    assert_eq!(parse_with(GOOD, &[]).unwrap().dataset.frame, None);
    assert!(!parse_with(GOOD, &[]).unwrap().to_json().contains("frame"));
    for (value, frame) in [("\"first\"", 1), ("7", 7)] {
        let plan = parse_with(GOOD, &[&format!("dataset.frame={value}")]).unwrap();
        assert_eq!(plan.dataset.frame, Some(frame));
        assert_eq!(RunPlan::from_json(&plan.to_json()).unwrap(), plan);
    }
    for value in ["0", "\"last\"", "true"] {
        let faults = parse_with(GOOD, &[&format!("dataset.frame={value}")]).unwrap_err().to_string();
        assert!(faults.contains("dataset.frame"), "{faults}");
    }
}

#[test]
fn scheduling_keys_leave_no_trace_unless_used() {
    let plain = parse_with(GOOD, &[]).unwrap();
    for later in ["mode", "device_hours", "target_fitness", "stagnation", "audit", "audit_tolerance"] {
        assert!(
            !plain.to_json().contains(&format!("\"{later}\"")),
            "{later} left a trace in {}",
            plain.to_json()
        );
    }
    assert!(parse_with(GOOD, &["search.mode=generational"]).unwrap() == plain);
    let sets = [
        "search.mode=asynchronous",
        "search.device_hours=2.5",
        "search.target_fitness=0.6",
        "search.stagnation=70",
        "scheduling={ audit = 0.02, audit_tolerance = 0.1 }",
    ];
    let plan = parse_with(GOOD, &sets).unwrap();
    assert_eq!(RunPlan::from_json(&plan.to_json()).unwrap(), plan);
    assert_eq!(plan.search.mode, crate::run::Mode::Asynchronous);
    assert_eq!((plan.scheduling.audit, plan.scheduling.audit_tolerance), (0.02, 0.1));
    let hostile = plan.to_json().replace("\"audit\":0.02", "\"audit\":-1.0");
    assert!(RunPlan::from_json(&hostile).unwrap_err().contains("out of range"));
    let b = plan.search.budget();
    assert_eq!((b.device_hours, b.target_fitness, b.stagnation), (Some(2.5), Some(0.6), Some(70)));
    let e = parse_with(GOOD, &["search.mode=steady"]).unwrap_err().to_string();
    assert!(e.contains("choose one of \"generational\", \"asynchronous\""), "{e}");
    let e = parse_with(GOOD, &["search.stagnation=0"]).unwrap_err().to_string();
    assert!(e.contains("search.stagnation"), "{e}");
}

#[test]
fn the_papers_search_is_written_without_a_trace() {
    let paper = parse_with(GOOD, &["search.constants=tutorial"]).unwrap();
    let text = serde_json::to_string(&paper).unwrap();
    assert!(!text.contains("\"cma\""), "{text}");
    assert_eq!(serde_json::from_str::<RunPlan>(&text).unwrap(), paper);
    let plan = parse_with(GOOD, &["search.restarts=bipop", "search.bounds=transform"]).unwrap();
    let text = serde_json::to_string(&plan.search).unwrap();
    let wanted = r#""cma":{"bounds":"transform","constants":"pycma","restarts":"bipop"}"#;
    assert!(text.contains(wanted), "{text}");
    assert_eq!(serde_json::from_str::<SearchPlan>(&text).unwrap(), plan.search);
    let faults = parse_with(GOOD, &["search.covariance=separable", "search.learning_rate=adaptive"]);
    assert!(faults.unwrap_err().to_string().contains("full covariance"));
}

#[test]
fn early_stops_are_off_unless_asked_for_and_checked() {
    let plan = |sets: &[&str]| parse_with(GOOD, sets).unwrap();
    assert_eq!(plan(&["early_stop.repetition=false"]), plan(&[]));
    let all = plan(&["early_stop={ repetition = true, no_japanese_after = 24, hopeless = 0.99 }"]);
    let stop = all.early_stop.clone().unwrap();
    assert_eq!(stop.repetition, Some(Repetition { period: 32, repeats: 4 }));
    assert_eq!((stop.no_japanese_after, stop.hopeless), (Some(24), Some(0.99)));
    assert_eq!(RunPlan::from_json(&all.to_json()).unwrap(), all);
    let own = plan(&["early_stop.repetition={ period = 8 }"]).early_stop.unwrap();
    assert_eq!(own.repetition, Some(Repetition { period: 8, repeats: 4 }));
    for (set, expected) in [
        ("early_stop.hopeless=1.0", "1 is not from 0.5 to 0.999999"),
        ("early_stop.hopless=0.9", "did you mean hopeless?"),
        ("early_stop.repetition={ repeats = 1 }", "1 is not from 2"),
        ("scheduling.redo=all", "choose one of \"sample\", \"batch\""),
        ("scheduling.audit=2", "scheduling.audit: 2 is not from 0 to 1"),
        ("scheduling.split=3", "scheduling.split: expected true or false"),
    ] {
        let e = parse_with(GOOD, &[set]).unwrap_err().to_string();
        assert!(e.contains(expected), "{e}");
    }
    let hostile = all.to_json().replace("\"hopeless\":0.99", "\"hopeless\":7.5");
    assert!(RunPlan::from_json(&hostile).unwrap_err().contains("out of range"));
}

#[test]
fn batches_are_whole_but_the_last() {
    let mut plan = parse_with(GOOD, &["generation.batch_size=4"]).unwrap();
    plan.samples = (0..10).map(|i| i.to_string()).collect();
    let batches: Vec<_> = (0..plan.batches()).map(|b| plan.batch(b)).collect();
    assert_eq!(batches, [0..4, 4..8, 8..10]);
    assert_eq!(plan.batch(9), 10..10);
}
