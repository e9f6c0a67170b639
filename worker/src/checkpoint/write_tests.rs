use super::*;

fn specs() -> Vec<Spec> {
    let spec = |name: &str, dtype, shape: &[usize]| Spec { name: name.into(), dtype, shape: shape.into() };
    vec![spec("a", Dtype::F16, &[3]), spec("b", Dtype::F32, &[2]), spec("c", Dtype::Bf16, &[2, 2])]
}

fn fill(spec: &Spec, out: &mut Vec<u8>) -> Result<()> {
    out.resize(size_bytes(&spec.shape, spec.dtype).unwrap().1, spec.name.as_bytes()[0]);
    Ok(())
}

#[test]
fn writes_one_file_or_shards_that_read_back() {
    for (limit, files) in [(SHARD_BYTES, 1), (14, 2), (1, 3)] {
        let parent = tempfile::tempdir().unwrap();
        let out = parent.path().join("out");
        let writer = Writer::create(&out).unwrap();
        writer.tensors(&specs(), limit, fill).unwrap();
        assert!(!out.exists());
        writer.finish().unwrap();
        let model = Checkpoint::open(&out).unwrap();
        let weights = model.files().iter().filter(|f| f.ends_with(".safetensors")).count();
        assert_eq!(weights, files);
        assert_eq!(model.names().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(model.bytes("c").unwrap(), [b'c'; 8]);
        assert_eq!(model.info("b").unwrap().shape, [2]);
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
    }
}

#[test]
fn pieces_give_the_same_file() {
    let parent = tempfile::tempdir().unwrap();
    let [whole, pieces] = ["whole", "pieces"].map(|name| parent.path().join(name));
    // The largest first, as pieces are written.
    let mut specs = specs();
    specs.rotate_left(1);
    let writer = Writer::create(&whole).unwrap();
    writer.tensors(&specs, SHARD_BYTES, fill).unwrap();
    writer.finish().unwrap();
    let writer = Writer::create(&pieces).unwrap();
    let by_three = |spec: &Spec, pieces: &mut Pieces<'_>| -> Result<()> {
        let mut all = Vec::new();
        fill(spec, &mut all)?;
        all.chunks(3).for_each(|some| pieces.put(some.len(), |room| room.copy_from_slice(some)));
        Ok(())
    };
    writer.pieces(&specs, SHARD_BYTES, 3, by_three).unwrap();
    writer.finish().unwrap();
    let content = |folder: &Path| fs::read(folder.join(SAFETENSORS)).unwrap();
    assert_eq!(content(&whole), content(&pieces));
    let writer = Writer::create(&parent.path().join("short")).unwrap();
    let short = |_: &Spec, pieces: &mut Pieces<'_>| -> Result<()> {
        pieces.put(1, |room| room.fill(0));
        Ok(())
    };
    let fault = writer.pieces(&specs, SHARD_BYTES, 3, short).unwrap_err().to_string();
    assert!(fault.contains("1 bytes were produced where 8 belong"), "{fault}");
}

/// As many bytes as the disk takes directly: tensors lie from a page on, the largest first, wider elements before all.
#[test]
fn large_files_have_pages_of_data() {
    let parent = tempfile::tempdir().unwrap();
    let spec = |name: &str, dtype, rows: usize| Spec { name: name.into(), dtype, shape: vec![rows, 1024] };
    let specs = [
        spec("norm", Dtype::Bf16, 1),
        spec("large", Dtype::Bf16, 6000),
        spec("odd", Dtype::Bf16, 4097),
        spec("wide", Dtype::F32, 2),
    ];
    // Numbers that differ from place to place and from tensor to tensor.
    let all = |spec: &Spec| -> Vec<u8> {
        let words = size_bytes(&spec.shape, spec.dtype).unwrap().1 / 4;
        let first = u32::from(spec.name.as_bytes()[0]) << 24;
        (0..words as u32).flat_map(|i| (first | i).to_le_bytes()).collect()
    };
    let out = parent.path().join("out");
    let writer = Writer::create(&out).unwrap();
    let piece = STAGE_BYTES / 4;
    let make = |spec: &Spec, pieces: &mut Pieces<'_>| -> Result<()> {
        all(spec).chunks(piece).for_each(|some| pieces.put(some.len(), |room| room.copy_from_slice(some)));
        Ok(())
    };
    writer.pieces(&specs, SHARD_BYTES, piece, make).unwrap();
    writer.finish().unwrap();
    let file = fs::read(out.join(SAFETENSORS)).unwrap();
    let header = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize + 8;
    assert!(header.is_multiple_of(ALIGNED), "{header}");
    let model = Checkpoint::open(&out).unwrap();
    for spec in &specs {
        assert!(model.bytes(&spec.name).unwrap() == all(spec), "{}", spec.name);
    }
    let mut places: Vec<(usize, &str)> =
        specs.iter().map(|s| (model.bytes(&s.name).unwrap().as_ptr().addr(), s.name.as_str())).collect();
    places.sort();
    let names: Vec<&str> = places.into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, ["wide", "large", "odd", "norm"]);
    // Whole tensors are asked for in the order given.
    let writer = Writer::create(&parent.path().join("whole")).unwrap();
    let mut asked = Vec::new();
    let fill = |spec: &Spec, out: &mut Vec<u8>| -> Result<()> {
        asked.push(spec.name.clone());
        *out = all(spec);
        Ok(())
    };
    writer.tensors(&specs, SHARD_BYTES, fill).unwrap();
    assert_eq!(asked, ["wide", "norm", "large", "odd"]);
}

