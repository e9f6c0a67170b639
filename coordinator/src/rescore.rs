//! Reports that are kept, scored anew: no model runs, no image is read.
//!
//! [`rescored`] is the one function: an evaluation in, the same evaluation with other scores and its fitness out. What
//! becomes of it (a table, a file, another run's store) is its caller's affair.

use common::dataset::Reference;
use common::evaluation::{Evaluation, SampleResult};
use common::fitness::{EvaluationError, Fitness};
use common::run::{RunPlan, ScoringPlan};
use external::{Metrics, Row};
use rayon::prelude::*;
use score::term::LexiconChoice;
use score::{MetricSet, Scorer};
use std::collections::HashMap;
use std::path::Path;

/// Why something could not be scored anew.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Dictionary or lexicon.
    #[error(transparent)]
    Scorer(#[from] score::Error),
    /// A metric that is a command.
    #[error(transparent)]
    External(#[from] external::Fault),
    /// A report of a sample that the dataset does not have.
    #[error("sample {0} has a report but no reference; is this the dataset that the run was started with?")]
    Unknown(usize),
    /// The scores do not yield a fitness.
    #[error(transparent)]
    Fitness(#[from] EvaluationError),
}

/// Scorers and references, prepared once for all candidates.
pub struct Rescorer {
    scorer: Scorer,
    external: Metrics,
    references: HashMap<String, Known>,
}

/// What is known of a sample.
struct Known {
    text: String,
    /// Path of its image on this machine; empty where samples have none.
    image: String,
    prepared: score::Reference,
}

impl Rescorer {
    /// For a plan's scoring and the references of its samples.
    ///
    /// # Errors
    /// [`Error::Scorer`]. Commands are only started when they are first needed.
    pub fn new(plan: &RunPlan, references: &[Reference]) -> Result<Rescorer, Error> {
        let ScoringPlan { tokenizer, lexicon, extend_lexicon, absent_weight, nfkc, external } = &plan.scoring;
        let scorer = Scorer::new(score::Settings {
            tokenizer: tokenizer.clone().into(),
            lexicon: LexiconChoice::of_files(lexicon.as_deref(), extend_lexicon.as_deref())?,
            nfkc: *nfkc,
            absent_weight: *absent_weight,
            ..score::Settings::default()
        })?;
        let known = |r: &Reference| {
            let path = Path::new(&plan.dataset.images).join(&r.image).display().to_string();
            let image = if r.image.is_empty() { String::new() } else { path };
            (r.id.clone(), Known { text: r.text.clone(), image, prepared: scorer.prepare(&r.text) })
        };
        let references = references.par_iter().map(known).collect();
        Ok(Rescorer { external: Metrics::new(external), scorer, references })
    }
}

/// The evaluation with every score made anew from its reports, and its fitness under `plan`.
///
/// # Errors
/// [`Error::Unknown`], [`Error::External`] and [`Error::Fitness`], naming the sample.
pub fn rescored(
    evaluation: &Evaluation,
    rescorer: &mut Rescorer,
    plan: &RunPlan,
) -> Result<(Evaluation, Fitness), Error> {
    let Rescorer { scorer, external, references } = rescorer;
    let reference =
        |(position, s): (usize, &SampleResult)| references.get(&s.sample).ok_or(Error::Unknown(position + 1));
    let known = evaluation.samples.iter().enumerate().map(reference).collect::<Result<Vec<_>, _>>()?;
    let mut samples: Vec<SampleResult> = evaluation
        .samples
        .par_iter()
        .zip(&known)
        .map(|(sample, known)| SampleResult {
            scores: scorer.score_prepared(&known.prepared, &sample.text, MetricSet::ALL).metrics,
            ..sample.clone()
        })
        .collect();
    let rows: Vec<Row> = evaluation
        .samples
        .iter()
        .zip(&known)
        .enumerate()
        .map(|(position, (sample, known))| Row {
            position,
            sample: &sample.sample,
            text: &sample.text,
            reference: &known.text,
            image: (!known.image.is_empty()).then_some(known.image.as_str()),
        })
        .collect();
    let scores = external.score(&rows, &|| false)?;
    samples.iter_mut().zip(scores).for_each(|(sample, scores)| sample.scores.extend(scores));
    let evaluation = Evaluation { samples, timings: evaluation.timings };
    let fitness = plan.fitness(&evaluation)?;
    Ok((evaluation, fitness))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use common::run::{ExternalPlan, Per, ProgramPlan};
    use std::collections::BTreeMap;

    fn reference(id: &str) -> Reference {
        Reference { id: id.into(), image: String::new(), text: "右胸水を認める。".into() }
    }

    fn evaluated(plan: &RunPlan, text: &str) -> Evaluation {
        let mut evaluation = testing::evaluate(plan, &plan.authors_middle());
        evaluation.samples.iter_mut().for_each(|s| s.text = text.into());
        evaluation
    }

    #[test]
    fn scores_come_from_the_texts_alone() {
        let plan = testing::plan(&[]);
        let references = ["s1", "s2", "s3"].map(reference);
        let mut rescorer = Rescorer::new(&plan, &references).unwrap();
        let old = evaluated(&plan, "右胸水を認める。");
        let (new, fitness) = rescored(&old, &mut rescorer, &plan).unwrap();
        assert_eq!(fitness.value(), 1.0);
        assert_eq!((new.samples[1].scores["rouge_l"], new.samples[1].tokens), (1.0, 7));
        assert_eq!(new.timings, old.timings);
        let (other, _) = rescored(&evaluated(&plan, "胸水を認めない。"), &mut rescorer, &plan).unwrap();
        assert!(other.samples[0].scores["term_f1"] < 0.5);
        // Scoring again what was scored changes nothing.
        assert_eq!(rescored(&new, &mut rescorer, &plan).unwrap(), (new, fitness));
    }

    #[test]
    fn a_new_metric_scores_history_and_a_missing_reference_is_named() {
        let mut plan = testing::plan(&[]);
        let program = ProgramPlan {
            command: ["sh", "-c", "while read -r line; do echo '{\"score\":0.75}'; done"]
                .map(String::from)
                .to_vec(),
            files: Vec::new(),
            environment: Vec::new(),
            timeout_seconds: 60.0,
            start_seconds: 60.0,
        };
        let metric = ExternalPlan { program, per: Per::Report, scores: Vec::new() };
        plan.scoring.external = BTreeMap::from([("style".into(), metric)]);
        plan.objective.weights = BTreeMap::from([("style".into(), 2.0)]);
        let old = evaluated(&plan, "所見なし。");
        let mut rescorer = Rescorer::new(&plan, &["s1", "s2", "s3"].map(reference)).unwrap();
        assert_eq!(rescored(&old, &mut rescorer, &plan).unwrap().1.value(), 1.5);
        let mut short = Rescorer::new(&plan, &[reference("s1")]).unwrap();
        let e = rescored(&old, &mut short, &plan).unwrap_err().to_string();
        assert!(e.contains("sample 2 has a report but no reference"), "{e}");
        assert!(!e.contains("s2"), "{e}");
    }
}
