//! Files as torch and safetensors write them: read with every bit, or refused by name.
//!
//! The data under `data/storage` is written by `scripts/golden/storage_forms.py`. Nothing of it is executed.

#![forbid(unsafe_code)]

use proptest::prelude::*;
use safetensors::SafeTensors;
use std::collections::BTreeMap;
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use worker::checkpoint::Checkpoint;

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/storage")
}

fn names(folder: &str) -> Vec<String> {
    let mut found: Vec<String> = fs::read_dir(data().join(folder))
        .unwrap()
        .map(|f| f.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort();
    found
}

#[test]
fn every_form_of_torch_save_holds_the_same_bits() {
    let expected = fs::read(data().join("expected.safetensors")).unwrap();
    let expected = SafeTensors::deserialize(&expected).unwrap();
    let forms = names("good");
    assert_eq!(forms.len(), 14);
    for form in forms {
        let model = Checkpoint::open(&data().join("good").join(&form)).unwrap();
        assert_eq!(model.names().len(), 8, "{form}");
        let set = if form == "views" { "views" } else { "all" };
        for name in model.names() {
            let reference = expected.tensor(&format!("{set}/{name}")).unwrap();
            let info = model.info(name).unwrap();
            assert_eq!(info.shape, reference.shape(), "{form} {name}");
            assert_eq!(info.dtype.name(), format!("{:?}", reference.dtype()).to_uppercase(), "{form} {name}");
            assert_eq!(model.elements(name).unwrap(), reference.data(), "{form} {name}");
        }
    }
}

#[test]
fn types_that_came_late_are_read_and_in_nobodys_way() {
    let model = Checkpoint::open(&data().join("rare/types")).unwrap();
    let dtype = |name: &str| model.info(name).unwrap().dtype.name();
    let types = ["w", "uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2"].map(dtype);
    assert_eq!(types, ["F32", "U16", "U32", "U64", "F8_E4M3", "F8_E5M2"]);
    assert_eq!(model.elements("uint16").unwrap(), [0, 1, 2, 3, 4, 5u16].map(u16::to_le_bytes).concat());
    assert_eq!(model.elements("uint64").unwrap(), [0, 1, 2, 3, 4, 5u64].map(u64::to_le_bytes).concat());
    // 0, 1, 2, 3, 4, 5 with 3 bits of mantissa under a bias of 7.
    assert_eq!(*model.elements("float8_e4m3fn").unwrap(), [0x00, 0x38, 0x40, 0x44, 0x48, 0x4a]);
    let e = model.tensor("uint16", &candle_core::Device::Cpu).unwrap_err().to_string();
    assert!(e.contains("tensor uint16 has dtype U16"), "{e}");
}

#[test]
fn what_is_not_plain_tensors_is_refused_by_name() {
    let refusals = fs::read_to_string(data().join("refusals.json")).unwrap();
    let refusals: BTreeMap<String, String> = serde_json::from_str(&refusals).unwrap();
    assert_eq!(names("bad"), refusals.keys().cloned().collect::<Vec<_>>());
    for (form, expected) in refusals {
        let refusal = Checkpoint::open(&data().join("bad").join(&form)).unwrap_err().to_string();
        assert!(refusal.contains("pytorch_model.bin"), "{form}: {refusal}");
        assert!(refusal.contains(&expected), "{form}: {refusal}\ndoes not say: {expected}");
    }
}

/// The pickle of `{"a": tensor of float32 [3] in storage "0"}`, as torch writes it.
const ONE_TENSOR: &[u8] = b"\x80\x02}X\x01\0\0\0actorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\n\
    FloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x03tQK\0K\x03\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtRs.";

fn local_header(name: &str, bytes: u32) -> Vec<u8> {
    let mut header = b"PK\x03\x04\x2d\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec();
    header.extend([bytes.to_le_bytes(), bytes.to_le_bytes()].concat());
    header.extend([(name.len() as u16).to_le_bytes(), [0; 2]].concat());
    header.extend(name.bytes());
    header
}

/// A directory record whose offset stands in the 64-bit extra field.
fn record(name: &str, bytes: u32, offset: u64) -> Vec<u8> {
    let mut record = b"PK\x01\x02\x2d\0\x2d\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec();
    record.extend([bytes.to_le_bytes(), bytes.to_le_bytes()].concat());
    record.extend([(name.len() as u16).to_le_bytes(), 12u16.to_le_bytes()].concat());
    record.extend([0; 10]);
    record.extend(u32::MAX.to_le_bytes());
    record.extend(name.bytes());
    record.extend([1u16.to_le_bytes(), 8u16.to_le_bytes()].concat());
    record.extend(offset.to_le_bytes());
    record
}

/// A file of more than 4 GiB, of which the disk holds a few hundred bytes.
#[test]
fn offsets_beyond_four_gigabytes_are_read() {
    const FAR: u64 = 5 << 30;
    let folder = tempfile::tempdir().unwrap();
    let mut file = fs::File::create(folder.path().join("pytorch_model.bin")).unwrap();
    let pickle = ONE_TENSOR.len() as u32;
    file.write_all(&local_header("archive/data.pkl", pickle)).unwrap();
    file.write_all(ONE_TENSOR).unwrap();
    file.seek(SeekFrom::Start(FAR)).unwrap();
    file.write_all(&local_header("archive/data/0", 12)).unwrap();
    file.write_all(&[1.0f32, -2.0, 3.5].map(f32::to_le_bytes).concat()).unwrap();
    let start = file.stream_position().unwrap();
    let directory = [record("archive/data.pkl", pickle, 0), record("archive/data/0", 12, FAR)].concat();
    file.write_all(&directory).unwrap();
    let end = file.stream_position().unwrap();
    let mut tail = b"PK\x06\x06".to_vec();
    tail.extend(44u64.to_le_bytes());
    tail.extend([45, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    tail.extend([2, 2, directory.len() as u64, start].map(u64::to_le_bytes).concat());
    tail.extend(b"PK\x06\x07\0\0\0\0");
    tail.extend(end.to_le_bytes());
    tail.extend(1u32.to_le_bytes());
    tail.extend(b"PK\x05\x06\0\0\0\0\x02\0\x02\0");
    tail.extend([(directory.len() as u32).to_le_bytes(), u32::MAX.to_le_bytes()].concat());
    tail.extend([0; 2]);
    file.write_all(&tail).unwrap();
    drop(file);
    let model = Checkpoint::open(folder.path()).unwrap();
    assert_eq!(model.bytes("a").unwrap(), [1.0f32, -2.0, 3.5].map(f32::to_le_bytes).concat());
}

/// A safetensors file from text and data.
fn safetensors_file(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.bytes());
    bytes.extend((0..data).map(|i| i as u8));
    bytes
}

#[test]
fn only_the_chosen_form_of_a_folder_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let tensor = |name: &str| format!(r#"{{"{name}":{{"dtype":"F16","shape":[2],"data_offsets":[0,4]}}}}"#);
    let open = || Checkpoint::open(folder.path()).unwrap();
    let names = |model: &Checkpoint| model.names().map(String::from).collect::<Vec<_>>();
    fs::write(at("config.json"), "{}").unwrap();
    fs::create_dir(at("original")).unwrap();
    fs::write(at("original/consolidated.00.pth"), "another format").unwrap();
    fs::write(at("original/params.json"), "{}").unwrap();
    fs::write(at("consolidated.safetensors"), "another format").unwrap();
    fs::write(at("training_args.bin"), "a pickle of settings").unwrap();
    let e = Checkpoint::open(folder.path()).unwrap_err().to_string();
    assert!(e.contains("no weights found"), "{e}");

    // The last that comes is preferred: torch shards, torch, safetensors shards, safetensors.
    let torch = data().join("good/protocol-2/pytorch_model.bin");
    fs::copy(&torch, at("pytorch_model-00001-of-00001.bin")).unwrap();
    let index =
        |file: &str, tensor: &str| format!(r#"{{"metadata":{{}},"weight_map":{{"{tensor}":"{file}"}}}}"#);
    let text = index("pytorch_model-00001-of-00001.bin", "model.norm.weight");
    fs::write(at("pytorch_model.bin.index.json"), text).unwrap();
    assert_eq!(open().names().len(), 8);
    fs::copy(data().join("good/views/pytorch_model.bin"), at("pytorch_model.bin")).unwrap();
    assert_eq!(open().info("model.scalar").unwrap().dtype.name(), "F32");
    assert!(!open().files().contains(&"pytorch_model-00001-of-00001.bin".to_string()));
    fs::write(at("model-1.safetensors"), safetensors_file(&tensor("x"), 4)).unwrap();
    fs::write(at("unnamed.safetensors"), safetensors_file(&tensor("y"), 4)).unwrap();
    fs::write(at("model.safetensors.index.json"), index("model-1.safetensors", "x")).unwrap();
    assert_eq!(names(&open()), ["x"]);
    fs::write(at("model.safetensors"), safetensors_file(&tensor("z"), 4)).unwrap();
    assert_eq!(names(&open()), ["z"]);
    // What pins a run is what is read.
    let pinned = common::files::digest_model("m", folder.path()).unwrap();
    let pinned: Vec<&str> = pinned.iter().map(|d| d.name.as_str()).collect();
    assert_eq!(pinned, ["models/m/config.json", "models/m/model.safetensors"]);
    assert_eq!(open().files(), ["config.json", "model.safetensors"]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Headers of up to four tensors whose places are right, or wrong in one number: accepted exactly when the
    /// format's own library accepts them.
    #[test]
    fn safetensors_are_judged_as_by_their_own_library(
        sizes in proptest::collection::vec((0usize..5, 0usize..4), 1..5),
        order in any::<u64>(),
        fault in proptest::option::of((0usize..8, -3i64..4)),
        extra in 0usize..3,
    ) {
        let mut at = 0;
        let mut entries: Vec<(String, [i64; 4])> = sizes.iter().enumerate().map(|(i, &(rows, columns))| {
            let from = at;
            at += rows * columns * 2;
            (format!("t{i}"), [rows as i64, columns as i64, from as i64, at as i64])
        }).collect();
        if let Some((place, by)) = fault {
            let (which, number) = (place % entries.len(), place % 4);
            entries[which].1[number] += by;
        }
        // The order in the header says nothing about the order of the data.
        let turn = order as usize % entries.len();
        entries.rotate_left(turn);
        let header: Vec<String> = entries.iter().map(|(name, [rows, columns, from, to])| {
            format!(r#""{name}":{{"dtype":"BF16","shape":[{rows},{columns}],"data_offsets":[{from},{to}]}}"#)
        }).collect();
        let bytes = safetensors_file(&format!("{{{}}}", header.join(",")), at + extra / 2);
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("model.safetensors"), &bytes).unwrap();
        let ours = Checkpoint::open(folder.path());
        match SafeTensors::deserialize(&bytes) {
            Ok(theirs) => {
                let ours = ours.unwrap();
                for (name, view) in theirs.tensors() {
                    prop_assert_eq!(ours.bytes(&name).unwrap(), view.data());
                    prop_assert_eq!(&ours.info(&name).unwrap().shape, view.shape());
                }
            }
            Err(e) => prop_assert!(ours.is_err(), "their refusal: {e}; header {header:?}"),
        }
    }
}
