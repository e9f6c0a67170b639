//! What `--json` prints. Stable: names are only added. `docs/json.md` documents them.

use proto::wire;
use score::finalists::Finalists;
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::collections::BTreeMap;

/// Named numbers in their own order.
struct Named<'a>(&'a [wire::NamedValue]);

impl Serialize for Named<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(Some(self.0.len()))?;
        self.0.iter().try_for_each(|v| map.serialize_entry(&v.name, &v.value))?;
        map.end()
    }
}

#[derive(serde::Serialize)]
struct Attempt<'a> {
    number: u32,
    worker: &'a str,
    end: &'a str,
    reason: &'a str,
    begun_unix_ms: u64,
    ended_unix_ms: Option<u64>,
    samples: u32,
}

#[derive(serde::Serialize)]
struct Timings {
    merge: u64,
    features: u64,
    generate: u64,
    prefill: u64,
    score: u64,
}

#[derive(serde::Serialize)]
struct Candidate<'a> {
    candidate: u64,
    generation: u64,
    state: &'static str,
    fitness: Option<f64>,
    genome: Named<'a>,
    metrics: &'a BTreeMap<String, f64>,
    coordinates: &'a [f64],
    attempts: Vec<Attempt<'a>>,
    timings_ms: Option<Timings>,
    recipe_digest: &'a str,
    samples_done: u32,
    bound: Option<f64>,
    /// Whether it is on the Pareto front of a run of several objectives.
    #[serde(skip_serializing_if = "Option::is_none")]
    front: Option<bool>,
}

/// The state's word of a candidate.
pub fn candidate_state(c: &wire::CandidateView) -> &'static str {
    match c.state() {
        wire::CandidateState::Waiting => "waiting",
        wire::CandidateState::Leased => "leased",
        wire::CandidateState::Scored => "scored",
        wire::CandidateState::Failed => "failed",
        wire::CandidateState::Censored => "censored",
        wire::CandidateState::Unspecified => "unknown",
    }
}

/// One candidate as one line; `front` where the run has several objectives.
pub fn candidate(c: &wire::CandidateView, front: Option<bool>) -> String {
    fn attempt(a: &wire::AttemptView) -> Attempt<'_> {
        Attempt {
            number: a.number,
            worker: &a.worker,
            end: &a.end,
            reason: &a.reason,
            begun_unix_ms: a.begun_unix_ms,
            ended_unix_ms: a.ended_unix_ms,
            samples: a.samples,
        }
    }
    text(&Candidate {
        candidate: c.candidate,
        generation: c.generation,
        state: candidate_state(c),
        fitness: c.fitness,
        genome: Named(&c.genome),
        metrics: &c.metrics,
        coordinates: &c.coordinates,
        attempts: c.attempts.iter().map(attempt).collect(),
        timings_ms: c.timings.map(timings),
        recipe_digest: &c.recipe_digest,
        samples_done: c.samples_done,
        bound: c.bound,
        front,
    })
}

fn timings(t: wire::Timings) -> Timings {
    Timings {
        merge: t.merge_ms,
        features: t.features_ms,
        generate: t.generate_ms,
        prefill: t.prefill_ms,
        score: t.score_ms,
    }
}

/// The state's word of a run.
pub fn run_state(s: &wire::StatusReply) -> &'static str {
    match (s.state(), s.live) {
        (wire::RunState::Running, true) if s.paused => "paused",
        (wire::RunState::Finished, _) => "finished",
        (wire::RunState::Stopping, true) => "stopping",
        (wire::RunState::Running, true) => "running",
        // At rest nobody serves it.
        (wire::RunState::Stopping | wire::RunState::Running, false) => "stopped",
        (wire::RunState::Unspecified, _) => "unknown",
    }
}

