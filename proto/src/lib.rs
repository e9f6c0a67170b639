//! The wire between a coordinator and its workers, and nothing else.
//!
//! | module | what |
//! |---|---|
//! | [`wire`] | the messages and services as generated from `schema/cluster.proto` |
//! | [`convert`] | wire → checked values and back: the single place that distrusts a message |
//! | [`census`] | how many messages lie within one, counted before it is decoded |
//! | [`status`] | error class ↔ gRPC code, with a typed detail in a binary header |
//!
//! Nothing here decides anything: a coordinator that lends and a worker that evaluates are elsewhere.

#![forbid(unsafe_code)]

pub mod census;
pub mod convert;
pub mod status;

/// Messages, clients and servers generated from `schema/cluster.proto`.
#[allow(missing_docs, clippy::all)]
pub mod wire {
    tonic::include_proto!("jradievo.cluster.v1");
}

/// The compiled schema, for the reflection service.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Raised when the two sides would misunderstand each other. Both must have the same.
pub const PROTOCOL_VERSION: u32 = 2;

/// The program's version. Two versions may compute different scores, so a run is done by one.
pub const PROGRAM_VERSION: &str = env!("CARGO_PKG_VERSION");

/// The largest message that either side reads or writes, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// The largest message of services that take no results: everything but a worker's calls, in bytes.
pub const MAX_SMALL_MESSAGE_BYTES: usize = 64 << 10;

pub use tonic::transport::{Channel, Endpoint};
pub use wire::cluster_client::ClusterClient;
pub use wire::inspect_client::InspectClient;
pub use wire::join_client::JoinClient;
pub use wire::operate_client::OperateClient;

/// A client of the worker's calls with this protocol's message limits.
pub fn cluster_client(channel: Channel) -> ClusterClient<Channel> {
    ClusterClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

/// A client of the looking calls with this protocol's message limits.
pub fn inspect_client(channel: Channel) -> InspectClient<Channel> {
    InspectClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

/// A client of the operator's calls.
pub fn operate_client(channel: Channel) -> OperateClient<Channel> {
    OperateClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES)
}

/// A client of the calls by which a node comes by its certificate.
pub fn join_client(channel: Channel) -> JoinClient<Channel> {
    JoinClient::new(channel).max_decoding_message_size(MAX_SMALL_MESSAGE_BYTES)
}
