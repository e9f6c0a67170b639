//! Files that are small and mean harm, byte by byte.

pub mod dicom;
pub mod jpeg;
pub mod pickle;
pub mod png;
pub mod zip;

use flate2::{Compress, Compression, FlushCompress};

/// A deflate stream of so many MiB of zeros, without its beginning and end: each MiB is a block that begins and ends with a
/// byte and looks back on no other, so that all are the same.
fn blocks(mebibytes: usize) -> Vec<u8> {
    let (mut deflater, zeros) = (Compress::new(Compression::best(), false), vec![0; 1 << 20]);
    let mut block = Vec::with_capacity(1 << 16);
    deflater.compress_vec(&zeros, &mut block, FlushCompress::Full).unwrap();
    assert_eq!(deflater.total_in(), zeros.len() as u64);
    block.repeat(mebibytes)
}

/// The same as a zlib stream, whole and sound (RFC 1950).
pub fn zeros(mebibytes: usize) -> Vec<u8> {
    // Adler-32 of n zeros: 1 below, n above, each modulo 65521.
    let sum = (((mebibytes << 20) % 65_521) as u32) << 16 | 1;
    [&[0x78, 0xDA][..], &blocks(mebibytes), &[0x03, 0x00], &sum.to_be_bytes()].concat()
}
