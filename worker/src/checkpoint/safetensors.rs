//! The header of a safetensors file: 8 bytes of length, a JSON object, then the data.
//!
//! Everything is checked against the file's size before it is used, and messages name the tensor, which is why
//! this does not go through the safetensors crate's reader. Source: the format section of the safetensors
//! repository's README.

use super::dtype::{Dtype, size_bytes};
use super::error::{Error, Result};
use super::{Entry, TensorInfo};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use std::path::Path;

/// The format's own bound on a header, in bytes.
const HEADER_LIMIT: u64 = 100_000_000;
const LENGTH_BYTES: usize = 8;

/// Lists the tensors of the file whose whole content is `bytes`. `path` serves in messages alone.
pub(crate) fn entries(path: &Path, bytes: &[u8], file: usize) -> Result<Vec<Entry>> {
    let malformed = |field: &str, fault: String| Error::malformed(path, field, fault);
    let Some(length) = bytes.first_chunk::<LENGTH_BYTES>() else {
        return Err(malformed("header", format!("the file has {} bytes, too few for a header", bytes.len())));
    };
    let length = u64::from_le_bytes(*length);
    let room = (bytes.len() - LENGTH_BYTES) as u64;
    if length > HEADER_LIMIT || length > room {
        let fault = format!("claims {length} bytes where {} are possible", room.min(HEADER_LIMIT));
        return Err(malformed("header", fault));
    }
    let start = LENGTH_BYTES + length as usize;
    let header: Header = serde_json::from_slice(&bytes[LENGTH_BYTES..start])
        .map_err(|e| malformed("header", format!("not the expected JSON: {e}")))?;

    let data_bytes = bytes.len() - start;
    let mut entries = Vec::with_capacity(header.0.len());
    for (name, raw) in header.0 {
        let Some(dtype) = Dtype::from_name(&raw.dtype) else {
            return Err(Error::Dtype {
                file: path.into(),
                tensor: name,
                dtype: raw.dtype,
                remedy: "convert the model to float32, bfloat16 or float16",
            });
        };
        let (from, to) = raw.data_offsets;
        let Some((elements, size)) = size_bytes(&raw.shape, dtype) else {
            let fault = format!("shape {:?} of {} overflows or ends within a byte", raw.shape, raw.dtype);
            return Err(malformed(&name, fault));
        };
        if from > to || to > data_bytes {
            return Err(malformed(
                &name,
                format!("offsets {from}..{to} leave the {data_bytes} bytes of data"),
            ));
        }
        if to - from != size {
            let fault = format!(
                "shape {:?} of {} takes {size} bytes, stored are {}",
                raw.shape,
                raw.dtype,
                to - from
            );
            return Err(malformed(&name, fault));
        }
        let info = TensorInfo { dtype, shape: raw.shape, elements };
        entries.push(Entry { name, info, file, offset: start + from, bytes: size, strided: None });
    }
    check_layout(path, &mut entries, bytes.len(), start)?;
    Ok(entries)
}

/// Tensors must follow one another without overlap or gap and end with the file, and no name may come twice.
fn check_layout(path: &Path, entries: &mut [Entry], file_bytes: usize, start: usize) -> Result<()> {
    entries.sort_by(|a, b| (a.offset, a.bytes, &a.name).cmp(&(b.offset, b.bytes, &b.name)));
    let mut at = start;
    for entry in entries.iter() {
        if entry.offset != at {
            let fault = format!("data starts at byte {} of the file where {at} was expected", entry.offset);
            return Err(Error::malformed(path, &entry.name, fault));
        }
        at += entry.bytes;
    }
    if at != file_bytes {
        let fault = format!("the tensors end at byte {at}, the file at byte {file_bytes}");
        return Err(Error::malformed(path, "header", fault));
    }
    let mut names: Vec<&str> = entries.iter().map(|e| e.name.as_str()).collect();
    names.sort_unstable();
    match names.windows(2).find(|w| w[0] == w[1]) {
        Some(twice) => Err(Error::malformed(path, twice[0], "the name comes twice in the header")),
        None => Ok(()),
    }
}

#[derive(serde::Deserialize)]
struct Raw {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (usize, usize),
}

/// The header's entries in order of appearance, duplicates kept so that they can be refused.
struct Header(Vec<(String, Raw)>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Header, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Header;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of tensors")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Header, A::Error> {
                let mut entries = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<serde::de::IgnoredAny>()?;
                    } else {
                        entries.push((name, map.next_value()?));
                    }
                }
                Ok(Header(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data_bytes: usize) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(vec![0; data_bytes]);
        bytes
    }

    fn refusal(bytes: &[u8]) -> String {
        entries(Path::new("m.safetensors"), bytes, 0).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn reads_what_is_sound() {
        let header = r#"{"__metadata__":{"format":"pt"},"b":{"dtype":"F16","shape":[3],"data_offsets":[4,10]},
            "a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}"#;
        let found = entries(Path::new("m"), &file(header, 10), 0).unwrap();
        assert_eq!(found.iter().map(|e| e.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!((found[0].info.elements, found[1].info.elements), (1, 3));
        assert_eq!(found[1].offset, 8 + header.len() + 4);
    }

    #[test]
    fn refuses_what_is_not() {
        let one = |shape: &str, offsets: &str| {
            format!(r#"{{"a":{{"dtype":"F16","shape":{shape},"data_offsets":{offsets}}}}}"#)
        };
        assert!(refusal(b"abc").contains("too few for a header"));
        assert!(refusal(&u64::MAX.to_le_bytes()).contains("claims 18446744073709551615 bytes"));
        assert!(refusal(&file("{", 0)).contains("not the expected JSON"));
        assert!(refusal(&file(&one("[2]", "[0,4]"), 2)).contains("a: offsets 0..4 leave the 2 bytes"));
        assert!(refusal(&file(&one("[2]", "[4,0]"), 4)).contains("a: offsets"));
        assert!(refusal(&file(&one("[3]", "[0,4]"), 4)).contains("takes 6 bytes, stored are 4"));
        assert!(refusal(&file(&one("[18446744073709551615,2]", "[0,4]"), 4)).contains("overflows"));
        assert!(refusal(&file(&one("[2]", "[0,4]"), 5)).contains("end at byte"));
        assert!(refusal(&file(&one("[2]", "[1,5]"), 5)).contains("was expected"));
        let twice = r#"{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#;
        assert!(refusal(&file(twice, 0)).contains("comes twice"));
        let unknown = one("[2]", "[0,2]").replace("F16", "F9");
        assert!(refusal(&file(&unknown, 2)).contains("tensor a has dtype F9"));
        let half = one("[3]", "[0,2]").replace("F16", "F4");
        assert!(refusal(&file(&half, 2)).contains("ends within a byte"));
    }
}
