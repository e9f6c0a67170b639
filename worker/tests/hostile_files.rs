//! What files can try against whoever reads them: each is refused by what it says of itself, before memory is taken for it.
//!
//! Every file here is small and claims or unpacks to much, leads elsewhere, or wants to run. How much was held is counted by an
//! allocator. What single readers refuse beside this stands beside them; docs/SECURITY.md lists all of it.

mod counting;
mod hostile;

use counting::held;
use hostile::{dicom, jpeg, pickle, png, zip};
use std::path::{Path, PathBuf};
use worker::checkpoint::Checkpoint;
use worker::generate::TextTokenizer;
use worker::image::{Limits, decode_bytes};
use worker::vlm::family;

const MIB: usize = 1 << 20;
/// What a refusal may hold: the file's own beginning and what its reader keeps beside it.
const LITTLE: usize = 8 * MIB;

/// Refuses a picture; the error, and the bytes that were held meanwhile.
fn refusal(bytes: &[u8], limits: &Limits) -> (String, usize) {
    let (made, held) = held(|| decode_bytes(bytes, "x", None, limits).map(|p| (p.width(), p.height())));
    (made.expect_err("a hostile picture").to_string(), held)
}

#[test]
fn pictures_that_claim_to_be_large_are_refused_by_their_size() {
    let all = Limits::default();
    for (bytes, expected) in [
        (png::claiming(65_000, 65_000, 8, &[]), "65000 x 65000 pixels, the limit is 16384"),
        // Within the sides, but not with all its samples.
        (png::claiming(16_384, 16_384, 16, &[]), "needs 2952790016 bytes, the limit is 2147483648"),
        (jpeg::claiming(65_000, 65_000, 0xC0), "65000 x 65000 pixels, the limit is 16384"),
        (jpeg::claiming(16_000, 16_000, 0xC2), "needs 2816000000 bytes, the limit is 2147483648"),
        (dicom::claiming(65_535, 65_535), "65535 x 65535 pixels, the limit is 16384"),
        (dicom::claiming(16_384, 16_384), "needs 4294967296 bytes to decode, the limit is 2147483648"),
    ] {
        let (refused, held) = refusal(&bytes, &all);
        assert!(bytes.len() < 4096 && refused.contains(expected), "{refused}\ndoes not say: {expected}");
        assert!(held < LITTLE, "{expected}: {held} bytes were held");
    }
}

/// A progressive JPEG is held as coefficients while it is decoded: what was asked for must cover them.
#[test]
fn what_a_picture_takes_stays_within_what_was_allowed() {
    let limits = Limits { decoder_bytes: 64 << 20, ..Limits::default() };
    for (name, bytes) in [
        ("baseline JPEG", jpeg::claiming(2400, 2400, 0xC0)),
        ("progressive JPEG", jpeg::claiming(2400, 2400, 0xC2)),
        ("sixteen-bit PNG", png::claiming(2400, 2400, 16, &[])),
        ("eight-bit PNG", png::claiming(3200, 3200, 8, &[])),
    ] {
        // Nothing of the pixels is there. Whether that is grey or an error is the decoder's to say.
        let (_, held) = held(|| decode_bytes(&bytes, "x", None, &limits).is_ok());
        assert!(held < 64 * MIB + LITTLE, "{name}: {held} bytes were held");
        println!("{name}: {} MiB of 64", held / MIB);
    }
}

/// A gigabyte of zeros as a megabyte, where a reader may want to unpack it.
#[test]
fn what_unpacks_without_end_is_not_unpacked() {
    let bomb = hostile::zeros(1024);
    assert!(bomb.len() < 2 * MIB);
    for (kind, before) in [(b"iCCP", &b"p\0\0"[..]), (b"zTXt", b"k\0\0"), (b"iTXt", b"k\0\x01\0\0\0")] {
        let chunk = png::chunk(kind, &[before, &bomb].concat());
        // Whether such a chunk is an error is the decoder's to say; it is not looked at here.
        let bytes = png::claiming(8, 8, 8, &chunk);
        let (_, held) = held(|| decode_bytes(&bytes, "x.png", None, &Limits::default()).is_ok());
        // The decoder's share for profiles and texts, doubled where a buffer grows.
        assert!(held < 200 * MIB, "{}: {held} bytes were held", String::from_utf8_lossy(kind));
    }
    // Pixels are unpacked as far as there are pixels.
    let bytes = png::with_pixels(8, 8, 8, &bomb);
    let (_, held_by_pixels) = held(|| decode_bytes(&bytes, "x.png", None, &Limits::default()).is_ok());
    assert!(held_by_pixels < LITTLE, "IDAT: {held_by_pixels} bytes were held");
    // A deflated data set streams by, up to the limit, and is never held.
    let limits = Limits { decoder_bytes: 64 << 20, ..Limits::default() };
    let (refused, held) = refusal(&dicom::deflated(1024), &limits);
    assert!(refused.contains("no pixel data"), "{refused}");
    assert!(held < LITTLE, "DICOM: {held} bytes were held");
}

