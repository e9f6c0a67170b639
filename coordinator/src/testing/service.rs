//! The real service on a loopback port, with workers that compute a function of the recipe.

use super::{found, manifest, plan, registration, uninterrupted};
use crate::driver::Unwatched;
use crate::state::{Durable, End, State};
use crate::store::{Store, memory::Memory, sled::Sled};
use crate::{Settings, restore};
use common::digest::{Digest, FileDigest, Manifest};
use common::id::LeaseId;
use common::run::RunPlan;
use common::time::Millis;
use proto::convert::{
    Description, End as Ending, Exchange, ExchangeAnswer, FailureKind, Grant, Held, LeaseProgress, Outcome,
    Registered, Registration, RunState, Stage,
};
use proto::status::Class;
use proto::{Channel, ClusterClient, Endpoint, wire};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tonic::transport::server::TcpIncoming;

/// A coordinator in this process.
struct Running {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<crate::error::Result<State>>,
}

async fn serve(mut store: Box<dyn Store>, plan: &RunPlan) -> Running {
    if store.load().unwrap().is_none() {
        store.commit(&Durable::new(plan, Manifest::default(), Millis(1)).records()).unwrap();
    }
    let state = restore(store.load().unwrap().unwrap()).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let settings = Settings { tick: Duration::from_millis(5), ..Settings::new(Box::new(Unwatched)) };
    let shutdown = async {
        if stopped.await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let ended = tokio::spawn(crate::run(settings, state, store, TcpIncoming::from(listener), shutdown));
    Running { address, stop, ended }
}

async fn connect(address: SocketAddr) -> Result<ClusterClient<Channel>, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    Ok(proto::cluster_client(endpoint.connect().await?))
}

async fn joined(client: &mut ClusterClient<Channel>, r: Registration) -> Result<Registered, Class> {
    let reply = client.register(wire::RegisterRequest::from(r)).await.map_err(|s| Class::from(&s))?;
    Ok(Registered::try_from(reply.into_inner()).unwrap())
}

/// A worker as the protocol wants it: repeats what was not answered, registers again where it is not known,
/// brings what it holds.
struct FakeWorker {
    plan: RunPlan,
    name: String,
    addresses: watch::Receiver<SocketAddr>,
    running: BTreeMap<LeaseId, Grant>,
    done: BTreeMap<LeaseId, Outcome>,
    /// Candidates whose first attempt this worker fails.
    fails: u64,
}

impl FakeWorker {
    fn new(plan: &RunPlan, name: &str, addresses: &watch::Receiver<SocketAddr>) -> FakeWorker {
        FakeWorker {
            plan: plan.clone(),
            name: name.into(),
            addresses: addresses.clone(),
            running: BTreeMap::new(),
            done: BTreeMap::new(),
            fails: 0,
        }
    }

    /// Until the run is finished. Yields how often it registered.
    async fn work(mut self) -> usize {
        for registrations in 1.. {
            let address = *self.addresses.borrow_and_update();
            match self.serve(address).await {
                Ok(()) => return registrations,
                // Known no longer: register again, at once.
                Err(Class::UnknownWorker) => {}
                // The coordinator is gone: wait for the next one.
                Err(Class::Unavailable(_) | Class::Internal(_)) => {
                    if self.addresses.changed().await.is_err() {
                        return registrations;
                    }
                }
                Err(other) => panic!("{other}"),
            }
        }
        unreachable!("it counts for ever")
    }

