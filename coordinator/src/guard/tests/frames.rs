//! HTTP/2 by hand (RFC 9113), for peers that do not keep to it.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// What a client says first: the preface and empty settings.
pub(super) async fn hello(io: &mut (impl AsyncWrite + Unpin)) {
    io.write_all(super::super::link::PREFACE).await.unwrap();
    io.write_all(&frame(4, 0, 0, &[])).await.unwrap();
    io.flush().await.unwrap();
}

/// One frame: length in 24 bits, kind, flags, stream, payload.
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

/// The headers of a gRPC call, as literals without an index (RFC 7541, section 6.2.2), the call's message to follow.
pub(super) fn call(stream: u32, path: &str) -> Vec<u8> {
    let fields = [
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", "here"),
        (":path", path),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(text.len() as u8);
            block.extend(text.as_bytes());
        }
    }
    const END_HEADERS: u8 = 4;
    frame(1, END_HEADERS, stream, &block)
}

/// Reads frames until one for a stream comes, answering pings; its kind and payload. `None` once the peer is gone.
pub(super) async fn answer(
    io: &mut (impl AsyncRead + AsyncWrite + Unpin),
    wanted: u32,
) -> Option<(u8, Vec<u8>)> {
    loop {
        let mut head = [0; 9];
        io.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        io.read_exact(&mut payload).await.ok()?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        match (head[3], head[4] & 1) {
            (6, 0) => io.write_all(&frame(6, 1, 0, &payload)).await.ok()?,
            (kind, _) if stream == wanted => return Some((kind, payload)),
            _ => {}
        }
    }
}
