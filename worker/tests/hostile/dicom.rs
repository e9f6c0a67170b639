//! DICOM (PS3.5, PS3.10), explicit VR, little endian.

use super::blocks;

/// An element whose length takes sixteen bits.
fn element(group: u16, number: u16, vr: &[u8; 2], value: &[u8]) -> Vec<u8> {
    let tag = [group.to_le_bytes(), number.to_le_bytes()].concat();
    [&tag, &vr[..], &(value.len() as u16).to_le_bytes(), value].concat()
}

/// The beginning of one whose length takes thirty-two.
fn long(group: u16, number: u16, vr: &[u8; 2], length: u32) -> Vec<u8> {
    let tag = [group.to_le_bytes(), number.to_le_bytes()].concat();
    [&tag, &vr[..], &[0, 0], &length.to_le_bytes()].concat()
}

fn beginning(syntax: &[u8]) -> Vec<u8> {
    [&[0; 128][..], b"DICM", &element(0x0002, 0x0010, b"UI", syntax)].concat()
}

/// A grey picture of eight bits that claims to be so large, with no pixels.
pub fn claiming(rows: u16, columns: u16) -> Vec<u8> {
    let mut bytes = beginning(b"1.2.840.10008.1.2.1\0");
    let number = |number, value: u16| element(0x0028, number, b"US", &value.to_le_bytes());
    bytes.extend(number(0x0002, 1));
    bytes.extend(element(0x0028, 0x0004, b"CS", b"MONOCHROME2 "));
    for (at, value) in [(0x0010, rows), (0x0011, columns), (0x0100, 8), (0x0101, 8), (0x0102, 7)] {
        bytes.extend(number(at, value));
    }
    bytes.extend(long(0x7FE0, 0x0010, b"OW", u32::MAX - 15));
    bytes
}

/// A deflated data set that unpacks to one element of so many MiB.
pub fn deflated(mebibytes: usize) -> Vec<u8> {
    let first = long(0x0009, 0x1010, b"OB", u32::MAX - 15);
    let length = first.len() as u16;
    // A stored block with the element's beginning (RFC 1951, 3.2.4), then zeros, then the last block, which is empty.
    let stored = [&[0][..], &length.to_le_bytes(), &(!length).to_le_bytes(), &first].concat();
    [&beginning(b"1.2.840.10008.1.2.1.99")[..], &stored, &blocks(mebibytes), &[0x03, 0x00]].concat()
}
