//! The coordinator's end of TLS: certificate, key, authority and revocations from files that may change while it runs.
//!
//! The files are looked at (not read) at every connection; when they changed they are read, and what is broken is told once
//! and leaves the earlier ones in force. Sessions are not resumed: whoever comes back shows a certificate again, which may
//! have been revoked meanwhile.

use crate::authority::Authority;
use crate::error::{Error, Result};
use crate::files::{Files, Material, Stamp};
use crate::identity::{Identity, Role, trimmed};
use rustls::RootCertStore;
use rustls::server::{NoServerSessionStorage, ServerConfig, WebPkiClientVerifier};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tracing::{info, warn};
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

/// How long the files need not be looked at again for a call on a connection that stands.
const FRESH: Duration = Duration::from_millis(200);
/// How long before its end an operator is told that the coordinator's certificate expires.
const WARN_BEFORE: Duration = Duration::from_secs(30 * 86_400);

/// One reading of the files.
pub struct Loaded {
    /// For handshakes.
    pub config: Arc<ServerConfig>,
    /// The coordinator's own certificate.
    pub identity: Identity,
    revoked: BTreeSet<Vec<u8>>,
}

impl Loaded {
    /// Whether a certificate was taken back.
    pub fn is_revoked(&self, peer: &Identity) -> bool {
        self.revoked.contains(&peer.serial)
    }
}

struct Kept {
    loaded: Arc<Loaded>,
    stamp: Stamp,
    looked: Instant,
}

/// The coordinator's end.
pub struct Server {
    files: Files,
    authority: Option<Authority>,
    kept: Mutex<Kept>,
}

impl Server {
    /// From a folder with `ca.pem`, `cert.pem`, `key.pem` and perhaps `crl.pem`. Only who shows a certificate comes in.
    ///
    /// # Errors
    /// The file that is absent, unusable or open to others.
    pub fn from_folder(folder: &Path) -> Result<Server> {
        Server::open(Files::in_folder(folder), None)
    }

    /// From an authority's folder, with the certificate in its `server/`. Who shows no certificate comes in as far as to
    /// join with a token.
    ///
    /// # Errors
    /// As [`Server::from_folder`].
    pub fn from_authority(folder: &Path) -> Result<Server> {
        let files = Files { crl: folder.join("crl.pem"), ..Files::in_folder(&folder.join("server")) };
        Server::open(files, Some(Authority::open(folder)?))
    }

    fn open(files: Files, authority: Option<Authority>) -> Result<Server> {
        let stamp = files.stamp();
        let loaded = Arc::new(load(&files, authority.as_ref())?);
        about_to_expire(&loaded.identity);
        Ok(Server { files, authority, kept: Mutex::new(Kept { loaded, stamp, looked: Instant::now() }) })
    }

    /// The authority that lets nodes join, where there is one.
    pub fn authority(&self) -> Option<&Authority> {
        self.authority.as_ref()
    }

    /// What the files say now: for a new connection.
    pub fn current(&self) -> Arc<Loaded> {
        self.refreshed(Duration::ZERO)
    }

    /// The same as of a moment ago: for a call on a connection that stands.
    pub fn recent(&self) -> Arc<Loaded> {
        self.refreshed(FRESH)
    }

    fn refreshed(&self, fresh: Duration) -> Arc<Loaded> {
        // What a panic could leave here is whole all the same.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if !fresh.is_zero() && kept.looked.elapsed() < fresh {
            return kept.loaded.clone();
        }
        kept.looked = Instant::now();
        let stamp = self.files.stamp();
        if stamp != kept.stamp {
            // Broken files are told once, not at every connection.
            kept.stamp = stamp;
            match load(&self.files, self.authority.as_ref()) {
                Ok(loaded) => {
                    info!(serial = loaded.identity.serial_text(), "certificates were read anew");
                    about_to_expire(&loaded.identity);
                    kept.loaded = Arc::new(loaded);
                }
                Err(e) => {
                    warn!("the changed certificates cannot be used, the earlier ones stay in force: {e}")
                }
            }
        }
        kept.loaded.clone()
    }
}

fn about_to_expire(identity: &Identity) {
    let left = identity.not_after.duration_since(SystemTime::now()).unwrap_or_default();
    if left < WARN_BEFORE {
        let hours = left.as_secs() / 3600;
        warn!(
            "the coordinator's certificate expires in {hours} hours; replace it, it is read without a restart"
        );
    }
}

fn load(files: &Files, authority: Option<&Authority>) -> Result<Loaded> {
    let Material { ca, mut chain, key, crl } = files.read()?;
    let identity = Identity::of(&chain[0]).map_err(|e| Error::file(&files.cert, e.to_string()))?;
    if identity.role != Role::Coordinator {
        return Err(Error::file(&files.cert, format!("is of a {}, not of a coordinator", identity.role)));
    }
    let mut revoked = BTreeSet::new();
    for list in &crl {
        let unusable = |e: &dyn std::fmt::Display| Error::file(&files.crl, e.to_string());
        let (_, list) = CertificateRevocationList::from_der(list).map_err(|e| unusable(&e))?;
        revoked.extend(list.iter_revoked_certificates().map(|r| trimmed(r.raw_serial())));
    }
    let roots = roots(&ca).map_err(|e| Error::file(&files.ca, e))?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), crate::provider());
    let verifier =
        verifier.only_check_end_entity_revocation().allow_unknown_revocation_status().with_crls(crl);
    let verifier = if authority.is_some() { verifier.allow_unauthenticated() } else { verifier };
    let verifier = verifier.build().map_err(|e| Error::file(&files.ca, e.to_string()))?;
    // A node with a token knows the authority by its certificate's hash alone, so it has to be shown that.
    chain.extend(authority.map(|a| a.certificate().clone()));
    let tls =
        |e: rustls::Error| Error::file(&files.cert, format!("does not go with {}: {e}", files.key.display()));
    let mut config = ServerConfig::builder_with_provider(crate::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| Error::Tls(e.to_string()))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(tls)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Loaded { config: Arc::new(config), identity, revoked })
}

/// Whom to believe, of certificates.
pub(crate) fn roots(ca: &[rustls::pki_types::CertificateDer<'static>]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    ca.iter().try_for_each(|c| roots.add(c.clone())).map_err(|e| e.to_string())?;
    Ok(roots)
}
