//! The partition of introsort over keys alone, a group of them at a time.
//!
//! What its two scans stop at does not depend on what was exchanged before: the left one stops at keys that are at least the
//! pivot, the right one at keys that are at most the pivot, and the first of the one is exchanged with the first of the other.
//! So which keys of a group are to move is found at once, as bits, and as many as both sides have are exchanged together, in the
//! same pairs.

use super::Key;

/// Keys of a word of bits.
pub(super) const WORD: usize = 64;
/// Words of a side that are looked at together.
const GROUP: usize = 8;

/// A word of keys.
pub(super) type Keys<K> = [K; WORD];

/// Splits `keys` behind `first` at the pivot there, which must be the median of three that follow; returns where the upper part
/// begins. Sets the bits of the keys that changed their places: the outermost two with each other, and so on inwards.
pub(super) fn partition<K: Key>(keys: &mut [K], first: usize, moved: &mut [u64]) -> usize {
    #[cfg(target_arch = "x86_64")]
    if let Some(cut) =
        K::partition_wide(keys, first, moved).or_else(|| K::partition_compiled(keys, first, moved))
    {
        return cut;
    }
    plain(keys, first, moved)
}

/// The same as any processor does it.
pub(super) fn plain<K: Key>(keys: &mut [K], first: usize, moved: &mut [u64]) -> usize {
    by_words::<K, Plain>(keys, first, moved)
}

/// What is done with the keys of a word. Of the left side keys are taken and replaced in rising order of their places, of the right
/// side in falling order. Lists of keys have room for [`WORD`] more of them than are appended or taken, which may be written and read.
pub(super) trait Words<K> {
    /// Bit `i` says whether key `i` is at least `pivot`.
    fn at_least(keys: &Keys<K>, pivot: K) -> u64;
    /// Bit `i` says whether key `i` is at most `pivot`.
    fn at_most(keys: &Keys<K>, pivot: K) -> u64;
    /// The `count` lowest set bits.
    fn lowest(bits: u64, count: u32) -> u64;
    /// Lists the keys whose bits are set, the lowest first.
    fn list_rising(keys: &Keys<K>, bits: u64, list: &mut Keys<K>);
    /// Lists the keys whose bits are set, the highest first.
    fn list_falling(keys: &Keys<K>, bits: u64, list: &mut Keys<K>);
    /// Puts the listed keys where bits are set, the first at the lowest.
    fn put_rising(keys: &mut Keys<K>, bits: u64, list: &Keys<K>);
    /// Puts the listed keys where bits are set, the first at the highest.
    fn put_falling(keys: &mut Keys<K>, bits: u64, list: &Keys<K>);
}

/// As any processor does it.
pub(super) struct Plain;

impl<K: Key> Words<K> for Plain {
    #[inline(always)]
    fn at_least(keys: &Keys<K>, pivot: K) -> u64 {
        bits_of(keys.map(|key| u8::from(key >= pivot)))
    }

    #[inline(always)]
    fn at_most(keys: &Keys<K>, pivot: K) -> u64 {
        bits_of(keys.map(|key| u8::from(key <= pivot)))
    }

    #[inline(always)]
    fn lowest(bits: u64, count: u32) -> u64 {
        let above = (0..count).fold(bits, |bits, _| bits & bits.wrapping_sub(1));
        bits & !above
    }

    #[inline(always)]
    fn list_rising(keys: &Keys<K>, bits: u64, list: &mut Keys<K>) {
        rising(bits).zip(list).for_each(|(i, place)| *place = keys[i]);
    }

    #[inline(always)]
    fn list_falling(keys: &Keys<K>, bits: u64, list: &mut Keys<K>) {
        falling(bits).zip(list).for_each(|(i, place)| *place = keys[i]);
    }

    #[inline(always)]
    fn put_rising(keys: &mut Keys<K>, bits: u64, list: &Keys<K>) {
        rising(bits).zip(list).for_each(|(i, key)| keys[i] = *key);
    }

