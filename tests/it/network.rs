//! Searches over mutual TLS, with real programs and the certificates that they make themselves.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use tests::{Coordinator, Process, Run, programs};

fn jradievo(arguments: &[&str]) -> Output {
    Command::new(programs().join("jradievo")).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a command printed, which has to succeed.
fn done(arguments: &[&str]) -> String {
    let output = jradievo(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// A run, and an authority beside it.
struct Site {
    run: Run,
    pki: String,
}

impl Site {
    fn new(samples: usize, evaluations: usize) -> Site {
        let run = Run::new(samples, evaluations);
        let pki = run.path("pki").display().to_string();
        done(&["pki", "init", &pki, "--host", "127.0.0.1"]);
        Site { run, pki }
    }

    fn start(&self) -> Coordinator {
        self.run.start_with("state", &["--pki", &self.pki])
    }

    /// Makes a certificate. Yields its folder.
    fn certificate(&self, role: &str, name: &str) -> String {
        let out = self.run.path(name).display().to_string();
        done(&["pki", "issue", &self.pki, "--role", role, "--name", name, "--out", &out]);
        out
    }

    /// Makes a token. Yields the file that it is in.
    fn token(&self, more: &[&str]) -> String {
        let path = self.run.path("token");
        std::fs::write(&path, done(&[&["token", &self.pki], more].concat())).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path.display().to_string()
    }
}

/// A worker that joins by a token, or comes back with what it got for one.
fn node(coordinator: &Coordinator, name: &str, identity: &Path, token: Option<&str>) -> Process {
    let identity = identity.display().to_string();
    let token = token.map_or(vec![], |t| vec!["--token-file", t]);
    coordinator.worker(name, &[&["--identity", &identity], &token[..]].concat())
}

#[test]
fn a_search_over_mutual_tls_finds_what_the_plain_one_finds() {
    let site = Site::new(4, 8);
    site.run.search("plain", 1);
    let mut coordinator = site.start();
    assert!(coordinator.url.starts_with("https://"), "{}", coordinator.url);
    let folder = site.certificate("worker", "gpu1");
    let workers = ["gpu1", "gpu1/second"].map(|name| coordinator.worker(name, &["--tls", &folder]));
    coordinator.process.wait_for("generation 1");
    // The operator's certificate of the authority is found by the state folder.
    let status: serde_json::Value =
        serde_json::from_str(&site.run.look("status", "state", &["--json"])).unwrap();
    assert_eq!(status["live"], true);
    coordinator.process.expect(0);
    workers.into_iter().for_each(|w| drop(w.expect(0)));
    assert_eq!(site.run.genomes("state"), site.run.genomes("plain"));
    let copy = site.run.path("copy");
    done(&["backup", site.run.path("state").to_str().unwrap(), "--to", copy.to_str().unwrap()]);
    let public = |path: &Path| path.extension().is_some_and(|e| e == "pem") && !path.ends_with("key.pem");
    for folder in ["state", "plain", "copy", "pki", "gpu1"] {
        let open = tests::open_to_others(&site.run.path(folder));
        let private: Vec<_> = open.into_iter().filter(|p| !public(p)).collect();
        assert!(private.is_empty(), "{private:?}");
    }
}

#[test]
fn a_worker_may_do_nothing_of_what_an_operator_does() {
    let site = Site::new(2, 400);
    let mut coordinator = site.start();
    let (worker, operator) = (site.certificate("worker", "gpu1"), site.certificate("operator", "ann"));
    let busy = coordinator.worker("gpu1", &["--tls", &worker]);
    coordinator.process.wait_for("generation 1");
    let url = coordinator.url.clone();
    let state = site.run.path("state").display().to_string();
    let commands: [&[&str]; 6] = [
        &["status", "--coordinator", &url],
        &["candidates", "--coordinator", &url],
        &["reports", "--coordinator", &url, "--candidate", "1"],
        &["recipe", "--coordinator", &url],
        &["pause", "--coordinator", &url],
        &["front", "--coordinator", &url, "--maximise", "rouge_l,term_f1"],
    ];
    for command in commands {
        let asked = |tls: &str| jradievo(&[command, &["--tls", tls]].concat());
        let refused = asked(&worker);
        let message = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1), "{command:?}: {message}");
        assert!(message.contains("not allowed") && message.contains("is of a worker"), "{message}");
        assert!(refused.stdout.is_empty(), "{}", text(&refused.stdout));
        let bare = jradievo(command);
        assert_eq!(bare.status.code(), Some(4), "{command:?}: {}", text(&bare.stderr));
        assert!(text(&bare.stderr).contains("--tls DIR"), "{}", text(&bare.stderr));
        let allowed = asked(&operator);
        assert!(allowed.status.success(), "{command:?}: {}", text(&allowed.stderr));
    }
    // Commands that go by the state folder: extend and resume are refused and change nothing.
    let refused = jradievo(&["extend", &state, "--evaluations", "9999", "--tls", &worker]);
    assert!(!refused.status.success() && text(&refused.stderr).contains("is of a worker"));
    let refused = jradievo(&["resume", &state, "--tls", &worker]);
    assert!(!refused.status.success(), "{}", text(&refused.stdout));
    let status = done(&["status", "--coordinator", &url, "--tls", &operator, "--json"]);
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!((&status["paused"], &status["evaluations_budget"]), (&true.into(), &400.into()), "{status}");
    coordinator.process.signal("INT");
    let ended = coordinator.process.expect(130);
    // Nothing secret is in what was printed.
    let key = std::fs::read_to_string(Path::new(&worker).join("key.pem")).unwrap();
    assert!(!ended.output.contains(key.lines().nth(1).unwrap()));
    drop(busy);
}

#[test]
fn a_token_lets_a_node_in_once_and_its_certificate_is_renewed_while_it_works() {
    let site = Site::new(2, 8);
    let coordinator = site.start();
    let state = site.run.path("state").display().to_string();
    // There is nothing to do, so that it is still there when its certificate is over.
    done(&["pause", &state]);
    let token = site.token(&["--life", "3s"]);
    let mut first = node(&coordinator, "gpu1", &site.run.path("first"), Some(&token));
    first.wait_for("joined");
    // A token of one use is over; whoever replays it is turned away.
    let replayed = node(&coordinator, "gpu2", &site.run.path("second"), Some(&token)).expect(3);
    assert!(replayed.output.contains("used up"), "{}", replayed.output);
    let stranger = node(&coordinator, "gpu3", &site.run.path("third"), None).expect(1);
    assert!(stranger.output.contains("--token-file"), "{}", stranger.output);
    // Its certificate holds for three seconds, and it goes on for longer than that.
    first.wait_for("renewed");
    first.wait_for("renewed");
    done(&["resume", &state]);
    let ended = coordinator.process.expect(0);
    let node = first.expect(0);
    let secret = std::fs::read_to_string(&token).unwrap();
    let secret = secret.trim().rsplit('.').next().unwrap().to_string();
    for output in [&ended.output, &node.output, &replayed.output] {
        assert!(!output.contains(&secret), "{output}");
    }
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let identity = site.run.path("first");
    assert_eq!((mode(&identity), mode(&identity.join("key.pem"))), (0o700, 0o600));
    assert_eq!(site.run.genomes("state").len(), 8);
}

#[test]
fn a_used_token_stays_used_and_a_node_stays_known_over_a_restart() {
    let site = Site::new(2, 8);
    let mut coordinator = site.start();
    let token = site.token(&[]);
    let mut first = node(&coordinator, "gpu1", &site.run.path("first"), Some(&token));
    first.wait_for("joined");
    coordinator.process.wait_for("generation 1");
    coordinator.process.kill();
    first.kill();
    let state = site.run.path("state").display().to_string();
    let mut resume = Command::new(programs().join("jradievo"));
    resume.args(["resume", &state, "--listen", "127.0.0.1:0", "--pki", &site.pki]);
    let coordinator = Coordinator::serve(&mut resume);
    let replayed = node(&coordinator, "gpu2", &site.run.path("second"), Some(&token)).expect(3);
    assert!(replayed.output.contains("used up"), "{}", replayed.output);
    // The token that it still has is not needed.
    let first = node(&coordinator, "gpu1", &site.run.path("first"), Some(&token));
    coordinator.process.expect(0);
    first.expect(0);
}

#[test]
fn a_renewed_certificate_of_the_coordinator_is_in_force_without_a_restart() {
    let site = Site::new(2, 4);
    let mut coordinator = site.start();
    let state = site.run.path("state").display().to_string();
    done(&["pause", &state]);
    let server = site.run.path("pki/server");
    let worker = site.certificate("worker", "gpu1");
    let mut first = coordinator.worker("gpu1/1", &["--tls", &worker]);
    first.wait_for("registered");
    // Of another authority: who comes now does not believe it any more, whatever was told it before.
    let other = site.run.path("other").display().to_string();
    done(&["pki", "init", &other, "--host", "127.0.0.1"]);
    let before = std::fs::read(server.join("cert.pem")).unwrap();
    std::fs::write(server.join("cert.pem"), b"no certificate").unwrap();
    let (url, operator) = (coordinator.url.clone(), site.run.path("pki/operator").display().to_string());
    let ask = || jradievo(&["status", "--coordinator", &url, "--tls", &operator]);
    assert!(ask().status.success(), "a broken file leaves the earlier certificate in force");
    coordinator.process.wait_for("earlier ones stay in force");
    std::fs::write(server.join("cert.pem"), before).unwrap();
    for file in ["cert.pem", "key.pem"] {
        std::fs::copy(Path::new(&other).join("server").join(file), server.join(file)).unwrap();
    }
    let refused = ask();
    assert!(text(&refused.stderr).contains("UnknownIssuer"), "{}", text(&refused.stderr));
    let server = server.display().to_string();
    let renew = ["pki", "issue", &site.pki, "--role", "coordinator", "--name", "here", "--host", "127.0.0.1"];
    let refused = jradievo(&[&renew[..], &["--out", &server]].concat());
    assert!(text(&refused.stderr).contains("--replace"), "{}", text(&refused.stderr));
    done(&[&renew[..], &["--out", &server, "--replace"]].concat());
    assert!(ask().status.success());
    let mut second = coordinator.worker("gpu1/2", &["--tls", &worker]);
    second.wait_for("registered");
    done(&["resume", &state]);
    coordinator.process.expect(0);
    first.expect(0);
    second.expect(0);
}

#[test]
fn keys_that_others_can_read_are_refused_on_both_sides_with_the_remedy() {
    let site = Site::new(2, 4);
    let key = site.run.path("pki/server/key.pem");
    let open = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    open(&key, 0o644);
    let state = site.run.path("refused").display().to_string();
    let run = site.run.path("run.toml").display().to_string();
    let start = jradievo(
        &[
            &["start", &run, "--state", &state, "--listen", "127.0.0.1:0", "--pki", &site.pki][..],
            &site.run.overrides().iter().map(String::as_str).collect::<Vec<_>>(),
        ]
        .concat(),
    );
    let message = text(&start.stderr);
    assert_eq!(start.status.code(), Some(2), "{message}");
    assert!(message.contains(&format!("chmod 600 {}", key.display())), "{message}");
    assert!(!Path::new(&state).exists(), "nothing is begun");
    open(&key, 0o600);
    let coordinator = site.start();
    let folder = site.certificate("worker", "gpu1");
    open(&Path::new(&folder).join("key.pem"), 0o640);
    let worker = coordinator.worker("gpu1", &["--tls", &folder]).expect(1);
    assert!(worker.output.contains("chmod 600"), "{}", worker.output);
    let token = site.token(&[]);
    open(Path::new(&token), 0o644);
    let worker = node(&coordinator, "gpu1", &site.run.path("node"), Some(&token)).expect(1);
    assert!(worker.output.contains("chmod 600"), "{}", worker.output);
}
