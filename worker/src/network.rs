//! How a worker speaks to its coordinator: without TLS, with certificates that it was given, or with one that it fetches
//! itself by a token and renews while it runs.

use crate::cli;
use crate::keep::state_folder;
use crate::link::{CallError, Patience};
use anyhow::{Context, Result, bail};
use proto::status::{Class, Retry};
use proto::{Channel, ClusterClient, Endpoint, wire};
use secure::client::{Connector, Trust};
use secure::enrolment::{Enrolment, renew_again, renew_at};
use secure::files::{Files, read_secret};
use secure::identity::fitted_name;
use secure::token::Token;
use secure::{Identity, Role};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tracing::{info, warn};

/// Variable that holds a join token.
const TOKEN_VARIABLE: &str = "JRADIEVO_TOKEN";
/// How long one try to renew may take.
const CALL_LIMIT: Duration = Duration::from_secs(30);

/// How the coordinator is reached.
pub struct Network {
    /// For a worker's calls. Connections are opened as they are needed, each with the certificate as it is then.
    pub client: ClusterClient<Channel>,
    /// The name in this node's certificate, where it has one.
    pub node: Option<String>,
    /// Renews the certificate, where this node fetched it itself.
    renewing: Option<tokio::task::JoinHandle<()>>,
}

impl Drop for Network {
    fn drop(&mut self) {
        if let Some(task) = &self.renewing {
            task.abort();
        }
    }
}

/// Makes ready to speak to a coordinator; joins first, where a token says so.
pub async fn open(args: &cli::Run, host_name: &str, patience: Patience) -> Result<Network> {
    let url = &args.coordinator;
    let url = if url.contains("://") { url.clone() } else { format!("http://{url}") };
    let n = &args.network;
    let endpoint = endpoint(&url)?;
    let files = Files::named(n.tls.as_deref(), n.ca.as_deref(), n.cert.as_deref(), n.key.as_deref());
    let files = files.map_err(anyhow::Error::msg)?;
    let token = token(n.token_file.as_deref())?;
    if !url.starts_with("https://") {
        if files.is_some() || token.is_some() {
            bail!("--coordinator {url} is not encrypted: certificates and tokens are for https://");
        }
        return Ok(Network {
            client: proto::cluster_client(endpoint.connect_lazy()),
            node: None,
            renewing: None,
        });
    }
    if let Some(files) = files {
        let shown = secure::files::certificates(&files.cert)?;
        let identity = Identity::of(&shown[0]).with_context(|| files.cert.display().to_string())?;
        if identity.role != Role::Worker {
            bail!("{}: is of the role {}, and this is a worker", files.cert.display(), identity.role);
        }
        let client = client(&endpoint, Trust::Files(files))?;
        return Ok(Network { client, node: Some(identity.name), renewing: None });
    }
    let folder = n.identity.clone().map_or_else(|| default_folder(&url), Ok)?;
    let enrolment = Enrolment::new(folder);
    let name = args.name.as_deref().unwrap_or(host_name).split('/').next().unwrap_or_default();
    let identity = enrolled(&enrolment, token, &endpoint, &fitted_name(name), patience).await?;
    let client = client(&endpoint, Trust::Files(enrolment.files()))?;
    let renewing = tokio::spawn(renew(enrolment, endpoint));
    Ok(Network { client, node: Some(identity.name), renewing: Some(renewing) })
}

fn endpoint(url: &str) -> Result<Endpoint> {
    let endpoint = Endpoint::from_shared(url.to_string())
        .with_context(|| format!("--coordinator {url}: expected an address such as https://node1:7443"))?;
    Ok(endpoint
        .connect_timeout(Duration::from_secs(10))
        .http2_keep_alive_interval(Duration::from_secs(20))
        .keep_alive_while_idle(true))
}

fn client(endpoint: &Endpoint, trust: Trust) -> Result<ClusterClient<Channel>> {
    Ok(proto::cluster_client(endpoint.connect_with_connector_lazy(Connector::new(trust)?)))
}

/// The token of a file, or of the environment. Never of the command line, which everybody on a machine can see.
fn token(file: Option<&Path>) -> Result<Option<Token>> {
    let text = match file {
        Some(path) => {
            let bytes = read_secret(path)?;
            Some(String::from_utf8(bytes).map_err(|_| anyhow::anyhow!("{}: is not text", path.display()))?)
        }
        None => std::env::var(TOKEN_VARIABLE).ok().filter(|t| !t.trim().is_empty()),
    };
    let from = file.map_or_else(|| TOKEN_VARIABLE.into(), |p| p.display().to_string());
    text.map(|t| Token::parse(&t).context(from)).transpose()
}

/// A folder for this coordinator under the user's state folder.
fn default_folder(url: &str) -> Result<PathBuf> {
    let state = state_folder().context("neither XDG_STATE_HOME nor HOME is set: say --identity DIR")?;
    let place = url.trim_start_matches("https://").trim_end_matches('/');
    Ok(state.join(fitted_name(place)))
}

