//! DARE's masks, drawn once and kept as bits.
//!
//! A merge passes over its models up to three times, for thresholds, for the sign of ties and for the result, and draws the same
//! masks each time; under fixed drop rates so does the next candidate. A bit an element is a sixteenth of what has to be read
//! of a source, while drawing takes as long as reading all of them. What exceeds [`MOST_BYTES`] is drawn anew each time.

#[cfg(target_arch = "x86_64")]
use super::avx512;
use super::block::{BLOCK, CHUNK};
use super::field::{self, DROP_ALL, Key};
use super::simd::widest;
use common::recipe::Mask;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, OnceLock};

/// Bytes of masks that a merge keeps.
pub const MOST_BYTES: u64 = 1 << 30;

/// Bits of a word of [`Kept`].
const WORD: usize = 16;

/// One bit an element of a block, set where it is kept.
pub(crate) type Kept = [u16; BLOCK / WORD];

/// Whole blocks of one field's mask, drawn as they are asked for, those of a chunk together.
#[derive(Debug)]
pub(crate) struct Drawn {
    key: Key,
    drop: u32,
    blocks: usize,
    chunks: Vec<OnceLock<Box<[Kept]>>>,
}

const BLOCKS_OF_CHUNK: usize = CHUNK / BLOCK;

impl Drawn {
    /// For tensors of up to so many elements.
    pub(crate) fn new(key: Key, drop: u32, elements: usize) -> Drawn {
        let blocks = elements / BLOCK;
        let chunks = (0..blocks.div_ceil(BLOCKS_OF_CHUNK)).map(|_| OnceLock::new()).collect();
        Drawn { key, drop, blocks, chunks }
    }

    fn bytes(&self) -> u64 {
        (self.blocks * size_of::<Kept>()) as u64
    }

    /// The mask of the block of elements from `first` on, if that is a whole block.
    pub(crate) fn block(&self, first: usize) -> Option<&Kept> {
        let block = first / BLOCK;
        if !first.is_multiple_of(BLOCK) || block >= self.blocks {
            return None;
        }
        let chunk = block / BLOCKS_OF_CHUNK;
        let from = chunk * BLOCKS_OF_CHUNK;
        let drawn = self.chunks[chunk].get_or_init(|| {
            let blocks = from..self.blocks.min(from + BLOCKS_OF_CHUNK);
            blocks.map(|block| draw(self.key, (block * BLOCK) as u64, self.drop)).collect()
        });
        drawn.get(block - from)
    }
}

fn draw(key: Key, first: u64, drop: u32) -> Kept {
    let mut kept = [0; BLOCK / WORD];
    if drop >= DROP_ALL {
        return kept;
    }
    #[cfg(target_arch = "x86_64")]
    if avx512::here() {
        // SAFETY: `here` has found the features that the function is compiled for.
        #[expect(unsafe_code, reason = "a function compiled for features that were found")]
        unsafe {
            avx512::draw(key, first, drop, &mut kept)
        };
        return kept;
    }
    drawn(key, first, drop, &mut kept);
    kept
}

widest! {
    fn drawn(key: Key, first: u64, drop: u32, kept: &mut Kept) {
        let mut words = [0; BLOCK];
        field::fill(key, first, &mut words);
        for (kept, words) in kept.iter_mut().zip(words.as_chunks::<WORD>().0) {
            *kept = words.iter().zip(0..).map(|(word, i)| u16::from(word >> 8 >= drop) << i).sum();
        }
    }
}

/// The masks of a merge, by key and drop rate.
#[derive(Clone, Debug, Default)]
pub(crate) struct Masks(HashMap<(Key, u32), Arc<Drawn>>);

impl Masks {
    /// Those that are wanted, each for a number of elements, as far as there is room; those among them that were there `before`
    /// with what is drawn of them.
    pub(crate) fn of(wanted: impl Iterator<Item = (Key, u32, usize)>, before: &Masks) -> Masks {
        let mut sizes: HashMap<(Key, u32), usize> = HashMap::new();
        let mut order = Vec::new();
        for (key, drop, elements) in wanted.filter(|(_, drop, elements)| *drop > 0 && *elements >= BLOCK) {
            match sizes.entry((key, drop)) {
                Entry::Occupied(mut size) => *size.get_mut() = elements.max(*size.get()),
                Entry::Vacant(size) => {
                    order.push((key, drop));
                    size.insert(elements);
                }
            }
        }
        let (mut room, mut masks) = (MOST_BYTES, HashMap::new());
        for (key, drop) in order {
            let elements = sizes[&(key, drop)];
            let there = before.0.get(&(key, drop)).filter(|drawn| drawn.blocks >= elements / BLOCK);
            let drawn = there.cloned().unwrap_or_else(|| Arc::new(Drawn::new(key, drop, elements)));
            if let Some(left) = room.checked_sub(drawn.bytes()) {
                room = left;
                masks.insert((key, drop), drawn);
            }
        }
        Masks(masks)
    }

