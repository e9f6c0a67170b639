//! What is spoken, and what nodes show each other.

use crate::{Seeds, plan};
use prost::Message;
use proto::wire;
use std::time::{Duration, SystemTime};

/// One message of every kind, its number before it.
pub fn messages(seeds: &Seeds) {
    let digest = common::digest::Digest::of(b"x").to_string();
    let sample = wire::SampleResult {
        sample: "s1".into(),
        text: "両肺野は清明。".into(),
        tokens: 9,
        stop: 1,
        scores: [("rouge_l".to_string(), 0.25)].into(),
        ..Default::default()
    };
    let evaluation = wire::Evaluation {
        samples: vec![sample.clone()],
        timings: Some(wire::Timings { merge_ms: 1, ..Default::default() }),
    };
    let outcome = wire::Outcome {
        lease_id: 1,
        candidate: 2,
        recipe_digest: digest.clone(),
        end: Some(wire::outcome::End::Evaluation(evaluation)),
    };
    let failed = wire::Outcome {
        end: Some(wire::outcome::End::Failure(wire::Failure { kind: 1, reason: "no such tensor".into() })),
        ..outcome.clone()
    };
    let exchange = wire::ExchangeRequest {
        worker_id: 1,
        sequence: 3,
        free_slots: 1,
        running: vec![wire::Running { lease_id: 4, stage: 3, ..Default::default() }],
        outcomes: vec![outcome, failed],
        wait_ms: 100,
        leaving: true,
        reports: vec![wire::Report {
            lease_id: 4,
            candidate: 2,
            recipe_digest: digest.clone(),
            samples: vec![sample.clone()],
            timings: None,
        }],
    };
    let register = wire::RegisterRequest {
        worker_name: "node".into(),
        program_version: "0.1.0".into(),
        protocol_version: proto::PROTOCOL_VERSION,
        device: "cpu".into(),
        slots: 1,
        files: vec![wire::File {
            name: "models/base/config.json".into(),
            size_bytes: 3,
            digest: digest.clone(),
        }],
        held: vec![wire::HeldLease { lease_id: 4, candidate: 2, recipe_digest: digest.clone() }],
        plan_digest: digest.clone(),
    };
    let plan = plan(seeds, "demo").map(|p| p.to_json()).unwrap_or_default();
    let describe = wire::DescribeReply {
        run_id: "r".into(),
        protocol_version: proto::PROTOCOL_VERSION,
        program_version: "0.1.0".into(),
        plan_digest: common::digest::Digest::of(plan.as_bytes()).to_string(),
        plan_json: plan,
        state: 1,
    };
    let registered =
        wire::RegisterReply { worker_id: 1, adopted_lease_ids: vec![4], cancelled_lease_ids: vec![5] };
    let recipe = seed_recipe(seeds);
    let answer = wire::ExchangeReply {
        sequence: 3,
        leases: vec![wire::Lease {
            lease_id: 6,
            candidate: 3,
            attempt: 1,
            recipe_digest: common::recipe::Recipe::parse(&recipe)
                .map(|r| r.digest().to_string())
                .unwrap_or_default(),
            recipe_json: recipe.clone(),
            renew_within_ms: 1000,
            samples: vec![0, 2],
        }],
        cancelled_lease_ids: vec![1],
        acknowledgements: vec![wire::Acknowledgement { lease_id: 1, receipt: 1, message: "ok".into() }],
        state: 1,
        progress: Some(wire::Progress { evaluations_done: 1, best_fitness: Some(0.5), ..Default::default() }),
        remainders: vec![wire::Remainder { lease_id: 4, samples: vec![1] }],
        drain: true,
    };
    let record =
        wire::StoredRecord { tree: "run".into(), key: b"identity".to_vec(), value: Some(vec![1, 2]) };
    let join =
        wire::JoinRequest { secret: vec![1; 32], certificate_request: vec![48, 0], name: "gpu1".into() };
    let extend = wire::ExtendRequest { evaluations: Some(5), hours: Some(1.5), ..Default::default() };
    let budget = wire::Budget { evaluations: 9, hours: Some(1.0), ..Default::default() };
    let detail = wire::ErrorDetail { retry: 1, field: "slots".into(), ..Default::default() };
    let all: [(u8, Vec<u8>); 15] = [
        (0, register.encode_to_vec()),
        (1, exchange.encode_to_vec()),
        (2, describe.encode_to_vec()),
        (3, registered.encode_to_vec()),
        (4, answer.encode_to_vec()),
        (5, join.encode_to_vec()),
        (6, extend.encode_to_vec()),
        (7, wire::ExtendReply { budget: Some(budget) }.encode_to_vec()),
        (8, [vec![3], detail.encode_to_vec()].concat()),
        (9, wire::StatusReply { run_id: "r".into(), live: true, ..Default::default() }.encode_to_vec()),
        (10, wire::CandidateView { candidate: 1, fitness: Some(0.5), ..Default::default() }.encode_to_vec()),
        (11, wire::RecipeReply { candidate: 1, recipe_json: recipe }.encode_to_vec()),
        (12, wire::BackupChunk { records: vec![record], whole: false }.encode_to_vec()),
        (14, wire::DrainRequest { name: "node".into(), drain: true }.encode_to_vec()),
        (15, sample.encode_to_vec()),
    ];
    for (kind, bytes) in all {
        seeds.write("messages", &format!("{kind:02}"), [vec![kind], bytes].concat());
    }
}

fn seed_recipe(seeds: &Seeds) -> String {
    plan(seeds, "demo").map(|p| p.authors_middle().to_json()).unwrap_or_default()
}

/// Certificates, a request, a list of revoked ones and a token; no private key, not even of a test, is kept.
pub fn certificates(seeds: &Seeds) {
    use secure::authority::{Authority, pem};
    let folder = tempfile::tempdir().expect("a folder");
    let (now, hour) = (SystemTime::now(), Duration::from_secs(3600));
    let authority = Authority::create(folder.path(), now).expect("an authority");
    let node = secure::enrolment::Enrolment::new(folder.path().join("node"));
    drop(node.lock().expect("a node's folder"));
    let request = node.request().expect("a request");
    seeds.write("pki", "request", &request);
    let token = authority.token(hour, 1, hour, None, now).expect("a token");
    seeds.write("pki", "token", token.text());
    let (certificate, _) = authority.join(&token.secret, &request, "gpu1", now).expect("a certificate");
    seeds.write("pki", "worker.der", &certificate);
    seeds.write("pki", "chain.pem", pem(&[&certificate, authority.certificate()]));
    authority.revoke("gpu1", now).expect("a list");
    seeds.write("pki", "crl.pem", std::fs::read(folder.path().join("crl.pem")).expect("the list"));
}
