use super::super::{Faults, Redo, RunFile, RunPlan, parse};
use super::*;
use std::path::Path;

const RUN: &str = r#"
name = "t"
models = { base = "b", vlm = "v", sources = [{ name = "a", model = "a" }] }
search = { evaluations = 5 }
dataset = { file = "d.jsonl" }
"#;

fn parsed(more: &str) -> Result<RunPlan, Faults> {
    let text = format!("{RUN}{more}");
    let metrics = ["rouge_l", "term_f1"];
    parse(&RunFile {
        name: "t.toml",
        text: &text,
        folder: Path::new("/runs"),
        overrides: &[],
        metrics: &metrics,
    })
}

#[test]
fn a_metrics_script_is_pinned_and_its_scores_are_metrics() {
    let plan = parsed(
        "prompt = { task = \"t\" }\nfitness = { style_calm = 1.0, rouge_l = 0.5, tokens = -0.001 }\n\
         [scoring.external.style]\ncommand = [\"python3\", \"m.py\", \"--fast\"]\nfiles = [\"m.py\", \"words.txt\"]\n\
         scores = [\"calm\", \"terse\"]\n",
    )
    .unwrap();
    let style = &plan.scoring.external["style"];
    assert_eq!(style.program.command, ["python3", "/runs/m.py", "--fast"]);
    assert_eq!(style.program.files, ["/runs/m.py", "/runs/words.txt"]);
    assert_eq!((style.per, style.program.timeout_seconds), (Per::Report, 30.0));
    assert_eq!(style.metrics("style"), ["style_calm", "style_terse"]);
    assert_eq!(RunPlan::from_json(&plan.to_json()).unwrap(), plan);
    assert_eq!(plan.programs()[0].0, "external/style");
}

#[test]
fn candidates_are_one_piece_where_something_looks_at_all_their_reports() {
    let own = "[evaluator]\ncommand = [\"./e\"]\nscores = [\"accuracy\"]\n";
    let metric = |per| {
        format!("prompt = {{ task = \"t\" }}\n[scoring.external.x]\ncommand = [\"./m\"]\nper = \"{per}\"\n")
    };
    for (more, whole) in [(metric("report"), false), (metric("candidate"), true), (own.to_string(), true)] {
        let mut plan = parsed(&more).unwrap();
        (plan.generation.batch_size, plan.scheduling.redo) = (2, Redo::Sample);
        plan.samples = (0..5).map(|i| i.to_string()).collect();
        let ends: Vec<_> = (0..plan.batches()).map(|b| plan.batch(b).end).collect();
        let (expected, redo) = if whole { (&[5][..], Redo::Batch) } else { (&[2, 4, 5][..], Redo::Sample) };
        assert_eq!((plan.is_whole(), &ends[..], plan.redo()), (whole, expected, redo), "{more}");
    }
}

#[test]
fn formats_do_not_show_what_is_not_used() {
    let json = parsed("prompt = { task = \"t\" }\n").unwrap().to_json();
    for later in ["external", "evaluator", "objectives", "validation", "finalists"] {
        assert!(!json.contains(later), "{later} left a trace in {json}");
    }
}

#[test]
fn what_could_not_be_run_or_pinned_is_refused() {
    for (external, expected) in [
        (
            "command = [\"python3\", \"m.py\"]",
            "scoring.external.x.files: missing: workers could run different",
        ),
        ("command = []\nfiles = []", "scoring.external.x.command: names no program"),
        ("command = \"python3 m.py\"", "expected an array of strings, found a string"),
        ("command = [\"./m\"]\ntimeout_seconds = 0", "scoring.external.x.timeout_seconds: 0 is not from"),
        ("command = [\"./m\"]\nfiles = [\"a/m\"]", "two files of one name"),
        ("command = [\"./m\"]\nenvironment = [\"A=b\"]", "names no variable"),
        ("command = [\"./m\"]\nscores = [\"a\", \"a\"]", "\"a\" cannot name a score"),
        ("command = [\"./m\"]\nper = \"run\"", "choose one of \"report\", \"candidate\""),
        ("command = [\"./m\"]\nshell = true", "scoring.external.x.shell: unknown key"),
    ] {
        let e =
            parsed(&format!("prompt = {{ task = \"t\" }}\n[scoring.external.x]\n{external}\n")).unwrap_err();
        assert!(e.to_string().contains(expected), "{expected:?} is not in:\n{e}");
    }
    let taken = parsed(
        "prompt = { task = \"t\" }\n[scoring.external.rouge]\ncommand = [\"./m\"]\nscores = [\"l\"]\n",
    );
    assert!(taken.unwrap_err().to_string().contains("there is a metric \"rouge_l\" already"));
}

