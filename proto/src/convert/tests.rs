use super::*;
use crate::wire;
use common::digest::{FileDigest, Manifest};
use common::evaluation::{Evaluation, SampleResult, Stop, Timings};
use common::id::{CandidateId, LeaseId, WorkerId};
use std::collections::BTreeMap;

fn registration() -> Registration {
    let file = |n: &str| FileDigest { name: n.into(), bytes: 3, digest: Digest::of(n.as_bytes()) };
    Registration {
        name: "node-1".into(),
        program_version: "0.1.0".into(),
        protocol_version: 1,
        device: "cpu".into(),
        slots: 2,
        manifest: Manifest::new(vec![file("b"), file("a")]),
        held: vec![Held { lease: LeaseId(4), candidate: CandidateId(2), recipe: Digest::of(b"r") }],
        plan: Digest::of(b"plan"),
    }
}

fn exchange() -> Exchange {
    let sample = SampleResult {
        sample: "s1".into(),
        text: "両肺野は清明。".into(),
        tokens: 9,
        stop: Stop::End,
        scores: BTreeMap::from([("rouge_l".into(), 0.25)]),
        kept: None,
    };
    let evaluation = Evaluation {
        samples: vec![sample.clone()],
        timings: Timings { merge_ms: 1, features_ms: 2, generate_ms: 3, score_ms: 4, prefill_ms: 2 },
    };
    let outcome = |lease, end| Outcome {
        lease: LeaseId(lease),
        candidate: CandidateId(7),
        recipe: Digest::of(b"recipe"),
        end,
    };
    let failed = End::Failed { kind: FailureKind::Permanent, reason: "no such tensor".into() };
    Exchange {
        worker: WorkerId(3),
        sequence: 5,
        free_slots: 1,
        running: vec![LeaseProgress {
            lease: LeaseId(8),
            stage: Stage::Generating,
            samples_done: 12,
            begun: 16,
        }],
        outcomes: vec![outcome(9, End::Evaluated(evaluation)), outcome(10, failed)],
        wait_ms: 1000,
        leaving: false,
        reports: vec![Report {
            lease: LeaseId(8),
            candidate: CandidateId(6),
            recipe: Digest::of(b"other"),
            part: Evaluation { samples: vec![sample], timings: Timings::default() },
        }],
    }
}

#[test]
fn requests_survive_the_wire() {
    let r = registration();
    assert_eq!(Registration::try_from(wire::RegisterRequest::from(r.clone())), Ok(r));
    let e = exchange();
    assert_eq!(Exchange::try_from(wire::ExchangeRequest::from(e.clone())), Ok(e));
}

#[test]
fn answers_survive_the_wire() {
    let answer = ExchangeAnswer {
        drain: true,
        sequence: 5,
        grants: vec![],
        cancelled: vec![LeaseId(1)],
        acknowledgements: vec![Acknowledgement {
            lease: LeaseId(9),
            receipt: Receipt::Refused,
            message: "samples differ".into(),
        }],
        state: RunState::Running,
        progress: Progress {
            evaluations_done: 3,
            evaluations_budget: 10,
            generation: 1,
            best: Some((CandidateId(2), 0.5)),
            workers: 2,
        },
        remainders: vec![Remainder { lease: LeaseId(4), samples: vec![0, 2, 3] }],
    };
    assert_eq!(ExchangeAnswer::try_from(wire::ExchangeReply::from(answer.clone())), Ok(answer));
    let registered = Registered { worker: WorkerId(2), adopted: vec![LeaseId(1)], cancelled: vec![] };
    assert_eq!(Registered::try_from(wire::RegisterReply::from(registered.clone())), Ok(registered));
}

/// Changes one thing of a good request and expects the refusal to name it.
fn refused(field: &str, change: impl FnOnce(&mut wire::RegisterRequest)) {
    let mut request = wire::RegisterRequest::from(registration());
    change(&mut request);
    assert_eq!(Registration::try_from(request).unwrap_err().field, field);
}

#[test]
fn a_bad_registration_is_refused_by_field() {
    refused("worker_name", |r| r.worker_name.clear());
    refused("worker_name", |r| r.worker_name = "a\u{1b}[2J".into());
    refused("slots", |r| r.slots = 0);
    refused("slots", |r| r.slots = MAX_SLOTS + 1);
    refused("files[1].digest", |r| r.files[1].digest = "ff".into());
    refused("files[0].name", |r| r.files[0].name = "x".repeat(MAX_NAME_BYTES + 1));
    refused("files", |r| r.files[1].name = "a".into());
    refused("held", |r| r.held = vec![Default::default(); MAX_LEASES + 1]);
    refused("held[0].lease_id", |r| r.held[0].lease_id = 0);
    refused("plan_digest", |r| r.plan_digest.push('0'));
}

#[test]
fn a_bad_exchange_is_refused_by_field() {
    let refused = |field: &str, change: &dyn Fn(&mut wire::ExchangeRequest)| {
        let mut request = wire::ExchangeRequest::from(exchange());
        change(&mut request);
        assert_eq!(Exchange::try_from(request).unwrap_err().field, field);
    };
    fn sample(r: &mut wire::ExchangeRequest) -> &mut wire::SampleResult {
        match &mut r.outcomes[0].end {
            Some(wire::outcome::End::Evaluation(e)) => &mut e.samples[0],
            _ => unreachable!("the first outcome is an evaluation"),
        }
    }
    refused("worker_id", &|r| r.worker_id = 0);
    refused("sequence", &|r| r.sequence = 0);
    refused("running[0].stage", &|r| r.running[0].stage = 99);
    refused("running[0].begun", &|r| r.running[0].begun = u32::MAX);
    refused("reports[0].lease_id", &|r| r.reports[0].lease_id = 0);
    refused("reports[0].samples[0].stop", &|r| r.reports[0].samples[0].stop = 77);
    refused("reports", &|r| r.reports = vec![Default::default(); MAX_LEASES + 1]);
    refused("outcomes[1].end", &|r| r.outcomes[1].end = None);
    refused("outcomes[0].recipe_digest", &|r| r.outcomes[0].recipe_digest.clear());
    refused("outcomes[0].evaluation.samples[0].stop", &|r| sample(r).stop = 0);
    let long = "x".repeat(common::dataset::MAX_REPORT_BYTES + 1);
    refused("outcomes[0].evaluation.samples[0].text", &|r| sample(r).text = long.clone());
}

#[test]
fn lines_for_people_are_cut_and_cleaned() {
    assert_eq!(line("a\nb\u{1b}c"), "a b c");
    let long = line(&"所".repeat(MAX_LINE_BYTES));
    assert!(long.len() <= MAX_LINE_BYTES && long.chars().all(|c| c == '所'));
}

#[test]
fn positions_of_samples_ascend() {
    let reply = |samples: Vec<u32>| wire::ExchangeReply {
        sequence: 1,
        state: wire::RunState::Running as i32,
        remainders: vec![wire::Remainder { lease_id: 3, samples }],
        ..Default::default()
    };
    assert!(ExchangeAnswer::try_from(reply(vec![0, 1, 7])).is_ok());
    for bad in [vec![1, 1], vec![2, 1], vec![u32::MAX]] {
        assert_eq!(ExchangeAnswer::try_from(reply(bad)).unwrap_err().field, "samples");
    }
}
