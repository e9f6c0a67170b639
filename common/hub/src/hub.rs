//! Reference → commit → folder.

use crate::cache::{RepoCache, Snapshot, SnapshotFile, State};
use crate::client::{Client, Subject};
use crate::digest;
use crate::error::{Error, Result};
use crate::listing::{INDEX_LIMIT_BYTES, Listing, RemoteFile, is_beside, shards};
use crate::progress::{Progress, bytes};
use crate::settings::Settings;
use crate::transfer::Transfer;
use common::location::HubRef;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bound on the hub's description of a repository.
const LISTING_LIMIT_BYTES: u64 = 64 << 20;

/// Files that are digested at once; more only make a disk seek.
const DIGESTING: usize = 4;

/// A hub, or a mirror of one, with this machine's cache.
#[derive(Debug)]
pub struct Hub {
    settings: Settings,
    client: Client,
}

/// A pinned reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// With its commit.
    pub reference: HubRef,
    /// Who said so.
    pub by: PinnedBy,
}

/// Who named the commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PinnedBy {
    /// The reference itself.
    Itself,
    /// The hub, just now.
    Hub,
    /// The cache, as the hub had it when it was last asked from here.
    Cache {
        /// Why the hub did not.
        why: String,
    },
}

impl Hub {
    /// A hub with given settings. Nothing is asked or written yet.
    ///
    /// # Errors
    /// [`Error::Settings`] or [`Error::Io`] when the certificates cannot be used.
    pub fn new(settings: Settings) -> Result<Hub> {
        let client = Client::new(&settings)?;
        Ok(Hub { settings, client })
    }

