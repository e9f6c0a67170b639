//! Room for keys and bits: memory that was used before, or for keys a file where a tensor is so large that they alone would be most of
//! what a merge holds.
//!
//! A system clears memory that it gives, which took an eighth of the time of `ties` to a folder; so what is used by one tensor is kept
//! for the next ones. Tensors so large that not every thread may rank one are excepted: so there are never more rooms than threads, none
//! larger than what each thread was planned to have. The file has no name, is gone with the process, and holds the magnitudes of a task vector; its
//! pages are page cache, which a system can write out.

#![expect(unsafe_code, reason = "the file is mapped, and its bytes seen as numbers")]

use memmap2::MmapMut;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Keys of more bytes than this are kept in a file, if there is a folder for one. Those of an 8B's embedding in 16 bits are not.
pub(in super::super) const SPILLED_BYTES: usize = 1 << 30;

/// Room for the keys of a tensor. What is in it at first is of no meaning.
pub(in super::super) enum Room<K: Number> {
    Memory(Vec<K>),
    File(MmapMut),
}

/// Gives up what is kept for tensors that follow, when none does.
pub(in super::super) fn forget() {
    u16::kept().forget();
    u32::kept().forget();
    u64::kept().forget();
}

/// A key, or a word of bits, as it lies in memory; every pattern of bits is one.
pub(in super::super) trait Number: Copy + Default + Send + Sync + 'static {
    /// Room for numbers of this type that was used before.
    fn kept() -> &'static Kept<Self>;
    /// Gives up what is kept for keys of the other width.
    fn forget_others();
}

impl Number for u16 {
    fn kept() -> &'static Kept<u16> {
        static KEPT: Kept<u16> = Kept::new();
        &KEPT
    }

    fn forget_others() {
        u32::kept().forget();
    }
}

impl Number for u32 {
    fn kept() -> &'static Kept<u32> {
        static KEPT: Kept<u32> = Kept::new();
        &KEPT
    }

    fn forget_others() {
        u16::kept().forget();
    }
}

impl Number for u64 {
    fn kept() -> &'static Kept<u64> {
        static KEPT: Kept<u64> = Kept::new();
        &KEPT
    }

    fn forget_others() {}
}

impl<K: Number> Room<K> {
    /// Room for so many keys, in a file of the folder `spill` if there are very many.
    pub(super) fn take(keys: usize, spill: Option<&Path>) -> Room<K> {
        if !super::side_by_side::<K>(keys) {
            forget();
        }
        Room::take_above(keys, spill, SPILLED_BYTES)
    }

    pub(super) fn take_above(keys: usize, spill: Option<&Path>, bytes: usize) -> Room<K> {
        let wanted = keys * size_of::<K>();
        if let Some(folder) = spill.filter(|_| wanted > bytes) {
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

    /// Gives the room back, for the next ones if it is to be kept.
    pub(super) fn give(self, keep: bool) {
        if let (Room::Memory(room), true) = (self, keep) {
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

/// Memory for numbers that was used before.
#[derive(Debug)]
pub(in super::super) struct Kept<K>(Mutex<Vec<Vec<K>>>);

impl<K: Number> Kept<K> {
    const fn new() -> Kept<K> {
        Kept(Mutex::new(Vec::new()))
    }

    /// So many numbers, of no meaning. Where nothing that is kept is large enough, all of it goes first.
    pub(super) fn take(&self, numbers: usize) -> Vec<K> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let smallest =
            (0..kept.len()).filter(|i| kept[*i].capacity() >= numbers).min_by_key(|i| kept[*i].capacity());
        let Some(smallest) = smallest else {
            kept.clear();
            drop(kept);
            K::forget_others();
            // Cleared by the system, if it is so much.
            return vec![K::default(); numbers];
        };
        let mut room = kept.swap_remove(smallest);
        drop(kept);
        room.resize(numbers, K::default());
        room
    }

    fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(super) fn give(&self, room: Vec<K>) {
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
        [300, 100, 200].into_iter().for_each(|numbers| kept.give(vec![0; numbers]));
        assert_eq!(kept.take(90).capacity(), 100, "the smallest that is large enough");
        assert_eq!(kept.take(90).capacity(), 200);
        assert_eq!(kept.take(90).capacity(), 300);
    }
}
