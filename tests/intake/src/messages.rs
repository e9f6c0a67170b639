//! What is spoken between coordinator, workers and operators: the first byte says which message, the rest is one.
//!
//! A message that was accepted is the same after it was sent again, and what is refused names its field.

use common::run::{Budget, Extension};
use prost::Message;
use proto::convert::{
    Description, Exchange, ExchangeAnswer, Joining, MAX_CERTIFICATE_REQUEST, Refused, Registered,
    Registration, Renewing,
};
use proto::status::Class;
use proto::wire;
use std::fmt::Debug;

/// See the module.
pub fn messages(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    match kind % 16 {
        0 => both::<wire::RegisterRequest, Registration>(bytes),
        1 => both::<wire::ExchangeRequest, Exchange>(bytes),
        2 => both::<wire::DescribeReply, Description>(bytes),
        3 => both::<wire::RegisterReply, Registered>(bytes),
        4 => both::<wire::ExchangeReply, ExchangeAnswer>(bytes),
        5 => join(bytes),
        6 => {
            if let Ok(extension) = wire::ExtendRequest::decode(bytes).map(Extension::from) {
                let _ = wire::ExtendRequest::from(extension);
            }
        }
        7 => drop(wire::ExtendReply::decode(bytes).map(|r| r.budget.map(Budget::from))),
        8 => status(bytes),
        9 => looked_at::<wire::StatusReply>(bytes),
        10 => looked_at::<wire::CandidateView>(bytes),
        11 => looked_at::<wire::RecipeReply>(bytes),
        12 => looked_at::<wire::BackupChunk>(bytes),
        13 => looked_at::<wire::JoinReply>(bytes),
        14 => one_way(bytes),
        _ => looked_at::<wire::SampleResult>(bytes),
    }
}

/// Read, checked, sent again, read and checked again.
fn both<M, V>(bytes: &[u8])
where
    M: Message + Default + From<V>,
    V: TryFrom<M, Error = Refused> + Clone + Debug,
{
    let Ok(message) = M::decode(bytes) else { return };
    match V::try_from(message) {
        Err(refused) => assert!(!refused.field.is_empty(), "{refused}"),
        Ok(value) => {
            let sent = M::from(value.clone()).encode_to_vec();
            let again = V::try_from(M::decode(&*sent).expect("what was sent is a message"));
            // By their words: numbers that are not numbers are not equal to themselves.
            assert_eq!(format!("{again:?}"), format!("{:?}", Ok::<V, Refused>(value)));
        }
    }
}

/// Messages that are shown and not converted.
fn looked_at<M: Message + Default>(bytes: &[u8]) {
    if let Ok(message) = M::decode(bytes) {
        M::decode(&*message.encode_to_vec()).expect("what was sent is a message");
    }
}

fn join(bytes: &[u8]) {
    if let Ok(joining) = wire::JoinRequest::decode(bytes).map(Joining::try_from) {
        match joining {
            Ok(j) => assert!(j.request.len() <= MAX_CERTIFICATE_REQUEST && !j.name.is_empty()),
            Err(refused) => assert!(!refused.field.is_empty()),
        }
    }
    if let Ok(Ok(renewing)) = wire::RenewRequest::decode(bytes).map(Renewing::try_from) {
        assert!(!renewing.request.is_empty());
    }
}

/// The code is the first byte, the detail is the rest.
fn status(bytes: &[u8]) {
    let Some((code, detail)) = bytes.split_first() else { return };
    let status = tonic::Status::with_details(i32::from(*code % 17).into(), "why", detail.to_vec().into());
    let class = Class::from(&status);
    drop((class.to_string(), class.retry()));
    // What a class says survives the way back.
    let again = Class::from(&tonic::Status::from(class.clone()));
    assert_eq!(again.retry(), class.retry(), "{class:?} became {again:?}");
}

/// Small messages without a value of their own.
fn one_way(bytes: &[u8]) {
    looked_at::<wire::DrainRequest>(bytes);
    looked_at::<wire::PauseRequest>(bytes);
    looked_at::<wire::ReportsRequest>(bytes);
    looked_at::<wire::RecipeRequest>(bytes);
    if let Ok(drain) = wire::DrainRequest::decode(bytes) {
        drop(proto::convert::worker_name("name", drain.name));
    }
}
