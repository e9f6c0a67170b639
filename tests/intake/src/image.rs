//! Pictures, with limits a thousandth of the worker's own, so that what goes past them shows.

use worker::image::{Limits, Preprocess, decode_bytes};

const LIMITS: Limits = Limits { file_bytes: 1 << 20, side: 1024, decoder_bytes: 32 << 20 };

/// A picture that was accepted is within the limits and as large as it says; the first frame, and the only one.
pub fn image(bytes: &[u8]) {
    for frame in [None, Some(1)] {
        let picture = match decode_bytes(bytes, "picture", frame, &LIMITS) {
            Ok(picture) => picture,
            Err(e) => {
                drop(e.to_string());
                continue;
            }
        };
        let (width, height) = (picture.width(), picture.height());
        assert!(width.max(height) <= LIMITS.side as usize, "{width} x {height}");
        assert_eq!(picture.data().len(), width * height * 3);
        if width * height <= 1 << 14 {
            let prepare = Preprocess { pre_resize: None, pad: true, size: 28 };
            let prepared = prepare.apply(&picture).expect("any picture can be prepared");
            assert!(prepared.iter().all(|x| (-1.0..=1.0).contains(x)));
        }
    }
}
