//! The partition by queues: every word of keys is looked at once, what is to cross over is listed, and put in its place once.

use super::super::Key;
use super::super::partition::{Keys, Scan, WORD};
use super::{Wide, lowest};

/// Words of a side that are looked at together.
const GROUP: usize = 8;

/// What is done with the keys of a word. Of the left side keys are taken and replaced in rising order of their places, of the right
/// side in falling order. Lists of keys have room for [`WORD`] more of them than are appended or taken, which may be written and read.
pub(super) trait Words<K> {
    /// Bit `i` says whether key `i` is at least `pivot`.
    fn at_least(keys: &Keys<K>, pivot: K) -> u64;
    /// Bit `i` says whether key `i` is at most `pivot`.
    fn at_most(keys: &Keys<K>, pivot: K) -> u64;
    /// Lists the keys whose bits are set, the lowest first.
    fn list_rising(keys: &Keys<K>, bits: u64, list: &mut Keys<K>);
    /// Lists the keys whose bits are set, the highest first.
    fn list_falling(keys: &Keys<K>, bits: u64, list: &mut Keys<K>);
    /// Puts the listed keys where bits are set, the first at the lowest.
    fn put_rising(keys: &mut Keys<K>, bits: u64, list: &Keys<K>);
    /// Puts the listed keys where bits are set, the first at the highest.
    fn put_falling(keys: &mut Keys<K>, bits: u64, list: &Keys<K>);
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
pub(super) fn by_words<K: Key>(keys: &mut [K], first: usize, moved: &mut [u64]) -> usize
where
    Wide: Words<K>,
{
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
            scan.words(keys.as_chunks_mut().0, moved, group);
        }
    }
    loop {
        if let Some(cut) = scan.pair(keys, moved) {
            return cut;
        }
    }
}

impl<K: Key> Scan<K> {
    /// Looks at every word between the scans, at most `group` of a side at a time, and exchanges what finds a partner. `low` is less than
    /// `high`, which lies within the words.
    #[inline(always)]
    fn words(&mut self, words: &mut [Keys<K>], moved: &mut [u64], group: usize)
    where
        Wide: Words<K>,
    {
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
                    let bits = Wide::at_least(&words[word], pivot) & inside(word);
                    moved[word] = bits;
                    Wide::list_rising(&words[word], bits, lower.append(bits.count_ones()));
                    in_lower += bits.count_ones() as usize;
                }
                low += some;
            } else {
                upper.make_room();
                for word in (high - some..high).rev() {
                    let bits = Wide::at_most(&words[word], pivot) & inside(word);
                    moved[word] = bits;
                    Wide::list_falling(&words[word], bits, upper.append(bits.count_ones()));
                    in_upper += bits.count_ones() as usize;
                }
                high -= some;
            }
            while low_done < low && moved[low_done].count_ones() as usize <= upper.len() {
                let bits = moved[low_done];
                Wide::put_rising(&mut words[low_done], bits, upper.take(bits.count_ones()));
                low_done += 1;
            }
            while high < high_done && moved[high_done - 1].count_ones() as usize <= lower.len() {
                high_done -= 1;
                let bits = moved[high_done];
                Wide::put_falling(&mut words[high_done], bits, lower.take(bits.count_ones()));
            }
        }
        // On one side keys may be left that found no partner. They stay, and there the scan goes on. The last word reaches beyond
        // what is between the scans, which matters where nothing stops the left one.
        self.low = self.low.max(low * WORD).min(self.high);
        self.high = self.high.min(high * WORD);
        if low_done < low {
            let (bits, count) = (moved[low_done], upper.len() as u32);
            let taken = lowest(bits, count);
            Wide::put_rising(&mut words[low_done], taken, upper.take(count));
            moved[low_done] = taken;
            moved[low_done + 1..low].fill(0);
            self.low = low_done * WORD + (bits & !taken).trailing_zeros() as usize;
        }
        if high < high_done {
            let word = high_done - 1;
            let (bits, count) = (moved[word], lower.len() as u32);
            let left = lowest(bits, bits.count_ones() - count);
            Wide::put_falling(&mut words[word], bits & !left, lower.take(count));
            moved[word] = bits & !left;
            moved[high..word].fill(0);
            self.high = (word + 1) * WORD - left.leading_zeros() as usize;
        }
        for (word, bits) in edges {
            moved[word] |= bits;
        }
    }
}
