//! Who is let in, how far, and how many at once: everything between the listening socket and the handlers.
//!
//! | module | what |
//! |---|---|
//! | [`gate`] | accepts connections within limits of number and time, and makes sure of who is there |
//! | [`link`] | one connection that was let in, for as long as it may stand |
//! | [`access`] | which role may call what: the one table, asked before every call |
//! | [`join`] | nodes that come with a token, and certificates that are renewed |
//! | [`members`] | which certificate a worker's number belongs to |
//!
//! Certificates, keys and tokens themselves are [`secure`]'s.

pub mod access;
pub mod gate;
pub mod join;
pub mod link;
pub mod members;
#[cfg(test)]
mod tests;

use secure::Identity;
use std::net::SocketAddr;
use std::sync::Arc;

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// From where.
    pub address: SocketAddr,
    /// As whom.
    pub standing: Standing,
}

/// What is known of a peer.
#[derive(Clone, Debug)]
pub enum Standing {
    /// Nothing, and nothing is asked: the connection is not encrypted, and whoever reaches the socket is trusted.
    Open,
    /// Encrypted, but no certificate was shown.
    Stranger,
    /// A certificate of the authority.
    Known(Arc<Identity>),
}

impl Peer {
    /// The certificate that a call came under, where certificates are asked for.
    pub fn identity(extensions: &http::Extensions) -> Option<Arc<Identity>> {
        match &extensions.get::<Peer>()?.standing {
            Standing::Known(identity) => Some(identity.clone()),
            Standing::Open | Standing::Stranger => None,
        }
    }
}