/// The certificate of this node: the one that is there while it holds, else a new one for the token.
async fn enrolled(
    enrolment: &Enrolment,
    token: Option<Token>,
    endpoint: &Endpoint,
    name: &str,
    patience: Patience,
) -> Result<Identity> {
    // Other workers of this node wait here and then find what the first one fetched.
    let lock = {
        let enrolment = enrolment.clone();
        tokio::task::spawn_blocking(move || enrolment.lock()).await??
    };
    let folder = enrolment.folder().display();
    let there = enrolment.identity()?;
    match there {
        Some(identity) if identity.not_after > SystemTime::now() => return Ok(identity),
        Some(_) if token.is_none() => bail!(
            "the certificate in {folder} has expired while no worker ran here: ask the operator for a join token \
             (jradievo token) and give it as --token-file FILE"
        ),
        None if token.is_none() => bail!(
            "an https:// coordinator wants to know this node: give --tls DIR with ca.pem, cert.pem and key.pem, or a join \
             token from the operator (jradievo token) as --token-file FILE; {folder} holds none"
        ),
        _ => {}
    }
    let token = token.expect("looked at above");
    let connector = Connector::new(Trust::Pinned(token.authority))?;
    let client = proto::join_client(endpoint.connect_with_connector_lazy(connector));
    let request = wire::JoinRequest {
        secret: token.secret.to_vec(),
        certificate_request: enrolment.request()?,
        name: name.into(),
    };
    // An answer that was lost is asked for again: the token knows the key that it let in.
    let call = || {
        let (mut client, request) = (client.clone(), request.clone());
        async move { client.join(request).await }
    };
    let reply = patience.call("join", call).await.map_err(|e| match e {
        CallError::Link(e) => anyhow::Error::from(e).context("joining"),
        CallError::Again => anyhow::anyhow!("joining: the coordinator answers what was not asked"),
    })?;
    let identity = enrolment.keep(&reply.certificate, &reply.authority, token.authority)?;
    drop(lock);
    info!(name = identity.name, folder = %folder, "joined; the token is not needed any more");
    Ok(identity)
}

/// Keeps the certificate fresh for as long as the worker runs.
async fn renew(enrolment: Enrolment, endpoint: Endpoint) {
    loop {
        let Ok(Some(identity)) = enrolment.identity() else {
            warn!(folder = %enrolment.folder().display(), "this node's certificate cannot be read any more");
            return;
        };
        if let Ok(wait) = renew_at(&identity).duration_since(SystemTime::now()) {
            // Looked at now and then: another worker of this node may renew, and clocks jump.
            tokio::time::sleep(wait.min(Duration::from_secs(600)) + Duration::from_millis(20)).await;
            continue;
        }
        match renewed(&enrolment, &endpoint, &identity).await {
            Ok(next) => info!(until = secure::unix(next.not_after), "this node's certificate was renewed"),
            Err(Renewal::Denied(why)) => {
                warn!("this node's certificate is not renewed: {why}");
                tokio::time::sleep(Duration::from_secs(60)).await;
            }
            Err(Renewal::Failed(why)) => {
                warn!("this node's certificate could not be renewed yet: {why}");
                tokio::time::sleep(renew_again(&identity)).await;
            }
        }
    }
}

enum Renewal {
    Denied(String),
    Failed(String),
}

async fn renewed(enrolment: &Enrolment, endpoint: &Endpoint, old: &Identity) -> Result<Identity, Renewal> {
    let failed = |e: &dyn std::fmt::Display| Renewal::Failed(e.to_string());
    let locking = enrolment.clone();
    let locked = tokio::task::spawn_blocking(move || locking.lock()).await.map_err(|e| failed(&e))?;
    let _lock = locked.map_err(|e| failed(&e))?;
    // Another worker of this node may have been first.
    if let Ok(Some(there)) = enrolment.identity()
        && there.serial != old.serial
    {
        return Ok(there);
    }
    let certificate_request = enrolment.request().map_err(|e| failed(&e))?;
    let connector = Connector::new(Trust::Files(enrolment.files())).map_err(|e| failed(&e))?;
    let mut client = proto::join_client(endpoint.connect_with_connector_lazy(connector));
    let call = client.renew(wire::RenewRequest { certificate_request });
    let reply = tokio::time::timeout(CALL_LIMIT, call).await.map_err(|e| failed(&e))?;
    let reply = reply.map_err(|s| match Class::from(&s) {
        class if class.retry() == Retry::Never => Renewal::Denied(class.to_string()),
        class => Renewal::Failed(class.to_string()),
    })?;
    let reply = reply.into_inner();
    let authority = enrolment.authority().map_err(|e| failed(&e))?;
    enrolment.keep(&reply.certificate, &reply.authority, authority).map_err(|e| failed(&e))
}
