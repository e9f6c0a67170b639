//! Reaching a coordinator: by its URL, or by the state folder that it serves.

use super::network::Credentials;
use super::{Failure, Target, folder, tell};
use crate::state::{Durable, State};
use crate::store::sled::Sled;
use crate::store::{Error, Store};
use proto::status::Class;
use proto::{Channel, Endpoint, wire};
use secure::client::{Connector, Trust};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a coordinator may take to be reached.
const CONNECT: Duration = Duration::from_secs(3);
/// How long a coordinator waits for commands that read its store.
const READERS: Duration = Duration::from_secs(60);

/// A connection to the coordinator at a URL: encrypted where that begins with `https`.
async fn connect(url: &str, trust: Option<Trust>) -> Result<Channel, String> {
    let endpoint = Endpoint::from_shared(url.to_string()).map_err(|e| e.to_string())?;
    let endpoint = endpoint.connect_timeout(CONNECT);
    let connected = match (url.starts_with("https:"), trust) {
        (false, _) => endpoint.connect().await,
        (true, Some(trust)) => {
            let connector = Connector::new(trust).map_err(|e| e.to_string())?;
            endpoint.connect_with_connector(connector).await
        }
        (true, None) => return Err("it wants to see a certificate: give --tls DIR with an operator's".into()),
    };
    connected.map_err(|e| {
        // The outer errors only say "transport error".
        let first = std::error::Error::source(&e);
        let innermost = std::iter::successors(first, |e| e.source()).last();
        innermost.map_or_else(|| e.to_string(), |s| s.to_string())
    })
}

/// A connection to the coordinator that serves a folder, where there is one.
pub async fn serving(folder: &Path, credentials: &Credentials) -> Option<Channel> {
    let url = folder::address(folder)?;
    let reached = async {
        let trust = credentials.trust(folder::operator(folder))?;
        let channel = connect(&url, trust).await?;
        // After a crash anything may listen on that port, also what never answers.
        let mut inspect = proto::inspect_client(channel.clone());
        let status = tokio::time::timeout(CONNECT, inspect.status(wire::StatusRequest {})).await;
        let status = status.map_err(|_| "no answer".to_string())?;
        let status = status.map_err(|s| Class::from(&s).to_string())?;
        // After a crash another run's coordinator may have got the same port.
        Ok::<_, String>(
            folder::run_id(folder).is_none_or(|id| id == status.get_ref().run_id).then_some(channel),
        )
    };
    match reached.await {
        Ok(channel) => channel,
        Err(why) => {
            // Without TLS nobody there is what it means; with it, it may be that somebody is and will not have us.
            if url.starts_with("https:") && folder::address(folder).is_some() {
                tell(&format!("note: the coordinator at {url} was not asked: {why}"));
            }
            None
        }
    }
}

/// A connection to the coordinator that a target means; `None` for a folder that nobody serves.
pub async fn live(target: &Target) -> Result<Option<Channel>, Failure> {
    match (&target.coordinator, &target.state) {
        (Some(url), _) => {
            let absent = |e| Failure::Absent(format!("no coordinator answers at {url}: {e}"));
            let trust = target.credentials.trust(None).map_err(Failure::Usage)?;
            Ok(Some(connect(url, trust).await.map_err(absent)?))
        }
        (None, Some(folder)) => Ok(serving(folder, &target.credentials).await),
        (None, None) => Err(Failure::Usage("give a state folder, or --coordinator URL".into())),
    }
}

/// The store of a folder that nobody serves, and what it holds.
pub fn at_rest(folder: &Path) -> Result<(Sled, Durable), Failure> {
    loaded(folder, Sled::open(folder)?)
}

/// The same for a coordinator, which waits for commands that are reading the store: one that a supervisor starts again must not
/// fail for somebody's look at the run.
pub async fn at_rest_when_free(folder: &Path, credentials: &Credentials) -> Result<(Sled, Durable), Failure> {
    let until = Instant::now() + READERS;
    let mut told = false;
    loop {
        match Sled::open(folder) {
            Err(Error::InUse { .. })
                if Instant::now() < until && serving(folder, credentials).await.is_none() =>
            {
                if !told {
                    tell(&format!("waiting for a command that is reading {}", folder.display()));
                    told = true;
                }
            }
            opened => return loaded(folder, opened?),
        }
    }
}

fn loaded(folder: &Path, store: Sled) -> Result<(Sled, Durable), Failure> {
    let durable = store.load()?.ok_or_else(|| Error::Empty { folder: folder.to_path_buf() })?;
    Ok((store, durable))
}

/// The state of such a folder, whichever version of the program wrote it: to be looked at.
pub fn state_at_rest(folder: &Path) -> Result<(Box<State>, Sled), Failure> {
    let (store, durable) = at_rest(folder)?;
    let state = State::restore(durable).map_err(|e| Failure::Failed(e.to_string()))?;
    Ok((Box::new(state), store))
}
