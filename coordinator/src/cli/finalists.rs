//! `jradievo finalists`: who takes part in the last round, and who won it.
//!
//! The round itself is the worker's (`jradievo-worker finalists`): it needs a model and samples that no candidate was
//! chosen on. Here the best few are handed out with their provenance, and what was found is recorded beside the store, where
//! `recipe` and `status` look for it.

use super::history::History;
use super::look::print;
use super::{Failure, Finalists as Args, Recipe, exit, folder, say};
use common::provenance::RecipeFile;
use score::finalists::Finalists;
use std::path::Path;

/// Candidates that take part where neither command line nor run file says how many.
const COUNT: usize = 5;

pub(super) async fn finalists(args: Args) -> Result<u8, Failure> {
    match (&args.record, &args.target.state) {
        (Some(file), Some(folder)) => record(folder, &args, file).await,
        _ => hand_out(&args).await,
    }
}

/// One recipe file a line, best first; of candidates that are one merge the first.
async fn hand_out(args: &Args) -> Result<u8, Failure> {
    let mut history = History::open(&args.target).await?;
    let planned = history.plan.finalists.as_ref().map(|f| f.count);
    let count = args.count.map(|n| n as usize).or(planned).unwrap_or(COUNT);
    let mut scored: Vec<_> =
        history.candidates().await?.into_iter().filter(|c| c.fitness.is_some()).collect();
    if scored.is_empty() {
        return Err(Failure::Absent("nothing is scored yet".into()));
    }
    scored.sort_by(|a, b| {
        let fitness = |c: &proto::wire::CandidateView| c.fitness.unwrap_or(f64::NEG_INFINITY);
        fitness(b).total_cmp(&fitness(a)).then(a.candidate.cmp(&b.candidate))
    });
    let mut seen = std::collections::HashSet::new();
    scored.retain(|c| seen.insert(c.recipe_digest.clone()));
    for c in scored.into_iter().take(count) {
        let recipe = history.recipe(c.candidate).await?;
        let recipe = RecipeFile::parse(&recipe).map_err(|e| Failure::Failed(e.to_string()))?;
        if !print(&serde_json::to_string(&recipe).map_err(|e| Failure::Failed(e.to_string()))?) {
            break;
        }
    }
    Ok(exit::DONE)
}

/// Keeps a file's finding with the run, after making sure that it is about this run's candidates.
async fn record(folder: &Path, args: &Args, file: &Path) -> Result<u8, Failure> {
    let found = read(file)?;
    let mut history = History::open(&args.target).await?;
    if found.run != history.run {
        let message = format!("{} is about run {}, not about {}", file.display(), found.run, history.run);
        return Err(Failure::Usage(message));
    }
    for f in &found.finalists {
        same(&history.recipe(f.candidate).await?, f.candidate, &found, file)?;
    }
    folder::record_finalists(folder, &found)?;
    say(&format!(
        "candidate {} is the winner: jradievo recipe {} > best.json",
        found.winner,
        folder.display()
    ));
    Ok(exit::DONE)
}

fn read(file: &Path) -> Result<Finalists, Failure> {
    let name = file.display();
    let text =
        std::fs::read_to_string(file).map_err(|e| Failure::Usage(format!("cannot read {name}: {e}")))?;
    let written = "not what `jradievo-worker finalists` writes";
    Finalists::parse(&text).map_err(|e| Failure::Usage(format!("{name}: {written}: {e}")))
}

/// Whether a candidate's recipe is the one that was in the last round.
fn same(recipe: &str, candidate: u64, found: &Finalists, file: &Path) -> Result<(), Failure> {
    let recipe = RecipeFile::parse(recipe).map_err(|e| Failure::Failed(e.to_string()))?.recipe;
    let digest = common::provenance::merge_digest(&recipe).to_string();
    match found.finalists.iter().any(|f| f.candidate == candidate && f.merge_digest == digest) {
        true => Ok(()),
        false => {
            Err(Failure::Usage(format!("{}: candidate {candidate} had another recipe there", file.display())))
        }
    }
}

/// The candidate whose recipe is asked for: the one named, the winner of the file named, or of the recorded round.
pub(super) fn chosen(args: &Recipe) -> Result<Option<u64>, Failure> {
    if args.candidate.is_some() {
        return Ok(args.candidate);
    }
    Ok(last_round(args)?.map(|f| f.winner))
}

/// That the recipe is the one that won, where a last round has chosen it.
pub(super) fn check(args: &Recipe, recipe: &str) -> Result<(), Failure> {
    let Some(found) = last_round(args)?.filter(|_| args.candidate.is_none()) else { return Ok(()) };
    let file = args.finalists.as_deref().unwrap_or(Path::new("finalists.json"));
    let run = RecipeFile::parse(recipe).map_err(|e| Failure::Failed(e.to_string()))?.provenance;
    match run {
        Some(provenance) if provenance.run != found.run => Err(Failure::Usage(format!(
            "{} is about run {}, not about {}",
            file.display(),
            found.run,
            provenance.run
        ))),
        _ => same(recipe, found.winner, &found, file),
    }
}

fn last_round(args: &Recipe) -> Result<Option<Finalists>, Failure> {
    match (&args.finalists, &args.target.state) {
        (Some(file), _) => read(file).map(Some),
        (None, Some(folder)) => folder::finalists(folder),
        (None, None) => Ok(None),
    }
}
