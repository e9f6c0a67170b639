//! A node's own folder: its private key, which never leaves it, and the certificates that it was given.

use crate::authority::pem;
use crate::error::{Error, Result};
use crate::files::{Files, certificates, from_pem, locked, private_folder, read_secret, write_private};
use crate::identity::Identity;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::sign::CertifiedKey;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The folder.
#[derive(Clone, Debug)]
pub struct Enrolment {
    folder: PathBuf,
}

impl Enrolment {
    /// In this folder, which need not exist yet.
    pub fn new(folder: PathBuf) -> Enrolment {
        Enrolment { folder }
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its files.
    pub fn files(&self) -> Files {
        Files::in_folder(&self.folder)
    }

    /// The certificate that is there; `None` where there is none yet.
    ///
    /// # Errors
    /// A file that is there and cannot be used.
    pub fn identity(&self) -> Result<Option<Identity>> {
        let path = self.files().cert;
        if !path.exists() {
            return Ok(None);
        }
        Identity::of(&certificates(&path)?[0]).map(Some).map_err(|e| Error::file(&path, e.to_string()))
    }

    /// Holds the folder: several workers of one node share it, and one of them joins or renews.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn lock(&self) -> Result<File> {
        private_folder(&self.folder)?;
        locked(&self.folder)
    }

    /// A request for a certificate, signed by the folder's key, which is made where there is none. The key stays the same
    /// over renewals, so that certificate and key fit at every moment.
    ///
    /// # Errors
    /// A key that cannot be used or that others can read.
    pub fn request(&self) -> Result<Vec<u8>> {
        let path = self.files().key;
        if !path.exists() {
            write_private(&path, KeyPair::generate()?.serialize_pem().as_bytes())?;
        }
        let unusable = || Error::file(&path, "holds no private key that can sign");
        let key = PrivateKeyDer::from_pem_slice(&read_secret(&path)?).map_err(|_| unusable())?;
        let key = KeyPair::try_from(&key).map_err(|_| unusable())?;
        Ok(CertificateParams::default().serialize_request(&key)?.der().to_vec())
    }

    /// The authority that this node believes, by the hash of its certificate.
    ///
    /// # Errors
    /// A file that is absent or cannot be used.
    pub fn authority(&self) -> Result<[u8; 32]> {
        Ok(crate::sha256(&certificates(&self.files().ca)?[0]))
    }

    /// Keeps what the coordinator gave, if it is of the authority that was expected and for this node's key: what is there
    /// already and works is not replaced by anything that does not.
    ///
    /// # Errors
    /// [`Error::Certificate`] for anything else.
    pub fn keep(&self, certificate: &str, ca: &str, authority: [u8; 32]) -> Result<Identity> {
        let unusable = |what: &str| Error::Certificate(format!("the coordinator sent no {what} in PEM form"));
        let chain = from_pem(certificate.as_bytes()).ok_or_else(|| unusable("certificate"))?;
        let ca = from_pem(ca.as_bytes()).ok_or_else(|| unusable("authority"))?;
        if crate::sha256(&ca[0]) != authority {
            return Err(Error::Certificate(
                "the coordinator sent another authority than was expected".into(),
            ));
        }
        let identity = Identity::of(&chain[0])?;
        let files = self.files();
        let key = PrivateKeyDer::from_pem_slice(&read_secret(&files.key)?)
            .map_err(|_| Error::file(&files.key, "holds no private key"))?;
        CertifiedKey::from_der(chain.clone(), key, &crate::provider())
            .map_err(|e| Error::Certificate(format!("the coordinator sent one for another key: {e}")))?;
        write_private(&files.ca, pem(&[&ca[0]]).as_bytes())?;
        write_private(&files.cert, pem(&chain.iter().collect::<Vec<_>>()).as_bytes())?;
        Ok(identity)
    }
}

/// When a certificate should be renewed: when half of its time is over.
pub fn renew_at(identity: &Identity) -> SystemTime {
    identity.not_before + whole(identity) / 2
}

/// How long to wait after a renewal that failed: a twentieth of its time, and a minute at most.
pub fn renew_again(identity: &Identity) -> Duration {
    (whole(identity) / 20).clamp(Duration::from_millis(200), Duration::from_secs(60))
}

fn whole(identity: &Identity) -> Duration {
    identity.not_after.duration_since(identity.not_before).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::Authority;

    #[test]
    fn only_what_was_expected_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let authority = Authority::create(dir.path(), now).unwrap();
        let hour = Duration::from_secs(3600);
        let (node, other) = (Enrolment::new(dir.path().join("a")), Enrolment::new(dir.path().join("b")));
        let ca = pem(&[authority.certificate()]);
        let joined = |node: &Enrolment, name| {
            drop(node.lock().unwrap());
            let token = authority.token(hour, 1, hour, None, now).unwrap();
            pem(&[&authority.join(&token.secret, &node.request().unwrap(), name, now).unwrap().0])
        };
        let (own, others) = (joined(&node, "a"), joined(&other, "b"));
        let pin = authority.fingerprint();
        node.keep(&own, &ca, pin).unwrap();
        assert_eq!(node.authority().unwrap(), pin);
        let before = std::fs::read(node.files().cert).unwrap();
        for (certificate, ca, pin) in
            [(&others, &ca, pin), (&own, &own, pin), (&own, &ca, [0; 32]), (&"x".into(), &ca, pin)]
        {
            assert!(node.keep(certificate, ca, pin).is_err());
        }
        assert_eq!(std::fs::read(node.files().cert).unwrap(), before);
        assert_eq!(node.identity().unwrap().unwrap().name, "a");
        assert_eq!(Enrolment::new(dir.path().join("none")).identity().unwrap(), None);
    }
}
