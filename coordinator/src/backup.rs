//! A consistent copy of a run: taken from a store at rest, or sent by the coordinator that has it open.
//!
//! The coordinator only reads and sends; files are written by the command, where its operator wants them. What arrives
//! is believed no more than any message: only known trees, and the whole is checked by [`crate::fsck`] before it is
//! called a copy.

use crate::driver::Handle;
use crate::store::copy::{Copy, Draft, Raw, portions};
use crate::store::key::Place;
use crate::store::{Error, Store};
use proto::status::Class;
use proto::wire;
use std::time::Duration;
use tokio::sync::mpsc::Sender;
use tonic::{Status, Streaming};

/// Whoever takes longer for a portion is not there any more; what changes meanwhile is kept for him.
const PATIENCE: Duration = Duration::from_secs(60);
/// No key of a store is longer.
const KEY_BYTES: usize = 64;

type Sent = Sender<Result<wire::BackupChunk, Status>>;

/// What was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Records that were written, those that were written again included.
    pub records: u64,
    /// Their size.
    pub bytes: u64,
}

/// Begins a copy of what the driver writes to.
///
/// # Errors
/// When that is no disk.
pub fn begin(store: &dyn Store) -> Result<Copy, Class> {
    store.copy().ok_or_else(|| Class::NotFound("this run is kept in memory: there is nothing to copy".into()))
}

/// Sends a copy, portion by portion, while the driver goes on; only the last round is read by the driver itself.
pub async fn send(mut copy: Copy, driver: Handle, to: Sent) {
    loop {
        // Reading may wait for the disk.
        let read = tokio::task::spawn_blocking(move || copy.portion().map(|records| (copy, records))).await;
        let (back, records) = match read.map_err(|e| e.to_string()).and_then(|r| r.map_err(|e| e.to_string()))
        {
            Ok(read) => read,
            Err(e) => {
                pass(&to, Err(Status::internal(e))).await;
                return;
            }
        };
        copy = back;
        if records.is_empty() {
            break;
        }
        if !pass(&to, Ok(chunk(records))).await {
            return;
        }
    }
    let unreadable = |e: Error| Class::Internal(e.to_string());
    match driver.look(move |_, _, _| copy.last().map_err(unreadable)).await {
        Err(class) => {
            pass(&to, Err(class.into())).await;
        }
        Ok(records) => {
            for records in portions(records) {
                if !pass(&to, Ok(chunk(records))).await {
                    return;
                }
            }
            pass(&to, Ok(wire::BackupChunk { records: Vec::new(), whole: true })).await;
        }
    }
}

async fn pass(to: &Sent, chunk: Result<wire::BackupChunk, Status>) -> bool {
    matches!(tokio::time::timeout(PATIENCE, to.send(chunk)).await, Ok(Ok(())))
}

fn chunk(records: Vec<Raw>) -> wire::BackupChunk {
    let record = |r: Raw| wire::StoredRecord { tree: r.place.name().into(), key: r.key, value: r.value };
    wire::BackupChunk { records: records.into_iter().map(record).collect(), whole: false }
}

/// Writes down what a coordinator sends.
///
/// # Errors
/// What went wrong, in words.
pub async fn receive(mut from: Streaming<wire::BackupChunk>, draft: &mut Draft) -> Result<Copied, String> {
    let mut copied = Copied::default();
    while let Some(chunk) = from.message().await.map_err(|status| Class::from(&status).to_string())? {
        if chunk.whole {
            return Ok(copied);
        }
        let records: Vec<Raw> = chunk.records.into_iter().map(raw).collect::<Result<_, _>>()?;
        write(records, draft, &mut copied).map_err(|e| e.to_string())?;
    }
    Err("the coordinator ended before the copy was whole".into())
}

fn raw(record: wire::StoredRecord) -> Result<Raw, String> {
    let wire::StoredRecord { tree, key, value } = record;
    let place = Place::named(&tree).ok_or_else(|| format!("the coordinator sent a tree {tree:?}"))?;
    if key.is_empty() || key.len() > KEY_BYTES {
        return Err(format!("the coordinator sent a key of {} bytes", key.len()));
    }
    Ok(Raw { place, key, value })
}

/// Copies a store that nobody writes to.
///
/// # Errors
/// Those of both disks.
pub fn copy(store: &dyn Store, draft: &mut Draft) -> Result<Copied, Error> {
    let mut copied = Copied::default();
    let Some(mut copy) = store.copy() else { return Ok(copied) };
    loop {
        let records = copy.portion()?;
        if records.is_empty() {
            write(copy.last()?, draft, &mut copied)?;
            return Ok(copied);
        }
        write(records, draft, &mut copied)?;
    }
}

fn write(records: Vec<Raw>, draft: &mut Draft, copied: &mut Copied) -> Result<(), Error> {
    copied.records += records.len() as u64;
    copied.bytes += records.iter().map(|r| r.value.as_ref().map_or(0, Vec::len) as u64).sum::<u64>();
    draft.write(records)
}
