//! Accepts connections: within limits of number and time, over TLS where there is one, and only what begins as HTTP/2.
//!
//! A connection is *pending* until its handshake is done and HTTP/2's preface has arrived; both together have a few
//! seconds. Too many pending ones push out the oldest, not the newest: a flood of sockets that say nothing then cannot
//! keep out a worker, whose handshake takes milliseconds. Who shows no certificate has few places of its own, and half a
//! minute for its token. An address has a share of all places and no more.

use super::Standing;
use super::link::{Inner, Link, PREFACE};
use secure::Identity;
use secure::server::Server;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_stream::wrappers::ReceiverStream;
use tracing::{debug, warn};

/// How many and how long.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections that stand.
    pub connections: usize,
    /// The same from one address, those that are pending among them.
    pub per_address: usize,
    /// Connections whose handshake is not done.
    pub pending: usize,
    /// Connections without a certificate, where certificates are asked for.
    pub strangers: usize,
    /// How long handshake and preface may take.
    pub handshake: Duration,
    /// How long a connection without a certificate may stand.
    pub stranger: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 4096,
            per_address: 1024,
            pending: 256,
            strangers: 32,
            handshake: Duration::from_secs(10),
            stranger: Duration::from_secs(30),
        }
    }
}

/// Descriptors that the store, the terminal and the runtime need besides connections.
const OWN_DESCRIPTORS: usize = 128;

impl Limits {
    /// Connections that the process may hold open by these limits, and what else it opens.
    pub fn descriptors(&self) -> usize {
        self.connections + self.pending + self.strangers + OWN_DESCRIPTORS
    }

    /// The same limits for a process that may open so many files: rather fewer connections than a coordinator that cannot
    /// write.
    pub fn within(mut self, descriptors: usize) -> Limits {
        let rest = self.pending + self.strangers + OWN_DESCRIPTORS;
        self.connections = self.connections.min(descriptors.saturating_sub(rest)).max(1);
        self
    }
}

/// Accepts from a listener for as long as the stream lives.
pub fn open(
    listener: TcpListener,
    tls: Option<Arc<Server>>,
    limits: Limits,
) -> ReceiverStream<io::Result<Link>> {
    let (sender, receiver) = mpsc::channel(64);
    let gate = Arc::new(Gate { tls, limits, counts: Mutex::default() });
    tokio::spawn(accept(listener, gate, sender));
    ReceiverStream::new(receiver)
}

