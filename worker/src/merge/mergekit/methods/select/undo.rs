//! Steps of an arrangement taken back, with a mark for each place instead of its key.

use std::ops::Range;

/// `elements` bits, of which those from `from` up to `to` are set.
pub(super) fn marks(elements: usize, from: usize, to: usize) -> Vec<u64> {
    let word = |at: usize| {
        let upto = |end: usize| match end.saturating_sub(64 * at) {
            bits @ 0..64 => (1u64 << bits) - 1,
            _ => u64::MAX,
        };
        upto(to.max(from)) & !upto(from)
    };
    (0..elements.div_ceil(64)).map(word).collect()
}

fn get(marks: &[u64], at: usize) -> bool {
    marks[at / 64] >> (at % 64) & 1 != 0
}

fn set(marks: &mut [u64], at: usize, mark: bool) {
    let word = &mut marks[at / 64];
    *word = *word & !(1 << (at % 64)) | u64::from(mark) << (at % 64);
}

pub(super) fn exchange(marks: &mut [u64], a: usize, b: usize) {
    let (at_a, at_b) = (get(marks, a), get(marks, b));
    set(marks, a, at_b);
    set(marks, b, at_a);
}

/// What is at `first + i` came from `first + order[i]`.
pub(super) fn order(marks: &mut [u64], first: usize, order: &[usize]) {
    let now: Vec<bool> = (first..first + order.len()).map(|at| get(marks, at)).collect();
    for (from, mark) in order.iter().zip(now) {
        set(marks, first + from, mark);
    }
}

/// Exchanges the marks from `first` on whose bits are set in `moved`: the outermost two, the next two, to the middle.
pub(super) fn partition(marks: &mut [u64], first: usize, moved: &[u64]) {
    #[cfg(target_arch = "x86_64")]
    if super::wide::here() {
        return super::wide::undo(marks, first, moved);
    }
    plain(marks, first, moved);
}

/// The same as any processor does it.
pub(super) fn plain(marks: &mut [u64], first: usize, moved: &[u64]) {
    by_words::<Plain>(marks, first, moved);
}

/// What is done with words of marks.
pub(super) trait Scatter {
    /// The `count` lowest set bits.
    fn lowest(bits: u64, count: u32) -> u64;
    /// The bits of `from` at the places that are set, side by side from the lowest on; above them nothing.
    fn gather(from: u64, places: u64) -> u64;
    /// The lowest bits of `bits`, each at the next place that is set.
    fn scatter(bits: u64, places: u64) -> u64;
    /// The lowest bit becomes the highest.
    fn turned(bits: u64) -> u64 {
        bits.reverse_bits()
    }
}

/// As any processor does it.
struct Plain;

impl Scatter for Plain {
    #[inline(always)]
    fn lowest(bits: u64, count: u32) -> u64 {
        bits & !(0..count).fold(bits, |bits, _| bits & bits.wrapping_sub(1))
    }

    #[inline(always)]
    fn gather(from: u64, mut places: u64) -> u64 {
        let (mut bits, mut at) = (0, 0);
        while places != 0 {
            bits |= (from >> places.trailing_zeros() & 1) << at;
            places &= places - 1;
            at += 1;
        }
        bits
    }

    #[inline(always)]
    fn scatter(mut bits: u64, mut places: u64) -> u64 {
        let mut scattered = 0;
        while places != 0 {
            scattered |= (bits & 1) << places.trailing_zeros();
            places &= places - 1;
            bits >>= 1;
        }
        scattered
    }
}

/// The 64 marks from a place on; beyond the end there are none.
#[inline(always)]
fn window(marks: &[u64], at: usize) -> u64 {
    let (word, shift) = (at / 64, at % 64);
    let above = if shift == 0 { 0 } else { marks.get(word + 1).map_or(0, |w| w << (64 - shift)) };
    marks[word] >> shift | above
}

/// Sets the 64 marks from a place on, as far as there are any.
#[inline(always)]
fn set_window(marks: &mut [u64], at: usize, bits: u64) {
    let (word, shift) = (at / 64, at % 64);
    marks[word] = marks[word] & !(u64::MAX << shift) | bits << shift;
    if shift > 0
        && let Some(above) = marks.get_mut(word + 1)
    {
        *above = *above & u64::MAX << shift | bits >> (64 - shift);
    }
}

/// Words of a side that are looked at together.
const GROUP: usize = 8;
/// Words that a list of marks has room for, and one more.
const ROOM: usize = 8 * GROUP;

/// Marks that are to cross over, in the order in which they find their places.
struct List {
    words: [u64; ROOM + 1],
    /// In bits.
    first: usize,
    end: usize,
}

impl List {
    fn new() -> List {
        List { words: [0; ROOM + 1], first: 0, end: 0 }
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
        let (word, shifted) = (self.end / 64, u128::from(bits) << (self.end % 64));
        let kept = self.words[word] & !(u64::MAX << (self.end % 64));
        self.words[word] = kept | shifted as u64;
        self.words[word + 1] = (shifted >> 64) as u64;
        self.end += count as usize;
    }

