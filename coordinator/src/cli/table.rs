//! Text for people: tables and short forms.

use crate::report;
use crate::state::State;
use common::run::RunPlan;
use proto::wire;
use score::finalists::Finalists;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

/// `2 h 05 min`, `3 min 20 s`, `12 s`.
pub fn duration(d: Duration) -> String {
    let s = d.as_secs();
    match (s / 86_400, s / 3600 % 24, s / 60 % 60, s % 60) {
        (0, 0, 0, s) => format!("{s} s"),
        (0, 0, m, s) => format!("{m} min {s:02} s"),
        (0, h, m, _) => format!("{h} h {m:02} min"),
        (d, h, _, _) => format!("{d} d {h} h"),
    }
}

/// `15.0 GiB`, `3.2 MiB`, `12 KiB`.
pub fn bytes(n: u64) -> String {
    match n {
        n if n >= 1 << 30 => format!("{:.1} GiB", n as f64 / f64::from(1u32 << 30)),
        n if n >= 1 << 20 => format!("{:.1} MiB", n as f64 / f64::from(1u32 << 20)),
        n => format!("{} KiB", n.div_ceil(1024)),
    }
}

/// The plan in a few lines.
pub fn plan(plan: &RunPlan, samples: usize) -> String {
    let search = &plan.search;
    let algorithm = match search.algorithm {
        common::run::Algorithm::CmaEs => "CMA-ES",
        common::run::Algorithm::Random => "uniform random",
        common::run::Algorithm::Sobol => "Sobol's sequence",
        common::run::Algorithm::Tpe => "TPE",
        common::run::Algorithm::De => "differential evolution",
        common::run::Algorithm::Nsga2 => "NSGA-II",
    };
    let mode = if search.mode.is_generational() { "generations" } else { "steps" };
    let weights: Vec<String> = plan.objective.weights.iter().map(|(m, w)| format!("{w} · {m}")).collect();
    let mut out = String::new();
    let mut row = |name: &str, value: String| out += &format!("  {name:<12} {value}\n");
    row("run", format!("{} (plan {}…, seed {})", plan.name, plan.digest().short(12), plan.seed));
    row(
        "search",
        format!(
            "{algorithm}, {} parameters, {} evaluations in {mode} of {}",
            plan.space.dimensions(),
            search.evaluations,
            search.population
        ),
    );
    row("ends at", budget(&search.budget()));
    let starts: Vec<String> = plan.start_points().into_iter().map(|(name, _)| name).collect();
    if !starts.is_empty() {
        row("begins with", starts.join(", "));
    }
    for (i, (kind, words)) in plan.space.describe().into_iter().enumerate() {
        row(if i == 0 { "parameters" } else { "" }, format!("{kind}: {words}"));
    }
    row("sources", plan.models.sources.iter().map(|s| s.model.name.as_str()).collect::<Vec<_>>().join(", "));
    let together = if plan.scores_as_a_whole() { ", scored together" } else { "" };
    row("samples", format!("{samples}{together}"));
    row("fitness", weights.join(" + "));
    if !plan.objectives.is_empty() {
        row("objectives", plan.objectives.iter().map(super::front::aim).collect::<Vec<_>>().join(", "));
    }
    for command in external::commands(plan) {
        row("runs", command);
    }
    out
}

/// What ends a run, in words.
pub fn budget(b: &common::run::Budget) -> String {
    let mut parts = vec![format!("{} evaluations", b.evaluations)];
    parts.extend(b.hours.map(|h| format!("{h} h")));
    parts.extend(b.device_hours.map(|h| format!("{h} device hours")));
    parts.extend(b.target_fitness.map(|f| format!("a fitness of {f}")));
    parts.extend(b.stagnation.map(|n| format!("{n} results without a better one")));
    parts.join(", or ")
}