    /// The mask of a field at a drop rate, if it is kept.
    pub(crate) fn get(&self, key: Key, drop: u32) -> Option<Arc<Drawn>> {
        self.0.get(&(key, drop)).cloned()
    }
}

/// Bytes that are kept of masks of so many elements.
pub fn mask_bytes(elements: u64) -> u64 {
    (elements / 8).min(MOST_BYTES)
}

/// Elements of the masks of as many sources, with so many elements in all tensors and in the largest: a mask that is shared is the
/// same in every tensor, though each source may have a drop rate of its own.
pub fn mask_elements(mask: Mask, sources: usize, all: u64, largest: u64) -> u64 {
    sources as u64 * if mask == Mask::Shared { largest } else { all }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merge::field::{drop_limit, words};

    #[test]
    fn bits_are_those_of_the_field() {
        let elements = CHUNK + 3 * BLOCK + 5;
        for rate in [1e-7, 0.3, 0.999_999_9, 1.0] {
            let (key, drop) = (Key([3, 9]), drop_limit(rate));
            let kept = Drawn::new(key, drop, elements);
            for first in [0, BLOCK, CHUNK - BLOCK, CHUNK, CHUNK + 2 * BLOCK] {
                let mut plain = vec![0; BLOCK];
                words(key, first as u64, &mut plain);
                let mut portable = [0; BLOCK / WORD];
                drawn(key, first as u64, drop, &mut portable);
                let bits = kept.block(first).unwrap();
                assert_eq!(*bits, portable, "from {first} at {rate}");
                for (i, word) in plain.iter().enumerate() {
                    assert_eq!(bits[i / WORD] >> (i % WORD) & 1 == 1, word >> 8 >= drop, "{first} {i}");
                }
            }
            assert!(kept.block(CHUNK + 3 * BLOCK).is_none(), "no whole block");
            assert!(kept.block(8).is_none(), "between two");
        }
    }

    #[test]
    fn what_was_drawn_is_handed_on_and_no_more_is_kept_than_there_is_room_for() {
        let key = |n| Key([n, 0]);
        // The second is one that two tensors share.
        let wanted = [(key(1), 5, 2 * BLOCK), (key(2), 5, BLOCK), (key(2), 5, 3 * BLOCK), (key(3), 0, BLOCK)];
        let first = Masks::of(wanted.into_iter(), &Masks::default());
        assert_eq!(first.0.len(), 2, "nothing is drawn where nothing is dropped");
        assert!(first.get(key(2), 5).unwrap().block(2 * BLOCK).is_some());
        let second =
            Masks::of([(key(1), 5, 2 * BLOCK), (key(2), 6, BLOCK), (key(4), 5, 9)].into_iter(), &first);
        assert!(Arc::ptr_eq(&first.get(key(1), 5).unwrap(), &second.get(key(1), 5).unwrap()));
        assert!(second.get(key(2), 5).is_none() && second.get(key(2), 6).is_some());
        assert!(second.get(key(4), 5).is_none(), "less than a block");
        // Grown, it is another.
        let third = Masks::of([(key(1), 5, 3 * BLOCK)].into_iter(), &second);
        assert!(third.get(key(1), 5).unwrap().block(2 * BLOCK).is_some());
        let half = (MOST_BYTES * 4) as usize;
        let many = [(key(1), 5, half), (key(2), 5, half + BLOCK), (key(3), 5, half)];
        let kept = Masks::of(many.into_iter(), &Masks::default());
        assert!(
            kept.get(key(1), 5).is_some() && kept.get(key(2), 5).is_none() && kept.get(key(3), 5).is_some()
        );
        assert_eq!(mask_bytes(mask_elements(Mask::Independent, 4, 80, 16)), 40);
        assert_eq!(mask_bytes(mask_elements(Mask::Shared, 4, 80, 16)), 8);
        assert_eq!(mask_bytes(1 << 40), MOST_BYTES);
    }
}