    /// The next bits, of which `count` are taken.
    #[inline(always)]
    fn take(&mut self, count: u32) -> u64 {
        let word = self.first / 64;
        let both = u128::from(self.words[word + 1]) << 64 | u128::from(self.words[word]);
        let bits = (both >> (self.first % 64)) as u64;
        self.first += count as usize;
        bits
    }
}

#[inline(always)]
pub(super) fn by_words<S: Scatter>(marks: &mut [u64], first: usize, moved: &[u64]) {
    // What one side is ahead of the other in the end is within a group of it, then within a word.
    let (mut many, mut one) = ([0; GROUP], [0; 1]);
    if let Some(words) = cross::<S, GROUP>(marks, first, moved, &mut many)
        && let first = first + 64 * words.start
        && let Some(word) = cross::<S, 1>(marks, first, &many[..words.len()], &mut one)
    {
        within_word::<S>(marks, first + 64 * word.start, one[0]);
    }
}

/// Exchanges the marks of one half of the places with those of the other, as far as these are in other groups of `N` words. The places that
/// are left, all on one side within a group, are in `rest`, for the words that are returned.
#[inline(always)]
fn cross<S: Scatter, const N: usize>(
    marks: &mut [u64],
    first: usize,
    moved: &[u64],
    rest: &mut [u64; N],
) -> Option<Range<usize>> {
    // Words that were looked at, and those of them whose marks have been replaced.
    let (mut low, mut low_done) = (0, 0);
    let (mut high, mut high_done) = (moved.len(), moved.len());
    let (mut lower, mut upper) = (List::new(), List::new());
    let (mut in_lower, mut in_upper) = (0, 0);
    while low < high {
        let some = N.min(high - low);
        if in_lower <= in_upper {
            lower.make_room();
            for word in low..low + some {
                let (places, count) = (moved[word], moved[word].count_ones());
                lower.append(S::gather(window(marks, first + 64 * word), places), count);
                in_lower += count as usize;
            }
            low += some;
        } else {
            upper.make_room();
            for word in (high - some..high).rev() {
                let (places, count) = (S::turned(moved[word]), moved[word].count_ones());
                upper.append(S::gather(S::turned(window(marks, first + 64 * word)), places), count);
                in_upper += count as usize;
            }
            high -= some;
        }
        while low_done < low && moved[low_done].count_ones() as usize <= upper.len() {
            let places = moved[low_done];
            put::<S>(marks, first + 64 * low_done, places, upper.take(places.count_ones()));
            low_done += 1;
        }
        while high < high_done && moved[high_done - 1].count_ones() as usize <= lower.len() {
            high_done -= 1;
            let places = moved[high_done];
            put_turned::<S>(marks, first + 64 * high_done, places, lower.take(places.count_ones()));
        }
    }
    if low_done < low {
        let count = upper.len() as u32;
        let taken = S::lowest(moved[low_done], count);
        put::<S>(marks, first + 64 * low_done, taken, upper.take(count));
        rest.iter_mut().zip(&moved[low_done..low]).for_each(|(rest, places)| *rest = *places);
        rest[0] &= !taken;
        return Some(low_done..low);
    }
    if high < high_done {
        let count = lower.len() as u32;
        let last = moved[high_done - 1];
        let left = S::lowest(last, last.count_ones() - count);
        put_turned::<S>(marks, first + 64 * (high_done - 1), last & !left, lower.take(count));
        rest.iter_mut().zip(&moved[high..high_done]).for_each(|(rest, places)| *rest = *places);
        rest[high_done - 1 - high] = left;
        return Some(high..high_done);
    }
    None
}

/// Exchanges the marks of 64 places from `first` on, the outermost two of `moved` and so on.
#[inline(always)]
fn within_word<S: Scatter>(marks: &mut [u64], first: usize, moved: u64) {
    let from = S::lowest(moved, moved.count_ones() / 2);
    let now = window(marks, first);
    put::<S>(marks, first, from, S::gather(S::turned(now), S::turned(moved & !from)));
    put_turned::<S>(marks, first, moved & !from, S::gather(now, from));
}

/// Sets the marks at the places that are set, of 64 from `first` on, in rising order.
#[inline(always)]
fn put<S: Scatter>(marks: &mut [u64], first: usize, places: u64, bits: u64) {
    let now = window(marks, first);
    set_window(marks, first, now & !places | S::scatter(bits, places));
}

/// The same in falling order.
#[inline(always)]
fn put_turned<S: Scatter>(marks: &mut [u64], first: usize, places: u64, bits: u64) {
    let now = window(marks, first);
    set_window(marks, first, now & !places | S::turned(S::scatter(bits, S::turned(places))));
}
