use super::*;

fn refusal(pickle: &[u8]) -> String {
    state_dict(Path::new("m.bin"), pickle).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn refuses_anything_but_tensors() {
    // os.system("true"), as pickle.dumps writes a __reduce__ that returns it.
    let attack = b"\x80\x02cposix\nsystem\nq\x00X\x04\x00\x00\x00trueq\x01\x85q\x02Rq\x03.";
    assert!(refusal(attack).contains("the pickle asks for posix.system"));
    for (module, name) in [
        ("builtins", "eval"),
        ("__builtin__", "exec"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("torch.hub", "load"),
        ("torch", "load"),
        ("torch._utils", "_rebuild_tensor"),
        ("torch._utils", "_rebuild_from_type_v2"),
        ("torch.nn.modules.linear", "Linear"),
        ("collections", "defaultdict"),
        ("codecs", "encode"),
        // A part of a known name is not a known name.
        ("collections", "OrderedDict.fromkeys"),
        ("torch._utils", "_rebuild_tensor_v2.__globals__"),
    ] {
        let expected = format!("the pickle asks for {module}.{name}");
        let global = format!("\x02c{module}\n{name}\n.");
        let (m, n) = (module.len() as u8, name.len() as u8);
        let mut stacked = vec![0x80, 4, 0x8c, m];
        stacked.extend(module.bytes());
        stacked.extend([0x8c, n]);
        stacked.extend(name.bytes());
        stacked.extend([0x93, b'.']);
        for pickle in [[&[0x80], global.as_bytes()].concat(), stacked] {
            assert!(refusal(&pickle).contains(&expected), "{}", refusal(&pickle));
        }
    }
    // The old instruction that names and calls at once, and the ones that create objects of registered classes.
    assert!(refusal(b"\x80\x02(X\x04\x00\x00\x00trueios\nsystem\n.").contains("asks for os.system"));
    for code in [0x81, 0x82, 0x83, 0x84, 0x92, b'o'] {
        assert!(refusal(&[0x80, 2, b')', b')', b')', code, 0, 0, 0, 0, b'.']).contains("is not used by"));
    }
    // Known names do only what they are known for.
    assert!(refusal(b"\x80\x02ctorch\nFloatStorage\nK\x01\x85R.").contains("in an unexpected way"));
    assert!(refusal(b"\x80\x02ccollections\nOrderedDict\n]\x85R.").contains("in an unexpected way"));
    assert!(refusal(b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.").contains("unexpected arguments"));
    assert!(refusal(b"\x80\x02ctorch._utils\n_rebuild_parameter\n)R.").contains("without a tensor"));
    assert!(refusal(b"\x80\x02X\x01\x00\x00\x00aQ.").contains("no storage"));
    assert!(refusal(b"\x80\x02K\x01.").contains("other than a dictionary"));
    assert!(refusal(b"\x80\x02}X\x01\x00\x00\x00aK\x01s.").contains("entry a is not a tensor"));
}

#[test]
fn survives_nonsense() {
    for pickle in [
        &b""[..],
        b"\x80",
        b"R.",
        b"t.",
        b"q\x00.",
        b"h\x00.",
        b"(0.",
        b"X\xff\xff\xff\xff",
        b"cab",
        b"\x8a\xff.",
    ] {
        assert!(refusal(pickle).contains("pickle, byte"), "{pickle:?}");
    }
    // A tuple nested a million deep costs neither stack nor time.
    let mut deep = b"\x80\x02)".to_vec();
    deep.extend(vec![0x85; 1_000_000]);
    deep.push(b'.');
    assert!(refusal(&deep).contains("other than a dictionary"));
}
