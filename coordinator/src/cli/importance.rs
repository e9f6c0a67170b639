//! `importance`: which searched parameters mattered, of a run that is going on or at rest.

use super::bars::{Bar, svg};
use super::history::History;
use super::{Failure, Importance, exit, look};
use crate::state::domain;
use common::seed::Stream;
use search::Dimension;
use search::importance::{self, Share};
use std::path::Path;

/// Pairs that are shown in text and plot, where they explain more than [`VISIBLE`].
const PAIRS: usize = 5;
const VISIBLE: f64 = 0.005;

/// What was found, in the words of the run.
#[derive(Debug, serde::Serialize)]
struct Found {
    /// What was explained.
    of: String,
    /// Candidates that it was learnt from.
    results: usize,
    /// Strongest first.
    parameters: Vec<Row>,
    pairs: Vec<Row>,
}

#[derive(Debug, serde::Serialize)]
struct Row {
    /// One name, or two.
    names: Vec<String>,
    share: f64,
    deviation: f64,
}

pub(super) async fn importance(args: Importance) -> Result<u8, Failure> {
    let mut names: Vec<String> = Vec::new();
    let mut results = Vec::new();
    let mut history = History::open(&args.looked.target).await?;
    let each = |c: proto::wire::CandidateView| {
        let value = match &args.metric {
            Some(metric) => c.metrics.get(metric).copied(),
            None => c.fitness,
        };
        names = c.genome.iter().map(|v| v.name.clone()).collect();
        if let Some(value) = value.filter(|v| v.is_finite()) {
            results.push((c.coordinates, value));
        }
        true
    };
    history.each_candidate(each).await?;
    let of = args.metric.unwrap_or_else(|| "fitness".into());
    let found = explain(of, &domain(&history.plan).dimensions, &names, &results)?;
    if let Some(path) = &args.plot {
        plot(&found, path)?;
    }
    match args.looked.json {
        true => look::print(&serde_json::to_string(&found).map_err(|e| Failure::Failed(e.to_string()))?),
        false => look::print(text(&found).trim_end()),
    };
    Ok(exit::DONE)
}

fn explain(
    of: String,
    dimensions: &[Dimension],
    names: &[String],
    results: &[(Vec<f64>, f64)],
) -> Result<Found, Failure> {
    // The same candidates, the same answer.
    let mut stream = Stream::new(0, "importance");
    let found = importance::importance(dimensions, results, &mut stream)
        .map_err(|e| Failure::Absent(format!("{of}: {e}")))?;
    let row = |of: &[usize], share: Share| Row {
        names: of.iter().map(|i| names[*i].clone()).collect(),
        share: share.mean,
        deviation: share.deviation,
    };
    let mut parameters: Vec<Row> = found.alone.iter().enumerate().map(|(i, s)| row(&[i], *s)).collect();
    parameters.sort_by(|a, b| b.share.total_cmp(&a.share));
    let pairs = found.pairs.iter().map(|(i, j, s)| row(&[*i, *j], *s)).collect();
    Ok(Found { of, results: found.results, parameters, pairs })
}

/// The strongest pairs.
fn strong(found: &Found) -> impl Iterator<Item = &Row> {
    found.pairs.iter().filter(|p| p.share > VISIBLE).take(PAIRS)
}

fn text(found: &Found) -> String {
    let rows: Vec<&Row> = found.parameters.iter().chain(strong(found)).collect();
    let name = |r: &Row| r.names.join(" × ");
    let width = rows.iter().map(|r| name(r).chars().count()).max().unwrap_or(0);
    let mut out = format!("share of the variance of {} over {} candidates\n", found.of, found.results);
    for row in rows {
        let (name, share, deviation) = (name(row), 100.0 * row.share, 100.0 * row.deviation);
        out += &format!("  {name:<width$}  {share:5.1} % ± {deviation:.1}\n");
    }
    out
}

fn plot(found: &Found, path: &Path) -> Result<(), Failure> {
    let bar = |second: bool| {
        move |r: &Row| Bar { name: r.names.join(" × "), share: r.share, deviation: r.deviation, second }
    };
    let bars: Vec<Bar> =
        found.parameters.iter().map(bar(false)).chain(strong(found).map(bar(true))).collect();
    let subtitle = format!(
        "functional ANOVA over a random forest, {} candidates; lighter: two together beyond each alone",
        found.results
    );
    let chart = svg(&format!("What explains the {}", found.of), &subtitle, &bars);
    std::fs::write(path, chart)
        .map_err(|e| Failure::Failed(format!("cannot write {}: {e}; choose another file", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results() -> Vec<(Vec<f64>, f64)> {
        let point = |i: u32| vec![f64::from(i % 10) / 10.0, f64::from(i / 10) / 10.0];
        (0..100).map(point).map(|x| (x.clone(), x[1] + 0.2 * x[0])).collect()
    }

    #[test]
    fn the_strongest_parameter_comes_first_under_its_name() {
        let names = ["scale".to_string(), "weight.a".to_string()];
        let found = explain("fitness".into(), &[Dimension::Real; 2], &names, &results()).unwrap();
        assert_eq!(found.parameters[0].names, ["weight.a"]);
        assert!(found.parameters[0].share > 0.9, "{found:?}");
        let text = text(&found);
        assert!(
            text.starts_with("share of the variance of fitness over 100 candidates\n  weight.a"),
            "{text}"
        );
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("plot.svg");
        plot(&found, &file).unwrap();
        assert!(std::fs::read_to_string(&file).unwrap().contains("weight.a"));
        let nowhere = plot(&found, &dir.path().join("no/plot.svg")).unwrap_err();
        assert!(nowhere.to_string().contains("cannot write"), "{nowhere}");
    }

    #[test]
    fn too_few_results_are_said_so() {
        let e =
            explain("rouge".into(), &[Dimension::Real], &["scale".into()], &[(vec![0.5], 1.0)]).unwrap_err();
        assert_eq!(e.code(), exit::ABSENT);
        assert!(e.to_string().contains("rouge: 1 results are not enough"), "{e}");
    }
}
