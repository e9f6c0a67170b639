//! `jradievo-worker evaluate`: a model's scores on a dataset, each with its interval.

use super::{OK, table};
use crate::asking;
use crate::cli;
use crate::data::read_references;
use crate::device;
use crate::evaluator::Control;
use crate::figures::{Figures, figures};
use crate::locate::Locator;
use crate::memory;
use crate::obtain::folder;
use crate::pipeline::{Bench, Exam, Pipeline, scorer};
use crate::vlm::Vlm;
use anyhow::{Result, bail};
use common::dataset::Columns;
use common::evaluation::SampleResult;
use common::report::{MissingPart, Part};
use common::run::{DatasetPlan, EmptyReference, RunPlan, ScoringPlan};
use hub::Meter;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// What `--json` prints of samples with their scores.
#[derive(Serialize)]
pub struct Scored<'a> {
    /// Number of samples.
    pub n: usize,
    /// Metric → mean with a 95 % bootstrap interval.
    pub metrics: &'a Figures,
    /// Per sample: id, text, and every metric.
    pub samples: &'a [SampleResult],
}

/// Runs the command.
pub fn run(args: &cli::Evaluate) -> Result<u8> {
    let chosen = device::choose(&args.device)?;
    if let Some(note) = &chosen.note {
        eprintln!("note: {note}");
    }
    let model = folder(&args.model, &Meter::stderr())?;
    let (question, plan) = asking::resolve(&args.asking, &model)?;
    let dataset = dataset(args, plan.as_ref())?;
    let dataset = Locator::default().dataset(&dataset);
    let references = read_references(&dataset)?;
    let scoring = plan.map_or_else(default_scoring, |p| p.scoring);
    let (scorer, external) = (scorer(&scoring)?, scoring.external);
    let vlm = Vlm::open(&model, &chosen)?;
    let memory = memory::for_model(&vlm, &question, references.len())?;
    memory::guard(&memory, args.memory.ignore_memory_plan)?;
    let exam = Exam::prepare(&vlm, &scorer, &dataset, references, &question.task, &question.generation)?;
    let bench = Arc::new(Bench::of_model(vlm, scorer, external));
    let evaluation = Pipeline::new(bench, Arc::new(exam))?.answer(&Control::default(), 0)?;
    let metrics = figures(&evaluation.samples);
    if args.json {
        let scored = Scored { n: evaluation.samples.len(), metrics: &metrics, samples: &evaluation.samples };
        out!("{}", serde_json::to_string_pretty(&scored)?);
    } else {
        table::print_figures(&metrics, evaluation.samples.len());
    }
    Ok(OK)
}

/// Scoring as a run file has it that does not mention it.
pub fn default_scoring() -> ScoringPlan {
    ScoringPlan {
        tokenizer: "unidic-lite".into(),
        lexicon: None,
        extend_lexicon: None,
        absent_weight: 1.0,
        nfkc: true,
        external: BTreeMap::new(),
    }
}

fn dataset(args: &cli::Evaluate, run: Option<&RunPlan>) -> Result<DatasetPlan> {
    let text = |p: &Path| p.display().to_string();
    let file = std::path::absolute(&args.dataset)?;
    let part = match args.part.as_deref() {
        None => None,
        Some("whole") => Some(Part::Whole),
        Some("所見" | "findings") => Some(Part::Findings),
        Some("印象" | "impression") => Some(Part::Impression),
        Some(other) => bail!("--part {other}: expected 所見, 印象 or whole"),
    };
    let plan = match run {
        Some(run) => run.dataset.clone(),
        // Without a run file, a report that has findings is compared by them, any other as it is.
        None => DatasetPlan {
            file: String::new(),
            images: String::new(),
            columns: Columns::default(),
            part: Part::Findings,
            without_part: MissingPart::Whole,
            empty_reference: EmptyReference::Skip,
            frame: None,
        },
    };
    let images = file.parent().map(text).unwrap_or_default();
    Ok(DatasetPlan {
        file: text(&file),
        images,
        part: part.unwrap_or(plan.part),
        frame: args.asking.frame.or(plan.frame),
        ..plan
    })
}