    #[inline(always)]
    fn put_falling(keys: &mut Keys<K>, bits: u64, list: &Keys<K>) {
        falling(bits).zip(list).for_each(|(i, key)| keys[i] = *key);
    }
}

/// The places of set bits, the lowest first.
#[inline(always)]
fn rising(mut bits: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let place = bits.trailing_zeros() as usize;
        (bits != 0).then(|| {
            bits &= bits - 1;
            place
        })
    })
}

/// The places of set bits, the highest first.
#[inline(always)]
fn falling(mut bits: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        (bits != 0).then(|| {
            let place = 63 - bits.leading_zeros() as usize;
            bits ^= 1 << place;
            place
        })
    })
}

/// Bit `i` is number `i`, of zeros and ones.
#[inline(always)]
fn bits_of(numbers: [u8; WORD]) -> u64 {
    // Number `i` of eight, at bit 8 i, is moved to bit 56 + i; nothing else meets there.
    const GATHER: u64 = 0x0102_0408_1020_4080;
    numbers
        .as_chunks::<8>()
        .0
        .iter()
        .rev()
        .fold(0, |bits, eight| bits << 8 | u64::from_le_bytes(*eight).wrapping_mul(GATHER) >> 56)
}

/// Keys that are to cross over, in the order in which they find their places.
struct List<K> {
    /// A word more than are ever listed.
    keys: [K; List::<()>::ROOM + WORD],
    first: usize,
    end: usize,
}

impl List<()> {
    /// One side is never more than a group ahead of the other, and places are filled up to a word behind that.
    const ROOM: usize = 4 * GROUP * WORD;
}

impl<K: Key> List<K> {
    #[inline(always)]
    fn new() -> List<K> {
        List { keys: [K::default(); List::<()>::ROOM + WORD], first: 0, end: 0 }
    }

    #[inline(always)]
    fn len(&self) -> usize {
        self.end - self.first
    }

    /// Makes room for a group.
    #[inline(always)]
    fn make_room(&mut self) {
        if self.end + GROUP * WORD > List::<()>::ROOM {
            self.keys.copy_within(self.first..self.end, 0);
            (self.first, self.end) = (0, self.end - self.first);
        }
    }

    /// Where the next keys are listed, and their number is added.
    #[inline(always)]
    fn append(&mut self, count: u32) -> &mut Keys<K> {
        let at = self.end;
        self.end += count as usize;
        self.keys[at..].first_chunk_mut().expect("room was made")
    }

    /// The next keys, of which so many are taken.
    #[inline(always)]
    fn take(&mut self, count: u32) -> &Keys<K> {
        let at = self.first;
        self.first += count as usize;
        self.keys[at..].first_chunk().expect("there is a word behind the last")
    }
}

/// The partition by words as long as there are some; the rest one by one.
#[inline(always)]
pub(super) fn by_words<K: Key, W: Words<K>>(keys: &mut [K], first: usize, moved: &mut [u64]) -> usize {
    let mut scan = Scan { pivot: keys[first], low: first + 1, high: keys.len() };
    // Behind the last whole word the right scan goes alone.
    let whole = keys.len() / WORD * WORD;
    while scan.high > whole {
        if let Some(cut) = scan.pair(keys, moved) {
            return cut;
        }
    }
    // What one side is ahead of the other in the end is within a group of it, then within a word.
    for group in [GROUP, 1] {
        if scan.high - scan.low > 4 * WORD {
            scan.words::<W>(keys.as_chunks_mut().0, moved, group);
        }
    }
    loop {
        if let Some(cut) = scan.pair(keys, moved) {
            return cut;
        }
    }
}

/// The two scans: keys before `low` and from `high` on are where they belong. The median of three bounds both.
struct Scan<K> {
    pivot: K,
    low: usize,
    high: usize,
}

