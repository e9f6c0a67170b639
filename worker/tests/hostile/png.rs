//! PNG (ISO 15948): a signature, then chunks with their checksums.

use flate2::Crc;

const SIGNATURE: [u8; 8] = [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1A, b'\n'];

/// One chunk.
pub fn chunk(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let named = [kind, content].concat();
    let mut crc = Crc::new();
    crc.update(&named);
    [&(content.len() as u32).to_be_bytes()[..], &named, &crc.sum().to_be_bytes()].concat()
}

/// A picture that claims a size, with RGB samples of 8 bits or RGBA samples of 16, other chunks, and no pixels.
pub fn claiming(width: u32, height: u32, bits: u8, chunks: &[u8]) -> Vec<u8> {
    let colour = if bits == 16 { 6 } else { 2 };
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[bits, colour, 0, 0, 0]].concat();
    let pixels = [0x78, 0xDA, 0x03, 0x00, 0, 0, 0, 1];
    [&SIGNATURE[..], &chunk(b"IHDR", &header), chunks, &chunk(b"IDAT", &pixels), &chunk(b"IEND", &[])]
        .concat()
}

/// A picture of that size whose pixels are this zlib stream.
pub fn with_pixels(width: u32, height: u32, bits: u8, stream: &[u8]) -> Vec<u8> {
    claiming(width, height, bits, &chunk(b"IDAT", stream))
}
