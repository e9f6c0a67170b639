//! `jradievo rescore`: the reports of a run scored anew, under another lexicon, other metrics or another fitness.

use super::history::History;
use super::look::print;
use super::next::Next;
use super::texts::Texts;
use super::{Failure, Rescore, exit, plan, tell};
use crate::rescore::{Rescorer, rescored};
use common::bounded;
use common::dataset::{Reference, references};
use common::digest::Digest;
use common::evaluation::{Evaluation, SampleResult};
use common::files;
use common::fitness::Fitness;
use common::id::CandidateId;
use common::run::{Rescoring, RunPlan, SearchPlan};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

/// The format of the file that `--out` writes.
const FORMAT: u32 = 1;

/// A candidate before and after.
struct Row {
    candidate: u64,
    old: f64,
    new: Fitness,
    means: BTreeMap<String, f64>,
}

pub(super) async fn rescore(args: Rescore) -> Result<u8, Failure> {
    let mut history = History::open(&args.target).await?;
    let new = new_plan(&args, &history.plan)?;
    let references = read_references(&history, &new)?;
    let mut rescorer = Rescorer::new(&new, &references).map_err(|e| Failure::Usage(e.to_string()))?;
    let texts = Texts::new(&args.reports);
    let mut out = args.out.as_deref().map(|path| Out::create(path, &history.run, &new)).transpose()?;
    let scored: Vec<_> = history.candidates().await?.into_iter().filter(|c| c.fitness.is_some()).collect();
    if scored.is_empty() {
        return Err(Failure::Absent("nothing is scored yet".into()));
    }
    let mut next = args.begin.as_deref().map(|folder| Next::begin(folder, &history, &new)).transpose()?;
    let mut rows = Vec::with_capacity(scored.len());
    for c in scored {
        let old = texts.complete(c.candidate, history.evaluation(c.candidate).await?)?;
        let failed = |e| Failure::Failed(format!("candidate {}: {e}", c.candidate));
        let (evaluation, new_fitness) = rescored(&old, &mut rescorer, &new).map_err(failed)?;
        if let Some(out) = &mut out {
            out.candidate(c.candidate, &c.recipe_digest, new_fitness, &evaluation)?;
        }
        if let Some(next) = &mut next {
            next.candidate(CandidateId(c.candidate), new_fitness, &evaluation)?;
        }
        let old = c.fitness.unwrap_or(f64::NAN);
        rows.push(Row { candidate: c.candidate, old, new: new_fitness, means: evaluation.means() });
    }
    out.map(Out::finish).transpose()?;
    if let Some(next) = next {
        let budget = args.evaluations.unwrap_or(new.search.evaluations);
        let search = SearchPlan { evaluations: budget, ..new.search.clone() };
        // What decides scores is pinned anew; models and dataset are the same.
        let failed = |e: files::FilesError| Failure::Failed(e.to_string());
        let mut scoring = files::digest_scoring(&new.scoring).map_err(failed)?;
        scoring.extend(score::built_in::digests(&new.scoring));
        scoring.extend(files::digest_programs(&new).map_err(failed)?);
        next.finish(&RunPlan { search, ..new.clone() }, Some(scoring))?;
    }
    show(&rows, &args, &history.run, &new);
    Ok(exit::DONE)
}

/// The run's plan with the scoring that the command line names.
fn new_plan(args: &Rescore, old: &RunPlan) -> Result<RunPlan, Failure> {
    let usage = |e: &dyn std::fmt::Display| Failure::Usage(e.to_string());
    let text = match &args.run {
        Some(path) => {
            let cannot = |e: std::io::Error| usage(&format!("cannot read {}: {e}", path.display()));
            Some((path.display().to_string(), std::fs::read_to_string(path).map_err(cannot)?))
        }
        None => None,
    };
    let beside = args.run.as_deref().unwrap_or(Path::new("."));
    let folder = std::path::absolute(beside)?;
    let folder = if args.run.is_some() { folder.parent().unwrap_or(Path::new("/")) } else { &folder };
    let metrics = plan::metrics();
    let file = text.as_ref().map(|(name, text)| (name.as_str(), text.as_str()));
    let new = Rescoring { file, folder, overrides: &args.overrides, metrics: &metrics };
    let new = common::run::rescoring(old, &new).map_err(|e| usage(&e))?;
    // What a coordinator elsewhere names is not what this command's caller typed.
    let foreign = args.target.coordinator.is_some() && args.run.is_none() && !args.allow_external;
    if foreign && !new.scoring.external.is_empty() {
        let commands = external::commands(&new).join("\n  ");
        return Err(Failure::Usage(format!(
            "the run at that address names commands as metrics:\n  {commands}\nto run them here, add --allow-external, or give \
             the run file with --run"
        )));
    }
    Ok(new)
}