impl<K: Key> Scan<K> {
    /// Goes on to the next pair and exchanges it; or yields where the scans met.
    #[inline(always)]
    fn pair(&mut self, keys: &mut [K], moved: &mut [u64]) -> Option<usize> {
        while keys[self.low] < self.pivot {
            self.low += 1;
        }
        self.high -= 1;
        while self.pivot < keys[self.high] {
            self.high -= 1;
        }
        if self.low >= self.high {
            return Some(self.low);
        }
        keys.swap(self.low, self.high);
        moved[self.low / WORD] |= 1 << (self.low % WORD);
        moved[self.high / WORD] |= 1 << (self.high % WORD);
        self.low += 1;
        None
    }

    /// Looks at every word between the scans, at most `group` of a side at a time, and exchanges what finds a partner. `low` is less than
    /// `high`, which lies within the words.
    #[inline(always)]
    fn words<W: Words<K>>(&mut self, words: &mut [Keys<K>], moved: &mut [u64], group: usize) {
        let pivot = self.pivot;
        let (from, to) = (self.low / WORD, self.high.div_ceil(WORD));
        // A word at the edge may hold pairs from before.
        let edges = [from, to - 1].map(|word| (word, std::mem::take(&mut moved[word])));
        let first = u64::MAX << (self.low % WORD);
        let last = u64::MAX >> (self.high.wrapping_neg() % WORD);
        let inside =
            |word: usize| if word == from { first } else { u64::MAX } & if word + 1 == to { last } else { u64::MAX };
        // Words that were looked at, and those of them whose keys have been replaced.
        let (mut low, mut low_done) = (from, from);
        let (mut high, mut high_done) = (to, to);
        let (mut lower, mut upper) = (List::new(), List::new());
        let (mut in_lower, mut in_upper) = (0, 0);
        while low < high {
            let some = group.min(high - low);
            if in_lower <= in_upper {
                lower.make_room();
                for word in low..low + some {
                    let bits = W::at_least(&words[word], pivot) & inside(word);
                    moved[word] = bits;
                    W::list_rising(&words[word], bits, lower.append(bits.count_ones()));
                    in_lower += bits.count_ones() as usize;
                }
                low += some;
            } else {
                upper.make_room();
                for word in (high - some..high).rev() {
                    let bits = W::at_most(&words[word], pivot) & inside(word);
                    moved[word] = bits;
                    W::list_falling(&words[word], bits, upper.append(bits.count_ones()));
                    in_upper += bits.count_ones() as usize;
                }
                high -= some;
            }
            while low_done < low && moved[low_done].count_ones() as usize <= upper.len() {
                let bits = moved[low_done];
                W::put_rising(&mut words[low_done], bits, upper.take(bits.count_ones()));
                low_done += 1;
            }
            while high < high_done && moved[high_done - 1].count_ones() as usize <= lower.len() {
                high_done -= 1;
                let bits = moved[high_done];
                W::put_falling(&mut words[high_done], bits, lower.take(bits.count_ones()));
            }
        }
        // On one side keys may be left that found no partner. They stay, and there the scan goes on.
        self.low = self.low.max(low * WORD);
        self.high = self.high.min(high * WORD);
        if low_done < low {
            let (bits, count) = (moved[low_done], upper.len() as u32);
            let taken = W::lowest(bits, count);
            W::put_rising(&mut words[low_done], taken, upper.take(count));
            moved[low_done] = taken;
            moved[low_done + 1..low].fill(0);
            self.low = low_done * WORD + (bits & !taken).trailing_zeros() as usize;
        }
        if high < high_done {
            let word = high_done - 1;
            let (bits, count) = (moved[word], lower.len() as u32);
            let left = W::lowest(bits, bits.count_ones() - count);
            W::put_falling(&mut words[word], bits & !left, lower.take(count));
            moved[word] = bits & !left;
            moved[high..word].fill(0);
            self.high = (word + 1) * WORD - left.leading_zeros() as usize;
        }
        for (word, bits) in edges {
            moved[word] |= bits;
        }
    }
}