    async fn serve(&mut self, address: SocketAddr) -> Result<(), Class> {
        let gone = |e: tonic::transport::Error| Class::Unavailable(e.to_string());
        let mut client = connect(address).await.map_err(gone)?;
        let running = self.running.values().map(|g| (g.lease, g.candidate, g.recipe.digest()));
        let done = self.done.values().map(|o| (o.lease, o.candidate, o.recipe));
        let held = running.chain(done).map(|(lease, candidate, recipe)| Held { lease, candidate, recipe });
        let r = Registration { held: held.collect(), ..registration(&self.plan, &self.name) };
        let registered = joined(&mut client, r).await?;
        registered.cancelled.iter().for_each(|l| drop(self.running.remove(l)));
        for sequence in 1.. {
            // One finished per exchange, so that there is always something in flight.
            if let Some((lease, grant)) = self.running.pop_first() {
                let end = match grant.attempt == 1 && grant.candidate.0 <= self.fails {
                    true => Ending::Failed { kind: FailureKind::Retryable, reason: "flaky".into() },
                    false => super::outcome(&self.plan, &grant).end,
                };
                let (candidate, recipe) = (grant.candidate, grant.recipe.digest());
                self.done.insert(lease, Outcome { lease, candidate, recipe, end });
            }
            let progress = |lease: &LeaseId| LeaseProgress {
                lease: *lease,
                stage: Stage::Merging,
                samples_done: 1,
                begun: 0,
            };
            let e = Exchange {
                worker: registered.worker,
                sequence,
                free_slots: 2 - self.running.len() as u32,
                running: self.running.keys().map(progress).collect(),
                outcomes: self.done.values().cloned().collect(),
                // With work in hand it does not wait.
                wait_ms: if self.running.is_empty() { 10_000 } else { 0 },
                leaving: false,
                reports: Vec::new(),
            };
            let reply = client.exchange(wire::ExchangeRequest::from(e)).await.map_err(|s| Class::from(&s))?;
            let answer = ExchangeAnswer::try_from(reply.into_inner()).unwrap();
            assert_eq!(answer.sequence, sequence);
            answer.acknowledgements.iter().for_each(|a| drop(self.done.remove(&a.lease)));
            answer.cancelled.iter().for_each(|l| drop(self.running.remove(l)));
            self.running.extend(answer.grants.into_iter().map(|g| (g.lease, g)));
            if answer.state == RunState::Finished {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// What a coordinator that starts now would find.
fn stored(dir: &std::path::Path) -> State {
    State::restore(Sled::open(dir).unwrap().load().unwrap().unwrap()).unwrap()
}

async fn ended(running: Running) -> State {
    let limit = Duration::from_secs(60);
    tokio::time::timeout(limit, running.ended).await.expect("it ends").unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_search_over_the_wire_equals_the_serial_one() {
    let plan = plan(&["search.evaluations=40"]);
    let dir = tempfile::tempdir().unwrap();
    let running = serve(Box::new(Sled::open_or_create(dir.path()).unwrap()), &plan).await;
    let (_sender, addresses) = watch::channel(running.address);
    let workers: Vec<_> = (0..3)
        .map(|i| FakeWorker { fails: i, ..FakeWorker::new(&plan, &format!("w{i}"), &addresses) })
        .map(|w| tokio::spawn(w.work()))
        .collect();
    for worker in workers {
        assert_eq!(worker.await.unwrap(), 1);
    }
    let state = ended(running).await;
    assert_eq!(state.end(), Some(&End::Evaluations));
    assert_eq!(found(&stored(dir.path())), found(&uninterrupted(&plan)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopped_and_resumed_it_loses_nothing() {
    let plan = plan(&["search.evaluations=60"]);
    let dir = tempfile::tempdir().unwrap();
    let mut running = serve(Box::new(Sled::open_or_create(dir.path()).unwrap()), &plan).await;
    let (sender, addresses) = watch::channel(running.address);
    let workers: Vec<_> =
        (0..2).map(|i| tokio::spawn(FakeWorker::new(&plan, &format!("w{i}"), &addresses).work())).collect();
    for evaluations in [10, 30] {
        let mut inspect = proto::inspect_client(
            Endpoint::from_shared(format!("http://{}", running.address)).unwrap().connect().await.unwrap(),
        );
        loop {
            let status = inspect.status(wire::StatusRequest {}).await.unwrap().into_inner();
            if status.progress.unwrap().evaluations_done >= evaluations {
                break;
            }
        }
        running.stop.send(()).unwrap();
        let state = running.ended.await.unwrap().unwrap();
        assert_eq!(state.end(), None);
        drop(state);
        running = serve(Box::new(Sled::open(dir.path()).unwrap()), &plan).await;
        sender.send(running.address).unwrap();
    }
    for worker in workers {
        assert!(worker.await.unwrap() >= 3);
    }
    ended(running).await;
    let state = stored(dir.path());
    assert_eq!(found(&state), found(&uninterrupted(&plan)));
    let again = state.candidates().iter().filter(|c| {
        c.attempts().iter().filter(|a| a.end.as_ref().is_some_and(|e| e.how.word() == "scored")).count() != 1
    });
    assert_eq!(again.count(), 0, "nothing recorded is evaluated again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_differing_worker_is_refused_by_name_over_the_wire() {
    let plan = plan(&[]);
    let running = serve(Box::new(Memory::default()), &plan).await;
    let mut client = connect(running.address).await.unwrap();
    let reply = client.describe(wire::DescribeRequest {}).await.unwrap().into_inner();
    assert_eq!(Description::try_from(reply).unwrap().plan, plan);
    joined(&mut client, registration(&plan, "first")).await.unwrap();
    let changed = FileDigest { name: "models/base/config.json".into(), bytes: 1, digest: Digest::of(b"?") };
    let files = [changed].into_iter().chain(manifest().files().to_vec()).collect();
    let r = Registration { manifest: Manifest::new(files), ..registration(&plan, "second") };
    let Err(Class::Files { files }) = joined(&mut client, r).await else { panic!("taken in") };
    assert!(files[0].starts_with("models/base/config.json"), "{files:?}");
    running.stop.send(()).unwrap();
    assert_eq!(running.ended.await.unwrap().unwrap().end(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_can_look_while_it_runs_and_an_idle_worker_waits_for_work() {
    let plan = plan(&["search.evaluations=2", "search.population=2"]);
    let running = serve(Box::new(Memory::default()), &plan).await;
    let channel =
        Endpoint::from_shared(format!("http://{}", running.address)).unwrap().connect().await.unwrap();
    let mut client = proto::cluster_client(channel.clone());
    let mut inspect = proto::inspect_client(channel.clone());
    let worker = joined(&mut client, registration(&plan, "w")).await.unwrap().worker;
    let other = joined(&mut client, registration(&plan, "idle")).await.unwrap().worker;

    async fn exchange(client: &mut ClusterClient<Channel>, e: Exchange) -> ExchangeAnswer {
        let reply = client.exchange(wire::ExchangeRequest::from(e)).await.unwrap();
        ExchangeAnswer::try_from(reply.into_inner()).unwrap()
    }
    let grants = exchange(&mut client, super::exchange(worker, 1, 2)).await.grants;
    assert_eq!(grants.len(), 2);
    // Nothing is left for the other: its exchange is kept, and answered when the first gives one back.
    let waiting = Exchange { wait_ms: 30_000, ..super::exchange(other, 1, 1) };
    let mut idle = client.clone();
    let idle = tokio::spawn(async move { exchange(&mut idle, waiting).await });
    let end = Ending::Failed { kind: FailureKind::HandedBack, reason: "leaving".into() };
    let back = Outcome { end, ..super::outcome(&plan, &grants[1]) };
    let outcomes = vec![super::outcome(&plan, &grants[0]), back];
    exchange(&mut client, Exchange { outcomes, ..super::exchange(worker, 2, 0) }).await;
    let granted = idle.await.unwrap().grants;
    assert_eq!((granted[0].candidate, granted[0].attempt), (grants[1].candidate, 2));

    let status = inspect.status(wire::StatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.candidates_scored, status.candidates_leased, status.live), (1, 1, true));
    assert_eq!(status.workers.len(), 2);
    let mut stream = inspect.candidates(wire::CandidatesRequest {}).await.unwrap().into_inner();
    let first = stream.message().await.unwrap().unwrap();
    assert!(first.fitness.is_some() && first.genome.len() == 6 && first.metrics.contains_key("rouge_l"));
    assert!(stream.message().await.unwrap().is_some() && stream.message().await.unwrap().is_none());
    let mut reports = inspect.reports(wire::ReportsRequest { candidate: 1 }).await.unwrap().into_inner();
    assert_eq!(reports.message().await.unwrap().unwrap().text, "report of s1");
    let absent = inspect.reports(wire::ReportsRequest { candidate: 7 }).await.unwrap_err();
    assert_eq!(Class::from(&absent), Class::NotFound("no candidate 7: the run has 1 to 2".into()));
    let recipe = inspect.recipe(wire::RecipeRequest { candidate: None }).await.unwrap().into_inner();
    let file = common::provenance::RecipeFile::parse(&recipe.recipe_json).unwrap();
    assert_eq!(file.recipe, grants[0].recipe);
    let provenance = file.provenance.unwrap();
    assert_eq!((provenance.candidate, provenance.plan_digest), (recipe.candidate, plan.digest()));
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
    let service = "jradievo.cluster.v1.Cluster".to_string();
    let health = health.check(tonic_health::pb::HealthCheckRequest { service }).await.unwrap();
    assert_eq!(health.into_inner().status, 1);

    let outcomes = vec![super::outcome(&plan, &granted[0])];
    let last = exchange(&mut client, Exchange { outcomes, ..super::exchange(other, 2, 1) }).await;
    assert_eq!(last.state, RunState::Finished);
    let told = exchange(&mut client, super::exchange(worker, 3, 1)).await;
    assert_eq!(told.state, RunState::Finished);
    assert_eq!(ended(running).await.candidates().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_pauses_extends_and_lets_go_on_over_the_wire() {
    let plan = plan(&["search.evaluations=2", "search.population=2"]);
    let running = serve(Box::new(Memory::default()), &plan).await;
    let channel =
        Endpoint::from_shared(format!("http://{}", running.address)).unwrap().connect().await.unwrap();
    let mut operate = proto::operate_client(channel.clone());
    let mut inspect = proto::inspect_client(channel.clone());
    let mut client = proto::cluster_client(channel);
    let pause = |paused| wire::PauseRequest { paused };
    assert_eq!(operate.pause(pause(true)).await.unwrap().into_inner().leases, 0);
    assert!(inspect.status(wire::StatusRequest {}).await.unwrap().into_inner().paused);
    let worker = joined(&mut client, registration(&plan, "w")).await.unwrap().worker;
    let ask = move |sequence, wait_ms| {
        wire::ExchangeRequest::from(Exchange { wait_ms, ..super::exchange(worker, sequence, 2) })
    };
    assert!(client.exchange(ask(1, 0)).await.unwrap().into_inner().leases.is_empty());
    // Kept while paused, answered as soon as lending goes on.
    let mut waiting = client.clone();
    let kept = tokio::spawn(async move { waiting.exchange(ask(2, 9_000)).await.unwrap().into_inner() });
    operate.pause(pause(false)).await.unwrap();
    assert_eq!(kept.await.unwrap().leases.len(), 2);
    let extend = |evaluations| wire::ExtendRequest { evaluations: Some(evaluations), ..Default::default() };
    let refused = operate.extend(extend(1)).await.unwrap_err();
    assert!(matches!(Class::from(&refused), Class::BadInput { field, .. } if field == "evaluations"));
    let budget = operate.extend(extend(4)).await.unwrap().into_inner().budget.unwrap();
    assert_eq!((budget.evaluations, budget.hours), (4, None));
    let status = inspect.status(wire::StatusRequest {}).await.unwrap().into_inner();
    assert_eq!(status.progress.unwrap().evaluations_budget, 4);
    running.stop.send(()).unwrap();
    assert_eq!(running.ended.await.unwrap().unwrap().budget().evaluations, 4);
}
