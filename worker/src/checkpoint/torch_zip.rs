//! The directory of an uncompressed zip file, enough of it to find what `torch.save` wrote.
//!
//! Entries are stored, not deflated, so each is a plain range of the file and can be used where it is mapped.
//! Not done here: decompression, encryption, checksums (model files are pinned by digest as a whole).
//! Source: PKWARE's APPNOTE 6.3, sections 4.3 and 4.5.

use super::error::{DOWNLOAD, Error, Result};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

const LOCAL: u32 = 0x0403_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;
const END64: u32 = 0x0606_4b50;
const LOCATOR64: u32 = 0x0706_4b50;
const END_BYTES: usize = 22;
/// The end record may be followed by a comment of at most this many bytes.
const COMMENT_LIMIT: usize = 65_535;

/// Whether the file begins as a zip file does.
pub(crate) fn is_zip(bytes: &[u8]) -> bool {
    u32_at(bytes, 0) == Some(LOCAL)
}

/// The entries by name, each with the range of the file that holds its content.
pub(crate) fn entries(path: &Path, bytes: &[u8]) -> Result<BTreeMap<String, Range<usize>>> {
    let damaged = |fault: &str| Error::malformed(path, "zip directory", fault);
    let (count, size, start) =
        directory(bytes).ok_or_else(|| damaged("no end record, or one out of bounds"))?;
    // Every record takes at least 46 bytes, which bounds the count before anything is allocated for it.
    if count > size / 46 {
        return Err(damaged("more entries than the directory has room for"));
    }
    let end = start.checked_add(size).filter(|&e| e <= bytes.len());
    let table = &bytes[start..end.ok_or_else(|| damaged("it lies outside the file"))?];
    let mut found = BTreeMap::new();
    let mut at = 0;
    for _ in 0..count {
        let record = Record::read(table, at).ok_or_else(|| damaged("a record is cut off"))?;
        at += record.bytes;
        if record.method != 0 || record.encrypted || record.stored != record.size {
            return Err(Error::Malformed {
                file: path.into(),
                field: record.name,
                fault: "the entry is compressed or encrypted".into(),
                remedy: "write it again with torch.save, or as safetensors",
            });
        }
        let range = content(bytes, &record).ok_or_else(|| {
            Error::malformed(path, &record.name, format!("{} bytes of content leave the file", record.size))
        })?;
        if let Some(_twice) = found.insert(record.name.clone(), range) {
            return Err(Error::Malformed {
                file: path.into(),
                field: record.name,
                fault: "the name comes twice in the zip directory".into(),
                remedy: DOWNLOAD,
            });
        }
    }
    Ok(found)
}

/// Count of entries, and size and offset of the directory in bytes.
fn directory(bytes: &[u8]) -> Option<(usize, usize, usize)> {
    let last = bytes.len().checked_sub(END_BYTES)?;
    let first = last.saturating_sub(COMMENT_LIMIT);
    let end = (first..=last).rev().find(|&at| u32_at(bytes, at) == Some(END))?;
    let (count, size, start) = (u16_at(bytes, end + 10)?, u32_at(bytes, end + 12)?, u32_at(bytes, end + 16)?);
    let locator = end.checked_sub(20).filter(|&at| u32_at(bytes, at) == Some(LOCATOR64));
    let Some(locator) = locator else {
        return Some((count as usize, size as usize, start as usize));
    };
    let end64 = usize::try_from(u64_at(bytes, locator + 8)?).ok()?;
    if u32_at(bytes, end64)? != END64 {
        return None;
    }
    let wide = |at: usize| u64_at(bytes, end64.checked_add(at)?).and_then(|v| usize::try_from(v).ok());
    Some((wide(32)?, wide(40)?, wide(48)?))
}

struct Record {
    name: String,
    method: u16,
    encrypted: bool,
    stored: u64,
    size: u64,
    local: u64,
    bytes: usize,
}

impl Record {
    fn read(table: &[u8], at: usize) -> Option<Record> {
        if u32_at(table, at)? != CENTRAL {
            return None;
        }
        let (name_bytes, extra_bytes) = (u16_at(table, at + 28)? as usize, u16_at(table, at + 30)? as usize);
        let comment_bytes = u16_at(table, at + 32)? as usize;
        let name_at = at + 46;
        let name = String::from_utf8(table.get(name_at..name_at + name_bytes)?.to_vec()).ok()?;
        let extra = table.get(name_at + name_bytes..name_at + name_bytes + extra_bytes)?;
        let mut wide = Zip64 { values: zip64_extra(extra) };
        // Order matters: the extra field holds only the values that do not fit, in this order.
        let size = wide.value(u32_at(table, at + 24)?)?;
        let stored = wide.value(u32_at(table, at + 20)?)?;
        let local = wide.value(u32_at(table, at + 42)?)?;
        Some(Record {
            name,
            method: u16_at(table, at + 10)?,
            encrypted: u16_at(table, at + 8)? & 1 != 0,
            stored,
            size,
            local,
            bytes: 46 + name_bytes + extra_bytes + comment_bytes,
        })
    }
}

struct Zip64<'a> {
    values: &'a [u8],
}

impl Zip64<'_> {
    /// The value of a 32-bit field, taken from the extra field when it holds the mark for that.
    fn value(&mut self, narrow: u32) -> Option<u64> {
        if narrow != u32::MAX {
            return Some(narrow.into());
        }
        let value = u64_at(self.values, 0)?;
        self.values = &self.values[8..];
        Some(value)
    }
}

/// The content of the zip64 block of an extra field, empty when there is none.
fn zip64_extra(mut extra: &[u8]) -> &[u8] {
    while let (Some(id), Some(bytes)) = (u16_at(extra, 0), u16_at(extra, 2)) {
        let Some(block) = extra.get(4..4 + bytes as usize) else { break };
        if id == 1 {
            return block;
        }
        extra = &extra[4 + bytes as usize..];
    }
    &[]
}

/// The range of an entry's content, which follows its local header.
fn content(bytes: &[u8], record: &Record) -> Option<Range<usize>> {
    let at = usize::try_from(record.local).ok()?;
    if u32_at(bytes, at)? != LOCAL {
        return None;
    }
    let skip = 30 + u16_at(bytes, at + 26)? as usize + u16_at(bytes, at + 28)? as usize;
    let start = at.checked_add(skip)?;
    let end = start.checked_add(usize::try_from(record.size).ok()?)?;
    (end <= bytes.len()).then_some(start..end)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at.checked_add(2)?)?.first_chunk().map(|b| u16::from_le_bytes(*b))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.first_chunk().map(|b| u32::from_le_bytes(*b))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at.checked_add(8)?)?.first_chunk().map(|b| u64::from_le_bytes(*b))
}
