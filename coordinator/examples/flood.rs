//! Opens many silent connections to a coordinator and holds them, to see whether it goes on serving those that it knows:
//! `cargo run --release -p coordinator --example flood -- 127.0.0.1:7443 10000 30`.
//!
//! Prints once a second how many the coordinator keeps and how many it has hung up on. To a loopback address they come from
//! a hundred addresses of this machine; whatever is hung up on is opened again, so that the flood goes on.

#![forbid(unsafe_code)]

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::net::{TcpSocket, TcpStream};

async fn open(to: SocketAddr, number: usize) -> std::io::Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if to.ip().to_string() == "127.0.0.1" {
        socket.bind(SocketAddr::from(([127, 0, 1, (number % 100) as u8 + 1], 0)))?;
    }
    socket.connect(to).await
}

/// Whether the other side has hung up.
fn is_over(stream: &TcpStream) -> bool {
    match stream.try_read(&mut [0; 64]) {
        Ok(0) => true,
        Ok(_) => false,
        Err(e) => e.kind() != ErrorKind::WouldBlock,
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let to: SocketAddr =
        arguments.next().and_then(|a| a.parse().ok()).expect("an address, such as 127.0.0.1:7443");
    let count: usize = arguments.next().and_then(|a| a.parse().ok()).unwrap_or(10_000);
    let seconds: u64 = arguments.next().and_then(|a| a.parse().ok()).unwrap_or(30);
    let (mut held, mut opened, mut hung_up, mut refused) = (Vec::new(), 0_usize, 0_usize, 0_usize);
    let (begun, mut told) = (Instant::now(), Instant::now());
    while begun.elapsed() < Duration::from_secs(seconds) {
        while held.len() < count {
            match tokio::time::timeout(Duration::from_secs(1), open(to, opened)).await {
                Ok(Ok(stream)) => held.push(stream),
                _ => refused += 1,
            }
            opened += 1;
            if told.elapsed() > Duration::from_secs(1) {
                break;
            }
        }
        let before = held.len();
        // What is reported ready is known only after the runtime has looked.
        tokio::task::yield_now().await;
        held.retain(|s| !is_over(s));
        hung_up += before - held.len();
        if told.elapsed() > Duration::from_secs(1) {
            told = Instant::now();
            let at = begun.elapsed().as_secs();
            println!(
                "{at} s: {opened} opened, {} held, {hung_up} hung up on, {refused} not taken",
                held.len()
            );
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
