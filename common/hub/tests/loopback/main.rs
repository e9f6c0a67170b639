//! The crate against a hub on loopback: what is asked, what arrives, what is refused.

#![forbid(unsafe_code)]

mod cached;

use hub::{Error, Hub, HubRef, Meter, PinnedBy, Settings, Silent, State, Token};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;
use tests::{HubServer, Request, Trouble};

const REPO: &str = "lab/tiny";
const WEIGHTS: &str = "model.safetensors";

/// A hub with one model of one file, and a cache.
struct World {
    server: HubServer,
    cache: TempDir,
    weights: Vec<u8>,
}

fn content(n: usize, seed: u8) -> Vec<u8> {
    (0..n).map(|i| (i as u8).wrapping_mul(31).wrapping_add((i >> 8) as u8) ^ seed).collect()
}

impl World {
    fn new() -> World {
        let world = World {
            server: HubServer::start(),
            cache: tempfile::tempdir().unwrap(),
            weights: content(300_000, 7),
        };
        world.publish("main", &world.weights);
        world
    }

    fn publish(&self, branch: &str, weights: &[u8]) -> String {
        self.server.publish(
            REPO,
            branch,
            &[
                ("config.json", b"{}"),
                ("tokenizer.json", b"{\"t\":1}"),
                ("README.md", b"# tiny"),
                ("modeling_tiny.py", b"# code"),
                (WEIGHTS, weights),
                ("pytorch_model.bin", b"the same, unsafe"),
                ("model.gguf", b"the same, other"),
                ("original/consolidated.00.pth", b"the same, older"),
                ("training_args.bin", b"x"),
            ],
        )
    }

    fn settings(&self) -> Settings {
        Settings {
            endpoint: self.server.url(),
            pause: Duration::ZERO,
            silence: Duration::from_secs(20),
            ..Settings::new(self.cache.path().to_path_buf())
        }
    }

    fn hub(&self) -> Hub {
        Hub::new(self.settings()).unwrap()
    }

    fn part(&self) -> PathBuf {
        let blobs = self.cache.path().join("models--lab--tiny/blobs");
        let part = |p: &Path| p.extension().is_some_and(|e| e == "incomplete");
        std::fs::read_dir(blobs)
            .unwrap()
            .map(|e| e.unwrap().path())
            .find(|p| part(p))
            .expect("a part is kept")
    }
}

fn tiny() -> HubRef {
    format!("hf://{REPO}").parse().unwrap()
}

fn contents(requests: &[Request]) -> Vec<&Request> {
    requests.iter().filter(|r| r.path.contains(WEIGHTS) && r.elsewhere).collect()
}

#[test]
fn only_what_is_needed_arrives_and_the_second_time_nobody_is_asked() {
    let world = World::new();
    let snapshot = world.hub().obtain(&tiny(), &Silent).unwrap();
    let names: Vec<&str> = snapshot.files.iter().map(|f| f.name.as_str()).collect();
    assert_eq!(names, ["README.md", "config.json", WEIGHTS, "modeling_tiny.py", "tokenizer.json"]);
    assert!(snapshot.files.iter().all(|f| f.state == State::Verified));
    assert_eq!(std::fs::read(snapshot.folder.join(WEIGHTS)).unwrap(), world.weights);
    assert!(snapshot.fetched > 300_000);
    let asked = world.server.take_requests();
    assert!(asked.iter().all(|r| !r.path.contains("pytorch_model") && !r.path.contains("gguf")));

    let pinned = snapshot.reference.clone();
    let hub = world.hub();
    let again = hub.obtain(&pinned, &Silent).unwrap();
    assert_eq!((again.fetched, &again.folder), (0, &snapshot.folder));
    assert!(world.server.take_requests().is_empty());
    // The server gone, offline or not: a pinned model, and a branch as it was last seen.
    drop(world.server);
    assert_eq!(hub.obtain(&pinned, &Silent).unwrap().folder, snapshot.folder);
    let offline = Hub::new(Settings { offline: true, ..hub.settings().clone() }).unwrap();
    assert_eq!(offline.obtain(&tiny(), &Silent).unwrap().folder, snapshot.folder);
    assert!(matches!(offline.pin(&tiny(), &Silent).unwrap().by, PinnedBy::Cache { .. }));
    assert!(matches!(hub.pin(&tiny(), &Silent).unwrap().by, PinnedBy::Cache { .. }));
    assert_eq!(offline.verify(&pinned, &Silent).unwrap().files.len(), 5);
}

