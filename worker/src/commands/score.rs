//! `jradievo-worker score`: texts against references, without a model.

use super::evaluate::default_scoring;
use super::{OK, table};
use crate::asking::read_run;
use crate::cli;
use crate::figures::figures;
use crate::pipeline::scorer;
use anyhow::{Context, Result, anyhow, bail};
use common::evaluation::{SampleResult, Stop};
use common::run::ScoringPlan;
use external::{Metrics, Row};
use rayon::prelude::*;
use score::bootstrap::Interval;
use score::term::Mention;
use score::{Corpus, SampleScores};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

#[derive(Deserialize)]
struct Line {
    id: Id,
    text: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Id {
    Text(String),
    Number(i64),
}

#[derive(Serialize)]
struct Output<'a> {
    n: usize,
    metrics: &'a BTreeMap<String, Interval>,
    corpus: &'a Corpus,
    samples: Vec<Sample<'a>>,
}

#[derive(Serialize)]
struct Sample<'a> {
    id: &'a str,
    #[serde(flatten)]
    scores: &'a BTreeMap<String, f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reference_terms: Option<Vec<Mention>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prediction_terms: Option<Vec<Mention>>,
}

/// Runs the command.
pub fn run(args: &cli::Score) -> Result<u8> {
    let scoring = scoring(args)?;
    let scorer = scorer(&scoring)?;
    let references = read(&args.references)?;
    let predictions = read(&args.predictions)?;
    let pairs = pair(args, &references, &predictions)?;
    let scores: Vec<SampleScores> =
        pairs.par_iter().map(|(_, reference, prediction)| scorer.score(reference, prediction)).collect();
    let mut results: Vec<SampleResult> = pairs
        .iter()
        .zip(&scores)
        .map(|((id, _, prediction), s)| SampleResult {
            sample: id.to_string(),
            text: prediction.to_string(),
            tokens: 0,
            stop: Stop::End,
            scores: s.metrics.clone(),
            kept: None,
        })
        .collect();
    let row = |(position, &(sample, reference, text)): (usize, &(_, _, _))| Row {
        position,
        sample,
        text,
        reference,
        image: None,
    };
    let rows: Vec<Row> = pairs.iter().enumerate().map(row).collect();
    let external = Metrics::new(&scoring.external).score(&rows, &|| false)?;
    results.iter_mut().zip(external).for_each(|(result, scores)| result.scores.extend(scores));
    let metrics = figures(&results);
    if !args.json {
        table::print_figures(&metrics, results.len());
        return Ok(OK);
    }
    let mentions = |text: &str| args.explain.then(|| scorer.matcher().mentions(text));
    let samples = pairs.iter().zip(&results).map(|((id, reference, prediction), s)| Sample {
        id,
        scores: &s.scores,
        reference_terms: mentions(reference),
        prediction_terms: mentions(prediction),
    });
    let corpus = scorer.corpus(&scores);
    let output = Output { n: results.len(), metrics: &metrics, corpus: &corpus, samples: samples.collect() };
    out!("{}", serde_json::to_string_pretty(&output)?);
    Ok(OK)
}

/// The run file's, or what the command line says.
fn scoring(args: &cli::Score) -> Result<ScoringPlan> {
    if let Some(run) = &args.run {
        return Ok(read_run(run, &args.set)?.scoring);
    }
    let text = |p: &Path| p.display().to_string();
    Ok(ScoringPlan {
        tokenizer: args.tokenizer.clone(),
        lexicon: args.lexicon.as_deref().map(text),
        extend_lexicon: args.extend_lexicon.as_deref().map(text),
        absent_weight: args.absent_weight,
        ..default_scoring()
    })
}

fn read(path: &Path) -> Result<Vec<(String, String)>> {
    let name = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("{name}: cannot read"))?;
    let mut rows = Vec::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, l)| !l.trim().is_empty()) {
        let line: Line = serde_json::from_str(line)
            // What is wrong is not quoted: it may be a report.
            .map_err(|_| anyhow!("{name}:{number}: expected an object with id and text"))?;
        let id = match line.id {
            Id::Text(id) => id,
            Id::Number(id) => id.to_string(),
        };
        rows.push((id, line.text));
    }
    if rows.is_empty() {
        bail!("{name}: no lines");
    }
    Ok(rows)
}

/// Joins by id, in the order of the references. Both sides must have the same ids, each once. Faults count texts from 1: an
/// id may say who a patient is.
fn pair<'a>(
    args: &cli::Score,
    references: &'a [(String, String)],
    predictions: &'a [(String, String)],
) -> Result<Vec<(&'a str, &'a str, &'a str)>> {
    let (left, right) = (args.references.display(), args.predictions.display());
    let mut by_id: HashMap<&str, (usize, &str)> = HashMap::new();
    for (n, (id, text)) in (1..).zip(predictions) {
        if let Some((first, _)) = by_id.insert(id, (n, text)) {
            bail!("{right}: the id of text {n} is that of text {first}");
        }
    }
    let mut pairs = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for (n, (id, reference)) in (1..).zip(references) {
        if !seen.insert(id) {
            bail!("{left}: the id of text {n} stands there already");
        }
        let Some((_, prediction)) = by_id.remove(id.as_str()) else {
            bail!(
                "{right}: the id of text {n} of {left} is missing; a model that wrote nothing has an empty text"
            )
        };
        pairs.push((id.as_str(), reference.as_str(), prediction));
    }
    match by_id.into_values().map(|(n, _)| n).min() {
        Some(n) => bail!("{left}: the id of text {n} of {right} is missing"),
        None => Ok(pairs),
    }
}