    /// The hub that the process's environment names, see [`Settings::from_env`].
    ///
    /// # Errors
    /// [`Error::Settings`] or [`Error::Io`], naming the variable or file.
    pub fn from_env() -> Result<Hub> {
        Hub::new(Settings::from_env()?)
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    fn cache(&self, reference: &HubRef) -> RepoCache {
        RepoCache::new(&self.settings.cache, reference)
    }

    fn listing(&self, reference: &HubRef, progress: &dyn Progress) -> Result<Listing> {
        let repo = hf_hub::Repo::with_revision(
            reference.repo(),
            hf_hub::RepoType::Model,
            reference.revision().to_string(),
        );
        let url = format!("{}/api/{}?blobs=true", self.client.endpoint(), repo.api_url());
        let text =
            self.client.read(&url, LISTING_LIMIT_BYTES, Subject { reference, file: None }, progress)?;
        Listing::parse(&url, &text)
    }

    /// Finds the commit that a branch or tag points to: from the hub, and where it does not answer, will not show the
    /// repository or must not be asked, as it was when last asked from here.
    ///
    /// # Errors
    /// [`Error::NotPinned`] where neither knows; what the hub says against the repository or the revision.
    pub fn pin(&self, reference: &HubRef, progress: &dyn Progress) -> Result<Pinned> {
        if reference.commit().is_some() {
            return Ok(Pinned { reference: reference.clone(), by: PinnedBy::Itself });
        }
        let cache = self.cache(reference);
        let (why, refusal) = match self.settings.offline {
            true => ("HF_HUB_OFFLINE is set".to_string(), None),
            false => match self.listing(reference, progress) {
                Ok(listing) => {
                    // A cache that cannot be written is no reason not to pin.
                    let _ = cache.write_ref(reference.revision(), &listing.commit);
                    return Ok(Pinned { reference: reference.at(&listing.commit)?, by: PinnedBy::Hub });
                }
                Err(e) if e.is_unreachable() => (e.to_string(), None),
                Err(e) if e.is_refusal() => (e.to_string(), Some(e)),
                Err(e) => return Err(e),
            },
        };
        match (cache.read_ref(reference.revision()), refusal) {
            (Some(commit), _) => {
                Ok(Pinned { reference: reference.at(&commit)?, by: PinnedBy::Cache { why } })
            }
            (None, Some(refusal)) => Err(refusal),
            (None, None) => {
                let why = format!("{why}, and the cache does not know the revision");
                Err(Error::NotPinned { reference: reference.to_string(), repo: reference.repo(), why })
            }
        }
    }

    /// Where a commit's files are kept, whether or not they are there. For a branch or tag, the commit that the cache
    /// knows.
    pub fn folder(&self, reference: &HubRef) -> Option<PathBuf> {
        let cache = self.cache(reference);
        let commit = reference.commit().map(String::from).or_else(|| cache.read_ref(reference.revision()))?;
        Some(cache.snapshot(&commit))
    }

    /// The snapshot as the cache has it, complete; nothing is asked. Sizes are compared, contents are not read.
    ///
    /// # Errors
    /// [`Error::NotCached`] says what is missing.
    pub fn cached(&self, reference: &HubRef) -> Result<Snapshot> {
        let snapshot = self.look(reference)?;
        let bad: Vec<&SnapshotFile> = snapshot.files.iter().filter(|f| !f.state.is_good()).collect();
        match bad.first() {
            None => Ok(snapshot),
            Some(first) => {
                let how = match &first.state {
                    State::Wrong { fault } => format!("{} has {fault}", first.name),
                    _ => format!("{} is missing", first.name),
                };
                let missing = format!("{} of {} files are not there: {how}", bad.len(), snapshot.files.len());
                Err(Error::not_cached(reference, missing, "the network is not used for this"))
            }
        }
    }

    /// What the cache has of a commit, good or bad.
    fn look(&self, reference: &HubRef) -> Result<Snapshot> {
        let cache = self.cache(reference);
        let why = "the network is not used for this";
        let commit = match reference.commit() {
            Some(commit) => commit.to_string(),
            None => cache.read_ref(reference.revision()).ok_or_else(|| {
                let missing =
                    format!("the cache in {} does not know the revision", self.settings.cache.display());
                Error::not_cached(reference, missing, why)
            })?,
        };
        let found = cache.inspect(&commit).map_err(|missing| Error::not_cached(reference, missing, why))?;
        let (folder, inferred) = (cache.snapshot(&commit), found.inferred);
        Ok(Snapshot { reference: reference.at(&commit)?, folder, files: found.files, fetched: 0, inferred })
    }

    /// The folder with everything that a model needs: out of the cache if it is complete there, and then without a
    /// request, a branch or tag as it was last seen from here; else from the hub. Several processes may do so at once.
    ///
    /// # Errors
    /// [`Error::NotCached`] when offline; else what the hub, the network or the disk has against it.
    pub fn obtain(&self, reference: &HubRef, progress: &dyn Progress) -> Result<Snapshot> {
        match self.cached(reference) {
            Ok(snapshot) => {
                if reference.commit().is_none() {
                    progress.note(&format!(
                        "{reference} is taken as {}, as last seen from here (`jradievo-worker fetch` asks the hub)",
                        snapshot.reference
                    ));
                }
                self.completed(snapshot, progress)
            }
            Err(Error::NotCached { .. }) => self.refresh(reference, progress),
            Err(e) => Err(e),
        }
    }

    /// As [`Hub::obtain`], but the hub is asked anew where a branch or tag points to.
    ///
    /// # Errors
    /// As [`Hub::obtain`].
    pub fn refresh(&self, reference: &HubRef, progress: &dyn Progress) -> Result<Snapshot> {
        let pinned = self.pin(reference, progress)?;
        if let PinnedBy::Cache { why } = &pinned.by {
            progress.note(&format!("{reference} is taken as {}: {why}", pinned.reference));
        }
        match self.cached(&pinned.reference) {
            Ok(snapshot) => self.completed(snapshot, progress),
            Err(Error::NotCached { reference, missing, .. }) if self.settings.offline => {
                Err(Error::NotCached { reference, missing, why: "HF_HUB_OFFLINE is set".into() })
            }
            Err(Error::NotCached { .. }) => self.download(&pinned.reference, progress),
            Err(e) => Err(e),
        }
    }

    /// A snapshot of which nobody wrote down what belongs to it is held against the hub's list. Where that cannot be
    /// had, it is used as it is, and that is said.
    fn completed(&self, snapshot: Snapshot, progress: &dyn Progress) -> Result<Snapshot> {
        if !snapshot.inferred {
            return Ok(snapshot);
        }
        let why = match self.settings.offline {
            true => "HF_HUB_OFFLINE is set".to_string(),
            false => match self.listing(&snapshot.reference, progress) {
                Ok(listing) => {
                    return match self.confirmed(&snapshot, &listing)? {
                        Some(confirmed) => Ok(confirmed),
                        None => self.download(&snapshot.reference, progress),
                    };
                }
                Err(e) if e.is_unreachable() || e.is_refusal() => e.to_string(),
                Err(e) => return Err(e),
            },
        };
        progress.note(&inferred_words(&snapshot, &why));
        Ok(snapshot)
    }

    /// The snapshot with its receipt, if all that the listing asks for is there in the right size.
    fn confirmed(&self, snapshot: &Snapshot, listing: &Listing) -> Result<Option<Snapshot>> {
        let Some(commit) = snapshot.reference.commit().filter(|commit| *commit == listing.commit) else {
            return Ok(None);
        };
        let form = listing.form(&snapshot.reference)?;
        let weights = snapshot.files.iter().map(|f| f.name.as_str()).filter(|n| !is_beside(n));
        let mut names: Vec<&str> = listing.beside().map(|f| f.name.as_str()).chain(weights).collect();
        if !names.contains(&form.file) {
            return Ok(None);
        }
        names.sort_unstable();
        let mut files = Vec::with_capacity(names.len());
        for name in names {
            let (Some(listed), Some(here)) =
                (listing.find(name), snapshot.files.iter().find(|f| f.name == name))
            else {
                return Ok(None);
            };
            if listed.bytes.is_some_and(|bytes| bytes != here.bytes) {
                return Ok(None);
            }
            files.push(SnapshotFile { id: listed.id.clone().or_else(|| here.id.clone()), ..here.clone() });
        }
        // Where the cache cannot be written, the hub is asked again the next time.
        let _ = self.cache(&snapshot.reference).write_receipt(commit, &files);
        Ok(Some(Snapshot { files, inferred: false, ..snapshot.clone() }))
    }

    fn download(&self, reference: &HubRef, progress: &dyn Progress) -> Result<Snapshot> {
        let listing = self.listing(reference, progress)?;
        let commit = reference.commit().unwrap_or(&listing.commit);
        if listing.commit != commit {
            let url = format!("{}/{}", self.client.endpoint(), reference.repo());
            let fault = format!("commit {commit} was asked for and {} is described", listing.commit);
            return Err(Error::Answer { url, fault });
        }
        let form = listing.form(reference)?;
        let cache = self.cache(reference);
        cache.create(commit)?;
        let transfer = Transfer { client: &self.client, cache: &cache, reference, commit, progress };
        let mut files: Vec<SnapshotFile> = Vec::new();
        let mut fetched = 0;
        let mut fetch = |file: &RemoteFile, files: &mut Vec<SnapshotFile>| -> Result<()> {
            let arrived = transfer.fetch(file)?;
            fetched += arrived.fetched;
            let state = if arrived.verified { State::Verified } else { State::Present };
            files.push(SnapshotFile {
                name: file.name.clone(),
                bytes: arrived.bytes,
                id: Some(arrived.id),
                state,
            });
            Ok(())
        };

        // The index says which shards there are, so it comes first.
        let head = listing.find(form.file).expect("the form was found by this file");
        let mut weights = vec![transfer.complete(head)?];
        if let Some(ending) = form.shards {
            fetch(&weights[0], &mut files)?;
            weights.clear();
            let path = cache.snapshot(commit).join(form.file);
            let not = |fault: String| Error::NotAModel {
                reference: reference.to_string(),
                fault: format!("{}: {fault}", form.file),
            };
            if files[0].bytes > INDEX_LIMIT_BYTES {
                return Err(not(format!("{} bytes are too many for an index", files[0].bytes)));
            }
            let text = std::fs::read(&path).map_err(Error::io("read", &path))?;
            for name in shards(&text, ending).map_err(not)? {
                let shard = listing
                    .find(&name)
                    .ok_or_else(|| not(format!("names {name}, which the repository lacks")))?;
                weights.push(transfer.complete(shard)?);
            }
        }
        let beside = listing.beside().map(|f| transfer.complete(f)).collect::<Result<Vec<_>>>()?;
        let outstanding = beside.iter().chain(&weights).map(|f| transfer.outstanding(f)).sum();
        self.check_space(outstanding)?;

        progress.begin(&reference.repo(), outstanding);
        // Small files first: what is refused is refused early.
        let result = beside.iter().chain(&weights).try_for_each(|file| fetch(file, &mut files));
        progress.end();
        result?;
        files.sort_by(|a, b| a.name.cmp(&b.name));
        cache.write_receipt(commit, &files)?;
        let folder = cache.snapshot(commit);
        Ok(Snapshot { reference: reference.clone(), folder, files, fetched, inferred: false })
    }

    fn check_space(&self, needed: u64) -> Result<()> {
        let folder = &self.settings.cache;
        let stat = rustix::fs::statvfs(folder).map_err(|e| Error::io("inspect", folder)(e.into()))?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        match needed > free {
            true => Err(Error::Space { folder: folder.clone(), needed, free }),
            false => Ok(()),
        }
    }

    /// Reads every file of a cached snapshot and compares its content with the digest that the hub stated. Nothing is
    /// asked. Each file's state says how it stands.
    ///
    /// # Errors
    /// [`Error::NotCached`] when there is no such snapshot; [`Error::Io`] when a file cannot be read.
    pub fn verify(&self, reference: &HubRef, progress: &dyn Progress) -> Result<Snapshot> {
        let mut snapshot = self.look(reference)?;
        if snapshot.inferred {
            progress.note(&inferred_words(&snapshot, "the network is not used for this"));
        }
        digest_all(&mut snapshot, progress)?;
        Ok(snapshot)
    }

    /// As [`Hub::refresh`], and every content is compared with its digest; what differs is fetched anew.
    ///
    /// # Errors
    /// As [`Hub::refresh`]; [`Error::Content`] for a file that stays wrong.
    pub fn obtain_verified(&self, reference: &HubRef, progress: &dyn Progress) -> Result<Snapshot> {
        let mut snapshot = self.refresh(reference, progress)?;
        digest_all(&mut snapshot, progress)?;
        let wrong: Vec<&SnapshotFile> = snapshot.files.iter().filter(|f| !f.state.is_good()).collect();
        let Some(first) = wrong.first() else { return Ok(snapshot) };
        if self.settings.offline {
            let missing = format!("{} is damaged", first.name);
            return Err(Error::not_cached(&snapshot.reference, missing, "HF_HUB_OFFLINE is set"));
        }
        let cache = self.cache(&snapshot.reference);
        for file in wrong {
            if let State::Wrong { fault } = &file.state {
                progress.note(&format!("{}: {}: {fault}; fetching it again", snapshot.reference, file.name));
            }
            cache.discard(snapshot.reference.commit().unwrap_or_default(), file)?;
        }
        let mended = self.obtain(&snapshot.reference, progress)?;
        let fetched = snapshot.fetched + mended.fetched;
        // What is good was read above; what came anew was compared as it arrived.
        Ok(Snapshot { fetched, ..merge_states(mended, &snapshot) })
    }
}

fn inferred_words(snapshot: &Snapshot, why: &str) -> String {
    format!(
        "{}: whether the cache has all of it is inferred from its index and not known: another program fetched it, and \
         the hub's list of files is not here ({why})",
        snapshot.reference
    )
}

/// States of `new`, where a file was not fetched anew as `old` knows it.
fn merge_states(mut new: Snapshot, old: &Snapshot) -> Snapshot {
    for file in new.files.iter_mut().filter(|f| f.state == State::Present) {
        if let Some(known) = old.files.iter().find(|f| f.name == file.name && f.state.is_good()) {
            file.state = known.state.clone();
        }
    }
    new
}

/// Reads the files that are only known to be there.
fn digest_all(snapshot: &mut Snapshot, progress: &dyn Progress) -> Result<()> {
    let folder = snapshot.folder.clone();
    let total: u64 = snapshot.files.iter().filter(|f| f.state == State::Present).map(|f| f.bytes).sum();
    if total == 0 {
        return Ok(());
    }
    progress.begin(&format!("verifying {} ({})", snapshot.reference.repo(), bytes(total)), total);
    let next = AtomicUsize::new(0);
    let files: Vec<Mutex<&mut SnapshotFile>> = snapshot.files.iter_mut().map(Mutex::new).collect();
    let work = || -> Result<()> {
        while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut file = file.lock().unwrap_or_else(|e| e.into_inner());
            if file.state == State::Present {
                file.state = digested(&folder, &file, progress)?;
            }
        }
        Ok(())
    };
    let result = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..DIGESTING).map(|_| scope.spawn(work)).collect();
        let ended = threads.into_iter().map(|t| t.join().unwrap_or_else(|p| std::panic::resume_unwind(p)));
        ended.collect::<Vec<_>>().into_iter().collect::<Result<()>>()
    });
    progress.end();
    result
}

fn digested(folder: &Path, file: &SnapshotFile, progress: &dyn Progress) -> Result<State> {
    let Some(id) = &file.id else {
        progress.advance(file.bytes);
        return Ok(State::NoDigest);
    };
    let found = digest::of_file(&folder.join(&file.name), id, progress)?;
    Ok(match found == *id {
        true => State::Verified,
        false => {
            State::Wrong { fault: format!("its {} digest is {found}, where the hub states {id}", id.kind()) }
        }
    })
}