/// One audit as one line.
pub fn audit(a: &wire::AuditView) -> String {
    let sample = |s: &wire::SampleResult| serde_json::json!({"id": s.sample, "scores": s.scores});
    text(&serde_json::json!({
        "candidate": a.candidate, "agree": a.agree,
        "first": {"fitness": a.first, "workers": a.first_by},
        "second": {"fitness": a.second, "worker": a.second_by, "samples": a.samples.iter().map(sample).collect::<Vec<_>>()},
        "differing_samples": a.differing,
    }))
}

/// The run as one line, with its recorded last round.
pub fn status(s: &wire::StatusReply, last_round: Option<&Finalists>) -> String {
    let p = s.progress.unwrap_or_default();
    let worker = |w: &wire::WorkerView| {
        serde_json::json!({
            "worker": w.worker_id, "name": w.name, "device": w.device, "slots": w.slots, "leases": w.leases,
            "last_seen_ms_ago": w.last_seen_ms_ago, "scored": w.scored, "samples": w.samples,
            "timings_ms": timings(w.timings.unwrap_or_default()), "idle_ms": w.idle_ms,
            "draining": w.draining,
            "bench": w.bench.as_ref().map(|b| serde_json::json!({
                "left_ms": b.left_ms, "failures": b.failures, "reason": b.reason,
            })),
        })
    };
    let saved = s.savings.unwrap_or_default();
    let best = p.best_candidate.zip(p.best_fitness);
    let mut value = serde_json::json!({
        "run": s.run_id,
        "name": s.name,
        "state": run_state(s),
        "end_reason": (!s.end_reason.is_empty()).then_some(&s.end_reason),
        "live": s.live,
        "plan_digest": s.plan_digest,
        "algorithm": s.algorithm,
        "population": s.population,
        "generation": p.generation,
        "evaluations_done": p.evaluations_done,
        "evaluations_budget": p.evaluations_budget,
        "hours_budget": s.hours_budget,
        "elapsed_ms": s.elapsed_ms,
        "best": best.map(|(candidate, fitness)| serde_json::json!({"candidate": candidate, "fitness": fitness})),
        "candidates": {
            "waiting": s.candidates_waiting, "leased": s.candidates_leased,
            "scored": s.candidates_scored, "failed": s.candidates_failed, "censored": s.candidates_censored,
        },
        "saved": {
            "reports": saved.reports, "tokens": saved.tokens, "candidates": saved.candidates,
            "samples": saved.samples, "device_ms": saved.device_ms,
        },
        "attempts_failed": s.attempts_failed,
        "step_size": s.sigma,
        "mode": s.mode,
        "paused": s.paused,
        "budget": budget(&s.budget.unwrap_or_default()),
        "device_ms": s.device_ms,
        "since_best": s.since_best,
        "journal_entries": s.journal_entries,
        "workers": s.workers.iter().map(worker).collect::<Vec<_>>(),
    });
    if !s.remarks.is_empty() {
        value["remarks"] = s.remarks.clone().into();
    }
    if let Some(audits) = s.audits {
        let wire::Audits { done, disagree, open, given_up } = audits;
        value["audits"] =
            serde_json::json!({"done": done, "disagree": disagree, "open": open, "given_up": given_up});
    }
    if let Some(front) = s.front_candidates {
        value["front_candidates"] = front.into();
    }
    if let Some(finalists) = last_round {
        value["finalists"] = serde_json::json!(finalists);
    }
    text(&value)
}

fn budget(b: &wire::Budget) -> serde_json::Value {
    serde_json::json!({
        "evaluations": b.evaluations, "hours": b.hours, "device_hours": b.device_hours,
        "target_fitness": b.target_fitness, "stagnation": b.stagnation,
    })
}

/// What a replay found, as one line.
pub fn replayed(r: &crate::state::replay::Replayed) -> String {
    text(&serde_json::json!({
        "exact": r.parts.is_none(), "entries": r.entries, "candidates": r.candidates, "results": r.results,
        "parts": r.parts,
    }))
}

