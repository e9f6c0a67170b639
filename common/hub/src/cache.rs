//! The cache of one repository, in the layout that `huggingface_hub` and hf-hub share.
//!
//! ```text
//! models--owner--name/blobs/<digest>               contents; <digest>.incomplete while it arrives
//! models--owner--name/snapshots/<commit>/<file>    links to blobs
//! models--owner--name/refs/<branch>                the commit that a branch pointed to when it was last asked for
//! models--owner--name/jradievo/<commit>.json       receipt: the files that a commit needs, with sizes and digests
//! .locks/models--owner--name/<digest>.lock         held while a blob arrives
//! ```
//!
//! The receipt is this crate's own. Without one, as where another program filled the cache, what a commit needs is
//! inferred from its index, and digests are read off the names of blobs. That another program broke off before a small
//! file came cannot be seen so, and what is inferred is marked.

use crate::digest::BlobId;
use crate::error::{Error, Result};
use crate::listing::{FORMS, INDEX_LIMIT_BYTES, is_beside, is_plain, shards};
use common::location::{HubRef, is_commit};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Bound on a receipt: some hundred bytes a file.
const RECEIPT_LIMIT_BYTES: u64 = 16 << 20;

/// A commit's files on this machine.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The repository, pinned.
    pub reference: HubRef,
    /// The folder to open the model from.
    pub folder: PathBuf,
    /// What the model needs, sorted by name.
    pub files: Vec<SnapshotFile>,
    /// Bytes that came over the network for it this time.
    pub fetched: u64,
    /// Whether nobody wrote down what belongs to it, so that a file which no index names may be missing unnoticed.
    pub inferred: bool,
}

/// What a commit needs, each file with how it stands.
pub(crate) struct Inspected {
    pub files: Vec<SnapshotFile>,
    /// See [`Snapshot::inferred`].
    pub inferred: bool,
}

/// One file of a snapshot.
#[derive(Clone, Debug)]
pub struct SnapshotFile {
    /// Its name in the repository.
    pub name: String,
    /// Its size as the hub states it, else as it is here.
    pub bytes: u64,
    /// What the hub knows its content by, where that is known here.
    pub id: Option<BlobId>,
    /// How it stands.
    pub state: State,
}

/// How a file stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// There, with the right size; its content was not read.
    Present,
    /// Its content was read and is what the hub states.
    Verified,
    /// Its content was read, but no digest is known to compare it with.
    NoDigest,
    /// Not there.
    Missing,
    /// There, but wrong.
    Wrong {
        /// Size or digest, expected and found.
        fault: String,
    },
}

impl State {
    /// Whether the file can be used.
    pub fn is_good(&self) -> bool {
        !matches!(self, State::Missing | State::Wrong { .. })
    }
}

#[derive(Serialize, Deserialize)]
struct Receipt {
    format: u32,
    files: Vec<ReceiptFile>,
}

#[derive(Serialize, Deserialize)]
struct ReceiptFile {
    name: String,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<BlobId>,
}

/// The cache's folders for one repository.
#[derive(Clone, Debug)]
pub(crate) struct RepoCache {
    layout: std::sync::Arc<Layout>,
}

#[derive(Debug)]
struct Layout {
    cache: hf_hub::Cache,
    repo: hf_hub::Repo,
    folder: PathBuf,
    locks: PathBuf,
}

impl RepoCache {
    pub fn new(cache: &Path, reference: &HubRef) -> RepoCache {
        let repo = hf_hub::Repo::model(reference.repo());
        let (folder, locks) = (cache.join(repo.folder_name()), cache.join(".locks").join(repo.folder_name()));
        RepoCache { layout: Layout { cache: hf_hub::Cache::new(cache.into()), repo, folder, locks }.into() }
    }

    fn paths(&self) -> hf_hub::CacheRepo {
        self.layout.cache.repo(self.layout.repo.clone())
    }

    pub fn blob(&self, id: &BlobId) -> PathBuf {
        self.paths().blob_path(id.as_str())
    }

    /// Where a content arrives. The name is the one that `huggingface_hub` resumes from, too.
    pub fn part(&self, key: &str) -> PathBuf {
        self.paths().blob_path(&format!("{key}.incomplete"))
    }