#[test]
fn a_transfer_that_breaks_goes_on_where_it_stopped() {
    let world = World::new();
    world.server.trouble(WEIGHTS, &[Trouble::Cut(100_000), Trouble::Cut(50_000), Trouble::Status(503)]);
    let snapshot = world.hub().obtain(&tiny(), &Silent).unwrap();
    assert_eq!(std::fs::read(snapshot.folder.join(WEIGHTS)).unwrap(), world.weights);
    let requests = world.server.take_requests();
    let from: Vec<Option<usize>> = contents(&requests).iter().map(|r| r.from).collect();
    assert_eq!(from, [None, Some(100_000), Some(150_000), Some(150_000)]);
}

#[test]
fn another_process_goes_on_with_what_one_left() {
    let world = World::new();
    world.server.trouble(WEIGHTS, &[Trouble::Cut(120_000), Trouble::Status(500)]);
    let once = Hub::new(Settings { attempts: 1, ..world.settings() }).unwrap();
    let e = once.obtain(&tiny(), &Silent).unwrap_err();
    assert!(matches!(e, Error::Broken { .. }) && e.to_string().contains("start again"), "{e}");
    assert_eq!(std::fs::metadata(world.part()).unwrap().len(), 120_000);
    world.server.take_requests();
    world.server.trouble(WEIGHTS, &[]);
    let snapshot = world.hub().obtain(&tiny(), &Silent).unwrap();
    assert_eq!(std::fs::read(snapshot.folder.join(WEIGHTS)).unwrap(), world.weights);
    assert_eq!(contents(&world.server.take_requests())[0].from, Some(120_000));
}

#[test]
fn a_server_without_ranges_is_read_from_the_start() {
    let world = World::new();
    world.server.trouble(WEIGHTS, &[Trouble::Cut(120_000), Trouble::NoRange]);
    let snapshot = world.hub().obtain(&tiny(), &Silent).unwrap();
    assert_eq!(std::fs::read(snapshot.folder.join(WEIGHTS)).unwrap(), world.weights);
}

#[test]
fn a_part_of_another_content_does_not_spoil_the_file() {
    let world = World::new();
    world.server.trouble(WEIGHTS, &[Trouble::Cut(120_000), Trouble::Status(500)]);
    let once = Hub::new(Settings { attempts: 1, ..world.settings() }).unwrap();
    once.obtain(&tiny(), &Silent).unwrap_err();
    // Longer than the file, then shorter but wrong.
    for wrong in [vec![1; 400_000], vec![1; 1000]] {
        std::fs::write(world.part(), wrong).unwrap();
        world.server.trouble(WEIGHTS, &[Trouble::Cut(10), Trouble::Status(500)]);
        once.obtain(&tiny(), &Silent).unwrap_err();
    }
    world.server.trouble(WEIGHTS, &[]);
    let snapshot = world.hub().obtain(&tiny(), &Silent).unwrap();
    assert_eq!(std::fs::read(snapshot.folder.join(WEIGHTS)).unwrap(), world.weights);
}

#[test]
fn what_arrives_damaged_is_fetched_again_and_refused_if_it_stays_so() {
    let world = World::new();
    world.server.trouble(WEIGHTS, &[Trouble::Flip]);
    let snapshot = world.hub().obtain(&tiny(), &Silent).unwrap();
    assert_eq!(std::fs::read(snapshot.folder.join(WEIGHTS)).unwrap(), world.weights);

    for file in [WEIGHTS, "config.json"] {
        let world = World::new();
        world.server.trouble(file, &[Trouble::Flip, Trouble::Flip]);
        let e = world.hub().obtain(&tiny(), &Silent).unwrap_err();
        assert!(matches!(e, Error::Content { .. }), "{e}");
        assert!(e.to_string().contains(file) && e.to_string().contains("digest"), "{e}");
        assert!(world.hub().cached(&snapshot.reference).is_err());
    }
}

