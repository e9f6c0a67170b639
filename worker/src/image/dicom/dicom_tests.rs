use std::io::Write;
use std::sync::{Arc, LazyLock, Mutex};

use dicom_core::Tag;
use proptest::prelude::*;

use super::header::{Header, Scope};
use super::*;
use crate::image::decode_bytes;

/// What the golden files hold of their invented patient.
const PATIENT: [&str; 3] = ["ZZPATIENT", "19450815", "ZZPRIVATE"];

const LIMITS: Limits = Limits { file_bytes: 1 << 20, side: 256, decoder_bytes: 8 << 20 };

/// Every committed DICOM file.
static FILES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/images");
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .expect("the golden files")
        .map(|entry| entry.expect("a file").path())
        .filter(|path| path.extension().is_some_and(|e| e == "dcm"))
        .collect();
    paths.sort();
    assert!(paths.len() > 60);
    paths.iter().map(|path| std::fs::read(path).expect("a file")).collect()
});

fn holds_patient(text: &str) -> bool {
    PATIENT.iter().any(|part| text.contains(part))
}

/// Decodes, and checks that nothing of the patient can be seen in what comes back.
fn discreet(bytes: &[u8], frame: Option<u32>) {
    if let Err(error) = decode_bytes(bytes, "x.dcm", frame, &LIMITS) {
        let text = format!("{error} {error:?}");
        assert!(!holds_patient(&text), "{text}");
    }
}

#[test]
fn every_prefix_of_a_file_is_refused_or_read() {
    for bytes in FILES.iter() {
        for length in (0..bytes.len()).step_by(23) {
            discreet(&bytes[..length], Some(1));
        }
    }
}

#[test]
fn nothing_of_the_patient_is_logged() {
    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);
    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("not poisoned").write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let sink = Sink::default();
    let writer = sink.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, || {
        tracing::trace!("the sink works");
        let hiding = FILES.iter().filter(|bytes| holds_patient(&String::from_utf8_lossy(bytes))).count();
        assert!(hiding > 60, "{hiding} files have a patient to hide");
        for bytes in FILES.iter() {
            for length in [bytes.len(), bytes.len() / 2, bytes.len() - 3, 700, 400] {
                discreet(&bytes[..length.min(bytes.len())], Some(1));
            }
        }
    });
    let log = String::from_utf8(sink.0.lock().expect("not poisoned").clone()).expect("text");
    assert!(log.contains("the sink works"));
    assert!(!holds_patient(&log), "{log}");
}

#[test]
fn only_what_draws_the_picture_is_read() {
    for scope in [Scope::Image, Scope::ModalityLut, Scope::VoiLut, Scope::Frame] {
        for group in (0..=0xFFFF).filter(|g| ![0x0028, 0x2050].contains(g)) {
            for element in [0x0000, 0x0010, 0x0020, 0x0030, 0x1000, 0x1010, 0x1050, 0x1056, 0x3006, 0x4000] {
                assert_eq!(Header::longest(scope, Tag(group, element)), None);
            }
        }
        let read = (0..=0xFFFF).filter(|&e| Header::longest(scope, Tag(0x0028, e)).is_some()).count();
        assert!(read <= 26, "{read} elements of group 0028 in {scope:?}");
    }
}

/// Explicit VR, little endian: one element with a sixteen-bit length.
fn element(group: u16, number: u16, vr: &[u8; 2], value: &[u8]) -> Vec<u8> {
    let mut bytes = [group.to_le_bytes(), number.to_le_bytes()].concat();
    bytes.extend_from_slice(vr);
    bytes.extend_from_slice(&(value.len() as u16).to_le_bytes());
    bytes.extend_from_slice(value);
    bytes
}

/// An image of eight bits without its pixel data.
fn start_of(rows: u16, columns: u16) -> Vec<u8> {
    let mut bytes = vec![0; 128];
    bytes.extend_from_slice(b"DICM");
    bytes.extend(element(0x0002, 0x0010, b"UI", b"1.2.840.10008.1.2.1\0"));
    for (number, value) in
        [(0x0002, 1), (0x0010, rows), (0x0011, columns), (0x0100, 8), (0x0101, 8), (0x0102, 7)]
    {
        bytes.extend(element(0x0028, number, b"US", &u16::to_le_bytes(value)));
        if number == 0x0002 {
            bytes.extend(element(0x0028, 0x0004, b"CS", b"MONOCHROME2 "));
        }
    }
    bytes
}