    pub fn lock_file(&self, key: &str) -> PathBuf {
        self.layout.locks.join(format!("{key}.lock"))
    }

    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.paths().pointer_path(commit)
    }

    /// Makes the folders that files arrive in.
    pub fn create(&self, commit: &str) -> Result<()> {
        let blobs = self.layout.folder.join("blobs");
        for folder in [&blobs, &self.snapshot(commit), &self.layout.locks] {
            fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        }
        Ok(())
    }

    /// The commit that a branch or tag pointed to when it was last asked for here.
    pub fn read_ref(&self, revision: &str) -> Option<String> {
        let text = fs::read_to_string(self.layout.folder.join("refs").join(revision)).ok()?;
        Some(text.trim().to_string()).filter(|t| is_commit(t))
    }

    pub fn write_ref(&self, revision: &str, commit: &str) -> Result<()> {
        write(&self.layout.folder.join("refs").join(revision), commit.as_bytes())
    }

    fn receipt_path(&self, commit: &str) -> PathBuf {
        self.layout.folder.join("jradievo").join(format!("{commit}.json"))
    }

    pub fn write_receipt(&self, commit: &str, files: &[SnapshotFile]) -> Result<()> {
        let file =
            |f: &SnapshotFile| ReceiptFile { name: f.name.clone(), bytes: f.bytes, digest: f.id.clone() };
        let receipt = Receipt { format: 1, files: files.iter().map(file).collect() };
        let text = serde_json::to_vec_pretty(&receipt).expect("a receipt holds nothing JSON cannot say");
        write(&self.receipt_path(commit), &text)
    }

    /// A receipt that cannot be used counts as none.
    fn receipt(&self, commit: &str) -> Option<Vec<SnapshotFile>> {
        let receipt: Receipt =
            serde_json::from_slice(&read(&self.receipt_path(commit), RECEIPT_LIMIT_BYTES)?).ok()?;
        if receipt.format != 1 || receipt.files.iter().any(|f| !is_plain(&f.name)) {
            return None;
        }
        let file = |f: ReceiptFile| SnapshotFile {
            name: f.name,
            bytes: f.bytes,
            id: f.digest,
            state: State::Missing,
        };
        Some(receipt.files.into_iter().map(file).collect())
    }

    /// The files that a commit needs, each with how it stands; or what keeps them from being known.
    pub fn inspect(&self, commit: &str) -> std::result::Result<Inspected, String> {
        let folder = self.snapshot(commit);
        if !folder.is_dir() {
            return Err(format!("commit {commit} is not in the cache ({})", folder.display()));
        }
        let (mut files, inferred) = match self.receipt(commit) {
            Some(files) => (files, false),
            None => (infer(&folder)?, true),
        };
        for file in &mut files {
            let path = folder.join(&file.name);
            file.state = match fs::metadata(&path).ok().filter(fs::Metadata::is_file).map(|m| m.len()) {
                None => State::Missing,
                Some(n) if n != file.bytes => {
                    State::Wrong { fault: format!("{n} bytes, where the hub has {}", file.bytes) }
                }
                Some(_) => State::Present,
            };
            file.id = file.id.take().or_else(|| linked(&path));
        }
        files.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Inspected { files, inferred })
    }

    /// Puts a blob into a snapshot, in place of whatever stands there.
    pub fn link(&self, commit: &str, name: &str, id: &BlobId) -> Result<()> {
        let folder = self.snapshot(commit);
        let (path, draft) = (folder.join(name), folder.join(draft_name(name)));
        let _ = fs::remove_file(&draft);
        // Two folders up, so that the whole cache can be moved.
        #[cfg(unix)]
        std::os::unix::fs::symlink(Path::new("../../blobs").join(id.as_str()), &draft)
            .map_err(Error::io("link", &draft))?;
        #[cfg(not(unix))]
        fs::hard_link(self.blob(id), &draft).map_err(Error::io("link", &draft))?;
        fs::rename(&draft, &path).map_err(Error::io("put in place", &path))
    }

    /// Removes a file with its content.
    pub fn discard(&self, commit: &str, file: &SnapshotFile) -> Result<()> {
        let path = self.snapshot(commit).join(&file.name);
        let blobs = linked(&path).into_iter().chain(file.id.clone()).map(|id| self.blob(&id));
        for path in std::iter::once(path.clone()).chain(blobs) {
            match fs::remove_file(&path) {
                Err(e) if e.kind() != ErrorKind::NotFound => return Err(Error::io("remove", &path)(e)),
                _ => {}
            }
        }
        Ok(())
    }
}

/// The digest in the name of the blob that a link leads to.
fn linked(path: &Path) -> Option<BlobId> {
    fs::read_link(path).ok()?.file_name()?.to_str()?.parse().ok()
}

/// What a commit needs where nobody wrote it down: configuration, a tokenizer, the weights that its index names, and
/// whatever else is there.
fn infer(folder: &Path) -> std::result::Result<Vec<SnapshotFile>, String> {
    let has = |name: &str| folder.join(name).is_file();
    let shown = folder.display();
    if !has("config.json") {
        return Err(format!("{shown} lacks config.json"));
    }
    if !["tokenizer.json", "tokenizer.model", "vocab.json"].into_iter().any(has) {
        return Err(format!("{shown} lacks a tokenizer"));
    }
    let form = FORMS.into_iter().find(|f| has(f.file)).ok_or_else(|| format!("{shown} lacks the weights"))?;
    let mut names = vec![form.file.to_string()];
    if let Some(ending) = form.shards {
        let index = folder.join(form.file);
        let text =
            read(&index, INDEX_LIMIT_BYTES).ok_or_else(|| format!("{} cannot be read", index.display()))?;
        names.extend(shards(&text, ending).map_err(|e| format!("{}: {e}", index.display()))?);
    }
    let entries = fs::read_dir(folder).map_err(|e| format!("{shown} cannot be read: {e}"))?;
    names.extend(entries.flatten().filter_map(|e| e.file_name().into_string().ok()).filter(|n| is_beside(n)));
    let file = |name: String| {
        let bytes = fs::metadata(folder.join(&name)).map(|m| m.len()).unwrap_or(0);
        SnapshotFile { name, bytes, id: None, state: State::Missing }
    };
    Ok(names.into_iter().map(file).collect())
}

/// A name beside `name` that no other process or thread writes to.
fn draft_name(name: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!(".{name}.{}.{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A whole file, unless it is larger than it can sensibly be.
fn read(path: &Path, limit: u64) -> Option<Vec<u8>> {
    let small = fs::metadata(path).ok().is_some_and(|m| m.len() <= limit);
    small.then(|| fs::read(path).ok()).flatten()
}

/// Writes a file whole or not at all, with its folder.
fn write(path: &Path, text: &[u8]) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let draft = folder.join(draft_name(&name));
    fs::write(&draft, text).map_err(Error::io("write", &draft))?;
    fs::rename(&draft, path).map_err(Error::io("put in place", path))
}