#[test]
fn damage_on_this_disk_is_found_and_mended() {
    let world = World::new();
    let hub = world.hub();
    let snapshot = hub.obtain(&tiny(), &Silent).unwrap();
    let path = snapshot.folder.join(WEIGHTS);
    let mut bytes = world.weights.clone();
    bytes[5] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let state = |s: &hub::Snapshot| s.files.iter().find(|f| f.name == WEIGHTS).unwrap().state.clone();
    // The size is right, so only reading tells.
    assert!(hub.cached(&snapshot.reference).is_ok());
    let found = hub.verify(&snapshot.reference, &Silent).unwrap();
    assert!(matches!(state(&found), State::Wrong { .. }));
    let offline = Hub::new(Settings { offline: true, ..world.settings() }).unwrap();
    assert!(matches!(offline.obtain_verified(&tiny(), &Silent), Err(Error::NotCached { .. })));
    let mended = hub.obtain_verified(&snapshot.reference, &Silent).unwrap();
    assert_eq!((state(&mended), mended.fetched), (State::Verified, 300_000));
    assert_eq!(std::fs::read(&path).unwrap(), world.weights);
    // A size that is wrong is found without reading, and mended without being asked to.
    std::fs::write(&path, b"short").unwrap();
    let e = hub.cached(&snapshot.reference).unwrap_err().to_string();
    assert!(e.contains(WEIGHTS) && e.contains("5 bytes"), "{e}");
    assert_eq!(hub.obtain(&snapshot.reference, &Silent).unwrap().fetched, 300_000);
    // A missing link costs no transfer.
    std::fs::remove_file(&path).unwrap();
    assert_eq!(hub.obtain(&snapshot.reference, &Silent).unwrap().fetched, 0);
}

#[test]
fn the_token_goes_to_the_hub_and_to_nobody_else() {
    let world = World::new();
    world.server.gate(REPO, "hf_secret");
    let token = Some(Token::new("hf_secret", "HF_TOKEN").unwrap());
    let hub = Hub::new(Settings { token, ..world.settings() }).unwrap();
    hub.obtain(&tiny(), &Silent).unwrap();
    let requests = world.server.take_requests();
    let (elsewhere, own): (Vec<&Request>, Vec<&Request>) = requests.iter().partition(|r| r.elsewhere);
    assert!(!elsewhere.is_empty() && elsewhere.iter().all(|r| r.authorization.is_none()));
    assert!(own.iter().all(|r| r.authorization.as_deref() == Some("Bearer hf_secret")));
}

#[test]
fn a_gated_repository_says_what_to_do() {
    let world = World::new();
    world.server.gate(REPO, "hf_secret");
    let e = world.hub().obtain(&tiny(), &Silent).unwrap_err().to_string();
    let page = format!("{}/{REPO}", world.server.url());
    for expected in ["lab/tiny is gated", "no token was sent", "accept its licence", &page, "HF_TOKEN"] {
        assert!(e.contains(expected), "{expected}: {e}");
    }
    let token = Some(Token::new("hf_other", "HF_TOKEN").unwrap());
    let e = Hub::new(Settings { token, ..world.settings() }).unwrap().obtain(&tiny(), &Silent).unwrap_err();
    assert!(e.to_string().contains("a token was sent") && !e.to_string().contains("hf_other"), "{e}");
}

#[test]
fn what_does_not_exist_is_named() {
    let world = World::new();
    let error = |text: &str| world.hub().obtain(&text.parse().unwrap(), &Silent).unwrap_err();
    assert!(matches!(error("hf://lab/huge"), Error::NoRepo { repo, .. } if repo == "lab/huge"));
    assert!(matches!(error("hf://lab/tiny@v9"), Error::NoRevision { revision, .. } if revision == "v9"));
    let commit = "0123456789012345678901234567890123456789";
    assert!(matches!(error(&format!("hf://lab/tiny@{commit}")), Error::NoRevision { .. }));
    world.server.publish("lab/text", "main", &[("README.md", b"nothing else")]);
    assert!(matches!(error("hf://lab/text"), Error::NotAModel { .. }));
}