#[test]
fn an_evaluator_needs_no_prompt_images_or_references() {
    let evaluator = "[evaluator]\ncommand = [\"sh\", \"e.sh\"]\nfiles = [\"e.sh\"]\n";
    let plan = parsed(&format!("{evaluator}scores = [\"accuracy\"]\n")).unwrap();
    assert_eq!(plan.objective.weights["accuracy"], 1.0);
    assert_eq!((plan.dataset.columns.image.as_str(), plan.task.as_str()), ("", ""));
    assert_eq!(plan.evaluator.as_ref().unwrap().gets, Given::Recipe);
    assert_eq!(RunPlan::from_json(&plan.to_json()).unwrap(), plan);
    let several = parsed(&format!("{evaluator}scores = [\"a\", \"b\"]\n")).unwrap_err().to_string();
    assert!(several.contains("add [fitness] with the weight of each"), "{several}");
    let foreign = parsed(&format!("fitness = {{ rouge_l = 1 }}\n{evaluator}scores = [\"a\"]\n"));
    assert!(foreign.unwrap_err().to_string().contains("fitness.rouge_l: no such metric (did you mean a?"));
    let none = parsed(evaluator).unwrap_err().to_string();
    assert!(none.contains("evaluator.scores: names no score"), "{none}");
    let images = crate::dataset::references("{\"id\":\"q1\"}\n{\"id\":2}\n", &plan.dataset).unwrap();
    assert_eq!(images.iter().map(|r| r.id.as_str()).collect::<Vec<_>>(), ["q1", "2"]);
    let csv = super::super::DatasetPlan { file: "d.csv".into(), ..plan.dataset.clone() };
    assert_eq!(crate::dataset::references("id,more\nq1,x\n", &csv).unwrap()[0].image, "");
}

#[test]
fn finalists_need_samples_of_their_own() {
    let e = parsed("prompt = { task = \"t\" }\nfinalists = { count = 3 }\n").unwrap_err().to_string();
    assert!(e.contains("there are no samples to choose the winner on"), "{e}");
    let plan =
        parsed("prompt = { task = \"t\" }\nvalidation = { file = \"v.jsonl\" }\nfinalists = { count = 3 }\n")
            .unwrap();
    assert_eq!(plan.finalists.as_ref().unwrap().count, 3);
    assert_eq!(plan.validation.as_ref().unwrap().file, "/runs/v.jsonl");
}

#[test]
fn objectives_are_metrics_and_costs() {
    let objectives = |text: &str| parsed(&format!("prompt = {{ task = \"t\" }}\nobjectives = {text}\n"));
    let plan = objectives("{ maximise = [\"fitness\", \"rouge_l\"], minimise = [\"tokens\"] }").unwrap();
    let names: Vec<&str> = plan.objectives.iter().map(|a| a.metric.as_str()).collect();
    assert_eq!(names, ["fitness", "rouge_l", "tokens"]);
    for (text, expected) in [
        ("{ maximise = [\"rouge\"] }", "\"rouge\": no such metric"),
        ("{ maximise = [\"tokens\"], minimise = [\"tokens\"] }", "stands twice"),
        ("{ maximise = [\"rouge_l\"] }", "a single objective"),
    ] {
        let e = objectives(text).unwrap_err().to_string();
        assert!(e.contains(expected), "{e}");
    }
}