/// What a run that is over found.
pub fn end(state: &State, folder: &Path) -> String {
    let mut out = String::new();
    let status = report::status(state, None);
    let reason = if status.end_reason.is_empty() { "stopped" } else { &status.end_reason };
    let _ = writeln!(out, "\n{}: {reason}", status.run_id);
    let mut row = |name: &str, value: String| out += &format!("  {name:<28} {value}\n");
    row(
        "evaluated",
        format!(
            "{} candidates in {}",
            status.candidates_scored + status.candidates_failed + status.candidates_censored,
            duration(state.elapsed())
        ),
    );
    row("failed", format!("{} candidates, {} attempts", status.candidates_failed, status.attempts_failed));
    if let Some(saved) = saved(&status) {
        row("saved by early stops", saved);
    }
    let Some(best) = state.best().and_then(|(id, _)| state.candidate(id)) else {
        row(
            "best",
            "none: no candidate could be evaluated; `jradievo candidates --json` has the reasons".into(),
        );
        return out;
    };
    let view = report::candidate(state, best);
    row("best candidate", format!("{} (generation {})", view.candidate, view.generation));
    row("fitness", format!("{:.4}", view.fitness.unwrap_or(f64::NAN)));
    for (name, mean) in &view.metrics {
        row(&format!("  {name}"), format!("{mean:.4}"));
    }
    row("recipe", String::new());
    for value in &view.genome {
        row(&format!("  {}", value.name), format!("{:.6}", value.value));
    }
    let _ = writeln!(out, "  its recipe: jradievo recipe {} > best.json", folder.display());
    if state.plan().finalists.is_some() {
        let _ = writeln!(out, "  the last round: jradievo finalists {} > finalists.jsonl", folder.display());
    }
    out
}

