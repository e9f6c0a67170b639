//! Read-only views of a state. The same functions serve a live coordinator and a state folder at rest, so the
//! two never show different things.

use crate::state::candidate::{Attempt, Candidate, How, Phase};
use crate::state::{Audited, Saved, State};
use crate::store::{self, Store};
use common::evaluation::{Evaluation, SampleResult};
use common::id::{CandidateId, WorkerId};
use common::provenance::{self, Provenance, RecipeFile};
use common::recipe::Recipe;
use common::time::Millis;
use proto::status::Class;
use proto::wire;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// The run at a glance. `now` is absent at rest.
pub fn status(state: &State, now: Option<Millis>) -> wire::StatusReply {
    let attempts_failed = state.attempts_failed();
    let (leased, all_open) = (state.open().filter(|c| c.is_lent()).count(), state.open().count());
    let done = (state.candidates().len() - all_open) as u64;
    let plan = state.plan();
    let mut progress = state.progress();
    if now.is_none() {
        progress.workers = 0;
    }
    wire::StatusReply {
        run_id: state.identity().run.0.clone(),
        name: plan.name.clone(),
        state: wire::RunState::from(state.run_state()) as i32,
        end_reason: state.end().map(|e| e.reason()).unwrap_or_default(),
        plan_digest: plan.digest().to_string(),
        algorithm: plan.search.algorithm.name().into(),
        progress: Some(progress.into()),
        population: plan.search.population as u64,
        candidates_waiting: (all_open - leased) as u64,
        candidates_leased: leased as u64,
        candidates_scored: done - state.failed() - state.censored(),
        candidates_failed: state.failed(),
        candidates_censored: state.censored(),
        savings: Some(savings(state.saved())),
        attempts_failed,
        elapsed_ms: state.elapsed().as_millis() as u64,
        hours_budget: state.budget().hours,
        workers: now.map(|now| workers(state, now)).unwrap_or_default(),
        program_version: now.map(|_| proto::PROGRAM_VERSION.to_string()).unwrap_or_default(),
        sigma: state.step_size(),
        live: now.is_some(),
        mode: if plan.search.mode.is_generational() { "generational" } else { "asynchronous" }.into(),
        paused: state.is_paused(),
        budget: Some((*state.budget()).into()),
        device_ms: state.device_time().as_millis() as u64,
        since_best: state.since_best(),
        journal_entries: state.entries(),
        remarks: state.remarks(),
        audits: (plan.scheduling.audit > 0.0).then(|| wire::Audits {
            done: state.audited().done,
            disagree: state.audited().disagree,
            open: state.audits().open() as u64,
            given_up: state.audited().given_up,
        }),
        front_candidates: (!plan.objectives.is_empty()).then(|| state.front().count() as u64),
    }
}

fn savings(saved: &Saved) -> wire::Savings {
    let Saved { reports, tokens, candidates, samples, device_ms } = *saved;
    wire::Savings { reports, tokens, candidates, samples, device_ms }
}

fn workers(state: &State, now: Millis) -> Vec<wire::WorkerView> {
    let mut leases: BTreeMap<WorkerId, u32> = BTreeMap::new();
    let held = state.leases().iter().filter_map(|(_, l)| l.worker).chain(state.audits().workers());
    held.for_each(|w| *leases.entry(w).or_default() += 1);
    let view = |(id, w): (WorkerId, &crate::state::roster::Worker)| wire::WorkerView {
        worker_id: id.0,
        name: w.name.clone(),
        device: w.device.clone(),
        slots: w.slots,
        leases: leases.get(&id).copied().unwrap_or_default(),
        last_seen_ms_ago: (now - w.last_seen).as_millis() as u64,
        scored: w.scored,
        samples: w.samples,
        timings: Some(w.timings.into()),
        idle_ms: w.idle_ms(now),
        draining: state.conduct().is_drained(&w.name),
        bench: state.conduct().bench(&w.name, now).map(|b| wire::Bench {
            left_ms: (b.until - now).as_millis() as u64,
            failures: b.failures,
            reason: b.reason.clone(),
        }),
    };
    state.roster().iter().map(view).collect()
}

