//! When the cache is enough, when the hub is asked, and what is said meanwhile.

use super::{REPO, WEIGHTS, World, content, tiny};
use hub::{Error, Hub, HubRef, PinnedBy, Progress, Settings, Silent};
use std::time::Duration;
use tests::{HubServer, Trouble};

/// Keeps what is said.
#[derive(Default)]
struct Notes(std::sync::Mutex<Vec<String>>);

impl Notes {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Progress for Notes {
    fn begin(&self, _: &str, _: u64) {}
    fn advance(&self, _: u64) {}
    fn end(&self) {}
    fn note(&self, text: &str) {
        self.0.lock().unwrap().push(text.into());
    }
}

#[test]
fn a_branch_that_is_complete_here_needs_no_request_until_it_is_refreshed() {
    let world = World::new();
    let hub = world.hub();
    let first = hub.obtain(&tiny(), &Silent).unwrap();
    let moved = world.publish("main", &content(1000, 9));
    world.server.take_requests();
    let notes = Notes::default();
    assert_eq!(hub.obtain(&tiny(), &notes).unwrap().reference, first.reference);
    assert!(world.server.take_requests().is_empty());
    let said = notes.take().concat();
    assert!(said.contains("as last seen from here") && said.contains("jradievo-worker fetch"), "{said}");
    let verified = hub.obtain_verified(&tiny(), &Silent).unwrap();
    assert_eq!(verified.reference.commit(), Some(moved.as_str()));
    assert_eq!(hub.obtain(&tiny(), &Silent).unwrap().reference, verified.reference);
}

#[test]
fn a_hub_that_shuts_its_doors_leaves_the_cache_as_it_was() {
    let world = World::new();
    let commit = world.hub().obtain(&tiny(), &Silent).unwrap().reference;
    // Made private, deleted, or not on this mirror: the hub then says that there is no such repository.
    let empty = HubServer::start();
    let hub = Hub::new(Settings { endpoint: empty.url(), ..world.settings() }).unwrap();
    let pinned = hub.pin(&tiny(), &Silent).unwrap();
    assert_eq!(pinned.reference, commit);
    assert!(matches!(pinned.by, PinnedBy::Cache { why } if why.contains("no model repository")));
    assert_eq!(hub.obtain_verified(&tiny(), &Silent).unwrap().reference, commit);
    // What was never here is refused in the hub's own words.
    let other: HubRef = "hf://lab/tiny@v2".parse().unwrap();
    assert!(matches!(hub.pin(&other, &Silent), Err(Error::NoRevision { .. } | Error::NoRepo { .. })));
}

#[test]
fn what_another_program_left_half_done_is_completed_or_said_to_be_inferred() {
    let world = World::new();
    let files: [(&str, &[u8]); 4] = [
        ("config.json", b"{}"),
        ("generation_config.json", b"{\"eos_token_id\":7}"),
        ("tokenizer.json", b"{}"),
        (WEIGHTS, &world.weights),
    ];
    world.server.publish(REPO, "main", &files);
    let snapshot = world.hub().obtain(&tiny(), &Silent).unwrap();
    let receipts = world.cache.path().join("models--lab--tiny/jradievo");
    std::fs::remove_dir_all(&receipts).unwrap();
    std::fs::remove_file(snapshot.folder.join("generation_config.json")).unwrap();
    let offline = Hub::new(Settings { offline: true, ..world.settings() }).unwrap();
    for find in [Hub::obtain, Hub::verify] {
        let notes = Notes::default();
        let found = find(&offline, &snapshot.reference, &notes).unwrap();
        assert!(found.inferred && found.files.len() == 3);
        let said = notes.take().concat();
        assert!(said.contains("inferred") && said.contains("not known"), "{said}");
    }
    let mended = world.hub().obtain(&snapshot.reference, &Silent).unwrap();
    assert!(!mended.inferred && mended.folder.join("generation_config.json").is_file());
    assert_eq!(mended.files.len(), 4);
    // Complete, but nobody wrote that down: one look at the list, no file, and it is written down.
    std::fs::remove_dir_all(&receipts).unwrap();
    world.server.take_requests();
    assert!(!world.hub().obtain(&snapshot.reference, &Silent).unwrap().inferred);
    assert_eq!(world.server.take_requests().len(), 1);
    assert!(!offline.obtain(&snapshot.reference, &Silent).unwrap().inferred);
}

#[test]
fn trying_again_is_told() {
    let world = World::new();
    world.server.trouble(WEIGHTS, &[Trouble::Cut(100_000), Trouble::Status(503)]);
    let notes = Notes::default();
    world.hub().obtain(&tiny(), &notes).unwrap();
    let notes = notes.take();
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(notes.iter().all(|n| n.contains(WEIGHTS) && n.contains("trying again")), "{notes:?}");
    // Nobody answers: neither is that silent.
    let hub = world.hub();
    drop(world.server);
    let said = Notes::default();
    hub.pin(&"hf://lab/other".parse().unwrap(), &said).unwrap_err();
    assert_eq!(said.take().len(), 2);
}

/// A place that accepts no connection: its queue is full, so that nothing answers, as behind a firewall.
#[cfg(target_os = "linux")]
#[test]
fn a_listing_is_not_waited_for_as_long_as_a_content() {
    use std::net::{TcpListener, TcpStream};
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut queue = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        queue.push(stream);
        assert!(queue.len() < 20_000, "the queue has no end");
    }
    let cache = tempfile::tempdir().unwrap();
    let settings = Settings {
        endpoint: format!("http://{address}"),
        attempts: 1,
        patience: Duration::from_millis(100),
        silence: Duration::from_secs(600),
        ..Settings::new(cache.path().into())
    };
    let began = std::time::Instant::now();
    assert!(Hub::new(settings).unwrap().pin(&tiny(), &Silent).is_err());
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
}
