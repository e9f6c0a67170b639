//! The coordinator of a merge search: it keeps the population, lends candidates to workers, writes down what
//! comes back, and asks the search for more. It merges nothing and has no tensor library in it.
//!
//! | module | what |
//! |---|---|
//! | [`state`] | the run as a pure machine: event in, records and answers out |
//! | [`search`] | a crate of its own: algorithms that propose genomes |
//! | [`store`] | what outlives the process |
//! | [`driver`] | the one task that owns state and store |
//! | `notes` | what happened, as lines of the log |
//! | [`service`] | gRPC in front of the driver |
//! | [`guard`] | who is let in, how far, and how many at once |
//! | [`backup`] | a consistent copy of a run, also over the wire |
//! | [`fsck`] | what is wrong with a store |
//! | [`report`] | views for people and scripts |
//! | [`rescore`] | kept reports, scored anew |
//! | [`plot`] | numbers as pictures |
//! | [`cli`] | the program's commands |
//!
//! [`run`] only wires these together, so that tests start the real thing.

#![forbid(unsafe_code)]

pub mod backup;
pub mod cli;
pub mod disk;
pub mod driver;
pub mod error;
pub mod fsck;
pub mod guard;
mod notes;
pub mod plot;
pub mod report;
pub mod rescore;
pub mod service;
pub mod state;
pub mod store;
#[cfg(test)]
mod testing;

use driver::{Clock, Driver, Watch};
use error::{Error, Result};
use guard::access::Access;
use guard::join::Door;
use proto::wire::cluster_server::ClusterServer;
use proto::wire::inspect_server::InspectServer;
use proto::wire::join_server::JoinServer;
use proto::wire::operate_server::OperateServer;
use service::Service;
use state::{Durable, State};
use std::future::Future;
use std::time::Duration;
use store::Store;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_stream::Stream;
use tonic::transport::Server;
use tonic::transport::server::Connected;

/// What [`run`] needs to know beyond the run itself.
pub struct Settings {
    /// Tells the time.
    pub clock: Clock,
    /// Shows people what happens.
    pub watch: Box<dyn Watch>,
    /// How often time is looked at.
    pub tick: Duration,
    /// How long workers are given to hear that the run is finished.
    pub farewell: Duration,
    /// How long open connections are given to end.
    pub hang_up: Duration,
    /// Whether the store may wait for a disk: then the driver has a thread of its own.
    pub own_thread: bool,
    /// Who may call what.
    pub access: Access,
    /// How long a connection may be silent before it is asked whether it is there, and how long that may take. Notices
    /// half-open connections, and those that dribble a frame.
    pub silence: Duration,
    /// How long a call may take, its message included.
    pub call: Duration,
}

impl Settings {
    /// For a coordinator with this watcher.
    pub fn new(watch: Box<dyn Watch>) -> Settings {
        Settings {
            clock: driver::system_clock(),
            watch,
            tick: Duration::from_millis(100),
            farewell: Duration::from_secs(5),
            hang_up: Duration::from_secs(2),
            own_thread: true,
            access: Access::open(),
            silence: Duration::from_secs(20),
            // The longest that an exchange is held back, and the time of a few flushes of a slow disk.
            call: Duration::from_secs(90),
        }
    }
}

/// Makes the state of a stored run, of this program's version.
pub fn restore(durable: Durable) -> Result<State> {
    let stored = durable.identity.program_version.clone();
    if stored != proto::PROGRAM_VERSION {
        return Err(Error::Version { stored, here: proto::PROGRAM_VERSION.into() });
    }
    Ok(State::restore(durable)?)
}

/// Serves a run until it is finished or `shutdown` comes. Yields the state as it was then.
pub async fn run<I, IO, E>(
    settings: Settings,
    state: State,
    store: Box<dyn Store>,
    incoming: I,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<State>
where
    I: Stream<Item = std::result::Result<IO, E>> + Send + 'static,
    IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    E: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
{
    let Settings { clock, watch, tick, farewell, hang_up, own_thread, access, silence, call } = settings;
    let (driver, handle) = Driver::new(state, store, clock, watch, farewell);
    let (hang_up_now, told_to_hang_up) = tokio::sync::oneshot::channel::<()>();

    let router = router(Service::new(handle.clone()), access, silence, call).await?;
    let mut server = Guarded(tokio::spawn(router.serve_with_incoming_shutdown(incoming, async {
        // Sent or dropped, either means that it is over.
        let _ = told_to_hang_up.await;
    })));
    let stopper = handle.clone();
    let _stopping = Guarded(tokio::spawn(async move {
        shutdown.await;
        stopper.stop().await;
    }));
    let _ticking = Guarded(tokio::spawn(async move {
        let mut interval = tokio::time::interval(tick);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            if !handle.tick() {
                return;
            }
        }
    }));

    let ended = match own_thread {
        true => tokio::task::spawn_blocking(move || driver.run()).await,
        false => Ok(driver.run_as_task().await),
    };
    let _ = hang_up_now.send(());
    // A peer that does not close its connection must not keep a finished run open.
    let served = tokio::time::timeout(hang_up, &mut server.0).await;
    let state = ended??;
    match served {
        Ok(Ok(Err(e))) => Err(Error::Server(e.to_string())),
        _ => Ok(state),
    }
}

/// A task that ends with its owner: whoever drops [`run`] leaves no server behind.
struct Guarded<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for Guarded<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Calls at once on one connection.
const MAX_STREAMS: u32 = 256;
/// The largest headers of a call, in bytes.
const MAX_HEADERS: u32 = 16 << 10;
/// The largest frame, in bytes: the least that the protocol allows, so that no peer makes anybody wait for its frame.
const MAX_FRAME: u32 = 16 << 10;
/// Streams that a peer opened and reset before they were looked at.
const MAX_RESETS: usize = 32;

type Router = tonic::transport::server::Router<tower_layer::Stack<Access, tower_layer::Identity>>;

async fn router(service: Service, access: Access, silence: Duration, call: Duration) -> Result<Router> {
    let (health, health_service) = tonic_health::server::health_reporter();
    let cluster = ClusterServer::new(service.clone())
        .max_decoding_message_size(proto::MAX_MESSAGE_BYTES)
        .max_encoding_message_size(proto::MAX_MESSAGE_BYTES);
    let operate =
        OperateServer::new(service.clone()).max_decoding_message_size(proto::MAX_SMALL_MESSAGE_BYTES);
    let inspect = InspectServer::new(service)
        .max_decoding_message_size(proto::MAX_SMALL_MESSAGE_BYTES)
        .max_encoding_message_size(proto::MAX_MESSAGE_BYTES);
    let door = access.server().map(|server| {
        JoinServer::new(Door::new(server.clone())).max_decoding_message_size(proto::MAX_SMALL_MESSAGE_BYTES)
    });
    health.set_serving::<ClusterServer<Service>>().await;
    health.set_serving::<InspectServer<Service>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(|e| Error::Server(e.to_string()))?;
    Ok(Server::builder()
        .http2_keepalive_interval(Some(silence))
        .http2_keepalive_timeout(Some(silence))
        .timeout(call)
        .max_concurrent_streams(MAX_STREAMS)
        .http2_max_header_list_size(MAX_HEADERS)
        .max_frame_size(MAX_FRAME)
        .http2_max_pending_accept_reset_streams(Some(MAX_RESETS))
        .layer(access)
        .add_service(health_service)
        .add_service(reflection)
        .add_service(cluster)
        .add_service(inspect)
        .add_service(operate)
        .add_optional_service(door))
}
