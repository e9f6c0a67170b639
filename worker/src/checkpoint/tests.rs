//! Folders that must be refused, with messages that say what to do.

use super::write::{SHARD_BYTES, Spec, Writer};
use super::*;
use std::fs;

/// A model of two shards in a folder that disappears with the first value.
fn sharded() -> (tempfile::TempDir, PathBuf) {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("model");
    let spec = |name: &str| Spec { name: name.into(), dtype: Dtype::F16, shape: vec![4] };
    let writer = Writer::create(&folder).unwrap();
    let fill = |_: &Spec, out: &mut Vec<u8>| -> Result<()> {
        out.resize(8, 1);
        Ok(())
    };
    writer.tensors(&[spec("a"), spec("b")], 8, fill).unwrap();
    writer.file("config.json", b"{}").unwrap();
    writer.finish().unwrap();
    (parent, folder)
}

const FIRST: &str = "model-00001-of-00002.safetensors";
const SECOND: &str = "model-00002-of-00002.safetensors";

fn edit(folder: &Path, file: &str, from: &str, to: &str) {
    let path = folder.join(file);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from));
    fs::write(path, text.replace(from, to)).unwrap();
}

fn check(change: impl FnOnce(&Path), expected: &str) {
    let (_parent, folder) = sharded();
    change(&folder);
    let refusal = Checkpoint::open(&folder).unwrap_err().to_string();
    assert!(refusal.contains(expected), "{refusal}\ndoes not say: {expected}");
}

