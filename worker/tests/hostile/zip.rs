//! Zip files as `torch.save` writes them (PKWARE's APPNOTE 6.3): entries that are stored, then the directory.

use flate2::Crc;

const LOCAL: [u8; 4] = *b"PK\x03\x04";
const CENTRAL: [u8; 4] = *b"PK\x01\x02";
const END: [u8; 4] = *b"PK\x05\x06";

/// A file with these entries.
pub fn stored(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in entries {
        let mut crc = Crc::new();
        crc.update(content);
        let size = (content.len() as u32).to_le_bytes();
        // Version, flags, method (stored), time, date; checksum, sizes; lengths of name and extra field.
        let name_bytes = (name.len() as u16).to_le_bytes();
        let about = [&[20, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &crc.sum().to_le_bytes(), &size, &size].concat();
        let at = (bytes.len() as u32).to_le_bytes();
        bytes.extend([&LOCAL[..], &about, &name_bytes, &[0, 0], name.as_bytes(), content].concat());
        let rest = [&[0; 12][..], &at, name.as_bytes()].concat();
        directory.extend([&CENTRAL[..], &[20, 0], &about, &name_bytes, &rest].concat());
    }
    let count = (entries.len() as u16).to_le_bytes();
    let (size, at) = ((directory.len() as u32).to_le_bytes(), (bytes.len() as u32).to_le_bytes());
    [bytes, directory, [&END[..], &[0; 4], &count, &count, &size, &at, &[0; 2]].concat()].concat()
}

/// The same, where the directory says of the first entry that it is deflated.
pub fn marked_deflated(file: &[u8]) -> Vec<u8> {
    let mut bytes = file.to_vec();
    let record = bytes.windows(4).position(|w| w == CENTRAL).unwrap();
    (bytes[8], bytes[record + 10]) = (8, 8);
    bytes
}

/// The folder that the first entry is in, with its slash.
pub fn root(file: &[u8]) -> String {
    let name = String::from_utf8_lossy(&file[30..30 + usize::from(file[26])]).into_owned();
    name[..=name.find('/').unwrap()].to_string()
}

/// The same with every occurrence of one name replaced by another of the same length.
pub fn renamed(file: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = file.to_vec();
    for at in 0..file.len() - from.len() {
        if file[at..].starts_with(from.as_bytes()) {
            bytes[at..][..to.len()].copy_from_slice(to.as_bytes());
        }
    }
    bytes
}