/// What early stops saved, where they did.
fn saved(s: &wire::StatusReply) -> Option<String> {
    let saved = s.savings?;
    let mut parts = Vec::new();
    if saved.candidates > 0 {
        let time = duration(Duration::from_millis(saved.device_ms));
        parts.push(format!("{} samples of {} candidates ({time})", saved.samples, saved.candidates));
    }
    if saved.reports > 0 {
        parts.push(format!("at most {} tokens of {} reports", saved.tokens, saved.reports));
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// What a worker's slots do with their time.
fn shares(w: &wire::WorkerView) -> String {
    let t = w.timings.unwrap_or_default();
    let stages = [
        ("merge", t.merge_ms),
        ("features", t.features_ms),
        ("prefill", t.prefill_ms),
        ("decode", t.generate_ms.saturating_sub(t.prefill_ms)),
        ("score", t.score_ms),
        ("idle", w.idle_ms),
    ];
    let all: u64 = stages.iter().map(|s| s.1).sum();
    let share = |(name, ms): &(&str, u64)| format!("{name} {:.0} %", *ms as f64 * 100.0 / all.max(1) as f64);
    stages.iter().filter(|s| s.1 > 0).map(share).collect::<Vec<_>>().join(", ")
}

/// Where a run stands.
pub fn status(s: &wire::StatusReply) -> String {
    let mut out = String::new();
    let p = s.progress.unwrap_or_default();
    let mut row = |name: &str, value: String| out += &format!("{name:<12} {value}\n");
    let reason = if s.end_reason.is_empty() { String::new() } else { format!(": {}", s.end_reason) };
    row("run", s.run_id.clone());
    row("state", format!("{}{reason}", super::json::run_state(s)));
    row(
        "evaluated",
        format!("{} of {}, generation {}", p.evaluations_done, p.evaluations_budget, p.generation),
    );
    let best = p.best_fitness.zip(p.best_candidate).map(|(f, c)| format!("{f:.4} (candidate {c})"));
    row("best", best.unwrap_or("none yet".into()));
    row(
        "candidates",
        format!(
            "{} waiting, {} lent, {} scored, {} failed{}",
            s.candidates_waiting,
            s.candidates_leased,
            s.candidates_scored,
            s.candidates_failed,
            match s.candidates_censored {
                0 => String::new(),
                n => format!(", {n} ended early"),
            }
        ),
    );
    if let Some(saved) = saved(s) {
        row("saved", saved);
    }
    if let Some(n) = s.front_candidates {
        row("front", format!("{n} candidates that no other beats in every objective"));
    }
    row("attempts", format!("{} failed", s.attempts_failed));
    if let Some(a) = s.audits {
        row(
            "audits",
            format!("{} done, {} disagree, {} open, {} given up", a.done, a.disagree, a.open, a.given_up),
        );
    }
    row(
        "search",
        format!(
            "{}, population {}{}",
            s.algorithm,
            s.population,
            s.sigma.map(|x| format!(", step size {x:.4}")).unwrap_or_default()
        ),
    );
    for remark in s.remarks.iter().rev().take(3).rev() {
        row("", remark.clone());
    }
    row("mode", format!("{}, {} results since the best", s.mode, s.since_best));
    row("ends at", budget(&s.budget.unwrap_or_default().into()));
    row(
        "time",
        format!(
            "{}, slots worked {}",
            duration(Duration::from_millis(s.elapsed_ms)),
            duration(Duration::from_millis(s.device_ms))
        ),
    );
    for w in &s.workers {
        row(
            "worker",
            format!(
                "{} ({}), {} of {} slots busy, {} scored, {} samples, seen {} ago; {}",
                w.name,
                w.device,
                w.leases,
                w.slots,
                w.scored,
                w.samples,
                duration(Duration::from_millis(w.last_seen_ms_ago)),
                shares(w)
            ),
        );
        if w.draining {
            row("", format!("{} is to finish what it has and leave", w.name));
        }
        if let Some(b) = &w.bench {
            let left = duration(Duration::from_millis(b.left_ms));
            let failed = format!("failed {} times where others succeeded", b.failures);
            row("", format!("{} {failed}: nothing is lent to it for {left} (last: {})", w.name, b.reason));
        }
    }
    out
}

/// The recorded last round, a line each.
pub fn finalists(last_round: Option<&Finalists>) -> String {
    let Some(f) = last_round else { return String::new() };
    let mut out = format!("finalists    on {} samples that the search never saw\n", f.n);
    for x in &f.finalists {
        let _ = write!(
            out,
            "  candidate {:<6} {:.4} [{:.4}, {:.4}]",
            x.candidate, x.fitness.mean, x.fitness.low, x.fitness.high
        );
        let _ = match x.candidate == f.winner {
            true => writeln!(out, ", the winner (best in {:.0} % of resamples)", 100.0 * x.best_share),
            false => {
                writeln!(out, ", {:.4} behind [{:.4}, {:.4}]", x.behind.mean, x.behind.low, x.behind.high)
            }
        };
    }
    out
}

/// One line per candidate, with its own heading. `front` marks those on the Pareto front.
pub fn candidates(all: &[wire::CandidateView], front: Option<&Vec<bool>>) -> String {
    let mut out = String::new();
    let names: Vec<&str> =
        all.first().map(|c| c.genome.iter().map(|g| g.name.as_str()).collect()).unwrap_or_default();
    let _ = write!(
        out,
        "{:>9} {:>10} {:<8} {:>8} {:>8}",
        "candidate", "generation", "state", "fitness", "attempts"
    );
    names.iter().for_each(|n| out += &format!(" {n:>w$}", w = n.len().max(8)));
    out += if front.is_some() { " front\n" } else { "\n" };
    for (i, c) in all.iter().enumerate() {
        let fitness = c.fitness.map(|f| format!("{f:.4}")).unwrap_or_default();
        let state = super::json::candidate_state(c);
        let _ = write!(
            out,
            "{:>9} {:>10} {state:<8} {fitness:>8} {:>8}",
            c.candidate,
            c.generation,
            c.attempts.len()
        );
        for g in &c.genome {
            let _ = write!(out, " {:>w$.4}", g.value, w = g.name.len().max(8));
        }
        out += if front.is_some_and(|front| front[i]) { " *\n" } else { "\n" };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_short() {
        let shown = [0, 59, 61, 3600, 90_061].map(|s| duration(Duration::from_secs(s)));
        assert_eq!(shown, ["0 s", "59 s", "1 min 01 s", "1 h 00 min", "1 d 1 h"]);
        assert_eq!([1, 3 << 20, 16_106_127_360].map(bytes), ["1 KiB", "3.0 MiB", "15.0 GiB"]);
    }
}