#[test]
fn refuses_damaged_folders() {
    check(|f| fs::remove_file(f.join(SAFETENSORS_INDEX)).unwrap(), "a shard of weights, but no index");
    check(
        |f| {
            for file in [SAFETENSORS_INDEX, FIRST, SECOND] {
                fs::remove_file(f.join(file)).unwrap();
            }
        },
        "no weights found",
    );
    check(|f| fs::remove_file(f.join(SECOND)).unwrap(), "which is not there");
    check(|f| edit(f, SAFETENSORS_INDEX, FIRST, "../x.safetensors"), "weight_map.a");
    check(|f| edit(f, SAFETENSORS_INDEX, FIRST, "/etc/x.safetensors"), "not the name of a .safetensors file");
    check(|f| edit(f, SAFETENSORS_INDEX, FIRST, "a.txt"), "not the name of a .safetensors file");
    check(|f| edit(f, SAFETENSORS_INDEX, "\"a\"", "\"c\""), "does not hold it");
    check(|f| fs::write(f.join(SAFETENSORS_INDEX), "{}").unwrap(), "missing field `weight_map`");
    check(|f| fs::write(f.join(SAFETENSORS_INDEX), r#"{"weight_map":{}}"#).unwrap(), "names no file");
    check(|f| assert!(fs::copy(f.join(FIRST), f.join(SECOND)).unwrap() > 0), "also stored in");
    check(|f| fs::write(f.join(FIRST), "").unwrap(), "too few for a header");
    check(
        |f| {
            let bytes = fs::read(f.join(FIRST)).unwrap();
            fs::write(f.join(FIRST), &bytes[..bytes.len() - 1]).unwrap();
        },
        "download it again",
    );
    check(
        |f| {
            fs::remove_file(f.join(SAFETENSORS_INDEX)).unwrap();
            fs::write(f.join(TORCH), "legacy").unwrap();
        },
        "not a zip file",
    );
}

#[test]
fn torch_files_cut_anywhere_are_refused() {
    let whole = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/merge/forms/bin/pytorch_model.bin");
    let whole = fs::read(whole).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(TORCH);
    fs::write(&path, &whole).unwrap();
    Checkpoint::open(folder.path()).unwrap();
    for cut in (0..whole.len()).step_by(97) {
        assert!(torch::entries(&path, &whole[..cut], 0).is_err(), "{cut}");
    }
    // Any one byte changed: an answer or an error, never a panic, and never a range outside the file.
    for at in (0..whole.len()).step_by(7) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x81;
        for entry in torch::entries(&path, &bytes, 0).unwrap_or_default() {
            assert!(entry.offset + entry.bytes <= bytes.len());
        }
    }
}

#[test]
fn lists_what_defines_the_model_as_it_is_digested() {
    let (_parent, folder) = sharded();
    fs::write(folder.join("notes.txt"), "x").unwrap();
    fs::write(folder.join("tokenizer.json"), "{}").unwrap();
    let model = Checkpoint::open(&folder).unwrap();
    assert_eq!(model.files(), ["config.json", FIRST, SECOND, SAFETENSORS_INDEX, "tokenizer.json"]);
    // What pins a run must be what a worker reads.
    let digests = common::files::digest_model("base", &folder).unwrap();
    let named: Vec<String> = model.files().iter().map(|f| format!("models/base/{f}")).collect();
    assert_eq!(digests.iter().map(|d| d.name.clone()).collect::<Vec<_>>(), named);
    let content = fs::read(folder.join(FIRST)).unwrap();
    assert_eq!(digests[1].digest, common::digest::Digest::of(&content));
    assert_eq!(digests[1].bytes, content.len() as u64);
    assert_eq!(model.config_json().unwrap(), "{}");
    assert!(matches!(model.bytes("z"), Err(Error::NoTensor { .. })));
}

#[test]
fn a_model_may_be_copied_beside() {
    let (parent, folder) = sharded();
    fs::write(folder.join("modeling.py"), "pass").unwrap();
    let out = parent.path().join("copy");
    let model = Checkpoint::open(&folder).unwrap();
    let writer = Writer::create(&out).unwrap();
    writer.copy_beside(&model).unwrap();
    writer.tensors(&[], SHARD_BYTES, |_, _| -> Result<()> { Ok(()) }).unwrap();
    writer.finish().unwrap();
    assert!(out.join("modeling.py").is_file() && out.join("config.json").is_file());
    assert_eq!(Checkpoint::open(&out).unwrap().names().len(), 0);
}

#[test]
fn a_tensor_of_a_rare_type_is_in_nobodys_way() {
    let rare = [
        ("u16", Dtype::U16),
        ("u32", Dtype::U32),
        ("u64", Dtype::U64),
        ("e4m3", Dtype::F8E4M3),
        ("e5m2", Dtype::F8E5M2),
        ("f4", Dtype::F4),
        ("c64", Dtype::C64),
    ];
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("model");
    let mut specs = vec![Spec { name: "a".into(), dtype: Dtype::F32, shape: vec![1] }];
    specs.extend(rare.map(|(name, dtype)| Spec { name: name.into(), dtype, shape: vec![2] }));
    let writer = Writer::create(&folder).unwrap();
    let fill = |spec: &Spec, out: &mut Vec<u8>| -> Result<()> {
        out.resize(dtype::size_bytes(&spec.shape, spec.dtype).unwrap().1, 7);
        Ok(())
    };
    writer.tensors(&specs, SHARD_BYTES, fill).unwrap();
    writer.finish().unwrap();
    // What is written is what the safetensors crate reads.
    let written = fs::read(folder.join(SAFETENSORS)).unwrap();
    let theirs = ::safetensors::SafeTensors::deserialize(&written).unwrap();
    let model = Checkpoint::open(&folder).unwrap();
    for (name, dtype) in rare {
        assert_eq!(model.info(name).unwrap().dtype, dtype);
        assert_eq!(model.bytes(name).unwrap(), theirs.tensor(name).unwrap().data());
    }
    let cpu = candle_core::Device::Cpu;
    assert!(model.tensor("a", &cpu).is_ok() && model.tensor("u32", &cpu).is_ok());
    let e = model.tensor("e4m3", &cpu).unwrap_err().to_string();
    assert!(e.contains("tensor e4m3 has dtype F8_E4M3"), "{e}");
}