async fn accept(listener: TcpListener, gate: Arc<Gate>, sender: mpsc::Sender<io::Result<Link>>) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            // Nobody serves any more.
            () = sender.closed() => return,
        };
        match accepted {
            Ok((tcp, address)) => gate.clone().admit(tcp, address, sender.clone()),
            Err(e) => {
                // A peer that is gone again is its own affair; where descriptors are short, some have to be closed first.
                gate.refused("a connection could not be accepted", &e);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

#[derive(Default)]
struct Counts {
    standing: usize,
    strangers: usize,
    by_address: HashMap<IpAddr, usize>,
    /// By number of arrival, so that the first is the oldest.
    pending: BTreeMap<u64, AbortHandle>,
    arrived: u64,
    /// Turned away since it was last told.
    refused: u64,
    told: Option<Instant>,
}

struct Gate {
    tls: Option<Arc<Server>>,
    limits: Limits,
    counts: Mutex<Counts>,
}

impl Gate {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        // Counts are whole between any two lines that change them.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells of what was turned away, every ten seconds at most: a flood must not fill a disk with its log.
    fn refused(&self, why: &str, what: &dyn std::fmt::Display) {
        let mut counts = self.counts();
        counts.refused += 1;
        debug!("{why}: {what}");
        if counts.told.is_none_or(|t| t.elapsed() > Duration::from_secs(10)) {
            warn!(refused = counts.refused, "{why}: {what}");
            (counts.told, counts.refused) = (Some(Instant::now()), 0);
        }
    }

    fn admit(self: Arc<Gate>, tcp: TcpStream, address: SocketAddr, sender: mpsc::Sender<io::Result<Link>>) {
        let Some(mut place) = self.place(address) else { return };
        let gate = self.clone();
        // Held until the task is counted, so that it cannot end before.
        let mut counts = self.counts();
        counts.arrived += 1;
        let number = counts.arrived;
        let task = tokio::spawn(async move {
            let limit = gate.limits.handshake;
            let link = match tokio::time::timeout(limit, gate.make_sure(tcp)).await {
                Ok(link) => link,
                Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no handshake in time")),
            };
            gate.counts().pending.remove(&number);
            match link {
                Ok((inner, standing)) if place.settle(&standing) => {
                    let ends = gate.ends(&standing);
                    let _ = sender.send(Ok(Link::new(inner, address, standing, ends, place))).await;
                }
                Ok(_) => gate.refused("too many connections stand: turned away", &address),
                Err(e) => gate.refused("a connection was turned away", &format_args!("{address}: {e}")),
            }
        });
        counts.pending.insert(number, task.abort_handle());
        let oldest =
            if counts.pending.len() > self.limits.pending { counts.pending.pop_first() } else { None };
        drop(counts);
        if let Some((_, oldest)) = oldest {
            oldest.abort();
            self.refused("too many handshakes at once", &"the oldest was given up");
        }
    }

    /// A place for a connection from an address, unless that has too many.
    fn place(self: &Arc<Gate>, address: SocketAddr) -> Option<Place> {
        let mut counts = self.counts();
        let ip = address.ip();
        // Without certificates only this machine is listened to, where tunnels bring everybody under one address.
        let limited = self.tls.is_some() || !ip.is_loopback();
        let of_address = counts.by_address.entry(ip).or_default();
        if limited && *of_address >= self.limits.per_address {
            drop(counts);
            self.refused("too many connections from one address: turned away", &ip);
            return None;
        }
        *of_address += 1;
        Some(Place { gate: self.clone(), ip, stands: None })
    }

    /// The handshake, and the preface of HTTP/2.
    async fn make_sure(&self, tcp: TcpStream) -> io::Result<(Inner, Standing)> {
        tcp.set_nodelay(true)?;
        let Some(server) = &self.tls else {
            let mut tcp = tcp;
            preface(&mut tcp).await?;
            return Ok((Inner::Plain(tcp), Standing::Open));
        };
        let loaded = server.current();
        let acceptor = tokio_rustls::TlsAcceptor::from(loaded.config.clone());
        let mut tls = Box::new(acceptor.accept(tcp).await?);
        let shown = tls.get_ref().1.peer_certificates().and_then(|c| c.first());
        let standing = match shown.map(Identity::of).transpose().map_err(io::Error::other)? {
            Some(identity) => Standing::Known(Arc::new(identity)),
            None => Standing::Stranger,
        };
        preface(&mut tls).await?;
        Ok((Inner::Tls(tls), standing))
    }

    /// When a connection is cut.
    fn ends(&self, standing: &Standing) -> Option<Duration> {
        match standing {
            Standing::Open => None,
            Standing::Stranger => Some(self.limits.stranger),
            // Whoever has a newer certificate by then comes back with it.
            Standing::Known(identity) => {
                Some(identity.not_after.duration_since(SystemTime::now()).unwrap_or_default())
            }
        }
    }
}

async fn preface(io: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    let mut bytes = [0; PREFACE.len()];
    io.read_exact(&mut bytes).await?;
    if bytes != *PREFACE {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "what is spoken is not HTTP/2"));
    }
    Ok(())
}

/// A connection's place among those that are counted; given back when it is dropped.
pub struct Place {
    gate: Arc<Gate>,
    ip: IpAddr,
    /// As a stranger or not, once it stands.
    stands: Option<bool>,
}

impl Place {
    /// Counts it among those that stand, unless there are too many.
    fn settle(&mut self, standing: &Standing) -> bool {
        let stranger = matches!(standing, Standing::Stranger);
        let mut counts = self.gate.counts();
        let (count, limit) = match stranger {
            true => (&mut counts.strangers, self.gate.limits.strangers),
            false => (&mut counts.standing, self.gate.limits.connections),
        };
        if *count >= limit {
            return false;
        }
        *count += 1;
        self.stands = Some(stranger);
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.gate.counts();
        match self.stands {
            Some(true) => counts.strangers -= 1,
            Some(false) => counts.standing -= 1,
            None => {}
        }
        if let Some(n) = counts.by_address.get_mut(&self.ip) {
            *n -= 1;
            if *n == 0 {
                counts.by_address.remove(&self.ip);
            }
        }
    }
}
