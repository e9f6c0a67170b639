//! Many workers on one coordinator: the real service over loopback, a store on disk, workers that only pretend.
//!
//!     cargo run --release -p coordinator --example scale [-- WORKERS EVALUATIONS FOLDER]
//!
//! Each worker exchanges once a second, at a moment of its own, and hands in the result of the second before. The
//! service and all workers share one process of two threads (four with the driver and sled's own), so memory and
//! processor time are those of both sides. Printed every ten thousand evaluations: percentiles of an exchange as the worker
//! sees it, resident memory, the store's size; at the end how long a look takes.

#![forbid(unsafe_code)]

mod simulated;

use common::evaluation::Timings;
use common::time::Millis;
use coordinator::driver::Unwatched;
use coordinator::state::{Durable, State};
use coordinator::store::{Store, sled::Sled};
use coordinator::{Settings, restore};
use proto::convert::{ExchangeAnswer, Grant, Registered, RunState};
use proto::{Channel, Endpoint, wire};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tonic::transport::server::TcpIncoming;

/// Workers that share a connection: a process has only so many files.
const WORKERS_A_CONNECTION: usize = 20;
const PERIOD: Duration = Duration::from_secs(1);
const SHOWN_EVERY: u64 = 10_000;

type Latencies = Arc<Mutex<Vec<Duration>>>;

async fn worker(channel: Channel, plan: Arc<common::run::RunPlan>, number: usize, latencies: Latencies) {
    let mut client = proto::cluster_client(channel);
    let r = simulated::registration(&plan, format!("w{number}"), 1);
    let reply = client.register(wire::RegisterRequest::from(r)).await.expect("taken").into_inner();
    let worker = Registered::try_from(reply).expect("understood").worker;
    // Workers are spread over the second, as machines that were started by hand are.
    tokio::time::sleep(PERIOD.mul_f64((number as f64 * 0.618_034).fract())).await;
    let mut interval = tokio::time::interval(PERIOD);
    let mut outcomes = Vec::new();
    for sequence in 1.. {
        interval.tick().await;
        let e = simulated::exchange(worker, sequence, 1, std::mem::take(&mut outcomes));
        let begun = Instant::now();
        let Ok(reply) = client.exchange(wire::ExchangeRequest::from(e)).await else { return };
        latencies.lock().expect("nobody panics with it").push(begun.elapsed());
        let answer = ExchangeAnswer::try_from(reply.into_inner()).expect("understood");
        let fitness = |candidate: u64| (candidate as f64 * 0.7).sin();
        let part = |g: &Grant| simulated::part(&g.samples, fitness(g.candidate.0), Timings::default());
        outcomes = answer.grants.iter().map(|g| simulated::outcome(g, part(g))).collect();
        if answer.state == RunState::Finished {
            return;
        }
    }
}

/// Resident memory of this process, in MiB.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("VmRSS")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1024.0
}

fn folder_mib(folder: &Path) -> f64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0.0 };
    let size = |e: std::fs::DirEntry| match e.metadata() {
        Ok(m) if m.is_dir() => folder_mib(&e.path()),
        Ok(m) => m.len() as f64 / f64::from(1 << 20),
        Err(_) => 0.0,
    };
    entries.flatten().map(size).sum()
}

fn percentile(sorted: &[Duration], of: f64) -> f64 {
    let at = (sorted.len() as f64 * of) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).map_or(f64::NAN, |d| d.as_secs_f64() * 1e3)
}

async fn watch(channel: Channel, latencies: Latencies, folder: PathBuf, begun: Instant) {
    let mut inspect = proto::inspect_client(channel);
    let mut next = SHOWN_EVERY;
    println!("evaluations  seconds  exchanges  p50 ms  p99 ms  max ms  status ms  memory MiB  store MiB");
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let asked = Instant::now();
        let Ok(status) = inspect.status(wire::StatusRequest {}).await else { return };
        let status_ms = asked.elapsed().as_secs_f64() * 1e3;
        let done = status.into_inner().progress.unwrap_or_default().evaluations_done;
        if done < next {
            continue;
        }
        next += SHOWN_EVERY;
        let mut seen = std::mem::take(&mut *latencies.lock().expect("nobody panics with it"));
        seen.sort();
        println!(
            "{done:>11} {:>8.1} {:>10} {:>7.1} {:>7.1} {:>7.1} {status_ms:>10.1} {:>11.0} {:>10.0}",
            begun.elapsed().as_secs_f64(),
            seen.len(),
            percentile(&seen, 0.5),
            percentile(&seen, 0.99),
            percentile(&seen, 1.0),
            resident(),
            folder_mib(&folder),
        );
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let workers: usize = arguments.next().and_then(|a| a.parse().ok()).unwrap_or(1000);
    let evaluations: u64 = arguments.next().and_then(|a| a.parse().ok()).unwrap_or(100_000);
    let folder = PathBuf::from(arguments.next().unwrap_or_else(|| "target/scale".into()));
    let sets = [
        format!("search.evaluations={evaluations}"),
        "search.mode=asynchronous".into(),
        "search.restarts=ipop".into(),
    ];
    let plan = Arc::new(simulated::plan(1, &sets));
    let mut store = Sled::open_or_create(&folder).expect("a folder that can be written");
    assert!(store.load().expect("readable").is_none(), "{} holds a run: name a new folder", folder.display());
    let durable = Durable::new(&plan, Default::default(), Millis(0));
    store.commit(&durable.records()).expect("written");
    let state: State = restore(durable).expect("a new run");

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let settings = Settings::new(Box::new(Unwatched));
    let served =
        tokio::spawn(coordinator::run(settings, state, Box::new(store), incoming, std::future::pending()));
    let connect =
        || async { Endpoint::from_shared(url.clone()).expect("a URL").connect().await.expect("there") };

    let latencies = Latencies::default();
    let begun = Instant::now();
    let watching = tokio::spawn(watch(connect().await, latencies.clone(), folder.clone(), begun));
    let mut tasks = Vec::new();
    for group in 0..workers.div_ceil(WORKERS_A_CONNECTION) {
        let channel = connect().await;
        let of_group = (group * WORKERS_A_CONNECTION..workers).take(WORKERS_A_CONNECTION);
        tasks.extend(
            of_group.map(|n| tokio::spawn(worker(channel.clone(), plan.clone(), n, latencies.clone()))),
        );
    }
    for task in tasks {
        task.await.expect("a worker that does not panic");
    }
    let state = served.await.expect("no panic").expect("an honest end");
    watching.abort();
    println!(
        "{} of {evaluations} evaluated in {:.0} s",
        state.progress().evaluations_done,
        begun.elapsed().as_secs_f64()
    );
    drop(state);
    let begun = Instant::now();
    let store = Sled::open(&folder).expect("the store");
    let durable = store.load().expect("readable").expect("a run");
    let state = State::restore(durable).expect("consistent");
    let opened = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    let replayed = state.replay(|from, most| store.journal(from, most)).expect("readable");
    let shown = replayed.parts.unwrap_or_else(|| "exact".into());
    println!("opened at rest in {opened:.2} s; replayed in {:.2} s: {shown}", begun.elapsed().as_secs_f64());
}
