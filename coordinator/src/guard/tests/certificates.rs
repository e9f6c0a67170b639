//! No certificate, one of another authority, an expired or revoked one, a token that is shown again, and renewal.

use super::*;
use rustls::pki_types::CertificateDer;
use secure::enrolment::Enrolment;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_certificate_nobody_comes_further_than_to_join() {
    let site = site().await;
    let channel = site.connected(site.stranger()).await.unwrap();
    let why = denied(site.described(&channel).await);
    assert!(why.contains("show a certificate"), "{why}");
    let mut inspect = proto::inspect_client(channel.clone());
    let status = inspect.status(wire::StatusRequest {}).await.map(drop);
    denied(status.map_err(|s| Class::from(&s)));
    let renew = wire::RenewRequest { certificate_request: vec![1] };
    denied(proto::join_client(channel).renew(renew).await.map(drop).map_err(|s| Class::from(&s)));
    // Where there are no tokens, the handshake itself fails.
    let folder = site.folder.clone();
    let shut = serve(folder, Door::Shut, Limits::default(), Settings::new(Box::new(Unwatched))).await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(shut.authority.certificate().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let bare = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let bare = Arc::new(bare.unwrap().with_root_certificates(roots).with_no_client_auth());
    let tcp = TcpStream::connect(shut.address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(bare);
    let mut raw = connector.connect("127.0.0.1".try_into().unwrap(), tcp).await.unwrap();
    let e = raw.read_u8().await.unwrap_err().to_string();
    assert!(e.contains("CertificateRequired"), "{e}");
    shut.member(Role::Worker, "w").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_of_another_authority_are_believed_by_neither_side() {
    let (site, other) = (site().await, site_folder());
    let elsewhere = Authority::open(other.path()).unwrap();
    let forged = other.path().join("forged");
    let subject = Subject { role: Role::Operator, name: "op", hosts: &[], life: HOUR };
    elsewhere.issue(&subject, &forged, false, SystemTime::now()).unwrap();
    // It believes another authority: it does not speak to this coordinator.
    let e = site.raw(files(forged.clone())).await.unwrap_err().to_string();
    assert!(e.contains("UnknownIssuer"), "{e}");
    // It believes this coordinator, which does not believe it.
    std::fs::copy(site.folder.path().join("ca.pem"), forged.join("ca.pem")).unwrap();
    let mut raw = site.raw(files(forged)).await.unwrap();
    let e = raw.read_u8().await.unwrap_err().to_string();
    assert!(e.contains("UnknownCA") || e.contains("DecryptError"), "{e}");
    // A token of another authority is not shown to this one.
    let e = site.raw(Trust::Pinned(elsewhere.fingerprint())).await.unwrap_err().to_string();
    assert!(e.contains("UnknownIssuer"), "{e}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workers_certificate_does_not_serve_as_a_coordinators() {
    let site = site().await;
    let worker = site.certificate(Role::Worker, "w");
    let e = Server::from_folder(&worker).err().unwrap().to_string();
    assert!(e.contains("is of a worker, not of a coordinator"), "{e}");
    // Nor the other way round.
    let mut raw = site.raw(files(site.folder.path().join("server"))).await.unwrap();
    assert!(raw.read_u8().await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_certificate_is_refused_and_one_that_expires_is_cut_off() {
    let site = site().await;
    let now = SystemTime::now();
    let old = site.certificate_of(Role::Worker, "old", now - 2 * HOUR);
    let mut raw = site.raw(files(old)).await.unwrap();
    let e = raw.read_u8().await.unwrap_err().to_string();
    assert!(e.contains("CertificateExpired"), "{e}");
    // It holds for two seconds more: long enough to be let in.
    let late = site.certificate_of(Role::Worker, "late", now + Duration::from_secs(2) - HOUR);
    let mut raw = site.raw(files(late)).await.unwrap();
    frames::hello(&mut raw).await;
    let came = until_closed(&mut raw).await;
    assert!(!came.is_empty(), "it was let in before");
    assert!(
        SystemTime::now().duration_since(now).unwrap() < Duration::from_secs(15),
        "by its certificate's end"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_node_is_stopped_in_the_middle_and_does_not_come_back() {
    let site = site().await;
    let stolen = site.certificate(Role::Worker, "stolen");
    let channel = site.connected(files(stolen.clone())).await.unwrap();
    site.described(&channel).await.unwrap();
    assert_eq!(site.authority.revoke("stolen", SystemTime::now()).unwrap().len(), 1);
    let stopped = async {
        loop {
            if let Err(Class::Denied(why)) = site.described(&channel).await {
                return why;
            }
        }
    };
    let why = tokio::time::timeout(LONG, stopped).await.unwrap();
    assert!(why.contains("revoked"), "{why}");
    let mut raw = site.raw(files(stolen)).await.unwrap();
    let e = raw.read_u8().await.unwrap_err().to_string();
    assert!(e.contains("CertificateRevoked"), "{e}");
    site.member(Role::Worker, "other").await;
}

async fn join(site: &Site, secret: [u8; 32], node: &Enrolment, name: &str) -> Result<wire::JoinReply, Class> {
    let channel = site.connected(site.stranger()).await.unwrap();
    let (secret, name) = (secret.to_vec(), name.to_string());
    let request = wire::JoinRequest { secret, certificate_request: node.request().unwrap(), name };
    let reply = proto::join_client(channel).join(request).await;
    reply.map(|r| r.into_inner()).map_err(|s| Class::from(&s))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_lets_in_once_and_its_replay_fails_also_after_a_restart() {
    let site = site().await;
    let node = |name: &str| {
        let node = Enrolment::new(site.folder.path().join(format!("node-{name}")));
        drop(node.lock().unwrap());
        node
    };
    let (now, hour) = (SystemTime::now(), HOUR);
    let token = site.authority.token(hour, 1, hour, None, now).unwrap();
    let first = node("first");
    let reply = join(&site, token.secret, &first, "first").await.unwrap();
    first.keep(&reply.certificate, &reply.authority, token.authority).unwrap();
    let channel = site.connected(Trust::Files(first.files())).await.unwrap();
    site.described(&channel).await.unwrap();
    // It is a worker, and nothing else.
    let status = proto::inspect_client(channel.clone()).status(wire::StatusRequest {}).await.map(drop);
    denied(status.map_err(|s| Class::from(&s)));
    let why = denied(join(&site, token.secret, &node("second"), "second").await.map(drop));
    assert!(why.contains("used up"), "{why}");
    // Too young to be renewed; a stranger's request is no reason to give its certificate away.
    let renew = wire::RenewRequest { certificate_request: first.request().unwrap() };
    let young = proto::join_client(channel).renew(renew).await.map(drop).map_err(|s| Class::from(&s));
    assert!(denied(young).contains("too young"));

    let settings = Settings::new(Box::new(Unwatched));
    let again = serve(site.folder.clone(), Door::Tokens, Limits::default(), settings).await;
    let why = denied(join(&again, token.secret, &node("third"), "third").await.map(drop));
    assert!(why.contains("used up"), "{why}");
    // The node whose answer was lost asks again with its key, and is answered.
    join(&again, token.secret, &first, "first").await.unwrap();
    let old = site.authority.token(hour, 1, hour, None, now - 2 * hour).unwrap();
    let why = denied(join(&again, old.secret, &node("fourth"), "fourth").await.map(drop));
    assert!(why.contains("expired"), "{why}");
    let why = denied(join(&again, [7; 32], &node("fifth"), "fifth").await.map(drop));
    assert!(why.contains("does not know"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_files_are_in_force_from_the_next_connection_and_broken_ones_change_nothing() {
    let site = site().await;
    let worker = site.certificate(Role::Worker, "w");
    let shown = async || {
        let raw = site.raw(files(worker.clone())).await.unwrap();
        let certificates: Vec<CertificateDer<'static>> =
            raw.get_ref().1.peer_certificates().unwrap().iter().map(|c| c.clone().into_owned()).collect();
        Identity::of(&certificates[0]).unwrap().serial
    };
    let standing = site.connected(files(worker.clone())).await.unwrap();
    let first = shown().await;
    assert_eq!(shown().await, first);
    let hosts = ["127.0.0.1".to_string()];
    let subject = Subject { role: Role::Coordinator, name: "here", hosts: &hosts, life: HOUR };
    let server = site.folder.path().join("server");
    let renewed = site.authority.issue(&subject, &server, true, SystemTime::now()).unwrap();
    assert_eq!(shown().await, renewed.serial);
    assert_ne!(first, renewed.serial);
    for (file, text) in [("cert.pem", "nonsense"), ("key.pem", ""), ("ca.pem", "-----BEGIN CERTIFICATE-----")]
    {
        let before = std::fs::read(server.join(file)).unwrap();
        std::fs::write(server.join(file), text).unwrap();
        assert_eq!(shown().await, renewed.serial, "{file}");
        std::fs::write(server.join(file), before).unwrap();
    }
    // Who was connected before all this still is.
    site.described(&standing).await.unwrap();
}