#[test]
fn a_disk_that_fails_midway_is_told_and_the_rest_is_not_made() {
    let parent = tempfile::tempdir().unwrap();
    let writer = Writer::create(&parent.path().join("out")).unwrap();
    let many: Vec<Spec> =
        (0..20).map(|n| Spec { name: n.to_string(), dtype: Dtype::F16, shape: vec![2] }).collect();
    let mut made = 0;
    let fill = |_: &Spec, pieces: &mut Pieces<'_>| -> Result<()> {
        // This shard may be begun already; the next one has no folder to go to.
        let _ = fs::remove_dir_all(writer.folder());
        pieces.put(4, |room| {
            room.fill(0);
            made += 1;
        });
        Ok(())
    };
    let fault = writer.pieces(&many, 4, 4, fill).unwrap_err().to_string();
    assert!(fault.contains("create") && fault.contains("-of-00020.safetensors"), "{fault}");
    assert!(made < 20, "{made}");
}

#[test]
fn failure_leaves_nothing() {
    let parent = tempfile::tempdir().unwrap();
    let out = parent.path().join("out");
    let writer = Writer::create(&out).unwrap();
    let short = |_: &Spec, out: &mut Vec<u8>| -> Result<()> {
        out.push(1);
        Ok(())
    };
    let fault = writer.tensors(&specs(), SHARD_BYTES, short).unwrap_err().to_string();
    assert!(fault.contains("1 bytes were produced where 8 belong"), "{fault}");
    drop(writer);
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
}

#[test]
fn a_disk_that_is_too_small_is_told_before_anything_is_computed() {
    let parent = tempfile::tempdir().unwrap();
    let writer = Writer::create(&parent.path().join("out")).unwrap();
    let huge = [Spec { name: "a".into(), dtype: Dtype::F32, shape: vec![1 << 58] }];
    let never = |_: &Spec, _: &mut Vec<u8>| -> Result<()> { panic!("there is no room for it") };
    assert!(matches!(writer.tensors(&huge, SHARD_BYTES, never), Err(Error::Space { .. })));
}

#[cfg(target_os = "linux")]
#[test]
fn what_a_killed_writer_left_goes_with_the_next() {
    let parent = tempfile::tempdir().unwrap();
    let left = parent.path().join(".out.4194999999.part");
    fs::create_dir(&left).unwrap();
    fs::write(left.join("model.safetensors"), "half").unwrap();
    let writer = Writer::create(&parent.path().join("out")).unwrap();
    assert!(!left.exists());
    drop(writer);
}

#[test]
fn refuses_to_overwrite() {
    let parent = tempfile::tempdir().unwrap();
    fs::write(parent.path().join("x"), "").unwrap();
    assert!(matches!(Writer::create(parent.path()), Err(Error::OutExists { .. })));
    let file = parent.path().join("x");
    assert!(matches!(Writer::create(&file), Err(Error::OutExists { .. })));
}

#[test]
fn weights_stay_behind() {
    for name in ["config.json", "tokenizer.json", "modeling_bunny_llama.py", "LICENSE", "merges.txt"] {
        assert!(travels(name), "{name}");
    }
    for name in
        ["model.safetensors", "pytorch_model.bin", "model.safetensors.index.json", ".git", "README.md"]
    {
        assert!(!travels(name), "{name}");
    }
}