/// Up to `most` candidates, the first `from` left out.
pub fn candidates(
    state: &State,
    store: &dyn Store,
    from: usize,
    most: usize,
) -> Result<Vec<wire::CandidateView>, Class> {
    let forgotten = state.candidates().forgotten();
    if from < forgotten {
        // They are as they were written: final.
        let stored = store.candidates(CandidateId(from as u64 + 1), most.min(forgotten - from));
        return Ok(stored.map_err(unreadable)?.iter().map(|c| candidate(state, c)).collect());
    }
    let kept = state.candidates().iter().skip(from - forgotten);
    Ok(kept.take(most).map(|c| candidate(state, c)).collect())
}

/// The candidate of that number, from memory or from the store.
fn found<'a>(state: &'a State, store: &dyn Store, id: CandidateId) -> Result<Cow<'a, Candidate>, Class> {
    match state.candidate(id) {
        Some(candidate) => Ok(Cow::Borrowed(candidate)),
        None if state.candidates().is_forgotten(id) => {
            let stored = store.candidates(id, 1).map_err(unreadable)?.pop();
            stored.filter(|c| c.id() == id).map(Cow::Owned).ok_or_else(|| {
                Class::Internal(format!("record candidate/{id} is missing; check the store: jradievo fsck"))
            })
        }
        None => Err(no_candidate(state, id)),
    }
}

fn unreadable(e: store::Error) -> Class {
    match e {
        store::Error::Damaged { .. } => Class::Internal(e.to_string()),
        e => Class::Unavailable(e.to_string()),
    }
}

/// One candidate.
pub fn candidate(state: &State, c: &Candidate) -> wire::CandidateView {
    let space = &state.plan().space;
    let named =
        |(p, value): (&common::space::Parameter, f64)| wire::NamedValue { name: p.name.clone(), value };
    let shown = match c.phase() {
        Phase::Scored(_) => wire::CandidateState::Scored,
        Phase::Failed => wire::CandidateState::Failed,
        Phase::Censored(_) => wire::CandidateState::Censored,
        Phase::Open if c.is_lent() => wire::CandidateState::Leased,
        Phase::Open => wire::CandidateState::Waiting,
    };
    let score = match c.phase() {
        Phase::Scored(s) => Some(s.clone()),
        _ => None,
    };
    wire::CandidateView {
        candidate: c.id().0,
        generation: c.generation(),
        state: shown as i32,
        fitness: c.fitness().map(f64::from),
        genome: space.parameters.iter().zip(space.values(c.genome())).map(named).collect(),
        coordinates: c.genome().coordinates().to_vec(),
        metrics: score.as_ref().map(|s| s.means.clone()).unwrap_or_default(),
        attempts: c.attempts().iter().map(attempt).collect(),
        recipe_digest: c.recipe().to_string(),
        timings: match c.phase() {
            Phase::Censored(censored) => Some(censored.timings.into()),
            _ => score.map(|s| s.timings.into()),
        },
        samples_done: state.samples_done(c),
        bound: match c.phase() {
            Phase::Censored(censored) => Some(censored.bound.into()),
            _ => None,
        },
    }
}

/// The status of a folder that nobody serves: nothing is lent.
pub fn at_rest(mut status: wire::StatusReply) -> wire::StatusReply {
    status.candidates_waiting += std::mem::take(&mut status.candidates_leased);
    status
}

/// A candidate of a folder that nobody serves: an attempt that was open is interrupted, as `resume` will find
/// unless its worker comes back.
pub fn candidate_at_rest(state: &State, c: &Candidate) -> wire::CandidateView {
    let mut view = candidate(state, c);
    if view.state() == wire::CandidateState::Leased {
        view.state = wire::CandidateState::Waiting as i32;
    }
    for attempt in view.attempts.iter_mut().filter(|a| a.ended_unix_ms.is_none()) {
        attempt.end = "interrupted".into();
    }
    view
}

