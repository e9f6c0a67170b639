//! The attack list, each tried over real sockets on loopback against the real service behind the real gate.

mod attacks;
mod certificates;
mod flood;
mod frames;
mod names;
mod roles;

use super::access::Access;
use super::gate::{self, Limits};
use crate::driver::Unwatched;
use crate::state::{Durable, State};
use crate::store::{Store, memory::Memory};
use crate::testing::{plan, registration};
use crate::{Settings, restore};
use common::digest::Manifest;
use common::time::Millis;
use proto::status::Class;
use proto::{Channel, Endpoint, wire};
use secure::authority::{Authority, Subject};
use secure::client::{Connector, Trust};
use secure::files::Files;
use secure::server::Server;
use secure::{Identity, Role};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const HOUR: Duration = Duration::from_secs(3600);
/// Turns a hang into a failure.
const LONG: Duration = Duration::from_secs(60);

/// A coordinator in this process, and the authority that it believes.
struct Site {
    authority: Authority,
    address: SocketAddr,
    folder: Arc<TempDir>,
    _stop: oneshot::Sender<()>,
    _ended: JoinHandle<crate::error::Result<State>>,
}

/// Whom a coordinator lets in besides holders of certificates.
#[derive(Clone, Copy, PartialEq)]
enum Door {
    /// Nobody.
    Shut,
    /// Who has a token.
    Tokens,
}

fn site_folder() -> Arc<TempDir> {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let now = SystemTime::now();
    let authority = Authority::create(folder.path(), now).unwrap();
    let hosts = ["127.0.0.1".to_string()];
    let server = Subject { role: Role::Coordinator, name: "here", hosts: &hosts, life: HOUR };
    authority.issue(&server, &folder.path().join("server"), false, now).unwrap();
    folder
}

async fn serve(folder: Arc<TempDir>, door: Door, limits: Limits, settings: Settings) -> Site {
    let server = Arc::new(match door {
        Door::Shut => Server::from_folder(&folder.path().join("server")).unwrap(),
        Door::Tokens => Server::from_authority(folder.path()).unwrap(),
    });
    let plan = plan(&[]);
    let mut store = Memory::default();
    store.commit(&Durable::new(&plan, Manifest::default(), Millis(1)).records()).unwrap();
    let state = restore(store.load().unwrap().unwrap()).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let incoming = gate::open(listener, Some(server.clone()), limits);
    let settings = Settings { access: Access::tls(server), ..settings };
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async { drop(stopped.await) };
    let ended = tokio::spawn(crate::run(settings, state, Box::new(store), incoming, shutdown));
    let authority = Authority::open(folder.path()).unwrap();
    Site { authority, address, folder, _stop: stop, _ended: ended }
}

async fn site() -> Site {
    serve(site_folder(), Door::Tokens, Limits::default(), Settings::new(Box::new(Unwatched))).await
}

impl Site {
    fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// A folder with a certificate that holds for an hour from `begins`.
    fn certificate_of(&self, role: Role, name: &str, begins: SystemTime) -> PathBuf {
        let out = self.folder.path().join(format!("{role}-{name}"));
        let subject = Subject { role, name, hosts: &[], life: HOUR };
        self.authority.issue(&subject, &out, true, begins).unwrap();
        out
    }

    fn certificate(&self, role: Role, name: &str) -> PathBuf {
        self.certificate_of(role, name, SystemTime::now())
    }

    async fn connected(&self, trust: Trust) -> Result<Channel, String> {
        let endpoint = Endpoint::from_shared(self.url()).unwrap();
        let connector = Connector::new(trust).map_err(|e| e.to_string())?;
        endpoint.connect_with_connector(connector).await.map_err(|e| format!("{e:?}"))
    }

    async fn member(&self, role: Role, name: &str) -> Channel {
        self.connected(files(self.certificate(role, name))).await.unwrap()
    }

    fn stranger(&self) -> Trust {
        Trust::Pinned(self.authority.fingerprint())
    }

    /// The bytes of a connection over TLS, before anything is said on it.
    async fn raw(&self, trust: Trust) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let tcp = TcpStream::connect(self.address).await?;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(trust.config().unwrap()));
        connector.connect("127.0.0.1".try_into().unwrap(), tcp).await
    }

    /// Whether a call by this channel gets an answer at all, and which.
    async fn described(&self, channel: &Channel) -> Result<(), Class> {
        let call = proto::cluster_client(channel.clone()).describe(wire::DescribeRequest {}).await;
        call.map(drop).map_err(|s| Class::from(&s))
    }
}

fn files(folder: PathBuf) -> Trust {
    Trust::Files(Files::in_folder(&folder))
}

/// Reads until the other side closes; what came before that.
async fn until_closed(io: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Reset or ended, it is closed.
    let _ = tokio::time::timeout(LONG, io.read_to_end(&mut bytes)).await.expect("it is closed");
    bytes
}

fn denied(outcome: Result<(), Class>) -> String {
    match outcome {
        Err(Class::Denied(why)) => why,
        other => panic!("not denied: {other:?}"),
    }
}
