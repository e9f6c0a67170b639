//! `jradievo front`: the candidates that no other one beats in every objective.

use super::history::History;
use super::look::print;
use super::{Failure, Front, exit};
use crate::plot::{Panel, Scatter};
use common::fitness::{Aim, Direction, FITNESS, Fitness, vector};
use proto::wire;

/// An objective in words.
pub(super) fn aim(aim: &Aim) -> String {
    match aim.direction {
        Direction::Maximise => aim.metric.clone(),
        Direction::Minimise => format!("less {}", aim.metric),
    }
}

/// What a candidate has reached, as its metrics say it.
fn reached(aim: &Aim, c: &wire::CandidateView) -> Option<f64> {
    if aim.metric == FITNESS { c.fitness } else { c.metrics.get(&aim.metric).copied() }
}

/// For every candidate whether it is on the front; none is where there are no objectives.
pub(super) fn members(aims: &[Aim], candidates: &[wire::CandidateView]) -> Vec<bool> {
    let mut on = vec![false; candidates.len()];
    let told = |(i, c): (usize, &wire::CandidateView)| {
        Some((i, vector(aims, Fitness::new(c.fitness?).ok()?, &c.metrics.clone().into_iter().collect())?))
    };
    let (places, vectors): (Vec<_>, Vec<_>) = candidates.iter().enumerate().filter_map(told).unzip();
    if !aims.is_empty() {
        search::pareto::front(&vectors).into_iter().for_each(|i| on[places[i]] = true);
    }
    on
}

pub(super) async fn front(args: Front) -> Result<u8, Failure> {
    let mut history = History::open(&args.target).await?;
    let aims = match args.maximise.is_empty() && args.minimise.is_empty() {
        true => history.plan.objectives.clone(),
        false => {
            let named = |names: &[String], direction| -> Vec<Aim> {
                names.iter().map(|m| Aim { metric: m.clone(), direction }).collect()
            };
            [named(&args.maximise, Direction::Maximise), named(&args.minimise, Direction::Minimise)].concat()
        }
    };
    if aims.len() < 2 {
        let message = "the run has no [objectives]: name at least two, such as --maximise rouge_l,term_f1 --minimise tokens";
        return Err(Failure::Usage(message.into()));
    }
    let candidates = history.candidates().await?;
    if let Some(scored) = candidates.iter().find(|c| c.fitness.is_some())
        && let Some(unknown) = aims.iter().find(|a| reached(a, scored).is_none())
    {
        let known: Vec<&str> = scored.metrics.keys().map(String::as_str).collect();
        return Err(Failure::Usage(format!(
            "no such metric {:?}; the run has {}",
            unknown.metric,
            known.join(", ")
        )));
    }
    let on = members(&aims, &candidates);
    let mut best: Vec<&wire::CandidateView> =
        candidates.iter().zip(&on).filter(|(_, on)| **on).map(|(c, _)| c).collect();
    if best.is_empty() {
        return Err(Failure::Absent("nothing is scored yet".into()));
    }
    // Along the first objective, so that the table reads like the curve.
    let first = |c: &wire::CandidateView| {
        vector(
            &aims[..1],
            Fitness::new(c.fitness.unwrap_or_default()).ok()?,
            &c.metrics.clone().into_iter().collect(),
        )
    };
    best.sort_by_key(|c| (std::cmp::Reverse(first(c)), c.candidate));
    for c in args.json.then_some(&best).into_iter().flatten() {
        let objectives: serde_json::Map<_, _> =
            aims.iter().map(|a| (a.metric.clone(), reached(a, c).into())).collect();
        let line = serde_json::json!({
            "candidate": c.candidate, "fitness": c.fitness, "objectives": objectives, "recipe_digest": c.recipe_digest,
        });
        print(&line.to_string());
    }
    if !args.json {
        print(table(&aims, &best, &history.run, candidates.len()).trim_end());
    }
    if let Some(path) = &args.plot {
        let text = plot(&aims, &candidates, &on, &history.plan.name);
        std::fs::write(path, text)
            .map_err(|e| Failure::Failed(format!("cannot write {}: {e}", path.display())))?;
    }
    Ok(exit::DONE)
}

fn table(aims: &[Aim], best: &[&wire::CandidateView], run: &str, all: usize) -> String {
    let mut out = format!("{run}: {} of {all} candidates on the front\n{:>9}", best.len(), "candidate");
    let width = |a: &Aim| aim(a).chars().count().max(9);
    aims.iter().for_each(|a| out += &format!(" {:>w$}", aim(a), w = width(a)));
    out += &format!(" {:>9}\n", "fitness");
    for c in best {
        out += &format!("{:>9}", c.candidate);
        for a in aims {
            out += &format!(" {:>w$.4}", reached(a, c).unwrap_or(f64::NAN), w = width(a));
        }
        out += &format!(" {:>9.4}\n", c.fitness.unwrap_or(f64::NAN));
    }
    out
}

/// The values stand as they are, so the axis says which way is better.
fn axis(aim: &Aim) -> String {
    match aim.direction {
        Direction::Maximise => aim.metric.clone(),
        Direction::Minimise => format!("{} (less is better)", aim.metric),
    }
}

/// One panel for every pair of objectives.
fn plot(aims: &[Aim], candidates: &[wire::CandidateView], on: &[bool], name: &str) -> String {
    let mut panels = Vec::new();
    for (i, x) in aims.iter().enumerate() {
        for y in &aims[i + 1..] {
            let point = |(c, on): (&wire::CandidateView, &bool)| {
                let label = format!("candidate {}", c.candidate);
                c.fitness?;
                Some((reached(x, c)?, reached(y, c)?, *on, label))
            };
            let points = candidates.iter().zip(on).filter_map(point).collect();
            panels.push(Panel { x: axis(x), y: axis(y), points });
        }
    }
    Scatter { title: format!("{name}: Pareto front"), panels }.to_svg()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn candidate(number: u64, fitness: Option<f64>, tokens: f64) -> wire::CandidateView {
        let metrics =
            HashMap::from([("tokens".to_string(), tokens), ("rouge_l".to_string(), fitness.unwrap_or(0.0))]);
        wire::CandidateView {
            candidate: number,
            fitness,
            metrics: metrics.into_iter().collect(),
            ..Default::default()
        }
    }

    #[test]
    fn costs_count_downwards_and_failures_not_at_all() {
        let aim = |metric: &str, direction| Aim { metric: metric.into(), direction };
        let aims = [aim("fitness", Direction::Maximise), aim("tokens", Direction::Minimise)];
        let all = [
            candidate(1, Some(0.5), 40.0),
            candidate(2, Some(0.5), 30.0),
            candidate(3, Some(0.7), 60.0),
            candidate(4, None, 0.0),
        ];
        assert_eq!(members(&aims, &all), [false, true, true, false]);
        assert_eq!(members(&[], &all), [false; 4]);
        let shown = table(&aims, &[&all[2], &all[1]], "run", 4);
        assert!(shown.contains("2 of 4 candidates") && shown.contains("less tokens"), "{shown}");
        let svg = plot(&aims, &all, &[false, true, true, false], "a & b");
        assert!(svg.contains("a &amp; b") && svg.matches("<circle").count() == 3, "{svg}");
    }
}
