//! The state machine by itself: single cases. Any order of events is in `world_tests`.

use super::*;
use crate::testing::{
    begun, evaluate, exchange, exchanged, found, manifest, outcome, plan, registered, registration, report,
    uninterrupted, with_samples,
};
use candidate::Phase;
use common::digest::{BUILT_IN, Digest, FileDigest, Manifest};
use common::fitness::{Aim, Direction};
use common::id::WorkerId;
use proto::convert::{
    End as Ending, Exchange, FailureKind, Grant, Held, LeaseProgress, Outcome, Receipt, Registration,
    RunState, Stage,
};
use proto::status::Class;

fn lent(state: &mut State, now: u64, slots: u32) -> (WorkerId, Vec<Grant>) {
    let plan = state.plan().clone();
    let worker = registered(state, Millis(now), registration(&plan, "w"));
    (worker, exchanged(state, Millis(now), exchange(worker, 1, slots)).grants)
}

fn failed(grant: &Grant, kind: FailureKind) -> Outcome {
    let end = Ending::Failed { kind, reason: "out of memory".into() };
    Outcome { lease: grant.lease, candidate: grant.candidate, recipe: grant.recipe.digest(), end }
}

fn refusal(state: &mut State, r: Registration) -> Class {
    match state.apply(Millis(5), Event::Register(Box::new(r))).reply {
        Some(Reply::Registered(Err(class))) => class,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn a_whole_search_ends_with_its_budget() {
    let state = uninterrupted(&plan(&[]));
    assert_eq!(state.end(), Some(&End::Evaluations));
    // 25 in generations of 6: the fifth is cut to one.
    assert_eq!((state.candidates().len(), state.generation()), (25, 5));
    let best = state.best().unwrap();
    assert!(state.candidates().iter().all(|c| c.fitness() <= Some(best.1)));
    assert_eq!(found(&state), found(&uninterrupted(&plan(&[]))));
    assert_ne!(found(&state), found(&uninterrupted(&plan(&["seed=12"]))));
}

#[test]
fn a_space_without_parameters_ends_after_one_evaluation() {
    let fixed = ["drop_rate", "trim_rate", "scale", "weight"].map(|p| format!("parameters.{p}=0.5"));
    let state = uninterrupted(&plan(&fixed.iter().map(String::as_str).collect::<Vec<_>>()));
    assert_eq!(state.candidates().len(), 1);
    assert!(state.end().unwrap().reason().contains("every parameter is fixed"));
}

#[test]
fn a_lost_lease_goes_to_another_and_the_late_result_still_counts() {
    let plan = plan(&[]);
    let mut state = begun(&plan);
    let (first, grants) = lent(&mut state, 10, 1);
    let (second, _) = lent(&mut state, 10, 0);
    assert!(exchanged(&mut state, Millis(20_000), exchange(second, 2, 1)).grants[0].candidate.0 == 2);
    // Past the first lease's 30 s: its candidate is the lowest that waits.
    let again = exchanged(&mut state, Millis(31_000), exchange(second, 3, 1)).grants;
    assert_eq!((again[0].candidate, again[0].attempt), (grants[0].candidate, 2));
    let late = Exchange { outcomes: vec![outcome(&plan, &grants[0])], ..exchange(first, 2, 0) };
    let receipt = exchanged(&mut state, Millis(32_000), late).acknowledgements[0].receipt;
    assert_eq!(receipt, Receipt::Recorded);
    // The other is told to stop, and what it hands in anyway changes nothing.
    let running =
        LeaseProgress { lease: again[0].lease, stage: Stage::Generating, samples_done: 1, begun: 0 };
    let e = Exchange { running: vec![running], ..exchange(second, 4, 0) };
    assert_eq!(exchanged(&mut state, Millis(33_000), e).cancelled, [again[0].lease]);
    let before = state.candidate(again[0].candidate).unwrap().clone();
    let e = Exchange { outcomes: vec![outcome(&plan, &again[0])], ..exchange(second, 5, 0) };
    assert_eq!(exchanged(&mut state, Millis(34_000), e).acknowledgements[0].receipt, Receipt::Duplicate);
    assert_eq!(state.candidate(again[0].candidate), Some(&before));
}

#[test]
fn renewal_keeps_a_lease_and_a_stalled_worker_gets_it_back() {
    let plan = plan(&[]);
    let mut state = begun(&plan);
    let (worker, grants) = lent(&mut state, 0, 1);
    let running = LeaseProgress { lease: grants[0].lease, stage: Stage::Merging, samples_done: 0, begun: 0 };
    let renew = |sequence| Exchange { running: vec![running], ..exchange(worker, sequence, 0) };
    for i in 1..5 {
        assert_eq!(exchanged(&mut state, Millis(20_000 * i), renew(1 + i)).cancelled, []);
    }
    state.apply(Millis(120_000), Event::Tick);
    assert!(state.leases().is_empty());
    assert_eq!(exchanged(&mut state, Millis(121_000), renew(6)).cancelled, []);
    let candidate = state.candidate(grants[0].candidate).unwrap();
    assert_eq!((candidate.attempts().len(), candidate.counted_attempts()), (1, 0));
}

#[test]
fn attempts_are_bounded_and_the_run_goes_on() {
    let plan = plan(&[]);
    let mut state = begun(&plan);
    let (worker, mut grants) = lent(&mut state, 10, 1);
    let mut sequence = 1;
    for attempt in 1..=3 {
        assert_eq!((grants[0].candidate, grants[0].attempt), (CandidateId(1), attempt));
        sequence += 1;
        let outcomes = vec![failed(&grants[0], FailureKind::Retryable)];
        grants =
            exchanged(&mut state, Millis(10), Exchange { outcomes, ..exchange(worker, sequence, 1) }).grants;
    }
    let candidate = state.candidate(CandidateId(1)).unwrap();
    assert_eq!(candidate.phase(), &Phase::Failed);
    assert!(candidate.attempts().iter().all(|a| a.end.as_ref().unwrap().reason == "out of memory"));
    assert_eq!(grants[0].candidate, CandidateId(2));
    sequence += 1;
    let outcomes = vec![failed(&grants[0], FailureKind::Permanent)];
    exchanged(&mut state, Millis(10), Exchange { outcomes, ..exchange(worker, sequence, 0) });
    assert_eq!(state.candidate(CandidateId(2)).unwrap().phase(), &Phase::Failed);
}

#[test]
fn nonsense_is_a_failed_attempt_with_its_reason() {
    let plan = plan(&[]);
    let mut state = begun(&plan);
    let (worker, grants) = lent(&mut state, 10, 2);
    let mut nan = outcome(&plan, &grants[0]);
    let mut short = outcome(&plan, &grants[1]);
    for (o, nonsense) in [(&mut nan, true), (&mut short, false)] {
        let Ending::Evaluated(e) = &mut o.end else { unreachable!("an honest outcome is an evaluation") };
        match nonsense {
            true => *e.samples[1].scores.get_mut("rouge_l").unwrap() = f64::NAN,
            false => drop(e.samples.pop()),
        }
    }
    let e = Exchange { outcomes: vec![nan, short], ..exchange(worker, 2, 0) };
    let acks = exchanged(&mut state, Millis(20), e).acknowledgements;
    assert!(acks.iter().all(|a| a.receipt == Receipt::Refused));
    assert!(acks[0].message.contains("rouge_l") && acks[1].message.contains("1 of its samples"), "{acks:?}");
    assert_eq!(state.candidate(CandidateId(1)).unwrap().counted_attempts(), 1);
}

#[test]
fn a_repeated_number_gets_the_same_reply_and_an_older_one_none() {
    let plan = plan(&[]);
    let mut state = begun(&plan);
    let (worker, grants) = lent(&mut state, 10, 2);
    let again = exchanged(&mut state, Millis(20), exchange(worker, 1, 2));
    assert_eq!((again.grants, state.leases().len()), (grants, 2));
    exchanged(&mut state, Millis(30), exchange(worker, 2, 0));
    let reply = state.apply(Millis(40), Event::Exchange(Box::new(exchange(worker, 1, 2)))).reply;
    assert!(
        matches!(reply, Some(Reply::Exchanged(Err(Class::BadInput { field, .. }))) if field == "sequence")
    );
    let reply = state.apply(Millis(40), Event::Exchange(Box::new(exchange(WorkerId(9), 1, 2)))).reply;
    assert!(matches!(reply, Some(Reply::Exchanged(Err(Class::UnknownWorker)))));
}

#[test]
fn workers_that_differ_are_turned_away_by_name() {
    let plan = plan(&[]);
    let mut state = begun(&plan);
    let honest = registration(&plan, "w");
    let version = Registration { program_version: "0.0.1".into(), ..honest.clone() };
    assert!(matches!(refusal(&mut state, version), Class::Version(t) if t.contains("program version")));
    let other_plan = Registration { plan: Digest::of(b"other"), ..honest.clone() };
    assert!(matches!(refusal(&mut state, other_plan), Class::Version(t) if t.contains("plan")));
    // The first worker pins what the coordinator did not see; the next one has to match.
    assert!(!state.pinned().complete);
    registered(&mut state, Millis(5), honest.clone());
    let mut files = manifest().files().to_vec();
    files[1].digest = Digest::of(b"changed");
    files.push(FileDigest { name: "models/base/extra.bin".into(), bytes: 1, digest: Digest::of(b"x") });
    let changed = Registration { manifest: Manifest::new(files), ..honest.clone() };
    let Class::Files { files } = refusal(&mut state, changed) else { panic!("not by files") };
    assert!(files[0].starts_with("models/base/config.json: content differs"), "{files:?}");
    assert!(files[1].starts_with("models/base/extra.bin: unknown"), "{files:?}");
    registered(&mut state, Millis(5), honest);
}

#[test]
fn what_the_coordinator_saw_binds_the_first_worker_too() {
    let plan = plan(&[]);
    let seen = FileDigest { name: "dataset/d.jsonl".into(), bytes: 9, digest: Digest::of(b"seen") };
    let durable = Durable::new(&plan, Manifest::new(vec![seen]), Millis(1));
    let mut state = State::restore(durable).unwrap();
    state.apply(Millis(1), Event::Start);
    let class = refusal(&mut state, registration(&plan, "w"));
    assert!(matches!(class, Class::Files { files } if files.len() == 1 && files[0].contains("d.jsonl")));
    assert!(!state.pinned().complete);
}

#[test]
fn what_is_part_of_the_program_is_compared_unless_the_run_is_older() {
    let plan = plan(&[]);
    let built_in =
        |bytes: &[u8]| FileDigest { name: format!("{BUILT_IN}x"), bytes: 1, digest: Digest::of(bytes) };
    let with = |file: Option<FileDigest>| {
        let files = manifest().files().iter().cloned().chain(file).collect();
        Registration { manifest: Manifest::new(files), ..registration(&plan, "w") }
    };
    let mut state = begun(&plan);
    registered(&mut state, Millis(5), with(Some(built_in(b"a"))));
    assert!(matches!(refusal(&mut state, with(Some(built_in(b"b")))), Class::Files { .. }));
    assert!(matches!(refusal(&mut state, with(None)), Class::Files { .. }));
    let mut older = begun(&plan);
    registered(&mut older, Millis(5), with(None));
    registered(&mut older, Millis(5), with(Some(built_in(b"a"))));
}

#[test]
fn after_a_restart_workers_are_adopted_and_the_rest_goes_to_others_uncounted() {
    let plan = plan(&[]);
    let mut state = begun(&plan);
    let (_, grants) = lent(&mut state, 10, 2);
    let mut state = State::restore(state.durable()).unwrap();
    state.apply(Millis(1_000), Event::Start);
    // Nothing that may still be running is lent again during the grace.
    let (_, fresh) = lent(&mut state, 1_100, 1);
    assert_eq!(fresh[0].candidate, CandidateId(3));
    let held =
        Held { lease: grants[0].lease, candidate: grants[0].candidate, recipe: grants[0].recipe.digest() };
    let stranger = Held { recipe: Digest::of(b"other"), ..held.clone() };
    let r = Registration { held: vec![held.clone(), stranger], ..registration(&plan, "w") };
    let reply = state.apply(Millis(2_000), Event::Register(Box::new(r))).reply;
    let Some(Reply::Registered(Ok(r))) = reply else { panic!("not registered") };
    assert_eq!((r.adopted.as_slice(), r.cancelled.as_slice()), (&[held.lease][..], &[held.lease][..]));
    state.apply(Millis(12_000), Event::Tick);
    assert!(state.candidate(CandidateId(2)).unwrap().is_waiting());
    assert_eq!(state.candidate(CandidateId(2)).unwrap().counted_attempts(), 0);
    let outcomes = vec![outcome(&plan, &grants[0])];
    let answer = exchanged(&mut state, Millis(13_000), Exchange { outcomes, ..exchange(r.worker, 1, 1) });
    assert_eq!(answer.acknowledgements[0].receipt, Receipt::Recorded);
    assert_eq!(answer.grants[0].candidate, CandidateId(2));
    assert!(answer.grants[0].lease.0 > grants[1].lease.0, "lease numbers are never used twice");
}

#[test]
fn a_leaving_worker_gives_everything_back() {
    let plan = plan(&[]);
    let mut state = begun(&plan);
    let (worker, _) = lent(&mut state, 10, 2);
    exchanged(&mut state, Millis(20), Exchange { leaving: true, ..exchange(worker, 2, 2) });
    assert!(state.leases().is_empty() && state.roster().is_empty());
    assert!(state.candidates().iter().all(|c| c.is_waiting() && c.counted_attempts() == 0));
}

#[test]
fn the_time_budget_spans_restarts_and_ends_the_run() {
    let plan = plan(&["search.hours=0.01"]);
    let mut state = begun(&plan);
    lent(&mut state, 10, 2);
    state.apply(Millis(20_000), Event::Tick);
    let mut state = State::restore(state.durable()).unwrap();
    state.apply(Millis(900_000), Event::Start);
    state.apply(Millis(915_000), Event::Tick);
    assert_eq!(state.end(), None);
    let changes = state.apply(Millis(917_000), Event::Tick);
    assert_eq!(state.end(), Some(&End::Hours));
    assert!(changes.notes.iter().any(|n| matches!(n, Note::Finished { .. })));
    assert!(state.leases().is_empty());
}

#[test]
fn a_stopping_coordinator_lends_nothing_but_takes_results() {
    let plan = plan(&[]);
    let mut state = begun(&plan);
    let (worker, grants) = lent(&mut state, 10, 1);
    state.apply(Millis(20), Event::Stop);
    let outcomes = vec![outcome(&plan, &grants[0])];
    let answer = exchanged(&mut state, Millis(30), Exchange { outcomes, ..exchange(worker, 2, 1) });
    assert_eq!((answer.state, answer.grants.len()), (RunState::Stopping, 0));
    assert_eq!(answer.acknowledgements[0].receipt, Receipt::Recorded);
}

#[test]
fn a_second_result_that_differs_is_noted_and_does_not_count() {
    let plan = plan(&[]);
    let mut state = begun(&plan);
    let (worker, grants) = lent(&mut state, 10, 1);
    let mut other = outcome(&plan, &grants[0]);
    other.end = Ending::Evaluated(evaluate(&plan, &plan.authors_middle()));
    let outcomes = vec![outcome(&plan, &grants[0])];
    exchanged(&mut state, Millis(20), Exchange { outcomes, ..exchange(worker, 2, 0) });
    let fitness = state.candidate(CandidateId(1)).unwrap().fitness();
    let e = Exchange { outcomes: vec![other], ..exchange(worker, 3, 0) };
    let changes = state.apply(Millis(30), Event::Exchange(Box::new(e)));
    assert!(changes.notes.iter().any(|n| matches!(n, Note::Disagreement { .. })));
    assert_eq!(state.candidate(CandidateId(1)).unwrap().fitness(), fitness);
}

/// A candidate's samples that are there go up with the exchange, survive a restart, and are not asked for again.
#[test]
fn a_lost_worker_leaves_only_its_missing_samples_to_others() {
    let plan = with_samples(plan(&[]), 6, 6);
    let mut state = begun(&plan);
    let (first, grants) = lent(&mut state, 10, 1);
    assert_eq!(grants[0].samples, [0, 1, 2, 3, 4, 5]);
    // Rows end at different steps.
    let reports = vec![report(&plan, &grants[0], &[4, 1, 2])];
    let running =
        LeaseProgress { lease: grants[0].lease, stage: Stage::Generating, samples_done: 3, begun: 6 };
    let e = Exchange { reports, running: vec![running], ..exchange(first, 2, 0) };
    exchanged(&mut state, Millis(20), e);
    let mut state = State::restore(state.durable()).unwrap();
    state.apply(Millis(1_000), Event::Start);
    state.apply(Millis(12_000), Event::Tick);
    assert_eq!(state.samples_done(state.candidate(CandidateId(1)).unwrap()), 3);
    let (second, again) = lent(&mut state, 12_001, 1);
    assert_eq!((again[0].candidate, again[0].attempt), (CandidateId(1), 2));
    assert_eq!(again[0].samples, [0, 3, 5]);
    let outcomes = vec![outcome(&plan, &again[0])];
    exchanged(&mut state, Millis(12_002), Exchange { outcomes, ..exchange(second, 2, 0) });
    let joined = state.candidate(CandidateId(1)).unwrap();
    let whole = plan.objective.fitness(&evaluate(&plan, &again[0].recipe), &plan.samples).unwrap();
    assert_eq!(joined.fitness(), Some(whole));
    let yields: Vec<u32> = joined.attempts().iter().map(|a| a.samples).collect();
    assert_eq!(yields, [3, 3]);
}

#[test]
fn a_broken_batch_is_done_again_whole_where_the_plan_says_so() {
    let plan = with_samples(plan(&["scheduling.redo=batch"]), 6, 3);
    let mut state = begun(&plan);
    let (first, grants) = lent(&mut state, 10, 1);
    let reports = vec![report(&plan, &grants[0], &[0, 1, 2, 4])];
    exchanged(&mut state, Millis(20), Exchange { reports, leaving: true, ..exchange(first, 2, 0) });
    let (_, again) = lent(&mut state, 30, 1);
    assert_eq!(again[0].samples, [3, 4, 5]);
}

/// A metric that looks at all reports of a candidate must never be asked about some of them.
#[test]
fn a_candidate_that_is_one_piece_is_neither_shared_nor_continued() {
    let one = ["search.population=2", "search.evaluations=1", "scheduling.redo=sample"];
    let sets = [&one[..], &["scoring.external.x={ command = [\"./m\"], per = \"candidate\" }"]].concat();
    let plan = with_samples(plan(&sets), 16, 2);
    let all: Vec<u32> = (0..16).collect();
    let mut state = begun(&plan);
    let (holder, grants) = lent(&mut state, 10, 1);
    assert_eq!(grants[0].samples, all);
    assert_eq!(lent(&mut state, 20, 1).1, [], "no share");
    let reports = vec![report(&plan, &grants[0], &[0, 1, 2])];
    exchanged(&mut state, Millis(30), Exchange { reports, leaving: true, ..exchange(holder, 2, 0) });
    let (second, again) = lent(&mut state, 40, 1);
    assert_eq!(again[0].samples, all, "all of it again");
    let outcomes = vec![outcome(&plan, &again[0])];
    exchanged(&mut state, Millis(50), Exchange { outcomes, ..exchange(second, 2, 0) });
    assert_eq!(state.end(), Some(&End::Evaluations));
}

#[test]
fn a_sample_without_an_objective_is_refused() {
    let mut plan = with_samples(plan(&[]), 4, 4);
    let aim = |metric: &str| Aim { metric: metric.into(), direction: Direction::Maximise };
    plan.objectives = vec![aim("fitness"), aim("style")];
    let mut state = begun(&plan);
    let (worker, grants) = lent(&mut state, 10, 1);
    let outcomes = vec![outcome(&plan, &grants[0])];
    let answer = exchanged(&mut state, Millis(20), Exchange { outcomes, ..exchange(worker, 2, 0) });
    let said = &answer.acknowledgements[0];
    assert_eq!(said.receipt, Receipt::Refused);
    assert!(said.message.contains("style"), "{}", said.message);
}

#[test]
fn idle_slots_take_halves_of_what_is_not_begun() {
    let plan = with_samples(plan(&["search.population=2", "search.evaluations=2"]), 16, 2);
    let mut state = begun(&plan);
    let (holder, grants) = lent(&mut state, 10, 2);
    assert_eq!(grants.len(), 2);
    // It generates the second batch of the first candidate.
    let running = |i: usize, begun| LeaseProgress {
        lease: grants[i].lease,
        stage: Stage::Generating,
        samples_done: 2,
        begun,
    };
    let e =
        |sequence| Exchange { running: vec![running(0, 4), running(1, 0)], ..exchange(holder, sequence, 0) };
    exchanged(&mut state, Millis(20), e(2));
    let (_, shared) = lent(&mut state, 30, 2);
    // The second has seven batches to give, the first six: each gives the later half.
    assert_eq!((shared[0].candidate, shared[0].samples[0], shared[0].samples.len()), (CandidateId(2), 8, 8));
    assert_eq!((shared[1].candidate, shared[1].samples[0], shared[1].samples.len()), (CandidateId(1), 10, 6));
    let told = exchanged(&mut state, Millis(40), e(3)).remainders;
    assert_eq!(told.len(), 2);
    assert_eq!(told[0].samples, (0..10).collect::<Vec<u32>>());
    assert_eq!(told[1].samples, (0..8).collect::<Vec<u32>>());
    // All parts together are the candidate.
    for (i, part) in [grants[1].clone(), shared[0].clone()].into_iter().enumerate() {
        let part = Grant { samples: part.samples.into_iter().filter(|p| i == 1 || *p < 8).collect(), ..part };
        let outcomes = vec![outcome(&plan, &part)];
        let e = Exchange { outcomes, ..exchange(holder, 4 + i as u64, 0) };
        assert_eq!(exchanged(&mut state, Millis(50), e).acknowledgements[0].receipt, Receipt::Recorded);
    }
    let joined = state.candidate(CandidateId(2)).unwrap();
    let whole = plan.objective.fitness(&evaluate(&plan, &grants[1].recipe), &plan.samples).unwrap();
    assert_eq!(joined.fitness(), Some(whole));
    let how: Vec<&str> = joined.attempts().iter().map(|a| a.end.as_ref().unwrap().how.word()).collect();
    assert_eq!(how, ["partial", "scored"]);
}

#[test]
fn without_splitting_idle_slots_wait() {
    let plan = with_samples(plan(&["search.population=2", "scheduling.split=false"]), 16, 2);
    let mut state = begun(&plan);
    lent(&mut state, 10, 2);
    assert_eq!(lent(&mut state, 30, 2).1, []);
}

#[test]
fn a_fast_idle_worker_tries_the_slowest_batch_too_and_the_first_counts() {
    let plan = with_samples(plan(&["search.population=2", "search.evaluations=2"]), 4, 4);
    let mut state = begun(&plan);
    let (slow, held) = lent(&mut state, 0, 1);
    let (fast, grants) = lent(&mut state, 0, 1);
    // The fast one needs 5 ms a sample; the slow one has been at it for 20 s.
    let outcomes = vec![outcome(&plan, &grants[0])];
    let e = Exchange { outcomes, ..exchange(fast, 2, 1) };
    let second = exchanged(&mut state, Millis(20_000), e).grants;
    assert_eq!((second[0].candidate, second[0].attempt), (held[0].candidate, 2));
    assert_eq!(exchanged(&mut state, Millis(20_001), exchange(fast, 3, 1)).grants, [], "not a third time");
    let outcomes = vec![outcome(&plan, &second[0])];
    exchanged(&mut state, Millis(20_100), Exchange { outcomes, ..exchange(fast, 4, 0) });
    assert_eq!(state.end(), Some(&End::Evaluations));
    let running = LeaseProgress { lease: held[0].lease, stage: Stage::Generating, samples_done: 0, begun: 4 };
    let late = Exchange { running: vec![running], ..exchange(slow, 2, 0) };
    assert_eq!(exchanged(&mut state, Millis(20_200), late).cancelled, [held[0].lease]);
}

#[test]
fn every_sample_is_checked() {
    let plan = with_samples(plan(&["scheduling.attempts=100"]), 4, 4);
    let mut state = begun(&plan);
    let (worker, mut grants) = lent(&mut state, 10, 1);
    type Spoil = fn(&mut common::evaluation::SampleResult);
    let spoil: [(&str, Spoil); 4] = [
        ("no sample of the run", |s| s.sample = "s9".into()),
        ("more than 256", |s| s.tokens = 257),
        ("rouge_l", |s| _ = s.scores.insert("rouge_l".into(), f64::INFINITY)),
        ("no score", |s| _ = s.scores.remove("term_f1")),
    ];
    for (i, (reason, spoil)) in spoil.into_iter().enumerate() {
        let mut bad = report(&plan, &grants[0], &[0, 1]);
        spoil(&mut bad.part.samples[1]);
        let running =
            LeaseProgress { lease: grants[0].lease, stage: Stage::Generating, samples_done: 2, begun: 4 };
        let e = Exchange { reports: vec![bad], running: vec![running], ..exchange(worker, 2 + i as u64, 1) };
        let answer = exchanged(&mut state, Millis(20), e);
        assert_eq!(answer.cancelled, [grants[0].lease]);
        assert_eq!(
            state.samples_done(state.candidate(CandidateId(1)).unwrap()),
            0,
            "nothing of a bad report is kept"
        );
        let ended = state.candidate(CandidateId(1)).unwrap().attempts()[i].end.clone().unwrap();
        assert!(ended.how == How::Refused && ended.reason.contains(reason), "{ended:?}");
        grants = answer.grants;
    }
}

/// With objectives NSGA-II is told all of them: the same plan without them leads elsewhere, and its front holds several.
#[test]
fn a_search_of_several_objectives_is_told_them() {
    let sets = ["search.algorithm=nsga-ii", "search.evaluations=60", "search.population=6"];
    let one = plan(&sets);
    let both = "objectives={ maximise = [\"rouge_l\"], minimise = [\"term_f1\"] }";
    let several = plan(&[sets[0], sets[1], sets[2], both]);
    assert_eq!((one.numbers_told(), several.numbers_told()), (1, 2));
    let (one, several) = (uninterrupted(&one), uninterrupted(&several));
    let genomes = |s: &State| s.candidates().iter().map(|c| c.genome().clone()).collect::<Vec<_>>();
    assert_eq!(genomes(&one)[..6], genomes(&several)[..6]);
    assert_ne!(genomes(&one), genomes(&several));
    // One score grows as the other does, so each candidate is as good as any other and only ties fall away.
    assert!(several.front().count() > 1);
}
