//! JPEG (ISO 10918-1).

use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageEncoder};

/// A picture of eight by eight pixels in colour that claims to be of another size, as baseline (0xC0) or progressive (0xC2).
pub fn claiming(width: u16, height: u16, frame: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    JpegEncoder::new(&mut bytes).write_image(&[90; 8 * 8 * 3], 8, 8, ExtendedColorType::Rgb8).unwrap();
    let at = |marker: u8, bytes: &[u8]| bytes.windows(2).position(|w| w == [0xFF, marker]).unwrap();
    let header = at(0xC0, &bytes);
    bytes[header + 1] = frame;
    bytes[header + 5..][..2].copy_from_slice(&height.to_be_bytes());
    bytes[header + 7..][..2].copy_from_slice(&width.to_be_bytes());
    if frame == 0xC2 {
        // Its scan is of the first coefficients: the spectral selection ends where it begins.
        let scan = at(0xDA, &bytes);
        let components = usize::from(bytes[scan + 4]);
        bytes[scan + 5 + 2 * components..][..3].copy_from_slice(&[0, 0, 0]);
    }
    bytes
}
