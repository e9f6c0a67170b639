//! Requests to a hub.
//!
//! Redirects are followed here and not by the HTTP library, for three reasons: the hub's own headers stand on the
//! answer that redirects, the token must reach no host but the endpoint's (same scheme, host and port), and nothing
//! may lead from an encrypted connection to one that is not.

use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::settings::{Settings, Token};
use common::location::HubRef;
use std::io::Read;
use std::time::{Duration, Instant};
use ureq::http::{HeaderMap, Response, Uri};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body, Proxy};

const MOST_REDIRECTS: usize = 8;

/// Longest pause between two attempts, and the longest that a hub may ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A request that failed.
pub(crate) enum Failure {
    /// Trying again may help.
    Passing {
        why: String,
        /// Whether anybody answered at all.
        answered: bool,
        /// How long the hub asks to be left alone.
        pause: Option<Duration>,
    },
    /// It will not.
    Final(Error),
}

impl From<Error> for Failure {
    fn from(e: Error) -> Failure {
        Failure::Final(e)
    }
}

/// An answer that has a body.
pub(crate) struct Answer {
    pub status: u16,
    /// Headers of the last answer.
    pub headers: HeaderMap,
    /// Headers of the last answer that came from the endpoint itself.
    pub hub: HeaderMap,
    body: Body,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        text(&self.headers, name)
    }

    /// A header that only the endpoint is believed for.
    pub fn hub_header(&self, name: &str) -> Option<&str> {
        text(&self.hub, name)
    }

    pub fn reader(self) -> impl Read {
        self.body.into_reader()
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// What a request is after.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Listing,
    Content,
    Headers,
}

/// What is asked for, for messages.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub reference: &'a HubRef,
    pub file: Option<&'a str>,
}

/// Asks one hub.
#[derive(Debug)]
pub(crate) struct Client {
    agent: Agent,
    endpoint: String,
    origin: Option<Origin>,
    token: Option<Token>,
    attempts: u32,
    pause: Duration,
    patience: Duration,
}

type Origin = (String, String, u16);

impl Client {
    pub fn new(settings: &Settings) -> Result<Client> {
        let mut tls = TlsConfig::builder();
        if let Some(path) = &settings.certificates {
            tls = tls.root_certs(certificates(path)?);
        }
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(if settings.proxy { Proxy::try_from_env() } else { None })
            .tls_config(tls.build())
            .user_agent(format!("jradievo/{}", env!("CARGO_PKG_VERSION")))
            // What is digested must be what is stored, so nothing may be packed on the way.
            .accept_encoding("identity")
            .timeout_resolve(Some(settings.silence))
            .timeout_connect(Some(settings.silence))
            .timeout_recv_response(Some(settings.silence))
            .timeout_per_read(Some(settings.silence))
            .build()
            .into();
        let origin = settings.endpoint.parse().ok().as_ref().and_then(origin);
        let (endpoint, token) = (settings.endpoint.clone(), settings.token.clone());
        Ok(Client {
            agent,
            endpoint,
            origin,
            token,
            attempts: settings.attempts.max(1),
            pause: settings.pause,
            patience: settings.patience.min(settings.silence),
        })
    }

    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Asks for a content, from a byte on.
    pub fn get(&self, url: &str, from: u64, subject: Subject<'_>) -> std::result::Result<Answer, Failure> {
        self.send(Kind::Content, url, from, subject)
    }

    /// Asks for the headers of a content.
    pub fn head(&self, url: &str, subject: Subject<'_>) -> std::result::Result<Answer, Failure> {
        self.send(Kind::Headers, url, 0, subject)
    }

