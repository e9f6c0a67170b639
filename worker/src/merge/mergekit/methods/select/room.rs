//! Room for keys: memory that was used before, or a file where a tensor is so large that its keys alone would be most of what a
//! merge holds.
//!
//! A system clears memory that it gives, which took an eighth of the time of `ties` to a folder; so what is used by one tensor is kept
//! for the next ones of its size. The file has no name, is gone with the process, and holds the magnitudes of a task vector; its
//! pages are page cache, which a system can write out.

#![expect(unsafe_code, reason = "the file is mapped, and its bytes seen as numbers")]

use memmap2::MmapMut;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Keys of more bytes than this are kept in a file, if there is a folder for one. Those of an 8B's embedding in 16 bits are not.
pub(in super::super) const SPILLED_BYTES: usize = 1 << 30;
/// Memory that is kept for tensors that follow is at most this part larger than what they need, so that a merge that was planned
/// for what is needed holds little more.
const LARGER: usize = 4;

/// Room for the keys of a tensor. What is in it at first is of no meaning.
pub(in super::super) enum Room<K: Number> {
    Memory(Vec<K>),
    File(MmapMut),
}

/// Gives up what is kept for tensors that follow, when none does.
pub(in super::super) fn forget() {
    u16::kept().forget();
    u32::kept().forget();
}

/// A key as it lies in memory; every pattern of bits is one.
pub(in super::super) trait Number: Copy + Default + Send + Sync + 'static {
    /// Room for keys of this type that was used before.
    fn kept() -> &'static Kept<Self>;
}

impl Number for u16 {
    fn kept() -> &'static Kept<u16> {
        static KEPT: Kept<u16> = Kept::new();
        &KEPT
    }
}

impl Number for u32 {
    fn kept() -> &'static Kept<u32> {
        static KEPT: Kept<u32> = Kept::new();
        &KEPT
    }
}

impl<K: Number> Room<K> {
    /// Room for so many keys, in a file of the folder `spill` if there are very many.
    pub(super) fn take(keys: usize, spill: Option<&Path>) -> Room<K> {
        Room::take_above(keys, spill, SPILLED_BYTES)
    }

    pub(super) fn take_above(keys: usize, spill: Option<&Path>, bytes: usize) -> Room<K> {
        let wanted = keys * size_of::<K>();
        if let Some(folder) = spill.filter(|_| wanted > bytes) {
            forget();
            match map(folder, wanted) {
                Ok(map) => return Room::File(map),
                Err(e) => tracing::warn!(
                    folder = %folder.display(), error = %e,
                    "{wanted} bytes for ranking cannot be kept in a file there, and are taken from memory"
                ),
            }
        }
        Room::Memory(K::kept().take(keys))
    }

    /// Gives the room back.
    pub(super) fn give(self) {
        if let Room::Memory(room) = self {
            K::kept().give(room);
        }
    }
}

/// A file without a name, of which every byte has its place on the disk: else a full disk would end the process. File systems
/// that write elsewhere what is written again (btrfs) keep that promise for the first time only.
fn map(folder: &Path, bytes: usize) -> std::io::Result<MmapMut> {
    let file = tempfile::tempfile_in(folder)?;
    if !allocate(&file, bytes)? {
        std::io::copy(&mut std::io::Read::take(std::io::repeat(0), bytes as u64), &mut &file)?;
    }
    // SAFETY: the file has no name, so that nobody else changes or truncates it.
    unsafe { memmap2::MmapOptions::new().len(bytes).map_mut(&file) }
}

/// Gives every byte its place; false where the file system knows no such request.
#[cfg(target_os = "linux")]
fn allocate(file: &std::fs::File, bytes: usize) -> std::io::Result<bool> {
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, bytes as u64) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::OPNOTSUPP) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn allocate(_: &std::fs::File, _: usize) -> std::io::Result<bool> {
    Ok(false)
}

impl<K: Number> Deref for Room<K> {
    type Target = [K];

    fn deref(&self) -> &[K] {
        match self {
            Room::Memory(keys) => keys,
            // SAFETY: a map begins with a page, so that numbers are aligned; it is of as many bytes as so many of them have, each
            // of which is a number whatever its bits; and it lives as long as what is borrowed.
            Room::File(map) => unsafe {
                std::slice::from_raw_parts(map.as_ptr().cast(), map.len() / size_of::<K>())
            },
        }
    }
}

impl<K: Number> DerefMut for Room<K> {
    fn deref_mut(&mut self) -> &mut [K] {
        match self {
            Room::Memory(keys) => keys,
            // SAFETY: as above, and the map is borrowed as uniquely as what is seen of it.
            Room::File(map) => unsafe {
                std::slice::from_raw_parts_mut(map.as_mut_ptr().cast(), map.len() / size_of::<K>())
            },
        }
    }
}

impl<K: Number> From<Vec<K>> for Room<K> {
    fn from(keys: Vec<K>) -> Room<K> {
        Room::Memory(keys)
    }
}

/// Memory for keys that was used before.
#[derive(Debug)]
pub(in super::super) struct Kept<K>(Mutex<Vec<Vec<K>>>);

impl<K: Number> Kept<K> {
    const fn new() -> Kept<K> {
        Kept(Mutex::new(Vec::new()))
    }

    /// Room for so many keys. Where none fits, all that is kept goes, whatever its keys, so that no more is held than is ranked.
    fn take(&self, keys: usize) -> Vec<K> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |room: &Vec<K>| (keys..=keys + keys / LARGER).contains(&room.capacity());
        let Some(fits) = kept.iter().position(fits) else {
            drop(kept);
            forget();
            self.forget();
            // Cleared by the system, if it is so much.
            return vec![K::default(); keys];
        };
        let mut room = kept.swap_remove(fits);
        room.resize(keys, K::default());
        room
    }

    fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn give(&self, room: Vec<K>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(room);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_lie_in_memory_or_in_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = Room::<u16>::take_above(5000, Some(folder.path()), 9999);
        assert!(matches!(file, Room::File(_)) && file.len() == 5000);
        file.iter_mut().zip(0..).for_each(|(key, i)| *key = i);
        assert!(file.iter().zip(0..).all(|(key, i)| *key == i));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "it has no name");
        let room = |spill| Room::<u32>::take_above(5000, spill, 19_999);
        assert!(matches!(room(Some(folder.path())), Room::File(_)));
        assert!(matches!(room(None), Room::Memory(_)));
        let few = Room::<u16>::take_above(5000, Some(folder.path()), 10_000);
        assert!(matches!(few, Room::Memory(_)));
        // Where no file can be, there is memory.
        let nowhere = Room::<u16>::take_above(5000, Some(&folder.path().join("none")), 9999);
        assert!(matches!(nowhere, Room::Memory(ref keys) if keys.len() == 5000));
    }

    #[test]
    fn what_is_given_back_is_used_again() {
        let kept = Kept::<u16>::new();
        let room = vec![7; 100];
        let at = room.as_ptr();
        kept.give(room);
        let again = kept.take(90);
        assert_eq!((again.as_ptr(), again.len()), (at, 90));
        kept.give(again);
        let grown = kept.take(100);
        assert_eq!((grown.as_ptr(), grown.len()), (at, 100));
        kept.give(grown);
        assert_eq!(kept.take(101).len(), 101);
        assert!(kept.0.lock().unwrap().is_empty(), "what is too small goes");
        kept.give(vec![0; 100]);
        assert_eq!(kept.take(79).capacity(), 79, "so does what is much too large");
        assert!(kept.0.lock().unwrap().is_empty());
    }
}
