//! `jradievo fork`: a new run that begins with the results of an earlier one, under other bounds, weights of the fitness,
//! search or budgets.
//!
//! What a report depends on — models, merge, dataset, task, generation, metrics — has to be as it was, or the results would
//! be those of something else. Each candidate keeps its reports and gets its fitness anew from the scores that they have;
//! other metrics are `rescore --begin`'s affair.

use super::history::History;
use super::next::Next;
use super::{Failure, Fork, Target, exit, plan, say, tell};
use common::id::CandidateId;
use common::run::RunPlan;

pub(super) async fn fork(args: Fork) -> Result<u8, Failure> {
    let target = Target { state: Some(args.from), coordinator: None, credentials: Default::default() };
    let mut history = History::open(&target).await?;
    let mut read = plan::read(&args.run_file, &args.overrides)?;
    read.models.pin(&mut read.plan, &mut |line| say(&line))?;
    let plan = read.plan;
    let changed = changed(&history.plan, &plan);
    if !changed.is_empty() {
        let text = format!(
            "{} of {} and of {} differ, and its results would not be this run's; \
             change [parameters], [fitness], [objectives], [search], [scheduling] and [early_stop] alone (other metrics: \
             jradievo rescore --begin)",
            changed.join(", "),
            history.run,
            args.run_file.display()
        );
        return Err(Failure::Usage(text));
    }
    let mut next = Next::begin(&args.state, &history, &plan)?;
    let scored: Vec<_> = history.candidates().await?.into_iter().filter(|c| c.fitness.is_some()).collect();
    let mut left = 0;
    for c in &scored {
        if !next.carries(CandidateId(c.candidate)) {
            left += 1;
            continue;
        }
        let evaluation = history.evaluation(c.candidate).await?;
        let failed = |e| Failure::Usage(format!("candidate {}: {e}", c.candidate));
        let fitness = plan.fitness(&evaluation).map_err(failed)?;
        next.candidate(CandidateId(c.candidate), fitness, &evaluation)?;
    }
    if left > 0 {
        tell(&format!("{left} scored candidates lie outside of the new space and stay behind"));
    }
    next.finish(&plan, None)?;
    Ok(exit::DONE)
}

/// What reports and scores depend on and is not the same.
fn changed(old: &RunPlan, new: &RunPlan) -> Vec<&'static str> {
    let same = [
        ("[models]", old.models == new.models),
        ("[dataset]", old.dataset == new.dataset && old.samples == new.samples),
        ("[prompt]", old.task == new.task),
        ("[generation]", old.generation == new.generation),
        ("[scoring]", old.scoring == new.scoring),
        ("[evaluator]", old.evaluator == new.evaluator),
    ];
    same.into_iter().filter(|(_, same)| !same).map(|(name, _)| name).collect()
}