    fn send(
        &self,
        kind: Kind,
        url: &str,
        from: u64,
        subject: Subject<'_>,
    ) -> std::result::Result<Answer, Failure> {
        let wrong = |url: &str, fault: &str| Error::Answer { url: url.into(), fault: fault.into() };
        let mut url = url.to_string();
        let mut hub = HeaderMap::new();
        for _ in 0..=MOST_REDIRECTS {
            let uri: Uri = url.parse().map_err(|_| wrong(&url, "not an address"))?;
            let own = origin(&uri).is_some() && origin(&uri) == self.origin;
            let head = kind == Kind::Headers;
            let mut request = if head { self.agent.head(&url) } else { self.agent.get(&url) };
            if kind == Kind::Listing {
                let patience = Some(self.patience);
                request = request.config().timeout_resolve(patience).timeout_connect(patience).build();
            }
            if from > 0 {
                request = request.header("Range", format!("bytes={from}-"));
            }
            if let Some(token) = self.token.as_ref().filter(|_| own) {
                request = request.header("Authorization", token.header());
            }
            let response: Response<Body> = request.call().map_err(|e| unanswered(&uri, &e))?;
            let (parts, body) = response.into_parts();
            if own {
                hub = parts.headers.clone();
            }
            let status = parts.status.as_u16();
            if matches!(status, 301 | 302 | 303 | 307 | 308) {
                let location = text(&parts.headers, "location");
                let next = location.and_then(|l| join(&uri, l));
                let next = next.ok_or_else(|| wrong(&url, "a redirect that leads nowhere"))?;
                let safe = uri.scheme_str() != Some("https") || next.starts_with("https://");
                if !safe {
                    return Err(wrong(&url, "a redirect from https to http").into());
                }
                // Only the endpoint's own headers are of interest, and those are here now.
                if head && own && !next.parse().is_ok_and(|n: Uri| origin(&n) == self.origin) {
                    return Ok(Answer { status: 200, headers: HeaderMap::new(), hub, body });
                }
                url = next;
                continue;
            }
            if matches!(status, 200 | 206 | 416) {
                return Ok(Answer { status, headers: parts.headers, hub, body });
            }
            return Err(self.refusal(status, &url, own, &parts.headers, subject));
        }
        Err(wrong(&url, "too many redirects").into())
    }

    /// What a status means. The hub says in `X-Error-Code` which of several things it is.
    fn refusal(
        &self,
        status: u16,
        url: &str,
        own: bool,
        headers: &HeaderMap,
        subject: Subject<'_>,
    ) -> Failure {
        let repo = subject.reference.repo();
        let (endpoint, token) = (self.endpoint.clone(), self.token.is_some());
        let passing = || {
            let seconds = text(headers, "retry-after").and_then(|s| s.parse().ok()).map(Duration::from_secs);
            let why = format!("status {status} from {}", host(url));
            Failure::Passing { why, answered: true, pause: seconds.map(|s: Duration| s.min(LONGEST_PAUSE)) }
        };
        if !own {
            // A place for large files: its addresses are signed and run out, so the hub is asked again.
            return match status {
                400..=599 => passing(),
                _ => Error::Answer { url: without_query(url), fault: format!("status {status}") }.into(),
            };
        }
        Failure::Final(match (status, text(headers, "x-error-code"), subject.file) {
            (408 | 425 | 429 | 500..=599, ..) => return passing(),
            (401 | 403, Some("GatedRepo"), _) => Error::Gated { repo, endpoint, token },
            (401 | 403, ..) => Error::Refused { repo, status, token },
            (404, Some("RepoNotFound"), _) => Error::NoRepo { repo, endpoint },
            (404, Some("RevisionNotFound"), _) => {
                Error::NoRevision { repo, revision: subject.reference.revision().into() }
            }
            (404, _, Some(file)) => {
                Error::NoFile { reference: subject.reference.to_string(), file: file.into() }
            }
            (404, _, None) if subject.reference.revision() == common::location::DEFAULT_REVISION => {
                Error::NoRepo { repo, endpoint }
            }
            (404, _, None) => Error::NoRevision { repo, revision: subject.reference.revision().into() },
            _ => Error::Answer { url: without_query(url), fault: format!("status {status}") },
        })
    }

    /// The pause after attempt number `attempt` (from 1) failed for the reason `why`, which is told. It is ended early
    /// by whoever watches.
    pub fn wait(
        &self,
        attempt: u32,
        why: &str,
        asked: Option<Duration>,
        progress: &dyn Progress,
    ) -> Result<()> {
        let own = self.pause.saturating_mul(1 << (attempt.saturating_sub(1)).min(6)).min(LONGEST_PAUSE);
        let pause = asked.unwrap_or(own).max(own);
        progress.note(&format!(
            "{}: {why}; trying again in {:.0} s",
            host(&self.endpoint),
            pause.as_secs_f64().ceil()
        ));
        let until = Instant::now() + pause;
        loop {
            if progress.stopped() {
                return Err(Error::Stopped);
            }
            match until.saturating_duration_since(Instant::now()) {
                Duration::ZERO => return Ok(()),
                left => std::thread::sleep(left.min(Duration::from_millis(100))),
            }
        }
    }

