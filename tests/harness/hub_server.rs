//! A small hub on loopback: repositories, commits, gates, and everything that goes wrong with transfers.
//!
//! It answers what programs ask of the public hub: `/api/models/<repo>/revision/<revision>` describes a commit;
//! `/<repo>/resolve/<revision>/<file>` redirects, for large files to another host (here: another port), for small
//! ones to another path. Large files are known by their SHA-256, small ones by their git object.

use sha1::Sha1;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Request {
    /// Whether it came to the place for large files, not to the hub itself.
    pub elsewhere: bool,
    /// GET or HEAD.
    pub method: String,
    /// With its query.
    pub path: String,
    /// What the header of that name says.
    pub authorization: Option<String>,
    /// First byte that is asked for.
    pub from: Option<usize>,
}

/// What happens to the next answers that carry a file's content.
#[derive(Clone, Debug)]
pub enum Trouble {
    /// The connection ends after so many bytes.
    Cut(usize),
    /// One byte is another.
    Flip,
    /// A status, and no content.
    Status(u16),
    /// All of the file is sent, whatever range is asked for.
    NoRange,
}

/// The files of one commit by name.
type Files = BTreeMap<String, Arc<Vec<u8>>>;

#[derive(Default)]
struct State {
    /// Repository → commits, each with its files.
    commits: BTreeMap<String, BTreeMap<String, Files>>,
    /// Repository and branch → commit.
    branches: BTreeMap<(String, String), String>,
    /// Repository → the token that opens it.
    gated: BTreeMap<String, String>,
    /// Old name → new name.
    renamed: BTreeMap<String, String>,
    /// File → what happens to its next answers.
    troubles: BTreeMap<String, Vec<Trouble>>,
    /// Whether listings leave out sizes and digests, as some mirrors do.
    bare: bool,
    requests: Vec<Request>,
}

/// A running hub. It is gone when dropped.
pub struct HubServer {
    address: SocketAddr,
    elsewhere: SocketAddr,
    state: Arc<Mutex<State>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Default for HubServer {
    fn default() -> HubServer {
        HubServer::start()
    }
}

impl HubServer {
    /// An empty hub on a free port.
    pub fn start() -> HubServer {
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
        let addresses = [0, 1].map(|i: usize| listeners[i].local_addr().expect("bound"));
        let (state, stop) = (Arc::<Mutex<State>>::default(), Arc::<AtomicBool>::default());
        let serve = |(listener, elsewhere): (TcpListener, bool)| {
            let (state, stop) = (state.clone(), stop.clone());
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    let state = state.clone();
                    std::thread::spawn(move || answer(stream, elsewhere, &state, addresses));
                }
            })
        };
        let threads = listeners.into_iter().zip([false, true]).map(serve).collect();
        HubServer { address: addresses[0], elsewhere: addresses[1], state, stop, threads }
    }

    /// Its address, for `HF_ENDPOINT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Adds a commit and points a branch to it. Yields the commit.
    pub fn publish(&self, repo: &str, branch: &str, files: &[(&str, &[u8])]) -> String {
        let files: BTreeMap<String, Arc<Vec<u8>>> =
            files.iter().map(|(name, content)| (name.to_string(), Arc::new(content.to_vec()))).collect();
        let mut digest = Sha1::new();
        for (name, content) in &files {
            digest.update(name);
            digest.update(content.as_slice());
        }
        let commit = hex(&digest.finalize());
        let mut state = self.state();
        state.commits.entry(repo.into()).or_default().insert(commit.clone(), files);
        state.branches.insert((repo.into(), branch.into()), commit.clone());
        commit
    }

    /// Publishes the files of a folder as `main`.
    pub fn publish_folder(&self, repo: &str, folder: &Path) -> String {
        let entries = std::fs::read_dir(folder).expect("a folder").map(|e| e.expect("an entry"));
        let files: Vec<(String, Vec<u8>)> = entries
            .filter(|e| e.path().is_file())
            .map(|e| {
                (
                    e.file_name().into_string().expect("UTF-8"),
                    std::fs::read(e.path()).expect("a readable file"),
                )
            })
            .collect();
        let files: Vec<(&str, &[u8])> = files.iter().map(|(n, c)| (n.as_str(), c.as_slice())).collect();
        self.publish(repo, "main", &files)
    }

    /// Opens a repository's files only to a token.
    pub fn gate(&self, repo: &str, token: &str) {
        self.state().gated.insert(repo.into(), token.into());
    }

    /// Lets an old name lead to a new one.
    pub fn rename(&self, old: &str, new: &str) {
        self.state().renamed.insert(old.into(), new.into());
    }

    /// What happens to the next answers with a file's content, one after another.
    pub fn trouble(&self, file: &str, troubles: &[Trouble]) {
        self.state().troubles.insert(file.into(), troubles.to_vec());
    }

    /// Leaves sizes and digests out of listings.
    pub fn list_barely(&self) {
        self.state().bare = true;
    }

    /// Every request until now, and forgets them.
    pub fn take_requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.state().requests)
    }
}