/// What a check found, as one line.
pub fn fsck(r: &crate::fsck::Report) -> String {
    text(&serde_json::json!({
        "sound": r.is_sound(), "whole": r.is_whole(), "run": r.run, "program_version": r.program_version,
        "commits": r.commits, "acknowledged": r.acknowledged, "older": r.older, "records": r.records,
        "candidates": r.candidates, "reports": r.reports, "replayed": r.replayed, "findings": r.findings,
        "more_findings": r.more,
    }))
}

/// What was copied, as one line.
pub fn backup(to: &std::path::Path, r: &crate::fsck::Report, copied: crate::backup::Copied) -> String {
    text(&serde_json::json!({
        "to": to.display().to_string(), "run": r.run, "commits": r.commits, "candidates": r.candidates,
        "records": copied.records, "bytes": copied.bytes,
    }))
}

/// One sample's report as one line. `id` and `text` are what `jradievo-worker score` reads.
pub fn report(candidate: u64, r: &wire::SampleResult) -> String {
    #[derive(serde::Serialize)]
    struct Report<'a> {
        candidate: u64,
        id: &'a str,
        text: &'a str,
        tokens: u32,
        stop: &'static str,
        scores: &'a BTreeMap<String, f64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        kept: Option<serde_json::Value>,
    }
    let kept = r.kept.as_ref();
    let kept = kept.map(|k| serde_json::json!({"digest": k.digest, "characters": k.characters}));
    let stop = match r.stop() {
        wire::Stop::End => "end",
        wire::Stop::Length => "length",
        wire::Stop::NonFinite => "non-finite",
        wire::Stop::Repetition => "repetition",
        wire::Stop::NoJapanese => "no-japanese",
        wire::Stop::Unspecified => "unknown",
    };
    let (id, scores) = (&r.sample, &r.scores);
    text(&Report { candidate, id, text: &r.text, tokens: r.tokens, stop, scores, kept })
}

fn text(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("views hold nothing JSON cannot say")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scripts depend on this very line.
    #[test]
    fn a_candidate_is_one_stable_line() {
        let named = |name: &str, value| wire::NamedValue { name: name.into(), value };
        let view = wire::CandidateView {
            candidate: 3,
            generation: 1,
            state: wire::CandidateState::Scored as i32,
            fitness: Some(0.5),
            genome: vec![named("weight.b", 1.0), named("drop_rate", 0.25)],
            metrics: BTreeMap::from([("rouge_l".into(), 0.5)]),
            coordinates: vec![1.0, 0.25],
            attempts: vec![wire::AttemptView {
                number: 1,
                worker: "w".into(),
                begun_unix_ms: 5,
                ended_unix_ms: Some(9),
                end: "scored".into(),
                reason: String::new(),
                samples: 2,
            }],
            recipe_digest: "ab".into(),
            samples_done: 2,
            bound: None,
            timings: Some(wire::Timings {
                merge_ms: 1,
                features_ms: 2,
                generate_ms: 3,
                score_ms: 4,
                prefill_ms: 1,
            }),
        };
        assert_eq!(
            candidate(&view, None),
            r#"{"candidate":3,"generation":1,"state":"scored","fitness":0.5,"genome":{"weight.b":1.0,"drop_rate":0.25},"metrics":{"rouge_l":0.5},"coordinates":[1.0,0.25],"attempts":[{"number":1,"worker":"w","end":"scored","reason":"","begun_unix_ms":5,"ended_unix_ms":9,"samples":2}],"timings_ms":{"merge":1,"features":2,"generate":3,"prefill":1,"score":4},"recipe_digest":"ab","samples_done":2,"bound":null}"#
        );
    }

    #[test]
    fn a_run_at_rest_is_stopped_unless_finished() {
        let mut s = wire::StatusReply { state: wire::RunState::Running as i32, ..Default::default() };
        assert_eq!(run_state(&s), "stopped");
        s.live = true;
        assert_eq!(run_state(&s), "running");
        s.state = wire::RunState::Finished as i32;
        s.live = false;
        assert_eq!(run_state(&s), "finished");
    }
}
