//! A private authority: a folder whose key signs certificates for one hospital's runs.
//!
//! | in its folder | what |
//! |---|---|
//! | `ca.pem`, `ca-key.pem` | certificate and key; who has the key can be anybody |
//! | `issued.jsonl`, `revoked.jsonl` | what was signed and taken back |
//! | `crl.pem` | the same as a signed list, which a coordinator reads |
//! | `tokens/` | join tokens, by the hash of their secret |
//!
//! Keys are ECDSA on P-256: every library that people may bring knows it. A certificate holds from five minutes ago (a short
//! one from a tenth of its time ago), for clocks that differ.

use crate::error::{Error, Result};
use crate::files::{self, certificates, locked, private_folder, read_secret, write_private};
use crate::identity::{Identity, Role, checked_name, uri};
use crate::ledger::{Issued, Ledger, Revoked};
use crate::token::{Terms, Token, Tokens};
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertificateSigningRequestParams,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PublicKeyData,
    RevokedCertParams, SanType, SerialNumber,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How long an authority's own certificate holds.
const AUTHORITY_LIFE: Duration = Duration::from_secs(3650 * 86_400);
/// How much clocks may differ, where certificates hold for longer than ten times that.
const SKEW: Duration = Duration::from_secs(300);
/// The longest that a certificate may hold.
pub const MAX_LIFE: Duration = Duration::from_secs(825 * 86_400);
/// The longest request for a certificate, in bytes.
pub const MAX_REQUEST: usize = 4096;

/// For whom a certificate is made.
#[derive(Clone, Debug)]
pub struct Subject<'a> {
    /// What it lets its holder do.
    pub role: Role,
    /// Its holder's name.
    pub name: &'a str,
    /// Names and addresses under which a coordinator is reached.
    pub hosts: &'a [String],
    /// How long it holds.
    pub life: Duration,
}

/// An authority that can sign.
pub struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    ledger: Ledger,
    tokens: Tokens,
}

impl Authority {
    /// Makes a new one in a folder that has none.
    ///
    /// # Errors
    /// [`Error::File`] where the folder holds one already.
    pub fn create(folder: &Path, now: SystemTime) -> Result<Authority> {
        private_folder(folder)?;
        let _lock = locked(folder)?;
        let (ca, key_file) = (folder.join("ca.pem"), folder.join("ca-key.pem"));
        for path in [&ca, &key_file] {
            if path.exists() {
                return Err(Error::file(path, "an authority is here already; choose another folder"));
            }
        }
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let mark = crate::hex(&crate::random::<4>()?);
        params.distinguished_name.push(DnType::CommonName, format!("JRadiEvo authority {mark}"));
        (params.not_before, params.not_after) = ((now - SKEW).into(), (now + AUTHORITY_LIFE).into());
        params.serial_number = Some(serial()?);
        let certificate = params.self_signed(&key)?;
        write_private(&key_file, key.serialize_pem().as_bytes())?;
        write_private(&ca, certificate.pem().as_bytes())?;
        Authority::open(folder)
    }

