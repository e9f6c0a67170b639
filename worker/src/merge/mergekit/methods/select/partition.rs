//! The partition of introsort over keys alone, a group of them at a time.
//!
//! What its two scans stop at does not depend on what was exchanged before: the left one stops at keys that are at least the
//! pivot, the right one at keys that are at most the pivot, and the first of the one is exchanged with the first of the other.
//! So which keys of a group are to move is found at once, as bits, and as many as both sides have are exchanged together, in the
//! same pairs.

use super::Key;

/// Keys of a word of bits.
pub(super) const WORD: usize = 64;
/// Words of a group.
const GROUP: usize = 8;

/// A word of keys.
pub(super) type Keys<K> = [K; WORD];
/// A bit for each key of a group.
type Bits = [u64; GROUP];

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

/// Bit `i` says whether key `i` is at least `pivot`.
#[inline(always)]
fn at_least<K: Key>(keys: &Keys<K>, pivot: K) -> u64 {
    bits_of(keys.map(|key| u8::from(key >= pivot)))
}

/// Bit `i` says whether key `i` is at most `pivot`.
#[inline(always)]
fn at_most<K: Key>(keys: &Keys<K>, pivot: K) -> u64 {
    bits_of(keys.map(|key| u8::from(key <= pivot)))
}

/// The `count` lowest set bits.
#[inline(always)]
fn lowest(bits: u64, count: u32) -> u64 {
    let above = (0..count).fold(bits, |bits, _| bits & bits.wrapping_sub(1));
    bits & !above
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

/// Exchanges the keys of `low` whose bits are set, in rising order, with those of `high`, in falling order. As many are set in
/// either.
#[inline(always)]
fn exchange<K: Copy>(low: &mut [Keys<K>; GROUP], from: &Bits, high: &mut [Keys<K>; GROUP], to: &Bits) {
    let (mut words, mut rising) = ((0..GROUP).rev(), 0u64);
    let mut r = 0;
    for (low, from) in low.iter_mut().zip(from) {
        let mut falling = *from;
        while falling != 0 {
            while rising == 0 {
                let Some(word) = words.next() else { return };
                (r, rising) = (word, to[word]);
            }
            let (i, j) = (falling.trailing_zeros() as usize, 63 - rising.leading_zeros() as usize);
            std::mem::swap(&mut low[i], &mut high[r][j]);
            falling &= falling - 1;
            rising ^= 1 << j;
        }
    }
}

/// A group and those of its keys that are still to move.
#[derive(Clone, Copy)]
struct Side {
    /// Its first word.
    at: usize,
    bits: Bits,
    count: u32,
}

impl Side {
    #[inline(always)]
    fn new(at: usize, bits: Bits, moved: &mut [u64]) -> Side {
        moved[at..].iter_mut().zip(bits).for_each(|(moved, bits)| *moved |= bits);
        Side { at, bits, count: bits.iter().map(|bits| bits.count_ones()).sum() }
    }

    /// Takes the `count` lowest bits.
    #[inline(always)]
    fn take_first(&mut self, mut count: u32) -> Bits {
        self.count -= count;
        let mut taken = [0; GROUP];
        for (taken, bits) in taken.iter_mut().zip(&mut self.bits) {
            let here = bits.count_ones().min(count);
            *taken = lowest(*bits, here);
            *bits &= !*taken;
            count -= here;
        }
        taken
    }

    /// Takes the `count` highest bits.
    #[inline(always)]
    fn take_last(&mut self, mut count: u32) -> Bits {
        self.count -= count;
        let mut taken = [0; GROUP];
        for (taken, bits) in taken.iter_mut().zip(&mut self.bits).rev() {
            let here = bits.count_ones().min(count);
            let left = lowest(*bits, bits.count_ones() - here);
            *taken = *bits & !left;
            *bits = left;
            count -= here;
        }
        taken
    }
}

/// Which keys of a group stop the left scan.
#[inline(always)]
fn rising<K: Key>(words: &[Keys<K>], at: usize, pivot: K) -> Bits {
    let mut bits = [0; GROUP];
    for (bits, keys) in bits.iter_mut().zip(&words[at..]) {
        *bits = at_least(keys, pivot);
    }
    bits
}

/// Which keys of a group stop the right scan.
#[inline(always)]
fn falling<K: Key>(words: &[Keys<K>], at: usize, pivot: K) -> Bits {
    let mut bits = [0; GROUP];
    for (bits, keys) in bits.iter_mut().zip(&words[at..]) {
        *bits = at_most(keys, pivot);
    }
    bits
}

impl Side {
    /// The first and the last of what has found no partner. It does not move, unless the scans find one.
    fn rest(&self, moved: &mut [u64]) -> Option<(usize, usize)> {
        moved[self.at..].iter_mut().zip(self.bits).for_each(|(moved, bits)| *moved &= !bits);
        let (mut first, mut last) = (None, None);
        for (w, bits) in (self.at..).zip(self.bits).filter(|(_, bits)| *bits != 0) {
            first = first.or(Some(w * WORD + bits.trailing_zeros() as usize));
            last = Some(w * WORD + WORD - 1 - bits.leading_zeros() as usize);
        }
        first.zip(last)
    }
}

/// The same as any processor does it: by groups, as long as there is one on either side; the rest one by one.
#[inline(always)]
pub(super) fn plain<K: Key>(keys: &mut [K], first: usize, moved: &mut [u64]) -> usize {
    let mut scan = Scan { pivot: keys[first], low: first + 1, high: keys.len() };
    // Behind the last whole word the right scan goes alone.
    let whole = keys.len() / WORD * WORD;
    while scan.high > whole {
        if let Some(cut) = scan.pair(keys, moved) {
            return cut;
        }
    }
    if scan.high - scan.low > 2 * (GROUP + 1) * WORD {
        scan.groups(keys.as_chunks_mut().0, moved);
    }
    loop {
        if let Some(cut) = scan.pair(keys, moved) {
            return cut;
        }
    }
}

/// The two scans: keys before `low` and from `high` on are where they belong. The median of three bounds both.
pub(super) struct Scan<K> {
    pub(super) pivot: K,
    pub(super) low: usize,
    pub(super) high: usize,
}

impl<K: Key> Scan<K> {
    /// Goes on to the next pair and exchanges it; or yields where the scans met.
    #[inline(always)]
    pub(super) fn pair(&mut self, keys: &mut [K], moved: &mut [u64]) -> Option<usize> {
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

    /// Goes on as long as a group is left on either side. There are at least two, and `high` lies within the words.
    #[inline(always)]
    fn groups(&mut self, words: &mut [Keys<K>], moved: &mut [u64]) {
        let pivot = self.pivot;
        let (from, to) = (self.low / WORD, self.high.div_ceil(WORD) - GROUP);
        let mut first = rising(words, from, pivot);
        first[0] &= u64::MAX << (self.low % WORD);
        let mut last = falling(words, to, pivot);
        last[GROUP - 1] &= u64::MAX >> (self.high.wrapping_neg() % WORD);
        let (mut low, mut high) = (Side::new(from, first, moved), Side::new(to, last, moved));
        loop {
            let count = low.count.min(high.count);
            if count > 0 {
                let (from, to) = (low.take_first(count), high.take_last(count));
                let (lower, upper) = words.split_at_mut(high.at);
                let (Some(lower), Some(upper)) = (lower[low.at..].first_chunk_mut(), upper.first_chunk_mut())
                else {
                    unreachable!("groups lie apart, and within the words")
                };
                exchange(lower, &from, upper, &to);
            }
            if low.count == 0 {
                if low.at + 2 * GROUP > high.at {
                    break;
                }
                low = Side::new(low.at + GROUP, rising(words, low.at + GROUP, pivot), moved);
            }
            if high.count == 0 {
                if low.at + 2 * GROUP > high.at {
                    break;
                }
                high = Side::new(high.at - GROUP, falling(words, high.at - GROUP, pivot), moved);
            }
        }
        self.low = low.rest(moved).map_or((low.at + GROUP) * WORD, |(first, _)| first);
        self.high = high.rest(moved).map_or(high.at * WORD, |(_, last)| last + 1);
    }
}
