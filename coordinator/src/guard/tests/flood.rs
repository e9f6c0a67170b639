//! More connections than there is room for.

use super::*;
use crate::cli::network::descriptors;
use tokio::net::TcpSocket;

/// A connection from an address of this machine.
async fn from(ip: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{ip}:0").parse().unwrap()).unwrap();
    socket.connect(to).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_silent_connections_does_not_keep_workers_out() {
    let limits = Limits { pending: 8, handshake: LONG, ..Limits::default() };
    let site = serve(site_folder(), Door::Tokens, limits, Settings::new(Box::new(Unwatched))).await;
    let known = site.member(Role::Worker, "known").await;
    let mut flood = Vec::new();
    // Both ends are in this process; other tests need some descriptors too.
    let flooding = 10_000.min(descriptors(16_384).saturating_sub(2_048)).max(200);
    for _ in 0..flooding {
        flood.push(from("127.0.0.2", site.address).await);
    }
    // Who was there is served, and who comes now is let in.
    site.described(&known).await.unwrap();
    let late = site.member(Role::Worker, "late").await;
    site.described(&late).await.unwrap();
    // The oldest silent ones were hung up on, though their time was not over.
    for silent in &mut flood[..flooding - 100] {
        until_closed(silent).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_has_its_share_and_no_more() {
    let limits = Limits { per_address: 5, handshake: LONG, ..Limits::default() };
    let site = serve(site_folder(), Door::Tokens, limits, Settings::new(Box::new(Unwatched))).await;
    let mut flood = Vec::new();
    for _ in 0..20 {
        flood.push(from("127.0.0.3", site.address).await);
    }
    for refused in &mut flood[5..] {
        assert!(until_closed(refused).await.is_empty());
    }
    let known = site.member(Role::Worker, "known").await;
    site.described(&known).await.unwrap();
    // A place that is given back can be taken.
    drop(flood);
    let again = async {
        loop {
            let mut silent = from("127.0.0.3", site.address).await;
            let hung_up = tokio::time::timeout(Duration::from_millis(50), silent.read_u8()).await;
            if hung_up.is_err() {
                return;
            }
        }
    };
    tokio::time::timeout(LONG, again).await.expect("there is room again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beyond_the_limit_even_members_are_turned_away_and_strangers_take_no_members_place() {
    let limits = Limits { connections: 3, strangers: 2, ..Limits::default() };
    let site = serve(site_folder(), Door::Tokens, limits, Settings::new(Box::new(Unwatched))).await;
    let mut kept = Vec::new();
    for n in 0..6 {
        let mut raw = site.raw(site.stranger()).await.unwrap();
        frames::hello(&mut raw).await;
        // The server's own settings, or the end.
        assert_eq!(raw.read_u8().await.is_ok(), n < 2, "stranger {n}");
        kept.push(raw);
    }
    let mut members = Vec::new();
    for n in 0..3 {
        let member = site.member(Role::Worker, &format!("w{n}")).await;
        site.described(&member).await.unwrap();
        members.push(member);
    }
    let mut raw = site.raw(files(site.certificate(Role::Worker, "w3"))).await.unwrap();
    frames::hello(&mut raw).await;
    assert!(until_closed(&mut raw).await.is_empty());
    for member in &members {
        site.described(member).await.unwrap();
    }
}
