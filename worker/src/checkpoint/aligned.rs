//! Memory that begins with a page, so that the disk can take it as it is.

use std::ops::{Deref, DerefMut};

/// What addresses, sizes and places in a file that is written directly are multiples of: a page, and no disk has larger blocks.
pub(super) const ALIGNED: usize = 4096;

/// Bytes from an aligned address on.
pub(super) struct Aligned {
    /// With room for as many more as alignment may take.
    bytes: Vec<u8>,
    from: usize,
    filled: usize,
}

impl Aligned {
    /// Room for so many bytes, with none in it.
    pub(super) fn new(size: usize) -> Aligned {
        let bytes = vec![0; size + ALIGNED];
        let from = bytes.as_ptr().align_offset(ALIGNED).min(ALIGNED);
        Aligned { bytes, from, filled: 0 }
    }

    /// Bytes that there is room for.
    pub(super) fn size(&self) -> usize {
        self.bytes.len() - ALIGNED
    }

    /// Sets how many bytes are in it, at most its size: those that were there before, zeros or older ones beyond.
    pub(super) fn set_filled(&mut self, filled: usize) {
        self.filled = filled.min(self.size());
    }

    /// Appends what there is room for, and gives the rest.
    pub(super) fn append<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let (now, later) = bytes.split_at(bytes.len().min(self.size() - self.filled));
        let at = self.from + self.filled;
        self.bytes[at..at + now.len()].copy_from_slice(now);
        self.filled += now.len();
        later
    }
}

impl Deref for Aligned {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.from..self.from + self.filled]
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.from..self.from + self.filled]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_appended_lies_from_a_page_on() {
        for size in [1, ALIGNED - 1, 3 * ALIGNED] {
            let mut room = Aligned::new(size);
            assert!(room.is_empty() && room.as_ptr().addr().is_multiple_of(ALIGNED));
            assert_eq!(room.append(&[7; 5]).len(), 5_usize.saturating_sub(size));
            assert_eq!(room.append(&vec![8; size]), &vec![8; 5.min(size)][..]);
            assert_eq!((room.len(), room[0], room[size - 1]), (size, 7, if size > 5 { 8 } else { 7 }));
            room.set_filled(size + 1);
            assert_eq!(room.len(), size);
            room.set_filled(0);
            assert!(room.is_empty());
        }
    }
}