impl Drop for HubServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        for address in [self.address, self.elsewhere] {
            let _ = TcpStream::connect(address);
        }
        self.threads.drain(..).for_each(|t| drop(t.join()));
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn is_large(name: &str) -> bool {
    [".safetensors", ".bin"].iter().any(|e| name.ends_with(e)) || name == "tokenizer.json"
}

fn sha256(content: &[u8]) -> String {
    hex(&Sha256::digest(content))
}

fn git(content: &[u8]) -> String {
    let mut digest = Sha1::new_with_prefix(format!("blob {}\0", content.len()));
    digest.update(content);
    hex(&digest.finalize())
}

/// An answer: status, headers, and what the body would be.
struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    /// Bytes of the body that are sent before the connection ends.
    cut: Option<usize>,
}

impl Reply {
    fn new(status: u16, headers: Vec<(&'static str, String)>, body: Vec<u8>) -> Reply {
        Reply { status, headers, body, cut: None }
    }

    fn refuse(status: u16, code: &str) -> Reply {
        Reply::new(status, vec![("X-Error-Code", code.into())], b"{\"error\":\"refused\"}".to_vec())
    }
}

fn answer(stream: TcpStream, elsewhere: bool, state: &Mutex<State>, addresses: [SocketAddr; 2]) {
    let Ok(mut out) = stream.try_clone() else { return };
    let Some(request) = read_request(BufReader::new(stream), elsewhere) else { return };
    let reply = {
        let mut state = state.lock().unwrap_or_else(|e| e.into_inner());
        state.requests.push(request.clone());
        match elsewhere {
            true => state.large(&request),
            false => state.hub(&request, addresses[1]),
        }
    };
    let mut head = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", reply.status);
    head += &format!("Content-Length: {}\r\n", reply.body.len());
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += "\r\n";
    let _ = out.write_all(head.as_bytes());
    if request.method != "HEAD" {
        let _ = out.write_all(&reply.body[..reply.cut.unwrap_or(reply.body.len()).min(reply.body.len())]);
    }
    let _ = out.shutdown(std::net::Shutdown::Both);
}

fn read_request(mut reader: BufReader<TcpStream>, elsewhere: bool) -> Option<Request> {
    let mut line = String::new();
    reader.by_ref().take(8192).read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_string(), words.next()?.to_string());
    let mut request = Request { elsewhere, method, path, authorization: None, from: None };
    loop {
        let mut line = String::new();
        reader.by_ref().take(8192).read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(':') else { return Some(request) };
        match name.to_ascii_lowercase().as_str() {
            "authorization" => request.authorization = Some(value.trim().into()),
            "range" => {
                let from =
                    value.trim().strip_prefix("bytes=").and_then(|r| r.split('-').next()?.parse().ok());
                request.from = from;
            }
            _ => {}
        }
    }
}

