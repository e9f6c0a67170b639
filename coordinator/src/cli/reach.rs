//! Reaching a coordinator: by its URL, or by the state folder that it serves.

use super::{Failure, Target, folder};
use crate::state::{Durable, State};
use crate::store::sled::Sled;
use crate::store::{Error, Store};
use proto::{Channel, Endpoint, wire};
use std::path::Path;
use std::time::Duration;

/// How long a coordinator may take to be reached.
const CONNECT: Duration = Duration::from_secs(3);

/// A connection to the coordinator at a URL.
pub async fn connect(url: &str) -> Result<Channel, String> {
    let endpoint = Endpoint::from_shared(url.to_string()).map_err(|e| e.to_string())?;
    endpoint.connect_timeout(CONNECT).connect().await.map_err(|e| {
        // The outer error only says "transport error".
        std::error::Error::source(&e).map_or_else(|| e.to_string(), |s| s.to_string())
    })
}

/// A connection to the coordinator that serves a folder, where there is one.
pub async fn serving(folder: &Path) -> Option<Channel> {
    let channel = connect(&folder::address(folder)?).await.ok()?;
    // After a crash anything may listen on that port, also what never answers.
    let mut inspect = proto::inspect_client(channel.clone());
    let status = tokio::time::timeout(CONNECT, inspect.status(wire::StatusRequest {})).await.ok()?.ok()?;
    // After a crash another run's coordinator may have got the same port.
    folder::run_id(folder).is_none_or(|id| id == status.get_ref().run_id).then_some(channel)
}

/// A connection to the coordinator that a target means; `None` for a folder that nobody serves.
pub async fn live(target: &Target) -> Result<Option<Channel>, Failure> {
    match (&target.coordinator, &target.state) {
        (Some(url), _) => {
            let absent = |e| Failure::Absent(format!("no coordinator answers at {url}: {e}"));
            Ok(Some(connect(url).await.map_err(absent)?))
        }
        (None, Some(folder)) => Ok(serving(folder).await),
        (None, None) => Err(Failure::Usage("give a state folder, or --coordinator URL".into())),
    }
}

/// The store of a folder that nobody serves, and what it holds.
pub fn at_rest(folder: &Path) -> Result<(Sled, Durable), Failure> {
    let store = Sled::open(folder)?;
    let durable = store.load()?.ok_or_else(|| Error::Empty { folder: folder.to_path_buf() })?;
    Ok((store, durable))
}

/// The state of such a folder, whichever version of the program wrote it: to be looked at.
pub fn state_at_rest(folder: &Path) -> Result<(Box<State>, Sled), Failure> {
    let (store, durable) = at_rest(folder)?;
    let state = State::restore(durable).map_err(|e| Failure::Failed(e.to_string()))?;
    Ok((Box::new(state), store))
}
