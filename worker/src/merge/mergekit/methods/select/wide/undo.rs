//! Steps taken back by queues: what [`super::partition`] does, with a bit for each key.

use super::{gather, lowest, scatter};
use std::ops::Range;

/// The `count` lowest bits in reverse.
#[inline(always)]
fn turned(bits: u64, count: u32) -> u64 {
    bits.reverse_bits().checked_shr(64 - count).unwrap_or(0)
}

/// Words of a side that are looked at together.
const GROUP: usize = 16;
/// Words that a list of marks has room for. Behind them one is begun, and one is looked at.
const ROOM: usize = 4 * GROUP;

/// Marks that are to cross over, in the order in which they find their places.
struct List {
    words: [u64; ROOM + 2],
    /// In bits.
    first: usize,
    /// Likewise; a word that is begun is `open` as yet.
    end: usize,
    open: u64,
}

impl List {
    #[inline(always)]
    fn new() -> List {
        List { words: [0; ROOM + 2], first: 0, end: 0, open: 0 }
    }

    #[inline(always)]
    fn len(&self) -> usize {
        self.end - self.first
    }

    /// Makes room for a group.
    #[inline(always)]
    fn make_room(&mut self) {
        if self.end + GROUP * 64 > ROOM * 64 {
            let word = self.first / 64;
            self.words.copy_within(word..=self.end / 64, 0);
            self.first -= 64 * word;
            self.end -= 64 * word;
        }
    }

    /// Appends `count` bits; above them there is nothing.
    #[inline(always)]
    fn append(&mut self, bits: u64, count: u32) {
        let (word, shift) = (self.end / 64, self.end % 64);
        let filled = self.open | bits << shift;
        self.words[word] = filled;
        self.end += count as usize;
        // What did not fit; two shifts, as one of 64 does nothing.
        self.open = if self.end / 64 == word { filled } else { bits >> 1 >> (63 - shift) };
    }

    /// After bits have been appended.
    #[inline(always)]
    fn close(&mut self) {
        self.words[self.end / 64] = self.open;
    }

    /// The next bits, of which `count` are taken.
    #[inline(always)]
    fn take(&mut self, count: u32) -> u64 {
        let (word, shift) = (self.first / 64, self.first % 64);
        self.first += count as usize;
        self.words[word] >> shift | self.words[word + 1] << 1 << (63 - shift)
    }
}

/// Exchanges the marks whose bits are set in `moved`: the outermost two, the next two, to the middle.
#[inline(always)]
pub(super) fn by_words(marks: &mut [u64], moved: &[u64]) {
    // What one side is ahead of the other in the end is within a group of it, then within a word.
    let (mut many, mut one) = ([0; GROUP], [0; 1]);
    if let Some(words) = cross::<GROUP>(marks, moved, &mut many)
        && let marks = &mut marks[words.clone()]
        && let Some(word) = cross::<1>(marks, &many[..words.len()], &mut one)
    {
        within_word(&mut marks[word.start], one[0]);
    }
}

/// Exchanges the marks of one half of the places with those of the other, as far as these are in other groups of `N` words. The places that
/// are left, all on one side within a group, are in `rest`, for the words that are returned.
#[inline(always)]
fn cross<const N: usize>(marks: &mut [u64], moved: &[u64], rest: &mut [u64; N]) -> Option<Range<usize>> {
    // Words that were looked at, and those of them whose marks have been replaced.
    let (mut low, mut low_done) = (0, 0);
    let (mut high, mut high_done) = (moved.len(), moved.len());
    let (mut lower, mut upper) = (List::new(), List::new());
    let (mut in_lower, mut in_upper) = (0, 0);
    while low < high {
        let some = N.min(high - low);
        if in_lower <= in_upper {
            lower.make_room();
            let group = low..low + some;
            for (marks, places) in marks[group.clone()].iter().zip(&moved[group]) {
                let count = places.count_ones();
                lower.append(gather(*marks, *places), count);
                in_lower += count as usize;
            }
            lower.close();
            low += some;
        } else {
            upper.make_room();
            let group = high - some..high;
            for (marks, places) in marks[group.clone()].iter().zip(&moved[group]).rev() {
                let count = places.count_ones();
                upper.append(turned(gather(*marks, *places), count), count);
                in_upper += count as usize;
            }
            upper.close();
            high -= some;
        }
        while low_done < low && moved[low_done].count_ones() as usize <= upper.len() {
            let places = moved[low_done];
            put(&mut marks[low_done], places, upper.take(places.count_ones()));
            low_done += 1;
        }
        while high < high_done && moved[high_done - 1].count_ones() as usize <= lower.len() {
            high_done -= 1;
            let (places, count) = (moved[high_done], moved[high_done].count_ones());
            put(&mut marks[high_done], places, turned(lower.take(count), count));
        }
    }
    if low_done < low {
        let count = upper.len() as u32;
        let taken = lowest(moved[low_done], count);
        put(&mut marks[low_done], taken, upper.take(count));
        rest.iter_mut().zip(&moved[low_done..low]).for_each(|(rest, places)| *rest = *places);
        rest[0] &= !taken;
        return Some(low_done..low);
    }
    if high < high_done {
        let count = lower.len() as u32;
        let last = moved[high_done - 1];
        let left = lowest(last, last.count_ones() - count);
        put(&mut marks[high_done - 1], last & !left, turned(lower.take(count), count));
        rest.iter_mut().zip(&moved[high..high_done]).for_each(|(rest, places)| *rest = *places);
        rest[high_done - 1 - high] = left;
        return Some(high..high_done);
    }
    None
}

/// Exchanges the outermost two marks of `moved`, and so on.
#[inline(always)]
fn within_word(marks: &mut u64, moved: u64) {
    let count = moved.count_ones() / 2;
    let from = lowest(moved, count);
    let (lower, upper) = (gather(*marks, from), gather(*marks, moved & !from));
    put(marks, from, turned(upper, count));
    put(marks, moved & !from, turned(lower, count));
}

/// Sets the marks at the places that are set, in rising order.
#[inline(always)]
fn put(marks: &mut u64, places: u64, bits: u64) {
    *marks = *marks & !places | scatter(bits, places);
}
