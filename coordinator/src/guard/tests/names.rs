//! Texts in messages are texts: none is ever a path, so nobody makes the coordinator open, make or run a file that its operator
//! did not name.

use super::*;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::path::Path;

/// A pipe: whoever opens it to read from it waits for somebody who writes, and can be seen to wait.
struct Trap {
    folder: TempDir,
    path: PathBuf,
}

impl Trap {
    fn new() -> Trap {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        Trap { folder, path }
    }

    /// Whether somebody waits.
    fn is_sprung(&self) -> bool {
        match rustix::fs::open(&self.path, OFlags::WRONLY | OFlags::NONBLOCK, Mode::empty()) {
            Err(Errno::NXIO) => false,
            other => other.is_ok(),
        }
    }

    /// The pipe as a message may spell it: its path, one that climbs, an address, and one to a file that is not there.
    fn spellings(&self) -> [String; 4] {
        let path = self.path.display().to_string();
        let new = self.folder.path().join("new").display().to_string();
        [path.clone(), format!("{}{path}", "../".repeat(12)), format!("file://{path}"), new]
    }
}

fn listed(folder: &Path) -> BTreeSet<std::ffi::OsString> {
    std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name()).collect()
}

/// Every text that a worker can send, in a message that is otherwise its own.
async fn worker_says(channel: &Channel, text: &str) {
    let mut cluster = proto::cluster_client(channel.clone());
    let good = wire::RegisterRequest::from(registration(&plan(&[]), "w"));
    let file = wire::File { name: text.into(), size_bytes: 1, digest: text.into() };
    let held = wire::HeldLease { recipe_digest: text.into(), ..Default::default() };
    for request in [
        wire::RegisterRequest { worker_name: text.into(), ..good.clone() },
        wire::RegisterRequest { program_version: text.into(), ..good.clone() },
        wire::RegisterRequest { device: text.into(), ..good.clone() },
        wire::RegisterRequest { plan_digest: text.into(), ..good.clone() },
        wire::RegisterRequest { files: vec![file], ..good.clone() },
        wire::RegisterRequest { held: vec![held], ..good.clone() },
    ] {
        // Refused, or taken for the text that it is.
        let _ = cluster.register(request).await;
    }
    let worker_id = cluster.register(good).await.unwrap().into_inner().worker_id;
    let scores = std::collections::BTreeMap::from([(text.to_string(), 0.5)]);
    let kept = wire::Kept { digest: text.into(), characters: 1 };
    let sample =
        wire::SampleResult { sample: text.into(), text: text.into(), kept: Some(kept), ..Default::default() };
    let sample = wire::SampleResult { scores, ..sample };
    let report =
        wire::Report { recipe_digest: text.into(), samples: vec![sample.clone()], ..Default::default() };
    let failure = wire::Failure { reason: text.into(), kind: 1 };
    let evaluation = wire::Evaluation { samples: vec![sample], ..Default::default() };
    for (sequence, end) in
        (1..).zip([wire::outcome::End::Failure(failure), wire::outcome::End::Evaluation(evaluation)])
    {
        let outcome = wire::Outcome { recipe_digest: text.into(), end: Some(end), ..Default::default() };
        let request =
            wire::ExchangeRequest { worker_id, sequence, outcomes: vec![outcome], ..Default::default() };
        let _ = cluster.exchange(wire::ExchangeRequest { reports: vec![report.clone()], ..request }).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_message_makes_it_open_or_make_a_file() {
    let (site, trap) = (site().await, Trap::new());
    let worker = site.member(Role::Worker, "w").await;
    let operator = site.member(Role::Operator, "op").await;
    let stranger = site.connected(site.stranger()).await.unwrap();
    let before = (listed(site.folder.path()), listed(trap.folder.path()));
    for text in trap.spellings() {
        worker_says(&worker, &text).await;
        let drain = wire::DrainRequest { name: text.clone(), drain: true };
        assert!(proto::operate_client(operator.clone()).drain(drain).await.is_err(), "{text}");
        let join = wire::JoinRequest {
            name: text.clone(),
            secret: vec![1; 32],
            certificate_request: text.clone().into(),
        };
        assert!(proto::join_client(stranger.clone()).join(join).await.is_err(), "{text}");
        assert!(!trap.is_sprung(), "{text} was opened");
    }
    assert_eq!((listed(site.folder.path()), listed(trap.folder.path())), before);
    site.described(&worker).await.unwrap();
    // That it would be seen.
    let path = trap.path.clone();
    let reader = std::thread::spawn(move || std::fs::read(path).unwrap());
    while !trap.is_sprung() {
        std::thread::yield_now();
    }
    assert!(reader.join().unwrap().is_empty());
}

/// What receives messages and decides about them has no way to a file at all. Files are the store's, which names its own,
/// those of keys and certificates, and the commands', whose paths are their operator's.
#[test]
fn what_decides_about_messages_opens_no_file() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("src/state"), root.join("../proto/src")];
    let mut files: Vec<PathBuf> =
        ["src/service.rs", "src/driver.rs", "src/guard/join.rs", "src/guard/access.rs"]
            .map(|f| root.join(f))
            .into();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => files.push(path),
            }
        }
    }
    files.retain(|path| !path.to_string_lossy().ends_with("tests.rs"));
    assert!(files.len() > 30);
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        let code = text.split("mod tests {").next().unwrap();
        for way in ["std::fs", "tokio::fs", "File::", "OpenOptions", "std::process::Command", "rustix::fs"] {
            assert!(!code.contains(way), "{} has {way}", path.display());
        }
    }
}
