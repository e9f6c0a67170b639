//! What each role may do, call by call, and that a worker is only itself.

use super::*;
use crate::testing::exchange;
use common::id::WorkerId;

/// Every call, and what came of it.
async fn all_calls(channel: &Channel) -> Vec<(&'static str, Result<(), Class>)> {
    let class = |s: tonic::Status| Class::from(&s);
    let mut cluster = proto::cluster_client(channel.clone());
    let mut inspect = proto::inspect_client(channel.clone());
    let mut operate = proto::operate_client(channel.clone());
    let register = wire::RegisterRequest::from(registration(&plan(&[]), "w"));
    let exchanged = wire::ExchangeRequest::from(exchange(WorkerId(1), 1, 0));
    let recipe = wire::RecipeRequest { candidate: Some(1) };
    let extend = wire::ExtendRequest { evaluations: Some(1000), ..Default::default() };
    vec![
        ("describe", cluster.describe(wire::DescribeRequest {}).await.map(drop).map_err(class)),
        ("register", cluster.register(register).await.map(drop).map_err(class)),
        ("exchange", cluster.exchange(exchanged).await.map(drop).map_err(class)),
        ("status", inspect.status(wire::StatusRequest {}).await.map(drop).map_err(class)),
        ("candidates", inspect.candidates(wire::CandidatesRequest {}).await.map(drop).map_err(class)),
        ("reports", inspect.reports(wire::ReportsRequest { candidate: 1 }).await.map(drop).map_err(class)),
        ("recipe", inspect.recipe(recipe).await.map(drop).map_err(class)),
        ("pause", operate.pause(wire::PauseRequest { paused: true }).await.map(drop).map_err(class)),
        ("extend", operate.extend(extend).await.map(drop).map_err(class)),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_role_may_call_what_the_table_says_and_nothing_else() {
    let site = site().await;
    let worker = all_calls(&site.member(Role::Worker, "w").await).await;
    let operator = all_calls(&site.member(Role::Operator, "op").await).await;
    let allowed = |calls: &[(&'static str, Result<(), Class>)]| -> Vec<&'static str> {
        calls.iter().filter(|(_, r)| !matches!(r, Err(Class::Denied(_)))).map(|(name, _)| *name).collect()
    };
    assert_eq!(allowed(&worker), ["describe", "register", "exchange"]);
    assert_eq!(
        allowed(&operator),
        ["describe", "status", "candidates", "reports", "recipe", "pause", "extend"]
    );
    // What was denied says to whom it belongs.
    let why = denied(worker[7].1.clone());
    assert!(why.contains("for the role operator") && why.contains("w is of a worker"), "{why}");
    // What a worker was denied had no effect.
    let mut inspect = proto::inspect_client(site.member(Role::Operator, "op2").await);
    let status = inspect.status(wire::StatusRequest {}).await.unwrap().into_inner();
    assert_eq!(status.budget.unwrap().evaluations, 1000, "the operator's own change");
    assert!(status.paused);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_is_whom_its_certificate_names_and_speaks_for_nobody_else() {
    let site = site().await;
    let plan = plan(&[]);
    let mut one = proto::cluster_client(site.member(Role::Worker, "one").await);
    let mut two = proto::cluster_client(site.member(Role::Worker, "two").await);
    let register = |name: &str| wire::RegisterRequest::from(registration(&plan, name));
    let taken = one.register(register("two")).await.map(drop).map_err(|s| Class::from(&s));
    let why = denied(taken);
    assert!(why.contains("--name one/1"), "{why}");
    let number = one.register(register("one/gpu0")).await.unwrap().into_inner().worker_id;
    let ask = |worker: u64| wire::ExchangeRequest::from(exchange(WorkerId(worker), 1, 1));
    // The other node knows the number and speaks as this one.
    let forged = two.exchange(ask(number)).await.map(drop).map_err(|s| Class::from(&s));
    assert!(denied(forged).contains("another node's"));
    let unknown = two.exchange(ask(number + 1)).await.map(drop).map_err(|s| Class::from(&s));
    assert_eq!(unknown, Err(Class::UnknownWorker));
    let leases = one.exchange(ask(number)).await.unwrap().into_inner().leases;
    assert_eq!(leases.len(), 1);
}
