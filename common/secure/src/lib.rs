//! Who may speak over the network, and how the two ends of a connection make sure of it.
//!
//! | module | what |
//! |---|---|
//! | [`identity`] | role and name in a certificate |
//! | [`files`] | certificates, keys and lists of revoked ones as files, their permissions checked |
//! | [`authority`] | a private authority in a folder: makes certificates, remembers and revokes them |
//! | [`token`] | join tokens |
//! | [`server`] | the coordinator's end of TLS, re-read when its files change |
//! | [`client`] | the other end, re-read at every connection |
//! | [`enrolment`] | a node's own folder: its key, and the certificates that it was given |
//!
//! TLS 1.3 alone, by rustls with ring; both sides show certificates. Nothing here knows what is spoken over a connection,
//! or which role may say what: that is the coordinator's.

#![forbid(unsafe_code)]

pub mod authority;
pub mod client;
pub mod enrolment;
mod error;
pub mod files;
pub mod identity;
mod ledger;
pub mod server;
pub mod token;

pub use error::{Error, Result, TokenFault};
pub use identity::{Identity, Role};

use rustls::crypto::CryptoProvider;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::SystemTime;

/// The one library of ciphers that both ends use.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Random bytes from the system.
fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    let fill = rustls::crypto::ring::default_provider().secure_random.fill(&mut bytes);
    fill.map_err(|_| Error::Tls("the system gives no random numbers".into()))?;
    Ok(bytes)
}

/// SHA-256.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Exactly 64 hexadecimal digits.
fn unhex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    let mut out = [0; 32];
    if digits.len() != 64 {
        return None;
    }
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |c: u8| char::from(c).to_digit(16);
        *byte = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
    }
    Some(out)
}

/// Seconds since 1970.
pub fn unix(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs())
}