/// The references of the run's samples, as the run was started with.
fn read_references(history: &History, plan: &RunPlan) -> Result<Vec<Reference>, Failure> {
    let file = &plan.dataset.file;
    let failed = |message: String| Failure::Failed(format!("{file}: {message}"));
    let text = bounded::text(Path::new(file), bounded::DATASET_BYTES).map_err(|e| {
        failed(format!(
            "{e}; rescoring needs the references: run it where the coordinator ran, or bring the file there"
        ))
    })?;
    let name = format!("dataset/{}", Path::new(file).file_name().unwrap_or_default().to_string_lossy());
    let pinned = history.pinned.iter().flat_map(|m| m.files()).find(|f| f.name == name);
    if let Some(pinned) = pinned {
        let here = files::digest_file(name, Path::new(file)).map_err(|e| failed(e.to_string()))?;
        if here.digest != pinned.digest {
            return Err(failed("it has changed since the run was started; get the run's own".into()));
        }
    }
    let references = references(&text, &plan.dataset).map_err(|e| failed(e.to_string()))?;
    match references.iter().map(|r| &r.id).eq(&plan.samples) {
        true => Ok(references),
        false => Err(failed("its samples are not those of the run".into())),
    }
}

/// Positions from 1, best first; of equal ones the lower number.
fn ranks(values: impl Iterator<Item = f64>) -> Vec<usize> {
    let values: Vec<f64> = values.collect();
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*b].total_cmp(&values[*a]));
    let mut ranks = vec![0; values.len()];
    order.into_iter().enumerate().for_each(|(rank, i)| ranks[i] = rank + 1);
    ranks
}

fn show(rows: &[Row], args: &Rescore, run: &str, plan: &RunPlan) {
    let (before, after) = (ranks(rows.iter().map(|r| r.old)), ranks(rows.iter().map(|r| r.new.value())));
    if args.json {
        for ((row, old_rank), rank) in rows.iter().zip(before).zip(after) {
            let line = serde_json::json!({
                "candidate": row.candidate, "fitness": row.new, "rank": rank, "old_fitness": row.old,
                "old_rank": old_rank, "metrics": row.means,
            });
            if !print(&line.to_string()) {
                return;
            }
        }
        return;
    }
    let weights: Vec<String> = plan.objective.weights.iter().map(|(m, w)| format!("{w} · {m}")).collect();
    let mut out = format!("{run}: {} candidates, fitness {}\n", rows.len(), weights.join(" + "));
    out += &format!("{:>5} {:>9} {:>10} {:>10} {:>9}", "rank", "candidate", "fitness", "before", "rank then");
    let names: Vec<&String> = plan.objective.weights.keys().collect();
    names.iter().for_each(|n| out += &format!(" {n:>w$}", w = n.len().max(8)));
    out.push('\n');
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|i| after[*i]);
    for i in order.into_iter().take(args.top) {
        let Row { candidate, old, new, means } = &rows[i];
        out += &format!("{:>5} {candidate:>9} {:>10.4} {old:>10.4} {:>9}", after[i], new.value(), before[i]);
        for n in &names {
            out += &format!(" {:>w$.4}", means.get(*n).copied().unwrap_or(f64::NAN), w = n.len().max(8));
        }
        out.push('\n');
    }
    if rows.len() > args.top {
        out += &format!("{} more: --top {}\n", rows.len() - args.top, rows.len());
    }
    print(out.trim_end());
}

/// The new scores of every candidate as JSON lines, written whole or not at all.
struct Out {
    path: std::path::PathBuf,
    draft: std::path::PathBuf,
    file: std::io::BufWriter<std::fs::File>,
}

impl Out {
    fn create(path: &Path, run: &str, plan: &RunPlan) -> Result<Out, Failure> {
        let mut name = path.file_name().unwrap_or_default().to_os_string();
        name.push(".new");
        let draft = path.with_file_name(name);
        // Ids and scores are its owner's alone.
        let file = secure::files::create_private(&draft)
            .map_err(|e| Failure::Failed(format!("cannot write {}: {e}", draft.display())))?;
        let mut out = Out { path: path.into(), draft, file: std::io::BufWriter::new(file) };
        let plan_json = plan.to_json();
        let head = serde_json::json!({
            "format": FORMAT, "run": run, "program_version": proto::PROGRAM_VERSION,
            "plan_digest": Digest::of(plan_json.as_bytes()), "scoring": plan.scoring, "fitness": plan.objective,
            "objectives": plan.objectives,
        });
        out.line(&head)?;
        Ok(out)
    }

    fn candidate(
        &mut self,
        number: u64,
        recipe: &str,
        fitness: Fitness,
        evaluation: &Evaluation,
    ) -> Result<(), Failure> {
        let sample = |s: &SampleResult| serde_json::json!({"sample": s.sample, "scores": s.scores});
        let samples: Vec<_> = evaluation.samples.iter().map(sample).collect();
        self.line(&serde_json::json!({
            "candidate": number, "recipe_digest": recipe, "fitness": fitness, "samples": samples,
        }))
    }

    fn line(&mut self, value: &serde_json::Value) -> Result<(), Failure> {
        let cannot = |e| Failure::Failed(format!("cannot write {}: {e}", self.draft.display()));
        writeln!(self.file, "{value}").map_err(cannot)
    }

    fn finish(mut self) -> Result<(), Failure> {
        let cannot = |e| Failure::Failed(format!("cannot write {}: {e}", self.path.display()));
        self.file.flush().map_err(cannot)?;
        self.file.get_ref().sync_all().map_err(cannot)?;
        std::fs::rename(&self.draft, &self.path).map_err(cannot)?;
        tell(&format!("{}: new scores of every report", self.path.display()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_from_one_and_ties_go_to_the_earlier() {
        assert_eq!(ranks([0.5, 0.7, 0.5, -1.0].into_iter()), [2, 1, 3, 4]);
        assert!(ranks(std::iter::empty()).is_empty());
    }
}
