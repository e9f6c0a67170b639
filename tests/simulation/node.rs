//! The simulated machines: a coordinator that is started again whenever it ends, and workers whose slots pretend.

use crate::disk::Disk;
use crate::plan::{manifest, row};
use common::evaluation::Timings;
use common::run::RunPlan;
use common::seed::Stream;
use common::time::Millis;
use coordinator::Settings;
use coordinator::driver::Unwatched;
use coordinator::store::Store;
use proto::{Channel, Endpoint};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use turmoil::net::{TcpListener, TcpStream};
use worker::evaluator::{EvaluateError, Stage};
use worker::keep::Keeper;
use worker::link::{Ending, Identity, Link, LinkError, Patience, describe};
use worker::slot::{Done, Job, Workplace};

const PORT: u16 = 7443;
/// Name of the coordinator's machine.
pub const COORDINATOR: &str = "coordinator";

/// The coordinator's wall clock, in milliseconds beside simulated time: a restart may find it anywhere.
#[derive(Clone, Default)]
pub struct WallClock(Arc<AtomicI64>);

impl WallClock {
    /// Sets it forward or back.
    pub fn set(&self, millis: i64) {
        self.0.store(millis, Ordering::Relaxed);
    }

    /// As the program reads it: once, at its start; from then on it goes steadily.
    fn started(&self) -> coordinator::driver::Clock {
        let offset = self.0.load(Ordering::Relaxed);
        let (start, began) = (1_800_000_000_000_i64 + offset, tokio::time::Instant::now());
        Arc::new(move || Millis(start as u64) + began.elapsed())
    }
}

/// Serves the run that the disk holds, and again whenever that ends before the run is finished.
pub async fn coordinator(disk: Disk, clock: WallClock) -> turmoil::Result {
    loop {
        let state = coordinator::restore(disk.durable())?;
        if state.end().is_some() {
            return Ok(());
        }
        let listener = TcpListener::bind((IpAddr::V4(Ipv4Addr::UNSPECIFIED), PORT)).await?;
        let settings =
            Settings { clock: clock.started(), own_thread: false, ..Settings::new(Box::new(Unwatched)) };
        let incoming = incoming(listener);
        let store: Box<dyn Store> = Box::new(disk.clone());
        // A commit that failed ends it; whoever watches over it starts it again.
        let _ = coordinator::run(settings, state, store, incoming, std::future::pending()).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn incoming(listener: TcpListener) -> impl tokio_stream::Stream<Item = std::io::Result<Accepted>> {
    let (sender, receiver) = tokio::sync::mpsc::channel(16);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                biased;
                () = sender.closed() => return,
                accepted = listener.accept() => {
                    let accepted = accepted.map(|(stream, _)| Accepted(stream));
                    if sender.send(accepted).await.is_err() {
                        return;
                    }
                }
            }
        }
    });
    tokio_stream::wrappers::ReceiverStream::new(receiver)
}

/// A connection as tonic takes it.
struct Accepted(TcpStream);