fn attempt(a: &Attempt) -> wire::AttemptView {
    wire::AttemptView {
        number: a.number,
        worker: a.worker_name.clone(),
        begun_unix_ms: a.begun.0,
        ended_unix_ms: a.end.as_ref().map(|e| e.at.0),
        end: a.end.as_ref().map_or("running", |e| e.how.word()).into(),
        reason: a.end.as_ref().map(|e| e.reason.clone()).unwrap_or_default(),
        samples: a.samples,
    }
}

/// Texts and scores of one candidate.
pub fn evaluation(state: &State, store: &dyn Store, id: CandidateId) -> Result<Evaluation, Class> {
    let candidate = found(state, store, id)?;
    match store.evaluation(id) {
        Ok(Some(evaluation)) => Ok(evaluation),
        Ok(None) => {
            let now = match candidate.phase() {
                Phase::Failed => "it failed",
                _ => "it is not scored yet",
            };
            Err(Class::NotFound(format!("candidate {id} has no reports: {now}")))
        }
        Err(e) => Err(unreadable(e)),
    }
}

/// Up to `most` second evaluations, of candidates from that number on.
pub fn audits(store: &dyn Store, from: CandidateId, most: usize) -> Result<Vec<wire::AuditView>, Class> {
    let view = |(id, a): (CandidateId, Audited)| wire::AuditView {
        candidate: id.0,
        first_by: a.first_by.into_iter().collect(),
        first: a.first.value(),
        second_by: a.second_by,
        second: a.second.value(),
        agree: a.agree,
        differing: a.differing,
        // Without texts, which together may be longer than a message.
        samples: a
            .evaluation
            .samples
            .into_iter()
            .map(|s| SampleResult { text: String::new(), ..s }.into())
            .collect(),
    };
    Ok(store.audits(from, most).map_err(unreadable)?.into_iter().map(view).collect())
}

/// The recipe of a candidate, by default of the best.
pub fn recipe(state: &State, store: &dyn Store, id: Option<CandidateId>) -> Result<wire::RecipeReply, Class> {
    let best = || state.best().map(|b| b.0).ok_or_else(|| Class::NotFound("nothing is scored yet".into()));
    let id = id.map_or_else(best, Ok)?;
    let candidate = found(state, store, id)?;
    let recipe = state.plan().recipe(candidate.genome());
    let provenance = Some(provenance(state, &candidate, &recipe));
    Ok(wire::RecipeReply { candidate: id.0, recipe_json: RecipeFile { recipe, provenance }.to_json() })
}

/// Where a candidate's recipe came from and what it scored.
fn provenance(state: &State, candidate: &Candidate, recipe: &Recipe) -> Provenance {
    let (identity, plan, pinned) = (state.identity(), state.plan(), &state.pinned().manifest);
    let scored = match candidate.phase() {
        Phase::Scored(score) => Some(score),
        Phase::Open | Phase::Censored(_) | Phase::Failed => None,
    };
    let ended = candidate.attempts().iter().filter_map(|a| a.end.as_ref());
    Provenance {
        run: identity.run.0.clone(),
        name: plan.name.clone(),
        plan_digest: plan.digest(),
        dataset_digest: provenance::dataset_digest(pinned),
        algorithm: plan.search.algorithm.name().into(),
        candidate: candidate.id().0,
        generation: candidate.generation(),
        evaluations: state.progress().evaluations_done,
        fitness: scored.map(|s| s.fitness.value()),
        metrics: scored.map(|s| s.means.clone()).unwrap_or_default(),
        scored_unix_ms: ended.filter(|e| e.how == How::Scored).map(|e| e.at.0).next(),
        program_version: identity.program_version.clone(),
        merge_digest: provenance::merge_digest(recipe),
        files: provenance::model_files(recipe, pinned),
    }
}

fn no_candidate(state: &State, id: CandidateId) -> Class {
    Class::NotFound(match state.candidates().len() {
        0 => format!("no candidate {id}: the run has none yet"),
        n => format!("no candidate {id}: the run has 1 to {n}"),
    })
}