#[test]
fn a_branch_is_pinned_and_what_is_pinned_does_not_move() {
    let world = World::new();
    let hub = world.hub();
    let first = hub.pin(&tiny(), &Silent).unwrap();
    assert_eq!(first.by, PinnedBy::Hub);
    let snapshot = hub.obtain(&first.reference, &Silent).unwrap();
    let second = world.publish("main", &content(1000, 9));
    let moved = hub.pin(&tiny(), &Silent).unwrap().reference;
    assert_eq!(moved.commit(), Some(second.as_str()));
    assert_ne!(moved, first.reference);
    assert_eq!(hub.pin(&first.reference, &Silent).unwrap().by, PinnedBy::Itself);
    assert_eq!(hub.obtain(&first.reference, &Silent).unwrap().folder, snapshot.folder);
    let new = hub.obtain(&tiny(), &Silent).unwrap();
    assert_eq!(std::fs::read(new.folder.join(WEIGHTS)).unwrap(), content(1000, 9));
    assert_eq!(std::fs::read(snapshot.folder.join(WEIGHTS)).unwrap(), world.weights);
    // Branches may have slashes in their names.
    let third = world.publish("refs/pr/3", &content(500, 1));
    let slashed: HubRef = "hf://lab/tiny@refs/pr/3".parse().unwrap();
    assert_eq!(hub.pin(&slashed, &Silent).unwrap().reference.commit(), Some(third.as_str()));
}

#[test]
fn an_unknown_branch_cannot_be_pinned_without_the_hub() {
    let world = World::new();
    let offline = Hub::new(Settings { offline: true, ..world.settings() }).unwrap();
    let e = offline.pin(&tiny(), &Silent).unwrap_err().to_string();
    assert!(e.contains("HF_HUB_OFFLINE") && e.contains("hf://lab/tiny@0123"), "{e}");
    let e =
        offline.obtain(&"hf://lab/tiny@0123456789012345678901234567890123456789".parse().unwrap(), &Silent);
    assert!(e.unwrap_err().to_string().contains("jradievo-worker fetch"));
    assert!(world.server.take_requests().is_empty());
    let hub = world.hub();
    drop(world.server);
    assert!(matches!(hub.pin(&tiny(), &Silent), Err(Error::NotPinned { .. })));
}

