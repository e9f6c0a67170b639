//! Messages that are too large or make no sense, and peers that dribble.

use super::frames::{answer, call, frame, hello};
use super::*;
use tokio::io::AsyncWriteExt;
use tonic_prost::ProstCodec;

const REGISTER: &str = "/jradievo.cluster.v1.Cluster/Register";

/// Calls something with a message that is not its own.
async fn misuse<M: prost_message::Message>(channel: &Channel, path: &'static str, message: M) -> Class {
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    grpc.ready().await.unwrap();
    let codec = ProstCodec::<M, wire::RegisterReply>::default();
    let path = http::uri::PathAndQuery::from_static(path);
    let reply = grpc.unary(tonic::Request::new(message), path, codec).await;
    Class::from(&reply.map(drop).unwrap_err())
}

/// What a type must be to be sent.
mod prost_message {
    pub(super) trait Message: tonic_prost::prost::Message + Default + 'static {}
    impl<M: tonic_prost::prost::Message + Default + 'static> Message for M {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_are_too_large_are_refused_by_their_length() {
    let site = site().await;
    let (worker, operator) = (site.member(Role::Worker, "w").await, site.member(Role::Operator, "op").await);
    let large = |bytes| wire::JoinReply { certificate: "x".repeat(bytes), ..Default::default() };
    let refused = misuse(&worker, REGISTER, large(proto::MAX_MESSAGE_BYTES + 1)).await;
    assert!(matches!(&refused, Class::BadInput { field, .. } if field == "message"), "{refused}");
    let small = proto::MAX_SMALL_MESSAGE_BYTES;
    let refused = misuse(&operator, "/jradievo.cluster.v1.Operate/Pause", large(small + 1)).await;
    assert!(matches!(&refused, Class::BadInput { field, .. } if field == "message"), "{refused}");
    let stranger = site.connected(site.stranger()).await.unwrap();
    let refused = misuse(&stranger, "/jradievo.cluster.v1.Join/Join", large(small + 1)).await;
    assert!(matches!(&refused, Class::BadInput { field, .. } if field == "message"), "{refused}");
    // One that only says that it is large is refused before any of it is there.
    let mut raw = site.raw(files(site.certificate(Role::Worker, "w"))).await.unwrap();
    hello(&mut raw).await;
    raw.write_all(&call(1, REGISTER)).await.unwrap();
    raw.write_all(&frame(0, 0, 1, &[0, 0xff, 0xff, 0xff, 0xff])).await.unwrap();
    raw.flush().await.unwrap();
    let answered = tokio::time::timeout(LONG, answer(&mut raw, 1)).await.expect("it is answered");
    assert_eq!(answered.map(|(kind, _)| kind), Some(1), "headers with a status");
    site.described(&worker).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_make_no_sense_are_refused_and_the_connection_goes_on() {
    let site = site().await;
    let worker = site.member(Role::Worker, "w").await;
    // No UTF-8 where text should be; a number where text should be; nothing where everything is needed.
    let bytes = wire::JoinRequest { secret: vec![0xff, 0xfe], ..Default::default() };
    let number = wire::ReportsRequest { candidate: 7 };
    let classes = [
        misuse(&worker, REGISTER, bytes).await,
        misuse(&worker, REGISTER, number).await,
        misuse(&worker, REGISTER, wire::StatusRequest {}).await,
    ];
    assert!(matches!(&classes[2], Class::BadInput { field, .. } if field == "slots"), "{}", classes[2]);
    assert!(!classes.iter().any(|c| matches!(c, Class::Unavailable(_))), "{classes:?}");
    // Names and counts beyond their limits, each by its field.
    let good = wire::RegisterRequest::from(registration(&plan(&[]), "w"));
    let mut cluster = proto::cluster_client(worker.clone());
    let long = wire::RegisterRequest { worker_name: "w".repeat(1000), ..good.clone() };
    let many = wire::RegisterRequest { held: vec![wire::HeldLease::default(); 2000], ..good.clone() };
    let escape = wire::RegisterRequest { worker_name: "w/\u{1b}[2J".into(), ..good.clone() };
    for (request, wanted) in [(long, "worker_name"), (many, "held"), (escape, "worker_name")] {
        let class = Class::from(&cluster.register(request).await.unwrap_err());
        assert!(matches!(&class, Class::BadInput { field, .. } if field == wanted), "{class}");
    }
    cluster.register(good.clone()).await.unwrap();
    // Headers beyond their limit. Whether this costs the connection depends on which frame is looked at first; the channel
    // then makes another.
    let mut request = tonic::Request::new(wire::DescribeRequest {});
    request.metadata_mut().insert("x-long", "x".repeat(64 << 10).parse().unwrap());
    assert!(cluster.describe(request).await.is_err());
    match cluster.register(good.clone()).await.map_err(|status| Class::from(&status)) {
        Ok(_) => {}
        Err(Class::Unavailable(_)) => drop(cluster.register(good).await.unwrap()),
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_http2_is_hung_up_on() {
    let site = site().await;
    let worker = files(site.certificate(Role::Worker, "w"));
    // No TLS at all.
    let mut tcp = TcpStream::connect(site.address).await.unwrap();
    tcp.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    until_closed(&mut tcp).await;
    // TLS, and then something else.
    let mut raw = site.raw(worker.clone()).await.unwrap();
    raw.write_all(b"GET /index.html HTTP/1.1\r\n\r\n").await.unwrap();
    raw.flush().await.unwrap();
    assert!(until_closed(&mut raw).await.is_empty());
    // A frame that says that it is 16 MiB long; a settings frame of a length that none can have.
    for head in [[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1], [0, 0, 5, 4, 0, 0, 0, 0, 0]] {
        let mut raw = site.raw(worker.clone()).await.unwrap();
        hello(&mut raw).await;
        raw.write_all(&head).await.unwrap();
        raw.write_all(&[0; 5]).await.unwrap();
        raw.flush().await.unwrap();
        until_closed(&mut raw).await;
    }
    let channel = site.member(Role::Worker, "w2").await;
    site.described(&channel).await.unwrap();
}

/// A coordinator that loses patience soon.
async fn impatient() -> Site {
    let soon = Duration::from_millis(300);
    let limits = Limits { handshake: soon, stranger: soon, ..Limits::default() };
    let settings = Settings { silence: soon, call: soon, ..Settings::new(Box::new(Unwatched)) };
    serve(site_folder(), Door::Tokens, limits, settings).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handshakes_that_dribble_are_given_up() {
    let site = impatient().await;
    let worker = files(site.certificate(Role::Worker, "w"));
    let mut silent = TcpStream::connect(site.address).await.unwrap();
    assert!(until_closed(&mut silent).await.is_empty());
    // The beginning of a TLS record, and no more.
    let mut half = TcpStream::connect(site.address).await.unwrap();
    half.write_all(&[0x16, 3, 1, 2, 0, 1]).await.unwrap();
    until_closed(&mut half).await;
    // The handshake, and half a preface.
    let mut raw = site.raw(worker).await.unwrap();
    raw.write_all(b"PRI * HTTP").await.unwrap();
    raw.flush().await.unwrap();
    until_closed(&mut raw).await;
    // A stranger that keeps to everything has no more time than it needs to join.
    let mut raw = site.raw(site.stranger()).await.unwrap();
    hello(&mut raw).await;
    until_closed(&mut raw).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_and_messages_that_dribble_are_given_up() {
    let site = impatient().await;
    let worker = files(site.certificate(Role::Worker, "w"));
    // Half a frame: whoever is in the middle of it cannot answer a ping.
    let mut raw = site.raw(worker.clone()).await.unwrap();
    hello(&mut raw).await;
    let headers = call(1, REGISTER);
    raw.write_all(&headers[..headers.len() / 2]).await.unwrap();
    raw.flush().await.unwrap();
    until_closed(&mut raw).await;
    // Whole frames and answered pings, but a message that never ends: the call ends.
    let mut raw = site.raw(worker).await.unwrap();
    hello(&mut raw).await;
    raw.write_all(&headers).await.unwrap();
    raw.write_all(&frame(0, 0, 1, &[0, 0, 0, 1, 0, 1, 2])).await.unwrap();
    raw.flush().await.unwrap();
    let answered = tokio::time::timeout(LONG, answer(&mut raw, 1)).await.expect("the call ends");
    assert!(answered.is_some());
}
