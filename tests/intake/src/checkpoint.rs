//! Weight files and their indexes, opened as a folder is.
//!
//! What was accepted never reaches outside its file: every tensor's bytes are taken, and are as many as its shape says.

use crate::scratch::Scratch;
use worker::checkpoint::Checkpoint;

/// The most that a header of the harness is given data for.
const DATA_LIMIT: u64 = 1 << 16;

thread_local! {
    static FOLDER: Scratch = Scratch::new();
}

/// Bytes that begin with `{` are an index if they name a `weight_map`, else a header, which gets its length and as much
/// data as it claims; anything else is a file as it is.
pub fn safetensors(bytes: &[u8]) {
    if is_index(bytes) {
        let shard = framed(b"{\"a\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[0,4]}}");
        open(&[
            ("model.safetensors.index.json", bytes),
            ("model-1.safetensors", &shard),
            ("model-2.safetensors", &framed(b"{}")),
        ]);
    } else if bytes.starts_with(b"{") {
        open(&[("model.safetensors", &framed(bytes))]);
    } else {
        open(&[("model.safetensors", bytes)]);
    }
}

/// Bytes that begin with `PK` are a file as it is; those that begin with `{` an index; anything else is a pickle, which
/// is put into a sound zip file with three storages.
pub fn torch_bin(bytes: &[u8]) {
    if is_index(bytes) {
        let shard = zip(b"\x80\x02}.");
        open(&[("pytorch_model.bin.index.json", bytes), ("a.bin", &shard), ("b.bin", &shard)]);
    } else if bytes.starts_with(b"PK") {
        open(&[("pytorch_model.bin", bytes)]);
    } else {
        open(&[("pytorch_model.bin", &zip(bytes))]);
    }
}

fn is_index(bytes: &[u8]) -> bool {
    let key = b"weight_map";
    bytes.starts_with(b"{") && bytes.windows(key.len()).any(|w| w == key)
}

fn open(files: &[(&str, &[u8])]) {
    FOLDER.with(|folder| {
        let path = folder.fill(files);
        let model = match Checkpoint::open(&path) {
            Ok(model) => model,
            Err(e) => return drop(e.to_string()),
        };
        let total: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
        for name in model.names() {
            let info = model.info(name).expect("a listed name has an entry");
            assert_eq!(info.elements, info.shape.iter().product::<usize>(), "{name}");
            assert!(model.bytes(name).expect("a listed name has bytes").len() <= total, "{name}");
            let elements = model.elements(name).expect("a listed name has elements");
            assert!(elements.len() <= info.elements * info.dtype.width(), "{name}");
            if info.dtype.candle().is_some() {
                assert_eq!(elements.len(), info.elements * info.dtype.width(), "{name}");
                drop(model.tensor(name, &candle_core::Device::Cpu).map_err(|e| e.to_string()));
            }
        }
        drop(model.files());
    });
}

/// A header with its length before it and the data that it claims behind it.
pub(crate) fn framed(header: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header);
    let claimed = serde_json::from_slice::<serde_json::Value>(header).ok().and_then(|header| {
        let ends = header.as_object()?.values().filter_map(|t| t["data_offsets"][1].as_u64());
        ends.max()
    });
    bytes.resize(bytes.len() + claimed.unwrap_or(0).min(DATA_LIMIT) as usize, 1);
    bytes
}

/// A zip file as `torch.save` writes it, with this pickle and three storages. Checksums are left at zero: nobody who reads
/// these files looks at them.
fn zip(pickle: &[u8]) -> Vec<u8> {
    let storage: Vec<u8> = (0..64).collect();
    let entries: [(&str, &[u8]); 4] =
        [("m/data.pkl", pickle), ("m/data/0", &storage), ("m/data/1", &storage[..24]), ("m/data/2", &[])];
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    let word = |n: usize| (n as u32).to_le_bytes();
    for (name, content) in entries {
        let at = file.len();
        let [sizes, lengths] = [
            [word(content.len()), word(content.len())].concat(),
            [(name.len() as u16).to_le_bytes(), [0; 2]].concat(),
        ];
        file.extend([&b"PK\x03\x04\x14\0\0\0\0\0\0\0\0\0\0\0\0\0"[..], &sizes, &lengths].concat());
        file.extend([name.as_bytes(), content].concat());
        directory.extend([&b"PK\x01\x02\x14\0\x14\0\0\0\0\0\0\0\0\0\0\0\0\0"[..], &sizes, &lengths].concat());
        directory.extend([&[0; 10][..], &word(at), name.as_bytes()].concat());
    }
    let start = file.len();
    let counts = (entries.len() as u16).to_le_bytes();
    file.extend(&directory);
    file.extend([&b"PK\x05\x06\0\0\0\0"[..], &counts, &counts].concat());
    file.extend([&word(directory.len())[..], &word(start), &[0; 2]].concat());
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame that the reader refuses would make the fuzzer look at the frame alone.
    #[test]
    fn frames_are_sound() {
        FOLDER.with(|folder| {
            let header = b"{\"a\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[0,4]}}";
            let path = folder.fill(&[("model.safetensors", &framed(header))]);
            assert_eq!(Checkpoint::open(&path).unwrap().names().collect::<Vec<_>>(), ["a"]);
            let path = folder.fill(&[("pytorch_model.bin", &zip(b"\x80\x02}."))]);
            assert_eq!(Checkpoint::open(&path).unwrap().names().len(), 0);
        });
    }
}