#[test]
fn shards_are_those_of_the_index() {
    let world = World::new();
    let index = br#"{"metadata":{"total_size":4},"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}}"#;
    let files: [(&str, &[u8]); 7] = [
        ("config.json", b"{}"),
        ("tokenizer.json", b"{}"),
        ("model.safetensors.index.json", index),
        ("model-00001-of-00002.safetensors", b"one"),
        ("model-00002-of-00002.safetensors", b"two"),
        ("consolidated.safetensors", b"all"),
        ("pytorch_model.bin.index.json", b"{}"),
    ];
    world.server.publish("lab/sharded", "main", &files);
    let names = |repo: &str| {
        let snapshot = world.hub().obtain(&repo.parse().unwrap(), &Silent).unwrap();
        snapshot.files.iter().map(|f| f.name.clone()).filter(|n| n.contains("model")).collect::<Vec<_>>()
    };
    let shards = [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
    ];
    assert_eq!(names("hf://lab/sharded"), shards);
    // The torch files, where there is nothing better.
    let index = br#"{"weight_map":{"a":"pytorch_model-00001-of-00001.bin"}}"#;
    let files: [(&str, &[u8]); 5] = [
        ("config.json", b"{}"),
        ("tokenizer.json", b"{}"),
        ("pytorch_model.bin.index.json", index),
        ("pytorch_model-00001-of-00001.bin", b"one"),
        ("optimizer.bin", b"x"),
    ];
    world.server.publish("lab/torch", "main", &files);
    assert_eq!(names("hf://lab/torch"), ["pytorch_model-00001-of-00001.bin", "pytorch_model.bin.index.json"]);
    // An index that names what is not there, or what lies elsewhere.
    for bad in ["model-9.safetensors", "../../../x.safetensors"] {
        let index = format!(r#"{{"weight_map":{{"a":{bad:?}}}}}"#);
        let files: [(&str, &[u8]); 2] =
            [("config.json", b"{}"), ("model.safetensors.index.json", index.as_bytes())];
        world.server.publish("lab/bad", "main", &files);
        let e = world.hub().obtain(&"hf://lab/bad".parse().unwrap(), &Silent).unwrap_err();
        assert!(matches!(e, Error::NotAModel { .. }), "{e}");
    }
}

#[test]
fn a_mirror_with_a_bare_listing_states_the_rest_file_by_file() {
    let world = World::new();
    world.server.list_barely();
    world.server.trouble(WEIGHTS, &[Trouble::Flip]);
    let snapshot = world.hub().obtain(&tiny(), &Silent).unwrap();
    assert!(snapshot.files.iter().all(|f| f.state == State::Verified), "{:?}", snapshot.files);
    assert_eq!(std::fs::read(snapshot.folder.join(WEIGHTS)).unwrap(), world.weights);
}

#[test]
fn a_repository_that_was_renamed_is_found() {
    let world = World::new();
    world.server.rename("old/name", REPO);
    let snapshot = world.hub().obtain(&"hf://old/name".parse().unwrap(), &Silent).unwrap();
    assert_eq!(snapshot.reference.repo(), "old/name");
    assert_eq!(std::fs::read(snapshot.folder.join(WEIGHTS)).unwrap(), world.weights);
}

#[test]
fn several_at_once_fetch_each_content_once() {
    let world = World::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| world.hub().obtain(&tiny(), &Silent).unwrap());
        }
    });
    assert_eq!(contents(&world.server.take_requests()).len(), 1);
}

#[test]
fn a_cache_that_another_program_filled_is_used() {
    let world = World::new();
    let snapshot = world.hub().obtain(&tiny(), &Silent).unwrap();
    // Others leave no receipt, and no reference for a commit.
    std::fs::remove_dir_all(world.cache.path().join("models--lab--tiny/jradievo")).unwrap();
    let offline = Hub::new(Settings { offline: true, ..world.settings() }).unwrap();
    let found = offline.verify(&snapshot.reference, &Silent).unwrap();
    assert!(found.files.iter().all(|f| f.state == State::Verified), "{:?}", found.files);
    // Copied without its links, there are contents and no digests.
    let copy = tempfile::tempdir().unwrap();
    let to = copy.path().join("models--lab--tiny/snapshots").join(snapshot.reference.commit().unwrap());
    std::fs::create_dir_all(&to).unwrap();
    for file in &snapshot.files {
        std::fs::copy(snapshot.folder.join(&file.name), to.join(&file.name)).unwrap();
    }
    let carried = Hub::new(Settings { cache: copy.path().into(), ..offline.settings().clone() }).unwrap();
    let found = carried.verify(&snapshot.reference, &Silent).unwrap();
    assert!(found.files.iter().all(|f| f.state == State::NoDigest));
    std::fs::remove_file(to.join(WEIGHTS)).unwrap();
    assert!(carried.cached(&snapshot.reference).unwrap_err().to_string().contains("lacks the weights"));
}

#[test]
fn a_stop_is_heard_and_nothing_half_stands_in_the_snapshot() {
    let world = World::new();
    let meter = Meter::stderr();
    meter.stop();
    assert!(matches!(world.hub().obtain(&tiny(), &meter), Err(Error::Stopped)));
    assert!(world.hub().cached(&tiny()).is_err());
    assert!(world.hub().obtain(&tiny(), &Silent).is_ok());
}

#[test]
fn an_answer_that_is_no_hubs_is_refused() {
    let world = World::new();
    let hub =
        Hub::new(Settings { endpoint: format!("{}/elsewhere", world.server.url()), ..world.settings() });
    assert!(hub.unwrap().obtain(&tiny(), &Silent).is_err());
}