/// A model folder with these files.
fn model(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    files.iter().for_each(|(name, content)| std::fs::write(folder.path().join(name), content).unwrap());
    folder
}

fn opened(files: &[(&str, &[u8])]) -> Result<Checkpoint, String> {
    let folder = model(files);
    let (opened, held) = held(|| Checkpoint::open(folder.path()));
    assert!(held < LITTLE, "{held} bytes were held");
    opened.map_err(|e| e.to_string())
}

fn safetensors(header: &str, data: usize) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; data]].concat()
}

#[test]
fn safetensors_headers_that_lie_are_refused() {
    let tensor = |name: &str, shape: &str, offsets: &str| {
        format!(r#""{name}":{{"dtype":"F16","shape":{shape},"data_offsets":{offsets}}}"#)
    };
    let of = |tensors: &[String], data: usize| safetensors(&format!("{{{}}}", tensors.join(",")), data);
    let deep = format!(r#"{{"__metadata__":{}"#, "[".repeat(500_000));
    for (content, expected) in [
        ([&(1u64 << 60).to_le_bytes()[..], b"{}"].concat(), "claims 1152921504606846976 bytes where 2 are"),
        (of(&[tensor("a", "[2]", "[0,4]"), tensor("b", "[2]", "[2,6]")], 6), "was expected"),
        (of(&[tensor("a", "[2]", "[0,4]"), tensor("b", "[2]", "[0,4]")], 4), "was expected"),
        (of(&[tensor("a", "[2]", "[4611686018427387904,4611686018427387908]")], 4), "leave the 4 bytes"),
        (of(&[tensor("a", "[4294967296,4294967296,4294967296]", "[0,4]")], 4), "overflows"),
        (of(&[tensor("a", "[1099511627776]", "[0,4]")], 4), "takes 2199023255552 bytes, stored are 4"),
        (safetensors(&deep, 0), "not the expected JSON"),
    ] {
        let refused = opened(&[("model.safetensors", &content)]).unwrap_err();
        assert!(refused.contains("model.safetensors") && refused.contains(expected), "{refused}");
    }
}

#[test]
fn an_index_names_files_beside_it_and_nothing_else() {
    for elsewhere in ["../../etc/passwd", "/etc/passwd", "../x.safetensors", "x/../../y.safetensors"] {
        let index = format!(r#"{{"weight_map":{{"a":"{elsewhere}"}}}}"#);
        let refused = opened(&[("model.safetensors.index.json", index.as_bytes())]).unwrap_err();
        assert!(refused.contains("weight_map.a") && refused.contains("beside the index"), "{refused}");
    }
    let deep = format!(r#"{{"weight_map":{}"#, r#"{"a":"#.repeat(200_000));
    let refused = opened(&[("model.safetensors.index.json", deep.as_bytes())]).unwrap_err();
    assert!(refused.contains("weight_map"), "{refused}");
}

/// `os.system("touch FILE")`, as pickle writes an object whose `__reduce__` returns it, in each way of naming it.
#[test]
fn a_pickle_that_runs_code_is_refused_by_what_it_asks_for_and_runs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let ran = folder.path().join("ran");
    let command = format!("touch {}", ran.display());
    for (code, asked) in pickle::running(&command) {
        let file = zip::stored(&[("archive/data.pkl", &code), ("archive/version", b"3\n")]);
        let refused = opened(&[("pytorch_model.bin", &file)]).unwrap_err();
        let expected = format!("the pickle asks for {asked}");
        assert!(refused.contains("pytorch_model.bin") && refused.contains(&expected), "{refused}");
        assert!(!ran.exists());
    }
}

#[test]
fn names_within_a_torch_file_lead_nowhere() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/merge/forms/bin/pytorch_model.bin");
    let sound = std::fs::read(path).unwrap();
    let (root, elsewhere) = (zip::root(&sound), "../../../../../../etc/");
    let renamed = zip::renamed(&sound, &root, &elsewhere[elsewhere.len().saturating_sub(root.len())..]);
    assert_ne!(sound, renamed);
    // Names are looked up among the file's own entries and are no paths: the tensors are the same.
    let (sound, renamed) = (
        opened(&[("pytorch_model.bin", &sound)]).unwrap(),
        opened(&[("pytorch_model.bin", &renamed)]).unwrap(),
    );
    assert!(sound.names().len() > 0);
    for name in sound.names() {
        assert_eq!(sound.elements(name).unwrap(), renamed.elements(name).unwrap());
    }
    // A deflated entry, such as one that unpacks to gigabytes, is not unpacked.
    let deflated = zip::marked_deflated(&zip::stored(&[("archive/data.pkl", b"\x80\x02}.")]));
    let refused = opened(&[("pytorch_model.bin", &deflated)]).unwrap_err();
    assert!(refused.contains("archive/data.pkl") && refused.contains("compressed"), "{refused}");
}

/// A file of so many bytes that takes none on the disk.
fn sparse(folder: &Path, name: &str, bytes: u64) -> PathBuf {
    let path = folder.join(name);
    std::fs::File::create(&path).unwrap().set_len(bytes).unwrap();
    path
}

#[test]
fn settings_and_tokenizers_have_a_largest_size_and_depth() {
    let folder = model(&[("model.safetensors", &safetensors("{}", 0))]);
    let gigabyte = 1 << 30;
    let tokenizer = sparse(folder.path(), "tokenizer.json", gigabyte);
    sparse(folder.path(), "config.json", gigabyte);
    let (refused, held_by_tokenizer) = held(|| TextTokenizer::from_file(&tokenizer).unwrap_err().to_string());
    assert!(refused.contains("tokenizer.json") && refused.contains("limit is 268435456"), "{refused}");
    let (refused, held_by_config) = held(|| family::open(folder.path()).unwrap_err().to_string());
    assert!(refused.contains("config.json") && refused.contains("limit is 67108864"), "{refused}");
    let model = Checkpoint::open(folder.path()).unwrap();
    assert!(model.config_json().unwrap_err().to_string().contains("limit is 67108864"));
    assert!(held_by_tokenizer.max(held_by_config) < LITTLE);

    for opening in ["[", r#"{"a":"#] {
        let deep = opening.repeat(300_000);
        std::fs::write(&tokenizer, &deep).unwrap();
        std::fs::write(folder.path().join("config.json"), &deep).unwrap();
        let refused = TextTokenizer::from_file(&tokenizer).unwrap_err().to_string();
        assert!(refused.contains("tokenizer.json"), "{refused}");
        let refused = family::open(folder.path()).unwrap_err().to_string();
        assert!(refused.contains("config.json"), "{refused}");
    }
}

/// What an image's name leads to is read as an image or not at all, and never waited for.
#[cfg(unix)]
#[test]
fn what_is_no_regular_file_is_not_opened() {
    let folder = tempfile::tempdir().unwrap();
    let (pipe, zero) = (folder.path().join("pipe.png"), folder.path().join("zero.png"));
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    std::os::unix::fs::symlink("/dev/zero", &zero).unwrap();
    for path in [&pipe, &zero] {
        let refused = worker::image::decode(path, None, &Limits::default()).unwrap_err().to_string();
        assert!(refused.contains("not a regular file"), "{refused}");
        let refused = common::files::digest_file("x".into(), path).unwrap_err().to_string();
        assert!(refused.contains("not a regular file"), "{refused}");
    }
    // Nor is a dataset, a lexicon or a dictionary.
    let dataset = |file: &Path| common::run::DatasetPlan {
        file: file.display().to_string(),
        images: String::new(),
        columns: common::dataset::Columns::default(),
        part: common::report::Part::Whole,
        without_part: common::report::MissingPart::Empty,
        empty_reference: common::run::EmptyReference::Skip,
        frame: None,
    };
    let scorer = |lexicon, tokenizer: String| {
        score::Scorer::new(score::Settings {
            lexicon,
            tokenizer: tokenizer.into(),
            ..score::Settings::default()
        })
    };
    use score::term::LexiconChoice;
    for path in [&pipe, &zero] {
        let refused = worker::data::read_references(&dataset(path)).unwrap_err();
        assert!(format!("{refused:#}").contains("not a regular file"), "{refused:#}");
        for choice in [LexiconChoice::Path(path.clone()), LexiconChoice::Extend(path.clone())] {
            let refused = scorer(choice, "unidic-lite".into()).unwrap_err();
            assert!(refused.to_string().contains("not a regular file"), "{refused}");
        }
        let refused = scorer(LexiconChoice::Default, path.display().to_string()).unwrap_err().to_string();
        assert!(refused.contains("not a regular file"), "{refused}");
    }
    let large = sparse(folder.path(), "large", (256 << 20) + 1);
    let refused = worker::data::read_references(&dataset(&large)).unwrap_err();
    assert!(format!("{refused:#}").contains("the limit is 268435456"), "{refused:#}");
    let refused = scorer(LexiconChoice::Path(large.clone()), "unidic-lite".into()).unwrap_err().to_string();
    assert!(refused.contains("the limit is 16777216"), "{refused}");
    // An image that cannot be read is a sample's, whatever its file is called.
    let sample =
        common::dataset::Reference { id: "taro".into(), image: "zero.png".into(), text: String::new() };
    let mut plan = dataset(&pipe);
    plan.images = folder.path().display().to_string();
    let refused = worker::data::read_image(&plan, 2, &sample).unwrap_err().to_string();
    assert!(refused.contains("image of sample 3") && !refused.contains("zero"), "{refused}");
    let refused = common::files::digest_dataset(
        &common::run::DatasetPlan { file: large.display().to_string(), ..plan.clone() },
        &[sample],
    );
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("image of sample 1") && !refused.contains("zero"), "{refused}");
    // A link to a text of somebody's: an error that quotes nothing of it.
    let (secret, link) = (folder.path().join("secret"), folder.path().join("a.png"));
    std::fs::write(&secret, "a private text").unwrap();
    std::os::unix::fs::symlink(&secret, &link).unwrap();
    let refused = worker::image::decode(&link, None, &Limits::default()).unwrap_err().to_string();
    assert!(refused.contains("neither PNG, JPEG nor DICOM") && !refused.contains("private"), "{refused}");
}