    /// Opens the one in a folder.
    ///
    /// # Errors
    /// A file that is absent, damaged or open to others, by its name.
    pub fn open(folder: &Path) -> Result<Authority> {
        let (ca, key_file) = (folder.join("ca.pem"), folder.join("ca-key.pem"));
        let secret = read_secret(&key_file)?;
        let damaged = || Error::file(&key_file, "holds no private key that can sign");
        let key = PrivateKeyDer::from_pem_slice(&secret).map_err(|_| damaged())?;
        let key = KeyPair::try_from(&key).map_err(|_| damaged())?;
        let certificate = certificates(&ca)?.remove(0);
        let (_, parsed) = x509_parser::parse_x509_certificate(&certificate)
            .map_err(|e| Error::Certificate(e.to_string()))?;
        if parsed.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err(Error::file(&key_file, format!("is not the key of {}", ca.display())));
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key)?;
        let (ledger, tokens) = (Ledger::new(folder), Tokens::new(folder));
        Ok(Authority { folder: folder.to_path_buf(), issuer, certificate, ledger, tokens })
    }

    /// Its certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// SHA-256 of its certificate.
    pub fn fingerprint(&self) -> [u8; 32] {
        crate::sha256(&self.certificate)
    }

    /// Makes a key and a certificate, and writes both with the authority's certificate to a folder: `ca.pem`, `cert.pem`,
    /// `key.pem`.
    ///
    /// # Errors
    /// [`Error::File`] where the folder has a certificate already and `replace` does not say that it may go.
    pub fn issue(
        &self,
        subject: &Subject<'_>,
        out: &Path,
        replace: bool,
        now: SystemTime,
    ) -> Result<Identity> {
        let _lock = locked(&self.folder)?;
        let files = files::Files::in_folder(out);
        if !replace && let Some(there) = [&files.cert, &files.key].into_iter().find(|p| p.exists()) {
            return Err(Error::file(there, "is there already; --replace makes a new one in its place"));
        }
        private_folder(out)?;
        let key = KeyPair::generate()?;
        let (certificate, identity) = self.sign(subject, &key, "issue", now)?;
        write_private(&files.ca, pem(&[&self.certificate]).as_bytes())?;
        // A coordinator that looks between these two sees a pair that does not fit, keeps the old one, and looks again.
        write_private(&files.key, key.serialize_pem().as_bytes())?;
        write_private(&files.cert, pem(&[&certificate]).as_bytes())?;
        Ok(identity)
    }

    /// Makes a join token.
    ///
    /// # Errors
    /// [`Error::Name`] and failures of the system.
    pub fn token(
        &self,
        ttl: Duration,
        uses: u32,
        life: Duration,
        name: Option<&str>,
        now: SystemTime,
    ) -> Result<Token> {
        let _lock = locked(&self.folder)?;
        let name = name.map(checked_name).transpose()?.map(String::from);
        let token = Token { authority: self.fingerprint(), secret: crate::random()? };
        let expires = crate::unix(now + ttl);
        let terms = Terms { expires, uses, life: life.min(MAX_LIFE).as_secs(), name, keys: Vec::new() };
        self.tokens.keep(&token.secret, &terms, now)?;
        Ok(token)
    }

    /// Lets a new worker node in: its token is used up before its certificate leaves.
    ///
    /// # Errors
    /// [`Error::Token`], [`Error::Name`], [`Error::NameInUse`], [`Error::Request`].
    pub fn join(
        &self,
        secret: &[u8; 32],
        request: &[u8],
        name: &str,
        now: SystemTime,
    ) -> Result<(CertificateDer<'static>, Identity)> {
        let key = requested(request)?;
        let name = checked_name(name)?;
        let mark = key_mark(&key);
        let _lock = locked(&self.folder)?;
        let terms = self.tokens.look(secret, &mark, name, now)?;
        if self.ledger.is_held_by_another(name, &mark, now)? {
            return Err(Error::NameInUse { name: name.into() });
        }
        let life = Duration::from_secs(terms.life);
        self.tokens.take(secret, terms, &mark)?;
        self.sign(&Subject { role: Role::Worker, name, hosts: &[], life }, &key, "join", now)
    }

    /// Gives a worker that is known by its certificate the next one, for the same name and as long.
    ///
    /// # Errors
    /// [`Error::TooYoung`] in the first third of the certificate's time; [`Error::Request`].
    pub fn renew(
        &self,
        holder: &Identity,
        request: &[u8],
        now: SystemTime,
    ) -> Result<(CertificateDer<'static>, Identity)> {
        let key = requested(request)?;
        let life = given(holder);
        if holder.not_after.duration_since(now).unwrap_or_default() > life.mul_f64(2.0 / 3.0) {
            return Err(Error::TooYoung);
        }
        let _lock = locked(&self.folder)?;
        self.sign(&Subject { role: holder.role, name: &holder.name, hosts: &[], life }, &key, "renew", now)
    }

    /// Takes back every certificate of a name, or the one of a serial number. Yields those that were still good.
    ///
    /// # Errors
    /// Failures of the system.
    pub fn revoke(&self, which: &str, now: SystemTime) -> Result<Vec<Issued>> {
        let _lock = locked(&self.folder)?;
        let hit = self.ledger.revoke(which, now)?;
        let revoked = self.ledger.revoked()?;
        if revoked.is_empty() {
            return Ok(hit);
        }
        let one = |r: &Revoked| -> RevokedCertParams {
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(r.at);
            RevokedCertParams {
                serial_number: SerialNumber::from_slice(&unhexed(&r.serial)),
                revocation_time: at.into(),
                reason_code: None,
                invalidity_date: None,
            }
        };
        let list = CertificateRevocationListParams {
            this_update: now.into(),
            next_update: (now + AUTHORITY_LIFE).into(),
            crl_number: SerialNumber::from_slice(&crate::unix(now).to_be_bytes()),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(one).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer)?.pem()?;
        write_private(&self.folder.join("crl.pem"), list.as_bytes())?;
        Ok(hit)
    }

    /// Everything that was signed, and what of it was taken back.
    ///
    /// # Errors
    /// Failures of the system, and damaged files.
    pub fn list(&self) -> Result<(Vec<Issued>, Vec<Revoked>)> {
        let _lock = locked(&self.folder)?;
        Ok((self.ledger.issued()?, self.ledger.revoked()?))
    }

    fn sign(
        &self,
        subject: &Subject<'_>,
        key: &impl PublicKeyData,
        by: &str,
        now: SystemTime,
    ) -> Result<(CertificateDer<'static>, Identity)> {
        let mut params = CertificateParams::new(subject.hosts.to_vec())?;
        let role = Ia5String::try_from(uri(subject.role, subject.name)?)?;
        params.subject_alt_names.push(SanType::URI(role));
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, subject.name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match subject.role {
            Role::Coordinator => ExtendedKeyUsagePurpose::ServerAuth,
            Role::Worker | Role::Operator => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        params.use_authority_key_identifier_extension = true;
        let life = subject.life.min(MAX_LIFE);
        // Cut to seconds here and not by the encoding, so that a renewal finds the life that was given.
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(crate::unix(now));
        (params.not_before, params.not_after) = ((now - backdated(life)).into(), (now + life).into());
        params.serial_number = Some(serial()?);
        let certificate = params.signed_by(key, &self.issuer)?.der().clone();
        let identity = Identity::of(&certificate)?;
        self.ledger.record(&identity, &key_mark(key), by)?;
        Ok((certificate, identity))
    }
}

