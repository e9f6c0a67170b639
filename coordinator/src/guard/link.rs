//! One connection that was let in: bytes both ways, encrypted or not, until its time is over.

use super::gate::Place;
use super::{Peer, Standing};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

/// What an HTTP/2 client says first (RFC 9113, section 3.4).
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(super) enum Inner {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection.
pub struct Link {
    inner: Inner,
    peer: Peer,
    /// Bytes of the preface that the server has been given; the gate has read them all.
    given: usize,
    ends: Option<Pin<Box<Sleep>>>,
    _place: Place,
}

impl Link {
    pub(super) fn new(
        inner: Inner,
        address: SocketAddr,
        standing: Standing,
        ends: Option<Duration>,
        place: Place,
    ) -> Link {
        let ends = ends.map(|after| Box::pin(tokio::time::sleep(after)));
        Link { inner, peer: Peer { address, standing }, given: 0, ends, _place: place }
    }

    /// An error once the connection's time is over.
    fn in_time(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let over = self.ends.as_mut().is_some_and(|ends| ends.as_mut().poll(cx).is_ready());
        match over {
            true => Err(io::Error::new(io::ErrorKind::TimedOut, "the connection's time is over")),
            false => Ok(()),
        }
    }
}

impl Connected for Link {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Link {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.in_time(cx)?;
        let rest = &PREFACE[self.given..];
        if !rest.is_empty() {
            let some = rest.len().min(into.remaining());
            into.put_slice(&rest[..some]);
            self.given += some;
            return Poll::Ready(Ok(()));
        }
        match &mut self.inner {
            Inner::Plain(io) => Pin::new(io).poll_read(cx, into),
            Inner::Tls(io) => Pin::new(io).poll_read(cx, into),
        }
    }
}

impl AsyncWrite for Link {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.in_time(cx)?;
        match &mut self.inner {
            Inner::Plain(io) => Pin::new(io).poll_write(cx, bytes),
            Inner::Tls(io) => Pin::new(io).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.inner {
            Inner::Plain(io) => Pin::new(io).poll_flush(cx),
            Inner::Tls(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.inner {
            Inner::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Inner::Tls(io) => Pin::new(io).poll_shutdown(cx),
        }
    }
}
