use super::*;
use crate::image::{decode as decode_file, decode_bytes};
use image::{GrayImage, ImageBuffer, Luma, LumaA, Rgba};
use std::path::Path;

fn encode(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    picture.write_to(&mut out, format).expect("encoding to memory");
    out.into_inner()
}

#[test]
fn every_png_kind_becomes_rgb8() {
    let grey16: ImageBuffer<Luma<u16>, Vec<u16>> = ImageBuffer::from_pixel(3, 2, Luma([257 * 77]));
    let alpha: ImageBuffer<Rgba<u8>, Vec<u8>> = ImageBuffer::from_pixel(3, 2, Rgba([1, 2, 3, 9]));
    let grey_alpha: ImageBuffer<LumaA<u8>, Vec<u8>> = ImageBuffer::from_pixel(3, 2, LumaA([5, 0]));
    for (picture, expected) in [
        (DynamicImage::ImageLuma8(GrayImage::from_pixel(3, 2, Luma([9]))), [9, 9, 9]),
        (DynamicImage::ImageLuma16(grey16), [77, 77, 77]),
        (DynamicImage::ImageRgba8(alpha), [1, 2, 3]),
        (DynamicImage::ImageLumaA8(grey_alpha), [5, 5, 5]),
    ] {
        let got = decode_bytes(&encode(&picture, ImageFormat::Png), "a.png", None, &Limits::default())
            .expect("a valid picture");
        assert_eq!((got.width(), got.height()), (3, 2));
        assert_eq!(&got.data()[..3], &expected);
    }
}

#[test]
fn sixteen_bit_grey_is_scaled_by_the_bits_it_uses() {
    for (largest, bits) in
        [(255u16, 8u32), (256, 10), (1023, 10), (4095, 12), (4096, 14), (16_384, 16), (65_535, 16)]
    {
        assert_eq!(white(largest), (1u64 << bits) - 1, "{largest}");
    }
    let picture: ImageBuffer<Luma<u16>, Vec<u16>> =
        ImageBuffer::from_vec(3, 1, vec![0, 2048, 4095]).expect("sizes agree");
    let bytes = encode(&DynamicImage::ImageLuma16(picture), ImageFormat::Png);
    let got = decode_bytes(&bytes, "a.png", None, &Limits::default()).expect("a valid picture");
    assert_eq!(got.data(), [0, 0, 0, 128, 128, 128, 255, 255, 255]);
}

#[test]
fn jpeg_is_read_and_limits_name_the_file() {
    let picture = DynamicImage::ImageLuma8(GrayImage::from_pixel(40, 20, Luma([128])));
    let bytes = encode(&picture, ImageFormat::Jpeg);
    assert!(decode_bytes(&bytes, "a.jpg", None, &Limits::default()).is_ok());
    let small = Limits { side: 30, ..Limits::default() };
    let error = decode_bytes(&bytes, "a.jpg", None, &small).expect_err("too wide").to_string();
    assert!(error.contains("a.jpg") && error.contains("40 x 20"), "{error}");
    let few = Limits { file_bytes: 10, ..Limits::default() };
    assert!(matches!(decode_bytes(&bytes, "a.jpg", None, &few), Err(Error::TooManyBytes { .. })));
    let little = Limits { decoder_bytes: 1000, ..Limits::default() };
    assert!(matches!(decode_bytes(&bytes, "a.jpg", None, &little), Err(Error::Decode { .. })));
}

#[test]
fn damaged_and_foreign_files_are_refused() {
    let picture = DynamicImage::ImageLuma8(GrayImage::from_pixel(40, 20, Luma([128])));
    let bytes = encode(&picture, ImageFormat::Png);
    for data in [&bytes[..bytes.len() / 2], b"GIF89a".as_slice(), b"", b"text"] {
        assert!(matches!(decode_bytes(data, "x", None, &Limits::default()), Err(Error::Decode { .. })));
    }
    let missing = decode_file(Path::new("/nonexistent.png"), None, &Limits::default());
    assert!(matches!(missing, Err(Error::Read { .. })));
}
