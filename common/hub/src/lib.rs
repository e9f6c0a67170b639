//! Models on a hub: `hf://owner/name@revision` → a folder of this machine.
//!
//! ```no_run
//! let hub = hub::Hub::from_env()?;
//! let model = "hf://meta-llama/Meta-Llama-3-8B".parse()?;
//! let snapshot = hub.obtain(&model, &mut hub::Meter::stderr())?;
//! println!("{} is in {}", snapshot.reference, snapshot.folder.display());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | module | what |
//! |---|---|
//! | [`Settings`] | endpoint, cache, token, offline mode: from the environment, by the variables that `huggingface_hub` reads |
//! | [`Hub`] | pins a revision, obtains a snapshot, verifies one |
//! | `client` | requests: redirects, the token, errors that say what to do |
//! | `listing` | what files a commit has, and which of them are needed |
//! | `transfer` | one file: lock, resume, retry, verify, put in place |
//! | `cache` | the folders that `huggingface_hub` shares: blobs, snapshots, refs, locks |
//! | [`Progress`] | how a transfer is shown |
//!
//! # What hf-hub does and what is done here
//!
//! Names, URLs and the cache's layout are those of crate hf-hub 0.5, so that other programs find what was fetched
//! here and the reverse. Its transfer is not used. As released it sends the token along to whatever host a file
//! redirects to; it checks neither size nor digest of what arrived; it appends a whole file to a part when a server
//! ignores the range that was asked for; it downloads again what the cache holds under a commit; it reads neither
//! `HF_HUB_CACHE`, `HF_TOKEN` nor `HF_HUB_OFFLINE`; and it gives up after five seconds when another process
//! downloads the same file.

#![forbid(unsafe_code)]

mod cache;
mod client;
mod digest;
mod error;
mod hub;
mod listing;
mod progress;
mod settings;
mod transfer;

pub use cache::{Snapshot, SnapshotFile, State};
pub use common::location::{BadHubRef, HubRef, Location};
pub use digest::BlobId;
pub use error::{Error, Result};
pub use hub::{Hub, Pinned, PinnedBy};
#[doc(hidden)]
pub use listing::wanted_files;
pub use progress::{Meter, Progress, Silent, bytes as size};
pub use settings::{Settings, Token};
