//! Records as bytes: format version, checksum, JSON.
//!
//! JSON, since a record must still be readable by a person with a disaster on their hands, and numbers
//! round-trip exactly (shortest decimal form). The checksum is the first half of BLAKE3 over key, version and
//! payload: a record that was moved to another key is as damaged as one that was cut.

use super::Error;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The format that this program writes.
pub const FORMAT: u8 = 1;
const CHECKSUM_BYTES: usize = 16;
const HEADER_BYTES: usize = 1 + CHECKSUM_BYTES;

fn checksum(key: &str, version: u8, payload: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(key.len() as u64).to_le_bytes());
    hasher.update(key.as_bytes()).update(&[version]).update(payload);
    let mut sum = [0; CHECKSUM_BYTES];
    sum.copy_from_slice(&hasher.finalize().as_bytes()[..CHECKSUM_BYTES]);
    sum
}

/// The bytes that stand for `value` under `key`.
pub fn encode<T: Serialize>(key: &str, value: &T) -> Vec<u8> {
    seal(key, &serde_json::to_vec(value).expect("records hold nothing JSON cannot say"))
}

/// A record's bytes around a payload that is JSON already. Whoever can write a store can write a payload of any kind, with a
/// right checksum: one says that a record is as it was written, not that it is well made.
pub fn seal(key: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + payload.len());
    bytes.push(FORMAT);
    bytes.extend(checksum(key, FORMAT, payload));
    bytes.extend(payload);
    bytes
}

/// Reads what [`encode`] wrote, of this or an earlier format.
pub fn decode<T: DeserializeOwned>(key: &str, bytes: &[u8]) -> Result<T, Error> {
    let damaged = |message: String| Error::Damaged { key: key.to_string(), message };
    let Some((version, rest)) = bytes.split_first() else { return Err(damaged("it is empty".into())) };
    if *version > FORMAT {
        return Err(Error::Format { key: key.to_string(), found: *version, known: FORMAT });
    }
    let Some((sum, payload)) = rest.split_at_checked(CHECKSUM_BYTES) else {
        return Err(damaged(format!("{} bytes are too few", bytes.len())));
    };
    if *version == 0 || sum != checksum(key, *version, payload) {
        return Err(damaged("its checksum does not match".into()));
    }
    serde_json::from_slice(payload).map_err(|e| damaged(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_wrote() {
        let value = vec![0.1 + 0.2, f64::MIN_POSITIVE, -0.0];
        assert_eq!(decode::<Vec<f64>>("k", &encode("k", &value)).unwrap(), value);
    }

    #[test]
    fn any_flipped_bit_and_any_cut_is_found() {
        let good = encode("k", &"text");
        for i in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[i] ^= 1 << bit;
                assert!(decode::<String>("k", &bad).is_err(), "byte {i}, bit {bit}");
            }
            assert!(decode::<String>("k", &good[..i]).is_err(), "cut at {i}");
        }
        assert!(decode::<String>("other", &good).is_err());
    }

    #[test]
    fn a_later_format_is_named() {
        let mut later = encode("k", &1);
        later[0] = FORMAT + 1;
        let e = decode::<u8>("k", &later).unwrap_err();
        assert!(e.to_string().contains("use the version that wrote it"), "{e}");
    }
}
