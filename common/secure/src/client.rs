//! The other end of TLS: a connector for gRPC channels that reads its files at every connection, so that a renewed
//! certificate is in force from the next one on.

use crate::error::{Error, Result};
use crate::files::{Files, Material};
use crate::server::roots;
use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, Resumption, WebPkiServerVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, SignatureScheme};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower_service::Service;

/// How long connecting and the handshake may take.
const LIMIT: Duration = Duration::from_secs(10);

/// By what the two ends know each other.
#[derive(Clone, Debug)]
pub enum Trust {
    /// Files: the coordinator is whoever the authority says, and a certificate of one's own is shown.
    Files(Files),
    /// The hash of the authority's certificate, as a token tells it; nothing is shown.
    Pinned([u8; 32]),
}

impl Trust {
    /// The configuration as the files are now.
    ///
    /// # Errors
    /// The file that is absent, unusable or open to others.
    pub fn config(&self) -> Result<ClientConfig> {
        let tls = |e: rustls::Error| Error::Tls(e.to_string());
        let builder = ClientConfig::builder_with_provider(crate::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(tls)?;
        let mut config = match self {
            Trust::Files(files) => {
                let Material { ca, chain, key, .. } = files.read()?;
                let roots = roots(&ca).map_err(|e| Error::file(&files.ca, e))?;
                let unfit = |e: rustls::Error| {
                    Error::file(&files.cert, format!("does not go with {}: {e}", files.key.display()))
                };
                builder.with_root_certificates(roots).with_client_auth_cert(chain, key).map_err(unfit)?
            }
            Trust::Pinned(pin) => {
                let algorithms = crate::provider().signature_verification_algorithms;
                let verifier = Arc::new(Pinned { pin: *pin, algorithms });
                builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}

/// Believes whoever has a certificate, for the name that was asked for, of the authority whose certificate has this hash;
/// that one must be shown too.
#[derive(Debug)]
struct Pinned {
    pin: [u8; 32],
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let unknown = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let pinned = intermediates.iter().find(|c| crate::sha256(c) == self.pin).ok_or(unknown.clone())?;
        let roots = roots(&[pinned.clone().into_owned()]).map_err(|_| unknown.clone())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), crate::provider());
        let verifier = verifier.build().map_err(|_| unknown)?;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken here".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Opens connections for a channel.
#[derive(Clone, Debug)]
pub struct Connector {
    trust: Trust,
}

impl Connector {
    /// With files, which are read here once so that what is wrong with them is told at once.
    ///
    /// # Errors
    /// As [`Trust::config`].
    pub fn new(trust: Trust) -> Result<Connector> {
        trust.config()?;
        Ok(Connector { trust })
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let trust = self.trust.clone();
        Box::pin(async move {
            let late = || io::Error::new(io::ErrorKind::TimedOut, "no handshake within 10 s");
            tokio::time::timeout(LIMIT, connect(&trust, &uri)).await.map_err(|_| late())?.map(TokioIo::new)
        })
    }
}

async fn connect(trust: &Trust, uri: &Uri) -> io::Result<TlsStream<TcpStream>> {
    let config = trust.config().map_err(io::Error::other)?;
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_string();
    let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
    let tcp = TcpStream::connect((host.as_str(), uri.port_u16().unwrap_or(443))).await?;
    tcp.set_nodelay(true)?;
    TlsConnector::from(Arc::new(config)).connect(name, tcp).await
}