    /// A listing whole, after a few attempts.
    pub fn read(
        &self,
        url: &str,
        limit: u64,
        subject: Subject<'_>,
        progress: &dyn Progress,
    ) -> Result<Vec<u8>> {
        let mut attempt = 1;
        loop {
            let read = self.send(Kind::Listing, url, 0, subject).and_then(|answer| {
                let mut bytes = Vec::new();
                let read = answer.reader().take(limit + 1).read_to_end(&mut bytes);
                read.map_err(|e| Failure::Passing { why: e.to_string(), answered: true, pause: None })?;
                match bytes.len() as u64 > limit {
                    true => {
                        Err(Error::Answer { url: url.into(), fault: "the answer is far too long".into() }
                            .into())
                    }
                    false => Ok(bytes),
                }
            });
            match read {
                Ok(bytes) => return Ok(bytes),
                Err(Failure::Final(e)) => return Err(e),
                // Who never answers is given up sooner than a transfer that began.
                Err(Failure::Passing { why, .. }) if attempt >= self.attempts.min(3) => {
                    return Err(Error::Unreachable { host: host(url), why });
                }
                Err(Failure::Passing { why, pause, .. }) => self.wait(attempt, &why, pause, progress)?,
            }
            attempt += 1;
        }
    }
}

fn certificates(path: &std::path::Path) -> Result<RootCerts> {
    let pem = std::fs::read(path).map_err(Error::io("read the certificates in", path))?;
    let found: Vec<_> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(c)) => Some(c),
            _ => None,
        })
        .collect();
    if found.is_empty() {
        let fault = format!("{} holds no PEM certificate", path.display());
        return Err(Error::Settings { variable: "SSL_CERT_FILE".into(), fault });
    }
    Ok(RootCerts::new_with_certs(&found))
}

fn unanswered(uri: &Uri, e: &ureq::Error) -> Failure {
    let host = uri.host().unwrap_or_default().to_string();
    match e {
        // These are not mended by waiting.
        ureq::Error::Tls(_) | ureq::Error::Rustls(_) | ureq::Error::Pem(_) => {
            let why = format!("{e} (where a proxy signs connections, SSL_CERT_FILE names its certificates)");
            Failure::Final(Error::Unreachable { host, why })
        }
        _ => Failure::Passing { why: e.to_string(), answered: false, pause: None },
    }
}

/// Scheme, host and port.
fn origin(uri: &Uri) -> Option<Origin> {
    let scheme = uri.scheme_str()?.to_ascii_lowercase();
    let usual = if scheme == "https" { 443 } else { 80 };
    Some((scheme, uri.host()?.to_ascii_lowercase(), uri.port_u16().unwrap_or(usual)))
}

/// The host in an address, with its port.
pub(crate) fn host(url: &str) -> String {
    let uri: Option<Uri> = url.parse().ok();
    uri.and_then(|u| Some(u.authority()?.as_str().rsplit('@').next()?.to_string()))
        .unwrap_or_else(|| url.into())
}

/// Signed addresses carry their key in the query.
fn without_query(url: &str) -> String {
    url.split('?').next().unwrap_or(url).into()
}

/// Where `location` leads from `base`.
fn join(base: &Uri, location: &str) -> Option<String> {
    if location.starts_with("http://") || location.starts_with("https://") {
        return Some(location.into());
    }
    let (scheme, authority) = (base.scheme_str()?, base.authority()?);
    if let Some(rest) = location.strip_prefix("//") {
        return Some(format!("{scheme}://{rest}"));
    }
    if location.starts_with('/') {
        return Some(format!("{scheme}://{authority}{location}"));
    }
    if location.is_empty() || location.contains(':') {
        return None;
    }
    let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
    Some(format!("{scheme}://{authority}{folder}/{location}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_joined_as_browsers_do() {
        let base: Uri = "https://hub.example/a/b/resolve/main/x?y=z".parse().unwrap();
        let joined = |l: &str| join(&base, l);
        assert_eq!(joined("/c/d").as_deref(), Some("https://hub.example/c/d"));
        assert_eq!(joined("//cdn.example/c").as_deref(), Some("https://cdn.example/c"));
        assert_eq!(joined("https://cdn.example/c?k=v").as_deref(), Some("https://cdn.example/c?k=v"));
        assert_eq!(joined("w").as_deref(), Some("https://hub.example/a/b/resolve/main/w"));
        assert_eq!(joined("file:///etc/passwd"), None);
        assert_eq!(joined(""), None);
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let of = |text: &str| origin(&text.parse().unwrap());
        assert_eq!(of("https://Hub.example/x"), of("https://hub.example:443/y"));
        assert_ne!(of("https://hub.example/x"), of("http://hub.example/x"));
        assert_ne!(of("http://127.0.0.1:1/x"), of("http://127.0.0.1:2/x"));
        assert_ne!(of("https://hub.example"), of("https://hub.example.evil.example"));
    }
}
