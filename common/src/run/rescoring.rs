//! A plan with its scoring replaced: what a finished run's reports are scored with anew.

use super::fault::{Fault, Faults};
use super::plan::{RunPlan, ScoringPlan};
use super::reader::Section;
use super::scoring::{self, metric_names, read_fitness};
use super::{aims, external, file, tree};
use std::cell::RefCell;
use std::path::Path;

/// Where the new scoring comes from.
#[derive(Clone, Copy, Debug)]
pub struct Rescoring<'a> {
    /// A run file's name and text. Only its sections `[scoring]`, `[fitness]` and `[objectives]` are read; without one they
    /// are the plan's.
    pub file: Option<(&'a str, &'a str)>,
    /// Absolute folder that relative paths start from.
    pub folder: &'a Path,
    /// `key=value` laid over these sections.
    pub overrides: &'a [String],
    /// Metric names that are built in.
    pub metrics: &'a [&'a str],
}

/// The plan with another scoring, fitness and other objectives. Everything else is as it was.
///
/// # Errors
/// Every fault at once, as for a run file; an override of another section; a plan with an evaluator of its own, whose scores
/// are not made from reports.
pub fn rescoring(plan: &RunPlan, new: &Rescoring<'_>) -> Result<RunPlan, Faults> {
    let (name, text) = match new.file {
        Some((name, text)) => (name, text.to_string()),
        None => ("the run's plan", sections(plan)),
    };
    let refuse = |faults| Faults { file: name.to_string(), faults };
    if plan.evaluator.is_some() {
        let message = "the run's scores come from its evaluator, not from reports";
        return Err(refuse(vec![Fault::at("evaluator", message, "fork the run to change the fitness")]));
    }
    let mut root = tree::parse(&text).map_err(|f| refuse(vec![f]))?;
    let faults = RefCell::new(Vec::new());
    for assignment in new.overrides {
        let section = assignment.split(['.', '=']).next().unwrap_or_default().trim();
        if !["scoring", "fitness", "objectives"].contains(&section) {
            let message = "only [scoring], [fitness] and [objectives] can change without evaluating anew";
            faults.borrow_mut().push(Fault::at(assignment, message, "fork the run to change anything else"));
        } else if let Err(fault) = tree::lay_over(&mut root, assignment) {
            faults.borrow_mut().push(fault);
        }
    }
    let section = Section::new("", Some(&root), &faults);
    let path = |p: String| file::absolute(new.folder, &p);
    let scoring = scoring::read(&section.section("scoring"), &path, new.metrics);
    let metrics = metric_names(&scoring, None, new.metrics);
    let objective = read_fitness(&section.section("fitness"), &metrics, None);
    let objectives = aims::read(&section.section("objectives"), &metrics);
    let faults = faults.take();
    match faults.is_empty() {
        true => Ok(RunPlan { scoring, objective, objectives, ..plan.clone() }),
        false => Err(refuse(faults)),
    }
}

/// The three sections as a run file has them.
fn sections(plan: &RunPlan) -> String {
    let ScoringPlan { tokenizer, lexicon, extend_lexicon, absent_weight, nfkc, external } = &plan.scoring;
    let string = |s: &String| serde_json::to_string(s).expect("strings are JSON");
    let mut text = format!(
        "[scoring]\ntokenizer = {}\nabsent_weight = {absent_weight:?}\nnfkc = {nfkc}\n",
        string(tokenizer)
    );
    let lexicons = [("lexicon", lexicon), ("extend_lexicon", extend_lexicon)];
    for (key, path) in lexicons.into_iter().filter_map(|(k, p)| Some((k, p.as_ref()?))) {
        text += &format!("{key} = {}\n", string(path));
    }
    for (name, metric) in external {
        let per = match metric.per {
            external::Per::Report => "report",
            external::Per::Candidate => "candidate",
        };
        let scores = serde_json::to_string(&metric.scores).expect("strings are JSON");
        text += &format!("[scoring.external.{name}]\nper = \"{per}\"\nscores = {scores}\n");
        text += &external::as_toml(&metric.program);
    }
    text += "[fitness]\n";
    plan.objective.weights.iter().for_each(|(metric, weight)| text += &format!("{metric} = {weight:?}\n"));
    text + &aims::as_toml(&plan.objectives)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fitness::{Aim, Direction};

    const BUILT_IN: [&str; 3] = ["rouge_l", "term_f1", "bleu_4"];

    fn plan() -> RunPlan {
        let text = r#"
            name = "t"
            models = { base = "b", vlm = "v", sources = [{ name = "a", model = "a" }] }
            search = { evaluations = 5 }
            dataset = { file = "d.jsonl" }
            prompt = { task = "t" }
            fitness = { rouge_l = 1.0, style_calm = 0.25 }
            objectives = { maximise = ["rouge_l"], minimise = ["tokens"] }
            [scoring]
            extend_lexicon = "my \"words\".toml"
            external.style = { command = ["python3", "m.py", "-q"], files = ["m.py"], scores = ["calm", "terse"] }
        "#;
        let file = super::super::RunFile {
            name: "t.toml",
            text,
            folder: Path::new("/runs"),
            overrides: &[],
            metrics: &BUILT_IN,
        };
        super::super::parse(&file).unwrap_or_else(|e| panic!("{e}"))
    }

    fn with(file: Option<(&str, &str)>, overrides: &[&str]) -> Result<RunPlan, Faults> {
        let overrides: Vec<String> = overrides.iter().map(|s| s.to_string()).collect();
        rescoring(
            &plan(),
            &Rescoring { file, folder: Path::new("/new"), overrides: &overrides, metrics: &BUILT_IN },
        )
    }

    #[test]
    fn a_plan_read_back_from_its_own_sections_is_the_same() {
        assert_eq!(with(None, &[]).unwrap(), plan());
    }

    #[test]
    fn weights_lexicon_and_objectives_change_and_nothing_else_may() {
        let changed = with(None, &["fitness.bleu_4=0.5", "scoring.extend_lexicon=more.csv"]).unwrap();
        assert_eq!(changed.objective.weights["bleu_4"], 0.5);
        assert_eq!(changed.scoring.extend_lexicon.as_deref(), Some("/new/more.csv"));
        assert_eq!(changed.search, plan().search);
        let file = "name = 3\n[fitness]\nbleu_4 = 1\n[objectives]\nmaximise = [\"fitness\"]\nminimise = [\"length\"]";
        let changed = with(Some(("other.toml", file)), &[]).unwrap();
        assert!(changed.scoring.external.is_empty());
        let aim = |metric: &str, direction| Aim { metric: metric.into(), direction };
        let expected = [aim("fitness", Direction::Maximise), aim("length", Direction::Minimise)];
        assert_eq!(changed.objectives, expected);
        let e = with(None, &["search.evaluations=9", "fitness.blue_4=1"]).unwrap_err().to_string();
        assert!(e.contains("can change without evaluating anew") && e.contains("did you mean bleu_4"), "{e}");
    }
}