impl tonic::transport::server::Connected for Accepted {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Accepted {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        std::pin::Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

fn channel() -> Channel {
    let connector = tower::service_fn(|_: tonic::transport::Uri| async {
        let stream = TcpStream::connect((COORDINATOR, PORT)).await?;
        Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(stream))
    });
    Endpoint::from_static("http://coordinator:7443")
        .connect_timeout(Duration::from_secs(5))
        .http2_keep_alive_interval(Duration::from_secs(5))
        .keep_alive_timeout(Duration::from_secs(5))
        .keep_alive_while_idle(true)
        .connect_with_connector_lazy(connector)
}

/// How a worker's machine is.
#[derive(Clone, Copy, Debug)]
pub struct Character {
    /// Candidates at once.
    pub slots: usize,
    /// What a sample takes, on average, in milliseconds.
    pub sample_ms: u64,
    /// Share of evaluations that fail.
    pub fails: f64,
    /// Share of evaluations that never end.
    pub hangs: f64,
}

/// Works until the run is over; registers again whenever it was turned away for not being known.
pub async fn worker(
    plan: Arc<RunPlan>,
    number: u64,
    starts: Arc<AtomicU64>,
    character: Character,
    calm: Arc<AtomicBool>,
) -> turmoil::Result {
    match work(plan, number, starts, character, calm).await {
        Ok(_) => Ok(()),
        // Every slot hangs: whoever watches over it starts it again, which the trial does.
        Err(LinkError::Stuck { .. }) => std::future::pending().await,
        Err(e) => Err(e.into()),
    }
}

/// The same, and how it ended.
pub async fn work(
    plan: Arc<RunPlan>,
    number: u64,
    starts: Arc<AtomicU64>,
    character: Character,
    calm: Arc<AtomicBool>,
) -> Result<Ending, LinkError> {
    // Another life, another stream: a restarted machine does not do the same again.
    let life = starts.fetch_add(1, Ordering::Relaxed);
    let salt = number << 32 | life;
    let patience = Patience { give_up_after: None, salt };
    let client = proto::cluster_client(channel());
    let described = describe(&client, patience).await?;
    assert_eq!(described.plan.digest(), plan.digest());
    let (sender, mut done) = unbounded_channel();
    let stream = Stream::new(salt, "worker");
    let stream = std::sync::Mutex::new(stream);
    let place = Place { plan: plan.clone(), character, calm, done: sender, stream };
    let (_stop, mut stopped) = watch::channel(false);
    let (_finish, mut finishing) = watch::channel(false);
    let identity =
        Identity { name: format!("w{number}"), device: "simulated".into(), slots: character.slots as u32 };
    let mut link = Link::register(client, patience, identity, &plan, manifest(), Keeper::default()).await?;
    link.run(&place, &mut done, &mut stopped, &mut finishing).await
}

/// Slots that take their time and compute what everybody computes.
struct Place {
    plan: Arc<RunPlan>,
    character: Character,
    /// Nothing fails or hangs any more.
    calm: Arc<AtomicBool>,
    done: UnboundedSender<Done>,
    stream: std::sync::Mutex<Stream>,
}

impl Workplace for Place {
    fn count(&self) -> usize {
        self.character.slots
    }

    fn submit(&self, job: Job) -> bool {
        let mut stream = self.stream.lock().expect("nobody panics with it");
        let calm = self.calm.load(Ordering::Relaxed);
        let hangs = stream.uniform() < self.character.hangs && !calm;
        let fails = stream.uniform() < self.character.fails && !calm;
        let mut pause = Stream::new(stream.next_u64(), "job");
        let (plan, done, mean) = (self.plan.clone(), self.done.clone(), self.character.sample_ms as f64);
        tokio::spawn(async move {
            let mut rest =
                || tokio::time::sleep(Duration::from_micros((2e3 * mean * pause.uniform()) as u64));
            let mut timings = Timings::default();
            job.control.enter(Stage::Merging);
            rest().await;
            if hangs {
                std::future::pending::<()>().await;
            }
            if fails {
                let result = Err(EvaluateError::Failed("out of memory".into()));
                let _ = done.send(Done { lease: job.lease, result });
                return;
            }
            job.control.enter(Stage::Generating);
            for batch in 0..plan.batches() {
                let range = plan.batch(batch);
                for position in job.control.begin(range.start as usize..range.end as usize) {
                    rest().await;
                    if job.control.is_cancelled() {
                        let _ = done.send(Done { lease: job.lease, result: Err(EvaluateError::Cancelled) });
                        return;
                    }
                    timings.generate_ms += 10;
                    job.control.finish(row(&plan, &job.recipe, position), timings);
                }
                job.control.batch_ended();
            }
            let _ = done.send(Done { lease: job.lease, result: Ok(timings) });
        });
        true
    }
}
