//! How many messages lie within a message, counted in its bytes before any of it is decoded.
//!
//! An empty message within another takes two bytes on the wire and a hundred and more in memory, so a limit on bytes alone would
//! let 64 MiB become gigabytes. [`Counted`] is the codec of every service; it walks over the wire format by the schema's table
//! (made by `build.rs`), which knows what of it is a message and what is text, and keeps nothing. Limits of single fields are
//! `convert`'s.
//!
//! Source of the wire format: protobuf's "Encoding" guide.

use crate::status::Class;
use prost::bytes::Buf;
use prost::{Message, Name};
use std::marker::PhantomData;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

include!(concat!(env!("OUT_DIR"), "/census.rs"));

/// The most messages within one, entries of maps among them: every file of the largest manifest, every sample of the largest
/// evaluation with a handful of scores.
pub const MAX_PARTS: usize = 1 << 19;

/// A field of a message that holds messages: its number, and which of the table's they are.
type Field = (u64, usize);

/// Counts the messages within the bytes of one of that name. An unknown name has none.
///
/// # Errors
/// In words, where there are more than [`MAX_PARTS`] or the bytes are no protobuf.
pub fn check(name: &str, bytes: &[u8]) -> Result<(), String> {
    let Some(at) = MESSAGES.iter().position(|(known, _)| *known == name) else { return Ok(()) };
    walk(at, bytes, &mut { MAX_PARTS })
}

fn walk(message: usize, mut bytes: &[u8], left: &mut usize) -> Result<(), String> {
    let malformed = || "it is not protobuf".to_string();
    let fields = MESSAGES[message].1;
    while !bytes.is_empty() {
        let key = varint(&mut bytes).ok_or_else(malformed)?;
        let length = match key & 7 {
            0 => {
                varint(&mut bytes).ok_or_else(malformed)?;
                continue;
            }
            1 => 8,
            2 => varint(&mut bytes).ok_or_else(malformed)?,
            5 => 4,
            // Groups, which no version of the schema has had.
            _ => return Err(malformed()),
        };
        let length = usize::try_from(length).map_err(|_| malformed())?;
        let (value, rest) = bytes.split_at_checked(length).ok_or_else(malformed)?;
        bytes = rest;
        if let Some((_, child)) = fields.iter().find(|(number, _)| key & 7 == 2 && *number == key >> 3) {
            *left = left.checked_sub(1).ok_or_else(|| format!("more than {MAX_PARTS} parts"))?;
            walk(*child, value, left)?;
        }
    }
    Ok(())
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Protobuf by prost, behind the count.
#[derive(Debug, Clone)]
pub struct Counted<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Counted<T, U> {
    fn default() -> Self {
        Counted(PhantomData)
    }
}

impl<T, U> Codec for Counted<T, U>
where
    T: Message + Send + 'static,
    U: Message + Name + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = CountedDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::default().encoder()
    }

    fn decoder(&mut self) -> Self::Decoder {
        CountedDecoder(ProstCodec::<T, U>::default().decoder())
    }
}

/// See [`Counted`].
#[derive(Debug, Clone)]
pub struct CountedDecoder<U>(ProstDecoder<U>);

impl<U: Message + Name + Default> Decoder for CountedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        // tonic keeps a message in one piece; what lies beyond the first would be decoded uncounted.
        let bytes = buf.chunk();
        let counted = match bytes.len() == buf.remaining() {
            true => check(U::NAME, bytes),
            false => Err("it came in pieces".into()),
        };
        counted.map_err(|message| Class::BadInput { field: "message".into(), message })?;
        self.0.decode(buf)
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.0.buffer_settings()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire;

    #[test]
    fn messages_are_counted_at_every_depth_before_they_are_decoded() {
        let sample = wire::SampleResult { scores: [("rouge_l".into(), 0.5)].into(), ..Default::default() };
        let report = wire::Report { samples: vec![sample; 1000], ..Default::default() };
        let exchange = |reports: usize| {
            let reports = vec![report.clone(); reports];
            wire::ExchangeRequest { reports, ..Default::default() }.encode_to_vec()
        };
        // 2,001 parts a report.
        assert_eq!(check("ExchangeRequest", &exchange(MAX_PARTS / 2001)), Ok(()));
        let refused = check("ExchangeRequest", &exchange(MAX_PARTS / 2001 + 1)).unwrap_err();
        assert!(refused.contains("more than 524288 parts"), "{refused}");
        // Nothing in them, of every field that holds messages, one after the other.
        for field in [4u8, 5, 8] {
            let flood = [field << 3 | 2, 0].repeat(MAX_PARTS + 1);
            assert!(check("ExchangeRequest", &flood).unwrap_err().contains("parts"), "field {field}");
        }
        let files = [6u8 << 3 | 2, 0].repeat(MAX_PARTS + 1);
        assert!(check("RegisterRequest", &files).unwrap_err().contains("parts"));
    }

    #[test]
    fn text_is_no_message_whatever_it_looks_like() {
        let text = String::from_utf8([5u8 << 3 | 2, 0].repeat(MAX_PARTS + 1)).unwrap();
        let bytes = wire::SampleResult { text, ..Default::default() }.encode_to_vec();
        assert_eq!(check("SampleResult", &bytes), Ok(()));
    }

    #[test]
    fn what_is_cut_off_or_no_protobuf_is_refused() {
        let request = wire::RegisterRequest {
            worker_name: "gpu1".into(),
            files: vec![wire::File { name: "dataset/d.jsonl".into(), size_bytes: 300, digest: "ab".into() }],
            ..Default::default()
        };
        let bytes = request.encode_to_vec();
        assert_eq!(check("RegisterRequest", &bytes), Ok(()));
        for cut in 1..bytes.len() {
            // Between two fields a message is as whole as before.
            let decodes = wire::RegisterRequest::decode(&bytes[..cut]).is_ok();
            assert_eq!(check("RegisterRequest", &bytes[..cut]).is_ok(), decodes, "cut at {cut}");
        }
        for malformed in
            [&[0xff; 11][..], &[3 << 3 | 3], &[3 << 3 | 6], &[6 << 3 | 2, 0xff, 0xff, 0xff, 0xff, 0x0f]]
        {
            assert!(check("RegisterRequest", malformed).is_err(), "{malformed:?}");
        }
    }
}