impl State {
    fn hub(&mut self, request: &Request, elsewhere: SocketAddr) -> Reply {
        let path = request.path.split('?').next().unwrap_or_default();
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let (repo, rest) = match parts[..] {
            ["api", "models", owner, name, "revision", _] => (format!("{owner}/{name}"), "describe"),
            ["api", "resolve-cache", "models", owner, name, ..] => (format!("{owner}/{name}"), "content"),
            [owner, name, "resolve", _, _] => (format!("{owner}/{name}"), "resolve"),
            _ => return Reply::refuse(404, "EntryNotFound"),
        };
        if let Some(new) = self.renamed.get(&repo) {
            let to = request.path.replacen(&repo, new, 1);
            return Reply::new(307, vec![("Location", to)], Vec::new());
        }
        let Some(commits) = self.commits.get(&repo) else { return Reply::refuse(404, "RepoNotFound") };
        let revision = parts[if rest == "resolve" { 3 } else { 5 }].replace("%2F", "/");
        let named = self.branches.get(&(repo.clone(), revision.clone())).cloned();
        let commit = named.unwrap_or(revision);
        let Some(files) = commits.get(&commit) else { return Reply::refuse(404, "RevisionNotFound") };
        if rest == "describe" {
            return Reply::new(200, Vec::new(), describe(&repo, &commit, files, self.bare));
        }
        let bearer = self.gated.get(&repo).map(|t| format!("Bearer {t}"));
        if bearer.is_some() && bearer != request.authorization {
            return Reply::refuse(if request.authorization.is_some() { 403 } else { 401 }, "GatedRepo");
        }
        let name = parts[parts.len() - 1].to_string();
        let Some(content) = files.get(&name).cloned() else { return Reply::refuse(404, "EntryNotFound") };
        let mut headers = vec![("X-Repo-Commit", commit.clone())];
        if rest == "content" {
            headers.push(("ETag", format!("\"{}\"", git(&content))));
            return self.content(&name, headers, &content, request.from);
        }
        if !is_large(&name) {
            headers.push(("ETag", format!("\"{}\"", git(&content))));
            headers.push(("Location", format!("/api/resolve-cache/models/{repo}/{commit}/{name}")));
            return Reply::new(307, headers, Vec::new());
        }
        headers.push(("X-Linked-Size", content.len().to_string()));
        headers.push(("X-Linked-ETag", format!("\"{}\"", sha256(&content))));
        headers.push(("Location", format!("http://{elsewhere}/{}/{name}?signature=s", sha256(&content))));
        Reply::new(302, headers, Vec::new())
    }

    /// The place for large files: by digest, and without a token.
    fn large(&mut self, request: &Request) -> Reply {
        let path = request.path.split('?').next().unwrap_or_default();
        let Some((digest, name)) = path.trim_start_matches('/').split_once('/') else {
            return Reply::refuse(404, "");
        };
        let mut all = self.commits.values().flat_map(BTreeMap::values).flat_map(BTreeMap::values);
        let found = all.find(|c| sha256(c) == digest).cloned();
        match found {
            Some(content) => {
                // An etag that is no digest, as places for large files have them.
                self.content(name, vec![("ETag", "\"0-1\"".into())], &content, request.from)
            }
            None => Reply::refuse(404, ""),
        }
    }

    fn content(
        &mut self,
        name: &str,
        mut headers: Vec<(&'static str, String)>,
        content: &[u8],
        from: Option<usize>,
    ) -> Reply {
        let trouble = match self.troubles.get_mut(name) {
            Some(troubles) if !troubles.is_empty() => Some(troubles.remove(0)),
            _ => None,
        };
        if let Some(Trouble::Status(status)) = trouble {
            return Reply::new(status, Vec::new(), Vec::new());
        }
        let from = from.filter(|_| !matches!(trouble, Some(Trouble::NoRange)));
        if from.is_some_and(|f| f >= content.len()) {
            return Reply::new(
                416,
                vec![("Content-Range", format!("bytes */{}", content.len()))],
                Vec::new(),
            );
        }
        if let Some(from) = from {
            headers.push(("Content-Range", format!("bytes {from}-{}/{}", content.len() - 1, content.len())));
        }
        let mut body = content[from.unwrap_or(0)..].to_vec();
        if let (Some(Trouble::Flip), Some(byte)) = (&trouble, body.last_mut()) {
            *byte ^= 1;
        }
        let cut = match trouble {
            Some(Trouble::Cut(n)) => Some(n),
            _ => None,
        };
        Reply { status: if from.is_some() { 206 } else { 200 }, headers, body, cut }
    }
}

fn describe(repo: &str, commit: &str, files: &BTreeMap<String, Arc<Vec<u8>>>, bare: bool) -> Vec<u8> {
    let sibling = |(name, content): (&String, &Arc<Vec<u8>>)| {
        let mut sibling = serde_json::json!({"rfilename": name});
        if !bare {
            sibling["size"] = content.len().into();
            sibling["blobId"] = git(content).into();
            if is_large(name) {
                sibling["blobId"] = git(b"a pointer").into();
                sibling["lfs"] =
                    serde_json::json!({"sha256": sha256(content), "size": content.len(), "pointerSize": 134});
            }
        }
        sibling
    };
    let siblings: Vec<_> = files.iter().map(sibling).collect();
    serde_json::json!({"id": repo, "sha": commit, "siblings": siblings}).to_string().into_bytes()
}