fn refusal(bytes: &[u8], frame: Option<u32>) -> String {
    decode_bytes(bytes, "x.dcm", frame, &LIMITS).expect_err("refused").to_string()
}

#[test]
fn lengths_that_lie_take_no_memory() {
    let pixels = |length: u32| {
        let mut bytes = start_of(4, 4);
        bytes.extend_from_slice(&[0xE0, 0x7F, 0x10, 0x00, b'O', b'W', 0, 0]);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes
    };
    let mut whole = pixels(16);
    whole.extend(0..16);
    assert!(decode_bytes(&whole, "x.dcm", None, &LIMITS).is_ok());
    assert!(refusal(&pixels(16), None).contains("ends too early"));
    assert!(refusal(&pixels(0xFFFF_FFF0), None).contains("ends too early"));
    assert!(refusal(&pixels(8), None).contains("8 bytes, too few"));
    assert!(refusal(&pixels(u32::MAX), None).contains("packed"));
    let mut table = start_of(4, 4);
    table.extend_from_slice(&[0x28, 0, 0x01, 0x12, b'O', b'W', 0, 0, 0xF0, 0xFF, 0xFF, 0x7F]);
    assert!(refusal(&table, None).contains("the limit is"));
    assert!(refusal(&start_of(4, 4), None).contains("no pixel data"));
}

#[test]
fn sizes_are_refused_before_pixels_are_read() {
    let with_pixels = |mut bytes: Vec<u8>| {
        bytes.extend_from_slice(&[0xE0, 0x7F, 0x10, 0x00, b'O', b'W', 0, 0, 0, 0, 0, 0]);
        refusal(&bytes, None)
    };
    assert!(with_pixels(start_of(65_535, 4)).contains("4 x 65535 pixels"));
    assert!(with_pixels(start_of(0, 4)).contains("is 0"));
    let mut frames = start_of(4, 4);
    frames.extend(element(0x0028, 0x0008, b"IS", b"99999999999 "));
    assert!(with_pixels(frames).contains("not a whole number"));
    let mut frames = start_of(4, 4);
    frames.extend(element(0x0028, 0x0008, b"IS", b"4000000000"));
    assert!(with_pixels(frames).contains("holds 4000000000 frames"));
    let mut allocated = start_of(4, 4);
    allocated.extend(element(0x0028, 0x0100, b"US", &[32, 0]));
    assert!(with_pixels(allocated).contains("Bits Allocated is 32"));
    let mut stored = start_of(4, 4);
    stored.extend(element(0x0028, 0x0101, b"US", &[9, 0]));
    assert!(with_pixels(stored).contains("do not fit"));
}

#[test]
fn sequences_that_do_not_nest_are_refused() {
    // A sequence of undefined length, nested in itself without end.
    let mut deep = start_of(4, 4);
    for _ in 0..1000 {
        deep.extend_from_slice(&[0x40, 0, 0x75, 0x02, b'S', b'Q', 0, 0, 0xFF, 0xFF, 0xFF, 0xFF]);
        deep.extend_from_slice(&[0xFE, 0xFF, 0x00, 0xE0, 0xFF, 0xFF, 0xFF, 0xFF]);
    }
    assert!(refusal(&deep, None).contains("nested too deeply"));
    for delimiter in [0x0D, 0xDD] {
        let mut stray = start_of(4, 4);
        for _ in 0..3 {
            stray.extend_from_slice(&[0xFE, 0xFF, delimiter, 0xE0, 0, 0, 0, 0]);
        }
        stray.extend_from_slice(&[0xFE, 0xFF, 0x00, 0xE0, 8, 0, 0, 0]);
        let text = refusal(&stray, None);
        assert!(text.contains("damaged") || text.contains("no pixel data"), "{text}");
    }
}

proptest! {
    /// Any file with any bytes changed: a picture or an error that names the file, and never the patient.
    #[test]
    fn damage_is_survived(
        file in 0usize..10_000,
        changes in prop::collection::vec((any::<u32>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<u16>()),
        frame in prop::option::of(1u32..4),
    ) {
        let mut bytes = FILES[file % FILES.len()].clone();
        let length = bytes.len();
        for (at, byte) in changes {
            // What precedes the data set holds nothing.
            let at = 128 + at as usize % length.saturating_sub(128).max(1);
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
        }
        if let Some(cut) = cut {
            bytes.truncate(usize::from(cut) % length);
        }
        discreet(&bytes, frame);
    }
}