/// How long before its making a certificate begins to hold; whole seconds, as everything in a certificate.
fn backdated(life: Duration) -> Duration {
    SKEW.min(Duration::from_secs(life.as_secs() / 10))
}

/// For how long a certificate was made: its whole time without what was added for clocks that differ.
fn given(holder: &Identity) -> Duration {
    let whole = holder.not_after.duration_since(holder.not_before).unwrap_or_default();
    let long = whole.saturating_sub(SKEW);
    let short = Duration::from_secs((whole.as_secs() * 10).div_ceil(11));
    (if long >= SKEW * 10 { long } else { short }).min(MAX_LIFE)
}

/// Certificates as text.
pub fn pem(certificates: &[&CertificateDer<'_>]) -> String {
    let one = |c: &&CertificateDer<'_>| pem::Pem::new("CERTIFICATE", c.to_vec());
    pem::encode_many(&certificates.iter().map(one).collect::<Vec<_>>())
}

/// The key of a request, which must be signed with it. Nothing else of a request counts: what stands in a certificate is the
/// authority's decision.
fn requested(request: &[u8]) -> Result<rcgen::PublicKey> {
    if request.len() > MAX_REQUEST {
        return Err(Error::Request(format!("{} bytes, more than {MAX_REQUEST}", request.len())));
    }
    let parsed = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(request));
    Ok(parsed.map_err(|e| Error::Request(e.to_string()))?.public_key)
}

fn key_mark(key: &impl PublicKeyData) -> String {
    crate::hex(&crate::sha256(key.der_bytes()))
}

/// 16 random bytes: a positive number whose first digit is never zero.
fn serial() -> Result<SerialNumber> {
    let mut bytes = crate::random::<16>()?;
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

/// Bytes of hexadecimal digits; what is no digit is left out.
fn unhexed(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().filter_map(|c| c.to_digit(16)).map(|d| d as u8).collect();
    digits.chunks_exact(2).map(|p| p[0] * 16 + p[1]).collect()
}

#[cfg(test)]
#[path = "authority_tests.rs"]
mod tests;
